"""Staging a list that a partner states: the candidate for its next origin, with a manifest of our own.

The manifest has the same format as a signed one, with our own serial, and descends from the manifest before. Nobody
signs or serves it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from syncd.catalog.records import Position
from syncd.errors import StoreError
from syncd.feed.folder import FeedFolder
from syncd.feed.snapshot import open_segment, open_stacks
from syncd.files import temporary_path
from syncd.format import manifest as manifests
from syncd.format.batch import Batch, WholeList
from syncd.format.changes import delta_of
from syncd.format.delta import drop_empty, state_of
from syncd.format.entry_index import EntryIndexes
from syncd.format.manifest import EndState, Manifest, ManifestRef, SegmentRef
from syncd.format.rows import Rows
from syncd.format.stack import Stack, Totals
from syncd.format.writer import write_segment
from syncd.model import Algorithm, Counts, ListName
from syncd.pipeline.counting import Counting, whole_labels
from syncd.pipeline.preparation import Progress
from syncd.pipeline.values import Basis, Candidate, Over, Staged, Stated, Unchanged
from syncd.sources.statements import ListKind


@dataclass(frozen=True)
class ListBasis:
    """The state of a list to which a poll applies."""

    ref: ManifestRef | None
    """the origin's manifest; None if there is no origin yet"""
    over: Over
    """the state that ``stack`` is; `Over.NOTHING`: a whole list that waits, or no entry at all"""
    stack: tuple[SegmentRef, ...] = ()
    end_state: Mapping[Algorithm, EndState] = field(default_factory=dict)
    position: Position | None = None
    """None if the partner has to state everything again"""
    plan: str = "deltas"
    """the plan of the poll, for the record"""


@dataclass(frozen=True)
class StatedStage:
    """Stages one list of one poll."""

    folder: FeedFolder
    name: ListName
    scratch: Path
    progress: Progress
    kind: ListKind

    def stage(self, basis: ListBasis, batches: Iterable[Batch], stated: Stated) -> Staged | Unchanged:
        """Apply what the partner states to ``basis``, in this order. Raises `UsageError`, `StoreError`."""
        if basis.over is Over.NOTHING:
            refs = basis.stack
            for batch in batches:
                refs = self._whole(refs, batch)
            if refs == basis.stack and basis.position is not None:
                return Unchanged(stated.position)
            return Staged(self._stacked(basis, refs, stated), stated)
        stacks = open_stacks(self.folder, self.name, basis.stack)
        counting = Counting.over(Basis(basis.stack, stacks, basis.end_state))
        delta = [ref for batch in batches for ref in self._delta(counting, batch)]
        if not delta and basis.over is Over.ORIGIN:
            return Unchanged(stated.position)
        return Staged(self._moved(basis, delta, counting, stated), stated)

    def _delta(self, counting: Counting, batch: Batch) -> list[SegmentRef]:
        """Write the segments that a batch changes, and count them."""
        held = sum(state.rows for state in counting.end_state.values())
        read = partial(self._compared, [0], _rows_of(batch) + held)
        rows = delta_of(batch, counting.stacks, read, EntryIndexes(self.folder.root).rows).rows
        delta = [self._write(algorithm, "delta", some) for algorithm, some in rows.items()]
        counting.apply(open_segment(self.folder.segment_path(self.name, ref), ref) for ref in delta)
        if isinstance(batch, WholeList) and counting.states != _end_state(_totals(_stacks_of(batch))):
            raise StoreError(
                f"files of {self.name} on this disk were changed after they were verified",
                hint="`syncd verify` names the damaged file: remove it, and the next sync fetches it again",
            )
        return delta

    def _compared(self, done: list[int], total: int, rows: int) -> None:
        done[0] += rows
        self.progress("compare", done[0], total)

    def _whole(self, held: tuple[SegmentRef, ...], batch: Batch) -> tuple[SegmentRef, ...]:
        """Write the list as a whole stack: over what waits, unless all of it is stated again."""
        if isinstance(batch, WholeList):
            return tuple(self._install(segment.path, segment.ref) for _, segment in sorted(batch.segments.items()))
        stacks = open_stacks(self.folder, self.name, held)
        rows = delta_of(batch, stacks, search=EntryIndexes(self.folder.root).rows).rows
        added = [self._write(a, "delta" if a in stacks else "base", some) for a, some in rows.items()]
        return (*held, *added)

    def _write(self, algorithm: Algorithm, kind: Literal["base", "delta"], rows: Rows) -> SegmentRef:
        path = temporary_path(self.scratch)
        ref = write_segment(path, algorithm, kind, [rows])
        if ref is None:
            raise StoreError(f"no rows to write at {path}")
        return self._install(path, ref)

    def _install(self, path: Path, ref: SegmentRef) -> SegmentRef:
        self.folder.install_segment(self.name, ref, path)
        return ref

    def _moved(self, basis: ListBasis, delta: list[SegmentRef], counting: Counting, stated: Stated) -> Candidate:
        made = self._manifest(basis, (*basis.stack, *delta), counting.states, stated)
        return Candidate(
            manifest=made,
            sha256=_sha256(made),
            plan=basis.plan,
            forked=False,
            delta=tuple(delta),
            counts=counting.counts,
            labels=counting.labels,
            end_state=counting.states,
            stack=(),
            over=basis.over,
        )

    def _stacked(self, basis: ListBasis, refs: tuple[SegmentRef, ...], stated: Stated) -> Candidate:
        totals = _totals(open_stacks(self.folder, self.name, refs))
        end_state = _end_state(totals)
        made = self._manifest(basis, refs, end_state, stated)
        return Candidate(
            manifest=made,
            sha256=_sha256(made),
            plan=basis.plan,
            forked=False,
            delta=(),
            counts={algorithm: Counts(added=total.rows) for algorithm, total in totals.items()},
            labels=whole_labels(totals),
            end_state=end_state,
            stack=refs,
            over=Over.NOTHING,
        )

    def _manifest(
        self, basis: ListBasis, stack: tuple[SegmentRef, ...], states: Mapping[Algorithm, EndState], stated: Stated
    ) -> Manifest:
        return Manifest(
            list=self.name,
            version=basis.ref.version + 1 if basis.ref else 1,
            previous=basis.ref,
            created=manifests.now_in_seconds(stated.at),
            end_state=dict(states),
            stack=stack,
            media=self.kind.media,
            purpose=self.kind.purpose,
        )


def _totals(stacks: Mapping[Algorithm, Stack]) -> dict[Algorithm, Totals]:
    return {algorithm: stack.totals() for algorithm, stack in stacks.items()}


def _end_state(totals: Mapping[Algorithm, Totals]) -> dict[Algorithm, EndState]:
    return drop_empty({algorithm: state_of(total) for algorithm, total in totals.items()})


def _stacks_of(whole: WholeList) -> dict[Algorithm, Stack]:
    return {algorithm: Stack(algorithm, [segment]) for algorithm, segment in whole.segments.items()}


def _rows_of(batch: Batch) -> int:
    return sum(map(len, batch.segments.values() if isinstance(batch, WholeList) else batch.add.values()))


def _sha256(manifest: Manifest) -> str:
    return hashlib.sha256(manifests.encode(manifest)).hexdigest()
