"""Rolling a list back to an older version, and letting it follow its source again."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from syncd.acts import Act, RolledBack, Unpinned
from syncd.catalog.catalog import Catalog
from syncd.catalog.decisions import HoldRecord
from syncd.catalog.records import AuditEntry, HeadRecord, Pin, VersionRecord, own_name
from syncd.errors import CodeNeeded, RefusedError, StoreError, UsageError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest
from syncd.model import Counts, ListName
from syncd.operate.checks import check_reason, published_head
from syncd.outcomes import HoldReason, Lane
from syncd.pipeline.heads import NOTHING_LEFT_OUT, LeftOut, ListState, Pinned
from syncd.pipeline.next_version import SettleContext
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.settle.pin import settle_pin
from syncd.pipeline.settle.result import Settled
from syncd.pipeline.wire import encode_update
from syncd.units import count, ranges

_NEWEST: Final = 64
"""Versions that are looked at to find those that can be used."""


@dataclass(frozen=True)
class Rollback:
    """The result of a rollback, or of its end."""

    list: ListName
    pinned: int | None
    """the version that the list is pinned to; None: it follows its source"""
    version: int | None
    """the list's new version; None: its content and pin were like that already"""
    counts: Counts
    left_out: LeftOut = NOTHING_LEFT_OUT
    """entries of the pinned version that stay off the list"""
    held: tuple[HoldReason, ...] = ()
    """why rows that would return wait"""
    opened: tuple[HoldRecord, ...] = ()
    ended: tuple[HoldRecord, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "list": self.list,
            "pinned": self.pinned,
            "version": self.version,
            "added": self.counts.added,
            "removed": self.counts.removed,
            "relabelled": self.counts.relabelled,
            "removed_since": self.left_out.removed,
            "suppressed": self.left_out.suppressed,
            "left_out": list(_in_words(self.left_out)),
            "held": [str(reason) for reason in self.held],
        }


def _in_words(left_out: LeftOut) -> Iterator[str]:
    """Say which entries of the pinned version stay off the list, and why."""
    if left_out.removed:
        yield f"{count(left_out.removed, 'row')} of that version left out, which the partner removed since"
    if left_out.suppressed:
        yield f"{count(left_out.suppressed, 'row')} of that version left out, suppressed or known to be good"


def rollback(
    publisher: Publisher,
    name: ListName,
    version: int,
    *,
    reason: str,
    actor: str,
    now: datetime,
    exact: bool = False,
    accepted: str = "",
) -> Rollback:
    """Publish a new version with the content of an older one, and pin the list to it.

    Entries that the partner removed since stay off it, unless ``exact``; suppressed ones always do. While it is pinned,
    only removals flow. ``accepted``: the code that `CodeNeeded` gave for the same exact rollback. Raises `UsageError`
    (no such list or version, no reason), `RefusedError` (retired, at that version already, or removals are held),
    `CodeNeeded`, `StoreError`.
    """
    check_reason(reason)
    head = _head(publisher, name)
    older = _older(publisher, head, version)
    code = _code(head, older, version)
    if exact and accepted != code:
        raise CodeNeeded.of(
            f"version {version} of {name} would be published with entries that the partner removed since then", code
        )

    def settle(state: ListState) -> Settled:
        _check_unchanged(state, head)
        current = state.origin.pin if state.origin else None
        if current and (current.version, current.exact) == (version, exact):
            raise RefusedError(
                f"{name} is pinned to version {version} already", hint="`syncd audit` shows by whom, and why"
            )
        if not exact:
            _check_waiting_removals(state, version)
        _link(publisher, state, older)
        pin = Pin(version, older.stack, exact, actor, reason, now)
        pinned = Pinned(state.opened(older.stack), exact)
        return settle_pin(state, pin, pinned, _context(now, actor, reason, RolledBack(name, version, exact, reason)))

    return _done(publisher, head, settle, version, now)


def _check_waiting_removals(state: ListState, version: int) -> None:
    """Refuse a rollback that would carry out removals that wait for an operator, or that an operator discarded."""
    holds = [hold for hold in state.holds if hold.lane is Lane.REMOVALS]
    if not holds:
        return
    rows, numbers = sum(hold.rows for hold in holds), ranges(hold.id for hold in holds)
    raise RefusedError(
        f"this rollback would remove {count(rows, 'row')} that hold {numbers} keeps on {state.name}",
        hint=f"to keep them: `syncd rollback {state.name} {version} --exact --reason R`. To remove them: first release "
        f"hold {numbers} (`syncd release HOLD --reason R`)",
        serving=f"{state.name} version {state.head.version}; nothing was changed" if state.head else "",
    )


def unpin(publisher: Publisher, name: ListName, *, reason: str, actor: str, now: datetime) -> Rollback:
    """Let a list follow its source again. What returns is judged as any update.

    Raises `UsageError` (no such list, no reason), `RefusedError` if it is not pinned, `StoreError`.
    """
    check_reason(reason)
    head = _head(publisher, name)

    def settle(state: ListState) -> Settled:
        pin = state.origin.pin if state.origin else None
        if pin is None:
            raise RefusedError(f"{name} is not pinned", hint="`syncd status` shows pinned lists; nothing was changed")
        return settle_pin(state, None, None, _context(now, actor, reason, Unpinned(name, pin.version, reason)))

    return _done(publisher, head, settle, None, now)


def _done(
    publisher: Publisher, head: HeadRecord, settle: Callable[[ListState], Settled], pinned: int | None, now: datetime
) -> Rollback:
    settled = publisher.settle(f"rolling back {head.list}", head.source, own_name(head.list), settle, now)
    changes = settled.proposal.changes if settled.proposal else ()
    counts = sum((found for change in changes for found in change.counts.values()), Counts())
    version = settled.version.version if settled.version else None
    publisher.compact_after(settled, now)
    return Rollback(
        list=head.list,
        pinned=pinned,
        version=version,
        counts=counts,
        left_out=settled.left_out,
        held=settled.reasons,
        opened=settled.opened,
        ended=settled.ended,
    )


def _context(now: datetime, actor: str, reason: str, act: Act) -> SettleContext:
    return SettleContext(now, encode_update, audit=(AuditEntry(now, actor, act),), actor=actor, reason=reason)


def _head(publisher: Publisher, name: ListName) -> HeadRecord:
    head = published_head(publisher.catalog, name)
    if head.retired_at is not None:
        raise RefusedError(
            f"{name} is retired", hint="a source that follows it again publishes it; nothing was changed"
        )
    return head


def _older(publisher: Publisher, head: HeadRecord, version: int) -> Manifest:
    """Return the manifest of an older version whose segments are all on this disk."""
    record = publisher.catalog.version(head.list, version)
    feed = publisher.folder.feed
    if record is not None and version < head.version:
        manifest = manifests.parse(record.manifest)
        if manifest.retired is None and not feed.missing(head.list, manifest.stack):
            return manifest
    kept = [older.version for older in usable_versions(publisher.catalog, feed, head)]
    range_ = f"versions that can be used: {ranges(kept, ' to ')}" if kept else "no older version is kept"
    known = "is the version in force" if version == head.version else "is not kept"
    raise UsageError(
        f"version {version} of {head.list} {known}", hint=f"{range_}; `syncd snapshots {head.list}` lists them"
    )


def usable_versions(catalog: Catalog, feed: FeedFolder, head: HeadRecord) -> tuple[VersionRecord, ...]:
    """Return the older versions that a list can be rolled back to, because their files are kept; the newest first."""
    return tuple(
        older
        for older in catalog.versions(head.list, limit=_NEWEST)
        if older.version < head.version and not feed.missing(head.list, manifests.parse(older.manifest).stack)
    )


def _check_unchanged(state: ListState, head: HeadRecord) -> None:
    if state.head is None or state.head.version != head.version:
        raise RefusedError(
            f"{head.list} got a new version in the meantime",
            hint="look at it, then run this again; nothing was changed",
        )


def _link(publisher: Publisher, state: ListState, older: Manifest) -> None:
    """Link an older version's segments into the source's folder, where garbage collection keeps them."""
    for ref in state.source.missing(state.own_name, {ref.sha256: ref for ref in older.stack}.values()):
        feed, kept = publisher.folder.feed.store, layout.segment_path(state.name, ref.sha256)
        if feed.length(kept) is None:
            raise StoreError(f"a segment of version {older.version} of {state.name} was removed in the meantime")
        state.source.store.link(feed, kept, layout.segment_path(state.own_name, ref.sha256))


def _code(head: HeadRecord, older: Manifest, version: int) -> str:
    """Return the code of an exact rollback: of the version in force and the one that is to come back."""
    named = ",".join(sorted(ref.sha256 for ref in older.stack))
    text = f"{head.list} {head.version} {head.manifest_sha256} {version} {named}"
    return hashlib.sha256(text.encode()).hexdigest()[:10]
