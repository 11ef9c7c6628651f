"""Digests within a Hamming distance of others, by exact multi-index hashing.

The first 256 bits of a digest are cut into chunks. If two digests differ in at most ``distance`` bits, then for any
thresholds t of the chunks whose sum of ``t + 1`` is more than ``distance``, one chunk differs in at most its t bits.
So all near digests are among those that share, in some chunk, one of the few values within t bits of the query's.
(M. Norouzi, A. Punjani, D. J. Fleet: Fast Search in Hamming Space with Multi-Index Hashing, CVPR 2012, section 2.)
Candidates are compared by all bits: nothing is missed, and nothing extra found.

Most candidates can be dropped without fetching their digests. Go around the chunks and add up ``t + 1 - d``, d being
the differences in a chunk: if the sum of all is positive, it stays positive all the way from some chunk on. So in one
of the chunks that the two share, and the next, they differ in at most ``t + t' + 1`` bits. (J. Qin, C. Xiao:
Pigeonring, VLDB 2018, section 3.) Beside each row the table has the first bits of its next chunk.

`ChunkTable` is the table from values to rows, in memory or mapped. Its best number of chunks is about 256 divided by
the binary logarithm of the number of rows; the answers are the same for each number.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import comb, log2
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from syncd.format.freshness import FARTHEST
from syncd.format.rows import Digests

BITS: Final = 256
MAX_DISTANCE: Final = FARTHEST
"""Beyond, most lists would be candidates, and unrelated images are 128 bits apart."""
_BYTES: Final = BITS // 8
_WORDS: Final = BITS // 64
_FEWEST, _MOST = 11, 16
"""Chunks. With 10 the directory alone has 2 GB; with more than 16 there are too many candidates."""
_LATER: Final = 0.1
"""A fraction of a chunk by which the number is high: a chunk less makes the directory three times as long."""
_BLOCK: Final = 1 << 14
"""rows compared at a time, so that their words stay in the second-level cache"""
_PAIRS: Final = np.uint32(0x00FF00FF)
_PROBES: Final = 1 << 16
"""probes of several queries at a time"""
_CANDIDATES: Final = 1 << 18
"""candidates compared at a time"""

Words = NDArray[np.uint64]
"""The 256 bits of digests, of shape (n, 4), as words whose bytes are in the digest's order."""
Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Number of the query, row and distance of each match, sorted by query and row."""


def words_of(digests: Digests) -> Words:
    """Return the words of digests of at least 32 bytes; a view if they have exactly 32."""
    width = digests.dtype.itemsize
    table = np.ascontiguousarray(digests).view(np.uint8).reshape(-1, width)
    return np.ascontiguousarray(table[:, :_BYTES]).view(np.uint64)


class _Distances:
    """Computes distances of up to ``rows`` pairs at a time, in memory of its own: fresh arrays cost as much again."""

    def __init__(self, rows: int) -> None:
        self._differ = np.empty(rows * _WORDS, np.uint64)
        self._counts = np.empty(rows * _WORDS, np.uint8)
        self._sums = np.empty(rows, np.uint32)

    def of(self, left: Words, right: Words) -> NDArray[np.uint32]:
        """Return the distance of each row of ``left`` from the same row of ``right``. Overwritten by the next call."""
        count = len(left)
        differ, counts = self._differ[: count * _WORDS], self._counts[: count * _WORDS]
        np.bitwise_xor(left.reshape(-1), right.reshape(-1), out=differ)  # as one axis: numpy is slow at short ones
        np.bitwise_count(differ, out=counts)
        four, sums = counts.view(np.uint32), self._sums[:count]
        np.right_shift(four, np.uint32(8), out=sums)
        np.bitwise_and(sums, _PAIRS, out=sums)
        np.bitwise_and(four, _PAIRS, out=four)
        np.add(sums, four, out=sums)  # two sums of two words, 16 bits each
        np.right_shift(sums, np.uint32(16), out=four)
        np.add(sums, four, out=sums)
        np.bitwise_and(sums, np.uint32(0xFFFF), out=sums)
        return sums


def near_rows(digests: Digests, queries: Digests, distance: int) -> Pairs:
    """Compare all ``digests``, of shape (n,), with each of ``queries``. Reads all of them for each query."""
    block = min(_BLOCK, len(digests))
    distances, query = _Distances(block), np.empty((block, _WORDS), np.uint64)
    asked = words_of(queries)
    parts: list[tuple[int, NDArray[Any], NDArray[Any]]] = []
    for number in range(len(asked)):
        query[:] = asked[number]
        for start in range(0, len(digests), _BLOCK):
            words = words_of(digests[start : start + _BLOCK])
            apart = distances.of(words, query[: len(words)])
            rows = np.flatnonzero(apart <= distance)
            if len(rows):
                parts.append((number, rows + start, apart[rows]))
    return _joined(parts)


def _joined(parts: Sequence[tuple[int, NDArray[Any], NDArray[Any]]]) -> Pairs:
    if not parts:
        none = np.zeros(0, np.int64)
        return none, none, none
    numbers = np.repeat([number for number, _, _ in parts], [len(rows) for _, rows, _ in parts]).astype(np.int64)
    rows = np.concatenate([rows for _, rows, _ in parts]).astype(np.int64)
    return numbers, rows, np.concatenate([apart for _, _, apart in parts]).astype(np.int64)


def chunk_count(rows: int) -> int:
    """Return the best number of chunks for a number of rows: 12 from one million, 11 from three."""
    return min(_MOST, max(_FEWEST, int(BITS / log2(max(rows, 2)) + _LATER)))


@dataclass(frozen=True)
class Chunk:
    """Some neighbouring bits of a digest, counted from its first."""

    start: int
    bits: int

    def values(self, words: Words) -> NDArray[np.int64]:
        """Return the chunk's value in each digest."""
        first, skip = divmod(self.start, 64)
        value = words[:, first].byteswap() << np.uint64(skip)
        if skip + self.bits > 64:  # noqa: PLR2004 - bits of a word
            value |= words[:, first + 1].byteswap() >> np.uint64(64 - skip)
        return (value >> np.uint64(64 - self.bits)).view(np.int64)


@lru_cache
def chunks_of(count: int) -> tuple[Chunk, ...]:
    """Cut 256 bits into ``count`` chunks, the longer ones first."""
    short, longer = divmod(BITS, count)
    bits = [short + 1] * longer + [short] * (count - longer)
    return tuple(Chunk(sum(bits[:number]), size) for number, size in enumerate(bits))


class _Shifts:
    """The places of the bits of all chunks, as columns: the values of a few digests are read in a few steps."""

    def __init__(self, count: int) -> None:
        chunks = chunks_of(count)
        word, skip = (np.array(column) for column in zip(*(divmod(chunk.start, 64) for chunk in chunks), strict=True))
        self._word, self._next = word, np.minimum(word + 1, _WORDS - 1)
        self._skip, self._rest = skip.astype(np.uint64), (64 - skip).astype(np.uint64)
        self._bits = np.array([chunk.bits for chunk in chunks])
        self._unused = (64 - self._bits).astype(np.uint64)
        self._following = np.append(np.arange(1, count), 0)

    def values(self, words: Words) -> NDArray[np.int64]:
        """Return the values of all chunks, of shape (n, count)."""
        plain = words.byteswap()
        value = plain.take(self._word, axis=1)
        value <<= self._skip
        value |= plain.take(self._next, axis=1) >> self._rest  # numpy shifts 64 bits to 0; what is too much falls off
        value >>= self._unused
        return value.view(np.int64)

    def tags(self, values: NDArray[np.int64], bits: int) -> NDArray[np.uint32]:
        """Return the first ``bits`` of the chunk after each, of shape (n, count)."""
        first: NDArray[np.uint32] = (values >> (self._bits - bits)).take(self._following, axis=1).astype(np.uint32)
        return first


_shifts: Final = lru_cache(_Shifts)


def directory_size(count: int) -> int:
    """Return the length of the directory of a table with ``count`` chunks."""
    return sum((1 << chunk.bits) + 1 for chunk in chunks_of(count))


def tag_bits(rows: int) -> int:
    """Return how many bits of the next chunk stand beside a row: those that its number, of 32 bits, leaves free."""
    return min(BITS // _MOST, 32 - max(1, (rows - 1).bit_length()))


@dataclass(frozen=True)
class _Probes:
    """The probes of one query: for each, its chunk, the bits to flip in its value, and its place in the directory."""

    chunk: NDArray[np.int64]
    flip: NDArray[np.int64]
    place: NDArray[np.int64]
    allowed: NDArray[np.uint8]
    """the most differences in the next chunk"""


def _thresholds(count: int, distance: int) -> tuple[int, ...]:
    """Return for each chunk in how many bits a near digest may differ there; -1 if it is not looked at."""
    every, more = divmod(distance + 1, count)
    return (every - 1,) * (count - more) + (every,) * more  # one more where it costs least: in shorter chunks


@lru_cache
def probe_count(count: int, distance: int) -> int:
    """Return the number of values that are looked up for a query."""
    pairs = zip(chunks_of(count), _thresholds(count, distance), strict=True)
    return sum(comb(chunk.bits, size) for chunk, threshold in pairs for size in range(threshold + 1))


@lru_cache(maxsize=64)
def _probes(count: int, distance: int) -> _Probes:
    chunks, thresholds = chunks_of(count), np.array(_thresholds(count, distance))
    flips = [_flips(chunk.bits, threshold) for chunk, threshold in zip(chunks, thresholds.tolist(), strict=True)]
    sizes = [len(flip) for flip in flips]
    places = np.concatenate([[0], np.cumsum([(1 << chunk.bits) + 1 for chunk in chunks])[:-1]])
    flip = np.concatenate(flips)
    allowed = np.repeat(thresholds + np.roll(thresholds, -1) + 1, sizes) - np.bitwise_count(flip)
    return _Probes(
        np.repeat(np.arange(count), sizes), flip, np.repeat(places, sizes), np.maximum(allowed, 0).astype(np.uint8)
    )


def _flips(bits: int, threshold: int) -> NDArray[np.int64]:
    """Return every number of ``bits`` bits with at most ``threshold`` of them set; none for a negative threshold.

    Sorted: values whose first bits are alike lie on the same pages of the directory and of the rows.
    """
    if threshold < 0:
        return np.zeros(0, np.int64)
    sizes = [np.zeros(1, np.int64)]
    last = np.array([-1])
    for _ in range(threshold):  # set one more bit, above the last
        some, last = (last[:, None] < np.arange(bits)).nonzero()
        sizes.append(sizes[-1][some] | np.left_shift(1, last))
    return np.sort(np.concatenate(sizes))


class Values(Protocol):
    """A column of numbers: an array, or a mapped `syncd.format.derived.Column`."""

    def __len__(self) -> int: ...

    def take(self, places: NDArray[Any]) -> NDArray[Any]:
        """Return the values at ``places``."""
        ...


class ChunkTable:
    """For each chunk and value, the rows whose digests have it.

    ``directory``: uint32; for each chunk the place in ``rows`` of its first row of each value, and the end. ``rows``:
    uint32; for each chunk all rows, sorted by value and number, with `tag_bits` of the next chunk below the number.
    """

    def __init__(self, digests: Digests, count: int, directory: Values, rows: Values) -> None:
        if len(directory) != directory_size(count) or len(rows) != count * len(digests):
            raise ValueError("a table of chunks does not fit its digests")
        self._digests, self._count, self._directory, self._rows = digests, count, directory, rows
        self._width = digests.dtype.itemsize
        self._tag_bits = np.uint32(tag_bits(len(digests)))

    @classmethod
    def in_memory(cls, digests: Digests, count: int | None = None) -> "ChunkTable":
        """Make the table of some digests in memory; ``count`` is the number of chunks."""
        count = chunk_count(len(digests)) if count is None else count
        parts = list(table_parts(digests, count))
        return cls(
            digests, count, np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        )

    def near(self, queries: Digests, distance: int) -> Pairs:
        """Return the rows within ``distance`` of each query. Raises what the columns raise.

        Compares all rows if that is less work, as it is for a large distance in a short list.
        """
        if probe_count(self._count, distance) > len(self._digests):
            return near_rows(self._digests, queries, distance)
        asked, probes = words_of(queries), _probes(self._count, distance)
        at_once = max(1, _PROBES // max(1, len(probes.flip)))
        parts = [
            self._near(asked[start : start + at_once], start, probes, distance)
            for start in range(0, len(asked), at_once)
        ]
        if len(parts) == 1:
            return parts[0]
        return _joined([]) if not parts else tuple(map(np.concatenate, zip(*parts, strict=True)))  # type: ignore[return-value]

    def _near(self, asked: Words, first: int, probes: _Probes, distance: int) -> Pairs:
        values = _shifts(self._count).values(asked)
        tags = _shifts(self._count).tags(values, int(self._tag_bits))
        place = values.take(probes.chunk, axis=1)
        place ^= probes.flip
        place += probes.place
        place = place.reshape(-1)
        first_row = self._directory.take(place)
        place += 1
        rows = self._directory.take(place)
        rows -= first_row
        filled = rows.nonzero()[0]
        size, start = rows.take(filled).astype(np.int64), first_row.take(filled).astype(np.int64)
        if len(asked) > 1:
            query, probe = np.divmod(filled, len(probes.flip))
            tag = tags.take(query * self._count + probes.chunk.take(probe))
        else:
            query, probe = np.zeros(len(filled), np.int64), filled
            tag = tags.take(probes.chunk.take(probe))
        found = _FilledValues(query, start, size, tag, probes.allowed.take(probe))
        parts = [self._compare(asked, distance, some) for some in _bounded(found)]
        if len(parts) == 1:
            query, row, apart = parts[0]
        else:
            query, row, apart = map(np.concatenate, zip(*parts, strict=True)) if parts else _joined([])
        if len(row) <= 1:
            return query + first, row, apart
        order = np.lexsort((row, query))
        query, row, apart = query[order], row[order], apart[order]
        new = np.ones(len(row), bool)
        new[1:] = (row[1:] != row[:-1]) | (query[1:] != query[:-1])  # one row may be found by several chunks
        return query[new] + first, row[new], apart[new]

    def _compare(self, asked: Words, distance: int, found: "_FilledValues") -> Pairs:
        """Compare the rows of some values with their query."""
        size = found.size
        at = (found.start - size.cumsum() + size).repeat(size)
        at += np.arange(len(at))
        row = self._rows.take(at)
        tag = row & ((np.uint32(1) << self._tag_bits) - np.uint32(1))
        tag ^= found.tag.repeat(size)
        likely = (np.bitwise_count(tag) <= found.allowed.repeat(size)).nonzero()[0]
        row = row.take(likely) >> self._tag_bits
        numbers = found.query.repeat(size).take(likely) if len(asked) > 1 else np.zeros(len(row), np.int64)
        apart = _Distances(len(row)).of(words_of(self._digests.take(row)), asked.take(numbers, axis=0))
        near = (apart <= distance).nonzero()[0]
        return numbers.take(near), row.take(near).astype(np.int64), apart.take(near).astype(np.int64)


@dataclass(frozen=True)
class _FilledValues:
    """Values that were looked up, and have rows, as columns."""

    query: NDArray[np.int64]
    """the number of the query"""
    start: NDArray[np.int64]
    """the place of the first of the rows"""
    size: NDArray[np.int64]
    """their number"""
    tag: NDArray[np.uint32]
    """the first bits of the query's next chunk"""
    allowed: NDArray[np.uint8]
    """the most differences in the next chunk"""

    def slice(self, low: int, high: int) -> "_FilledValues":
        return _FilledValues(*(column[low:high] for column in self._columns()))

    def cut(self) -> "_FilledValues":
        """Return the same with at most `_CANDIDATES` rows at a time: a large cluster is cut."""
        pieces = -(-self.size // _CANDIDATES)
        step = (np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * _CANDIDATES
        query, start, size, tag, allowed = (column.repeat(pieces) for column in self._columns())
        return _FilledValues(query, start + step, np.minimum(size - step, _CANDIDATES), tag, allowed)

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.query, self.start, self.size, self.tag, self.allowed


def _bounded(found: _FilledValues) -> Iterator[_FilledValues]:
    """Yield the values in parts whose candidates fit in memory."""
    if not len(found.size):
        return
    if int(found.size.sum()) <= _CANDIDATES:
        yield found
        return
    if int(found.size.max()) > _CANDIDATES:
        found = found.cut()
    group = np.cumsum(found.size) // _CANDIDATES
    cuts = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(found.size)]
    for low, high in pairwise(cuts):
        yield found.slice(low, high)


def table_parts(digests: Digests, count: int) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
    """Yield the directory and the rows of each chunk, in order: the same for the same digests."""
    total, free, chunks = len(digests), tag_bits(len(digests)), chunks_of(count)
    for number, (chunk, following) in enumerate(zip(chunks, (*chunks[1:], chunks[0]), strict=True)):
        keyed = np.arange(total, dtype=np.uint64) << np.uint64(free)
        tagged = Chunk(following.start, free)
        for start in range(0, total, _BLOCK):
            words, some = words_of(digests[start : start + _BLOCK]), keyed[start : start + _BLOCK]
            some |= chunk.values(words).view(np.uint64) << np.uint64(32)
            if free:
                some |= tagged.values(words).view(np.uint64)
        keyed.sort()
        sizes = np.zeros((1 << chunk.bits) + 1, np.int64)
        for start in range(0, total, _BLOCK):
            values = (keyed[start : start + _BLOCK] >> np.uint64(32)).astype(np.int64)
            low, high = int(values[0]), int(values[-1])
            sizes[low + 1 : high + 2] += np.bincount(values - low)
        directory = (np.cumsum(sizes) + number * total).astype(np.uint32)
        keyed &= np.uint64(0xFFFFFFFF)
        yield directory, keyed.astype(np.uint32)
