"""The values that trust returns, and the constants of the format. Pure: no file, peer or clock."""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from syncd.model import AuditHead

LISTS: Final = "lists"
"""The online role that signs the manifests of all lists without a role of their own."""

LISTS_PATH: Final = "v1/*/*.json"
"""Targets that `LISTS` may sign in new feeds: a ``*`` does not match ``/`` (TUF specification 1.0.34, 4.5).

Older feeds have ``v1/*/manifest.json``: only a feed's own targets metadata decides.
"""

_MANIFEST_TARGET: Final = re.compile(r"(v1/[^/]+/)manifest\.json")

TOP_LEVEL_ROLES: Final = ("root", "targets", "snapshot", "timestamp")
TIMESTAMP: Final = "timestamp.json"

_LIFETIMES: Final = {
    "root": timedelta(days=365),
    "targets": timedelta(days=180),
    "snapshot": timedelta(days=7),
    "timestamp": timedelta(hours=48),
}
_LIST_ROLE_LIFETIME: Final = timedelta(days=30)

_LIMITS: Final = {"root": 64_000, "timestamp": 1_000_000, "snapshot": 256_000}
TARGETS_LIMIT: Final = 2_000_000
"""Maximum bytes of targets.json, or of one list role."""


_NAME: Final = re.compile(r"[0-9]+\.(.+)\.json")


def role_of(name: str) -> str:
    """Return the role that a metadata file belongs to by its name. A list's own role may be called ``list-a.root``."""
    found = _NAME.fullmatch(name)
    return found[1] if found else name.removesuffix(".json")


def is_manifest(target: str) -> bool:
    """Return True if a target is a list's manifest. A role may sign other targets, which today's readers ignore."""
    return _MANIFEST_TARGET.fullmatch(target) is not None


def list_path(target: str) -> str:
    """Return the pattern of targets that a list's own role may sign, given its manifest's target: all of that list."""
    found = _MANIFEST_TARGET.fullmatch(target)
    return f"{found[1]}*.json" if found else target


def lifetime(role: str) -> timedelta:
    """Return how long a role's metadata is valid after it was signed."""
    return _LIFETIMES.get(role, _LIST_ROLE_LIFETIME)


def signed_at(role: str, expires: datetime) -> datetime:
    """Return when a role's metadata was signed, if its signer gave it the usual lifetime."""
    return expires - lifetime(role)


def size_limit(role: str) -> int:
    """Return the most bytes that a role's metadata may have; clients read no further."""
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
    """The time when a list's upstream was last verified (UTC, whole seconds), and the upstream's serial then."""

    verified_at: datetime
    serial: int


@dataclass(frozen=True)
class PublicationId:
    """The identity of one signing of a timestamp. No two have the same bytes, so equal entity tags mean one file."""

    epoch: int
    """counts the machines that took over signing, one after another"""
    id: str
    """random, 32 hexadecimal digits"""


NewPublication = Callable[[], PublicationId]


def new_publication() -> PublicationId:
    """Return a new identity, if only one machine ever signs the feed."""
    return PublicationId(0, secrets.token_hex(16))


@dataclass(frozen=True)
class Floors:
    """The lowest acceptable versions, in case the local metadata is lost, and our clock when they were verified.

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

    ``files`` holds the bytes that prove it, by consistent name: every root from the pinned one on, then the newest
    ``N.timestamp.json``, ``N.snapshot.json``, ``N.targets.json`` and list roles. ``targets`` holds only those that
    their signing role is entitled to. ``floors`` are for the next refresh.
    """

    targets: Mapping[str, SignedTarget]
    signed_by: Mapping[str, str]
    """for each target, the role that vouches for it"""
    freshness: Mapping[str, Freshness]
    files: Mapping[str, bytes] = field(repr=False)
    versions: Mapping[str, int]
    expires: Mapping[str, datetime]
    floors: Floors
    publication: PublicationId | None = None
    """of the timestamp; None if the syncd that signed it did not state one"""
    audit: AuditHead | None = None
    """the publisher's audit log before the timestamp was signed"""
    counts_until: datetime | None = None
    """the time until which the timestamp counts, if it states a far later expiry (`syncd.trust.overlong`)"""

    def stale(self, now: datetime) -> tuple[str, ...]:
        """Return the roles that are expired at ``now``, sorted by name."""
        capped = {"timestamp": self.counts_until} if self.counts_until else {}
        return tuple(sorted(role for role, expires in {**self.expires, **capped}.items() if now >= expires))


@dataclass(frozen=True)
class MetadataUpdate:
    """Signed files to install, in this order. Names are relative to ``metadata/``.

    ``timestamp.json`` comes last, except for a root that ends a rotation: see `Repository.rotate`.
    """

    files: tuple[tuple[str, bytes], ...] = field(repr=False)
