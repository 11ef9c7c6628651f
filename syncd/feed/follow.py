"""Following a feed: signed metadata, one manifest, the segments it names. Shared by a sync and by a matcher's pull.

What comes out is proved: metadata by the trust root, a manifest by the hash that a role signed, a segment by the hash
in the manifest, and its content by `Segment.check`. Nothing is mapped before its hash is proved.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.errors import HttpStatusError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.proof import SignedManifest, prove_manifest, target_of
from syncd.fetch import Download, Peer, Progress, download_all
from syncd.files import install_file, make_folder
from syncd.format.manifest import SegmentRef
from syncd.format.segment import DEFAULT_CAPS, Caps, Segment
from syncd.model import ListName
from syncd.trust import client
from syncd.trust.values import Floors, TrustedFeed

_NOT_FOUND: Final = 404
_PRIVATE: Final = 0o700


class Follower:
    """One peer's feed, followed into ``folder``, trusted from ``root`` (the bytes given out of band)."""

    def __init__(self, folder: FeedFolder, root: bytes, peer: Peer, caps: Caps = DEFAULT_CAPS) -> None:
        self._folder, self._root, self._peer, self._caps = folder, root, peer, caps

    @property
    def trust_folder(self) -> Path:
        """Where the metadata client keeps its own state."""
        return self._folder.work / "trust"

    def refresh(self, floors: Floors, now: datetime) -> TrustedFeed:
        """Fetch and verify the newest metadata. Raises `SourceError`, `TrustError`, `StoreError`."""
        make_folder(self._folder.work, _PRIVATE)
        return client.refresh(self.trust_folder, self._root, self._peer, floors=floors, now=now)

    def manifest(self, trusted: TrustedFeed, name: ListName) -> SignedManifest:
        """Fetch a list's newest manifest. Raises as `prove_manifest`, and `SourceError`."""
        target = target_of(trusted, name)
        try:
            content = self._peer.get(layout.manifest_path(name, target.sha256), target.length)
        except HttpStatusError as error:
            if error.status == _NOT_FOUND:
                error.hint = f"the feed signs a manifest of {name} that it does not serve; tell its operator"
            raise
        return prove_manifest(trusted, name, content)

    def fetch(self, name: ListName, refs: Sequence[SegmentRef], progress: Progress | None = None) -> None:
        """Bring the missing ones of ``refs`` into the folder, each proved whole. Raises as `Peer.download`, and
        `SegmentError`."""
        staging = make_folder(self._folder.work / "download", _PRIVATE)
        missing = self._folder.missing(name, refs)
        jobs = [
            Download(layout.segment_path(name, ref.sha256), staging / ref.sha256, ref.length, ref.sha256)
            for ref in missing
        ]
        download_all(self._peer, jobs, progress=progress)
        for ref in missing:
            staged = staging / ref.sha256
            Segment.check(staged, ref, self._caps)
            install_file(staged, self._folder.segment_path(name, ref))
