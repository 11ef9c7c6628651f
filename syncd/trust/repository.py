"""The signing side: turns the metadata at hand, signers and ``now`` into signed bytes. Writes nothing.

A feed's metadata, with consistent snapshots (TUF specification 1.0.34, 6.2)::

    N.root.json, N.targets.json     offline keys; targets lists no target, only which role signs which list
    N.lists.json, N.list-*.json     manifests; a list with a role of its own is taken from that role alone
    N.snapshot.json                 versions, lengths and hashes of the above
    timestamp.json                  version, length and hash of the snapshot; `Freshness` of each list
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from securesystemslib.signer import Signer
from tuf.api.metadata import DelegatedRole, Delegations, Root, Snapshot, TargetFile, Targets, Timestamp

from syncd.errors import FeedError, RefusedError, StoreError, UsageError, nearest
from syncd.files import DamagedError
from syncd.model import AuditHead
from syncd.trust.draft import MetadataDraft, add_keys, set_keys
from syncd.trust.keys import OFFLINE_ROLES, Signers
from syncd.trust.offline import BRING_BACK, Read, VerifiedMetadata, read_freshness, verify_newest
from syncd.trust.values import (
    LISTS,
    LISTS_PATH,
    TOP_LEVEL_ROLES,
    Freshness,
    MetadataUpdate,
    NewPublication,
    SignedTarget,
    list_path,
    new_publication,
    role_of,
)

__all__ = ["Freshness", "MetadataUpdate", "Repository", "SignedTarget", "create"]

_GLOB_CHARACTERS: Final = frozenset("*?[")


def create(
    offline: Signers,
    online: Signers,
    root_threshold: int,
    now: datetime,
    new_publication: NewPublication = new_publication,
) -> MetadataUpdate:
    """Sign the first metadata of a feed: version 1 of every role.

    Raises `UsageError` if the threshold does not fit the root keys, `RefusedError` if a role has no key.
    """
    signers = {**offline, **online}
    root, targets = Root(consistent_snapshot=True), Targets(delegations=Delegations({}, {}))
    for role in TOP_LEVEL_ROLES:
        set_keys(root, role, signers.get(role, ()), root_threshold if role == "root" else 1)
    _delegate(targets, DelegatedRole(LISTS, [], 1, terminating=True, paths=[LISTS_PATH]), signers.get(LISTS, ()), 1)
    timestamp, snapshot, roles = Timestamp(), Snapshot(meta={}), {LISTS: Targets()}
    draft = MetadataDraft(
        root=root,
        timestamp=timestamp,
        snapshot=snapshot,
        targets=targets,
        roles=roles,
        signers=signers,
        now=now,
        publication=new_publication(),
    )
    draft.sign("root")
    draft.sign("targets")
    draft.sign(LISTS)
    return draft.finish({})


@dataclass(frozen=True)
class Repository:
    """The newest verified metadata of a feed, and the updates to sign on top of it. Signing does not change it."""

    _verified: VerifiedMetadata
    _new_publication: NewPublication = new_publication

    @classmethod
    def load(cls, read: Read, new_publication: NewPublication = new_publication) -> "Repository":
        """Load from a feed's metadata folder; raises `StoreError` if it is missing, damaged or incomplete.

        ``new_publication`` identifies each timestamp that is signed.
        """
        root = read("1.root.json")
        if root is None:
            raise DamagedError("the metadata file 1.root.json is missing", hint=BRING_BACK)
        try:
            return cls(verify_newest(read, root, 1), new_publication)
        except FeedError as error:
            raise DamagedError(
                f"the feed's own metadata is damaged: {error}",
                hint="restore it from a backup; if anything was published since, then `syncd recover --above N`",
            ) from error

    def after(self, update: MetadataUpdate) -> "Repository":
        """Return the repository as it is once ``update`` is installed."""
        old = {name: content for name, content in self._verified.files.items() if role_of(name) != "timestamp"}
        return Repository.load({**old, **dict(update.files)}.get, self._new_publication)

    def targets(self) -> dict[str, SignedTarget]:
        """Return all targets by name, each from the role entitled to it."""
        return {name: target for name, (_, target) in self._verified.entitled().items()}

    def freshness(self) -> dict[str, Freshness]:
        """Return the freshness that the timestamp states for each list."""
        return read_freshness(self._verified.timestamp)

    def expiries(self) -> dict[str, datetime]:
        """Return the expiry (UTC) of each role's newest metadata."""
        return self._verified.expires

    @property
    def versions(self) -> dict[str, int]:
        """The newest version of each role."""
        return self._verified.versions

    def signing(self, role: str) -> tuple[int, int]:
        """Return how many keys a role has and how many must sign; raises `RefusedError` if there is no such role."""
        if role not in self.versions:
            raise _no_such_role(role, self.versions)
        delegator = self._verified.root if role in TOP_LEVEL_ROLES else self._verified.targets
        delegated = delegator.get_delegated_role(role)
        return len(delegated.keyids), delegated.threshold

    def lacking(self, signers: Signers) -> tuple[str, ...]:
        """Return the online roles that too few of ``signers`` have a key of to sign them."""
        lacking = []
        for role in self.versions.keys() - set(OFFLINE_ROLES):
            delegator = self._verified.root if role in TOP_LEVEL_ROLES else self._verified.targets
            delegated = delegator.get_delegated_role(role)
            held = {signer.public_key.keyid for signer in signers.get(role, ())} & set(delegated.keyids)
            if len(held) < delegated.threshold:
                lacking.append(role)
        return tuple(sorted(lacking))

    def publish(
        self,
        targets: Mapping[str, SignedTarget],
        freshness: Mapping[str, Freshness],
        signers: Signers,
        now: datetime,
        above: int = 0,
        audit: AuditHead | None = None,
    ) -> MetadataUpdate:
        """Sign an update that adds or replaces ``targets`` and states the whole ``freshness``.

        Signed are the targets' roles, the snapshot and the timestamp; also the snapshot and list roles whose keys are
        at hand if half their lifetime is over, or if their version is not above ``above``. Every signed version is
        higher than the last and than ``above``. ``audit``: the end of the audit log before this publication; None
        keeps the one stated last. Raises `RefusedError` if a role's keys are not at hand, no role may sign a target,
        or a target's own version does not rise.
        """
        draft = self._draft(signers, now, above)
        draft.audit = audit
        published = self.targets()
        for target in targets.values():
            _check_rises(target, published.get(target.name))
            custom = {"custom": {"version": target.version}}
            draft.roles[draft.role_for(target.name)].targets[target.name] = TargetFile(
                target.length, {"sha256": target.sha256}, target.name, custom
            )
        changed = {draft.role_for(name) for name in targets}
        for role in sorted(draft.roles):
            if role in changed or draft.is_due(role):
                draft.sign(role)
        return draft.finish(freshness)

    def resign(
        self,
        freshness: Mapping[str, Freshness],
        signers: Signers,
        now: datetime,
        above: int = 0,
        audit: AuditHead | None = None,
    ) -> MetadataUpdate:
        """Sign a new timestamp and all due roles, as `publish` does, without new targets."""
        return self.publish({}, freshness, signers, now, above, audit)

    def rotate(
        self, role: str, keys: tuple[Signer, ...], threshold: int, *, offline: Signers, online: Signers, now: datetime
    ) -> MetadataUpdate:
        """Replace the keys of a role with ``keys``; from now on ``threshold`` of them must sign.

        A new root is signed by the old root's threshold and by its own. For a role that the root names there are two:
        the first takes the old keys and the new ones, and is to be installed before what the new keys sign; the second
        takes only the new keys, and is to be installed last. So whatever part is installed, readers accept it.

        Raises `UsageError` if the threshold does not fit, and `RefusedError` if keys are not at hand or the role does
        not exist.
        """
        signers = {**online, **offline, role: (*offline.get(role, ()), *keys)}
        draft = self._draft(signers, now)
        if role == "root":
            set_keys(draft.root, role, keys, threshold)
            draft.sign("root", self._verified.root)
        elif role in TOP_LEVEL_ROLES:
            add_keys(draft.root, role, keys)
            draft.sign("root", self._verified.root)
            before = copy.deepcopy(draft.root)
            set_keys(draft.root, role, keys, threshold)
            draft.sign_last("root", before)
        elif role in draft.roles:
            set_keys(draft.targets, role, keys, threshold)
            draft.sign("targets")
        else:
            raise _no_such_role(role, self.versions)
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
        """Give one list a role of its own, and move all its targets there. ``target`` is its manifest's.

        Raises `UsageError` if the threshold or the names do not fit, and `RefusedError` if keys are not at hand or the
        role exists.
        """
        if role in self.versions or not role.startswith("list-"):
            raise RefusedError(f"the role {role} exists already, or is not named list-NAME")
        if _GLOB_CHARACTERS.intersection(target):
            raise UsageError(f"{target} is a pattern, not one target")
        draft = self._draft({**online, **offline, role: keys}, now)
        former = draft.role_for(target)
        delegated = DelegatedRole(role, [], 1, terminating=True, paths=[list_path(target)])
        held = draft.roles[former].targets
        moved = {name: held.pop(name) for name in tuple(held) if delegated.is_delegated_path(name)}
        _delegate(draft.targets, delegated, keys, threshold)
        draft.roles[role] = Targets(targets=moved)
        for name in ("targets", role, *([former] if moved else [])):
            draft.sign(name)
        return draft.finish(self.freshness())

    def renew_offline(self, offline: Signers, online: Signers, now: datetime, above: int = 0) -> MetadataUpdate:
        """Sign root and targets again with the same keys, before they expire. Raises `RefusedError` as `rotate`."""
        draft = self._draft({**online, **offline}, now, above)
        draft.sign("root", self._verified.root)
        draft.sign("targets")
        return draft.finish(self.freshness())

    def _draft(self, signers: Signers, now: datetime, above: int = 0) -> MetadataDraft:
        copied = copy.deepcopy(self._verified)
        return MetadataDraft(
            root=copied.root,
            timestamp=copied.timestamp,
            snapshot=copied.snapshot,
            targets=copied.targets,
            roles=dict(copied.roles),
            signers=signers,
            now=now,
            above=above,
            publication=self._new_publication(),
            versions=self.versions,
        )


def _no_such_role(role: str, known: Iterable[str]) -> RefusedError:
    return RefusedError(f"the feed has no role {role}", hint=nearest(role, known, "role"))


def _delegate(targets: Targets, role: DelegatedRole, keys: tuple[Signer, ...], threshold: int) -> None:
    """Delegate to ``role`` ahead of all others: TUF takes the first that matches."""
    if targets.delegations is None or targets.delegations.roles is None:
        raise StoreError("targets has no list of delegated roles", hint="use a feed that `syncd feed init` made")
    targets.delegations.roles = {role.name: role, **targets.delegations.roles}
    set_keys(targets, role.name, keys, threshold)


def _check_rises(target: SignedTarget, published: SignedTarget | None) -> None:
    if published and target != published and target.version <= published.version:
        raise RefusedError(
            f"version {target.version} of {target.name} is not above the published version {published.version}",
            hint="versions only rise: if the catalog was restored from a backup, run `syncd recover --above N`, with N"
            " above every version that was published",
        )
