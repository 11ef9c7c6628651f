"""Searching the history for one digest: the rows of every publication of a list that named it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.history_records import HistoryKind, HistoryRecord
from syncd.errors import SegmentError, StoreError
from syncd.format.segment import Segment
from syncd.format.stack import supporting
from syncd.history.files import HistoryFolder, Kind
from syncd.history.keep import is_large
from syncd.history.rows import HEAD, ORIGIN, HistoryRow, OpenMonth
from syncd.history.segments import open_kept
from syncd.model import Digest, ListName

_ATTEMPTS: Final = 3
"""Attempts while files are folded and removed under our hands."""

Supported = Mapping[str, str]
"""The entries that support a digest, each with its label."""


@dataclass(frozen=True)
class Gap:
    """A part of the history that cannot be read."""

    list: ListName
    message: str
    at: datetime | None = None
    """when the rows that are missing were published; None: unknown"""


@dataclass(frozen=True)
class Found:
    """All that the history of one list says of one digest."""

    rows: tuple[HistoryRow, ...] = ()
    """oldest first"""
    states: tuple[HistoryRecord, ...] = ()
    """the records that name a whole stack, or whose rows were lost; oldest first"""
    stacks: Mapping[int, Supported] = field(default_factory=dict)
    """by record number: what the stack of a record of ``states`` says; without those whose files were lost"""
    records: Mapping[int, HistoryRecord] = field(default_factory=dict)
    """the records of ``rows``, as far as they are known"""
    gaps: tuple[Gap, ...] = ()


def find(state: StateFolder, catalog: Catalog, name: ListName, digest: Digest) -> Found:
    """Search the history of one list. A file that cannot be read becomes a gap. Raises `StoreError` for the catalog."""
    found = _find(state, catalog, name, digest)
    for _ in range(_ATTEMPTS - 1):
        if not found.gaps:
            break
        found = _find(state, catalog, name, digest)  # a file may have been folded into another in the meantime
    return found


def supported(segments: Iterable[Segment], digest: bytes) -> Supported:
    """Return the entries that support a digest in a stack, oldest segment first."""
    return supporting((segment for segment in segments if segment.width == len(digest)), digest)


def _find(state: StateFolder, catalog: Catalog, name: ListName, digest: Digest) -> Found:
    of = digest.algorithm, len(digest.value)
    # Records first: what is folded meanwhile is then in both, and found once by its number.
    records, states = catalog.unfolded_history(name), catalog.history_states(name)
    gaps: list[Gap] = []
    rows, covered = _in_months(state, catalog, name, of, digest.value, gaps)
    for record in records:
        folded = not is_large(record) and any(first <= record.number <= last for first, last in covered)
        if record.kind is HistoryKind.DELTA and not folded:
            rows += _in_record(state, record, digest, gaps)
    stacks = {}
    for record in states:
        if record.kind is HistoryKind.LOST:
            gaps.append(Gap(name, f"the rows of version {record.version or 'unknown'} were lost", record.at))
            continue
        try:
            refs = [ref for ref in record.head if ref.algorithm == digest.algorithm]
            stacks[record.number] = supported((open_kept(state, record, ref) for ref in refs), digest.value)
        except (StoreError, SegmentError) as error:
            gaps.append(Gap(name, error.message, record.at))
    known = {record.number: record for record in records}
    known |= catalog.history_records({row.number for row in rows} - known.keys())
    rows.sort(key=lambda row: (row.number, row.entry))
    return Found(tuple(rows), states, stacks, known, tuple(gaps))


def missing_months(catalog: Catalog, name: ListName, of: Kind, have: Mapping[str, int]) -> tuple[Gap, ...]:
    """Return the months whose files have fewer rows than were written. ``have``: the rows that are there."""
    return tuple(
        Gap(name, f"{month.rows - rows:,} {month.algorithm} rows of {month.month} were lost from the history of {name}")
        for month in catalog.history_months(name)
        if (month.algorithm, month.width) == of and (rows := have.get(month.month, 0)) < month.rows
    )


def _in_months(
    state: StateFolder, catalog: Catalog, name: ListName, of: Kind, digest: bytes, gaps: list[Gap]
) -> tuple[list[HistoryRow], list[tuple[int, int]]]:
    rows: list[HistoryRow] = []
    files = HistoryFolder(state.history).months(name, of)
    have: Counter[str] = Counter()
    for file in files:
        try:
            opened = OpenMonth(file)
            rows += opened.find(digest)
            have[file.month] += len(opened)
        except StoreError as error:
            gaps.append(Gap(name, error.message))
    if not gaps:
        gaps += missing_months(catalog, name, of, have)
    return rows, [(file.first, file.last) for file in files]


def _in_record(state: StateFolder, record: HistoryRecord, digest: Digest, gaps: list[Gap]) -> list[HistoryRow]:
    """Return the rows of a record that is not folded, from its segments."""
    refs = [ref for ref in record.segments if ref.algorithm == digest.algorithm]
    found: dict[tuple[str, int], tuple[str, bool]] = {}
    try:
        for ref in refs:
            of = (HEAD if ref in record.head else 0) | (ORIGIN if ref in record.origin else 0)
            segment = open_kept(state, record, ref)
            rows = range(*segment.row_range(digest.value)) if segment.width == len(digest.value) else ()
            for row in rows:  # a later segment of the same record wins
                found[segment.entry_and_label(row)[0], of] = (segment.entry_and_label(row)[1], segment.removes(row))
    except (StoreError, SegmentError) as error:
        gaps.append(Gap(record.list, error.message, record.at))
    at = round(record.at.timestamp() * 1_000_000)
    numbers = record.number, record.version or 0, record.serial or 0, at
    return [HistoryRow(*numbers, entry, label, removed, of) for (entry, of), (label, removed) in found.items()]
