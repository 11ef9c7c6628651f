"""Proving a pulled copy again: once a day in the background, and by ``syncd pull --check``."""

import os
import random
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from syncd.errors import RefusedError, StoreError, SyncdError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.near_indexes import prove_indexes
from syncd.feed.proof_record import FoundFault, HeldVersion, ProofRecord, RecordFile, RecordInMemory, RecordStore
from syncd.feed.reproof import InterruptedPass, LowPriority, Pause, ProofPass
from syncd.fetch.backoff import JITTER, vary
from syncd.files import sha256_file
from syncd.locks import lock
from syncd.matcher.copy import PROOF, read_current
from syncd.matcher.threads import Poller
from syncd.model import ListName

Report = Callable[[Sequence[SyncdError]], None]
"""Called in the proving thread with the faults of one list."""
Versions = Callable[[FeedFolder], Sequence[HeldVersion]]
"""Returns the versions in force in a folder. Raises `StoreError`."""

_LOOK_EVERY: Final = 600.0
"""Seconds between two checks whether a pass is due."""
_LOCK: Final = "proof.lock"


def record_of(copy: FeedFolder) -> RecordFile:
    """Return the record of a copy."""
    return RecordFile(copy.path(PROOF))


def held_versions(copy: FeedFolder) -> list[HeldVersion]:
    """Return the versions in force in a copy. Raises `StoreError`."""
    current = read_current(copy)
    held = sorted(current.lists.items()) if current else []
    return [HeldVersion(name, version.manifest, version.unfolded) for name, version in held]


def prove_now(copy: FeedFolder, pause: Pause, clock: Callable[[], datetime]) -> None:
    """Prove the whole copy at once, and record the result. Raises `StoreError`."""
    records = RecordInMemory(ProofRecord())
    for _ in ProofPass(copy, records, pause, clock).run(partial(held_versions, copy)):
        pass
    for _ in prove_indexes(copy, pause):  # a damaged one is removed, and made again
        pass
    record_of(copy).write(records.read())


def distrust_damaged(copy: FeedFolder) -> Sequence[FoundFault]:
    """Distrust recorded segments that are still damaged, so that a pull fetches them; return all recorded faults."""
    faults = record_of(copy).read().faults
    for fault in faults:
        if fault.segment is not None:
            path = layout.segment_path(fault.list, fault.segment)
            if copy.path(path).exists() and sha256_file(copy.path(path)) != fault.segment:
                copy.distrusted.add(path)
    return faults


def forget_repaired(copy: FeedFolder, held: Mapping[ListName, str], known: Collection[FoundFault]) -> None:
    """Remove from the record the ``known`` faults that a pull has repaired, and faults of versions no longer held.

    ``held``: the SHA-256 of each list's manifest. Faults that a proof found meanwhile stay: the next pull repairs them.
    """
    records = record_of(copy)
    record = records.read()
    left = tuple(
        fault
        for fault in record.faults
        if fault.list in held
        and held[fault.list] == fault.manifest
        and not (fault in known and _is_repaired(copy, fault))
    )
    if left != record.faults:
        records.write(record.model_copy(update={"faults": left}))


def _is_repaired(copy: FeedFolder, fault: FoundFault) -> bool:
    if fault.segment is not None:
        return layout.segment_path(fault.list, fault.segment) not in copy.distrusted
    return fault.part == "manifest"  # a pull reads the manifest, and fetches it again if it is damaged


class BackgroundProof:
    """Proves a copy again once a day, in a background thread with pauses, in one process of the host at a time.

    A process that may not write to the copy makes its own pass, unless another process has recorded a recent one.
    ``versions``: the versions in force there; by default those that ``current.json`` names.
    """

    def __init__(
        self, folder: Path, clock: Callable[[], datetime], report: Report, versions: Versions = held_versions
    ) -> None:
        self._step = _ProofStep(FeedFolder(folder), clock, report, versions)
        # The step has no reference to this object: the cycle would keep the matcher and its maps alive after `close`.
        self._poller = Poller(self._step, 0.0, name="syncd-proof", interrupt=self._step.stop.set).start()

    def record(self) -> ProofRecord:
        """Return the record of the last pass, of this process or another one. Raises `StoreError`."""
        return self._step.record()

    def close(self) -> None:
        """End the thread; the next start, or another process, continues an unfinished pass."""
        self._poller.stop()


@dataclass(frozen=True)
class _ProofStep:
    """Makes a pass if one is due; returns the seconds until the next check."""

    copy: FeedFolder
    clock: Callable[[], datetime]
    report: Report
    versions: Versions
    own: RecordInMemory = field(default_factory=lambda: RecordInMemory(ProofRecord()))
    stop: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> float:
        try:
            if self.versions(self.copy):
                self._prove_if_due()
        except InterruptedPass:
            return 0.0
        except RefusedError:  # another process is proving the copy
            pass
        except StoreError as error:
            self.report([error])
        return vary(_LOOK_EVERY, JITTER, random.random())  # noqa: S311 - spreads load, guards nothing

    def record(self) -> ProofRecord:
        return _newest(record_of(self.copy).read(), self.own.record)

    def _prove_if_due(self) -> None:
        due, records = self.record().is_due(self.clock()), record_of(self.copy)
        if not os.access(self.copy.root, os.W_OK):
            if due:
                self._run(self.own)
        elif records.read() == ProofRecord():
            records.write(ProofRecord().watched(self.clock()))
        elif due:
            with lock(self.copy.work / _LOCK, "proving files again"):
                self._run(records)

    def _run(self, records: RecordStore) -> None:
        steps = ProofPass(self.copy, records, LowPriority(self.stop), self.clock)
        for faults in steps.run(partial(self.versions, self.copy)):
            if faults:
                self.report([fault.error for fault in faults])
        for error in prove_indexes(self.copy, LowPriority(self.stop)):
            self.report([error])


def _newest(some: ProofRecord, other: ProofRecord) -> ProofRecord:
    """Return the record whose last pass ended later."""
    if some.finished is None or (other.finished is not None and other.finished > some.finished):
        return other if other.finished is not None else some
    return some
