"""What came of proving a folder: files that were proved, faults, notes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from syncd.errors import StoreError, SyncdError
from syncd.format.manifest import EndState, SegmentRef

_ATTEMPTS: Final = 3

Progress = Callable[[int, int], None]
"""Told the bytes proved, and of how many."""


@dataclass(frozen=True)
class Fault:
    """One thing that is not as it was signed. ``file`` is relative to the folder."""

    file: str
    error: SyncdError

    @property
    def storage(self) -> bool:
        """Whether the disk failed, so that nothing is known of the content."""
        cause = self.error.__cause__
        return isinstance(self.error, StoreError) and cause is not None and not isinstance(cause, FileNotFoundError)


@dataclass(frozen=True)
class ListProof:
    """One list whose manifest is proved. ``sound``: so are its segments and its end state."""

    list: str
    version: int
    rows: int
    segments: int
    bytes: int
    replayed: int
    """recent deltas that were applied again, with the counts and end states that were signed"""
    sound: bool


@dataclass(frozen=True)
class Proof:
    """What came of proving a folder. ``notes`` are no faults: files that nothing names, metadata past its expiry."""

    folder: Path
    lists: tuple[ListProof, ...]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    files: int
    bytes: int

    @property
    def exit_code(self) -> int:
        """0: all proved; 1: the disk failed; 4: a fault."""
        if not self.faults:
            return 0
        return 1 if any(fault.storage for fault in self.faults) else 4


@dataclass
class Tally:
    """What is proved so far, over all folders of one run."""

    progress: Progress | None = None
    total: int = 0
    bytes: int = 0
    files: int = 0
    lists: list[ListProof] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: dict[tuple[int, int], SegmentRef] = field(default_factory=dict)
    """segments by device and inode: one that several lists share is read once"""
    states: dict[tuple[str, ...], EndState] = field(default_factory=dict)
    """end states recomputed, by the hashes of the stack"""

    def count(self, length: int) -> None:
        """One more file is proved."""
        self.files += 1
        self.bytes += length
        if self.progress:
            self.progress(self.bytes, max(self.total, self.bytes))

    def proof(self, folder: Path) -> Proof:
        """The result."""
        notes = tuple(dict.fromkeys(self.notes))
        return Proof(folder, tuple(self.lists), tuple(self.faults), notes, self.files, self.bytes)


@dataclass(frozen=True)
class Attempted:
    """A context that turns an error into a fault. A class, so that type checkers know that it swallows."""

    tally: Tally
    file: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        if not isinstance(error, SyncdError):
            return False
        self.tally.faults.append(Fault(self.file, error))
        return True


def prove_steadily(prove: Callable[[], Proof], stamp: Callable[[], object]) -> Proof:
    """Prove again where a fault was found while somebody published: it may have been half old and half new."""
    for _ in range(_ATTEMPTS - 1):
        before = stamp()
        proof = prove()
        if not proof.faults or stamp() == before:
            return proof
    return prove()
