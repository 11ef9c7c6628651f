"""Applying recent deltas again, as far back as the stack still holds each of them."""

from collections.abc import Mapping, Sequence
from typing import Final

from syncd.errors import MismatchError
from syncd.feed.folder import FeedFolder
from syncd.format.checksum import Checksum
from syncd.format.delta import drop_empty, end_state_after
from syncd.format.manifest import EndState, Manifest, SegmentRef, Step
from syncd.format.segment import Segment
from syncd.format.stack import Effect, Stack
from syncd.model import Algorithm, Counts

DRIFTED: Final = "its publisher's state has drifted: ask the publisher to publish the whole list again"


def replay(folder: FeedFolder, manifest: Manifest) -> int:
    """Undo the recent deltas, newest first; check each against its signed counts and end state. Return how many.

    Ends at the first that was folded, and at a version without a delta, which may be a fold: its result can have the
    same bytes as an older delta (rows that came, went and came again) and yet mean something else. The stack's
    segments and the end state must be proved before. Raises `MismatchError`.
    """
    refs: tuple[SegmentRef, ...] = manifest.stack
    state: Mapping[Algorithm, EndState] = manifest.end_state
    count = 0
    for step in reversed(manifest.recent):
        below = refs[: len(refs) - len(step.segments)]
        if refs[len(below) :] != step.segments:
            break
        if dict(step.end_state) != drop_empty(state):
            raise _drifted(manifest, step, "end state")
        effects = _effects(folder, manifest, below, step.segments)
        if _counts(effects) != {algorithm: count for algorithm, count in step.counts.items() if count.rows}:
            raise _drifted(manifest, step, "counts")
        state, refs = _before(state, effects), below
        count += 1
        if not step.segments:
            break
    return count


def applied(
    folder: FeedFolder, before: Manifest, delta: Sequence[SegmentRef]
) -> tuple[dict[Algorithm, EndState], dict[Algorithm, Counts]]:
    """Apply a delta to a version; return the end state that it gives, and its counts."""
    effects = _effects(folder, before, before.stack, delta)
    state = dict(before.end_state)
    for algorithm, effect in effects:
        state[algorithm] = end_state_after(state.get(algorithm), effect)
    return state, {algorithm: count for algorithm, count in _counts(effects).items() if count.rows}


def _effects(
    folder: FeedFolder, manifest: Manifest, below: Sequence[SegmentRef], delta: Sequence[SegmentRef]
) -> list[tuple[Algorithm, Effect]]:
    """Return the effect of each segment of a delta on the stack below it."""
    effects = []
    held = list(below)
    for ref in delta:
        segments = [_open(folder, manifest, lower) for lower in held if lower.algorithm == ref.algorithm]
        effect = Stack(ref.algorithm, segments).effect(_open(folder, manifest, ref).rows())
        effects.append((ref.algorithm, effect))
        held.append(ref)
    return effects


def _open(folder: FeedFolder, manifest: Manifest, ref: SegmentRef) -> Segment:
    return Segment.open(folder.segment_path(manifest.list, ref), ref)


def _counts(effects: Sequence[tuple[Algorithm, Effect]]) -> dict[Algorithm, Counts]:
    counts: dict[Algorithm, Counts] = {}
    for algorithm, effect in effects:
        counts[algorithm] = counts.get(algorithm, Counts()) + effect.counts
    return counts


def _before(
    state: Mapping[Algorithm, EndState], effects: Sequence[tuple[Algorithm, Effect]]
) -> dict[Algorithm, EndState]:
    before = dict(state)
    for algorithm, effect in effects:
        after = before.get(algorithm) or EndState(rows=0, checksum=str(Checksum()))
        total = Checksum.parse(after.checksum) - effect.change
        before[algorithm] = EndState(rows=after.rows - effect.counts.growth, checksum=str(total))
    return before


def _drifted(manifest: Manifest, step: Step, what: str) -> MismatchError:
    return MismatchError(
        f"the delta of {manifest.list} version {step.version} does not give the signed {what}", hint=DRIFTED
    )
