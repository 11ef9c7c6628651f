"""Derived indexes: the same bytes each time, found damaged if they are, and never of another segment."""

from pathlib import Path

import numpy as np
import pytest

from syncd.format.derived import DamagedIndexError, DerivedIndex, IndexOf, index_path, written

OF = IndexOf("numbers", 1, "ab" * 32, {"bits": 21})
FIRST, SECOND = np.arange(5000, dtype=np.uint32), np.arange(8, dtype=np.uint64)


def write(root: Path, of: IndexOf = OF) -> Path:
    """Write an index of two columns."""
    path = index_path(root, of.segment, of.kind)
    with written(path, of) as writer:
        first, second = writer.column("first", np.uint32, 5000), writer.column("second", np.uint64, 8)
        for start in range(0, 5000, 700):
            first.append(FIRST[start : start + 700])
            second.append(SECOND[start // 700 : start // 700 + 1])
    return path


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Columns and settings; the checksum holds, and the bytes are the same the next time."""
    path = write(tmp_path)
    index = DerivedIndex.open(path, OF)
    assert index is not None
    assert index.settings == {"bits": 21}
    assert _is_alike(index)
    index.prove()
    content = path.read_bytes()
    assert write(tmp_path).read_bytes() == content
    assert path == tmp_path / "indexes" / f"{'ab' * 32}.numbers"


def test_each_flipped_bit_is_found(tmp_path: Path) -> None:
    """In the header or the checksums, it is no index any more; in a column, using or proving it is an error."""
    path = write(tmp_path)
    content = path.read_bytes()
    for at in [*range(0, 420, 7), *range(4096, len(content), 101)]:
        path.unlink()
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        index = DerivedIndex.open(path, OF)
        if index is not None:
            try:
                index.prove()
            except DamagedIndexError:
                with pytest.raises(DamagedIndexError):
                    _is_alike(index)
                continue
            assert _is_alike(index), at  # padding


def _is_alike(index: DerivedIndex) -> bool:
    read = {name: column.slice(0, len(column)).tolist() for name, column in index.columns.items()}
    taken = index.columns["first"].take(np.arange(len(FIRST))[::-1]).tolist()[::-1]
    same = read == {"first": FIRST.tolist(), "second": SECOND.tolist()} and taken == FIRST.tolist()
    return same and index.settings == OF.settings


def test_only_the_blocks_that_are_used_are_proved(tmp_path: Path) -> None:
    """A value in a sound block is read although another block is damaged, which is told when it is used."""
    path = write(tmp_path)
    content = bytearray(path.read_bytes())
    content[4096 + 4 * 1500] ^= 1
    path.unlink()
    path.write_bytes(content)
    index = DerivedIndex.open(path, OF)
    assert index is not None
    first = index.columns["first"]
    assert first.take(np.array([0, 1023, 2048, 4999])).tolist() == [0, 1023, 2048, 4999]
    for _ in range(2):
        with pytest.raises(DamagedIndexError, match="was damaged on this disk"):
            first.take(np.array([1024]))
    with pytest.raises(DamagedIndexError):
        first.slice(1000, 1025)
    assert first.slice(0, 1024).tolist() == FIRST[:1024].tolist()


def test_the_last_blocks_are_proved_together(tmp_path: Path) -> None:
    """One of 600 is damaged and never used: when only two are left to prove, it is told."""
    path, many = index_path(tmp_path, OF.segment, OF.kind), np.arange(600 * 1024, dtype=np.uint32)
    with written(path, OF) as writer:
        writer.column("first", np.uint32, len(many)).append(many)
    with path.open("r+b") as file:
        file.seek(4096 + 4096 * 599)
        file.write(b"\xff")
    index = DerivedIndex.open(path, OF)
    assert index is not None
    first = index.columns["first"]
    starts = np.arange(0, len(many), 1024)
    assert first.take(starts[:597]).tolist() == starts[:597].tolist()
    with pytest.raises(DamagedIndexError):
        first.take(starts[597:598])
    with pytest.raises(DamagedIndexError):
        first.take(starts[599:])


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 5000])
def test_a_cut_index_is_not_used(tmp_path: Path, length: int) -> None:
    """It is made again."""
    path = write(tmp_path)
    content = path.read_bytes()[:length]
    path.unlink()
    path.write_bytes(content)
    assert DerivedIndex.open(path, OF) is None


@pytest.mark.parametrize(
    "other", [IndexOf("other", 1, "ab" * 32), IndexOf("numbers", 2, "ab" * 32), IndexOf("numbers", 1, "cd" * 32)]
)
def test_an_index_of_another_kind_version_or_segment_is_not_used(tmp_path: Path, other: IndexOf) -> None:
    """Its rows would be those of another file."""
    assert DerivedIndex.open(write(tmp_path), other) is None


def test_no_index_and_no_file_are_the_same(tmp_path: Path) -> None:
    """A folder in its place too."""
    path = index_path(tmp_path, OF.segment, OF.kind)
    assert DerivedIndex.open(path, OF) is None
    path.mkdir(parents=True)
    assert DerivedIndex.open(path, OF) is None


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([FIRST[:4999]], "too short"),
        ([FIRST, FIRST[:1]], "too long"),
        ([FIRST.astype(np.uint64)], "another type"),
    ],
)
def test_a_column_has_the_length_and_type_that_were_announced(
    tmp_path: Path, pieces: list[np.ndarray], message: str
) -> None:
    """Else its reader would read past it."""

    def write_pieces() -> None:
        with written(index_path(tmp_path, OF.segment, OF.kind), OF) as writer:
            column = writer.column("first", np.uint32, 5000)
            for piece in pieces:
                column.append(piece)

    with pytest.raises(ValueError, match=message):
        write_pieces()


def test_a_write_that_fails_leaves_no_file(tmp_path: Path) -> None:
    """Not even under another name."""
    path = index_path(tmp_path, OF.segment, OF.kind)

    def fail() -> None:
        with written(path, OF) as writer:
            writer.column("first", np.uint32, 5000).append(FIRST)
            raise OSError(28, "No space left on device")

    with pytest.raises(Exception, match="No space left"):
        fail()
    assert list(path.parent.iterdir()) == []
