"""Fetching metadata for ngclient, from any peer."""

from collections.abc import Iterator
from typing import Final, Protocol

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface

from syncd.errors import HttpStatusError, StaleMirrorError, TrustError
from syncd.trust.values import TARGETS_LIMIT, TIMESTAMP, role_of, size_limit

METADATA: Final = "metadata/"
MOST_METADATA: Final = 64 << 20
"""Bytes of metadata that one refresh may fetch in all: 256 list roles of the largest size would fill the memory."""
_FORBIDDEN: Final = 403
_MISSING: Final = frozenset({_FORBIDDEN, 404})
"""Statuses for a missing file: object stores answer 403, with XML. With a web page, 403 is a firewall's."""


class MetadataPeer(Protocol):
    """A place to fetch a feed's metadata from."""

    def stream(self, path: str, limit: int, *, fresh: bool = False) -> Iterator[bytes]:
        """Yield the bytes of ``path``, at most ``limit``; raises `SourceError`, as `HttpStatusError` for a status.

        ``fresh``: caches in between must not answer by themselves.
        """
        ...


class Fetcher(FetcherInterface):
    """Lets ngclient fetch through a `MetadataPeer`, whose errors pass through unchanged."""

    def __init__(self, peer: MetadataPeer, *, fresh: bool = False) -> None:
        self._peer, self._fresh = peer, fresh
        self.no_newer_root = False
        """True if the peer said that there is no newer root"""
        self.name = ""
        """the file asked for last, relative to `METADATA`"""
        self.content = b""
        self.timestamp = b""
        self._received = 0

    def _fetch(self, url: str) -> Iterator[bytes]:
        """Required by the interface; metadata comes through `download_bytes`, which knows the limit."""
        return iter([self.download_bytes(url, TARGETS_LIMIT)])

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return a whole file of at most ``max_length`` bytes."""
        self.name = url.removeprefix(METADATA)
        try:
            # The role's own limit holds even if a larger length was signed, which ngclient would read.
            self.content = self._limited(url, min(max_length, size_limit(role_of(self.name))))
        except HttpStatusError as error:
            if error.status not in _MISSING or (error.status == _FORBIDDEN and error.page) or self.name == TIMESTAMP:
                raise
            if role_of(self.name) == "root":
                self.no_newer_root = True
                raise DownloadHTTPError(error.message, error.status) from error  # ngclient: no newer root
            raise StaleMirrorError.of(
                f"{self.name}, which newer metadata names, is not there yet ({error.status})"
            ) from error
        if self.name == TIMESTAMP:
            self.timestamp = self.content
        return self.content

    def _limited(self, url: str, limit: int) -> bytes:
        content = bytearray()
        for block in self._peer.stream(url, limit, fresh=self._fresh):
            content += block
            if len(content) > limit:
                raise TrustError(
                    f"{self.name} is longer than {limit} bytes", hint="check that the url is that of a feed"
                )
            if self._received + len(content) > MOST_METADATA:
                raise TrustError(
                    f"the feed's metadata has more than {MOST_METADATA} bytes in all",
                    hint="no feed needs that much: check that the url is that of a feed, and ask its publisher",
                )
        self._received += len(content)
        return bytes(content)
