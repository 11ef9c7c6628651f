"""The end-state checksum: two sums modulo 2^64 over rows, so order does not matter and rows can be subtracted.

It guards against drift and bugs; the signature guards against forgery. A row is hashed to two lanes of 64 bits
(``docs/format.md``, "End state"): the words of the digest, the length and words of the entry, and one word for the
label go through ``h = (h ^ word) * M; h ^= h >> 32``. The hash is not linear before summing, so two rows that swap
their entries or labels do not cancel out.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from syncd.format.rows import Digests, Entries, Rows
from syncd.model import Algorithm

Words = NDArray[np.uint64]

_SEEDS: Final = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
_FACTORS: Final = (np.uint64(0xD6E8FEB86659FD93), np.uint64(0xA0761D6478BD642F))
_FINAL: Final = np.uint64(0xE7037ED1A0B428DB)
_SHIFT: Final = np.uint64(32)
_MODULUS: Final = 1 << 64
_ENTRIES: Final = Algorithm("entries")
_CHUNK: Final = 16384
"""rows at a time, so that all columns of a chunk stay in the second-level cache"""


@dataclass(frozen=True)
class Checksum:
    """A sum of row hashes. Adding and subtracting are inverse."""

    first: int = 0
    second: int = 0

    def __add__(self, other: Self) -> "Checksum":
        return Checksum((self.first + other.first) % _MODULUS, (self.second + other.second) % _MODULUS)

    def __sub__(self, other: Self) -> "Checksum":
        return Checksum((self.first - other.first) % _MODULUS, (self.second - other.second) % _MODULUS)

    def __str__(self) -> str:
        return f"{self.first:016x}{self.second:016x}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the 32 hexadecimal digits of a manifest."""
        return cls(int(text[:16], 16), int(text[16:], 16))


def word_of(text: str) -> int:
    """Return the word for a label or an algorithm: the first 8 bytes of its SHA-256, little-endian."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def checksum(rows: Rows) -> Checksum:
    """Sum the hashes of ``rows``, ignoring ``removed``."""
    labels = np.array([word_of(label) for label in rows.labels], dtype=np.uint64)
    total = Checksum()
    for start in range(0, len(rows), _CHUNK):
        chunk = rows.slice(start, start + _CHUNK)
        total += _sum_chunk(chunk, labels[chunk.codes])
    return total


def entry_hashes(entries: Entries) -> Words:
    """Return a hash of each entry, for an index. Two entries may share one."""
    found = [np.zeros(0, np.uint64)]
    for start in range(0, len(entries), _CHUNK):
        chunk = entries.slice(start, _CHUNK)
        lanes = _Lanes(_ENTRIES, len(chunk))
        _mix_entries(lanes, chunk)
        found.append(lanes.first())
    return np.concatenate(found)


def _sum_chunk(rows: Rows, label_words: Words) -> Checksum:
    lanes = _Lanes(rows.algorithm, len(rows))
    for word in _digest_words(rows.digests):
        lanes.mix(word)
    _mix_entries(lanes, rows.entries)
    lanes.mix(label_words)
    return lanes.total()


class _Lanes:
    """The running hashes of a chunk of rows, two lanes each."""

    def __init__(self, algorithm: Algorithm, count: int) -> None:
        tweak = word_of(algorithm)
        self._lanes = [np.full(count, seed ^ tweak, dtype=np.uint64) for seed in _SEEDS]
        self._spare = np.empty(count, dtype=np.uint64)

    def mix(self, word: Words) -> None:
        for lane, factor in zip(self._lanes, _FACTORS, strict=True):
            np.bitwise_xor(lane, word, out=lane)
            np.multiply(lane, factor, out=lane)
            np.right_shift(lane, _SHIFT, out=self._spare)
            np.bitwise_xor(lane, self._spare, out=lane)

    def mix_some(self, word: Words, rows: NDArray[np.int64]) -> None:
        for lane, factor in zip(self._lanes, _FACTORS, strict=True):
            mixed = (lane[rows] ^ word) * factor
            lane[rows] = mixed ^ (mixed >> _SHIFT)

    def first(self) -> Words:
        return self._lanes[0]

    def total(self) -> Checksum:
        sums = []
        for lane in self._lanes:
            np.multiply(lane, _FINAL, out=lane)
            np.right_shift(lane, _SHIFT, out=self._spare)
            np.bitwise_xor(lane, self._spare, out=lane)
            sums.append(int(lane.sum()))  # numpy's uint64 sum wraps, which is the modulus
        return Checksum(*sums)


def _digest_words(digests: Digests) -> list[Words]:
    count, width = len(digests), digests.dtype.itemsize
    table = np.ascontiguousarray(digests).view(np.uint8).reshape(count, width)
    if width % 8:
        padded = np.zeros((count, -width % 8 + width), np.uint8)
        padded[:, :width] = table
        table = padded
    words = table.view("<u8")
    return [words[:, column] for column in range(words.shape[1])]


def _mix_entries(lanes: _Lanes, entries: Entries) -> None:
    offsets, content = entry_bytes(entries)
    lengths = offsets[1:] - offsets[:-1]
    lanes.mix(lengths.view(np.uint64))  # lengths are never negative
    shortest, longest = int(lengths.min()), int(lengths.max())
    padded = np.empty(len(content) + 8, np.uint8)
    padded[: len(content)] = content
    padded[len(content) :] = 0
    if shortest == longest:
        _mix_equally_long(lanes, padded, longest, len(lengths))
    else:
        _mix_words_of(lanes, padded, offsets[:-1] - offsets[0], lengths, shortest)


def _mix_equally_long(lanes: _Lanes, content: NDArray[np.uint8], length: int, count: int) -> None:
    """Mix entries of one length, as most publishers have, without an index."""
    for start in range(0, length, 8):
        words: Words = np.ndarray((count,), "<u8", content.data, start, (length,))
        left = np.int64(length - start)
        lanes.mix(words & _mask(left) if left < 8 else words.copy())  # noqa: PLR2004 - bytes of a word


def _mix_words_of(
    lanes: _Lanes, content: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64], shortest: int
) -> None:
    # A word may start at every byte: one view with a stride of 1 reads them all without a loop.
    windows: Words = np.ndarray((len(content) - 7,), "<u8", content.data, 0, (1,))
    for start in range(0, int(lengths.max()), 8):
        if shortest >= start + 8:
            lanes.mix(windows[starts + start])
        elif shortest > start:
            lanes.mix(windows[starts + start] & _mask(lengths - start))
        else:
            some = np.flatnonzero(lengths > start)
            lanes.mix_some(windows[starts[some] + start] & _mask(lengths[some] - start), some)


def _mask(left: Any) -> Any:
    """Return a mask of the first ``left`` bytes (1 or more) of a word."""
    unused = (8 - np.minimum(left, 8)).astype(np.uint64) * np.uint64(8)
    return np.uint64(_MODULUS - 1) >> unused


def entry_bytes(entries: Entries) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return the n + 1 offsets of ``entries`` and the bytes that they span, without a copy."""
    count = len(entries)
    _, offset_buffer, data = entries.buffers()
    if not count:
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    offsets = np.frombuffer(offset_buffer, np.int64, count + 1, entries.offset * 8)
    content = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return offsets, content[offsets[0] : offsets[-1]]
