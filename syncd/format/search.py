"""Finding digests, and (digest, entry) pairs, in sorted columns that may be mapped from a file.

Every answer is exact. The search is fast because it compares only the first word of each digest, as a number, and a
table of the first bits of that word narrows the range of rows. A digest that shares its first word with another is
searched again by all its bytes. Digests need not be evenly spread (those of perceptual algorithms are not): some
buckets are then larger and take more bisection steps.
"""

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from syncd.format.gather import Gather
from syncd.format.lazy import lazy
from syncd.format.rows import Digests, Entries, Index, Mask, Rows, equal_entries, less_entries

Words = NDArray[Any]
"""unsigned integers that sort like the first bytes of digests"""

_CHUNK: Final = 4096
"""keys at a time, so that their arrays stay in the first- and second-level cache"""
_FANOUT_BITS: Final = 22
"""bits of the table for a large column, at most (16 MB); each further bit saves one step and doubles the table"""
_ROWS_A_BUCKET: Final = 2
"""rows that the table leaves to search on average, if its size is not limited"""
_FEWEST_BITS: Final = 16
"""bits of the table for a small column, such as the changes over a base; it alone then rules out most keys"""
_WORTH_A_TABLE: Final = 1 << 14
"""keys looked up, in all, before the table is built, which costs one pass over the column"""
_WORTH_A_GUESS: Final = 1 << 14
"""rows from which guessing is faster than bisecting"""
_FEW_STEPS: Final = 2
"""bisection steps for a bucket of up to 3 rows (four buckets in five); larger ones are first narrowed to that"""
_GUESSES: Final = 2
"""guesses; each leaves about the square root of the error before it: in 100 M rows 5,000, 70 and then 8"""
_MEASURED: Final = 8
"""one key in this many is used to measure the drift for all"""
_AROUND: Final = 64
"""rows examined around the last guess"""
_WINDOW: Final = 1 << 18
"""sorted keys searched at once, in the rows between the first and the last of them"""
_NEAR: Final = 4
"""rows a key up to which a window of neighbouring rows is searched as a whole"""
_AS_ONE: Final = {2: (np.uint16, 0x0101), 4: (np.uint32, 0x01010101)}
"""by number of bools: an integer type of that size, and its value if all are True"""


class DigestSearch:
    """A search in one sorted column of digests (shape (n,), dtype ``S<width>``), without a copy of it."""

    def __init__(self, digests: Digests) -> None:
        self.digests = digests
        self._width = digests.dtype.itemsize
        self._word = np.dtype("<u8" if self._width % 8 == 0 else "<u4")  # a SHA-1 has 20 bytes
        self._in_words = self._width % self._word.itemsize == 0
        self._stride = self._width // self._word.itemsize
        self._asked = 0

    def find(self, keys: Digests) -> tuple[Index, Mask]:
        """Return for each key the first row not before it, and True if that row holds it. Keys may be in any order."""
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
        """Return for each key the rows [start, stop) that hold it; an empty range if none, at its place."""
        start, found = self.find(keys)
        stop = start + found
        more = np.flatnonzero(found & (stop < len(self.digests)))
        more = more[self._holds(keys[more], stop[more])] if self._in_words else more
        stop[more] = np.searchsorted(self.digests, keys[more], side="right")
        return start, stop

    def _find_as_text(self, keys: Digests) -> tuple[Index, Mask]:
        """Search digests whose width is not a multiple of a word (unknown algorithms only): slower, but as exact."""
        position = np.searchsorted(self.digests, keys).astype(np.int64)
        found = np.zeros(len(keys), bool)
        inside = np.flatnonzero(position < len(self.digests))
        found[inside] = self.digests[position[inside]] == keys[inside]
        return position, found

    def _find_in_window(self, keys: Digests, position: Index, found: Mask) -> bool:
        """Search keys that are sorted by first word in the rows that they span; return False if that does not apply."""
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
        """Look where a key would be if digests were spread evenly; bisect for keys that are not there.

        For few keys in a large file, the cost is the pages touched for the first time: bisection reads a page at each
        of its first steps, a good guess three pages in all.
        """
        sure = np.zeros(len(keys), bool)
        if len(self.digests) >= _WORTH_A_GUESS:
            sure = self._guess(wanted, position)
        rest = np.flatnonzero(~sure)
        position[rest] = np.searchsorted(self.digests, keys[rest])
        self._settle(keys, self._alike(wanted, position), position, found)

    def _guess(self, wanted: Words, position: Index) -> Mask:
        """Set the positions of first words; return False for those that may be wrong."""
        rows, stride = len(self.digests), self._stride
        at = self._even(wanted)
        some = np.unique(wanted[::_MEASURED])
        if len(some) * 2 < len(wanted):
            # The drift from an even spread changes slowly: measured at some keys, it is nearly right for the keys
            # between them, so their first look is close to the row.
            at += np.interp(wanted, some, self._nearer(some, self._even(some)) - self._even(some)).astype(np.int64)
        at = self._nearer(wanted, at)
        start = np.clip(at - _AROUND // 2, 0, rows - _AROUND)
        around = self._words.take((start[:, None] + np.arange(_AROUND)) * stride).byteswap()
        below = (around < wanted[:, None]).sum(axis=1)
        position[:] = start + below
        return np.asarray(((below > 0) | (start == 0)) & ((below < _AROUND) | (start + _AROUND == rows)))

    def _even(self, wanted: Words) -> Index:
        """Return the positions of first words if digests were spread evenly."""
        return (wanted * (len(self.digests) / 2.0 ** (8 * self._word.itemsize))).astype(np.int64)

    def _nearer(self, wanted: Words, at: Index) -> Index:
        """Improve guessed positions of first words, using the words found at those positions."""
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
            self._bisect(wanted, position, size)
            self._settle(keys, self._alike(wanted, position), position, found)
        elif len(filled):  # the first bits alone rule out most keys
            some, at, here = wanted[filled], position[filled], np.zeros(len(filled), bool)
            self._bisect(some, at, size[filled])
            self._settle(keys[filled], self._alike(some, at), at, here)
            position[filled], found[filled] = at, here

    def _bisect(self, wanted: Words, position: Index, size: Index) -> None:
        """Advance each position by at most ``size`` rows, to the first row whose first word is not below ``wanted``."""
        full = np.flatnonzero(size >> _FEW_STEPS)
        if len(full):
            at = position[full]
            self._step(wanted[full], at, range(_FEW_STEPS, int(size.max()).bit_length()))
            position[full] = at
        self._step(wanted, position, range(_FEW_STEPS))

    def _step(self, wanted: Words, position: Index, bits: range) -> None:
        """Bisect by these bits of the distance, the highest first.

        Steps beyond the last row see the last row; if that is below too, the result is the end of the column.
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
        """Return True for each position whose row has the wanted first word."""
        words = self._words.take(position * self._stride, mode="clip").byteswap(inplace=True)
        return np.asarray(words == wanted)

    def _settle(self, keys: Digests, alike: Mask, position: Index, found: Mask) -> None:
        """Set ``found`` for keys at their position. If a row only shares the first word, search for the whole key."""
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
        """Return True for each existing position whose row holds the key. Compares words: numpy is slow at strings."""
        same = self._words_of(self.digests.take(position)) == self._words_of(keys)
        if self._stride in _AS_ONE:  # all words of a key at once: numpy is slow at short axes too
            kind, every = _AS_ONE[self._stride]
            return np.asarray(same.view(kind) == every)
        return np.asarray(same.reshape(-1, self._stride).all(axis=1))

    @lazy
    def _bucket_shift(self) -> int:
        """The number of bits by which a first word is shifted to give its bucket."""
        bits = min(_FANOUT_BITS, max(_FEWEST_BITS, (len(self.digests) // _ROWS_A_BUCKET).bit_length()))
        return 8 * self._word.itemsize - bits

    @lazy
    def _fanout(self) -> NDArray[np.uint32]:
        """For each bucket, the first row in it or in a later one; at the end, the number of rows."""
        buckets = 1 << (8 * self._word.itemsize - self._bucket_shift)
        counts = np.zeros(buckets + 1, np.uint32)
        for start in range(0, len(self.digests), _WINDOW):
            found = (self._first_words(self.digests[start : start + _WINDOW]) >> self._bucket_shift).astype(np.int64)
            first, last = int(found[0]), int(found[-1])  # sorted: a window only fills neighbouring buckets
            counts[first + 1 : last + 2] += np.bincount(found - first, minlength=last - first + 1).astype(np.uint32)
        return np.cumsum(counts, dtype=np.uint32, out=counts)

    @lazy
    def _words(self) -> Words:
        return self._words_of(self.digests)

    def _words_of(self, digests: Digests) -> Words:
        # Aligned, or numpy would copy the column at each take. Only files of unusual writers need this one copy.
        return np.require(np.ascontiguousarray(digests).view(self._word), requirements="A")

    def _first_words(self, digests: Digests) -> Words:
        return np.ascontiguousarray(digests).view(self._word)[:: self._stride].byteswap()


def _sorted(words: Words) -> bool:
    return not (words[1:] < words[:-1]).any()


class RowSearch(DigestSearch):
    """A search in columns sorted by (digest, entry)."""

    def __init__(self, digests: Digests, entries: Entries) -> None:
        super().__init__(digests)
        self._entries = entries

    def positions(self, digests: Digests, entries: Entries) -> tuple[Index, Mask]:
        """Return for each (digest, entry) the first row not before it, and True if that row is it."""
        low, found = self.find(digests)
        here = np.flatnonzero(found)
        found[here] = self._same(low[here], entries, here)
        rest = here[~found[here]]  # digests with several entries, or with a different one
        if len(rest):
            low[rest], found[rest] = self._among(digests[rest], entries.take(pa.array(rest)))
        return low, found

    def _among(self, digests: Digests, entries: Entries) -> tuple[Index, Mask]:
        low, high = self.ranges(digests)
        last = high.copy()
        while len(open_ := np.flatnonzero(low < high)):  # bisect the rows of one digest by entry
            middle = (low[open_] + high[open_]) // 2
            self._check_inside(middle)
            before = less_entries(self._entries.take(pa.array(middle)), entries.take(pa.array(open_)))
            low[open_[before]] = middle[before] + 1
            high[open_[~before]] = middle[~before]
        found = low < last
        inside = np.flatnonzero(found)
        found[inside] = self._same(low[inside], entries, inside)
        return low, found

    def _same(self, rows: Index, entries: Entries, index: Index) -> Mask:
        self._check_inside(rows)
        return equal_entries(Gather(rows).entries(self._entries), Gather(index).entries(entries))

    def _check_inside(self, rows: Index) -> None:
        """Raise IndexError if an entry at ``rows`` lies outside the column: Arrow would follow a damaged offset."""
        offsets, content = self._parts
        start, stop = offsets[rows], offsets[rows + 1]
        if len(rows) and not (start.min() >= 0 and (start <= stop).all() and stop.max() <= content):
            raise IndexError

    @lazy
    def _parts(self) -> tuple[NDArray[np.int64], int]:
        """The offsets of the entries, and the number of bytes in the column."""
        _, offsets, content = self._entries.buffers()
        first = self._entries.offset
        return np.frombuffer(offsets, np.int64)[first : first + len(self._entries) + 1], content.size if content else 0


def among(some: Rows | None, keys: Rows) -> Mask:
    """Mark the ``keys`` that are also keys of ``some``, which is sorted. O(k log n)."""
    if some is None or not len(some):
        return np.zeros(len(keys), bool)
    return RowSearch(some.digests, some.entries).positions(keys.digests, keys.entries)[1]
