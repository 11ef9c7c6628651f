"""All outgoing HTTP: bytes from a peer that may be slow, endless, wrong or hostile.

::

    with open_peer(Endpoint("https://feed.example.org/", token=token), Deadline(120)) as peer:
        timestamp = peer.get("metadata/timestamp.json", limit=65_536)
        download_all(peer, [Download(path, staged, length, sha256)])

Every call ends by the deadline, takes no more bytes than allowed, and raises only errors of `syncd.errors`.
A peer is an HTTP(S) server or, for ``file://``, a folder; both keep the same promises.
"""

from syncd.fetch.endpoint import Deadline, Endpoint
from syncd.fetch.folder import FilePeer
from syncd.fetch.http import HttpPeer
from syncd.fetch.part import Progress
from syncd.fetch.peer import Download, Meter, Peer, download_all

__all__ = [
    "Deadline",
    "Download",
    "Endpoint",
    "FilePeer",
    "HttpPeer",
    "Meter",
    "Peer",
    "Progress",
    "download_all",
    "open_peer",
]


def open_peer(endpoint: Endpoint, deadline: Deadline, *, connections: int = 8, meter: Meter | None = None) -> Peer:
    """Return a peer for one operation, without sending anything yet; close it afterwards.

    ``meter`` counts the bytes received. Raises `UsageError` if a certificate file cannot be used, and `SourceError` if
    a ``file://`` folder is missing.
    """
    if endpoint.folder is not None:
        return FilePeer(endpoint.folder, deadline, meter)
    return HttpPeer(endpoint, deadline, connections=connections, meter=meter)
