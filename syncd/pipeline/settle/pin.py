"""Settling a rollback, which pins a list to an older version, and its end."""

from dataclasses import replace

from syncd.catalog.changes import HeadNote
from syncd.catalog.decisions import HoldState
from syncd.catalog.records import Pin
from syncd.format.delta import difference
from syncd.format.stack import Stack, merge_deltas
from syncd.outcomes import Lane
from syncd.pipeline import gate
from syncd.pipeline.heads import ListState, Pinned
from syncd.pipeline.keyed import RowsBy, union
from syncd.pipeline.move import Move
from syncd.pipeline.next_version import NextVersion, SettleContext, proposal_of, upstream_of, with_labels
from syncd.pipeline.pending import limited_labels, pending_of
from syncd.pipeline.settle.result import Settled, lanes_that_pass, no_origin, placeholder, reasons_left
from syncd.pipeline.values import Pass, Verdict


def settle_pin(state: ListState, pin: Pin | None, pinned: Pinned | None, context: SettleContext) -> Settled:
    """Roll a list back to an older version and pin it there, or end that (None for both) and judge what returns.

    Reads the whole list if its base was folded since that version.
    """
    held = state.origin
    if held is None or state.head is None:
        raise no_origin(state)
    owed = {algorithm: merge_deltas(algorithm, stack.segments) for algorithm, stack in state.owed.items()}
    apart = [owed] if pinned is None else [_apart_from(state, pinned), owed]
    rows = {algorithm: some for algorithm, some in union(apart).items() if len(some)}
    move = Move(state, repin=True, pinned=pinned)
    keep = pin is None
    move.touch_rows(rows, {a: move.refused_before(a, some) & keep for a, some in rows.items()})
    verdict = Verdict(Pass(), Pass())
    if pin is None:
        judged = pending_of(replace(state, origin=replace(held, pin=None)), move.if_all_wait(), state.origin_labels)
        retired = upstream_of(held).retired is not None
        verdict = gate.judge(replace(judged, retired=retired), state.limits)
    move.compose(lanes_that_pass(verdict))
    draft = NextVersion(state, move, context)
    opened = draft.holds(held.source, verdict)
    ended = [context.ended(hold, HoldState.REPLACED) for hold in state.open_holds if hold.lane is not Lane.BOTH]
    if pin is not None:
        ended += [context.ended(hold, HoldState.REPLACED) for hold in state.holds if hold.state is HoldState.DISCARDED]
    origin = draft.origin(replace(held, pin=pin, revision=held.revision + 1))
    change = draft.change(origin, None)
    origin = with_labels(origin, state.origin_labels, draft.labels, state)
    note = HeadNote(
        held.source,
        origin.serial,
        "rollback" if pin else "unpin",
        None,
        change.counts if change else {},
        draft.labels,
        reference=pin is not None,
        limited=limited_labels(state, draft.labels),
    )
    record = placeholder(state.name, held, context) if opened else None
    proposal = proposal_of(state, change, origin, context, note, ended=ended, opened=opened, waiting=record)
    return Settled(proposal, reasons_left(state, opened, ended), left_out=move.left_out())


def _apart_from(state: ListState, pinned: Pinned) -> RowsBy:
    """Return the keys by which the head and a pinned version differ."""
    held = state.head_basis.stacks
    return {
        algorithm: difference(
            held.get(algorithm, Stack(algorithm, [])), pinned.stacks.get(algorithm, Stack(algorithm, []))
        )
        for algorithm in sorted({*held, *pinned.stacks})
    }
