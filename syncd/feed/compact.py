"""Compaction: keeping stacks short. What to fold is decided from sizes alone; folding changes no end state.

Young deltas are folded together once there are `RUN` of a like size, so that a row is rewritten a logarithmic number of
times; all of a stack is folded into a new base once its deltas come to an eighth of it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from syncd.errors import MismatchError
from syncd.feed.folder import FeedFolder
from syncd.feed.publish import ListChange
from syncd.files import install_file
from syncd.format.checksum import Checksum
from syncd.format.fold import fold
from syncd.format.manifest import EndState, Fold, Manifest, SegmentRef
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.model import Algorithm

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

    Call with the folder's lock held. The end state stays; `MismatchError` says where folding would change it.
    """
    stack = list(manifest.stack)
    folds: list[Fold] = []
    for algorithm in sorted({ref.algorithm for ref in stack}):
        run = run_to_fold(manifest.segments_of(algorithm), everything=everything)
        if not run:
            continue
        output = _fold(folder, manifest, run)
        place = stack.index(run[0])
        stack = [ref for ref in stack if ref not in run]
        if output is not None:
            stack.insert(place, output)
            folds.append(Fold(output=output.sha256, inputs=tuple(ref.sha256 for ref in run)))
    if tuple(stack) == manifest.stack:
        return None
    return ListChange(manifest.list, (), {}, manifest.end_state, tuple(stack), tuple(folds), manifest.origin)


def _fold(folder: FeedFolder, manifest: Manifest, run: tuple[SegmentRef, ...]) -> SegmentRef | None:
    algorithm = run[0].algorithm
    whole = run == manifest.segments_of(algorithm)
    path = folder.make_staging() / "fold"
    inputs = [Segment.open(folder.segment_path(manifest.list, ref), ref) for ref in run]
    output = fold(inputs, "base" if whole else "delta", path)
    if whole:
        _check_total(manifest, algorithm, output, path)
    if output is not None:
        target = folder.segment_path(manifest.list, output)
        if not target.exists():
            install_file(path, target)
    return output


def _check_total(manifest: Manifest, algorithm: Algorithm, output: SegmentRef | None, path: Path) -> None:
    """Read a new base once more before the old one is let go."""
    stack = Stack(algorithm, [Segment.open(path, output)] if output else [])
    rows, total = stack.total()
    stated = manifest.end_state.get(algorithm) or EndState(rows=0, checksum=str(Checksum()))
    if (rows, str(total)) != (stated.rows, stated.checksum):
        raise MismatchError(
            f"folding {manifest.list} version {manifest.version} does not give its end state",
            hint="run `syncd verify`: a segment on this disk is damaged; what is published stays as it is",
        )
