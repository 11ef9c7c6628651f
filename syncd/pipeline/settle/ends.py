"""The holds of a list that end when it is settled, and the lanes that open ones keep closed."""

from collections.abc import Iterable

from syncd.catalog.decisions import HoldEnd, HoldRecord, HoldState
from syncd.format.manifest import SegmentRef
from syncd.outcomes import Finding, HoldReason, Lane
from syncd.pipeline.heads import ListState
from syncd.pipeline.keyed import RowsBy, WithheldBy, lane_counts, union
from syncd.pipeline.move import Move
from syncd.pipeline.next_version import SettleContext
from syncd.pipeline.values import Over, Pass, Update, Verdict


def withdrawn(state: ListState, move: Move, context: SettleContext) -> list[HoldEnd]:
    """End the holds of lanes that have no waiting (or refused) rows left: the partner withdrew them.

    Rows that wait are not withdrawn by being suppressed: they would return with the end of the suppression.
    """
    left = {HoldState.OPEN: lane_counts(move.waiting), HoldState.DISCARDED: lane_counts(move.discarded)}
    return [
        context.ended(hold, HoldState.WITHDRAWN)
        for hold in state.holds
        if hold.lane is not Lane.BOTH
        and not left[hold.state][hold.lane]
        and not _to_be_seen(hold, state)
        and not (hold.state is HoldState.OPEN and move.states_suppressed(state.rows_of(hold)))
    ]


def _to_be_seen(hold: HoldRecord, state: ListState) -> bool:
    """Return True if a hold waits for an operator to look at it, though its rows are kept out in any case."""
    known = [finding for finding in hold.why if finding.reason is HoldReason.KNOWN_GOOD]
    return hold.state is HoldState.OPEN and any(found.rows > state.limits.max_known_good for found in known)


def passing_holds(state: ListState, verdict: Verdict, waiting: WithheldBy) -> tuple[HoldRecord, ...]:
    """Return the open holds of the lanes that pass with rows in them: whatever waited there goes live."""
    lanes, counts = {Lane.ADDITIONS: verdict.additions, Lane.REMOVALS: verdict.removals}, lane_counts(waiting)
    return tuple(hold for hold in state.open_holds if isinstance(lanes.get(hold.lane), Pass) and counts.get(hold.lane))


def rows_of_holds(state: ListState, holds: Iterable[HoldRecord]) -> RowsBy:
    """Return the rows of several holds, sorted."""
    newest_first = sorted(holds, key=lambda waiting: waiting.id, reverse=True)
    return union(state.rows_of(waiting) for waiting in newest_first)  # the newest row of a key wins


def ended_rows(state: ListState, move: Move, passed: Iterable[HoldRecord], context: SettleContext) -> list[HoldEnd]:
    """End the holds of the lanes that pass, and those that have no waiting rows left."""
    ended = [context.ended(hold, HoldState.PASSED) for hold in passed]
    ids = {end.id for end in ended}
    return [*ended, *(end for end in withdrawn(state, move, context) if end.id not in ids)]


def ended_whole(state: ListState, update: Update, released: HoldRecord | None, context: SettleContext) -> list[HoldEnd]:
    """End the holds of whole updates when the origin moves: released, passed now, or left out by the partner.

    Discarded ones end too: they refer to a version that is no longer the held one.
    """

    def end(hold: HoldRecord) -> HoldState:
        if released and hold.id == released.id:
            return HoldState.RELEASED
        return HoldState.PASSED if hold.segments == segments_held_of(update) else HoldState.WITHDRAWN

    return [context.ended(hold, end(hold)) for hold in state.holds if hold.lane is Lane.BOTH]


def ended_loss(state: ListState, context: SettleContext) -> list[HoldEnd]:
    """End the holds whose rows were lost on this disk. Rows that still wait are held again."""
    return [context.ended(hold, HoldState.REPLACED) for hold in state.holds if hold.lane is not Lane.BOTH]


def closed_by_loss(state: ListState) -> dict[Lane, tuple[Finding, ...]]:
    """Return the lanes to keep closed after the rows of holds were lost: losing files never opens the gate."""
    closed = state.closed()
    for hold in state.holds:
        if hold.state is HoldState.DISCARDED and hold.lane is not Lane.BOTH and state.origin and state.origin.discarded:
            closed[hold.lane] = (*closed.get(hold.lane, ()), *hold.why)
    return closed


def segments_held_of(update: Update) -> tuple[SegmentRef, ...]:
    """Return the segments that a whole hold of an update keeps."""
    candidate = update.candidate
    return candidate.stack if candidate.over is Over.NOTHING else candidate.delta
