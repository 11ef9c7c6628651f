"""Proving the files of the state again once a day, in the background, and repairing those that the disk has damaged.

Head and origin may each hold a copy of a segment. A damaged copy is replaced with the other one if that is sound.
Otherwise it is moved out of the served folder, and a sync fetches the segment from the partner again. The content of a
damaged history file cannot be fetched again: it is reported, and the file stays.
"""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final

from syncd import events
from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.records import HeadRecord, own_name
from syncd.errors import SyncdError
from syncd.event import Emit
from syncd.feed.layout import segment_path
from syncd.feed.proof_record import FoundFault, HeldVersion, ProofRecord
from syncd.feed.reproof import InterruptedPass, LowPriority, ProofPass, prove_segment
from syncd.fetch.backoff import JITTER, vary
from syncd.files import storage
from syncd.history.reproof import HistoryProof
from syncd.matcher.threads import Poller
from syncd.pipeline.heads import named_segments, read_state
from syncd.pipeline.mend import DAMAGED, mend

_LOOK_EVERY: Final = 600.0
"""Seconds between two checks whether a pass is due."""


class FileProof:
    """The thread that proves the published files.

    ``found`` is called after each list that has faults, with the source that must supply files again; None if no file
    is missing.
    """

    def __init__(
        self,
        folder: StateFolder,
        catalog: Catalog,
        clock: Callable[[], datetime],
        emit: Emit,
        found: Callable[[str | None], None],
    ) -> None:
        self._folder, self._catalog, self._clock, self._emit, self._found = folder, catalog, clock, emit, found
        self._records = folder.proof_record
        self._stop = threading.Event()
        self._pause = LowPriority(self._stop)
        self._poller = Poller(self._look, 0.0, name="file-proof", interrupt=self._stop.set)

    def start(self) -> None:
        """Start the thread."""
        self._poller.start()

    def stop(self) -> None:
        """End the thread; the next start continues an unfinished pass."""
        self._poller.stop()

    def _look(self) -> float:
        try:
            if self._catalog.heads():
                self._prove_if_due()
        except InterruptedPass:
            return 0.0
        except Exception as error:  # noqa: BLE001 - a bug must not end the proof for good
            self._emit(events.InternalError.of(error, "file proof"))
        return vary(_LOOK_EVERY, JITTER, random.random())  # noqa: S311 - spreads load, guards nothing

    def _prove_if_due(self) -> None:
        record = self._records.read()
        if record == ProofRecord():
            self._records.write(record.watched(self._clock()))
        elif record.is_due(self._clock()):
            steps = ProofPass(self._folder.feed, self._records, self._pause, self._clock, self._prove_rest)
            sound = [self._handle(faults) for faults in steps.run(self._versions)]
            if all(sound):
                self._discard_moved()

    def _prove_rest(self) -> Iterator[Sequence[FoundFault]]:
        """Prove the files that are not published; yield the faults of those that a sync can fetch again."""
        for head in self._heads():
            yield self._private_faults(head)
        for fault in HistoryProof(self._folder, self._catalog, self._records, self._pause).run():
            self._emit(events.HistoryDamaged(fault.list, fault.message, fault.to_do))

    def _heads(self) -> list[HeadRecord]:
        return [head for head in self._catalog.heads() if head.retired_at is None]

    def _versions(self) -> list[HeldVersion]:
        return [HeldVersion(head.list, head.manifest_sha256) for head in self._heads()]

    def _private_faults(self, head: HeadRecord) -> list[FoundFault]:
        """Prove the unpublished files of a list: rows that wait or were refused, and copies that are not hard links."""
        state = read_state(self._folder, self._catalog, head.source, own_name(head.list))
        found = []
        for ref in {ref.sha256: ref for ref in named_segments(state)}.values():
            path = state.source.path(segment_path(state.own_name, ref.sha256))
            published = state.feed.path(segment_path(state.name, ref.sha256))
            if not path.exists() or (published.exists() and path.samefile(published)):
                continue
            try:
                prove_segment(path, ref, self._pause)
            except SyncdError as error:
                found.append(FoundFault.of(HeldVersion(head.list, head.manifest_sha256), "segment", error, ref.sha256))
        return found

    def _handle(self, faults: Sequence[FoundFault]) -> bool:
        """Report and repair the faults of one list. Return True if there are none."""
        if not faults:
            return True
        for fault in faults:
            self._emit(events.StateNotProved(fault.list, fault.message, fault.to_do))
        source = next((head.source for head in self._heads() if head.list == faults[0].list), None)
        damaged = [fault.segment for fault in faults if fault.segment is not None]
        lost = source is not None and mend(self._folder, source, faults[0].list, damaged)
        self._found(source if lost else None)
        return False

    def _discard_moved(self) -> None:
        """Remove the segments that were moved aside: all files in force have been proved since."""
        for folder in (self._folder.feed, *(self._folder.source(head.source) for head in self._heads())):
            for path in (folder.work / DAMAGED).glob("*.arrow"):
                with storage(path, "remove"):
                    path.unlink(missing_ok=True)
