"""The records of one poll as a batch: of an entry the last record counts, however the records are spread over pages."""

from pathlib import Path

import pytest

from scripted import IMAGES, MD5, SHA256, record
from syncd.errors import FeedError
from syncd.format.batch import Batch, Changes, WholeList
from syncd.format.rows import Rows
from syncd.model import Algorithm
from syncd.pipeline.spool import ListSpool
from syncd.sources.statements import Fingerprint, Record


def batch_of(folder: Path, *pages: list[Record], whole: bool) -> Batch:
    """What pages of records state."""
    with ListSpool(folder, IMAGES, whole=whole) as spool:
        for page in pages:
            spool.add(page)
        return spool.batch()


def shown(rows: Rows) -> list[tuple[int, str, str]]:
    """Number, entry and label of each row."""
    return [
        (int.from_bytes(bytes(digest)[:4], "big"), entry, rows.labels[code])
        for digest, entry, code in zip(rows.digests, rows.entries.to_pylist(), rows.codes, strict=True)
    ]


@pytest.mark.parametrize("whole", [True, False])
def test_the_last_record_of_an_entry_counts(tmp_path: Path, whole: bool) -> None:
    """It replaces the earlier ones of the same poll whole, in the same page or a later one."""
    batch = batch_of(
        tmp_path,
        [record("a", 1, 2), record("b", 3), record("a", 2, label="B")],
        [record("c", 4), record("b"), record("d", 5, algorithm=MD5)],
        [record("c", 6)],
        whole=whole,
    )
    if isinstance(batch, WholeList):
        found = {algorithm: shown(segment.rows()) for algorithm, segment in batch.segments.items()}
    else:
        found = {algorithm: shown(rows) for algorithm, rows in batch.add.items()}
        assert sorted(batch.replaced.to_pylist()) == ["a", "b", "c", "d"]
    assert found == {MD5: [(5, "d", "A")], SHA256: [(2, "a", "B"), (6, "c", "A")]}
    assert batch.read == 7


def test_nothing_stated(tmp_path: Path) -> None:
    """An empty poll changes nothing; an empty whole list has no segment."""
    changes = batch_of(tmp_path, [], whole=False)
    assert isinstance(changes, Changes)
    assert (dict(changes.add), len(changes.replaced)) == ({}, 0)
    empty = batch_of(tmp_path, whole=True)
    assert isinstance(empty, WholeList)
    assert empty.segments == {}


@pytest.mark.parametrize(
    "bad",
    [
        Record(IMAGES, "e", "A", (Fingerprint(MD5, b"short"),)),
        Record(IMAGES, "e", "A", (Fingerprint(Algorithm("other"), b""),)),
        Record(IMAGES, "e" * 257, "A", ()),
        Record(IMAGES, "e", "A" * 4097, ()),
    ],
)
def test_what_an_adapter_must_set_aside(tmp_path: Path, bad: Record) -> None:
    """A record that cannot be on a list ends the poll: nothing of it is used, and the message holds no digest."""
    with pytest.raises(FeedError, match="records for images cannot be used") as refused:
        batch_of(tmp_path, [record("a", 1), bad], whole=True)
    assert b"short".hex() not in refused.value.message


def test_an_unknown_algorithm_has_one_width(tmp_path: Path) -> None:
    """The first digest says which."""
    other = Algorithm("videntifier")
    good = Record(IMAGES, "e", "A", (Fingerprint(other, b"1234567"),))
    batch = batch_of(tmp_path, [good], whole=True)
    assert isinstance(batch, WholeList)
    assert batch.segments[other].width == 7
    with pytest.raises(FeedError):
        batch_of(tmp_path, [good, Record(IMAGES, "f", "A", (Fingerprint(other, b"12"),))], whole=True)
