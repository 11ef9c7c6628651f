"""The candidate: the next origin, built from what was fetched and compared with what was signed.

A delta is looked up row by row in the origin's stack, so its cost is that of the delta. Counts and end state are
recomputed and must equal the signed ones.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from syncd.errors import MismatchError, StoreError
from syncd.format.delta import difference, drop_empty, end_state_after, state_of
from syncd.format.manifest import EndState, Manifest, SegmentRef, Step
from syncd.format.segment import Segment, Told
from syncd.format.stack import Amount, Stack
from syncd.format.writer import write_segment
from syncd.model import Algorithm, Counts
from syncd.pipeline.values import Basis, Candidate, FullReason

Opener = Callable[[SegmentRef], Segment]
Counted = Callable[[str, int], None]
"""Told of rows as they are done: ``stage``, a list counted; ``compare``, two compared; and how many more."""


def uncounted(stage: str, rows: int) -> None:
    """Nobody wants to know."""
    del stage, rows


@dataclass(frozen=True)
class _Tally:
    """What steps have come to so far."""

    refs: tuple[SegmentRef, ...]
    stacks: dict[Algorithm, Stack]
    end_state: dict[Algorithm, EndState]
    counts: dict[Algorithm, Counts] = field(default_factory=dict)
    labels: dict[Algorithm, dict[str, Counts]] = field(default_factory=dict)


def stage_deltas(
    basis: Basis, steps: Iterable[Step], upstream: Manifest, sha256: str, opened: Opener, counted: Counted = uncounted
) -> Candidate:
    """Apply ``steps`` in order. ``opened`` gives their segments, fetched and proved; ``counted`` is told their rows.

    Raises `MismatchError` where a step's counts or end state are not what applying it gives.
    """
    tally = _Tally(basis.refs, dict(basis.stacks), dict(basis.end_state))
    delta: list[SegmentRef] = []
    for step in steps:
        counts = _apply(tally, [opened(ref) for ref in step.segments])
        counted("stage", sum(ref.rows for ref in step.segments))
        if counts != _stated(step.counts) or drop_empty(tally.end_state) != dict(step.end_state):
            raise MismatchError(
                f"{upstream.list} serial {step.version}: applying its delta does not give the counts or end state "
                "that were signed",
                hint="the publisher's state has drifted; it should publish the list whole",
            )
        delta += step.segments
    return Candidate(
        upstream,
        sha256,
        "deltas",
        False,
        tuple(delta),
        tally.counts,
        tally.labels,
        drop_empty(tally.end_state),
        (*basis.refs, *delta),
        basis.rows,
    )


def _stated(counts: Mapping[Algorithm, Counts]) -> dict[Algorithm, Counts]:
    return {algorithm: count for algorithm, count in counts.items() if count.rows}


def _apply(tally: _Tally, segments: Iterable[Segment]) -> dict[Algorithm, Counts]:
    """Count the rows of ``segments`` against the stacks so far, and put them on top."""
    counted: dict[Algorithm, Counts] = {}
    for segment in segments:
        algorithm = segment.algorithm
        stack = tally.stacks.get(algorithm) or Stack(algorithm, [])
        effect = stack.effect(segment.rows())
        counted[algorithm] = counted.get(algorithm, Counts()) + effect.counts
        tally.counts[algorithm] = tally.counts.get(algorithm, Counts()) + effect.counts
        labels = tally.labels.setdefault(algorithm, {})
        for label, count in effect.by_label.items():
            labels[label] = labels.get(label, Counts()) + count
        tally.end_state[algorithm] = end_state_after(tally.end_state.get(algorithm), effect)
        tally.stacks[algorithm] = Stack(algorithm, [*stack.segments, segment])
    return counted


def stage_full(
    basis: Basis | None,
    stacks: Mapping[Algorithm, Stack],
    upstream: Manifest,
    sha256: str,
    reason: FullReason,
    scratch: Path,
    counted: Counted = uncounted,
) -> tuple[Candidate, list[Path]]:
    """Prove a whole list, fetched as ``stacks``, and turn it into a delta over ``basis`` (None: there is nothing yet).

    Returns the candidate and the files of new delta segments in ``scratch``. Raises `MismatchError` where the end
    state is not the signed one.
    """
    amounts = {algorithm: stack.amount(partial(counted, "stage")) for algorithm, stack in stacks.items()}
    end_state = drop_empty({algorithm: state_of(amount) for algorithm, amount in amounts.items()})
    if end_state != dict(upstream.end_state):
        raise MismatchError(
            f"{upstream.list} serial {upstream.version}: its segments do not give the end state that was signed",
            hint="the publisher's state has drifted; it should publish the list whole",
        )
    if basis is None:
        counts = {algorithm: Counts(added=amount.rows) for algorithm, amount in amounts.items()}
        labels = {algorithm: _all_added(amount) for algorithm, amount in amounts.items()}
        plan, stack, forked = f"full:{reason}", upstream.stack, reason == FullReason.FORKED
        return Candidate(upstream, sha256, plan, forked, (), counts, labels, end_state, stack, 0), []
    tally = _Tally(basis.refs, dict(basis.stacks), dict(basis.end_state))
    written = [
        (path, ref)
        for algorithm in sorted({*stacks, *basis.stacks})
        for path, ref in _write_difference(basis.stacks, stacks, algorithm, scratch, partial(counted, "compare"))
    ]
    _apply(tally, [Segment.open(path, ref) for path, ref in written])
    if drop_empty(tally.end_state) != end_state:
        raise StoreError(
            f"what is held of {upstream.list} on this disk is not what was verified",
            hint="`syncd verify` names the damaged file: remove it, and the next sync replaces it",
        )
    delta = tuple(ref for _, ref in written)
    candidate = Candidate(
        upstream,
        sha256,
        f"full:{reason}",
        reason == FullReason.FORKED,
        delta,
        tally.counts,
        tally.labels,
        end_state,
        (*basis.refs, *delta),
        basis.rows,
    )
    return candidate, [path for path, _ in written]


def _all_added(amount: Amount) -> dict[str, Counts]:
    return {label: Counts(added=count) for label, count in amount.by_label.items()}


def _write_difference(
    old: Mapping[Algorithm, Stack], new: Mapping[Algorithm, Stack], algorithm: Algorithm, scratch: Path, read: Told
) -> list[tuple[Path, SegmentRef]]:
    empty = Stack(algorithm, [])
    rows = difference(old.get(algorithm, empty), new.get(algorithm, empty), read)
    path = scratch / f"{algorithm}.difference"
    kind: Literal["delta"] = "delta"
    ref = write_segment(path, algorithm, kind, [rows])
    return [(path, ref)] if ref else []
