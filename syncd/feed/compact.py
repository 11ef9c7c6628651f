"""Compaction: keeping stacks short. What to fold is decided from sizes alone; folding changes no end state.

Young deltas are folded together once there are `RUN` of a like size, so that a row is rewritten a logarithmic number of
times; all of a stack is folded into a new base once its deltas come to an eighth of it.
"""

from collections.abc import Sequence
from typing import Final

from syncd.errors import StoreError
from syncd.feed.folder import FeedFolder
from syncd.feed.publish import ListChange
from syncd.files import install_file, sha256_file
from syncd.format.checksum import Checksum
from syncd.format.fold import fold
from syncd.format.manifest import EndState, Fold, Manifest, SegmentRef
from syncd.format.segment import Segment
from syncd.format.stack import Stack, merge_deltas

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


def compact(folder: FeedFolder, manifest: Manifest, *, everything: bool = False) -> ListChange | None:
    """Fold what is due in the stacks of ``manifest``, install the results, and return the change; None: nothing is due.

    Call with the folder's lock held. The end state stays; `StoreError` says where folding would change it.
    """
    stack: list[SegmentRef] = []
    folds: list[Fold] = []
    for algorithm in dict.fromkeys(ref.algorithm for ref in manifest.stack):
        refs = manifest.segments_of(algorithm)
        run = run_to_fold(refs, everything=everything)
        kept = refs[: len(refs) - len(run)]  # by place: one file may lie in a stack twice
        stack += kept
        with folder.giving_way():
            output = _fold(folder, manifest, kept, run) if run else None
        if output is not None:
            stack.append(output)
            folds.append(Fold(output=output.sha256, inputs=tuple(ref.sha256 for ref in run)))
    if len(stack) == len(manifest.stack):
        return None
    return ListChange(manifest.list, (), {}, manifest.end_state, tuple(stack), tuple(folds), manifest.origin)


def _fold(
    folder: FeedFolder, manifest: Manifest, kept: tuple[SegmentRef, ...], run: tuple[SegmentRef, ...]
) -> SegmentRef | None:
    algorithm = run[0].algorithm
    path = folder.make_staging() / "fold"
    inputs = _open(folder, manifest, run)
    output = fold(inputs, "delta" if kept else "base", path)
    folded = [Segment.open(path, output)] if output else []
    if kept:
        same = _are_whole(inputs) and _means_the_same(_open(folder, manifest, kept), inputs, folded)
    else:
        same = _gives_end_state(manifest, Stack(algorithm, folded))
    if not same:
        raise StoreError(
            f"folding {manifest.list} version {manifest.version} does not give its end state",
            hint="run `syncd verify`: a segment on this disk is damaged; what is published stays as it is",
        )
    if output is not None:
        target = folder.segment_path(manifest.list, output)
        if not target.exists():
            install_file(path, target)
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
    rows, total = stack.total()
    stated = manifest.end_state.get(stack.algorithm) or EndState(rows=0, checksum=str(Checksum()))
    return (rows, str(total)) == (stated.rows, stated.checksum)
