"""Settling changed suppressions and known-good digests."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from syncd.catalog.decisions import HoldEnd, HoldRecord
from syncd.format.manifest import Withheld
from syncd.format.rows import Digests, Mask, Rows
from syncd.format.stack import Stack
from syncd.model import Algorithm
from syncd.outcomes import Lane
from syncd.pipeline import gate
from syncd.pipeline.compose import Passing
from syncd.pipeline.heads import ListState
from syncd.pipeline.keyed import RowsBy, keys_among, union
from syncd.pipeline.move import Move
from syncd.pipeline.next_version import RowWriter, SettleContext
from syncd.pipeline.pending import labels_after, pending_of
from syncd.pipeline.settle.ends import withdrawn
from syncd.pipeline.settle.result import Settled, published
from syncd.pipeline.suppressed import SuppressedKeys
from syncd.pipeline.values import Hold, Pass, Pending


def settle_correction(
    state: ListState, digests: Mapping[Algorithm, Digests], after: SuppressedKeys, context: SettleContext, plan: str
) -> Settled:
    """Apply changed suppressions to every entry of ``digests``, which are sorted and unique by algorithm.

    A list whose rows are not on this disk gets the suppressions with its next version. Otherwise as `correct`.
    """
    if state.origin is None or state.head is None:
        return Settled(None)
    return correct(state, after, state.entries_of(digests), context, plan)


def correct(
    state: ListState,
    after: SuppressedKeys,
    rows: RowsBy,
    context: SettleContext,
    plan: str,
    ended: Iterable[HoldEnd] = (),
) -> Settled:
    """Put changed suppressions or known-good digests in force on ``rows``, which are all entries that they change.

    An entry that was kept out until now returns if the origin has it and no open hold keeps it back. The gate judges
    all that return as one change: it may never have seen them. An entry that only the version has to which the list is
    pinned exactly is refused from now on: the partner has removed it.
    """
    move = Move(state, after)
    held = keys_among(rows, union(state.rows_of(hold) for hold in state.open_holds if hold.lane is not Lane.BOTH))
    back = {a: state.suppressed.mask(a, some) & ~after.mask(a, some) & ~held[a] for a, some in rows.items()}
    refused = {a: move.refused_before(a, some) | (back[a] & _only_pinned(state, a, some)) for a, some in rows.items()}
    move.touch_rows(rows, refused)
    move.compose(lambda algorithm, count: Passing(back[algorithm], np.zeros(count, bool)))
    returned = {a: some.take(~some.removed) for a, some in move.head_rows().items() if not some.removed.all()}
    judged = gate.judge(_returning(state, returned), state.limits).additions if returned else Pass()
    opened: tuple[HoldRecord, ...] = ()
    if isinstance(judged, Hold):
        move.compose(lambda _, count: Passing(np.zeros(count, bool), np.zeros(count, bool)))
        opened = (_hold_of(state, returned, judged, context),)
    ends = [*ended, *withdrawn(state, move, context)]
    settled = published(state, move, context, ends, plan, ours=True, opened=opened)
    return replace(settled, returned=sum(map(len, returned.values())))


def _only_pinned(state: ListState, algorithm: Algorithm, rows: Rows) -> Mask:
    """Mark the rows that an exactly pinned list has, or would have, and the origin has not."""
    if state.pinned is None or not state.pinned.exact:
        return np.zeros(len(rows), bool)
    return ~state.basis.stacks.get(algorithm, Stack(algorithm, [])).resolve(rows).present


def _returning(state: ListState, rows: RowsBy) -> Pending:
    """Return the pending difference of entries that return to a list, apart from all that waits."""
    growth = {
        algorithm: {label: int((some.codes == code).sum()) for code, label in enumerate(some.labels)}
        for algorithm, some in rows.items()
    }
    counts = {algorithm: Withheld(additions=len(some)) for algorithm, some in rows.items()}
    return pending_of(replace(state, windows={}, label_windows={}), counts, labels_after(state.head_labels, growth))


def _hold_of(state: ListState, rows: RowsBy, judged: Hold, context: SettleContext) -> HoldRecord:
    """Return the hold of entries that may not return at once, and write them."""
    return HoldRecord(
        list=state.name,
        source=state.origin.source if state.origin else "",
        lane=Lane.ADDITIONS,
        reasons=judged.reasons,
        findings=judged.findings,
        segments=RowWriter(state).write(rows, public=False),
        rows=sum(map(len, rows.values())),
        opened_at=context.now,
    )
