"""Repair after a loss: resuming from a restored backup, and following a partner that rebuilt its feed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from syncd.acts import ChangedKeys, PublishedAbove, Restored, Retrusted
from syncd.catalog.changes import HeadNote, Records
from syncd.catalog.records import AuditEntry
from syncd.errors import RefusedError, StoreError, UsageError
from syncd.feed.folder import TRUST
from syncd.feed.locked import FeedLock
from syncd.feed.signed import load_repository
from syncd.format.manifest import Manifest
from syncd.locks import lock
from syncd.model import ListName
from syncd.operate.audit import stated_heads
from syncd.pipeline.publisher import Publisher
from syncd.publish.change import ListChange
from syncd.publish.ledger import CurrentVersion
from syncd.publish.publication import Proposal, Resign, Start
from syncd.publish.rotate import Apply
from syncd.sources.feed_memory import FeedMemory
from syncd.sources.signed_feed import SignedFeed
from syncd.sources.source import Source
from syncd.trust.era import forget
from syncd.trust.keys import Signers
from syncd.trust.repository import Repository
from syncd.trust.strict import verify_root
from syncd.trust.values import MetadataUpdate
from syncd.units import count

HIGHEST: Final = 1 << 40
"""The largest version for `recover`: readers accept 53 bits, and a mistyped number must leave room above it."""


@dataclass(frozen=True)
class Recovered:
    """The result of a recovery: the version of every list, and of every role's metadata."""

    lists: Mapping[ListName, int]
    metadata: Mapping[str, int]


def recover(publisher: Publisher, above: int, now: datetime, actor: str, offline: Signers | None = None) -> Recovered:
    """Publish every head again under a version above ``above``, and sign all metadata above it, in one signed state.

    The end state is that of the backup, and each manifest names the version before as its origin. A matcher that holds
    a version of the lost history thus sees that the new one does not descend from it. With ``offline`` keys,
    targets moves above as well (root versions never skip: clients take them one by one). Raises `UsageError`,
    `RefusedError` if a version is already above ``above`` or a segment is missing, `StoreError`.
    """

    def act(held: FeedLock) -> tuple[Manifest, ...]:
        start = publisher.core.start(held, ahead=True)
        _check_above(publisher, start.repository, above)
        heads = publisher.catalog.heads()
        changes = tuple(_again(_complete(publisher, start, head.list).manifest) for head in heads)
        acts = (_restored(publisher, start.repository), PublishedAbove(above, len(heads)))
        notes = {head.list: HeadNote(head.source, head.origin_serial, "recovery") for head in heads}
        records = Records(notes=notes, audit=tuple(AuditEntry(now, actor, act) for act in acts))
        renew = partial(_renew, offline, publisher.signers, now, above) if offline is not None else None
        proposal = Proposal("recover", changes, resign=renew, above=above, records=records)
        return publisher.core.publish(held, proposal, now, start)

    published = publisher.with_lock("recovery of a backup", act)
    versions = load_repository(publisher.folder.feed).versions
    return Recovered({manifest.list: manifest.version for manifest in published}, versions)


def _again(before: Manifest) -> ListChange:
    return ListChange(
        list=before.list,
        segments=(),
        counts={},
        end_state=before.end_state,
        stack=before.stack,
        origin=before.origin,
        withheld=before.withheld,
        retired=before.retired.since if before.retired else None,
    )


def _renew(offline: Signers, online: Signers, now: datetime, above: int, repository: Repository) -> MetadataUpdate:
    return repository.renew_offline(offline, online, now, above)


def _restored(publisher: Publisher, repository: Repository) -> Restored:
    """Return the longest audit chain that the feed or the catalog states; the catalog's own if nothing was lost."""
    stated = (document.head for document in stated_heads(publisher.folder.feed, repository))
    longest = max((publisher.catalog.audit_head(), *stated), key=lambda head: head.records)
    return Restored(longest.records, longest.head)


def _check_above(publisher: Publisher, repository: Repository, above: int) -> None:
    if not 0 < above <= HIGHEST:
        raise UsageError(f"--above {above} is out of range", hint=f"give a number from 1 to {HIGHEST}")
    used: dict[str, int] = {head.list: head.version for head in publisher.catalog.heads()}
    used |= {role: version for role, version in repository.versions.items() if role not in {"root", "targets"}}
    highest = max(used, key=lambda name: used[name])
    if used[highest] > above:
        raise RefusedError(
            f"{highest} is at version {used[highest]} already, above {above}",
            hint="give a number above every version that a matcher may have seen; nothing was changed",
        )


def _complete(publisher: Publisher, start: Start[Records], name: ListName) -> CurrentVersion:
    current = start.current(name)
    if current is None:
        raise StoreError(f"the catalog has no version of {name}", hint="run `syncd verify`")
    missing = publisher.folder.feed.missing(name, current.manifest.stack)
    if missing:
        raise RefusedError(
            f"{publisher.folder.feed.root} lacks {count(len(missing), 'segment')} of {name}",
            hint="copy v1 from a mirror or a matcher's copy into the feed, then run this again; nothing was changed",
        )
    return current


def retrust(
    publisher: Publisher, source: Source, root: bytes, reason: str, now: datetime, actor: str, patience: float = 0.0
) -> int:
    """Trust ``source`` by another root from now on. Returns that root's version.

    Its floors and serials are forgotten; its held lists stay. The next sync compares the whole lists with them, and the
    gate judges the difference. ``patience``: seconds to wait for the end of a sync. Raises `TrustError` if ``root`` is
    not a valid root, `UsageError` if it is not the configured one or no reason is given, `RefusedError` if a sync is
    running, `StoreError`.
    """
    if not reason.strip():
        raise UsageError("a reason is needed", hint="say with --reason how you checked that this root is the partner's")
    if not isinstance(source, SignedFeed):
        raise UsageError(f"source {source.name} has no trust root", hint="only signed feeds have one")
    version = verify_root(root)
    if source.root_bytes() != root:
        raise UsageError(
            f"{source.root}, the configured root of {source.name}, differs from the given file",
            hint=f"put the new root there first: install -m 644 ROOT {source.root}",
        )
    folder = publisher.folder.source(source.name)
    with lock(folder.lock, f"retrust of {source.name}", patience):
        forget(folder.work / TRUST)  # first: until the pin is moved, the floors in the catalog still apply
        entry = AuditEntry(now, actor, Retrusted(source.name, version, reason))
        memory = FeedMemory.of(publisher.catalog.source(source.name).memory)
        publisher.catalog.retrust(source.name, memory.retrusted(root).as_json(), entry)
    return version


def in_state(publisher: Publisher, actor: str, reason: str, rotated: tuple[str, ...] = ()) -> Apply:
    """Return a function that commits changed keys of the operator's own feed, with an entry in the audit log.

    ``rotated``: the roles whose announced keys are in force with it.
    """

    def apply(purpose: str, resign: Resign, now: datetime) -> None:
        act = ChangedKeys(str(publisher.folder.root), purpose, reason)
        publisher.change_metadata(purpose, resign, now, AuditEntry(now, actor, act), rotated=rotated)

    return apply
