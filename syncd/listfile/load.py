"""Reading a publisher's list files: CSV or NDJSON of ``algorithm,digest,entry,label``.

`load_rows` reads rows to add, `load_removals` rows to remove. Nothing is guessed or silently dropped: the first bad
line ends the reading with a `RowError`; if the caller names a file for bad rows, all of them are written there instead.
``text`` reads lines, ``values`` judges rows, ``collect`` and ``buckets`` sort them.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from syncd.files import storage
from syncd.format.batch import Removals
from syncd.format.checksum import entry_bytes
from syncd.format.rows import Digests, Rows
from syncd.format.segment import Segment
from syncd.listfile.collect import BadRows, Sorter, bad_rows
from syncd.listfile.detect import parsed
from syncd.listfile.parsers import Part
from syncd.listfile.profile import Profile
from syncd.listfile.text import ListFile, open_list
from syncd.listfile.values import (
    Columns,
    Decoded,
    addition_fault,
    algorithm_of,
    decode_additions,
    decode_removals,
    removal_fault,
)
from syncd.model import KNOWN_ALGORITHMS, Algorithm

Progress = Callable[[int, int], None]
"""Receives the bytes read so far, and the size of the file."""

_PLAIN: Final = Profile()
_TO_ADD: Final = (frozenset({"algorithm", "digest"}),)
_TO_REMOVE: Final = (frozenset({"algorithm", "digest"}), frozenset({"entry"}))


@dataclass(frozen=True)
class LoadedFile:
    """The counts of a list file that was read."""

    rows: int
    """distinct rows"""
    duplicates: int
    """rows equal to an earlier one, which were collapsed"""
    skipped: int
    """bad rows set aside"""
    left_out: int = field(default=0, kw_only=True)
    """rows that the profile leaves out, because they are not digests, or are revoked"""

    @property
    def read(self) -> int:
        """All rows of the file that count."""
        return self.rows + self.duplicates + self.skipped


@dataclass(frozen=True)
class LoadedRows(LoadedFile):
    """The rows of a list file, sorted, each (algorithm, digest, entry) once."""

    segments: Mapping[Algorithm, Segment]
    """base segments, with files in the scratch folder; algorithms without rows are left out"""


@dataclass(frozen=True)
class LoadedRemovals(LoadedFile):
    """The removals in a list file; their rows are nearly always views of files in the scratch folder."""

    removals: Removals


def load_rows(
    path: Path,
    scratch: Path,
    *,
    skip_bad: Path | None = None,
    progress: Progress | None = None,
    profile: Profile = _PLAIN,
) -> LoadedRows:
    """Read rows to add: ``algorithm`` and ``digest``, optionally ``entry`` and ``label`` ('' if absent).

    Hexadecimal digits and algorithm names may be in either case; entries and labels are kept verbatim. The content
    says which form a file has (``detect``); ``profile`` gives the places of the values if the header does not.
    ``scratch`` is an existing folder; twice the size of the file is enough space. ``skip_bad`` is replaced by the bad
    rows, mode 0600: CSV of ``file,line,column,reason,original``, with rows that contradict an earlier row last.

    Raises `RowError` for the first bad line (with ``skip_bad``: only for a bad header or an endless line),
    `UsageError` if the file cannot be read, `StoreError` if ``scratch`` or ``skip_bad`` cannot be written.
    """
    with _reading(path, scratch, skip_bad, profile) as (source, bad, sorter):
        for part in _parts(source, _TO_ADD, bad, progress, profile):
            decoded = decode_additions(part[1], sorter.label_code)
            bad.report_bad(part, decoded, addition_fault)
            sorter.add(part[1], decoded)
        segments = sorter.write(source, bad)
    rows = sum(map(len, segments.values()))
    return LoadedRows(rows, sorter.duplicates, bad.count, segments, left_out=bad.left_out)


def load_removals(
    path: Path,
    scratch: Path,
    *,
    skip_bad: Path | None = None,
    append: bool = False,
    progress: Progress | None = None,
    profile: Profile = _PLAIN,
    exact: bool = False,
) -> LoadedRemovals:
    """Read rows to remove. A row removes, if it has:

    - ``algorithm``, ``digest`` and ``entry``: that one entry;
    - ``algorithm`` and ``digest``: all entries of the digest. *An empty entry counts as absent*, in CSV and in NDJSON.
      If ``exact``, it means only the entry without an id;
    - ``entry`` without ``digest``: that entry, under ``algorithm`` if given, otherwise under every algorithm.

    ``label`` is ignored. A digest that may not be added may be removed. ``append``: ``skip_bad`` keeps its present
    bad rows. Other arguments and errors: as for `load_rows`.
    """
    entries = _EntriesAlone()
    with _reading(path, scratch, skip_bad, profile, append=append) as (source, bad, sorter):
        for part in _parts(source, _TO_REMOVE, bad, progress, profile):
            decoded = decode_removals(part[1], sorter.label_code)
            bad.report_bad(part, decoded, removal_fault)
            sorter.add(part[1], decoded)
            entries.add(part[1], decoded)
        segments = sorter.write(source, bad)
    return _removals(segments, entries, sorter.duplicates + entries.duplicates, bad, exact=exact)


@contextlib.contextmanager
def _reading(
    path: Path, scratch: Path, skip_bad: Path | None, profile: Profile, *, append: bool = False
) -> Iterator[tuple[ListFile, BadRows, Sorter]]:
    with (
        open_list(path, scratch=scratch, profile=profile) as source,
        bad_rows(path, skip_bad, append=append, unit=source.unit) as bad,
        storage(scratch, "sort rows in"),
        Sorter(scratch) as sorter,
    ):
        yield source, bad, sorter


def _parts(
    source: ListFile, needed: Sequence[frozenset[str]], bad: BadRows, progress: Progress | None, profile: Profile
) -> Iterator[Part]:
    """Yield the rows of a list file, up to a bad row that ends the reading."""
    for part in parsed(source, needed, bad.report, profile):
        yield part
        if bad.ended:
            return
        if progress is not None:
            progress(source.position, source.size)
    source.check_unchanged()


class _EntriesAlone:
    """Removals that name an entry without a digest."""

    def __init__(self) -> None:
        self._entries: dict[Algorithm | None, set[str]] = {}
        self._rows = 0

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def add(self, columns: Columns, decoded: Decoded) -> None:
        """Add the good rows that have no digest."""
        alone = decoded.good.copy()
        for index, _ in decoded.digests.values():
            alone[index] = False
        for ordinal in np.unique(decoded.ordinals[alone]).tolist():
            entries = columns.entry.filter(pa.array(alone & (decoded.ordinals == ordinal)))
            self._entries.setdefault(algorithm_of(ordinal), set()).update(entries.to_pylist())
            self._rows += len(entries)

    @property
    def duplicates(self) -> int:
        """The number of rows equal to an earlier one."""
        return self._rows - len(self)

    def of(self, algorithm: Algorithm | None) -> tuple[str, ...]:
        """Return the entries named under an algorithm, sorted; None: those named without an algorithm."""
        return tuple(sorted(self._entries.get(algorithm, ())))


def _removals(
    segments: Mapping[Algorithm, Segment], entries: _EntriesAlone, duplicates: int, bad: BadRows, *, exact: bool
) -> LoadedRemovals:
    split = {algorithm: _split(segment.rows(), exact=exact) for algorithm, segment in segments.items()}
    under = {algorithm: entries.of(algorithm) for algorithm in KNOWN_ALGORITHMS}
    return LoadedRemovals(
        removals=Removals(
            exact={algorithm: rows for algorithm, (rows, _) in split.items() if len(rows)},
            digests={algorithm: whole for algorithm, (_, whole) in split.items() if len(whole)},
            entries=entries.of(None),
            entries_under={algorithm: found for algorithm, found in under.items() if found},
        ),
        rows=sum(map(len, segments.values())) + len(entries),
        duplicates=duplicates,
        skipped=bad.count,
        left_out=bad.left_out,
    )


def _split(rows: Rows, *, exact: bool) -> tuple[Rows, Digests]:
    """Return the rows that each remove one entry, and the digests whose entries are all removed (none if ``exact``)."""
    whole = (np.diff(entry_bytes(rows.entries)[0]) == 0) & (not exact)
    single = rows.take(~whole) if whole.any() else rows
    return single.as_removals(), rows.digests[whole]
