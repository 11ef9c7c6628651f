"""A partner that publishes a signed feed: the source that needs no gateway."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from syncd.errors import ConfigError, RefusedError, StoreError, TrustError
from syncd.feed.folder import FeedFolder
from syncd.feed.follow import Follower
from syncd.fetch import Deadline, Endpoint, Meter, open_peer
from syncd.files import read_bytes
from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.model import ListName
from syncd.sources.source import Memory
from syncd.trust.strict import verify_root
from syncd.trust.values import Floors

_MAX_ROOT = 1 << 20
_MAX_TOKEN = 4096
_ONLY_SERVICES = "systemd hands credentials to services alone: run it as one, or name a file"


@dataclass(frozen=True)
class FeedMemory:
    """What is remembered of a signed feed: the versions below which nothing is accepted, and the pinned root (SHA-256)
    that they belong to."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    floors: Floors = field(default_factory=Floors)
    root_sha256: str | None = None
    """None: no root was followed yet"""
    type: Literal["feed"] = "feed"

    @classmethod
    def of(cls, memory: Memory) -> "FeedMemory":
        """Read it. Raises `StoreError`."""
        try:
            return _MEMORY.validate_python(memory)
        except ValidationError:
            raise StoreError(
                "the catalog's memory of a signed feed cannot be read", hint="restore the catalog from a backup"
            ) from None

    def as_json(self) -> Memory:
        """Write it."""
        return _MEMORY.dump_python(self, mode="json")  # type: ignore[no-any-return]  # a dataclass makes an object

    def retrusted(self, root: bytes, now: datetime) -> "FeedMemory":
        """Keep only our own clock, since another root is pinned; if it is later than ``now``, ``now``."""
        clock = self.floors.clock
        return FeedMemory(Floors(clock=min(clock, now) if clock else None), _sha256(root))


_MEMORY: Final = TypeAdapter(FeedMemory)


@dataclass(frozen=True)
class SignedFeed:
    """One configured source: where it is, what it is trusted by, and what is accepted of it."""

    name: str
    url: str
    root: Path
    lists: tuple[ListName, ...] = ()
    """which of its lists to follow; none named: all"""
    token_file: Path | None = None
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    deadline: float = 600.0
    """seconds for a whole sync"""
    caps: Caps = DEFAULT_CAPS
    type: Literal["feed"] = "feed"

    def root_bytes(self) -> bytes:
        """The pinned root, as given out of band. Raises `ConfigError`."""
        return _configured(self.root, _MAX_ROOT, f"the root of source {self.name}")

    def check(self) -> None:
        """See that every file named here can be read, and that the root is one. Raises `ConfigError`."""
        try:
            verify_root(self.root_bytes())
        except TrustError as error:
            raise ConfigError(f"the root of source {self.name}: {error.message}", hint=error.hint) from error
        for path in (self.token_file, self.ca, self.client_cert, self.client_key):
            if path is not None:
                _configured(path, _MAX_ROOT, f"{path.name} of source {self.name}")

    def check_trust(self, memory: Memory) -> None:
        """Refuse a root file that was replaced, by whomever, since it was followed."""
        kind = memory.get("type", self.type)
        if kind != self.type:
            raise RefusedError(
                f"source {self.name} was configured with another type before",
                hint=f"restore the type, or give the new source another name than {self.name}",
            )
        if FeedMemory.of(memory).root_sha256 not in {None, _sha256(self.root_bytes())}:
            raise RefusedError(
                f"the trust root configured for source {self.name} has changed",
                hint="if the partner gave out another root, by a way that you trust: "
                f"syncd retrust {self.name} --root F --reason R",
            )

    @contextmanager
    def follow(self, folder: FeedFolder, meter: Meter) -> Iterator[Follower]:
        """Open the connection for one sync; ``meter`` counts what comes. Raises `UsageError`, `SourceError`."""
        token = None
        if self.token_file is not None:
            content = _configured(self.token_file, _MAX_TOKEN, f"the token of source {self.name}")
            token = content.decode(errors="replace").strip()
        endpoint = Endpoint(self.url, token, self.ca, self.client_cert, self.client_key)
        with open_peer(endpoint, Deadline(self.deadline), meter=meter) as peer:
            yield Follower(folder, self.root_bytes(), peer, self.caps)


def _sha256(root: bytes) -> str:
    return hashlib.sha256(root).hexdigest()


def _configured(path: Path, limit: int, what: str) -> bytes:
    try:
        return read_bytes(path, limit)
    except StoreError as error:
        hint = "check the path configured, and that this user may read it" if path.is_absolute() else _ONLY_SERVICES
        raise ConfigError(f"{what}: {error.message}", hint=hint) from error
