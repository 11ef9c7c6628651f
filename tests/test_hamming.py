"""Near digests: exactly those that a comparison of all bits finds, for every number of chunks."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syncd.format import hamming
from syncd.format.hamming import BITS, MAX_DISTANCE, ChunkTable, chunk_count, chunks_of, near_rows, probe_count
from syncd.format.rows import Digests

COUNTS = range(11, 17)
Found = list[tuple[int, int, int]]


def digests(values: list[int], width: int = 32) -> Digests:
    """Return numbers of 256 bits as digests; those of 33 bytes end in another byte each."""
    content = [value.to_bytes(32, "big") + bytes([number % 251])[: width - 32] for number, value in enumerate(values)]
    return np.frombuffer(b"".join(content), f"S{width}")


def oracle(listed: list[int], queries: list[int], distance: int) -> Found:
    """Compare each with each."""
    return [
        (number, row, (query ^ value).bit_count())
        for number, query in enumerate(queries)
        for row, value in enumerate(listed)
        if (query ^ value).bit_count() <= distance
    ]


def as_list(pairs: object) -> Found:
    """Return the columns as tuples."""
    return list(zip(*(column.tolist() for column in pairs), strict=True))  # type: ignore[attr-defined]


@st.composite
def lists_and_queries(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Clusters around few centres, whose bits differ at random or at the borders of the chunks."""
    whole = st.integers(0, (1 << BITS) - 1)
    centres = draw(st.lists(whole, min_size=1, max_size=4))
    borders = [chunk.start for count in COUNTS for chunk in chunks_of(count)]
    bit = st.one_of(
        st.integers(0, BITS - 1), st.sampled_from(borders), st.sampled_from(borders).map(lambda bit: max(0, bit - 1))
    )
    near = st.tuples(st.sampled_from(centres), st.sets(bit, max_size=40)).map(
        lambda drawn: drawn[0] ^ sum(1 << (BITS - 1 - bit) for bit in drawn[1])
    )
    listed = draw(st.lists(st.one_of(near, whole), max_size=40))
    return sorted(listed), draw(st.lists(near, min_size=1, max_size=6))


@pytest.fixture(autouse=True, scope="module")
def _search_short_lists_by_chunks() -> Iterator[None]:
    """Else they are compared whole, which is less work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hamming, "probe_count", lambda _count, _distance: 0)
        yield


@settings(deadline=None, max_examples=settings().max_examples // 5)
@given(lists_and_queries(), st.sampled_from([0, 1, 7, 15, 30, 31, 32, MAX_DISTANCE]), st.sampled_from([32, 33]))
@example(([0, (1 << BITS) - 1], [0]), 31, 32)
def test_every_number_of_chunks_finds_what_comparing_all_finds(
    drawn: tuple[list[int], list[int]], distance: int, width: int
) -> None:
    """Nothing missed, nothing extra, in the order of queries and rows; of 33 bytes the first 32 count."""
    listed, queries = drawn
    expected = oracle(listed, queries, distance)
    column, asked = digests(listed, width), digests(queries, width)
    assert as_list(near_rows(column, asked, distance)) == expected
    for count in (15, 16):  # fewer have larger directories: below
        assert as_list(ChunkTable.in_memory(column, count).near(asked, distance)) == expected, count


@pytest.mark.parametrize("distance", [0, 31, 32])
@pytest.mark.parametrize("count", COUNTS)
def test_differences_at_the_bound_are_found_wherever_the_bits_are(count: int, distance: int) -> None:
    """The worst case of the pigeonhole: all chunks differ in as many bits, give or take one, each in turn in fewer.

    The list is a cluster of edits of one image, many of them at the bound as well, among others.
    """
    rng = np.random.default_rng(count)
    centre, *others = (int.from_bytes(rng.bytes(32), "big") for _ in range(100))
    edits = (spread(centre, count, apart, turn, rng) for apart in range(1, 2 * distance) for turn in range(4))
    listed = sorted({centre, *edits, *others})
    queries = [spread(centre, count, apart, turn, rng) for apart in (distance, distance + 1) for turn in range(count)]
    found = as_list(ChunkTable.in_memory(digests(listed), count).near(digests(queries), distance))
    assert found == oracle(listed, queries, distance)
    assert [one for one in found if one[1] == listed.index(centre)] == [
        (number, listed.index(centre), distance) for number in range(count)
    ]


def spread(centre: int, count: int, apart: int, turn: int, rng: np.random.Generator) -> int:
    """Flip ``apart`` bits, as many in each chunk; the remaining ones in those from number ``turn`` on."""
    for number, chunk in enumerate(chunks_of(count)):
        size = apart // count + ((number - turn) % count < apart % count)
        for bit in rng.choice(chunk.bits, size, replace=False).tolist():
            centre ^= 1 << (BITS - 1 - chunk.start - bit)
    return centre


@pytest.mark.parametrize("likely", [(0.5, 0.5), (0.2, 0.8)], ids=["even", "skewed"])
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_a_large_list_with_clusters_is_searched_exactly(seed: int, likely: tuple[float, float]) -> None:
    """70,000 rows, a fifth of them edits of one image and a fifth alike in their first half; answers in many parts.

    Their numbers have 17 bits, which leaves fewer for the next chunk. Skewed: some bits are set more often than others.
    """
    rng = np.random.default_rng(seed)
    bits = rng.random((70_000, BITS), np.float32) < rng.uniform(*likely, BITS).astype(np.float32)
    bits[:13_000] = bits[0]
    bits[13_000:26_000, : BITS // 2] = bits[13_000, : BITS // 2]
    flipped = rng.integers(0, BITS, (13_000, 10))
    for step in range(10):
        bits[np.arange(13_000), flipped[:, step]] ^= True
    column = np.sort(np.packbits(bits, axis=1).reshape(-1).view("S32"))
    asked = column[rng.integers(0, len(column), 20)]
    expected = as_list(near_rows(column, asked, 31))
    assert as_list(ChunkTable.in_memory(column).near(asked, 31)) == expected


def test_a_distance_that_needs_more_probes_than_there_are_rows_compares_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is less work."""
    monkeypatch.undo()
    monkeypatch.setattr(hamming, "probe_count", probe_count)
    listed = [0, 1, (1 << BITS) - 1]
    table = ChunkTable(digests(listed), 16, _Unused(16 * 65537), _Unused(48))
    assert as_list(table.near(digests([0]), MAX_DISTANCE)) == oracle(listed, [0], MAX_DISTANCE)


class _Unused:
    """A column of which nothing may be read."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def take(self, places: object) -> np.ndarray:
        """Fail."""
        raise AssertionError(places)


def test_no_rows_and_no_queries_give_nothing() -> None:
    """An empty list is not an error."""
    none = digests([])
    for column, asked in ((none, digests([1])), (digests([1]), none)):
        assert as_list(near_rows(column, asked, 31)) == []
        assert as_list(ChunkTable.in_memory(column).near(asked, 31)) == []


def test_the_table_must_fit_its_digests() -> None:
    """One of another segment would miss rows."""
    with pytest.raises(ValueError, match="does not fit"):
        ChunkTable(digests([1]), 8, np.zeros(3, np.uint32), np.zeros(8, np.uint32))


@pytest.mark.parametrize(("rows", "count"), [(0, 16), (1, 16), (10**5, 15), (10**6, 12), (10**7, 11), (10**9, 11)])
def test_longer_lists_are_cut_into_fewer_chunks(rows: int, count: int) -> None:
    """About 256 divided by the binary logarithm of the rows."""
    assert chunk_count(rows) == count
    assert sum(chunk.bits for chunk in chunks_of(count)) == BITS
