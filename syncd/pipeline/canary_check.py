"""The canaries of one source during one sync: its known-good files, and the digests that must be on its lists."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from syncd.catalog.decisions import CanaryNote, HoldRecord
from syncd.errors import SyncdError
from syncd.format.rows import Rows
from syncd.format.stack import merge_deltas
from syncd.model import ListName
from syncd.pipeline.canaries import MustHave, segments_of
from syncd.pipeline.heads import ListState
from syncd.pipeline.known_good import ONLY_BUILT_IN, KnownGood, KnownGoodFolder
from syncd.pipeline.next_version import SettleContext
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.settle.known_good import KnownGoodChange, settle_known_good, without_lost
from syncd.pipeline.settle.result import Settled
from syncd.pipeline.wire import encode_update


def change_known_good(
    publisher: Publisher,
    source: str,
    own_name: ListName,
    after: KnownGood,
    context: SettleContext,
    confirmed: HoldRecord | None = None,
) -> Settled:
    """Put other known-good digests in force on a list, or hold the change. Raises `RefusedError`, `StoreError`."""
    folder = KnownGoodFolder(publisher.folder.known_good)

    def settle(state: ListState) -> Settled:
        if state.mark and folder.is_lost(folder.named(state.mark.known_good)):
            state = without_lost(state)
        waiting = tuple(hold for hold in publisher.catalog.holds(state.name) if hold.is_of_known_good_file)
        return settle_known_good(
            KnownGoodChange(state, after),
            waiting,
            context,
            second_operator=publisher.second_operator(),
            confirmed=confirmed,
        )

    purpose = f"taking known-good files off {own_name} of {source}"
    settled = publisher.settle(purpose, source, own_name, settle, context.now)
    publisher.compact_if_due(settled, context.now)
    return settled


@dataclass
class CanaryCheck:
    """The state of the canaries of one source's lists."""

    publisher: Publisher
    source: str
    faults: dict[Path, SyncdError] = field(default_factory=dict)
    """by path: why a known-good file cannot be used; its last good reading stays in force"""
    settled: list[Settled] = field(default_factory=list)
    """changes of known-good files"""
    missing: list[CanaryNote] = field(default_factory=list)
    """lists that lack more of their must-have digests than after the last sync"""
    _read: dict[Path, KnownGood] = field(default_factory=dict)

    def bring_up(self, state: ListState, now: datetime) -> bool:
        """Put the configured known-good digests in force on a list; return True if it was changed or held.

        A fault is kept in ``faults``: it stops nothing else.
        """
        name, path = state.own_name, self._path(state.own_name)
        try:
            wanted = self.wanted(name)
            if wanted is None:
                return False
            context = SettleContext(now, encode_update)
            settled = change_known_good(self.publisher, self.source, name, wanted, context)
        except SyncdError as error:
            self.faults[path or Path(name)] = error
            return False
        self.settled.append(settled)
        return settled.proposal is not None

    def check_first(self, state: ListState) -> None:
        """Read the known-good file of a list that has no version yet.

        Raises the file's fault if it was never read well: nothing would keep its digests off the list.
        """
        path = self._path(state.own_name)
        if self.wanted(state.own_name) is None and path is not None and not state.suppressed.known_good.sha256:
            raise self.faults[path]

    def wanted(self, name: ListName) -> KnownGood | None:
        """Return the known-good digests that a list should have; None if the file cannot be used, see ``faults``."""
        path = self._path(name)
        if path is None:
            return ONLY_BUILT_IN
        if path in self.faults:
            return None
        try:
            if path not in self._read:
                self._read[path] = self._reading(path)
            must_have = self._must_have(name)
            if must_have:
                must_have.check(self._read[path], path)
        except SyncdError as error:
            self.faults[path] = error
            return None
        return self._read[path]

    def note(self, name: ListName, *, changed: bool) -> None:
        """Record the canaries of a list after a sync. ``changed``: true if its origin or its head moved."""
        state, catalog = self.publisher.list_state(self.source, name), self.publisher.catalog
        if state.head is None or state.origin is None or state.head.retired is not None:
            return
        before = catalog.canary_notes().get(state.name)
        path, must_have = self._path(name), self._must_have(name) or MustHave()
        fault = self.faults.get(path) if path else None
        kept = {rows.algorithm: len(rows) for rows in kept_out(state)} if changed or before is None else {}
        note = CanaryNote(
            list=state.name,
            must_have=len(must_have),
            missing=must_have.missing_from(segments_of(state.head_basis.stacks)) if must_have else 0,
            kept_out=kept if changed or before is None else before.kept_out,
            fault=fault.message if fault else "",
        )
        if note != before:
            catalog.note_canaries(note)
        if note.missing > (before.missing if before else 0):
            self.missing.append(note)

    def _reading(self, path: Path) -> KnownGood:
        """Read a known-good file; a new reading is in the store before a commit names it. Raises as `read`."""
        state = self.publisher.folder
        before = set(state.known_good.glob("*/"))
        known = KnownGoodFolder(state.known_good).read(path)
        if set(state.known_good.glob("*/")) != before:
            state.push_private(state.known_good, whole=False)
        return known

    def collect(self) -> None:
        """Remove readings of known-good files that are no longer needed."""
        catalog, limits = self.publisher.catalog, self.publisher.limits
        named = {limits(origin.source, origin.list).known_good_file for origin in catalog.origins()}
        names = [mark.known_good for mark in catalog.known_good_marks()]
        state = self.publisher.folder
        if state.known_good.exists():
            state.bring_private(state.known_good)
            KnownGoodFolder(state.known_good).collect({*self._read, *filter(None, named)}, names)
            state.push_private(state.known_good)

    def _path(self, name: ListName) -> Path | None:
        return self.publisher.limits(self.source, name).known_good_file

    def _must_have(self, name: ListName) -> MustHave | None:
        """Return the digests that must be on a list; None if their file cannot be used, which its judgement reports."""
        try:
            return MustHave.read(self.publisher.limits(self.source, name).must_have_file)
        except SyncdError:
            return None


def kept_out(state: ListState) -> Iterator[Rows]:
    """Yield, by algorithm, the partner's entries that are not published because they are known to be good."""
    for algorithm, stack in state.owed.items():
        rows = merge_deltas(algorithm, stack.segments)
        rows = rows.take(~rows.removed)
        rows = rows.take(state.suppressed.known_good.mask(algorithm, rows.digests))
        if len(rows):
            yield rows
