"""Compaction: keeping stacks short. Sizes alone decide what to fold; folding never changes the end state.

Young deltas are folded together once there are `RUN` of similar size, so that each row is rewritten a logarithmic
number of times; a whole stack is folded into a new base once its deltas reach an eighth of its size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from syncd.errors import StoreError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.files import sha256_file
from syncd.format.checksum import Checksum
from syncd.format.delta import state_of
from syncd.format.manifest import EndState, Fold, Manifest, SegmentRef
from syncd.format.segment import Segment
from syncd.format.stack import Stack, merge_deltas
from syncd.format.writer import fold
from syncd.publish.change import ListChange

RUN: Final = 8
"""Deltas of similar size that are folded into one."""
LIKE: Final = 4
"""An older delta joins a run if it has at most this many times the run's rows."""
BASE_SHARE: Final = 8
"""The whole stack is folded once its deltas have a ``BASE_SHARE``-th of its base's rows."""
HEAVY: Final = 1 << 16
"""Rows from which deltas of half the base's rows are folded into it, however few deltas there are."""
LONGEST: Final = 24
"""The most segments in one stack."""


def run_to_fold(refs: Sequence[SegmentRef], *, everything: bool = False) -> tuple[SegmentRef, ...]:
    """Return the segments of one algorithm's stack to fold: a run that ends with the newest, or (). Pure."""
    deltas = [ref for ref in refs if ref.kind == "delta"]
    changed = sum(ref.rows for ref in deltas)
    base = sum(ref.rows for ref in refs) - changed
    if not deltas:
        return ()
    if everything or len(refs) > LONGEST or (changed >= HEAVY and 2 * changed >= base):
        return tuple(refs)
    if len(deltas) < RUN:
        return ()
    if BASE_SHARE * changed >= base:
        return tuple(refs)
    run: list[SegmentRef] = []
    rows = 0
    for ref in reversed(deltas):
        if run and ref.rows > LIKE * rows:
            break
        run.insert(0, ref)
        rows += ref.rows
    return tuple(run) if len(run) >= RUN else ()


def is_fold_due(stack: Iterable[SegmentRef]) -> bool:
    """Return True if some segments of a stack are to be folded. Pure."""
    by_algorithm: dict[str, list[SegmentRef]] = {}
    for ref in stack:
        by_algorithm.setdefault(ref.algorithm, []).append(ref)
    return any(run_to_fold(refs) for refs in by_algorithm.values())


def rows_to_fold(manifest: Manifest, *, everything: bool = False) -> int:
    """Return the rows of all segments of a version that are to be folded. Pure."""
    algorithms = dict.fromkeys(ref.algorithm for ref in manifest.stack)
    runs = (run_to_fold(manifest.segments_of(algorithm), everything=everything) for algorithm in algorithms)
    return sum(ref.rows for run in runs for ref in run)


class FoldStacks(Protocol):
    """Folds what is due: `fold_due`, or the same somewhere else."""

    def __call__(self, feed: FeedFolder, manifest: Manifest, *, everything: bool = False) -> "Folds":
        """See `fold_due`."""
        ...


@dataclass(frozen=True)
class Folded:
    """A run of one algorithm's segments, and the segment they were folded into; None if no row was left."""

    run: tuple[SegmentRef, ...]
    output: SegmentRef | None


@dataclass(frozen=True)
class Folds:
    """All folded runs of one list, made outside any lock."""

    folded: tuple[Folded, ...]

    def __bool__(self) -> bool:
        return bool(self.folded)

    def change_of(self, manifest: Manifest) -> ListChange | None:
        """Return the change that puts the folds into the stack of ``manifest``; None if it has none of the runs.

        The list may have moved in the meantime: newer deltas stay on top. Pure.
        """
        stack: list[SegmentRef] = []
        folds: list[Fold] = []
        for algorithm in dict.fromkeys(ref.algorithm for ref in manifest.stack):
            refs = manifest.segments_of(algorithm)
            for folded in self.folded:
                at = _position(refs, folded.run)
                if at is not None:
                    output = () if folded.output is None else (folded.output,)
                    refs = (*refs[:at], *output, *refs[at + len(folded.run) :])
                    inputs = tuple(ref.sha256 for ref in folded.run)
                    folds += [Fold(output=ref.sha256, inputs=inputs) for ref in output]
            stack += refs
        if len(stack) == len(manifest.stack):
            return None
        return ListChange(
            manifest.list,
            segments=(),
            counts={},
            end_state=manifest.end_state,
            stack=tuple(stack),
            folds=tuple(folds),
            origin=manifest.origin,
            withheld=manifest.withheld,
        )


def _position(refs: Sequence[SegmentRef], run: tuple[SegmentRef, ...]) -> int | None:
    """Return the last index of a run in a stack, which may name one file twice; None if it is not there."""
    starts = range(len(refs) - len(run), -1, -1)
    return next((at for at in starts if tuple(refs[at : at + len(run)]) == run), None)


def fold_due(feed: FeedFolder, manifest: Manifest, *, everything: bool = False) -> Folds:
    """Fold the runs that are due in the stacks of ``manifest``, and put the results into the store.

    Needs no lock: the scratch folder is its own, and nothing names the results until they are published. Raises
    `StoreError` if folding would change the end state.
    """
    folded = []
    for algorithm in dict.fromkeys(ref.algorithm for ref in manifest.stack):
        refs = manifest.segments_of(algorithm)
        run = run_to_fold(refs, everything=everything)
        if run:
            kept = refs[: len(refs) - len(run)]  # by position: a stack may name one file twice
            with feed.scratch(f"folding {manifest.list}") as scratch:
                folded.append(Folded(run, _fold(feed, manifest, kept, run, scratch / "fold")))
    return Folds(tuple(folded))


def _fold(
    feed: FeedFolder,
    manifest: Manifest,
    kept: tuple[SegmentRef, ...],
    run: tuple[SegmentRef, ...],
    path: Path,
) -> SegmentRef | None:
    algorithm = run[0].algorithm
    inputs = _open(feed, manifest, run)
    output = fold(inputs, "delta" if kept else "base", path)
    folded = [Segment.open(path, output)] if output else []
    if kept:
        same = _are_undamaged(inputs) and _has_same_effect(_open(feed, manifest, kept), inputs, folded)
    else:
        same = _gives_end_state(manifest, Stack(algorithm, folded))
    if not same:
        raise StoreError(
            f"folding {manifest.list} version {manifest.version} does not give its end state",
            hint="`syncd verify` names the damaged files: in a state, remove all that it names below feed/ and "
            "sources/, then sync; in a partner's feed, restore them from a backup or a mirror. The published version "
            "stays as it is",
        )
    if output is not None:
        feed.store.adopt(path, layout.segment_path(manifest.list, output.sha256))
    return output


def _open(folder: FeedFolder, manifest: Manifest, refs: Sequence[SegmentRef]) -> list[Segment]:
    return [Segment.open(folder.segment_path(manifest.list, ref), ref) for ref in refs]


def _are_undamaged(inputs: Sequence[Segment]) -> bool:
    """Check the hashes of segments: damaged rows would be in both stacks, and be signed under the fold's new hash."""
    return all(sha256_file(segment.path) == segment.ref.sha256 for segment in inputs)


def _has_same_effect(below: Sequence[Segment], inputs: Sequence[Segment], folded: Sequence[Segment]) -> bool:
    """Compare every row of the deltas in the stack with them and in the stack with their fold; no other row changes."""
    rows = merge_deltas(inputs[0].algorithm, inputs)
    before, after = (Stack(rows.algorithm, [*below, *deltas]).resolve(rows) for deltas in (inputs, folded))
    alike = (before.present == after.present).all() and before.current.same_labels(after.current).all()
    return bool(alike) and len(rows) == sum(map(len, folded))


def _gives_end_state(manifest: Manifest, stack: Stack) -> bool:
    """Read a new base again and compare it with the signed end state, before the old base is given up."""
    stated = manifest.end_state.get(stack.algorithm) or EndState(rows=0, checksum=str(Checksum()))
    return state_of(stack.totals()) == stated
