"""Staging: build the candidate for the next origin from fetched segments, and check it against the signed counts.

A delta is looked up row by row in the origin's stack, so the cost follows the size of the delta. Counts and end state
are recomputed and must equal the signed ones.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from syncd.errors import MismatchError, StoreError
from syncd.format.delta import difference, drop_empty, state_of
from syncd.format.manifest import Manifest, SegmentRef, Step
from syncd.format.segment import RowProgress, Segment
from syncd.format.stack import Stack
from syncd.format.writer import write_segment
from syncd.model import Algorithm, Counts
from syncd.pipeline.counting import Counting, nonzero, whole_labels
from syncd.pipeline.values import Basis, Candidate, FullReason, Over

Opener = Callable[[SegmentRef], Segment]
Counted = Callable[[str, int], None]
"""Receives the number of further rows done, in ``stage`` (counting a list) or ``compare`` (comparing two)."""


def uncounted(stage: str, rows: int) -> None:
    """Ignore progress."""
    del stage, rows


def stage_deltas(
    basis: Basis, steps: Iterable[Step], upstream: Manifest, sha256: str, opened: Opener, counted: Counted = uncounted
) -> Candidate:
    """Apply ``steps`` in order. ``opened`` returns their segments, fetched and proved; ``counted`` receives progress.

    Raises `MismatchError` if a step's signed counts or end state differ from the result of applying it.
    """
    counting = Counting.over(basis)
    delta: list[SegmentRef] = []
    for step in steps:
        counts = counting.apply([opened(ref) for ref in step.segments])
        counted("stage", sum(ref.rows for ref in step.segments))
        if counts != nonzero(step.counts) or counting.states != dict(step.end_state):
            raise MismatchError(
                f"{upstream.list} serial {step.version}: applying its delta does not give the signed counts "
                "or end state",
                hint="the publisher's state is inconsistent; ask it to publish the whole list again",
            )
        delta += step.segments
    return Candidate(
        manifest=upstream,
        sha256=sha256,
        plan="deltas",
        forked=False,
        delta=tuple(delta),
        counts=counting.counts,
        labels=counting.labels,
        end_state=counting.states,
        stack=(),
        over=Over.ORIGIN,
    )


def stage_full(
    basis: Basis | None,
    stacks: Mapping[Algorithm, Stack],
    upstream: Manifest,
    sha256: str,
    reason: FullReason,
    scratch: Path,
    counted: Counted = uncounted,
    over: Over = Over.ORIGIN,
) -> tuple[Candidate, list[Path]]:
    """Prove a whole list, fetched as ``stacks``, and turn it into a delta over ``basis``.

    ``basis`` is the state that ``over`` names, or None if nothing is held. Returns the candidate and the files of new
    delta segments in ``scratch``. Raises `MismatchError` if the end state differs from the signed one.
    """
    totals = {algorithm: stack.totals(partial(counted, "stage")) for algorithm, stack in stacks.items()}
    end_state = drop_empty({algorithm: state_of(total) for algorithm, total in totals.items()})
    if end_state != dict(upstream.end_state):
        raise MismatchError(
            f"{upstream.list} serial {upstream.version}: its segments do not give the signed end state",
            hint="the publisher's state is inconsistent; ask it to publish the whole list again",
        )
    if basis is None:
        counts = {algorithm: Counts(added=total.rows) for algorithm, total in totals.items()}
        labels = whole_labels(totals)
        candidate = Candidate(
            manifest=upstream,
            sha256=sha256,
            plan=f"full:{reason}",
            forked=reason == FullReason.FORKED,
            delta=(),
            counts=counts,
            labels=labels,
            end_state=end_state,
            stack=upstream.stack,
            over=Over.NOTHING,
        )
        return candidate, []
    counting = Counting.over(basis)
    written = [
        (path, ref)
        for algorithm in sorted({*stacks, *basis.stacks})
        for path, ref in _write_difference(basis.stacks, stacks, algorithm, scratch, partial(counted, "compare"))
    ]
    counting.apply([Segment.open(path, ref) for path, ref in written])
    if counting.states != end_state:
        raise StoreError(
            f"files of {upstream.list} on this disk were changed after they were verified",
            hint="`syncd verify` names the damaged file: remove it, and the next sync fetches it again",
        )
    candidate = Candidate(
        manifest=upstream,
        sha256=sha256,
        plan=f"full:{reason}",
        forked=reason == FullReason.FORKED,
        delta=tuple(ref for _, ref in written),
        counts=counting.counts,
        labels=counting.labels,
        end_state=end_state,
        stack=(),
        over=over,
    )
    return candidate, [path for path, _ in written]


def _write_difference(
    old: Mapping[Algorithm, Stack],
    new: Mapping[Algorithm, Stack],
    algorithm: Algorithm,
    scratch: Path,
    read: RowProgress,
) -> list[tuple[Path, SegmentRef]]:
    empty = Stack(algorithm, [])
    rows = difference(old.get(algorithm, empty), new.get(algorithm, empty), read)
    path = scratch / f"{algorithm}.difference"
    ref = write_segment(path, algorithm, "delta", [rows])
    return [(path, ref)] if ref else []
