"""Trying a source that signs nothing: its credentials, and what its first page states. Nothing is kept or published."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from syncd.errors import FeedError
from syncd.fetch import Meter
from syncd.format.batch import Batch, WholeList
from syncd.model import Algorithm, ListName
from syncd.sources.statements import FilePoll, PollRequest, Record, StatedFile, StatedSource


@dataclass
class ListCounts:
    """The content of one page for one list, in numbers."""

    records: int = 0
    gone: int = 0
    """records without a fingerprint: withdrawn entries"""
    fingerprints: Counter[Algorithm] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class FirstPage:
    """The first answer of a partner, in numbers. It contains no digest."""

    lists: Mapping[ListName, ListCounts]
    bytes: int
    """received in all"""
    total: int = 0
    """records that the partner says it has; 0 if it does not say"""
    set_aside: Mapping[str, int] = field(default_factory=dict)


def first_page(source: StatedSource, now: datetime, scratch: Path) -> FirstPage:
    """Read the first page of a source from the beginning. ``scratch``: an empty private folder.

    Raises `ConfigError`, `SourceError`, `FeedError`.
    """
    meter = Meter()
    with source.poll(PollRequest(None, now, scratch, meter)) as poll:
        if isinstance(poll, FilePoll):
            file = next((one for one in poll.files() if one.path is not None), None)
            lists = {} if file is None else {file.list: _of_file(file)}
            return FirstPage(lists, meter.total, set_aside=file.set_aside if file else {})
        page = next(iter(poll.pages()), None)
        records, total = (page.records, page.total) if page else ((), 0)
        return FirstPage(_of_records(source, records), meter.total, total, dict(poll.set_aside))


def _of_records(source: StatedSource, records: Iterable[Record]) -> dict[ListName, ListCounts]:
    found = {name: ListCounts() for name in source.kinds}
    for record in records:
        counts = found.get(record.list)
        if counts is None:
            raise FeedError(f"a record belongs to no list of source {source.name}", hint="report it as a bug")
        counts.records += 1
        counts.gone += not record.fingerprints
        counts.fingerprints.update(algorithm for algorithm, _ in record.fingerprints)
        if record.fingerprints:
            counts.labels[record.label] += 1
    return found


def _of_file(file: StatedFile) -> ListCounts:
    batch: Batch = file.batch
    counts = ListCounts(records=batch.read)
    parts = {a: one.rows() for a, one in batch.segments.items()} if isinstance(batch, WholeList) else batch.add
    for algorithm, rows in parts.items():
        counts.fingerprints[algorithm] += len(rows)
        counts.labels.update(rows.label_counts())
    return counts
