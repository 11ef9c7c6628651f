"""Near matches in a pulled copy: the answers, and the indexes that make them fast."""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from syncd.errors import UsageError
from syncd.format.derived import DamagedIndexError, index_path
from syncd.format.hamming import MAX_DISTANCE, ChunkTable
from syncd.format.near import NearSearch
from syncd.format.near_index import KIND, NEAR, has_near_index, open_near_index
from syncd.format.rows import Digests
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.matcher.load import SearchSet
from syncd.model import KNOWN_ALGORITHMS, ListName

DISTANCE: Final = 31
"""The usual bound for PDQ: 31 of 256 bits."""
_LOOK_AGAIN: Final = 1.0
"""Seconds until an index that was not there is looked for again."""


class NearHit(NamedTuple):
    """One entry that supports a digest near the one asked for."""

    list: ListName
    version: int
    entry: str
    label: str
    distance: int
    """number of bits, of 256, in which the two digests differ"""
    digest: bytes
    """the listed digest: the one to suppress if the match is wrong"""

    def __repr__(self) -> str:
        return f"NearHit({self.list}, {self.version}, {self.entry!r}, {self.label!r}, {self.distance}, <digest>)"


_Stamp = tuple[int, int] | None


def _stamp(path: Path) -> _Stamp:
    """Return what tells a file from one that replaced it; None if there is none."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns


class NearMatching:
    """Finds near matches in the lists of one copy, and keeps its mapped indexes from generation to generation.

    ``farthest``: the largest distance for each list, or ``""`` for all others; a call never exceeds it, nor what the
    operator states for a list. ``missing`` is called if an index that should be there is not, or is damaged.
    """

    def __init__(
        self,
        root: Path,
        farthest: Mapping[str, int] | int | None = None,
        missing: Callable[[], None] = lambda: None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._missing, self._timer = root, missing, timer
        self._farthest = check_farthest(farthest)
        self._tables: dict[str, ChunkTable] = {}
        self._looked: dict[str, float] = {}
        """by segment, when its index was last looked for in vain"""
        self._damaged: dict[str, _Stamp] = {}
        """by segment, its index that was found damaged: not used again, should it still be there"""
        self._searches: WeakKeyDictionary[Stack, NearSearch] = WeakKeyDictionary()

    def farthest(self, stated: Mapping[ListName, int], name: ListName) -> int:
        """Return the largest distance for a list; ``stated``: those of the operator."""
        return min(stated.get(name, MAX_DISTANCE), self._farthest.get(name, self._farthest.get("", MAX_DISTANCE)))

    def near(
        self, search_set: SearchSet, stated: Mapping[ListName, int], asked: Digests, distance: int
    ) -> list[list[NearHit]]:
        """Return for each digest its hits, nearest first; ``stated``: the largest distances that the operator states.

        Raises `SegmentError` if a list is damaged.
        """
        found: list[list[NearHit]] = [[] for _ in range(len(asked))]
        for name, version, stack in search_set.stacks:
            bound = min(distance, self.farthest(stated, name))
            for hits, near in zip(found, self._near(stack, asked, bound), strict=True):
                for digest, apart in near.items():
                    for entry, label in stack.entries_of(digest):
                        hits.append(NearHit(name, version, entry, label, apart, digest))
        for hits in found:
            hits.sort(key=lambda hit: (hit.distance, hit.list, hit.entry, hit.digest))
        return found

    def _near(self, stack: Stack, asked: Digests, distance: int) -> list[dict[bytes, int]]:
        try:
            return self._search(stack).near(asked, distance)
        except DamagedIndexError:
            self._discard(stack)
            return NearSearch(stack).near(asked, distance)

    def _search(self, stack: Stack) -> NearSearch:
        search = self._searches.get(stack)
        if search is None or (not search.is_indexed and stack.base is not None and has_near_index(stack.base.ref)):
            table = self._table(stack.base) if stack.base is not None else None
            if search is None or table is not None:
                search = self._searches[stack] = NearSearch(stack, table)
        return search

    def _table(self, base: Segment) -> ChunkTable | None:
        """Return the index of a segment if there is one; it is looked for once a second until then."""
        sha256 = base.ref.sha256
        if not has_near_index(base.ref):
            return None
        table = self._tables.get(sha256)
        if table is None and self._timer() - self._looked.get(sha256, float("-inf")) >= _LOOK_AGAIN:
            table = self._open(base)
            if table is not None:
                self._tables[sha256] = table
            else:
                self._looked[sha256] = self._timer()
                self._missing()
        return table

    def _open(self, base: Segment) -> ChunkTable | None:
        """Return the index of a segment; None if there is none to use, or one that was found damaged."""
        sha256 = base.ref.sha256
        if sha256 in self._damaged and self._damaged[sha256] == _stamp(index_path(self._root, sha256, KIND)):
            return None
        return open_near_index(self._root, base)

    def _discard(self, stack: Stack) -> None:
        """Remove a damaged index, if this process may: it is made again."""
        assert stack.base is not None  # noqa: S101 - only a base has an index
        sha256 = stack.base.ref.sha256
        self._searches.pop(stack, None)
        self._tables.pop(sha256, None)
        self._damaged[sha256] = _stamp(index_path(self._root, sha256, KIND))
        with contextlib.suppress(OSError):
            index_path(self._root, sha256, KIND).unlink(missing_ok=True)
        self._looked[sha256] = self._timer()
        self._missing()

    def keep_only(self, stacks: Iterable[Stack]) -> None:
        """Unmap the indexes of segments that no list has any more."""
        wanted = {stack.base.ref.sha256 for stack in stacks if stack.base is not None}
        for sha256 in self._tables.keys() - wanted:
            self._tables.pop(sha256, None)

    def is_indexed(self, stack: Stack) -> bool | None:
        """Return True if near look-ups in a stack use an index, False if it is still to be made.

        None: it needs none.
        """
        if stack.algorithm not in NEAR or stack.base is None or not has_near_index(stack.base.ref):
            return None
        return stack.base.ref.sha256 in self._tables or self._open(stack.base) is not None


def check_distance(distance: object) -> None:
    """Raise `UsageError` unless ``distance`` is a whole number of bits that near look-ups accept."""
    if type(distance) is not int or not 0 <= distance <= MAX_DISTANCE:
        raise UsageError(
            f"a distance of {distance} is not possible",
            hint=f"give a whole number of bits from 0 to {MAX_DISTANCE}; {DISTANCE} is usual for PDQ",
        )


def check_algorithm(algorithm: str) -> None:
    """Raise `UsageError` if near matches of an algorithm cannot be found. Names it only if it is known.

    If the arguments were swapped, it is a digest.
    """
    if algorithm not in NEAR:
        named = algorithm if algorithm in KNOWN_ALGORITHMS else "this algorithm"
        raise UsageError(
            f"near matches of {named} cannot be found",
            hint=f"near look-ups are for {' and '.join(sorted(NEAR))}; look up other digests exactly",
        )


def check_farthest(farthest: Mapping[str, int] | int | None) -> Mapping[str, int]:
    """Return the largest distances by list, those of all others under the name ``""``. Raises `UsageError`."""
    if farthest is None:
        return {}
    bounds = farthest if isinstance(farthest, Mapping) else {"": farthest}
    for bound in bounds.values():
        check_distance(bound)
    return dict(bounds)
