"""Finding digests, and (digest, entry) pairs, in sorted columns that may be mapped from a file.

Every answer is exact. What is fast about it is where it looks: the first word of a digest as a number stands for the
whole, a table of the values of its first bits says between which rows to look, and whoever shares its first word with
another digest is searched again by the whole digest. Digests need not be uniform (those of perceptual
algorithms are not): buckets are then larger, and more halvings are made.
"""

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from syncd.format.gather import Gather
from syncd.format.lazy import lazy
from syncd.format.rows import Digests, Entries, Index, Mask, equal_entries, less_entries

Words = NDArray[Any]
"""unsigned integers that sort as the first bytes of digests do"""

_CHUNK: Final = 4096
"""keys at a time: everything about them stays in the processor's first- and second-level cache"""
_FANOUT_BITS: Final = 22
"""of the table for a large column, at most: 16 MB; each bit more is a step of the search less, and twice the table"""
_ROWS_A_BUCKET: Final = 2
"""how many rows the table leaves to search, on the average, where its size is not the limit"""
_FEWEST_BITS: Final = 16
"""of the table for a small column, such as the changes over a base: most keys are then ruled out by it alone"""
_WORTH_A_TABLE: Final = 1 << 14
"""keys asked for, one after the other, before the table is built: it costs one pass over the column"""
_WORTH_A_GUESS: Final = 1 << 14
"""rows from which guessing is better than halving"""
_FEW_STEPS: Final = 2
"""halvings that a bucket of up to 3 rows takes, as four in five are; fuller ones are halved down to that first"""
_GUESSES: Final = 2
"""each leaves about the square root of the error before it: of 100 M rows 5,000, 70 and then 8"""
_MEASURED: Final = 8
"""of so many keys one, at which the guesses of all begin to be measured"""
_AROUND: Final = 64
"""rows looked at around the last guess"""
_WINDOW: Final = 1 << 18
"""sorted keys searched at once, among the rows between the first and the last of them"""
_NEAR: Final = 4
"""rows a key up to which a window of neighbouring rows is searched as a whole"""
_AS_ONE: Final = {2: (np.uint16, 0x0101), 4: (np.uint32, 0x01010101)}
"""so many bools that are all True, as one number"""


class DigestSearch:
    """Searches one sorted column of digests: shape (n,), dtype ``S<width>``. Holds no copy of it."""

    def __init__(self, digests: Digests) -> None:
        self.digests = digests
        self._width = digests.dtype.itemsize
        self._word = np.dtype("<u8" if self._width % 8 == 0 else "<u4")  # a SHA-1 has 20 bytes
        self._in_words = self._width % self._word.itemsize == 0
        self._stride = self._width // self._word.itemsize
        self._asked = 0

    def find(self, keys: Digests) -> tuple[Index, Mask]:
        """For each key the first row not before it, and whether that row holds it. Keys may come in any order."""
        self._asked += len(keys)
        if not self._in_words:
            return self._find_as_text(keys)
        position, found = np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
        if len(self.digests):
            for start in range(0, len(keys), _WINDOW):
                part = slice(start, start + _WINDOW)
                if not self._find_in_window(keys[part], position[part], found[part]):
                    self._find_anywhere(keys[part], position[part], found[part])
        return position, found

    def ranges(self, keys: Digests) -> tuple[Index, Index]:
        """For each key the rows [start, stop) that hold it; empty ranges lie where it would be."""
        start, found = self.find(keys)
        stop = start + found
        more = np.flatnonzero(found & (stop < len(self.digests)))
        more = more[self._holds(keys[more], stop[more])] if self._in_words else more
        stop[more] = np.searchsorted(self.digests, keys[more], side="right")
        return start, stop

    def _find_as_text(self, keys: Digests) -> tuple[Index, Mask]:
        """For widths that no whole words fill, as only algorithms have that are not known: slower, and as exact."""
        position = np.searchsorted(self.digests, keys).astype(np.int64)
        found = np.zeros(len(keys), bool)
        inside = np.flatnonzero(position < len(self.digests))
        found[inside] = self.digests[position[inside]] == keys[inside]
        return position, found

    def _find_in_window(self, keys: Digests, position: Index, found: Mask) -> bool:
        """Find keys sorted by first word among the rows from the first to the last; False where that is no way."""
        if not _sorted(self._first_words(keys[:_CHUNK])) or not _sorted(wanted := self._first_words(keys)):
            return False
        first, last = keys[:1].tobytes()[: self._word.itemsize], keys[-1:].tobytes()[: self._word.itemsize]
        low = int(self.digests.searchsorted(first))
        high = int(self.digests.searchsorted(last.ljust(self._width, b"\xff"), side="right"))
        if high - low > _NEAR * len(keys):
            return False
        position[:] = low
        if low < high:
            words = self._first_words(self.digests[low:high])
            place = np.searchsorted(words, wanted)
            alike = words.take(place, mode="clip") == wanted
            position += place
            self._settle(keys, alike, position, found)
        return True

    def _find_anywhere(self, keys: Digests, position: Index, found: Mask) -> None:
        find = self._find_by_table if self._asked >= _WORTH_A_TABLE else self._find_by_guessing
        for start in range(0, len(keys), _CHUNK):
            part = slice(start, start + _CHUNK)
            find(keys[part], self._first_words(keys[part]), position[part], found[part])

    def _find_by_guessing(self, keys: Digests, wanted: Words, position: Index, found: Mask) -> None:
        """Look where a key lies if digests are spread evenly; where it does not, halve.

        Few keys in a large file cost what they touch first: a halving reads a page at each of its first steps, a good
        guess three pages in all.
        """
        sure = np.zeros(len(keys), bool)
        if len(self.digests) >= _WORTH_A_GUESS:
            sure = self._guess(wanted, position)
        rest = np.flatnonzero(~sure)
        position[rest] = np.searchsorted(self.digests, keys[rest])
        self._settle(keys, self._alike(wanted, position), position, found)

    def _guess(self, wanted: Words, position: Index) -> Mask:
        """Set positions of first words; False for those that may be wrong."""
        rows, stride = len(self.digests), self._stride
        at = self._even(wanted)
        some = np.unique(wanted[::_MEASURED])
        if len(some) * 2 < len(wanted):
            # How far rows lie from an even spread changes slowly: measured at some keys it is nearly right for those
            # between, and their first look is near where they are.
            at += np.interp(wanted, some, self._nearer(some, self._even(some)) - self._even(some)).astype(np.int64)
        at = self._nearer(wanted, at)
        start = np.clip(at - _AROUND // 2, 0, rows - _AROUND)
        around = self._words.take((start[:, None] + np.arange(_AROUND)) * stride).byteswap()
        below = (around < wanted[:, None]).sum(axis=1)
        position[:] = start + below
        return np.asarray(((below > 0) | (start == 0)) & ((below < _AROUND) | (start + _AROUND == rows)))

    def _even(self, wanted: Words) -> Index:
        """Where first words would lie if digests were spread evenly."""
        return (wanted * (len(self.digests) / 2.0 ** (8 * self._word.itemsize))).astype(np.int64)

    def _nearer(self, wanted: Words, at: Index) -> Index:
        """Positions of first words, guessed from what lies at the positions guessed before."""
        density = len(self.digests) / 2.0 ** (8 * self._word.itemsize)
        for _ in range(_GUESSES):
            at = np.clip(at, 0, len(self.digests) - 1)
            word = self._words.take(at * self._stride).byteswap()
            at += ((wanted.astype(float) - word.astype(float)) * density).astype(np.int64)
        return at

    def _find_by_table(self, keys: Digests, wanted: Words, position: Index, found: Mask) -> None:
        bucket = (wanted >> self._bucket_shift).astype(np.int64)
        position[:] = self._fanout.take(bucket)
        size = self._fanout.take(bucket + 1) - position
        filled = np.flatnonzero(size)
        if 2 * len(filled) > len(keys):
            self._halve(wanted, position, size)
            self._settle(keys, self._alike(wanted, position), position, found)
        elif len(filled):  # the first bits alone rule most keys out
            some, at, here = wanted[filled], position[filled], np.zeros(len(filled), bool)
            self._halve(some, at, size[filled])
            self._settle(keys[filled], self._alike(some, at), at, here)
            position[filled], found[filled] = at, here

    def _halve(self, wanted: Words, position: Index, size: Index) -> None:
        """Move each position, by at most ``size`` rows, to the first row whose first word is not below the wanted."""
        full = np.flatnonzero(size >> _FEW_STEPS)
        if len(full):
            at = position[full]
            self._step(wanted[full], at, range(_FEW_STEPS, int(size.max()).bit_length()))
            position[full] = at
        self._step(wanted, position, range(_FEW_STEPS))

    def _step(self, wanted: Words, position: Index, bits: range) -> None:
        """Halve by these bits of the distance, the highest first.

        Steps beyond the last row see the last row; where that too is below, the end of the column is the answer.
        """
        stride, rows = self._stride, len(self.digests)
        first_words = self._words[: rows * stride - stride + 1]
        at, probe = position * stride, np.empty_like(position)
        word, below = np.empty_like(wanted), np.empty(len(wanted), bool)
        for bit in reversed(bits):
            np.add(at, ((1 << bit) - 1) * stride, out=probe)
            first_words.take(probe, out=word, mode="clip")
            np.less(word.byteswap(inplace=True), wanted, out=below)
            np.multiply(below, stride << bit, out=probe)
            at += probe
        np.minimum(at // stride, rows, out=position)

    def _alike(self, wanted: Words, position: Index) -> Mask:
        """Whether the row at each position has the wanted first word."""
        words = self._words.take(position * self._stride, mode="clip").byteswap(inplace=True)
        return np.asarray(words == wanted)

    def _settle(self, keys: Digests, alike: Mask, position: Index, found: Mask) -> None:
        """Say where a key is at its position. Where the row there only shares its first word, search the whole key."""
        near = np.flatnonzero(alike & (position < len(self.digests)))
        if not len(near):
            return
        every = len(near) == len(keys)
        found[near] = self._holds(keys if every else keys[near], position if every else position[near])
        tied = near[~found[near]]
        if len(tied):
            position[tied] = np.searchsorted(self.digests, keys[tied])
            inside = tied[position[tied] < len(self.digests)]
            found[inside] = self._holds(keys[inside], position[inside])

    def _holds(self, keys: Digests, position: Index) -> Mask:
        """Whether the row at each position, which exists, holds the key. As words: numpy is slow at strings."""
        same = self._words_of(self.digests.take(position)) == self._words_of(keys)
        if self._stride in _AS_ONE:  # all words of a key at once: numpy is slow at short axes too
            kind, every = _AS_ONE[self._stride]
            return np.asarray(same.view(kind) == every)
        return np.asarray(same.reshape(-1, self._stride).all(axis=1))

    @lazy
    def _bucket_shift(self) -> int:
        """How far a first word is shifted to give its bucket."""
        bits = min(_FANOUT_BITS, max(_FEWEST_BITS, (len(self.digests) // _ROWS_A_BUCKET).bit_length()))
        return 8 * self._word.itemsize - bits

    @lazy
    def _fanout(self) -> NDArray[np.uint32]:
        """For each bucket the first row that is in it or in a later one; last, the rows in all."""
        buckets = 1 << (8 * self._word.itemsize - self._bucket_shift)
        counts = np.zeros(buckets + 1, np.uint32)
        for start in range(0, len(self.digests), _WINDOW):
            found = (self._first_words(self.digests[start : start + _WINDOW]) >> self._bucket_shift).astype(np.int64)
            first, last = int(found[0]), int(found[-1])  # sorted: a window fills neighbouring buckets only
            counts[first + 1 : last + 2] += np.bincount(found - first, minlength=last - first + 1).astype(np.uint32)
        return np.cumsum(counts, dtype=np.uint32, out=counts)

    @lazy
    def _words(self) -> Words:
        return self._words_of(self.digests)

    def _words_of(self, digests: Digests) -> Words:
        # Aligned, or numpy would copy the column at each take: only files of a strange writer cost this one copy.
        return np.require(np.ascontiguousarray(digests).view(self._word), requirements="A")

    def _first_words(self, digests: Digests) -> Words:
        return np.ascontiguousarray(digests).view(self._word)[:: self._stride].byteswap()


def _sorted(words: Words) -> bool:
    return not (words[1:] < words[:-1]).any()


class RowSearch(DigestSearch):
    """Searches columns sorted by (digest, entry)."""

    def __init__(self, digests: Digests, entries: Entries) -> None:
        super().__init__(digests)
        self._entries = entries

    def positions(self, digests: Digests, entries: Entries) -> tuple[Index, Mask]:
        """For each (digest, entry) the first row not before it, and whether that row is it."""
        low, found = self.find(digests)
        here = np.flatnonzero(found)
        found[here] = self._same(low[here], entries, here)
        rest = here[~found[here]]  # digests with several entries, or with another one
        if len(rest):
            low[rest], found[rest] = self._among(digests[rest], entries.take(pa.array(rest)))
        return low, found

    def _among(self, digests: Digests, entries: Entries) -> tuple[Index, Mask]:
        low, high = self.ranges(digests)
        last = high.copy()
        while len(open_ := np.flatnonzero(low < high)):  # halve the rows of one digest by entry
            middle = (low[open_] + high[open_]) // 2
            before = less_entries(self._entries.take(pa.array(middle)), entries.take(pa.array(open_)))
            low[open_[before]] = middle[before] + 1
            high[open_[~before]] = middle[~before]
        found = low < last
        inside = np.flatnonzero(found)
        found[inside] = self._same(low[inside], entries, inside)
        return low, found

    def _same(self, rows: Index, entries: Entries, index: Index) -> Mask:
        return equal_entries(Gather(rows).entries(self._entries), Gather(index).entries(entries))
