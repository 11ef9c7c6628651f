"""Settling a whole list: its first version, or the first one after its segments were lost on this disk."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from syncd.catalog.changes import HeadNote, OriginMove, Records
from syncd.catalog.decisions import HoldRecord, HoldState
from syncd.errors import RefusedError
from syncd.feed.snapshot import open_segment
from syncd.format.manifest import EndState, SegmentRef, Withheld
from syncd.model import Algorithm, Counts
from syncd.outcomes import HoldReason, Lane
from syncd.pipeline import gate
from syncd.pipeline.counting import Counting
from syncd.pipeline.heads import ListState
from syncd.pipeline.keyed import RowsBy, WithheldBy, together
from syncd.pipeline.next_version import (
    RowWriter,
    SettleContext,
    answers_of,
    moved_origin,
    origin_of,
    proposal_of,
    retirement,
    take_over,
    update_record,
    with_labels,
)
from syncd.pipeline.pending import labels_after, limited_labels, pending_whole
from syncd.pipeline.settle.ends import closed_by_loss, ended_loss, ended_whole, segments_held_of
from syncd.pipeline.settle.result import Settled, marked, reasons_left, with_canaries, with_update
from syncd.pipeline.values import Basis, Update, Verdict
from syncd.publish.change import ListChange
from syncd.publish.publication import Proposal


def settle_whole(
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
            hint="bring its segments back from a matcher's copy, a mirror or a backup into the feed's folder, then "
            "sync again",
            serving=f"{state.name} version {state.head.version}" if state.head else "",
        )
    hidden = _hidden_in(state, update)
    known = {a: state.suppressed.known_good.mask(a, rows.digests) for a, rows in hidden.items()}
    known_good = {a: int(mask.sum()) for a, mask in known.items() if mask.any()}
    judged = with_canaries(pending_whole(state, update), state, update, known_good)
    judged = with_update(judged, state, update)
    closed = closed_by_loss(state) if state.head and not accepted else {}  # a release covers those rows too
    verdict = gate.judge(judged, state.limits, closed, accepted)
    if verdict.reasons:
        return hold_whole(state, update, context, verdict, released)
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
    note = HeadNote(
        update.source,
        origin.serial,
        candidate.plan,
        context.sync_id,
        net=_net_effect(state, without.end_state),
        labels=labels,
        reference=reference,
        limited=limited_labels(state, labels),
    )
    ended = [*ended_loss(state, context), *ended_whole(state, update, released, context)]
    proposal = proposal_of(state, change, origin, context, note, ended=ended, update=update)
    settled = Settled(marked(proposal, state), reasons_left(state, (), ended), released.rows if released else 0)
    return replace(settled, known_good=known_good)


def _net_effect(state: ListState, after: Mapping[Algorithm, EndState]) -> dict[Algorithm, Counts]:
    """Return the net change of the entries. A head without any, such as a retired one, begins again: no change."""
    before = state.head.end_state if state.head else {}
    if not any(end.rows for end in before.values()):
        return {algorithm: Counts() for algorithm in after}
    grown = {
        a: (after[a].rows if a in after else 0) - (before[a].rows if a in before else 0) for a in {*before, *after}
    }
    return {algorithm: Counts(added=max(0, more), removed=max(0, -more)) for algorithm, more in sorted(grown.items())}


@dataclass(frozen=True)
class _WithoutSuppressed:
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


def _without_suppressed(state: ListState, update: Update, hidden: RowsBy) -> _WithoutSuppressed:
    """Return a whole update as it may be published."""
    candidate = update.candidate
    if not hidden:
        return _WithoutSuppressed(candidate.stack, candidate.end_state, candidate.counts)
    stacks = state.opened(candidate.stack)
    writer = RowWriter(state)
    removed = writer.write({algorithm: rows.as_removals() for algorithm, rows in hidden.items()}, public=True)
    counting = Counting.over(Basis(candidate.stack, stacks, candidate.end_state))
    counting.apply(open_segment(state.path(ref), ref) for ref in removed)
    counts = {
        algorithm: replace(count, added=count.added - len(hidden.get(algorithm, ())))
        for algorithm, count in candidate.counts.items()
    }
    return _WithoutSuppressed(
        stack=(*candidate.stack, *removed),
        end_state=counting.states,
        counts=counts,
        growth=counting.growth,
        owed=writer.write(hidden, public=False),
        waiting={algorithm: Withheld(suppressed=len(rows)) for algorithm, rows in hidden.items()},
    )


def hold_whole(
    state: ListState,
    update: Update,
    context: SettleContext,
    verdict: Verdict,
    released: HoldRecord | None,
) -> Settled:
    """Hold a whole update. Origin and head do not move."""
    candidate = update.candidate
    record = update_record(update, context)
    segments = segments_held_of(update)
    released_id = released.id if released else None
    same = [hold for hold in state.holds if hold.lane is Lane.BOTH and hold.segments == segments]
    if any(hold.id != released_id for hold in same):  # it waits already, or was discarded
        return Settled(None, reasons_left(state, (), ()))
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
    records = Records(
        moves, audit=context.audit, update=record, opened=(hold,), ended=tuple(ended), answers=answers_of(update)
    )
    return Settled(Proposal("hold", records=records, visible=False), verdict.reasons)
