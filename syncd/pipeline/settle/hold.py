"""Settling a hold that an operator releases or discards."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from syncd.catalog.changes import Records
from syncd.catalog.decisions import HoldRecord, HoldState
from syncd.model import Algorithm
from syncd.outcomes import HoldReason, Lane
from syncd.pipeline import gate
from syncd.pipeline.compose import Passing
from syncd.pipeline.heads import ListState
from syncd.pipeline.keyed import RowsBy, keys_among, no_keys
from syncd.pipeline.move import Move
from syncd.pipeline.next_version import SettleContext, upstream_of
from syncd.pipeline.pending import pending_of
from syncd.pipeline.settle.ends import rows_of_holds, withdrawn
from syncd.pipeline.settle.result import Settled, published
from syncd.pipeline.values import Hold
from syncd.publish.publication import Proposal

_OF_THEIR_OWN: Final = frozenset({HoldReason.SERIAL_JUMP, HoldReason.CANARY_MISSING, HoldReason.KNOWN_GOOD})
"""Reasons whose rows wait for an act of their own: counts do not say whether it is settled."""


def settle_release(state: ListState, hold: HoldRecord, context: SettleContext) -> Settled:
    """Publish exactly the rows of a hold, each only if it is still wanted.

    Rows that joined the lane later are judged on their own. Raises `StoreError` if the rows were lost on this disk.
    """
    rows, move = state.rows_of(hold), Move(state)
    move.touch_rows(rows, no_keys(rows))
    wanted = move.still_wanted(rows)
    move.compose(_some(wanted, hold.lane))
    return _settle_rows(state, hold, HoldState.RELEASED, context, rows=rows, move=move, wanted=wanted)


def settle_discard(state: ListState, hold: HoldRecord, context: SettleContext) -> Settled:
    """Refuse the rows of a hold: they stay out, and no longer hold or alarm. Raises as `settle_release`."""
    rows, move = state.rows_of(hold), Move(state)
    move.touch_rows(rows, no_keys(rows))
    wanted = move.still_wanted(rows)
    move = Move(state)
    move.touch_rows(rows, wanted)
    move.compose(_some(no_keys(rows), hold.lane))
    return _settle_rows(state, hold, HoldState.DISCARDED, context, rows=rows, move=move, wanted=wanted)


def settle_whole_discard(hold: HoldRecord, context: SettleContext) -> Settled:
    """Discard a whole update. The origin stays, and the same version is not held again."""
    records = Records(audit=context.audit, ended=(context.ended(hold, HoldState.DISCARDED),))
    return Settled(Proposal("discard", records=records, visible=False), released=hold.rows)


def _settle_rows(
    state: ListState,
    hold: HoldRecord,
    as_: HoldState,
    context: SettleContext,
    *,
    rows: RowsBy,
    move: Move,
    wanted: Mapping[Algorithm, np.ndarray],
) -> Settled:
    """Finish a release or a discard. Other waiting rows of the lane go live too if they pass the gate on their own."""
    ended = [context.ended(hold, as_)]
    others = tuple(other for other in state.holds_of(hold.lane) if other.id != hold.id)
    if others and _passes_alone(state, move, hold, others):
        every = rows_of_holds(state, (hold, *others))
        mine = keys_among(every, {a: some.take(wanted[a]) for a, some in rows.items()})
        move = Move(state)
        refuse = as_ is HoldState.DISCARDED
        move.touch_rows(every, {a: mask & refuse for a, mask in mine.items()})
        still = move.still_wanted(every)
        move.compose(_some({a: still[a] & (~mine[a] if refuse else True) for a in every}, hold.lane))
        ended += [context.ended(other, HoldState.PASSED) for other in others]
    ended_ids = {end.id for end in ended}
    ended += [end for end in withdrawn(state, move, context) if end.id not in ended_ids]
    plan = "release" if as_ is HoldState.RELEASED else "discard"
    settled = published(state, move, context, ended, plan, reference=as_ is HoldState.RELEASED)
    shown = {algorithm: mask & ~state.suppressed.mask(algorithm, rows[algorithm]) for algorithm, mask in wanted.items()}
    return replace(settled, released=sum(int(mask.sum()) for mask in shown.values()))


def _passes_alone(state: ListState, move: Move, hold: HoldRecord, others: Iterable[HoldRecord]) -> bool:
    """Return True if the waiting rows of a lane would pass the gate without the hold that ends.

    That act is the new reference of the windows. Rows held for a label, or for one of `_OF_THEIR_OWN`, wait for an act
    of their own.
    """
    findings = [finding for other in others for finding in other.why]
    if any(finding.label or finding.reason in _OF_THEIR_OWN for finding in findings):
        return False
    retired = state.origin is not None and upstream_of(state.origin).retired is not None
    left = pending_of(replace(state, windows={}, label_windows={}), move.waiting, grown=move.growth)
    verdict = gate.judge(replace(left, retired=retired), state.limits)
    return not isinstance(verdict.additions if hold.lane is Lane.ADDITIONS else verdict.removals, Hold)


def _some(chosen: Mapping[Algorithm, np.ndarray], lane: Lane) -> Callable[[Algorithm, int], Passing]:
    """Let the chosen keys of one lane pass."""

    def passing(algorithm: Algorithm, count: int) -> Passing:
        nothing = np.zeros(count, bool)
        return Passing(chosen[algorithm], nothing) if lane is Lane.ADDITIONS else Passing(nothing, chosen[algorithm])

    return passing
