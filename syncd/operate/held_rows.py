"""The rows of a hold: the changes that its release would make now, in counts, and as rows for a private file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncd.catalog.catalog import Catalog
from syncd.catalog.decisions import HoldRecord
from syncd.catalog.folder import StateFolder
from syncd.catalog.records import own_name
from syncd.errors import UsageError
from syncd.feed.difference import Change, changes_document, count_changes, write_changes
from syncd.format.delta import difference
from syncd.format.stack import Stack, merge_deltas
from syncd.operate.holds import open_hold
from syncd.outcomes import Lane
from syncd.pipeline.heads import ListState, read_state
from syncd.pipeline.keyed import no_keys
from syncd.pipeline.known_good import KnownGood, KnownGoodFolder
from syncd.pipeline.move import Move
from syncd.pipeline.settle.known_good import KnownGoodChange
from syncd.pipeline.values import Over
from syncd.pipeline.wire import decode_staged


@dataclass(frozen=True)
class HeldRows:
    """An open or discarded hold, and the list that it keeps as it is."""

    hold: HoldRecord
    state: ListState
    known_good: KnownGood
    """the digests of the changed known-good file that the hold is about; for other holds, and if the segments of that
    file were lost, those in force"""
    catalog: Catalog

    @classmethod
    def of(cls, folder: StateFolder, catalog: Catalog, number: int) -> "HeldRows":
        """Read a hold. Raises `UsageError` if there is no such hold, `RefusedError` if it has ended, `StoreError`."""
        hold = open_hold(catalog, number, release=True)
        state = read_state(folder, catalog, hold.source, own_name(hold.list))
        file = KnownGoodFolder(folder.known_good).reading(hold.segments) if hold.is_of_known_good_file else None
        return cls(hold, state, file or state.suppressed.known_good, catalog)

    def document(self) -> dict[str, Any]:
        """Return the changes by algorithm, and by algorithm and label, as JSON. Raises `StoreError`."""
        counts, labels = count_changes(self._changes())
        return {
            "counts": changes_document(counts),
            "labels": {str(algorithm): changes_document(found) for algorithm, found in labels.items()},
        }

    def write_rows(self, path: Path) -> int:
        """Write the rows as `write_changes`. Raises as that, and `UsageError` if the hold is of suppressions."""
        if self.hold.lane is Lane.SUPPRESSIONS and not self.hold.is_of_known_good_file:
            raise UsageError(
                f"hold {self.hold.id} is of the operator's own digests, not of rows from a partner",
                hint="`syncd suppressions` shows what waits; nothing was written",
            )
        return write_changes(path, self._changes())

    def _changes(self) -> Iterator[Change]:
        """Yield the rows that a release would change, over the head."""
        match self.hold.lane:
            case Lane.SUPPRESSIONS:
                yield from self._taken_off()
            case Lane.BOTH:
                yield from self._whole()
            case _:
                rows, move = self.state.rows_of(self.hold), Move(self.state)
                move.touch_rows(rows, no_keys(rows))
                for algorithm, wanted in move.still_wanted(rows).items():
                    visible = wanted & ~self.state.suppressed.mask(algorithm, rows[algorithm])
                    yield self._head(Stack(algorithm, [])), rows[algorithm].take(visible)

    def _taken_off(self) -> Iterator[Change]:
        """Yield the rows that a changed known-good file would take off the head."""
        for algorithm, rows in KnownGoodChange(self.state, self.known_good).rows.items():
            head, named = self._head(Stack(algorithm, [])), rows.take(self.known_good.mask(algorithm, rows.digests))
            yield head, named.take(head.resolve(named).present).as_removals()

    def _whole(self) -> Iterator[Change]:
        """Yield the rows by which a whole update differs from the head."""
        candidate = decode_staged(self.catalog.update_of(self.hold).staged).candidate
        if candidate.over is not Over.NOTHING:
            for algorithm, delta in self.state.opened(candidate.delta).items():
                yield self._head(delta), merge_deltas(algorithm, delta.segments)
            return
        for stack in self.state.opened(candidate.stack).values():
            head = self._head(stack)
            if head.segments:
                yield head, difference(head, stack)
            else:
                for rows in stack.effective():
                    yield head, rows

    def _head(self, other: Stack) -> Stack:
        """Return the head's stack of the algorithm of ``other``."""
        return self.state.head_basis.stacks.get(other.algorithm, Stack(other.algorithm, []))
