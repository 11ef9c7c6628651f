"""Settling one list's next publication: of an update, or of a hold that is released or discarded.

Judging and composing start from the state that the publication finds, so a sync that lost a race is judged again
without fetching again. Segments are written here; the publication core signs and commits.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from syncd.catalog.records import (
    HeadNote,
    HoldEnd,
    HoldRecord,
    HoldState,
    OriginMove,
    Records,
)
from syncd.errors import RefusedError, StoreError
from syncd.feed.snapshot import open_segment
from syncd.format.manifest import Manifest
from syncd.model import Algorithm
from syncd.outcomes import HoldReason, Lane
from syncd.pipeline import gate
from syncd.pipeline.compose import Passing
from syncd.pipeline.heads import (
    ListState,
    Move,
    RowsBy,
    keys_among,
    lane_counts,
    pending,
    union,
)
from syncd.pipeline.next_version import (
    NextVersion,
    SettleContext,
    moved_origin,
    origin_of,
    proposal_of,
    retirement,
    take_over,
    update_record,
    upstream_of,
)
from syncd.pipeline.values import Hold, Over, Pending, Update, Verdict
from syncd.publish.change import ListChange
from syncd.publish.publication import Proposal


@dataclass(frozen=True)
class Settled:
    """The result of settling one list. Without a ``proposal`` nothing changes, not even a record."""

    proposal: Proposal[Records] | None
    reasons: tuple[HoldReason, ...] = ()
    """why rows of the list wait, from this update or from before"""
    released: int = 0
    """rows of a released or discarded hold that were still wanted"""
    opened: tuple[HoldRecord, ...] = ()
    """the opened holds, once committed"""
    ended: tuple[HoldRecord, ...] = ()
    """the ended holds, once committed"""
    version: Manifest | None = None
    """the list's new version, once committed"""

    @property
    def changes_head(self) -> bool:
        """True if the list gets a new version."""
        return self.proposal is not None and bool(self.proposal.changes)


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
        return _settle_whole(state, update, context, accepted, released)
    closed = {} if accepted else state.closed()  # a release is of exactly these rows, whatever else waits
    if candidate.over is Over.HEAD:
        closed = {} if accepted else _closed_by_loss(state)
        state = _without_owed(state)
    move = Move(state)
    segments = [open_segment(state.path(ref), ref) for ref in candidate.delta]
    move.touch_update(segments, update.resolved if candidate.over is Over.ORIGIN else {})
    retired = candidate.manifest.retired is not None
    judged = pending(_rows(state), move.if_all_wait(), forked=candidate.forked, retired=retired)
    verdict = gate.judge(judged, closed, accepted)
    if HoldReason.FORKED in verdict.reasons:
        return _hold_whole(state, update, context, verdict.reasons, released)
    move.compose(_lanes(verdict))
    draft = NextVersion(state, move, context)
    opened = draft.holds(update, verdict)
    lost = candidate.over is Over.HEAD
    ended = [
        *(_ended_loss(state, context) if lost else _withdrawn(state, move, context)),
        *_ended_whole(state, released, context),
    ]
    origin = draft.origin(moved_origin(state, update, context))
    change = draft.change(origin, update)
    record = update_record(update, context) if opened else None
    note = HeadNote(
        update.source,
        origin.serial,
        candidate.plan,
        context.sync_id,
        change.counts if change else {},
        draft.labels,
    )
    proposal = proposal_of(state, change, origin, context, note, ended=ended, opened=opened, update=record)
    return Settled(proposal, _reasons(state, opened, ended), released.rows if released else 0)


def settle_release(state: ListState, hold: HoldRecord, context: SettleContext) -> Settled:
    """Publish exactly the rows of a hold, each only if it is still wanted.

    Rows that joined the lane later are judged on their own. Raises `StoreError` if the rows were lost on this disk.
    """
    rows, move = state.rows_of(hold), Move(state)
    move.touch_rows(rows, _none(rows))
    wanted = move.still_wanted(rows)
    move.compose(_some(wanted, hold.lane))
    return _settle_rows(state, hold, HoldState.RELEASED, context, rows=rows, move=move, wanted=wanted)


def settle_discard(state: ListState, hold: HoldRecord, context: SettleContext) -> Settled:
    """Refuse the rows of a hold: they stay out, and no longer hold or alarm. Raises as `settle_release`."""
    rows, move = state.rows_of(hold), Move(state)
    move.touch_rows(rows, _none(rows))
    wanted = move.still_wanted(rows)
    move = Move(state)
    move.touch_rows(rows, wanted)
    move.compose(_some(_none(rows), hold.lane))
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
    ended, others = [context.ended(hold, as_)], _others(state, hold)
    if others and _passes_alone(state, move, hold.lane):
        newest_first = sorted((hold, *others), key=lambda waiting: waiting.id, reverse=True)
        every = union(state.rows_of(waiting) for waiting in newest_first)  # the newest row of a key wins
        mine = keys_among(every, {a: some.take(wanted[a]) for a, some in rows.items()})
        move = Move(state)
        refuse = as_ is HoldState.DISCARDED
        move.touch_rows(every, {a: mask & refuse for a, mask in mine.items()})
        still = move.still_wanted(every)
        move.compose(_some({a: still[a] & (~mine[a] if refuse else True) for a in every}, hold.lane))
        ended += [context.ended(other, HoldState.PASSED) for other in others]
    ended_ids = {end.id for end in ended}
    ended += [end for end in _withdrawn(state, move, context) if end.id not in ended_ids]
    draft = NextVersion(state, move, context)
    held = state.origin
    if held is None:
        raise StoreError(f"the catalog has no origin for {state.name}", hint="run `syncd verify`")
    origin = draft.origin(replace(held, revision=held.revision + 1))
    change = draft.change(origin, None)
    plan = "release" if as_ is HoldState.RELEASED else "discard"
    note = HeadNote(held.source, origin.serial, plan, None, change.counts if change else {}, draft.labels)
    proposal = proposal_of(state, change, origin, context, note, ended=ended)
    return Settled(proposal, _reasons(state, (), ended), sum(int(mask.sum()) for mask in wanted.values()))


def _passes_alone(state: ListState, move: Move, lane: Lane) -> bool:
    """Return True if the waiting rows of a lane would pass the gate without the hold that ends."""
    retired = state.origin is not None and upstream_of(state.origin).retired is not None
    verdict = gate.judge(pending(_rows(state) + move.growth, move.waiting, retired=retired))
    return not isinstance(verdict.additions if lane is Lane.ADDITIONS else verdict.removals, Hold)


def _settle_whole(
    state: ListState,
    update: Update,
    context: SettleContext,
    accepted: Collection[HoldReason],
    released: HoldRecord | None,
) -> Settled:
    """Publish a whole stack: the first version, or the first one after the head's segments were lost.

    Waiting and refused rows cannot be distinguished in it. If there were any, the whole stack waits.
    """
    candidate, upstream = update.candidate, update.candidate.manifest
    retired = upstream.retired is not None
    judged = Pending(_rows(state), candidate.rows, {}, forked=candidate.forked, retired=retired)
    closed = _closed_by_loss(state) if state.head and not accepted else {}  # a release covers those rows too
    verdict = gate.judge(judged, closed, accepted)
    if verdict.reasons:
        return _hold_whole(state, update, context, verdict.reasons, released)
    origin = replace(moved_origin(state, update, context), owed=(), refused=(), waiting={}, discarded={})
    change: ListChange | None = ListChange(
        list=state.name,
        segments=(),
        counts=candidate.counts,
        end_state=candidate.end_state,
        stack=candidate.stack,
        origin=origin_of(state, origin, whole=True),
        whole=state.head is not None,
        media=upstream.media,
        purpose=upstream.purpose,
    )
    if upstream.retired is not None:  # matchers need no warning about a list that was never published
        since = context.now if state.head else upstream.retired.since
        change = retirement(state, since, origin)
    take_over(state, candidate.stack)
    labels = {a: {label: n for label, n in grown.items() if n} for a, grown in update.growth.items()}
    note = HeadNote(update.source, origin.serial, candidate.plan, context.sync_id, {}, labels)
    ended = [*_ended_loss(state, context), *_ended_whole(state, released, context)]
    proposal = proposal_of(state, change, origin, context, note, ended=ended)
    return Settled(proposal, _reasons(state, (), ended), released.rows if released else 0)


def _hold_whole(
    state: ListState,
    update: Update,
    context: SettleContext,
    reasons: tuple[HoldReason, ...],
    released: HoldRecord | None,
) -> Settled:
    """Hold a whole update. Origin and head do not move."""
    candidate = update.candidate
    record = update_record(update, context)
    segments = candidate.stack if candidate.over is Over.NOTHING else candidate.delta
    released_id = released.id if released else None
    same = [hold for hold in state.holds if hold.lane is Lane.BOTH and hold.segments == segments]
    if any(hold.id != released_id for hold in same):  # it waits already, or was discarded
        return Settled(None, _reasons(state, (), ()))
    hold = HoldRecord(
        list=state.name,
        source=update.source,
        lane=Lane.BOTH,
        reasons=reasons,
        segments=segments,
        rows=sum(count.effective for count in candidate.counts.values()),
        opened_at=context.now,
        sync_id=context.sync_id,
    )
    ended = [context.ended(before, HoldState.REPLACED) for before in state.holds_of(Lane.BOTH)]
    moves: tuple[OriginMove, ...] = ()
    if state.origin is not None and candidate.forked:
        forked = replace(state.origin, fork=candidate.ref, revision=state.origin.revision + 1)
        moves = (OriginMove(forked, state.origin.revision),)
    records = Records(moves, audit=context.audit, update=record, opened=(hold,), ended=tuple(ended))
    return Settled(Proposal("hold", records=records, visible=False), reasons)


def _withdrawn(state: ListState, move: Move, context: SettleContext) -> list[HoldEnd]:
    """End the holds of lanes that have no waiting (or refused) rows left: the partner withdrew them."""
    left = {HoldState.OPEN: lane_counts(move.waiting), HoldState.DISCARDED: lane_counts(move.discarded)}
    return [
        context.ended(hold, HoldState.WITHDRAWN)
        for hold in state.holds
        if hold.lane is not Lane.BOTH and not left[hold.state][hold.lane]
    ]


def _ended_whole(state: ListState, released: HoldRecord | None, context: SettleContext) -> list[HoldEnd]:
    """End the holds of whole updates when the origin moves: one was released, or the partner published without it.

    Discarded ones end too: they refer to a version that is no longer the held one.
    """
    return [
        context.ended(hold, HoldState.RELEASED if released and hold.id == released.id else HoldState.WITHDRAWN)
        for hold in state.holds
        if hold.lane is Lane.BOTH
    ]


def _ended_loss(state: ListState, context: SettleContext) -> list[HoldEnd]:
    """End the holds whose rows were lost on this disk. Rows that still wait are held again."""
    return [context.ended(hold, HoldState.REPLACED) for hold in state.holds if hold.lane is not Lane.BOTH]


def _closed_by_loss(state: ListState) -> dict[Lane, tuple[HoldReason, ...]]:
    """Return the lanes to keep closed after the rows of holds were lost: losing files never opens the gate."""
    closed = state.closed()
    for hold in state.holds:
        if hold.state is HoldState.DISCARDED and hold.lane is not Lane.BOTH and state.origin and state.origin.discarded:
            closed[hold.lane] = (*closed.get(hold.lane, ()), *hold.reasons)
    return closed


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
        end_state=state.head.end_state if state.head else {},
    )
    return replace(state, origin=alike)


def _reasons(state: ListState, opened: Iterable[HoldRecord], ended: Iterable[HoldEnd]) -> tuple[HoldReason, ...]:
    ended_ids = {end.id for end in ended}
    waiting = [*(hold for hold in state.open_holds if hold.id not in ended_ids), *opened]
    return tuple(dict.fromkeys(reason for hold in waiting for reason in hold.reasons))


def _others(state: ListState, hold: HoldRecord) -> tuple[HoldRecord, ...]:
    return tuple(other for other in state.holds_of(hold.lane) if other.id != hold.id)


def _rows(state: ListState) -> int:
    return state.head.rows if state.head else 0


def _lanes(verdict: Verdict) -> Callable[[Algorithm, int], Passing]:
    additions, removals = not isinstance(verdict.additions, Hold), not isinstance(verdict.removals, Hold)
    return lambda _, count: Passing(np.full(count, additions), np.full(count, removals))


def _some(chosen: Mapping[Algorithm, np.ndarray], lane: Lane) -> Callable[[Algorithm, int], Passing]:
    """Let the chosen keys of one lane pass."""

    def passing(algorithm: Algorithm, count: int) -> Passing:
        nothing = np.zeros(count, bool)
        return Passing(chosen[algorithm], nothing) if lane is Lane.ADDITIONS else Passing(nothing, chosen[algorithm])

    return passing


def _none(rows: RowsBy) -> dict[Algorithm, np.ndarray]:
    return {algorithm: np.zeros(len(some), bool) for algorithm, some in rows.items()}
