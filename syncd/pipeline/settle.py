"""Settling one list's next publication: of an update, or of a hold that is released or discarded.

Judging and composing start from the state that the publication finds, so a sync that lost a race is judged again
without fetching again. Segments are written here; the publication core signs and commits.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from syncd.catalog.records import (
    RETRUSTED,
    HeadNote,
    HoldEnd,
    HoldRecord,
    HoldState,
    KnownGoodMark,
    OriginMove,
    Pin,
    Records,
    UpdateRecord,
)
from syncd.errors import RefusedError, StoreError
from syncd.feed.snapshot import open_segment
from syncd.format.delta import difference
from syncd.format.manifest import EndState, Manifest, SegmentRef, Withheld
from syncd.format.rows import Digests
from syncd.format.segment import Segment
from syncd.format.stack import Stack, merge_deltas
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import Finding, HoldReason, Lane
from syncd.pipeline import gate
from syncd.pipeline.canaries import rows_of, segments_of
from syncd.pipeline.compose import Passing
from syncd.pipeline.counting import Counting
from syncd.pipeline.heads import (
    ListState,
    Move,
    Pinned,
    RowsBy,
    WithheldBy,
    keys_among,
    lane_counts,
    together,
    union,
)
from syncd.pipeline.next_version import (
    NextVersion,
    RowWriter,
    SettleContext,
    moved_origin,
    origin_of,
    proposal_of,
    retirement,
    take_over,
    update_record,
    upstream_of,
    with_labels,
)
from syncd.pipeline.pending import labels_after, pending_of, pending_whole
from syncd.pipeline.suppressed import SuppressedKeys
from syncd.pipeline.values import Basis, Hold, Over, Pass, Pending, Update, Verdict
from syncd.publish.change import ListChange
from syncd.publish.publication import Proposal

_OF_THEIR_OWN: Final = frozenset({HoldReason.SERIAL_JUMP, HoldReason.CANARY_MISSING, HoldReason.KNOWN_GOOD})
"""Reasons whose rows wait for an act of their own: counts do not say whether it is settled."""


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
    corrected: Mapping[ListName, int] = field(default_factory=dict)
    """the new version of each list that an act on suppressions changed, once committed"""
    known_good: Mapping[Algorithm, int] = field(default_factory=dict)
    """rows of this update that are kept out because they are known to be good"""

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
    lost = candidate.over is Over.HEAD
    closed = {} if accepted else state.closed()  # a release is of exactly these rows, whatever else waits
    if lost:
        closed = {} if accepted else _closed_by_loss(state)
        state = _without_owed(state)
    move = Move(state)
    segments = [open_segment(state.path(ref), ref) for ref in candidate.delta]
    move.touch_update(segments, {} if lost else update.resolved)
    labels = labels_after(state.origin_labels, update.growth)
    waiting = move.if_all_wait()
    known_good = _counted(move.kept_out())
    judged = _with_canaries(pending_of(state, waiting, labels), state, segments, known_good)
    judged = _judged(judged, state, update)
    verdict = gate.judge(judged, state.limits, closed, accepted)
    if HoldReason.FORKED in verdict.reasons:
        return _hold_whole(state, update, context, verdict, released)
    passed = () if lost or accepted else _passed(state, verdict, waiting)
    if passed:
        move = Move(state)
        move.touch_update(segments, {}, _rows_of(state, passed))
    move.compose(_lanes(verdict))
    draft = NextVersion(state, move, context)
    opened = draft.holds(update.source, verdict)
    ended = [
        *(_ended_loss(state, context) if lost else _ended_rows(state, move, passed, context)),
        *_ended_whole(state, update, released, context),
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
    )
    proposal = proposal_of(
        state, change, origin, context, note, ended=ended, opened=opened, update=record, candidate=candidate
    )
    proposal = _marked(proposal, state) if lost else proposal
    settled = Settled(proposal, _reasons(state, opened, ended), released.rows if released else 0)
    return replace(settled, known_good=known_good)


def settle_again(state: ListState, context: SettleContext) -> Settled:
    """Judge the waiting rows again, such as under other limits; publish the lanes that pass now."""
    origin = state.origin
    if origin is None:
        return Settled(None)
    judged = _with_canaries(pending_of(state, origin.waiting), state)
    judged = replace(judged, retired=upstream_of(origin).retired is not None)
    verdict = gate.judge(judged, state.limits, state.closed())
    passed = _passed(state, verdict, origin.waiting)
    if not passed:
        return Settled(None, _reasons(state, (), ()))
    rows, move = _rows_of(state, passed), Move(state)
    move.touch_rows(rows, _none(rows))
    move.compose(_lanes(verdict))
    return _published(state, move, context, _ended_rows(state, move, passed, context), "judged again")


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
    if others and _passes_alone(state, move, hold, others):
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
    ended += [end for end in withdrawn(state, move, context) if end.id not in ended_ids]
    plan = "release" if as_ is HoldState.RELEASED else "discard"
    settled = _published(state, move, context, ended, plan, reference=as_ is HoldState.RELEASED)
    shown = {algorithm: mask & ~state.suppressed.mask(algorithm, rows[algorithm]) for algorithm, mask in wanted.items()}
    return replace(settled, released=sum(int(mask.sum()) for mask in shown.values()))


def settle_correction(
    state: ListState, digests: Mapping[Algorithm, Digests], after: SuppressedKeys, context: SettleContext, plan: str
) -> Settled:
    """Apply changed suppressions to every entry of ``digests``, which are sorted and unique by algorithm.

    An entry that is no longer suppressed returns if the origin has it and no open hold keeps it back. A list whose rows
    are not on this disk gets the suppressions with its next version.
    """
    if state.origin is None or state.head is None:
        return Settled(None)
    rows, move = _listed(state, digests), Move(state, after)
    move.touch_rows(rows, {algorithm: move.refused_before(algorithm, some) for algorithm, some in rows.items()})
    held = keys_among(rows, union(state.rows_of(hold) for hold in state.open_holds if hold.lane is not Lane.BOTH))

    def passing(algorithm: Algorithm, count: int) -> Passing:
        hidden, shown = (keys.mask(algorithm, rows[algorithm]) for keys in (state.suppressed, after))
        return Passing(hidden & ~shown & ~held[algorithm], np.zeros(count, bool))

    move.compose(passing)
    return _published(state, move, context, withdrawn(state, move, context), plan, ours=True)


def settle_pin(state: ListState, pin: Pin | None, pinned: Pinned | None, context: SettleContext) -> Settled:
    """Roll a list back to an older version and pin it there, or end that (None for both) and judge what returns.

    Reads the whole list if its base was folded since that version.
    """
    held = state.origin
    if held is None or state.head is None:
        raise StoreError(f"the catalog has no origin for {state.name}", hint="run `syncd verify`")
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
    move.compose(_lanes(verdict))
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
    )
    record = None
    if opened:
        record = UpdateRecord(state.name, held.serial, held.manifest_sha256, b"", context.now)
    proposal = proposal_of(state, change, origin, context, note, ended=ended, opened=opened, update=record)
    return Settled(proposal, _reasons(state, opened, ended))


def _apart_from(state: ListState, pinned: Pinned) -> RowsBy:
    """Return the keys by which the head and a pinned version differ."""
    held = state.head_basis.stacks
    return {
        algorithm: difference(
            held.get(algorithm, Stack(algorithm, [])), pinned.stacks.get(algorithm, Stack(algorithm, []))
        )
        for algorithm in sorted({*held, *pinned.stacks})
    }


def _listed(state: ListState, digests: Mapping[Algorithm, Digests]) -> RowsBy:
    """Return every entry of ``digests`` that is in force in head or origin, by key."""
    listed = []
    for algorithm, some in digests.items():
        for basis in (state.head_basis, state.basis):
            stack = basis.stacks.get(algorithm)
            if stack is not None and stack.width == some.dtype.itemsize:
                listed.append({algorithm: stack.rows_of(some)})
    return {algorithm: rows for algorithm, rows in union(listed).items() if len(rows)}


def _published(
    state: ListState,
    move: Move,
    context: SettleContext,
    ended: list[HoldEnd],
    plan: str,
    *,
    reference: bool = False,
    ours: bool = False,
) -> Settled:
    """Finish an act that leaves the origin where the partner has it."""
    held = state.origin
    if held is None:
        raise StoreError(f"the catalog has no origin for {state.name}", hint="run `syncd verify`")
    draft = NextVersion(state, move, context)
    origin = draft.origin(replace(held, revision=held.revision + 1))
    change = draft.change(origin, None)
    origin = with_labels(origin, state.origin_labels, draft.labels, state)
    counts = change.counts if change else {}
    note = HeadNote(held.source, origin.serial, plan, None, counts, draft.labels, reference=reference, ours=ours)
    proposal = proposal_of(state, change, origin, context, note, ended=ended)
    return Settled(proposal, _reasons(state, (), ended))


def _passes_alone(state: ListState, move: Move, hold: HoldRecord, others: Iterable[HoldRecord]) -> bool:
    """Return True if the waiting rows of a lane would pass the gate without the hold that ends.

    That act is the new reference of the windows. Rows held for a label, or for one of `_OF_THEIR_OWN`, wait for an act
    of their own.
    """
    findings = [finding for other in others for finding in other.why]
    if any(finding.label or finding.reason in _OF_THEIR_OWN for finding in findings):
        return False
    retired = state.origin is not None and upstream_of(state.origin).retired is not None
    left = pending_of(replace(state, windows={}), move.waiting, grown=move.growth)
    verdict = gate.judge(replace(left, retired=retired), state.limits)
    return not isinstance(verdict.additions if hold.lane is Lane.ADDITIONS else verdict.removals, Hold)


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
    pin = state.origin.pin if state.origin else None
    if pin is not None:
        raise RefusedError(
            f"{state.name} is pinned to version {pin.version}, whose files were lost on this disk",
            hint=f"restore them from a backup, or run `syncd unpin {state.name} --reason R` and sync again",
            serving=f"{state.name} version {state.head.version}" if state.head else "",
        )
    hidden = _hidden_in(state, update)
    known = {a: state.suppressed.known_good.mask(a, rows.digests) for a, rows in hidden.items()}
    known_good = {a: int(mask.sum()) for a, mask in known.items() if mask.any()}
    judged = _with_canaries(pending_whole(state, update), state, update, known_good)
    judged = _judged(judged, state, update)
    closed = _closed_by_loss(state) if state.head and not accepted else {}  # a release covers those rows too
    verdict = gate.judge(judged, state.limits, closed, accepted)
    if verdict.reasons:
        return _hold_whole(state, update, context, verdict, released)
    origin = moved_origin(state, update, context)
    without = _without_suppressed(state, update, hidden)
    origin = replace(origin, owed=without.owed, waiting=without.waiting)
    change: ListChange | None = ListChange(
        list=state.name,
        segments=(),
        counts=without.counts,
        end_state=without.end_state,
        stack=without.stack,
        withheld=together(origin.waiting, {}),
        origin=origin_of(state, origin, whole=True),
        whole=state.head is not None,
        media=upstream.media,
        purpose=upstream.purpose,
    )
    if upstream.retired is not None:  # matchers need no warning about a list that was never published
        since = context.now if state.head else upstream.retired.since
        change = retirement(state, since, origin)
    take_over(state, without.stack)
    labels = labels_after(labels_after({}, update.growth), without.growth)
    origin = with_labels(origin, labels_after({}, update.growth), labels, state)
    reference = bool(accepted)
    note = HeadNote(update.source, origin.serial, candidate.plan, context.sync_id, {}, labels, reference=reference)
    ended = [*_ended_loss(state, context), *_ended_whole(state, update, released, context)]
    proposal = proposal_of(state, change, origin, context, note, ended=ended)
    settled = Settled(_marked(proposal, state), _reasons(state, (), ended), released.rows if released else 0)
    return replace(settled, known_good=known_good)


@dataclass(frozen=True)
class _Whole:
    """A whole stack as it is published: without the suppressed entries, which are owed."""

    stack: tuple[SegmentRef, ...]
    end_state: Mapping[Algorithm, EndState]
    counts: Mapping[Algorithm, Counts]
    growth: Mapping[Algorithm, Mapping[str, int]] = field(default_factory=dict)
    """by label: entries by which it differs from the partner's"""
    owed: tuple[SegmentRef, ...] = ()
    waiting: WithheldBy = field(default_factory=dict)


def _hidden_in(state: ListState, update: Update) -> RowsBy:
    """Return the rows of a whole update that are suppressed."""
    stacks = state.opened(update.candidate.stack)
    hidden = {algorithm: state.suppressed.rows_in(algorithm, stack) for algorithm, stack in stacks.items()}
    return {algorithm: rows for algorithm, rows in hidden.items() if len(rows)}


def _without_suppressed(state: ListState, update: Update, hidden: RowsBy) -> _Whole:
    """Return a whole update as it may be published."""
    candidate = update.candidate
    if not hidden:
        return _Whole(candidate.stack, candidate.end_state, candidate.counts)
    stacks = state.opened(candidate.stack)
    writer = RowWriter(state)
    removed = writer.write({algorithm: rows.as_removals() for algorithm, rows in hidden.items()}, public=True)
    counting = Counting.over(Basis(candidate.stack, stacks, candidate.end_state))
    counting.apply(open_segment(state.path(ref), ref) for ref in removed)
    counts = {
        algorithm: replace(count, added=count.added - len(hidden.get(algorithm, ())))
        for algorithm, count in candidate.counts.items()
    }
    return _Whole(
        stack=(*candidate.stack, *removed),
        end_state=counting.states,
        counts=counts,
        growth=counting.growth,
        owed=writer.write(hidden, public=False),
        waiting={algorithm: Withheld(suppressed=len(rows)) for algorithm, rows in hidden.items()},
    )


def _hold_whole(
    state: ListState,
    update: Update,
    context: SettleContext,
    verdict: Verdict,
    released: HoldRecord | None,
) -> Settled:
    """Hold a whole update. Origin and head do not move."""
    candidate = update.candidate
    record = update_record(update, context)
    segments = _segments_of(update)
    released_id = released.id if released else None
    same = [hold for hold in state.holds if hold.lane is Lane.BOTH and hold.segments == segments]
    if any(hold.id != released_id for hold in same):  # it waits already, or was discarded
        return Settled(None, _reasons(state, (), ()))
    hold = HoldRecord(
        list=state.name,
        source=update.source,
        lane=Lane.BOTH,
        reasons=verdict.reasons,
        findings=verdict.findings,
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
    return Settled(Proposal("hold", records=records, visible=False), verdict.reasons)


def _segments_of(update: Update) -> tuple[SegmentRef, ...]:
    """Return the segments that a whole hold of an update keeps."""
    candidate = update.candidate
    return candidate.stack if candidate.over is Over.NOTHING else candidate.delta


def _judged(judged: Pending, state: ListState, update: Update) -> Pending:
    """Add to a pending difference the facts about the update as a whole."""
    candidate, before = update.candidate, state.origin.serial if state.origin else RETRUSTED
    jump = candidate.ref.version - before if before != RETRUSTED else 0
    retired = candidate.manifest.retired is not None
    return replace(judged, forked=candidate.forked, retired=retired, serial_jump=jump)


def _with_canaries(
    judged: Pending,
    state: ListState,
    update: Update | Iterable[Segment] = (),
    known_good: Mapping[Algorithm, int] = MappingProxyType({}),
) -> Pending:
    """Add to a pending difference the canaries that it would change.

    ``update``: a whole one, or the segments of one over the origin.
    """
    must_have, missing = state.must_have, 0
    if must_have and isinstance(update, Update):
        missing = must_have.missing_from(segments_of(state.opened(update.candidate.stack)))
    elif must_have and not isinstance(update, Update):
        missing = _canaries_lost(state, update)
    return replace(judged, must_have=len(must_have), missing=missing, known_good=sum(known_good.values()))


def _canaries_lost(state: ListState, more: Iterable[Segment]) -> int:
    """Count the must-have digests of the head that it would lose if all that waits passed, and ``more`` with it."""
    must_have, more = state.must_have, tuple(more)
    head, origin = segments_of(state.head_basis.stacks), segments_of(state.basis.stacks, more)
    before = {algorithm: rows_of(head, algorithm, must_have) for algorithm in must_have.digests}
    after = {algorithm: rows_of(origin, algorithm, must_have) for algorithm in must_have.digests}
    after = {algorithm: rows.take(~state.suppressed.mask(algorithm, rows)) for algorithm, rows in after.items()}
    touched = keys_among(before, {a: merge_deltas(a, [s for s in more if s.algorithm == a]) for a in before})
    refused = {algorithm: mask & ~touched[algorithm] for algorithm, mask in keys_among(before, state.refused).items()}
    return must_have.lost(before, union([after, {a: rows.take(refused[a]) for a, rows in before.items()}]))


def _marked(proposal: Proposal[Records], state: ListState) -> Proposal[Records]:
    """Return a proposal that compares all rows again, with the known-good digests that this applies."""
    known = state.suppressed.known_good.name
    if state.mark is not None and state.mark.known_good == known:
        return proposal
    mark = replace(state.mark or KnownGoodMark(state.name), known_good=known)
    return replace(proposal, records=replace(proposal.records or Records(), marks=(mark,)))


def _counted(rows: RowsBy) -> dict[Algorithm, int]:
    return {algorithm: len(some) for algorithm, some in rows.items()}


def _passed(state: ListState, verdict: Verdict, waiting: WithheldBy) -> tuple[HoldRecord, ...]:
    """Return the open holds of the lanes that pass with rows in them: whatever waited there goes live."""
    lanes, counts = {Lane.ADDITIONS: verdict.additions, Lane.REMOVALS: verdict.removals}, lane_counts(waiting)
    return tuple(hold for hold in state.open_holds if isinstance(lanes.get(hold.lane), Pass) and counts.get(hold.lane))


def _rows_of(state: ListState, holds: Iterable[HoldRecord]) -> RowsBy:
    newest_first = sorted(holds, key=lambda waiting: waiting.id, reverse=True)
    return union(state.rows_of(waiting) for waiting in newest_first)  # the newest row of a key wins


def _ended_rows(state: ListState, move: Move, passed: Iterable[HoldRecord], context: SettleContext) -> list[HoldEnd]:
    """End the holds of the lanes that pass, and those that have no waiting rows left."""
    ended = [context.ended(hold, HoldState.PASSED) for hold in passed]
    ids = {end.id for end in ended}
    return [*ended, *(end for end in withdrawn(state, move, context) if end.id not in ids)]


def withdrawn(state: ListState, move: Move, context: SettleContext) -> list[HoldEnd]:
    """End the holds of lanes that have no waiting (or refused) rows left: the partner withdrew them."""
    left = {HoldState.OPEN: lane_counts(move.waiting), HoldState.DISCARDED: lane_counts(move.discarded)}
    return [
        context.ended(hold, HoldState.WITHDRAWN)
        for hold in state.holds
        if hold.lane is not Lane.BOTH and not left[hold.state][hold.lane] and not _to_be_seen(hold, state)
    ]


def _to_be_seen(hold: HoldRecord, state: ListState) -> bool:
    """Return True if a hold waits for an operator to look at it, though its rows are kept out in any case."""
    known = [finding for finding in hold.why if finding.reason is HoldReason.KNOWN_GOOD]
    return hold.state is HoldState.OPEN and any(found.rows > state.limits.max_known_good for found in known)


def _ended_whole(
    state: ListState, update: Update, released: HoldRecord | None, context: SettleContext
) -> list[HoldEnd]:
    """End the holds of whole updates when the origin moves: released, passed now, or left out by the partner.

    Discarded ones end too: they refer to a version that is no longer the held one.
    """

    def end(hold: HoldRecord) -> HoldState:
        if released and hold.id == released.id:
            return HoldState.RELEASED
        return HoldState.PASSED if hold.segments == _segments_of(update) else HoldState.WITHDRAWN

    return [context.ended(hold, end(hold)) for hold in state.holds if hold.lane is Lane.BOTH]


def _ended_loss(state: ListState, context: SettleContext) -> list[HoldEnd]:
    """End the holds whose rows were lost on this disk. Rows that still wait are held again."""
    return [context.ended(hold, HoldState.REPLACED) for hold in state.holds if hold.lane is not Lane.BOTH]


def _closed_by_loss(state: ListState) -> dict[Lane, tuple[Finding, ...]]:
    """Return the lanes to keep closed after the rows of holds were lost: losing files never opens the gate."""
    closed = state.closed()
    for hold in state.holds:
        if hold.state is HoldState.DISCARDED and hold.lane is not Lane.BOTH and state.origin and state.origin.discarded:
            closed[hold.lane] = (*closed.get(hold.lane, ()), *hold.why)
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
        labels=None,
        end_state=state.head.end_state if state.head else {},
    )
    return replace(state, origin=alike)


def _reasons(state: ListState, opened: Iterable[HoldRecord], ended: Iterable[HoldEnd]) -> tuple[HoldReason, ...]:
    ended_ids = {end.id for end in ended}
    waiting = [*(hold for hold in state.open_holds if hold.id not in ended_ids), *opened]
    return tuple(dict.fromkeys(reason for hold in waiting for reason in hold.reasons))


def _others(state: ListState, hold: HoldRecord) -> tuple[HoldRecord, ...]:
    return tuple(other for other in state.holds_of(hold.lane) if other.id != hold.id)


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
