"""The values that trust hands out, and the numbers that this format fixes. No file, peer or clock is touched."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

LISTS: Final = "lists"
"""The online role that signs the manifests of every list without a role of its own."""

LISTS_PATH: Final = "v1/*/manifest.json"
"""What `LISTS` may sign: a ``*`` does not cross ``/`` (TUF specification 1.0.34, 4.5)."""

TOP_LEVEL_ROLES: Final = ("root", "targets", "snapshot", "timestamp")

_LIFETIMES: Final = {
    "root": timedelta(days=365),
    "targets": timedelta(days=180),
    "snapshot": timedelta(days=7),
    "timestamp": timedelta(hours=48),
}
_LIST_ROLE_LIFETIME: Final = timedelta(days=30)

_LIMITS: Final = {"root": 64_000, "timestamp": 64_000, "snapshot": 256_000}
TARGETS_LIMIT: Final = 2_000_000
"""Bytes of targets.json, or of one list role. The timestamp, which tells of every list, is full before: at some 950."""


_NAME: Final = re.compile(r"[0-9]+\.(.+)\.json")


def role_of(name: str) -> str:
    """The role that a metadata file belongs to, by its name: a list's own role may be called ``list-a.root``."""
    found = _NAME.fullmatch(name)
    return found[1] if found else name.removesuffix(".json")


def lifetime(role: str) -> timedelta:
    """How long a role's metadata is valid once signed."""
    return _LIFETIMES.get(role, _LIST_ROLE_LIFETIME)


def size_limit(role: str) -> int:
    """The most bytes that a role's metadata may have; a client reads no further."""
    return _LIMITS.get(role, TARGETS_LIMIT)


@dataclass(frozen=True)
class SignedTarget:
    """A manifest that a role vouches for. ``version`` is the manifest's own, ``length`` in bytes, ``sha256`` in hex."""

    name: str
    version: int
    sha256: str
    length: int

    def __repr__(self) -> str:
        return f"SignedTarget({self.name!r}, version {self.version}, {self.length} bytes)"


@dataclass(frozen=True)
class Freshness:
    """When a list's upstream was last verified (UTC, whole seconds), and the upstream's serial then."""

    verified_at: datetime
    serial: int


@dataclass(frozen=True)
class Floors:
    """The lowest versions acceptable, for when the local metadata was lost, and our own clock when they were verified.

    ``roles`` holds targets and every delegated role.
    """

    root: int = 0
    timestamp: int = 0
    snapshot: int = 0
    roles: Mapping[str, int] = field(default_factory=dict)
    clock: datetime | None = None


@dataclass(frozen=True)
class TrustedFeed:
    """The state of a feed, verified from the trust root down.

    ``files`` are the bytes that prove it, by consistent name: every root from the pinned one on, then the newest
    ``N.timestamp.json``, ``N.snapshot.json``, ``N.targets.json`` and list roles. ``targets`` holds only what the
    signing role is entitled to. ``floors`` are those for the next time.
    """

    targets: Mapping[str, SignedTarget]
    signed_by: Mapping[str, str]
    """for each target the role that vouches for it"""
    freshness: Mapping[str, Freshness]
    files: Mapping[str, bytes] = field(repr=False)
    versions: Mapping[str, int]
    expires: Mapping[str, datetime]
    floors: Floors

    def stale(self, now: datetime) -> tuple[str, ...]:
        """The roles past their expiry at ``now``, in order of name."""
        return tuple(sorted(role for role, expires in self.expires.items() if now >= expires))


@dataclass(frozen=True)
class MetadataUpdate:
    """Signed files to install, in this order. Names are relative to ``metadata/``; ``timestamp.json`` is the last."""

    files: tuple[tuple[str, bytes], ...] = field(repr=False)
