"""List files as a batch."""

from dataclasses import dataclass
from pathlib import Path

from syncd.errors import UsageError
from syncd.files import storage
from syncd.format.batch import Batch, Changes, Whole
from syncd.listfile.load import Progress, load_removals, load_rows


@dataclass(frozen=True)
class ListFiles:
    """What to publish, as CSV or NDJSON files: the whole list, or what to add and remove.

    Raises `UsageError` unless it is one of both.
    """

    full: Path | None = None
    add: Path | None = None
    remove: Path | None = None
    skip_bad: Path | None = None
    """where to write bad rows; None: a bad row stops everything"""

    def __post_init__(self) -> None:
        if (self.full is None) == (self.add is None and self.remove is None):
            raise UsageError("say what to publish", hint="either --full FILE, or --add FILE and/or --remove FILE")

    def read(self, scratch: Path, progress: Progress | None = None) -> Batch:
        """Read the files; columns are left in the folder ``scratch``. Raises as `load_rows`."""
        if self.full is not None:
            return self._whole(self.full, scratch, progress)
        changes = Changes()
        if self.add is not None:
            loaded = load_rows(self.add, _folder(scratch, "add"), skip_bad=self.skip_bad, progress=progress)
            changes = Changes({one: segment.rows() for one, segment in loaded.segments.items()}, skipped=loaded.skipped)
        if self.remove is not None:
            both = self.add is not None
            named = load_removals(self.remove, _folder(scratch, "remove"), skip_bad=self.skip_bad, append=both)
            changes = Changes(changes.add, named.removals, changes.skipped + named.skipped)
        return changes

    def _whole(self, path: Path, scratch: Path, progress: Progress | None) -> Whole:
        loaded = load_rows(path, _folder(scratch, "full"), skip_bad=self.skip_bad, progress=progress)
        if not loaded.segments:
            raise UsageError(f"{path} holds no rows", hint="to empty a list, remove its entries with --remove")
        return Whole(loaded.segments, loaded.skipped)


def _folder(scratch: Path, name: str) -> Path:
    folder = scratch / name
    with storage(folder, "create folder"):
        folder.mkdir()
    return folder
