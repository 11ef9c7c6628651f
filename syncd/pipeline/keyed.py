"""Rows, masks and counts by algorithm, and what settling computes with them."""

from collections.abc import Iterable, Mapping

import numpy as np

from syncd.format.manifest import Withheld
from syncd.format.rows import Mask, Rows, concatenate, sort_order
from syncd.format.search import among
from syncd.model import Algorithm
from syncd.outcomes import Lane

RowsBy = Mapping[Algorithm, Rows]
MasksBy = Mapping[Algorithm, Mask]
WithheldBy = Mapping[Algorithm, Withheld]
Labels = Mapping[Algorithm, Mapping[str, int]]


def union(parts: Iterable[RowsBy]) -> RowsBy:
    """Merge rows of several holds, sorted. For each key the first hold that has it wins."""
    merged: dict[Algorithm, Rows] = {}
    for rows in parts:
        for algorithm, some in rows.items():
            held = merged.get(algorithm)
            left = some if held is None else some.take(~among(held, some))
            merged[algorithm] = left if held is None else in_order(concatenate([held, left]))
    return merged


def keys_among(rows: RowsBy, others: RowsBy) -> dict[Algorithm, Mask]:
    """Mark, by algorithm, the keys of ``rows`` that are also keys of ``others``."""
    return {algorithm: among(others.get(algorithm), some) for algorithm, some in rows.items()}


def no_keys(rows: RowsBy) -> dict[Algorithm, Mask]:
    """Return masks that mark none of ``rows``."""
    return {algorithm: np.zeros(len(some), bool) for algorithm, some in rows.items()}


def in_order(rows: Rows) -> Rows:
    """Sort rows by key."""
    return rows.take(sort_order(rows))


def lane_counts(waiting: WithheldBy) -> dict[Lane, int]:
    """Count the waiting rows of each lane."""
    return {
        Lane.ADDITIONS: sum(counts.additions + counts.relabels for counts in waiting.values()),
        Lane.REMOVALS: sum(counts.removals for counts in waiting.values()),
    }


def together(waiting: WithheldBy, discarded: WithheldBy) -> WithheldBy:
    """Add both counts, in the form that manifests state."""
    zero = Withheld()
    both = {
        algorithm: shifted(waiting.get(algorithm), zero, discarded.get(algorithm, zero))
        for algorithm in {*waiting, *discarded}
    }
    return without_zeros(both)


def shifted(total: Withheld | None, minus: Withheld, plus: Withheld) -> Withheld:
    """Replace the part ``minus`` of a count by ``plus``. A count that an older syncd kept never falls below zero."""
    held = total or Withheld()
    counts = {
        name: max(0, getattr(held, name) - getattr(minus, name) + getattr(plus, name)) for name in Withheld.model_fields
    }
    return Withheld(**counts)


def without_zeros(counts: WithheldBy) -> WithheldBy:
    """Leave out algorithms without a count."""
    return {algorithm: withheld for algorithm, withheld in sorted(counts.items()) if withheld != Withheld()}
