"""The index from entries to rows of a segment: the same rows as by reading it, whatever happened to its file."""

from pathlib import Path

import numpy as np
import pytest

from syncd.format.derived import DerivedIndex, index_path
from syncd.format.entry_index import KIND, EntryIndexes, as_entries, index_of, rows_by_reading, write_entry_index
from syncd.format.rows import Rows, sort_order
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.format.writer import write_segment
from syncd.model import Algorithm

MD5 = Algorithm.MD5
ROWS = 3000


def segment(folder: Path, name: str, rows: Rows) -> Segment:
    """A segment of rows in any order."""
    path = folder / name
    ref = write_segment(path, MD5, "delta" if rows.removed.any() else "base", [rows.take(sort_order(rows))])
    assert ref
    return Segment.open(path, ref)


def some(count: int, removed: bool = False, step: int = 1) -> Rows:
    """Rows whose entries are shared by three digests each; the longest has 40 bytes."""
    numbers = range(0, count * step, step)
    digests = [(number * 2654435761 % (1 << 32)).to_bytes(4, "big") * 4 for number in numbers]
    entries = [f"m/{number // 3}".ljust(number % 41, "x") if number % 2 else f"m/{number // 3}" for number in numbers]
    return Rows.build(MD5, digests, entries, ["A"] * count, [removed] * count)


def wanted(rows: Rows) -> list[str]:
    """Every tenth entry, and one that no row has."""
    return [*dict.fromkeys(rows.entries.to_pylist()[::10]), "absent"]


def test_the_index_finds_what_reading_finds(tmp_path: Path) -> None:
    """Entries of several rows, of every length, and none."""
    rows = some(ROWS)
    base, indexes = segment(tmp_path, "base", rows), EntryIndexes(tmp_path, least=1)
    entries = as_entries(wanted(rows))
    found, read = indexes.rows(base, entries), rows_by_reading(base, entries)
    assert found.entries.equals(read.entries)
    assert (found.digests == read.digests).all()
    assert len(found) > ROWS // 10
    assert not len(indexes.rows(base, as_entries(["absent"])))
    assert not len(indexes.rows(base, as_entries([])))


@pytest.mark.parametrize("near", [0, 1, 4])
def test_hashes_far_from_their_usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, near: int) -> None:
    """All rows of an entry are found, also if they lie farther away than is read first, or across its ends."""
    monkeypatch.setattr("syncd.format.entry_index._NEAR", near)
    base, indexes = segment(tmp_path, "base", some(ROWS)), EntryIndexes(tmp_path, least=1)
    entries = base.entries
    assert indexes.rows(base, entries).entries.equals(rows_by_reading(base, entries).entries)


def test_a_stack_by_index_is_the_stack_by_reading(tmp_path: Path) -> None:
    """Removed rows of a base are not found; rows of deltas are."""
    base, removals = segment(tmp_path, "base", some(ROWS)), segment(tmp_path, "less", some(50, removed=True, step=7))
    stack, entries = Stack(MD5, [base, removals]), wanted(some(ROWS))
    found, read = stack.rows_with_entries(entries, EntryIndexes(tmp_path, 1).rows), stack.rows_with_entries(entries)
    assert found.entries.equals(read.entries)
    gone = Stack(MD5, [removals]).overlay
    keys = set(zip(gone.digests.tolist(), gone.entries.to_pylist(), strict=True))
    assert not keys & set(zip(found.digests.tolist(), found.entries.to_pylist(), strict=True))


def test_the_same_bytes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index is deterministic, in however many parts it was sorted."""
    base = segment(tmp_path, "base", some(ROWS))
    path = index_path(tmp_path, base.ref.sha256, KIND)
    write_entry_index(base, tmp_path)
    first = path.read_bytes()
    monkeypatch.setattr("syncd.format.entry_index._PART", 100)
    write_entry_index(base, tmp_path)
    assert path.read_bytes() == first
    made = DerivedIndex.open(path, index_of(base.ref.sha256))
    assert made
    made.prove()
    assert sorted((made.columns["rows"].slice(0, ROWS) & np.uint64((1 << 32) - 1)).tolist()) == list(range(ROWS))


@pytest.fixture(autouse=True)
def never_by_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small segment is searched by its index too."""
    monkeypatch.setattr("syncd.format.entry_index._WORTH_READING", 0)


@pytest.mark.parametrize("harm", [lambda content: content[:5000], lambda content: b"x" + content[1:], lambda _: b""])
def test_a_lost_index_is_made_again(tmp_path: Path, harm: object) -> None:
    """A cut, overwritten or empty file costs time, never an answer."""
    base, indexes = segment(tmp_path, "base", some(ROWS)), EntryIndexes(tmp_path, least=1)
    entries = as_entries(wanted(some(ROWS)))
    first = indexes.rows(base, entries)
    path = index_path(tmp_path, base.ref.sha256, KIND)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(harm(content))  # type: ignore[operator]  # a lambda of the parameters
    assert indexes.rows(base, entries).entries.equals(first.entries)
    assert path.read_bytes() == content


def test_a_damaged_block_is_noticed(tmp_path: Path) -> None:
    """A changed byte would hide rows: the segment is read instead, and the index made again the next time."""
    base, indexes = segment(tmp_path, "base", some(ROWS)), EntryIndexes(tmp_path, least=1)
    entries = as_entries(wanted(some(ROWS)))
    first = indexes.rows(base, entries)
    path = index_path(tmp_path, base.ref.sha256, KIND)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-9000] + bytes([content[-9000] ^ 1]) + content[-8999:])
    assert indexes.rows(base, entries).entries.equals(first.entries)
    assert not path.exists()
    assert indexes.rows(base, entries).entries.equals(first.entries)
    assert path.read_bytes() == content


def test_two_entries_with_one_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hit is compared with the entry itself, so a collision finds nothing that was not asked for."""
    monkeypatch.setattr("syncd.format.entry_index.entry_hashes", lambda entries: np.full(len(entries), 7, np.uint64))
    base, indexes = segment(tmp_path, "base", some(ROWS)), EntryIndexes(tmp_path, least=1)
    entries = as_entries(wanted(some(ROWS)))
    assert indexes.rows(base, entries).entries.equals(rows_by_reading(base, entries).entries)
