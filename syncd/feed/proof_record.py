"""The record of proving a folder's files again: when the last pass ended, and the faults that are not repaired yet.

See `syncd.feed.reproof`. This module imports neither numpy nor pyarrow, so that a status is shown quickly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from syncd.errors import SyncdError, error_named, kind_of
from syncd.feed.unfolded import Unfolded
from syncd.files import install_bytes, read_bytes, storage
from syncd.format.manifest import Sha256, Time, now_in_seconds
from syncd.model import ListName

EVERY: Final = timedelta(days=1)
"""From the end of a pass to the beginning of the next."""
_RESUMABLE: Final = timedelta(days=7)
"""A pass that began longer ago is not continued."""
_AHEAD: Final = timedelta(minutes=5)
"""A recorded time further in the future than this was written by a wrong clock, and is ignored."""
_MAX_RECORD: Final = 8 << 20

Part = Literal["manifest", "segment", "end state"]


@dataclass(frozen=True)
class HeldVersion:
    """The current version of a list in a folder."""

    name: ListName
    manifest: str
    """the SHA-256 of its manifest"""
    unfolded: Unfolded = field(default_factory=dict)
    """segments of its stack that are read from their inputs"""


class FoundFault(BaseModel):
    """A fault that a pass found in one version of a list."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    list: ListName
    manifest: Sha256
    """of the version"""
    part: Part
    segment: Sha256 | None = None
    """the damaged segment, if ``part`` is "segment\""""
    kind: str
    message: str
    to_do: str

    @classmethod
    def of(cls, version: HeldVersion, part: Part, error: SyncdError, segment: str | None = None) -> Self:
        """Return the fault that ``error`` describes."""
        return cls(
            list=version.name,
            manifest=version.manifest,
            part=part,
            segment=segment,
            kind=kind_of(error),
            message=f"{version.name}: {error.message}",
            to_do=error.hint,
        )

    @property
    def error(self) -> SyncdError:
        """The fault as an error."""
        return error_named(self.kind, self.message, self.to_do)


class HistoryFault(BaseModel):
    """A damaged file of the private history, which cannot be fetched again."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    list: ListName
    path: str
    identity: tuple[int, int, int]
    """of the damaged file, as `identity_of` returns it; a restored file has another identity"""
    message: str
    to_do: str

    @property
    def is_over(self) -> bool:
        """True if the file has been removed or replaced since."""
        return identity_of(Path(self.path)) != self.identity


def identity_of(path: Path) -> tuple[int, int, int] | None:
    """Return inode, length and time of the last change; None if there is no file that can be examined."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


class ProofRecord(BaseModel):
    """How far the files of one folder have been proved."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    format: Literal[1] = 1
    watched_since: Time | None = None
    """when a process first began to watch the folder; the first pass begins a day later"""
    finished: Time | None = None
    """when the last whole pass ended; None if none has ended yet"""
    begun: Time | None = None
    """when the unfinished pass began; None if there is none"""
    proved: tuple[Sha256, ...] = ()
    """SHA-256 of the files that the running pass has proved"""
    faults: tuple[FoundFault, ...] = ()
    """faults that were not repaired yet"""
    history: tuple[HistoryFault, ...] = ()
    """damaged files of the private history, as the last pass found them"""

    def is_due(self, now: datetime, every: timedelta = EVERY) -> bool:
        """Return True if a pass should begin or continue. A time in the future is ignored: a wrong clock wrote it."""
        last = self.finished or self.watched_since
        return self.begun is not None or last is None or not -_AHEAD <= now - last < every

    def watched(self, now: datetime) -> "ProofRecord":
        """Return the record of a folder that is watched from ``now`` on."""
        return self.model_copy(update={"watched_since": now_in_seconds(now)})

    def continued(self, now: datetime) -> "ProofRecord":
        """Return the record after a pass has begun, or an unfinished one continues, at ``now``."""
        if self.begun is not None and -_AHEAD <= now - self.begun < _RESUMABLE:
            return self
        return self.model_copy(update={"begun": now_in_seconds(now), "proved": ()})

    def with_proved(self, sha256: str) -> "ProofRecord":
        """Return the record with one more proved file."""
        return self.model_copy(update={"proved": (*self.proved, sha256)})

    def with_faults(self, name: ListName, found: Sequence[FoundFault]) -> "ProofRecord":
        """Return the record with ``found`` as the faults of a list."""
        others = tuple(fault for fault in self.faults if fault.list != name)
        return self.model_copy(update={"faults": (*others, *found)})

    def with_history(self, found: Sequence[HistoryFault]) -> "ProofRecord":
        """Return the record with ``found`` as the faults of the history."""
        return self.model_copy(update={"history": tuple(found)})

    def ended(self, now: datetime) -> "ProofRecord":
        """Return the record after the end of the pass."""
        return self.model_copy(update={"finished": now_in_seconds(now), "begun": None, "proved": ()})


class RecordStore(Protocol):
    """A place for a `ProofRecord`."""

    def read(self) -> ProofRecord:
        """Return the record; an empty one if there is none. Raises `StoreError`."""
        ...

    def write(self, record: ProofRecord) -> None:
        """Replace the record. Raises `StoreError`."""
        ...


@dataclass(frozen=True)
class RecordFile:
    """A record in a file that other processes read. If it is damaged, it counts as empty, and a pass is due."""

    path: Path

    def read(self) -> ProofRecord:
        """See `RecordStore.read`."""
        with storage(self.path, "read the state of"):
            exists = self.path.exists()
        try:
            return ProofRecord.model_validate_json(read_bytes(self.path, _MAX_RECORD)) if exists else ProofRecord()
        except ValidationError:
            return ProofRecord()

    def write(self, record: ProofRecord) -> None:
        """See `RecordStore.write`."""
        install_bytes(self.path, record.model_dump_json().encode(), durable=False)


@dataclass
class RecordInMemory:
    """A record in the memory of this process, for a folder that it may not write to."""

    record: ProofRecord

    def read(self) -> ProofRecord:
        """See `RecordStore.read`."""
        return self.record

    def write(self, record: ProofRecord) -> None:
        """See `RecordStore.write`."""
        self.record = record
