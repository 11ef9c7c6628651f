"""Searching sorted columns against a plain dictionary and `bisect`: exact for every width and every distribution."""

import bisect
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.format import search
from syncd.format.gather import Gather
from syncd.format.rows import Digests, Rows, sort_order
from syncd.format.search import DigestSearch
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.format.writer import write_segment
from syncd.model import KNOWN_ALGORITHMS, Algorithm

WIDTHS = sorted({algorithm.width for algorithm in KNOWN_ALGORITHMS})


def digests_of(width: int) -> st.SearchStrategy[bytes]:
    """Digests that are uniform, nearly equal, or differ in their last byte alone."""
    edges = st.sampled_from([bytes(width), b"\xff" * width, b"a" * (width - 1) + b"\0", b"a" * (width - 1) + b"b"])
    alike = st.binary(min_size=2, max_size=2).map(lambda tail: b"\0" * (width - 2) + tail)
    crowded = st.binary(min_size=2, max_size=2).map(lambda middle: b"aaaaaaaa" + middle + bytes(width - 10))
    return st.one_of(edges, alike, crowded, st.binary(min_size=width, max_size=width))


def column(digests: list[bytes], width: int) -> Digests:
    return np.frombuffer(b"".join(digests), f"S{width}")


@st.composite
def columns_and_keys(draw: st.DrawFn) -> tuple[int, list[bytes], list[bytes]]:
    width = draw(st.sampled_from(WIDTHS))
    held = sorted(draw(st.lists(digests_of(width), max_size=60)))
    keys = draw(st.lists(st.one_of(digests_of(width), st.sampled_from(held or [bytes(width)])), max_size=40))
    return width, held, keys


@pytest.mark.parametrize("ways", ["first", "table"])
@settings(max_examples=150, deadline=None)
@given(case=columns_and_keys(), in_order=st.booleans())
def test_every_way_of_searching_gives_the_first_row_of_a_key(ways, case, in_order):  # type: ignore[no-untyped-def]
    """Positions, presence and ranges are those of a plain binary search, whatever the digests look like."""
    width, held, keys = case
    keys = sorted(keys) if in_order else keys
    searched = DigestSearch(column(held, width))
    searched._asked = search._WORTH_A_TABLE if ways == "table" else 0
    position, found = searched.find(column(keys, width))
    assert position.tolist() == [bisect.bisect_left(held, key) for key in keys]
    assert found.tolist() == [key in held for key in keys]
    start, stop = searched.ranges(column(keys, width))
    assert start.tolist() == position.tolist()
    assert stop.tolist() == [bisect.bisect_right(held, key) for key in keys]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["uniform", "skewed", "one prefix", "one digest"])
def test_large_columns_of_any_distribution(width, kind):  # type: ignore[no-untyped-def]
    """Tens of thousands of rows, each found where it lies, and none that is not there: by table, guess and window."""
    rng = np.random.default_rng(width)
    raw = rng.integers(0, 256, (40_000, width), np.uint8)
    if kind == "skewed":
        raw[:, 0] = rng.choice([0, 0, 0, 7, 255], len(raw))
        raw[:, 1] &= 1
    elif kind == "one prefix":
        raw[:, : width - 3] = 9
    elif kind == "one digest":
        raw[1000:] = raw[0]
    rows = np.sort(raw.view(f"S{width}").reshape(-1))
    keys = np.concatenate([rng.permutation(rows)[:9000], rng.permutation(raw[:, ::-1].copy().view(rows.dtype)[:, 0])])
    expected = np.searchsorted(rows, keys)
    held = np.append(rows, rows[-1:])[expected] == keys
    held &= expected < len(rows)
    for asked in (keys[:2000], keys, np.sort(keys)):
        searched = DigestSearch(rows)
        for _ in range(3):
            position, found = searched.find(asked)
            assert (position == np.searchsorted(rows, asked)).all()
            assert found.sum() == np.isin(asked, rows).sum()
    assert (searched.find(keys)[1] == held).all()


def test_unaligned_columns_are_searched_all_the_same() -> None:
    """A writer that did not align its buffers costs a copy, not an answer."""
    content = b"x" + b"".join(sorted(bytes([number]) * 16 for number in range(200)))
    rows = np.frombuffer(content, "S16", 200, 1)
    searched = DigestSearch(rows)
    searched._asked = search._WORTH_A_TABLE
    position, found = searched.find(np.frombuffer(bytes([77]) * 16 + bytes([201]) * 16, "S16"))
    assert (position.tolist(), found.tolist()) == ([77, 200], [True, False])


@given(runs=st.lists(st.tuples(st.integers(0, 300), st.integers(1, 200)), max_size=5), scattered=st.booleans())
def test_gathering_by_runs_equals_picking_rows(runs, scattered):  # type: ignore[no-untyped-def]
    """Runs of neighbours are copied whole, and give what picking row by row gives."""
    rows = Rows.build(
        Algorithm.MD5, [number.to_bytes(16, "big") for number in range(600)], [f"e{n}" for n in range(600)], ["A"] * 600
    )
    parts = [np.arange(start, start + length) for start, length in runs]
    index = np.concatenate([np.zeros(0, np.int64), *parts])
    index = index[::-1].copy() if scattered else index
    some = Gather(index)
    assert some.values(rows.codes).tolist() == [0] * len(index)
    assert some.values(rows.digests).tolist() == rows.digests[index].tolist()
    assert some.entries(rows.entries).to_pylist() == [f"e{number}" for number in index]


Change = list[tuple[int, int, str | None]]
"""(digest number, entry number, label or None to remove)"""
changes = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3), st.sampled_from(["A", "B", None])), max_size=25)


def stack_of(folder: Path, algorithm: Algorithm, digests: list[bytes], base: Change, deltas: list[Change]) -> Stack:
    segments = []
    for number, change in enumerate([base, *deltas]):
        last = {(digests[digest], f"e{entry}"): label for digest, entry, label in change}
        if number == 0:
            last = {key: label for key, label in last.items() if label is not None}
        rows = Rows.build(
            algorithm,
            [digest for digest, _ in last],
            [entry for _, entry in last],
            [label or "" for label in last.values()],
            [label is None for label in last.values()],
        )
        path = folder / f"{number}.arrow"
        path.unlink(missing_ok=True)
        ref = write_segment(path, algorithm, "delta" if number else "base", [rows.take(sort_order(rows))])
        segments += [Segment.open(path, ref)] if ref else []
    return Stack(algorithm, segments)


@settings(max_examples=60, deadline=None)
@given(
    algorithm=st.sampled_from(KNOWN_ALGORITHMS),
    data=st.data(),
    base=changes,
    deltas=st.lists(changes, max_size=3),
    remembered=st.booleans(),
)
def test_look_ups_of_every_algorithm_equal_a_dictionary(tmp_path_factory, algorithm, data, base, deltas, remembered):  # type: ignore[no-untyped-def]
    """Single and batch look-ups give the entries in force, with few delta rows and with many."""
    digests = data.draw(st.lists(digests_of(algorithm.width), min_size=13, max_size=13, unique=True))
    expected: dict[bytes, dict[str, str]] = {}
    for change in [base, *deltas]:
        last = {(digest, entry): label for digest, entry, label in change}
        for (digest, entry), label in last.items():
            expected.setdefault(digests[digest], {}).pop(f"e{entry}", None)
            if label is not None:
                expected[digests[digest]][f"e{entry}"] = label
    stack = stack_of(tmp_path_factory.mktemp("stack"), algorithm, digests, base, deltas)
    if not remembered:
        stack.__dict__["_touched"] = None  # as with more delta rows than are kept in memory
    asked = [*digests, b"z" * algorithm.width]
    for digest in asked:
        assert stack.entries_of(digest) == sorted(expected.get(digest, {}).items())
    for batch in (asked, sorted(asked)):
        mask = stack.contains(column(batch, algorithm.width))
        assert mask.tolist() == [bool(expected.get(digest)) for digest in batch]


def test_what_follows_the_last_digest_is_no_digest(tmp_path: Path) -> None:
    """The offsets of the entries come next in the file, and begin as the digest of zeros does."""
    rows = Rows.build(Algorithm.MD5, [bytes(16)], [""], ["A"])
    ref = write_segment(tmp_path / "base", Algorithm.MD5, "base", [rows])
    assert ref is not None
    segment = Segment.open(tmp_path / "base", ref)
    assert segment.row_range(bytes(16)) == (0, 1)
    assert segment.entries_of(bytes(16)) == [("", "A")]


def test_single_look_ups_by_guessing_are_exact(tmp_path: Path) -> None:
    """In a large segment, evenly spread or not, each digest is found with all its rows, and no other is."""
    rng = np.random.default_rng(5)
    even = rng.integers(0, 256, (70_000, 16), dtype=np.uint8)
    crowded = even.copy()
    crowded[:60_000, :3] = 7  # most digests close together: guesses are far off
    for number, table in enumerate((even, crowded)):
        digests = np.sort(np.unique(table.view("S16").reshape(-1)))
        digests = np.sort(np.concatenate([digests, digests[::1000], digests[:2], digests[-2:]]))
        entries = pa.array([f"{place:08}" for place in range(len(digests))], pa.large_utf8())
        zeros = np.zeros(len(digests), np.int32)
        rows = Rows(Algorithm.MD5, digests, entries, zeros, ("A",), np.zeros(len(digests), bool))
        ref = write_segment(tmp_path / str(number), Algorithm.MD5, "base", [rows])
        assert ref is not None
        segment = Segment.check(tmp_path / str(number), ref)
        content = digests.tobytes()
        asked = [content[place : place + 16] for place in range(0, len(content), 16 * 37)]
        asked += [content[:16], content[-16:], bytes(16), b"\xff" * 16, content[16 * 500 : 16 * 500 + 15] + b"\0"]
        for digest in [*asked, *reversed(asked)]:  # again, with what was learned
            start = int(np.searchsorted(digests, np.array([digest], "S16"))[0])
            stop = int(np.searchsorted(digests, np.array([digest], "S16"), side="right")[0])
            low, high = segment.row_range(digest)
            assert (high - low, low if high > low else 0) == (stop - start, start if stop > start else 0)
