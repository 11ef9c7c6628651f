"""The keys that must not be in a head: the operator's suppressions, and known-good digests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from syncd.catalog.decisions import Suppression
from syncd.format.rows import Digests, Mask, Rows, as_digests, concatenate, repeats, sort_order
from syncd.format.stack import Stack
from syncd.model import Algorithm
from syncd.pipeline.known_good import NOTHING_KNOWN, KnownGood


@dataclass(frozen=True)
class SuppressedKeys:
    """Digests, and single entries of digests, that must not be in a head."""

    suppressions: tuple[Suppression, ...] = ()
    known_good: KnownGood = NOTHING_KNOWN
    _by_algorithm: Mapping[Algorithm, "_OfAlgorithm"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_algorithm: dict[Algorithm, list[Suppression]] = {}
        for one in self.suppressions:
            by_algorithm.setdefault(one.algorithm, []).append(one)
        found = {algorithm: _OfAlgorithm(tuple(some)) for algorithm, some in by_algorithm.items()}
        object.__setattr__(self, "_by_algorithm", found)

    def mask(self, algorithm: Algorithm, keys: Rows) -> Mask:
        """Mark the keys that are suppressed."""
        found = self.known_good.mask(algorithm, keys.digests)
        mine = self._by_algorithm.get(algorithm)
        return found if mine is None or not len(keys) else found | mine.mask(keys)

    def rows_in(self, algorithm: Algorithm, stack: Stack) -> Rows:
        """Return the rows in force of a whole stack that are suppressed."""
        named = [self.known_good.on(algorithm, stack)]
        mine = self._by_algorithm.get(algorithm)
        if mine is not None and mine.digests.dtype.itemsize == stack.width:
            named.append(mine.digests)
        found = [stack.rows_of(digests) for digests in named if len(digests)]
        if not found:
            return Rows.empty(algorithm)
        rows = concatenate(found)
        rows = rows.take(self.mask(algorithm, rows))
        rows = rows.take(sort_order(rows))
        keep = np.ones(len(rows), bool)
        keep[repeats(rows.digests, rows.entries)] = False
        return rows.take(keep)

    def after(self, added: Iterable[Suppression] = (), ended: Iterable[int] = ()) -> "SuppressedKeys":
        """Return these with some added, and without those of the numbers ``ended``."""
        gone = set(ended)
        kept = (one for one in self.suppressions if one.id not in gone)
        return SuppressedKeys((*kept, *added), self.known_good)

    def knowing(self, known_good: KnownGood) -> "SuppressedKeys":
        """Return these with other known-good digests."""
        return SuppressedKeys(self.suppressions, known_good)


@dataclass(frozen=True)
class _OfAlgorithm:
    suppressions: tuple[Suppression, ...]

    @cached_property
    def digests(self) -> Digests:
        return as_digests({bytes.fromhex(one.digest) for one in self.suppressions})

    @cached_property
    def _entries(self) -> Mapping[bytes, frozenset[str | None]]:
        entries: dict[bytes, frozenset[str | None]] = {}
        for one in self.suppressions:
            digest = bytes.fromhex(one.digest)
            entries[digest] = entries.get(digest, frozenset()) | {one.entry}
        return entries

    def mask(self, keys: Rows) -> Mask:
        if keys.width != self.digests.dtype.itemsize:  # no digest of this width can be suppressed
            return np.zeros(len(keys), bool)
        named = np.isin(keys.digests, self.digests)
        for position in np.flatnonzero(named):  # few: nearly all keys are not suppressed
            entries = self._entries[keys.digests[position].ljust(keys.width, b"\0")]
            named[position] = None in entries or keys.entries[int(position)].as_py() in entries
        return named


NOTHING_SUPPRESSED = SuppressedKeys()
