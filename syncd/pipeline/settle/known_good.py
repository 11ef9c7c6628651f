"""Settling a list whose known-good digests have changed: what they name goes off the list, the rest comes back.

A change is the operator's own, like a suppression: a large one waits for a second operator. Rows that are no longer
known to be good come back through the gate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

import numpy as np

from syncd.acts import KnownGoodChanged
from syncd.catalog.changes import Records
from syncd.catalog.decisions import HoldEnd, HoldRecord, HoldState, KnownGoodMark, TakenOff, UpdateRecord
from syncd.catalog.records import AuditEntry
from syncd.format.rows import Digests, Rows, as_digests
from syncd.format.stack import Resolved, merge_deltas
from syncd.limits import allowed_alone
from syncd.model import Algorithm
from syncd.outcomes import Finding, HoldReason, Lane
from syncd.pipeline.heads import ListState
from syncd.pipeline.keyed import RowsBy, keys_among, union
from syncd.pipeline.known_good import KnownGood
from syncd.pipeline.next_version import SettleContext
from syncd.pipeline.settle.correction import correct
from syncd.pipeline.settle.result import Settled
from syncd.publish.publication import Proposal

_PERIOD: Final = timedelta(days=1)


@dataclass(frozen=True)
class KnownGoodChange:
    """A list, and the known-good digests that it is to have from now on."""

    state: ListState
    after: KnownGood

    @property
    def before(self) -> KnownGood:
        """The digests in force."""
        return self.state.suppressed.known_good

    @cached_property
    def rows(self) -> RowsBy:
        """Every entry of the list whose digest is known to be good before or after, and not both."""
        pinned = self.state.pinned.stacks if self.state.pinned else {}
        algorithms = {*self.state.head_basis.stacks, *self.state.basis.stacks, *pinned}
        changed = {algorithm: self._changed(algorithm) for algorithm in algorithms}
        return self.state.entries_of({algorithm: digests for algorithm, digests in changed.items() if len(digests)})

    def _changed(self, algorithm: Algorithm) -> Digests:
        """Return the digests that change, sorted.

        Those that come back are among the rows that are owed, or on the version that the list is pinned to.
        """
        state = self.state
        head, owed = state.head_basis.stacks.get(algorithm), _owed(state, algorithm)
        older = state.pinned.stacks.get(algorithm) if state.pinned else None
        parts = [owed.digests]
        parts += [] if head is None else [self.after.on(algorithm, head)]
        parts += [] if older is None else [self.before.on(algorithm, older)]
        named = np.concatenate([part for part in parts if len(part)] or parts[:1])
        differs = self.before.mask(algorithm, named) != self.after.mask(algorithm, named)
        width = named.dtype.itemsize
        return as_digests({digest.ljust(width, b"\0") for digest in named[differs]})

    @cached_property
    def taken_off(self) -> int:
        """Entries that the operator's file takes off the list; those that are built in are nobody's decision."""
        built_in = replace(self.after, name=self.after.name.partition(":")[0], refs=())
        return sum(
            int((self.after.mask(a, rows.digests) & ~built_in.mask(a, rows.digests)).sum())
            for a, rows in self.rows.items()
        )

    def finding(self, now: datetime) -> Finding | None:
        """Return the finding for a second operator; None if one operator may make the change."""
        before = sum(taken.rows for taken in self.recent(now))
        of = self.state.head.rows if self.state.head else 0
        allowed = allowed_alone(of)
        if not self.taken_off or before + self.taken_off <= allowed:
            return None
        rows = self.taken_off
        return Finding(HoldReason.KNOWN_GOOD_FILE, window="24 hours", rows=rows, before=before, of=of, allowed=allowed)

    def recent(self, now: datetime) -> tuple[TakenOff, ...]:
        """Return the rows that changed files took off the list in the past 24 hours without a second operator."""
        mark = self.state.mark
        return tuple(taken for taken in (mark.taken_off if mark else ()) if timedelta(0) <= now - taken.at < _PERIOD)


def without_lost(state: ListState) -> ListState:
    """Return a state whose known-good digests in force were lost on this disk: found again in what they kept out.

    A file of known-good digests can be lost with a disk; rows that are owed, wait in no hold and were not refused or
    suppressed are those that it kept out.
    """
    held = union(state.rows_of(hold) for hold in state.open_holds if hold.lane is not Lane.BOTH)
    by_operator = replace(state.suppressed, known_good=KnownGood())
    found = {}
    for algorithm in state.owed:
        rows = _owed(state, algorithm)
        head = state.head_basis.stacks.get(algorithm)
        other = by_operator.mask(algorithm, rows)
        if head is not None:  # a difference may have ended while its row stayed
            other |= head.resolve(rows).present
        if state.pinned is not None:
            other |= ~state.pinned.target(algorithm, rows, Resolved(np.ones(len(rows), bool), rows)).present
        for some in (held, state.refused):
            other |= keys_among({algorithm: rows}, some)[algorithm]
        width = rows.width
        found[algorithm] = as_digests({digest.ljust(width, b"\0") for digest in rows.digests[~other]})
    name = state.mark.known_good if state.mark else ""
    return replace(state, suppressed=state.suppressed.knowing(KnownGood(name, (), lambda: found)))


def _owed(state: ListState, algorithm: Algorithm) -> Rows:
    """Return the rows that would be added to the head to make it the origin; some may be in it already."""
    stack = state.owed.get(algorithm)
    rows = merge_deltas(algorithm, stack.segments if stack else ())
    return rows.take(~rows.removed)


def settle_known_good(
    change: KnownGoodChange,
    waiting: Sequence[HoldRecord],
    context: SettleContext,
    *,
    second_operator: bool = True,
    confirmed: HoldRecord | None = None,
) -> Settled:
    """Put changed known-good digests in force on one list, or hold them for a second operator.

    ``waiting``: the open and discarded holds of such changes of this list. ``confirmed``: the one that an operator
    released.
    """
    finding = change.finding(context.now)
    if finding is not None and second_operator and confirmed is None:
        return _held(change, finding, waiting, context)
    state, second = change.state, "no need" if finding is None else "switched off"
    if confirmed is not None:
        second = "confirmed"
    recent = change.recent(context.now)
    if change.taken_off and confirmed is None:
        recent = (*recent, TakenOff(context.now, change.taken_off))
    mark = KnownGoodMark(state.name, change.after.name, recent)
    ends = [
        context.ended(hold, HoldState.RELEASED if confirmed and hold.id == confirmed.id else HoldState.WITHDRAWN)
        for hold in waiting
    ]
    return _composed(change, mark, second, ends, context)


def _composed(
    change: KnownGoodChange, mark: KnownGoodMark, second: str, ends: list[HoldEnd], context: SettleContext
) -> Settled:
    state = change.state
    settled = correct(state, state.suppressed.knowing(change.after), change.rows, context, "known_good", ends)
    act = KnownGoodChanged(
        list=state.name,
        sha256=change.after.sha256,
        rows=change.taken_off,
        returned=settled.returned,
        second=second,
        reason=context.reason,
    )
    entry = AuditEntry(context.now, context.actor or "syncd", act)
    proposal = settled.proposal or Proposal[Records]("origin", visible=False)
    records = proposal.records or Records()
    records = replace(records, marks=(mark,), audit=(*records.audit, entry))
    return Settled(replace(proposal, records=records), released=change.taken_off)


def _held(change: KnownGoodChange, finding: Finding, waiting: Sequence[HoldRecord], context: SettleContext) -> Settled:
    """Hold a change for a second operator, unless the same file waits already or was discarded."""
    state = change.state
    if state.origin is None or any(hold.segments == change.after.refs for hold in waiting):
        return Settled(None)
    hold = HoldRecord(
        list=state.name,
        source=state.origin.source,
        lane=Lane.SUPPRESSIONS,
        reasons=(finding.reason,),
        findings=(finding,),
        segments=change.after.refs,
        rows=change.taken_off,
        opened_at=context.now,
    )
    act = KnownGoodChanged(state.name, change.after.sha256, change.taken_off, returned=0, second="waits", reason="")
    records = Records(
        update=UpdateRecord(state.name, 0, "", b"", context.now),
        opened=(hold,),
        ended=tuple(context.ended(before, HoldState.REPLACED) for before in waiting),
        audit=(AuditEntry(context.now, "syncd", act),),
    )
    return Settled(Proposal("hold", records=records, visible=False))
