"""The signing side: signed bytes out, from the metadata at hand, signers and ``now``. Nothing is written here.

A feed's metadata, consistent snapshots throughout (TUF specification 1.0.34, 6.2)::

    N.root.json, N.targets.json     offline keys; targets names no target, only who signs which list
    N.lists.json, N.list-*.json     manifests; a list with a role of its own is taken from that role alone
    N.snapshot.json                 versions, lengths and hashes of the above
    timestamp.json                  version, length and hash of the snapshot; `Freshness` of each list
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from securesystemslib.signer import Signer
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from syncd.errors import FeedError, RefusedError, StoreError, UsageError
from syncd.trust.keys import ONLINE_ROLES, Signers
from syncd.trust.offline import FRESHNESS_FIELD, Read, Verified, delegated_roles, parse, read_freshness, verify
from syncd.trust.offline import write_freshness as _write_freshness
from syncd.trust.values import (
    LISTS,
    LISTS_PATH,
    TOP_LEVEL_ROLES,
    Freshness,
    MetadataUpdate,
    SignedTarget,
    lifetime,
    size_limit,
)

__all__ = ["Freshness", "MetadataUpdate", "Repository", "SignedTarget", "create"]

_TIMESTAMP: Final = "timestamp.json"
_GLOB_CHARACTERS: Final = frozenset("*?[")

_Signed: TypeAlias = Root | Timestamp | Snapshot | Targets


def create(offline: Signers, online: Signers, root_threshold: int, now: datetime) -> MetadataUpdate:
    """Sign the first metadata of a feed: version 1 of every role.

    Raises `UsageError` where the threshold does not fit the root keys, `RefusedError` where a role has no key.
    """
    signers = {**offline, **online}
    root, targets = Root(consistent_snapshot=True), Targets(delegations=Delegations({}, {}))
    for role in TOP_LEVEL_ROLES:
        _set_keys(root, role, signers.get(role, ()), root_threshold if role == "root" else 1)
    _delegate(targets, DelegatedRole(LISTS, [], 1, terminating=True, paths=[LISTS_PATH]), signers.get(LISTS, ()), 1)
    draft = _Draft(root, Timestamp(), Snapshot(meta={}), targets, {LISTS: Targets()}, signers, now)
    draft.sign("root")
    draft.sign("targets")
    draft.sign(LISTS)
    return draft.finish({})


@dataclass(frozen=True)
class Repository:
    """The newest metadata of a feed, verified, and what can be signed on top of it. Signing changes nothing here."""

    _verified: Verified

    @classmethod
    def load(cls, read: Read) -> "Repository":
        """Load from a feed's metadata folder; raises `StoreError` where it is missing, damaged or incomplete."""
        try:
            first, newest = _first_and_newest_root(read)
            content = read(_TIMESTAMP)
            if content is None:
                raise StoreError(f"the metadata file {_TIMESTAMP} is missing", hint="restore it from a backup")
            version = parse(Timestamp, content, _TIMESTAMP).signed.version
            named = {f"{version}.{_TIMESTAMP}": content}
            return cls(verify(lambda name: named.get(name) or read(name), first, newest, version))
        except FeedError as error:
            raise StoreError(
                f"the feed's own metadata is damaged: {error}", hint="restore it from a backup, then `recover --above`"
            ) from error

    def after(self, update: MetadataUpdate) -> "Repository":
        """The repository once ``update`` is installed."""
        old = {name: content for name, content in self._verified.files.items() if not name.endswith(f".{_TIMESTAMP}")}
        return Repository.load({**old, **dict(update.files)}.get)

    def targets(self) -> dict[str, SignedTarget]:
        """Every target, each from the role entitled to it, by name."""
        return self._verified.entitled()

    def freshness(self) -> dict[str, Freshness]:
        """What the timestamp says of each list."""
        return read_freshness(self._verified.timestamp)

    def expiries(self) -> dict[str, datetime]:
        """When each role's newest metadata expires (UTC)."""
        return self._verified.expires

    @property
    def versions(self) -> dict[str, int]:
        """Each role's newest version."""
        return self._verified.versions

    def publish(
        self,
        targets: Mapping[str, SignedTarget],
        freshness: Mapping[str, Freshness],
        signers: Signers,
        now: datetime,
        above: int = 0,
    ) -> MetadataUpdate:
        """Add or replace ``targets`` and state the whole ``freshness``: their roles, snapshot and timestamp, signed.

        What has used up half its life is signed anew as well: the snapshot, and list roles whose keys are at hand.
        Every version signed is higher than the last and than ``above``; what is not above ``above`` yet is due too.
        Raises `RefusedError` where a role's keys are not at hand, where no role may sign a target, or where a target's
        own version does not rise.
        """
        draft = self._draft(signers, now, above)
        published = self.targets()
        for target in targets.values():
            _check_rises(target, published.get(target.name))
            draft.roles[draft.role_for(target.name)].targets[target.name] = _target_file(target)
        changed = {draft.role_for(name) for name in targets}
        for role in sorted(draft.roles):
            if role in changed or draft.is_due(role):
                draft.sign(role)
        return draft.finish(freshness)

    def resign(
        self, freshness: Mapping[str, Freshness], signers: Signers, now: datetime, above: int = 0
    ) -> MetadataUpdate:
        """Sign a new timestamp and whatever is due; as `publish`, of nothing new."""
        return self.publish({}, freshness, signers, now, above)

    def rotate(
        self, role: str, keys: tuple[Signer, ...], threshold: int, *, offline: Signers, online: Signers, now: datetime
    ) -> MetadataUpdate:
        """Replace the keys of a role by ``keys``, ``threshold`` of which must sign from now on.

        A new root is signed by the old root's threshold and by its own. Raises `UsageError` where the threshold does
        not fit, `RefusedError` where keys are not at hand or there is no such role.
        """
        signers = {**online, **offline, role: (*offline.get(role, ()), *keys)}
        draft = self._draft(signers, now)
        if role in TOP_LEVEL_ROLES:
            _set_keys(draft.root, role, keys, threshold)
            draft.sign("root", self._verified.root)
        elif role in draft.roles:
            _set_keys(draft.targets, role, keys, threshold)
            draft.sign("targets")
        else:
            raise RefusedError(f"the feed has no role {role}", hint=f"it has {', '.join(self.versions)}")
        if role not in {"root", "snapshot", "timestamp"}:
            draft.sign(role)
        return draft.finish(self.freshness(), snapshot=role == "snapshot")

    def add_list_role(
        self,
        target: str,
        role: str,
        keys: tuple[Signer, ...],
        threshold: int,
        *,
        offline: Signers,
        online: Signers,
        now: datetime,
    ) -> MetadataUpdate:
        """Give one list (the target ``target``) a role of its own; what is published of it moves there.

        Raises `UsageError` where the threshold or the names do not fit, `RefusedError` where keys are not at hand or
        the role exists.
        """
        if role in self.versions or not role.startswith("list-"):
            raise RefusedError(f"the role {role} exists, or is not named list-NAME")
        if _GLOB_CHARACTERS.intersection(target):
            raise UsageError(f"{target} is a pattern, not one target")
        draft = self._draft({**online, **offline, role: keys}, now)
        former = draft.role_for(target)
        moved = draft.roles[former].targets.pop(target, None)
        _delegate(draft.targets, DelegatedRole(role, [], 1, terminating=True, paths=[target]), keys, threshold)
        draft.roles[role] = Targets(targets={target: moved} if moved else {})
        for name in ("targets", role, *([former] if moved else [])):
            draft.sign(name)
        return draft.finish(self.freshness())

    def renew_offline(self, offline: Signers, online: Signers, now: datetime, above: int = 0) -> MetadataUpdate:
        """Sign root and targets anew, keys unchanged, so that they do not expire; raises `RefusedError` as above."""
        draft = self._draft({**online, **offline}, now, above)
        draft.sign("root", self._verified.root)
        draft.sign("targets")
        return draft.finish(self.freshness())

    def _draft(self, signers: Signers, now: datetime, above: int = 0) -> "_Draft":
        of = copy.deepcopy(self._verified)
        return _Draft(
            of.root, of.timestamp, of.snapshot, of.targets, dict(of.roles), signers, now, above, self.versions
        )


@dataclass
class _Draft:
    """One update in the making."""

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    roles: dict[str, Targets]
    signers: Signers
    now: datetime
    above: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    files: list[tuple[str, bytes]] = field(default_factory=list)

    def role_for(self, target: str) -> str:
        """The one role that may sign ``target``."""
        for role in delegated_roles(self.targets).values():
            if role.is_delegated_path(target):
                return role.name
        raise RefusedError(f"no role of the feed may sign the target {target}")

    def can_sign(self, role: str) -> bool:
        """True where enough of the role's keys are at hand."""
        delegated = self._delegator(role).get_delegated_role(role)
        return len(self._usable(role, self._delegator(role))) >= delegated.threshold

    def is_due(self, role: str) -> bool:
        """True where the role should be signed though nothing in it changed, and its keys are at hand."""
        half_spent = self._signed(role).expires - self.now < lifetime(role) / 2
        return (half_spent or self.versions.get(role, 0) <= self.above) and self.can_sign(role)

    def sign(self, role: str, previous_root: Root | None = None) -> None:
        """Sign the role's metadata as its next version; a root also for the root before it (5.3.4)."""
        signed = self._signed(role)
        above = 0 if role == "root" else self.above  # clients take roots one by one (5.3.5)
        signed.version = max(self.versions.get(role, 0), above) + 1
        signed.expires = self.now.astimezone(UTC) + lifetime(role)
        delegators = [self._delegator(role), *([previous_root] if previous_root else [])]
        content = self._sign(role, signed, delegators)
        self.files.append((_TIMESTAMP if role == "timestamp" else f"{signed.version}.{role}.json", content))
        meta = MetaFile.from_data(signed.version, content, ["sha256"])
        if role == "snapshot":
            self.timestamp.snapshot_meta = meta
        elif isinstance(signed, Targets):
            self.snapshot.meta[f"{role}.json"] = meta

    def finish(self, freshness: Mapping[str, Freshness], *, snapshot: bool = False) -> MetadataUpdate:
        """Sign the snapshot, where it has to change or is due, and the timestamp."""
        changed = any(not name.endswith(".root.json") for name, _ in self.files)
        if snapshot or changed or self.is_due("snapshot"):
            self.sign("snapshot")
        self.timestamp.unrecognized_fields[FRESHNESS_FIELD] = _write_freshness(freshness)
        self.sign("timestamp")
        return MetadataUpdate(tuple(self.files))

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
                f"{role} would have {len(content)} bytes; clients read {size_limit(role)} at most",
                hint="split the feed: it has too many lists",
            )
        return content


def _too_few_keys(role: str, found: int, threshold: int) -> RefusedError:
    folder = "the online keys" if role in ONLINE_ROLES else "the folder of offline keys"
    return RefusedError(
        f"{role} needs {threshold} of its keys to sign and {found} are at hand", hint=f"is {folder} the right one?"
    )


def _add_signature(metadata: Metadata[Any], signer: Signer, role: str) -> None:
    try:
        metadata.sign(signer, append=True)
    except UnsignedMetadataError as error:
        raise StoreError(f"a key of {role} failed to sign", hint="is its HSM or key service reachable?") from error


def _first_and_newest_root(read: Read) -> tuple[bytes, int]:
    first = read("1.root.json")
    if first is None:
        raise StoreError("the metadata file 1.root.json is missing", hint="is this the folder of a feed?")
    newest = 1
    while read(f"{newest + 1}.root.json") is not None:
        newest += 1
    if read(f"{newest + 2}.root.json") is not None:  # signing on from here would use a version number twice
        raise StoreError(f"the metadata file {newest + 1}.root.json is missing", hint="restore it from a backup")
    return first, newest


def _set_keys(delegator: Root | Targets, role: str, keys: tuple[Signer, ...], threshold: int) -> None:
    """Make ``keys`` the only keys of a role."""
    distinct = {signer.public_key.keyid: signer.public_key for signer in keys}
    if not 1 <= threshold <= len(distinct):
        raise UsageError(
            f"{role} cannot require {threshold} of {len(distinct)} keys",
            hint="the threshold is at least 1 and at most the number of keys",
        )
    delegated = delegator.get_delegated_role(role)
    for keyid in tuple(delegated.keyids):
        delegator.revoke_key(keyid, role)
    for key in distinct.values():
        delegator.add_key(key, role)
    delegated.threshold = threshold


def _delegate(targets: Targets, role: DelegatedRole, keys: tuple[Signer, ...], threshold: int) -> None:
    """Delegate to ``role`` before all others: TUF takes the first that matches."""
    if targets.delegations is None or targets.delegations.roles is None:
        raise StoreError("targets has no list of delegated roles", hint="was it made by another tool?")
    targets.delegations.roles = {role.name: role, **targets.delegations.roles}
    _set_keys(targets, role.name, keys, threshold)


def _check_rises(target: SignedTarget, published: SignedTarget | None) -> None:
    if published and target != published and target.version <= published.version:
        raise RefusedError(
            f"version {target.version} of {target.name} is not above the published version {published.version}",
            hint="a version is never published twice: use a higher one",
        )


def _target_file(target: SignedTarget) -> TargetFile:
    custom = {"custom": {"version": target.version}}
    return TargetFile(target.length, {"sha256": target.sha256}, target.name, custom)
