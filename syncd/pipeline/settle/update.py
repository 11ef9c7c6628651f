"""Settling one list's next publication: of an update, or of waiting rows that are judged again.

Judging and composing start from the state that the publication finds, so a sync that lost a race is judged again
without fetching again. Segments are written here; the publication core signs and commits.
"""

from collections.abc import Collection
from dataclasses import replace

from syncd.catalog.changes import HeadNote
from syncd.catalog.decisions import HoldRecord
from syncd.errors import RefusedError
from syncd.feed.snapshot import open_segment
from syncd.outcomes import HoldReason
from syncd.pipeline import gate
from syncd.pipeline.heads import ListState
from syncd.pipeline.keyed import no_keys
from syncd.pipeline.move import Move
from syncd.pipeline.next_version import (
    NextVersion,
    SettleContext,
    moved_origin,
    proposal_of,
    update_record,
    upstream_of,
    with_labels,
)
from syncd.pipeline.pending import labels_after, limited_labels, pending_of
from syncd.pipeline.settle.ends import closed_by_loss, ended_loss, ended_rows, ended_whole, passing_holds, rows_of_holds
from syncd.pipeline.settle.result import (
    Settled,
    lanes_that_pass,
    marked,
    published,
    reasons_left,
    with_canaries,
    with_update,
)
from syncd.pipeline.settle.whole import hold_whole, settle_whole
from syncd.pipeline.values import Over, Update


def settle_update(
    state: ListState,
    update: Update,
    context: SettleContext,
    accepted: Collection[HoldReason] = (),
    released: HoldRecord | None = None,
) -> Settled:
    """Judge an update and compose the part of it that may go live.

    ``accepted``: the reasons of the hold ``released``, which an operator released. Raises `RefusedError` if the origin
    is not the one that the update was prepared over.
    """
    before = state.origin.manifest_sha256 if state.origin else None
    if before != update.before:
        raise RefusedError(
            f"{state.name} changed while its update was prepared", hint="the next sync starts from there"
        )
    candidate = update.candidate
    if candidate.over is Over.NOTHING:
        return settle_whole(state, update, context, accepted, released)
    lost = candidate.over is Over.HEAD
    closed = {} if accepted else state.closed()  # a release is of exactly these rows, whatever else waits
    if lost:
        closed = {} if accepted else closed_by_loss(state)
        state = _without_owed(state)
    move = Move(state)
    segments = [open_segment(state.path(ref), ref) for ref in candidate.delta]
    move.touch_update(segments, {} if lost else update.resolved)
    labels = labels_after(state.origin_labels, update.growth)
    waiting = move.if_all_wait()
    known_good = {algorithm: len(rows) for algorithm, rows in move.kept_out().items()}
    judged = with_canaries(pending_of(state, waiting, labels), state, segments, known_good)
    judged = with_update(judged, state, update)
    verdict = gate.judge(judged, state.limits, closed, accepted)
    if HoldReason.FORKED in verdict.reasons:
        return hold_whole(state, update, context, verdict, released)
    passed = () if lost or accepted else passing_holds(state, verdict, waiting)
    if passed:
        move = Move(state)
        move.touch_update(segments, {}, rows_of_holds(state, passed))
    move.compose(lanes_that_pass(verdict))
    draft = NextVersion(state, move, context)
    opened = draft.holds(update.source, verdict)
    ended = [
        *(ended_loss(state, context) if lost else ended_rows(state, move, passed, context)),
        *ended_whole(state, update, released, context),
    ]
    origin = draft.origin(moved_origin(state, update, context))
    change = draft.change(origin, update)
    origin = with_labels(origin, labels, draft.labels, state)
    record = update_record(update, context) if opened else None
    note = HeadNote(
        update.source,
        origin.serial,
        candidate.plan,
        context.sync_id,
        change.counts if change else {},
        draft.labels,
        reference=bool(accepted),
        limited=limited_labels(state, draft.labels),
    )
    proposal = proposal_of(
        state, change, origin, context, note, ended=ended, opened=opened, waiting=record, update=update
    )
    proposal = marked(proposal, state) if lost else proposal
    settled = Settled(proposal, reasons_left(state, opened, ended), released.rows if released else 0)
    return replace(settled, known_good=known_good)


def settle_again(state: ListState, context: SettleContext) -> Settled:
    """Judge the waiting rows again, such as under other limits; publish the lanes that pass now."""
    origin = state.origin
    if origin is None:
        return Settled(None)
    judged = with_canaries(pending_of(state, origin.waiting), state)
    judged = replace(judged, retired=upstream_of(origin).retired is not None)
    verdict = gate.judge(judged, state.limits, state.closed())
    passed = passing_holds(state, verdict, origin.waiting)
    if not passed:
        return Settled(None, reasons_left(state, (), ()))
    rows, move = rows_of_holds(state, passed), Move(state)
    move.touch_rows(rows, no_keys(rows))
    move.compose(lanes_that_pass(verdict))
    return published(state, move, context, ended_rows(state, move, passed, context), "judged again")


def _without_owed(state: ListState) -> ListState:
    """Return the state with the origin set equal to the head: their difference was lost."""
    if state.origin is None:
        return state
    alike = replace(
        state.origin,
        owed=(),
        refused=(),
        waiting={},
        discarded={},
        labels=None,
        end_state=state.head.end_state if state.head else {},
    )
    return replace(state, origin=alike)
