"""Compaction: keeping stacks short. What to fold is decided from sizes alone; folding changes no end state.

Young deltas are folded together once there are `RUN` of a like size, so that a row is rewritten a logarithmic number of
times; all of a stack is folded into a new base once its deltas come to an eighth of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
"""Deltas of a like size that are folded into one."""
LIKE: Final = 4
"""An older delta joins a run where it has at most this many times the run's rows."""
BASE_SHARE: Final = 8
"""The whole stack is folded once its deltas have this fraction of its base's rows."""
HEAVY: Final = 1 << 16
"""Delta rows from which half of a base is reason enough, however few the deltas."""
LONGEST: Final = 24
"""Segments of one stack, at most."""


def run_to_fold(refs: Sequence[SegmentRef], *, everything: bool = False) -> tuple[SegmentRef, ...]:
    """Return the segments of one algorithm's stack to fold: a run up to its newest, or (). Pure."""
    deltas = [ref for ref in refs if ref.kind == "delta"]
    changed = sum(ref.rows for ref in deltas)
    floor = sum(ref.rows for ref in refs) - changed
    if not deltas:
        return ()
    if everything or len(refs) > LONGEST or (changed >= HEAVY and 2 * changed >= floor):
        return tuple(refs)
    if len(deltas) < RUN:
        return ()
    if BASE_SHARE * changed >= floor:
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
    """True if some segments of a stack are to be folded. Pure."""
    by_algorithm: dict[str, list[SegmentRef]] = {}
    for ref in stack:
        by_algorithm.setdefault(ref.algorithm, []).append(ref)
    return any(run_to_fold(refs) for refs in by_algorithm.values())


@dataclass(frozen=True)
class Folded:
    """A run of one algorithm's segments, and what they were folded into; None: no row was left."""

    run: tuple[SegmentRef, ...]
    output: SegmentRef | None


@dataclass(frozen=True)
class Folds:
    """What was folded of one list, outside any lock."""

    folded: tuple[Folded, ...]

    def __bool__(self) -> bool:
        return bool(self.folded)

    def change_of(self, manifest: Manifest) -> ListChange | None:
        """Return the change that puts the folds into the stack of ``manifest``; None if none of the runs is there now.

        The list may have moved since: deltas that came on top stay there. Pure.
        """
        stack: list[SegmentRef] = []
        folds: list[Fold] = []
        for algorithm in dict.fromkeys(ref.algorithm for ref in manifest.stack):
            refs = manifest.segments_of(algorithm)
            for one in self.folded:
                at = _place(refs, one.run)
                if at is not None:
                    output = () if one.output is None else (one.output,)
                    refs = (*refs[:at], *output, *refs[at + len(one.run) :])
                    folds += [Fold(output=ref.sha256, inputs=tuple(ref.sha256 for ref in one.run)) for ref in output]
            stack += refs
        if len(stack) == len(manifest.stack):
            return None
        return ListChange(
            manifest.list,
            (),
            {},
            manifest.end_state,
            tuple(stack),
            tuple(folds),
            manifest.origin,
            withheld=manifest.withheld,
        )


def _place(refs: Sequence[SegmentRef], run: tuple[SegmentRef, ...]) -> int | None:
    """Where a run lies in a stack; the last place, since one file may lie there twice."""
    places = range(len(refs) - len(run), -1, -1)
    return next((at for at in places if tuple(refs[at : at + len(run)]) == run), None)


def fold_due(feed: FeedFolder, manifest: Manifest, *, everything: bool = False) -> Folds:
    """Fold what is due in the stacks of ``manifest``, and put the results into the store.

    Needs no lock: its scratch is its own, and nothing names the results until they are published. The end state stays;
    raises `StoreError` if folding would change it.
    """
    folded = []
    for algorithm in dict.fromkeys(ref.algorithm for ref in manifest.stack):
        refs = manifest.segments_of(algorithm)
        run = run_to_fold(refs, everything=everything)
        if run:
            kept = refs[: len(refs) - len(run)]  # by place: one file may lie in a stack twice
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
        same = _are_whole(inputs) and _means_the_same(_open(feed, manifest, kept), inputs, folded)
    else:
        same = _gives_end_state(manifest, Stack(algorithm, folded))
    if not same:
        raise StoreError(
            f"folding {manifest.list} version {manifest.version} does not give its end state",
            hint="run `syncd verify`: a segment on this disk is damaged; what is published stays as it is",
        )
    if output is not None:
        feed.store.adopt(path, layout.segment_path(manifest.list, output.sha256))
    return output


def _open(folder: FeedFolder, manifest: Manifest, refs: Sequence[SegmentRef]) -> list[Segment]:
    return [Segment.open(folder.segment_path(manifest.list, ref), ref) for ref in refs]


def _are_whole(inputs: Sequence[Segment]) -> bool:
    """What the disk has damaged since would be in both stacks, and go out under a new hash as if it had been signed."""
    return all(sha256_file(one.path) == one.ref.sha256 for one in inputs)


def _means_the_same(below: Sequence[Segment], inputs: Sequence[Segment], folded: Sequence[Segment]) -> bool:
    """Look every row that deltas have up in the stack with them and in that with their fold: no other is touched."""
    rows = merge_deltas(inputs[0].algorithm, inputs)
    before, after = (Stack(rows.algorithm, [*below, *deltas]).resolve(rows) for deltas in (inputs, folded))
    alike = (before.present == after.present).all() and before.current.same_labels(after.current).all()
    return bool(alike) and len(rows) == sum(map(len, folded))


def _gives_end_state(manifest: Manifest, stack: Stack) -> bool:
    """Read a new base once more before the old one is let go."""
    stated = manifest.end_state.get(stack.algorithm) or EndState(rows=0, checksum=str(Checksum()))
    return state_of(stack.totals()) == stated
