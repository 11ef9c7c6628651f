"""One metadata update in the making: the next signed version of each role that changed. Part of `repository`."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from securesystemslib.signer import Signer
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from syncd.errors import RefusedError, StoreError, UsageError
from syncd.model import AuditHead
from syncd.trust.keys import ONLINE_ROLES, Signers
from syncd.trust.offline import (
    AUDIT_FIELD,
    FRESHNESS_FIELD,
    PUBLICATION_FIELD,
    delegated_roles,
    write_freshness,
)
from syncd.trust.values import (
    TIMESTAMP,
    TOP_LEVEL_ROLES,
    Freshness,
    MetadataUpdate,
    PublicationId,
    lifetime,
    role_of,
    size_limit,
)
from syncd.units import clock_is_behind, count

_Signed: TypeAlias = Root | Timestamp | Snapshot | Targets


@dataclass
class MetadataDraft:
    """The metadata of a feed while it is changed, and the files signed so far."""

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    roles: dict[str, Targets]
    signers: Signers
    now: datetime
    above: int = 0
    publication: PublicationId | None = None
    audit: AuditHead | None = None
    """None: the timestamp keeps the one stated before"""
    versions: dict[str, int] = field(default_factory=dict)
    files: list[tuple[str, bytes]] = field(default_factory=list)
    last: list[tuple[str, bytes]] = field(default_factory=list)
    """files to install after all others"""

    def role_for(self, target: str) -> str:
        """Return the one role that may sign ``target``; raises `RefusedError` if no role may."""
        for role in delegated_roles(self.targets).values():
            if role.is_delegated_path(target):
                return role.name
        raise RefusedError(f"no role of the feed may sign the target {target}")

    def can_sign(self, role: str) -> bool:
        """Return True if enough of the role's keys are at hand."""
        delegated = self._delegator(role).get_delegated_role(role)
        return len(self._usable(role, self._delegator(role))) >= delegated.threshold

    def is_due(self, role: str) -> bool:
        """Return True if the role should be signed although it did not change, and its keys are at hand.

        A role that a clock running ahead signed in the future would stay valid longer than allowed.
        """
        left = self._signed(role).expires - self.now
        mistimed = left < lifetime(role) / 2 or clock_is_behind(lifetime(role) - left)
        return (mistimed or self.versions.get(role, 0) <= self.above) and self.can_sign(role)

    def sign_last(self, role: str, previous_root: Root) -> None:
        """Sign as `sign` does, for installation after everything else."""
        self.sign(role, previous_root)
        self.last.append(self.files.pop())

    def sign(self, role: str, previous_root: Root | None = None) -> None:
        """Sign the role's metadata as its next version; a root is also signed by the root before it (5.3.4)."""
        signed = self._signed(role)
        above = 0 if role == "root" else self.above  # clients take roots one by one (5.3.5)
        signed.version = self.versions[role] = max(self.versions.get(role, 0), above) + 1
        signed.expires = self.now.astimezone(UTC) + lifetime(role)
        delegators = [self._delegator(role), *([previous_root] if previous_root else [])]
        content = self._sign(role, signed, delegators)
        self.files.append((TIMESTAMP if role == "timestamp" else f"{signed.version}.{role}.json", content))
        meta = MetaFile.from_data(signed.version, content, ["sha256"])
        if role == "snapshot":
            self.timestamp.snapshot_meta = meta
        elif isinstance(signed, Targets):
            self.snapshot.meta[f"{role}.json"] = meta

    def finish(self, freshness: Mapping[str, Freshness], *, snapshot: bool = False) -> MetadataUpdate:
        """Sign the snapshot, if it changes or is due, and the timestamp."""
        changed = any(role_of(name) != "root" for name, _ in self.files)
        if snapshot or changed or self.is_due("snapshot"):
            self.sign("snapshot")
        stated = self.timestamp.unrecognized_fields
        stated[FRESHNESS_FIELD] = write_freshness(freshness)
        stated.pop(PUBLICATION_FIELD, None)
        if self.publication is not None:
            stated[PUBLICATION_FIELD] = asdict(self.publication)
        if self.audit is not None:
            stated[AUDIT_FIELD] = asdict(self.audit)
        self.sign("timestamp")
        return MetadataUpdate((*self.files, *self.last))

    def _signed(self, role: str) -> _Signed:
        match role:
            case "root":
                return self.root
            case "timestamp":
                return self.timestamp
            case "snapshot":
                return self.snapshot
        return self.targets if role == "targets" else self.roles[role]

    def _delegator(self, role: str) -> Root | Targets:
        return self.root if role in TOP_LEVEL_ROLES else self.targets

    def _usable(self, role: str, delegator: Root | Targets) -> dict[str, Signer]:
        keyids = delegator.get_delegated_role(role).keyids
        return {s.public_key.keyid: s for s in self.signers.get(role, ()) if s.public_key.keyid in keyids}

    def _sign(self, role: str, signed: _Signed, delegators: Iterable[Root | Targets]) -> bytes:
        metadata: Metadata[Any] = Metadata(signed)
        for delegator in delegators:
            usable, threshold = self._usable(role, delegator), delegator.get_delegated_role(role).threshold
            if len(usable) < threshold:
                raise _too_few_keys(role, len(usable), threshold)
            for keyid in usable.keys() - metadata.signatures.keys():
                _add_signature(metadata, usable[keyid], role)
        content = metadata.to_bytes()
        if len(content) > size_limit(role):
            raise RefusedError(
                f"the {role} metadata would have {len(content)} bytes, but clients read at most {size_limit(role)}",
                hint="split the feed: it has too many lists",
            )
        return content


def _too_few_keys(role: str, usable: int, threshold: int) -> RefusedError:
    folder = "online" if role in ONLINE_ROLES else "offline"
    if role.startswith("list-"):
        hint = "give more of the list's own keys"
    elif role == "root":
        hint = (
            "give --offline-keys once for each custodian; if fewer root keys than the threshold are left, a new feed "
            'is needed: see "When things were lost or reset" in docs/operations.md'
        )
    else:
        hint = (
            f"put its key back into the folder of {folder} keys; if it is lost, make a new one: `syncd feed rotate "
            f"FEED {role} --offline-keys DIR`, or, for an operator, `syncd feed rotate STATE {role} --state "
            "--offline-keys DIR --reason R` with the daemon stopped"
        )
    return RefusedError(f"{role} needs {threshold} of its keys to sign, but has {usable} at hand", hint=hint)


def _add_signature(metadata: Metadata[Any], signer: Signer, role: str) -> None:
    try:
        metadata.sign(signer, append=True)
    except UnsignedMetadataError as error:
        raise StoreError(
            f"a key of {role} failed to sign", hint="check that its HSM or key service can be reached"
        ) from error


def set_keys(delegator: Root | Targets, role: str, keys: tuple[Signer, ...], threshold: int) -> None:
    """Make ``keys`` the only keys of a role; raises `UsageError` if they cannot meet ``threshold``."""
    distinct = {signer.public_key.keyid: signer.public_key for signer in keys}
    if not 1 <= threshold <= len(distinct):
        raise UsageError(
            f"{role} cannot require {count(threshold, 'signature')} of {count(len(distinct), 'key')}",
            hint="the threshold is at least 1 and at most the number of keys",
        )
    delegated = delegator.get_delegated_role(role)
    for keyid in tuple(delegated.keyids):
        delegator.revoke_key(keyid, role)
    for key in distinct.values():
        delegator.add_key(key, role)
    delegated.threshold = threshold


def add_keys(delegator: Root, role: str, keys: tuple[Signer, ...]) -> None:
    """Add ``keys`` to the keys of a role: signatures of the present keys stay valid, and those of the new ones count.

    The threshold stays, unless there are fewer new keys.
    """
    for signer in keys:
        delegator.add_key(signer.public_key, role)
    delegated = delegator.get_delegated_role(role)
    delegated.threshold = min(delegated.threshold, len({signer.public_key.keyid for signer in keys}))
