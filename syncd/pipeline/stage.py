"""The candidate: the next origin, built from what was fetched and compared with the signed counts and end state.

A delta is looked up row by row in the origin's stack, so its cost is that of the delta. Counts and end state are
recomputed and must equal the signed ones.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from syncd.errors import MismatchError, StoreError
from syncd.format.delta import difference, drop_empty, state_of
from syncd.format.manifest import Manifest, SegmentRef, Step
from syncd.format.segment import RowProgress, Segment
from syncd.format.stack import Stack, Totals
from syncd.format.writer import write_segment
from syncd.model import Algorithm, Counts
from syncd.pipeline.counting import Counting
from syncd.pipeline.values import Basis, Candidate, FullReason, Over

Opener = Callable[[SegmentRef], Segment]
Counted = Callable[[str, int], None]
"""Called with ``stage`` (a list counted) or ``compare`` (two compared), and the number of further rows done."""


def uncounted(stage: str, rows: int) -> None:
    """Nobody wants to know."""
    del stage, rows


def stage_deltas(
    basis: Basis, steps: Iterable[Step], upstream: Manifest, sha256: str, opened: Opener, counted: Counted = uncounted
) -> Candidate:
    """Apply ``steps`` in order. ``opened`` gives their segments, fetched and proved; ``counted`` is told their rows.

    Raises `MismatchError` where a step's counts or end state are not what applying it gives.
    """
    counting = Counting.over(basis)
    delta: list[SegmentRef] = []
    for step in steps:
        counts = counting.apply([opened(ref) for ref in step.segments])
        counted("stage", sum(ref.rows for ref in step.segments))
        if counts != _stated(step.counts) or counting.states != dict(step.end_state):
            raise MismatchError(
                f"{upstream.list} serial {step.version}: applying its delta does not give the counts or end state "
                "that were signed",
                hint="the publisher's state has drifted; it should publish the list whole",
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


def _stated(counts: Mapping[Algorithm, Counts]) -> dict[Algorithm, Counts]:
    return {algorithm: count for algorithm, count in counts.items() if count.rows}


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
    """Prove a whole list, fetched as ``stacks``, and turn it into a delta over ``basis`` (None: there is nothing yet),
    which is what ``over`` says.

    Returns the candidate and the files of new delta segments in ``scratch``. Raises `MismatchError` where the end
    state is not the signed one.
    """
    totals = {algorithm: stack.totals(partial(counted, "stage")) for algorithm, stack in stacks.items()}
    end_state = drop_empty({algorithm: state_of(total) for algorithm, total in totals.items()})
    if end_state != dict(upstream.end_state):
        raise MismatchError(
            f"{upstream.list} serial {upstream.version}: its segments do not give the end state that was signed",
            hint="the publisher's state has drifted; it should publish the list whole",
        )
    if basis is None:
        counts = {algorithm: Counts(added=total.rows) for algorithm, total in totals.items()}
        labels = {algorithm: _all_added(total) for algorithm, total in totals.items()}
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
            f"what is held of {upstream.list} on this disk is not what was verified",
            hint="`syncd verify` names the damaged file: remove it, and the next sync replaces it",
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


def _all_added(total: Totals) -> dict[str, Counts]:
    return {label: Counts(added=count) for label, count in total.by_label.items()}


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
    kind: Literal["delta"] = "delta"
    ref = write_segment(path, algorithm, kind, [rows])
    return [(path, ref)] if ref else []
