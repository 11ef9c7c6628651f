"""Applying recent deltas again, as far back as the stack still holds them one by one."""

from collections.abc import Mapping, Sequence

from syncd.errors import MismatchError
from syncd.feed.folder import FeedFolder
from syncd.format.checksum import Checksum
from syncd.format.delta import drop_empty
from syncd.format.manifest import EndState, Manifest, SegmentRef, Step
from syncd.format.segment import Segment
from syncd.format.stack import Effect, Stack
from syncd.model import Algorithm, Counts


def replay(folder: FeedFolder, manifest: Manifest) -> int:
    """Undo the recent deltas, newest first, and hold each against its signed counts and end state; return how many.

    Ends at the first that was folded, and at a version without a delta, which may have folded: what it made of older
    deltas may have the bytes of one of them (rows that came, went and came again), and does not mean the same. The
    stack's segments and the end state are proved before. Raises `MismatchError`.
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


def _effects(
    folder: FeedFolder, manifest: Manifest, below: Sequence[SegmentRef], delta: Sequence[SegmentRef]
) -> list[tuple[Algorithm, Effect]]:
    """What each segment of a delta does to the stack below it."""
    found = []
    held = list(below)
    for ref in delta:
        segments = [_open(folder, manifest, one) for one in held if one.algorithm == ref.algorithm]
        effect = Stack(ref.algorithm, segments).effect(_open(folder, manifest, ref).rows())
        found.append((ref.algorithm, effect))
        held.append(ref)
    return found


def _open(folder: FeedFolder, manifest: Manifest, ref: SegmentRef) -> Segment:
    return Segment.open(folder.segment_path(manifest.list, ref), ref)


def _counts(effects: Sequence[tuple[Algorithm, Effect]]) -> dict[Algorithm, Counts]:
    found: dict[Algorithm, Counts] = {}
    for algorithm, effect in effects:
        found[algorithm] = found.get(algorithm, Counts()) + effect.counts
    return found


def _before(
    state: Mapping[Algorithm, EndState], effects: Sequence[tuple[Algorithm, Effect]]
) -> dict[Algorithm, EndState]:
    found = dict(state)
    for algorithm, effect in effects:
        after = found.get(algorithm) or EndState(rows=0, checksum=str(Checksum()))
        total = Checksum.parse(after.checksum) - effect.change
        found[algorithm] = EndState(rows=after.rows - effect.counts.growth, checksum=str(total))
    return found


def _drifted(manifest: Manifest, step: Step, what: str) -> MismatchError:
    return MismatchError(
        f"the delta of {manifest.list} version {step.version} does not give the {what} that was signed",
        hint="its publisher's state has drifted: it should publish the list whole",
    )
