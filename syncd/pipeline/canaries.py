"""Digests that must be on a list: the partner's test vectors, from a file of the operator's.

The file has one ``ALG:HEX`` a line, with comments after ``#``.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from syncd.errors import ConfigError, SyncdError, UsageError
from syncd.files import check_writers, read_bytes
from syncd.format.meaningless import is_meaningless
from syncd.format.rows import Digests, Rows, as_digests, concatenate, repeats, sort_order
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.model import Algorithm, Digest
from syncd.pipeline.known_good import KnownGood

MOST: Final = 100_000
"""test vectors of one list"""
_MAX_FILE: Final = 64 << 20


@dataclass(frozen=True)
class MustHave:
    """The digests that must be on a list, sorted and unique by algorithm."""

    digests: Mapping[Algorithm, Digests] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.digests.values()))

    @classmethod
    def read(cls, path: Path | None, owners: Collection[int] = ()) -> "MustHave":
        """Read the file of a list. Raises `ConfigError`, which never shows a digest."""
        if path is None:
            return cls()
        check_writers(path, owners, "must-have file")
        try:
            lines = read_bytes(path, _MAX_FILE).decode("utf-8", "replace").splitlines()
        except SyncdError as error:
            raise ConfigError(f"must-have file: {error.message}", hint=error.hint) from error
        by_algorithm: dict[Algorithm, set[bytes]] = {}
        for number, line in enumerate(lines, 1):
            if text := line.partition("#")[0].strip():
                digest = _parsed(path, number, text)
                by_algorithm.setdefault(digest.algorithm, set()).add(digest.value)
        if not by_algorithm or sum(map(len, by_algorithm.values())) > MOST:
            raise ConfigError(
                f"must-have file {path} names {'too many digests' if by_algorithm else 'no digest'}",
                hint=f"give one ALG:HEX a line, at most {MOST:,}; or unset must_have_file",
            )
        for algorithm, some in by_algorithm.items():
            if len(set(map(len, some))) > 1:
                raise ConfigError(f"must-have file {path}: the {algorithm} digests differ in length", hint=_CORRECT)
        return cls({algorithm: as_digests(some) for algorithm, some in by_algorithm.items()})

    def missing_from(self, stacks: Mapping[Algorithm, Sequence[Segment]]) -> int:
        """Count the digests that no entry in force of these stacks supports."""
        present = {algorithm: rows_of(stacks, algorithm, self).digests for algorithm in self.digests}
        return sum(int((~np.isin(wanted, present[algorithm])).sum()) for algorithm, wanted in self.digests.items())

    def lost(self, before: Mapping[Algorithm, Rows], after: Mapping[Algorithm, Rows]) -> int:
        """Count the digests that have a row in ``before`` and none in ``after``."""
        return sum(
            int((np.isin(wanted, before[algorithm].digests) & ~np.isin(wanted, after[algorithm].digests)).sum())
            for algorithm, wanted in self.digests.items()
        )

    def check(self, known: KnownGood, path: Path) -> None:
        """Check that none of the digests is known to be good. Raises `ConfigError`."""
        hit = sum(int(known.mask(algorithm, some).sum()) for algorithm, some in self.digests.items())
        if hit:
            raise ConfigError(
                f"known-good file {path} names {hit} of the digests that must be on a list",
                hint="take them out of the known-good file or out of must_have_file; the last good reading of the "
                "known-good file stays in force",
            )


def rows_of(stacks: Mapping[Algorithm, Sequence[Segment]], algorithm: Algorithm, must_have: MustHave) -> Rows:
    """Return the rows in force of the must-have digests of one algorithm. O(k log n) in each segment."""
    wanted = must_have.digests[algorithm]
    parts = []
    for segment in reversed(stacks.get(algorithm, ())):
        if segment.width == wanted.dtype.itemsize:
            start, stop = segment.ranges(wanted)
            some = np.flatnonzero(start < stop)
            places = [np.arange(start[place], stop[place]) for place in some]
            if places:
                parts.append(segment.take(np.concatenate(places)))
    if not parts:
        return Rows.empty(algorithm)
    rows = concatenate(parts)
    rows = rows.take(sort_order(rows))  # stable: the newest of equal rows comes first
    keep = ~rows.removed
    keep[repeats(rows.digests, rows.entries)] = False
    return rows.take(keep)


def segments_of(stacks: Mapping[Algorithm, Stack], more: Iterable[Segment] = ()) -> dict[Algorithm, list[Segment]]:
    """Return the segments of stacks with ``more`` on top, by algorithm."""
    every = {algorithm: list(stack.segments) for algorithm, stack in stacks.items()}
    for segment in more:
        every.setdefault(segment.algorithm, []).append(segment)
    return every


_CORRECT: Final = "correct the file; nothing was published"


def _parsed(path: Path, number: int, text: str) -> Digest:
    try:
        digest = Digest.parse(text)
    except UsageError as error:
        raise ConfigError(f"must-have file {path}, line {number}: {error.message}", hint=error.hint) from None
    if is_meaningless(digest.algorithm, as_digests([digest.value])).any():
        raise ConfigError(
            f"must-have file {path}, line {number}: a digest of the empty input, or with all bits alike, is never "
            "published",
            hint="take it out of the file",
        )
    return digest
