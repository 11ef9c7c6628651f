"""The keys that the operator's suppressions take out of a list. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from syncd.catalog.records import Suppression
from syncd.format.rows import Digests, Mask, Rows
from syncd.model import Algorithm


@dataclass(frozen=True)
class SuppressedKeys:
    """Digests, and single entries of digests, that must not be in a head."""

    suppressions: tuple[Suppression, ...] = ()
    _by_algorithm: Mapping[Algorithm, "_OfAlgorithm"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_algorithm: dict[Algorithm, list[Suppression]] = {}
        for one in self.suppressions:
            by_algorithm.setdefault(one.algorithm, []).append(one)
        found = {algorithm: _OfAlgorithm(tuple(some)) for algorithm, some in by_algorithm.items()}
        object.__setattr__(self, "_by_algorithm", found)

    def mask(self, algorithm: Algorithm, keys: Rows) -> Mask:
        """Mark the keys that are suppressed."""
        mine = self._by_algorithm.get(algorithm)
        return np.zeros(len(keys), bool) if mine is None or not len(keys) else mine.mask(keys)

    def digests(self) -> Mapping[Algorithm, Digests]:
        """Return the digests that are named, with any entry: sorted and unique."""
        return {algorithm: some.digests for algorithm, some in self._by_algorithm.items()}

    def after(self, added: Iterable[Suppression] = (), ended: Iterable[int] = ()) -> "SuppressedKeys":
        """Return these with some added, and without those of the numbers ``ended``."""
        gone = set(ended)
        return SuppressedKeys((*(one for one in self.suppressions if one.id not in gone), *added))


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


def as_digests(digests: Iterable[bytes]) -> Digests:
    """Return digests of one width as a sorted array."""
    some = sorted(digests)
    return np.frombuffer(b"".join(some), dtype=f"S{len(some[0])}") if some else np.zeros(0, "S1")


NOTHING_SUPPRESSED = SuppressedKeys()
