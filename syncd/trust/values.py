"""The values that trust hands out, and the numbers that this format fixes. No file, peer or clock is touched."""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from syncd.model import AuditHead

LISTS: Final = "lists"
"""The online role that signs the manifests of every list without a role of its own."""

LISTS_PATH: Final = "v1/*/*.json"
"""Targets that `LISTS` may sign in new feeds: a ``*`` does not cross ``/`` (TUF specification 1.0.34, 4.5).

Feeds made before have ``v1/*/manifest.json``, which their own targets metadata states: that alone decides.
"""

_MANIFEST_TARGET: Final = re.compile(r"(v1/[^/]+/)manifest\.json")

TOP_LEVEL_ROLES: Final = ("root", "targets", "snapshot", "timestamp")

_LIFETIMES: Final = {
    "root": timedelta(days=365),
    "targets": timedelta(days=180),
    "snapshot": timedelta(days=7),
    "timestamp": timedelta(hours=48),
}
_LIST_ROLE_LIFETIME: Final = timedelta(days=30)

_LIMITS: Final = {"root": 64_000, "timestamp": 1_000_000, "snapshot": 256_000}
TARGETS_LIMIT: Final = 2_000_000
"""Bytes of targets.json, or of one list role."""


_NAME: Final = re.compile(r"[0-9]+\.(.+)\.json")


def role_of(name: str) -> str:
    """The role that a metadata file belongs to, by its name: a list's own role may be called ``list-a.root``."""
    found = _NAME.fullmatch(name)
    return found[1] if found else name.removesuffix(".json")


def is_manifest(target: str) -> bool:
    """Whether a target is the manifest of a list. A role may sign others, which a reader of today passes over."""
    return _MANIFEST_TARGET.fullmatch(target) is not None


def list_path(target: str) -> str:
    """Targets that the own role of a list may sign, by the target of its manifest: all of that list."""
    found = _MANIFEST_TARGET.fullmatch(target)
    return f"{found[1]}*.json" if found else target


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
class PublicationId:
    """Which signing of a timestamp this is. No two have the same bytes, so that equal entity tags mean one file."""

    epoch: int
    """counts the machines that took over signing, one after the other"""
    id: str
    """random, 32 hexadecimal digits"""


NewPublication = Callable[[], PublicationId]


def new_publication() -> PublicationId:
    """A publication of the only machine that signs."""
    return PublicationId(0, secrets.token_hex(16))


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
    publication: PublicationId | None = None
    """of the timestamp; None if it was signed by a syncd that did not state it"""
    audit: AuditHead | None = None
    """the publisher's audit log before the timestamp was signed"""

    def stale(self, now: datetime) -> tuple[str, ...]:
        """The roles past their expiry at ``now``, in order of name."""
        return tuple(sorted(role for role, expires in self.expires.items() if now >= expires))


@dataclass(frozen=True)
class MetadataUpdate:
    """Signed files to install, in this order. Names are relative to ``metadata/``; ``timestamp.json`` is the last."""

    files: tuple[tuple[str, bytes], ...] = field(repr=False)
