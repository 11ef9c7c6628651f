"""List files as a batch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from syncd.errors import UsageError
from syncd.files import storage
from syncd.format.batch import Batch, Changes, WholeList
from syncd.listfile.load import Progress, load_removals, load_rows
from syncd.listfile.profile import Profile
from syncd.listfile.unpack import shown

LeftOutRows = Callable[[Path, int], None]
"""Receives a file, and the number of its rows that the profile leaves out."""


@dataclass(frozen=True)
class ListFiles:
    """List files to publish: the whole list, or rows to add and to remove.

    Raises `UsageError` if both kinds are given, or neither.
    """

    full: Path | None = None
    add: Path | None = None
    remove: Path | None = None
    skip_bad: Path | None = None
    """the file for bad rows; None: the first bad row raises"""

    profile: Profile = field(default_factory=Profile)
    """the places of the values, if the files do not name their columns as syncd does"""
    exact: bool = False
    """a row to remove that states no entry removes only the entry without an id, not every entry of its digest"""

    def __post_init__(self) -> None:
        if [self.full, self.add, self.remove].count(Path("-")) > 1:
            raise UsageError("standard input can be one file only", hint="name a file for the other")
        if (self.full is None) == (self.add is None and self.remove is None):
            raise UsageError(
                "give the whole list, or rows to add or remove",
                hint="either --full FILE, or --add FILE and/or --remove FILE",
            )

    def read(self, scratch: Path, progress: Progress | None = None, left_out: LeftOutRows | None = None) -> Batch:
        """Read the files into a batch whose columns stay in the folder ``scratch``. Raises as `load_rows`."""
        batch, counts = self._read(scratch, progress)
        for path, number in counts.items():
            if number and left_out is not None:
                left_out(path, number)
        return batch

    def _read(self, scratch: Path, progress: Progress | None) -> tuple[Batch, dict[Path, int]]:
        """Return the batch, and the number of rows of each file that the profile leaves out."""
        if self.full is not None:
            whole = load_rows(
                self.full, _folder(scratch, "full"), skip_bad=self.skip_bad, progress=progress, profile=self.profile
            )
            if not whole.segments:
                others = f", only {whole.left_out} rows that the profile leaves out" if whole.left_out else ""
                raise UsageError(
                    f"{shown(self.full)} contains no rows{others}",
                    hint="to empty a list, remove its entries with --remove",
                )
            return WholeList(whole.segments, whole.skipped, whole.read), {self.full: whole.left_out}
        changes, counts = Changes(), {}
        if self.add is not None:
            loaded = load_rows(
                self.add, _folder(scratch, "add"), skip_bad=self.skip_bad, progress=progress, profile=self.profile
            )
            adds = {algorithm: segment.rows() for algorithm, segment in loaded.segments.items()}
            changes = Changes(adds, skipped=loaded.skipped, read=loaded.read)
            counts[self.add] = loaded.left_out
        if self.remove is not None:
            both = self.add is not None
            named = load_removals(
                self.remove,
                _folder(scratch, "remove"),
                skip_bad=self.skip_bad,
                append=both,
                profile=self.profile,
                exact=self.exact,
            )
            skipped, read = changes.skipped + named.skipped, changes.read + named.read
            changes = Changes(changes.add, named.removals, skipped, read)
            counts[self.remove] = named.left_out
        return changes, counts


def _folder(scratch: Path, name: str) -> Path:
    folder = scratch / name
    with storage(folder, "create folder"):
        folder.mkdir(0o700)
    return folder
