"""The base of every proof of a folder: which of its files are proved, and which are at fault."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from syncd.errors import MismatchError, SegmentError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.snapshot import open_stacks
from syncd.files import DamagedError, sha256_file, storage
from syncd.format.arrow import LOST
from syncd.format.caps import Caps
from syncd.format.delta import drop_empty, whole_state
from syncd.format.manifest import EndState, SegmentRef
from syncd.format.segment import DAMAGED_SINCE, Segment
from syncd.model import Algorithm, ListName
from syncd.verify.replay import DRIFTED
from syncd.verify.tally import Attempt, Tally

_UNLIMITED: Final = Caps(rows=1 << 53, length=1 << 53)
"""Segments that were accepted once can be proved, whatever the caps of their source are now."""


class FolderProver:
    """Proves the files of one folder into a `Tally`. ``prefix`` goes before file names: ``feed/``.

    ``deep``: replay the kept history of each list. ``kept``: the newest versions that must all be here; None if the
    folder need not have each version (a pulled copy).
    """

    def __init__(
        self, folder: FeedFolder, tally: Tally, prefix: str = "", *, deep: bool = False, kept: int | None = None
    ) -> None:
        self.folder, self.tally, self.prefix, self.deep, self.kept = folder, tally, prefix, deep, kept
        self.proved: set[str] = set()
        tally.total += sum(_size(path) for path in files_of(folder, "v1"))

    def attempt(self, file: str, name: str = "", version: int = 0) -> Attempt:
        """Return a context that records an error as a fault of ``file`` and goes on after the block."""
        return self.tally.attempt(self.prefix + file, name, version)

    @property
    def faulty(self) -> set[str]:
        """The files of this folder with a fault so far."""
        return {fault.file.removeprefix(self.prefix) for fault in self.tally.faults}

    def done(self, file: str) -> None:
        """Count ``file`` as proved, once."""
        if file not in self.proved:
            self.proved.add(file)
            with storage(self.folder.path(file), "read"):
                self.tally.count(self.folder.path(file).stat().st_size)

    def skip(self, file: str) -> None:
        """Do not prove a file: nobody signed it, and no answer depends on it."""
        self.proved.add(file)

    def segments(self, name: ListName, refs: Iterator[SegmentRef], needed: Sequence[SegmentRef]) -> None:
        """Prove the files of ``refs``; those that are not ``needed`` may be absent."""
        for ref in refs:
            file = layout.segment_path(name, ref.sha256)
            path = self.folder.path(file)
            if file in self.faulty or (ref not in needed and not path.exists()):
                continue
            with self.attempt(file):
                if ref in needed and self.folder.store.shared:
                    self.folder.segment_path(name, ref)  # a cache need not have it
                self._check(path, ref)
                self.done(file)

    def _check(self, path: Path, ref: SegmentRef) -> None:
        if not path.exists():
            raise DamagedError(f"segment {path.name} is missing", hint=LOST)
        status = path.stat()
        if self.tally.checked.get((status.st_dev, status.st_ino)) != ref:
            try:
                Segment.check(path, ref, _UNLIMITED)
            except SegmentError as error:
                if status.st_size != ref.length or sha256_file(path) != ref.sha256:
                    error.hint = DAMAGED_SINCE
                raise
            self.tally.checked[status.st_dev, status.st_ino] = ref

    def end_state(
        self, name: ListName, stack: Sequence[SegmentRef], stated: Mapping[Algorithm, EndState], what: str
    ) -> None:
        """Recompute an end state from the rows of proved segments. Raises `MismatchError`."""
        computed = {}
        for algorithm in {ref.algorithm for ref in stack}:
            refs = [ref for ref in stack if ref.algorithm == algorithm]
            key = tuple(ref.sha256 for ref in refs)
            if key not in self.tally.states:
                state, _ = whole_state(open_stacks(self.folder, name, refs)[algorithm])
                self.tally.states[key] = state
            computed[algorithm] = self.tally.states[key]
        if drop_empty(computed) != dict(stated):
            raise MismatchError(f"the rows of {what} do not give the signed end state", hint=DRIFTED)


def files_of(folder: FeedFolder, part: str = "") -> Iterator[Path]:
    """Yield the files of a folder, without its private ones."""
    start = folder.root / part
    for path in start.rglob("*") if start.is_dir() else ():
        if path.is_file() and not path.is_relative_to(folder.work):
            yield path


def _size(path: Path) -> int:
    """Return the size of a file; 0 if it was renamed or removed in the meantime."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
