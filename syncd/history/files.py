"""The layout of the history on disk. It is private (0700), never served, and not part of the published format.

::

    history/lock
    history/<list>/segments/<sha256>.arrow       segments not folded yet, and whole stacks: hard links
    history/<list>/<algorithm>.<width>.<month>.<first>-<last>.<sha256>.arrow       a month's rows, sorted by digest

``width`` is that of the digests in bytes. ``first`` and ``last`` are the numbers of catalog records: the file has all
rows of its kind from these records and those between them. Files never change. A file whose range lies within that of
another is superseded: it was folded into the other, and a kill kept it from being removed. So a row is neither lost nor
counted twice, whatever happens.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from syncd.files import TEMPORARY_PREFIX, storage
from syncd.model import ALGORITHM_NAME, LIST_NAME, Algorithm, ListName

_MONTH_FILE: Final = re.compile(
    rf"(?P<algorithm>{ALGORITHM_NAME.pattern})\.(?P<width>\d{{1,4}})\.(?P<month>\d{{4}}-\d\d)\."
    r"(?P<first>\d{1,19})-(?P<last>\d{1,19})\.(?P<sha256>[0-9a-f]{64})\.arrow"
)
Kind = tuple[Algorithm, int]
"""An algorithm, and the bytes of its digests: an unknown one may change them after a list was retired."""

_SEGMENT: Final = re.compile(r"(?P<sha256>[0-9a-f]{64})\.arrow")


@dataclass(frozen=True)
class MonthFile:
    """The rows of one kind of digest from the records ``first`` to ``last`` of a list, all of one month."""

    path: Path
    of: Kind
    month: str
    first: int
    last: int
    sha256: str

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last


@dataclass(frozen=True)
class HistoryFolder:
    """Paths below ``history/``."""

    root: Path

    @property
    def lock(self) -> Path:
        """The lock of the process that links, folds and prunes. Readers need none."""
        return self.root / "lock"

    def lists(self) -> tuple[ListName, ...]:
        """Return the lists that have a folder, sorted."""
        with storage(self.root, "list"):
            found = sorted(path.name for path in self.root.glob("*/") if LIST_NAME.fullmatch(path.name))
        return tuple(map(ListName, found))

    def segment(self, name: ListName, sha256: str) -> Path:
        """Return the path of a linked segment."""
        return self.root / name / "segments" / f"{sha256}.arrow"

    def segments(self, name: ListName) -> dict[str, Path]:
        """Return the linked segments of a list by SHA-256."""
        paths = self._paths(name, "segments/*")
        return {found["sha256"]: path for path in paths if (found := _SEGMENT.fullmatch(path.name))}

    def month_file(self, name: ListName, of: Kind, month: str, covers: tuple[int, int, str]) -> MonthFile:
        """Return a month's file. ``covers``: its first and last record, and its SHA-256."""
        first, last, sha256 = covers
        path = self.root / name / f"{of[0]}.{of[1]}.{month}.{first}-{last}.{sha256}.arrow"
        return MonthFile(path, of, month, first, last, sha256)

    def months(self, name: ListName, of: Kind | None = None) -> tuple[MonthFile, ...]:
        """Return the files of a list (of one kind of digest) that count, oldest first; without superseded ones."""
        every = [file for file in self.all_months(name) if of is None or file.of == of]
        return tuple(file for file in every if not _is_superseded(file, every))

    def all_months(self, name: ListName) -> tuple[MonthFile, ...]:
        """Return every month's file of a list, superseded ones included, oldest first."""
        found = [_parsed(path) for path in self._paths(name, "*.arrow")]
        return tuple(sorted(filter(None, found), key=lambda file: (file.of, file.first, file.last, file.sha256)))

    def leftovers(self, name: ListName) -> tuple[Path, ...]:
        """Return the files that a killed process left half-written."""
        return (
            *self._paths(name, f"{TEMPORARY_PREFIX}*"),
            *self._paths(name, f"segments/{TEMPORARY_PREFIX}*"),
        )

    def _paths(self, name: ListName, pattern: str) -> list[Path]:
        with storage(self.root / name, "list"):
            return sorted((self.root / name).glob(pattern))


def _parsed(path: Path) -> MonthFile | None:
    found = _MONTH_FILE.fullmatch(path.name)
    if found is None:
        return None
    covers = int(found["first"]), int(found["last"])
    of = Algorithm(found["algorithm"]), int(found["width"])
    return MonthFile(path, of, found["month"], *covers, found["sha256"])


def _is_superseded(file: MonthFile, files: Iterable[MonthFile]) -> bool:
    """Return True if another file has all records of this one. Of two with the same records the first name counts."""
    for other in files:
        same = (other.first, other.last) == (file.first, file.last)
        within = other.of == file.of and other.first <= file.first and file.last <= other.last
        if within and (other.sha256 < file.sha256 if same else True):
            return True
    return False
