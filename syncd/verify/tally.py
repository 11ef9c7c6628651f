"""The outcome of proving a folder: proved files, faults, notes."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Final

from syncd.errors import StoreError, SyncdError
from syncd.files import open_regular, storage
from syncd.format.manifest import EndState, SegmentRef

_ATTEMPTS: Final = 3

Progress = Callable[[int, int], None]
"""Called with the bytes proved, and of how many."""


@dataclass(frozen=True)
class Fault:
    """One thing that is not as it was signed. ``file`` is relative to the folder."""

    file: str
    error: SyncdError
    list: str = ""
    """the list, and the first kept version, that needs the file; empty and 0 if that is not known"""
    version: int = 0

    @property
    def storage(self) -> bool:
        """True if the disk failed, so that nothing is known about the content."""
        cause = self.error.__cause__
        return isinstance(self.error, StoreError) and cause is not None and not isinstance(cause, FileNotFoundError)


@dataclass(frozen=True)
class ListProof:
    """A list whose manifest is proved. ``sound``: so are its segments and its end state."""

    list: str
    version: int
    rows: int
    segments: int
    bytes: int
    replayed: int
    """recent deltas that were applied again and gave the signed counts and end states"""
    sound: bool
    kept: int = 1
    """kept versions whose manifests fit together (``--deep``)"""
    recomputed: int = 0
    """kept versions whose end states were recomputed from rows (``--deep``)"""


@dataclass(frozen=True)
class Proof:
    """The outcome of proving a folder. ``notes`` are not faults: files that nothing names, expired metadata."""

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
    """The results so far, over all folders of one run."""

    progress: Progress | None = None
    total: int = 0
    bytes: int = 0
    files: int = 0
    lists: list[ListProof] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: dict[tuple[int, int], SegmentRef] = field(default_factory=dict)
    """segments by device and inode: a file that several lists share is read once"""
    states: dict[tuple[str, ...], EndState] = field(default_factory=dict)
    """end states recomputed, by the hashes of the stack"""
    needed_by: dict[str, tuple[str, int]] = field(default_factory=dict)
    """by file, the list and the first kept version that needs it"""
    _extra: int = 0
    """bytes read again to replay history"""

    def count(self, length: int) -> None:
        """Count one more proved file."""
        self.files += 1
        self.bytes += length
        self._report()

    def _report(self) -> None:
        done = self.bytes + self._extra
        if self.progress:
            self.progress(done, max(self.total, done))

    @contextmanager
    def reading_again(self, refs: Iterable[SegmentRef]) -> Iterator[None]:
        """Count the bytes of segments that are read again, for the progress."""
        length = sum(ref.length for ref in refs)
        self.total += length
        try:
            yield
        finally:
            self._extra += length
            self._report()

    def attempt(self, file: str, name: str = "", version: int = 0) -> "Attempt":
        """Return a context that records an error as a fault of ``file`` and goes on after the block."""
        return Attempt(self, file, name, version)

    def proof(self, folder: Path) -> Proof:
        """Return the outcome for ``folder``."""
        notes = tuple(dict.fromkeys(self.notes))
        faults = tuple(fault if fault.list else self._named(fault) for fault in self.faults)
        return Proof(folder, tuple(self.lists), faults, notes, self.files, self.bytes)

    def _named(self, fault: Fault) -> Fault:
        name, version = self.needed_by.get(fault.file, ("", 0))
        return replace(fault, list=name, version=version)


@dataclass(frozen=True)
class Attempt:
    """A context that records an error as a fault. A class, so that type checkers know that it suppresses."""

    tally: Tally
    file: str
    list: str = ""
    version: int = 0

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        if not isinstance(error, SyncdError):
            return False
        self.tally.faults.append(Fault(self.file, error, self.list, self.version))
        return True


def prove_steadily(
    folder: Path, prove: Callable[[Tally], object], stamp: Callable[[], object], progress: Progress | None
) -> Proof:
    """Prove ``folder``; again if there are faults and ``stamp`` changed meanwhile: a file was replaced while read."""

    def once() -> Proof:
        tally = Tally(progress)
        prove(tally)
        return tally.proof(folder)

    for _ in range(_ATTEMPTS - 1):
        before = stamp()
        proof = once()
        if not proof.faults or stamp() == before:
            return proof
    return once()


def content_stamp(path: Path) -> bytes | None:
    """Return the hash of a file that is replaced by each publication or pull, None if it is missing.

    Raises `StoreError`.
    """
    with storage(path, "read"):
        if not path.exists():
            return None
        with open_regular(path) as stream:
            return hashlib.file_digest(stream, "sha256").digest()
