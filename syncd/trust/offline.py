"""Verification of metadata at hand: no network, no writes, no clock.

The workflow is that of the TUF specification 1.0.34, section 5, without its expiry checks: a matcher that is cut off
keeps answering from verified data, and shows how old it is (`TrustedFeed.stale`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tuf.api.metadata import DelegatedRole, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from syncd.errors import RollbackError, TrustError
from syncd.files import DamagedError
from syncd.model import AuditHead
from syncd.trust.parse import S, local_file_hint, local_root_hint, parse, typed_errors
from syncd.trust.values import TIMESTAMP, Floors, Freshness, PublicationId, SignedTarget, TrustedFeed, is_manifest
from syncd.units import brief

Read = Callable[[str], bytes | None]
"""Returns a metadata file by its name relative to ``metadata/``, or None if it is missing."""

TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
PUBLICATION_FIELD: Final = "publication"
AUDIT_FIELD: Final = "audit"
FRESHNESS_FIELD: Final = "lists"
"""The signed field of timestamp.json, beyond those of TUF, that carries each list's `Freshness`."""

BRING_BACK: Final = "bring it back from a mirror, a pulled copy or a backup; in a pulled copy, pull again"
_OTHER_VERSIONS: Final = "the copy is damaged or was altered: pull it again"
_MAX_ROLES: Final = 256
_TOO_HIGH: Final = 1 << 53
"""The limit of versions in all our documents: JSON readers keep integers below it exact (RFC 8259, section 6)."""
_ROLE_NAME: Final = re.compile(r"[a-z][a-z0-9._-]{0,68}")
_SHA256: Final = re.compile("[0-9a-f]{64}")
_PUBLICATION_ID: Final = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class VerifiedMetadata:
    """Metadata whose signatures, thresholds, versions, lengths and hashes were verified. ``roots``: oldest first."""

    roots: tuple[Root, ...]
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    roles: Mapping[str, Targets]
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def root(self) -> Root:
        """The newest root: the only one whose keys and expiry count."""
        return self.roots[-1]

    @property
    def signed(self) -> dict[str, Root | Timestamp | Snapshot | Targets]:
        """The newest metadata of each role."""
        return {
            "root": self.root,
            "timestamp": self.timestamp,
            "snapshot": self.snapshot,
            "targets": self.targets,
            **self.roles,
        }

    @property
    def versions(self) -> dict[str, int]:
        """The newest version of each role."""
        return {role: signed.version for role, signed in self.signed.items()}

    @property
    def expires(self) -> dict[str, datetime]:
        """The expiry of each role's newest metadata."""
        return {role: signed.expires for role, signed in self.signed.items()}

    def entitled(self) -> dict[str, tuple[str, SignedTarget]]:
        """Return each list's target with the one role entitled to sign it. Other signed documents are ignored."""
        names = set(self.targets.targets).union(*(role.targets for role in self.roles.values()))
        files = {name: self._find(name) for name in sorted(names) if is_manifest(name)}
        return {name: (role, _signed_target(file)) for name, (role, file) in files.items() if file}

    def _find(self, name: str) -> tuple[str, TargetFile | None]:
        """Look a target up as TUF's pre-order walk does (5.6.7), over the one level of delegations we allow."""
        if name in self.targets.targets:
            return "targets", self.targets.targets[name]
        for role in delegated_roles(self.targets).values():
            if role.is_delegated_path(name):
                file = self.roles[role.name].targets.get(name)
                if file or role.terminating:
                    return role.name, file
        return "", None


def verify_offline(read: Read, names: Mapping[str, int], root: bytes) -> TrustedFeed:
    """Verify a feed's metadata from files at hand, without enforcing expiry.

    ``names`` gives each role's version (root: the newest); ``root`` is the pinned root. Raises `TrustError`,
    `RollbackError` or `MismatchError` if anything was altered or is inconsistent, and `StoreError` if a file is
    missing.
    """
    if unstated := sorted({"root", "timestamp"} - names.keys()):
        raise TrustError(f"the copy states no version of the {' and '.join(unstated)} metadata", hint=_OTHER_VERSIONS)
    verified = verify(read, root, names["root"], names["timestamp"])
    if dict(names) != verified.versions:
        wrong = sorted(role for role, _ in names.items() ^ verified.versions.items())
        raise TrustError(
            f"the versions stated for {', '.join(dict.fromkeys(wrong))} are not the signed ones",
            hint=_OTHER_VERSIONS,
        )
    return trusted_feed(verified, clock=None)


def trusted_feed(verified: VerifiedMetadata, clock: datetime | None) -> TrustedFeed:
    """Return verified metadata as callers use it, with floors as of ``clock``."""
    versions = verified.versions
    roles = {role: version for role, version in versions.items() if role not in {"root", "timestamp", "snapshot"}}
    entitled = verified.entitled()
    return TrustedFeed(
        targets={name: target for name, (_, target) in entitled.items()},
        signed_by={name: role for name, (role, _) in entitled.items()},
        freshness=read_freshness(verified.timestamp),
        files=verified.files,
        versions=versions,
        expires=verified.expires,
        floors=Floors(versions["root"], versions["timestamp"], versions["snapshot"], roles, clock),
        publication=read_publication(verified.timestamp),
        audit=read_audit(verified.timestamp),
    )


def verify(read: Read, root: bytes, newest_root: int, timestamp_version: int) -> VerifiedMetadata:
    """Verify everything from the pinned ``root`` down to the delegated roles. Raises as `verify_offline` does."""
    files = _MetadataFiles(read)
    roots = _verify_roots(files, root, newest_root)
    with local_file_hint():
        return _verify_below(files, roots, timestamp_version)


def verify_newest(read: Read, root: bytes, first: int) -> VerifiedMetadata:
    """Verify a published feed from ``root``, whose version is ``first``, to its newest root and ``timestamp.json``.

    Raises as `verify_offline` does.
    """
    newest = first
    while read(f"{newest + 1}.root.json") is not None:
        newest += 1
    if read(f"{newest + 2}.root.json") is not None:  # signing on top of a gap would use a version number twice
        raise DamagedError(f"the metadata file {newest + 1}.root.json is missing", hint=BRING_BACK)
    content = read(TIMESTAMP)
    if content is None:
        raise DamagedError(f"the metadata file {TIMESTAMP} is missing", hint=BRING_BACK)
    with local_file_hint():
        version = parse(Timestamp, content, TIMESTAMP).signed.version
    named = {f"{version}.{TIMESTAMP}": content}
    return verify(lambda name: named.get(name) or read(name), root, newest, version)


def _verify_below(files: "_MetadataFiles", roots: tuple[Root, ...], timestamp_version: int) -> VerifiedMetadata:
    name = f"{timestamp_version}.timestamp.json"
    timestamp = parse(Timestamp, files.take(name), name)
    _check_signatures(roots[-1], "timestamp", timestamp, name)
    snapshot = _verify_listed(files, Snapshot, roots[-1], "snapshot", timestamp.signed.snapshot_meta)
    targets = _verify_listed(files, Targets, roots[-1], "targets", _listed(snapshot, "targets"))
    roles = {
        role: _verify_listed(files, Targets, targets, role, _listed(snapshot, role))
        for role in delegated_roles(targets)
    }
    verified = VerifiedMetadata(roots, timestamp.signed, snapshot, targets, roles, files.taken)
    if beyond := [role for role, version in verified.versions.items() if version >= _TOO_HIGH]:
        raise TrustError(
            f"the feed's {brief(beyond[0])} metadata has a version number beyond 53 bits",
            hint="its keys may have been stolen: ask the publisher, who can rotate them",
        )
    return verified


class _MetadataFiles:
    """Reads metadata files and remembers them."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.taken: dict[str, bytes] = {}

    def take(self, name: str) -> bytes:
        content = self._read(name)
        if content is None:
            raise DamagedError(f"the metadata file {name} is missing", hint=BRING_BACK)
        self.taken[name] = content
        return content


def _verify_roots(files: _MetadataFiles, pinned: bytes, newest: int) -> tuple[Root, ...]:
    """Follow root rotation (5.3): each root is signed by the one before it and by itself."""
    with local_root_hint():
        first = parse(Root, pinned, "the pinned root")
    _check_signatures(first.signed, "root", first, "the pinned root")
    files.taken[f"{first.signed.version}.root.json"] = pinned
    if newest < first.signed.version:
        raise RollbackError(
            f"the newest local root is version {newest}, older than the pinned version {first.signed.version}",
            hint="pull again with the pinned root",
        )
    roots = [first.signed]
    for version in range(first.signed.version + 1, newest + 1):
        name = f"{version}.root.json"
        root = parse(Root, files.take(name), name)
        _check_signatures(roots[-1], "root", root, name)
        _check_signatures(root.signed, "root", root, name)
        _check_version(root.signed.version, version, name)
        roots.append(root.signed)
    return tuple(roots)


def _verify_listed(files: _MetadataFiles, kind: type[S], delegator: Root | Targets, role: str, meta: MetaFile) -> S:
    """Verify a file whose version, length and hash are stated in other signed metadata."""
    name = f"{meta.version}.{role}.json"
    content = files.take(name)
    with typed_errors(name):
        meta.verify_length_and_hashes(content)
    metadata = parse(kind, content, name)
    _check_signatures(delegator, role, metadata, name)
    _check_version(metadata.signed.version, meta.version, name)
    return metadata.signed


def _listed(snapshot: Snapshot, role: str) -> MetaFile:
    try:
        return snapshot.meta[f"{role}.json"]
    except KeyError:
        raise TrustError(f"the snapshot does not list the role {role}") from None


def _check_signatures(delegator: Root | Targets, role: str, metadata: Metadata[Any], name: str) -> None:
    with typed_errors(name):
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)


def _check_version(found: int, expected: int, name: str) -> None:
    if found != expected:
        raise RollbackError(f"{name} holds version {found}", hint="the copy is damaged or was altered: pull it again")


def delegated_roles(targets: Targets) -> dict[str, DelegatedRole]:
    """Return the roles that targets delegates to, most trusted first; raises `TrustError` if they break the format."""
    if targets.delegations is None:
        return {}
    roles = targets.delegations.roles
    if roles is None or len(roles) > _MAX_ROLES:
        raise TrustError(f"targets delegates to bins or to more than {_MAX_ROLES} roles")
    if unknown := [name for name in roles if not _ROLE_NAME.fullmatch(name)]:
        raise TrustError(
            f"targets delegates to a role with the name {brief(unknown[0])}", hint="a-z, 0-9, '.', '_' and '-'"
        )
    return roles


def _signed_target(file: TargetFile) -> SignedTarget:
    """Convert a target; raises `TrustError` if it lacks what this format requires."""
    version = file.custom.get("version") if isinstance(file.custom, dict) else None
    sha256 = file.hashes.get("sha256", "")
    if type(version) is not int or version < 1 or not _SHA256.fullmatch(sha256):
        raise TrustError(f"the target {brief(file.path)} has no version or no SHA-256")
    return SignedTarget(file.path, version, sha256, file.length)


def read_freshness(timestamp: Timestamp) -> dict[str, Freshness]:
    """Return the freshness that the timestamp states for each list; raises `TrustError` if it is malformed."""
    try:
        stated = timestamp.unrecognized_fields.get(FRESHNESS_FIELD, {})
        return {
            name: Freshness(_read_time(fields["verified_at"]), int(fields["serial"])) for name, fields in stated.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _not_well_formed(FRESHNESS_FIELD) from None


def write_freshness(freshness: Mapping[str, Freshness]) -> dict[str, dict[str, str | int]]:
    """Return the form that is signed and that `read_freshness` reads."""
    return {
        name: {"verified_at": fresh.verified_at.astimezone(UTC).strftime(TIME_FORMAT), "serial": fresh.serial}
        for name, fresh in freshness.items()
    }


def read_publication(timestamp: Timestamp) -> PublicationId | None:
    """Return the timestamp's publication; None if it states none. Raises `TrustError` if it is malformed."""
    stated = timestamp.unrecognized_fields.get(PUBLICATION_FIELD)
    if stated is None:
        return None
    match stated:
        case {"epoch": int(epoch), "id": str(name)} if 0 <= epoch < _TOO_HIGH and _PUBLICATION_ID.fullmatch(name):
            return PublicationId(epoch, name)
    raise _not_well_formed(PUBLICATION_FIELD)


def read_audit(timestamp: Timestamp) -> AuditHead | None:
    """Return the audit log that the timestamp states, or None; raises `TrustError` if it is malformed."""
    stated = timestamp.unrecognized_fields.get(AUDIT_FIELD)
    if stated is None:
        return None
    match stated:
        case {"records": int(records), "head": str(head)} if 0 <= records < _TOO_HIGH and _SHA256.fullmatch(head):
            return AuditHead(records, head)
    raise _not_well_formed(AUDIT_FIELD)


def _not_well_formed(field: str) -> TrustError:
    return TrustError(f"the field {field!r} of the timestamp is not well formed")


def _read_time(text: str) -> datetime:
    return datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC)
