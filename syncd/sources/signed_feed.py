"""The source of a partner that publishes a signed feed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from syncd.clock import ACCEPT
from syncd.errors import ConfigError, RefusedError, TrustError
from syncd.feed.folder import FeedFolder
from syncd.feed.follow import Follower
from syncd.fetch import Deadline, Endpoint, Meter, open_peer
from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.format.freshness import SourceAges
from syncd.model import ListName
from syncd.sources.credentials import configured
from syncd.sources.feed_memory import FeedMemory, root_sha256
from syncd.sources.source import Memory, check_kind
from syncd.trust.strict import verify_root

_MAX_ROOT = 1 << 20
_MAX_TOKEN = 4096


@dataclass(frozen=True)
class SignedFeed:
    """One configured signed feed: its address, trust root, credentials and limits."""

    name: str
    url: str
    root: Path
    lists: tuple[ListName, ...] = ()
    """the lists to follow; empty: all of them"""
    token_file: Path | None = None
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: str | None = None
    """the address of the HTTP proxy to go through"""
    redirects: tuple[str, ...] = ()
    """hosts to which the feed may redirect its files"""
    deadline: float = 600.0
    """seconds that a whole sync may take"""
    caps: Caps = DEFAULT_CAPS
    ages: SourceAges | None = None
    """the limits of the ages of its lists; None: as their manifests state now"""
    type: Literal["feed"] = "feed"

    def root_bytes(self) -> bytes:
        """Read the pinned root, which was received out of band. Raises `ConfigError`."""
        return configured(self.root, _MAX_ROOT, f"the root of source {self.name}")

    def check(self) -> None:
        """Check that every configured file can be read and that the root is valid. Raises `ConfigError`."""
        try:
            verify_root(self.root_bytes())
        except TrustError as error:
            raise ConfigError(f"the root of source {self.name}: {error.message}", hint=error.hint) from error
        for path in (self.token_file, self.ca, self.client_cert, self.client_key):
            if path is not None:
                configured(path, _MAX_ROOT, f"{path.name} of source {self.name}")

    def check_trust(self, memory: Memory) -> None:
        """Refuse a root file that was replaced since ``memory`` was made, whoever did it; see `Source.check_trust`."""
        check_kind(self, memory)
        if FeedMemory.of(memory).root_sha256 not in {None, root_sha256(self.root_bytes())}:
            raise RefusedError(
                f"the trust root configured for source {self.name} has changed",
                hint="if you received a new root from the partner over a channel that you trust, run "
                f"`syncd retrust {self.name} --root F --reason R`; otherwise restore the root file",
            )

    @contextmanager
    def follow(self, folder: FeedFolder, meter: Meter) -> Iterator[Follower]:
        """Open the connection for one sync; ``meter`` counts received bytes. Raises `UsageError`, `SourceError`."""
        token = None
        if self.token_file is not None:
            content = configured(self.token_file, _MAX_TOKEN, f"the token of source {self.name}")
            token = content.decode(errors="replace").strip()
        certificates = self.ca, self.client_cert, self.client_key
        endpoint = Endpoint(self.url, token, *certificates, self.proxy, self.redirects)
        with open_peer(endpoint, Deadline(self.deadline), meter=meter) as peer:
            yield Follower(folder, self.root_bytes(), peer, self.caps, clock_cure=ACCEPT)
