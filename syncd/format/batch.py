"""A batch: rows on their way into a list, as sorted columns, from any kind of source.

A batch states the wanted content of a list, or the changes to it, and nothing about publishing. Columns are in memory
or are views of mapped files in a scratch folder, so that a list of tens of millions of rows fits. Those files must
stay until the batch is published.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from syncd.format.rows import Digests, Entries, Rows, repeats
from syncd.format.segment import Segment
from syncd.model import Algorithm


@dataclass(frozen=True)
class Removals:
    """Rows to remove. Those given by digest or entry alone are looked up in the current list."""

    exact: Mapping[Algorithm, Rows] = field(default_factory=dict)
    """by digest and entry: rows that remove, sorted, each once"""
    digests: Mapping[Algorithm, Digests] = field(default_factory=dict)
    """by digest alone, removing all its entries; sorted, unique"""
    entries: tuple[str, ...] = ()
    """by entry alone, removed under every algorithm; sorted, unique"""
    entries_under: Mapping[Algorithm, tuple[str, ...]] = field(default_factory=dict)
    """by entry and algorithm; sorted, unique"""


@dataclass(frozen=True)
class WholeList:
    """The complete new content of a list. Rows of the current list that are not in it are removed."""

    segments: Mapping[Algorithm, Segment]
    """base segments, with their files in a scratch folder; an algorithm without rows has no segment"""
    skipped: int = 0
    """number of bad rows that were skipped while the batch was made"""
    read: int = 0
    """number of rows that were read to make it, bad ones included; 0 if no rows were parsed"""


@dataclass(frozen=True)
class Changes:
    """Rows to add or relabel, and rows to remove. An entry is in only one of the two.

    Raises `ValueError` if the columns are malformed, which is a bug in the caller.
    """

    add: Mapping[Algorithm, Rows] = field(default_factory=dict)
    """sorted by (digest, entry), each once"""
    remove: Removals = field(default_factory=Removals)
    skipped: int = 0
    """as in `WholeList`"""
    read: int = 0
    """as in `WholeList`"""
    replaced: Entries = ()
    """entries, each once: the rows in ``add`` are all that stays of them"""

    def __post_init__(self) -> None:
        for kind, parts in (("add", self.add), ("remove", self.remove.exact)):
            for algorithm, rows in parts.items():
                if rows.algorithm != algorithm or len(repeats(rows.digests, rows.entries)):
                    raise ValueError(f"rows to {kind} under {algorithm} are of another algorithm or not sorted")
                if (rows.removed != (kind == "remove")).any():
                    raise ValueError(f"rows to {kind} under {algorithm} do not all {kind}")


Batch = WholeList | Changes
