"""A batch: rows on their way into a list, as sorted columns, wherever they came from.

It says what a list shall be, or what shall change in it, and nothing of how it is published. Columns lie in memory, or
are views of mapped files in a scratch folder, which must stay until the batch is published: that is how a list of tens
of millions of rows fits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from syncd.format.rows import Digests, Rows, repeats
from syncd.format.segment import Segment
from syncd.model import Algorithm


@dataclass(frozen=True)
class Removals:
    """What to remove. What is named by its digest or its entry alone is looked up in the list in force."""

    exact: Mapping[Algorithm, Rows] = field(default_factory=dict)
    """digest and entry: rows that remove, sorted, each once"""
    digests: Mapping[Algorithm, Digests] = field(default_factory=dict)
    """digest alone: all its entries go; sorted, unique"""
    entries: tuple[str, ...] = ()
    """entry alone: it goes under every algorithm; sorted, unique"""
    entries_under: Mapping[Algorithm, tuple[str, ...]] = field(default_factory=dict)
    """entry and algorithm: it goes under that one; sorted, unique"""


@dataclass(frozen=True)
class Whole:
    """The whole list as it shall be. What the list in force has and this has not is removed."""

    segments: Mapping[Algorithm, Segment]
    """base segments, their files in a scratch folder; none for an algorithm without rows"""
    skipped: int = 0
    """bad rows that were set aside while the batch was made"""


@dataclass(frozen=True)
class Changes:
    """Rows to add, or to give another label, and what to remove. An entry is in one of both only.

    Raises `ValueError` if the columns are not as they should be: that is a bug of whoever made them.
    """

    add: Mapping[Algorithm, Rows] = field(default_factory=dict)
    """sorted by (digest, entry), each once"""
    remove: Removals = field(default_factory=Removals)
    skipped: int = 0
    """as in `Whole`"""

    def __post_init__(self) -> None:
        for kind, parts in (("add", self.add), ("remove", self.remove.exact)):
            for algorithm, rows in parts.items():
                if rows.algorithm != algorithm or len(repeats(rows.digests, rows.entries)):
                    raise ValueError(f"rows to {kind} under {algorithm} are of another algorithm or not sorted")
                if (rows.removed != (kind == "remove")).any():
                    raise ValueError(f"rows to {kind} under {algorithm} do not all {kind}")


Batch = Whole | Changes
