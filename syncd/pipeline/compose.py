"""Compose the head's next rows from the origin, the verdict and the operator's corrections. Pure; one rule per key.

The rule applies to each key (digest, entry) that an update, an ended hold or a changed suppression touches, and to no
other. *Wanted* is the origin's row, or nothing if the key is suppressed; in a list that is pinned to an older version,
that version's row, if the origin still has the entry. *Is* is the head's row. A missing row or another label belongs to
the addition lane, a surplus row to the removal lane. A lane that passes takes *wanted*, a lane that holds keeps *is*. A
refused key keeps *is* in both lanes. A suppression always wins, in either lane.

The remaining difference goes into ``owed``, the rows that turn the head into the origin.
"""

from dataclasses import dataclass

import numpy as np

from syncd.format.manifest import Withheld
from syncd.format.rows import Index, Mask, Rows, concatenate
from syncd.format.stack import Resolved


@dataclass(frozen=True)
class Touched:
    """Keys of one algorithm, sorted and unique, with the row of each in origin and head. Masks are per key."""

    keys: Rows
    """only digest and entry matter"""
    origin: Resolved
    head: Resolved
    suppressed: Mask
    """corrected by the operator: the digest or the entry must not match"""
    refused: Mask
    """its hold was discarded, and the partner has not changed it since"""
    pinned: Resolved | None = None
    """the rows wanted instead of the origin's, in a list that is pinned to an older version"""

    @property
    def target(self) -> Resolved:
        """The rows that the head would have without suppressions."""
        return self.origin if self.pinned is None else self.pinned

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Passing:
    """Masks of the keys that may be added and of those that may be removed."""

    additions: Mask
    removals: Mask


@dataclass(frozen=True)
class Composed:
    """The result for the keys of one algorithm."""

    head: Rows
    """the delta that turns the head into its next version"""
    owed: Rows
    """rows to put on top of the present ``owed``: new differences, and neutral rows for those that ended"""
    differs: Mask
    """keys that differ between the next head and the origin; an update without any is published byte for byte"""
    added: Rows
    """waiting rows that would be added or relabelled"""
    removed: Rows
    """waiting rows that would be removed"""
    growth: int
    """entries by which the head grows"""
    waiting: Withheld
    """counts of ``added`` and ``removed``, and of suppressed entries"""
    refused: Withheld
    """counts of the refused keys that still differ"""


@dataclass(frozen=True)
class _Wanted:
    """The changes, per key, that would make the head equal to *wanted*."""

    add: Mask
    """to add or relabel"""
    relabel: Mask
    """those of ``add`` that exist under another label"""
    remove: Mask


def compose(touched: Touched, passing: Passing, owed: Mask) -> Composed:
    """Apply the rule. ``owed`` marks the keys that have a row in ``owed`` now. Pure."""
    wanted = _difference(touched)
    free = ~touched.refused
    take_add = wanted.add & passing.additions & free
    take_remove = wanted.remove & ((passing.removals & free) | touched.suppressed)
    wait_add, wait_remove = wanted.add & ~take_add, wanted.remove & ~take_remove
    hidden = touched.suppressed & touched.origin.present
    differs = (wait_add | wait_remove | hidden) if touched.pinned is None else _apart(touched, take_add, take_remove)
    neutral = owed & ~differs
    keep = differs | neutral
    left = _Wanted(wait_add, wait_add & wanted.relabel, wait_remove)
    visible = ~touched.suppressed
    nothing = np.zeros(len(touched), bool)
    return Composed(
        head=_rows(touched.keys, touched.target, take_add, take_remove),
        owed=_rows(touched.keys, touched.origin, keep & touched.origin.present, keep & ~touched.origin.present),
        differs=differs,
        added=_rows(touched.keys, touched.target, wait_add & free, nothing),
        removed=_rows(touched.keys, touched.target, nothing, wait_remove & free),
        growth=int((take_add & ~touched.head.present).sum()) - int(take_remove.sum()),
        waiting=_counted(left, free & visible, int(hidden.sum())),
        refused=_counted(left, touched.refused & visible, 0),
    )


def _apart(touched: Touched, added: Mask, removed: Mask) -> Mask:
    """Mark the keys whose row in the next head is not the origin's, in a pinned list."""
    apart = ~_same(touched.origin, touched.head)
    apart[added] = ~_same(touched.origin, touched.target)[added]
    apart[removed] = touched.origin.present[removed]
    return apart


def withheld(touched: Touched) -> tuple[Withheld, Withheld]:
    """Count the rows by which head and origin differ: the waiting ones, and the refused ones. Pure."""
    wanted = _difference(touched)
    hidden = touched.suppressed & touched.origin.present
    waiting = _counted(wanted, ~touched.refused & ~touched.suppressed, int(hidden.sum()))
    return waiting, _counted(wanted, touched.refused & ~touched.suppressed, 0)


def _counted(wanted: _Wanted, among: Mask, suppressed: int) -> Withheld:
    relabels = int((wanted.relabel & among).sum())
    return Withheld(
        additions=int((wanted.add & among).sum()) - relabels,
        removals=int((wanted.remove & among).sum()),
        relabels=relabels,
        suppressed=suppressed,
    )


def _difference(touched: Touched) -> _Wanted:
    target, head = touched.target, touched.head
    wanted = target.present & ~touched.suppressed
    add = wanted & ~_same(target, head)
    return _Wanted(add, add & head.present, head.present & ~wanted)


def _same(one: Resolved, other: Resolved) -> Mask:
    """Mark the keys that have the same row in both, or none in either."""
    both = one.present & other.present
    same: Mask = ~(one.present | other.present)
    left = one.current.take(both[one.present])
    same[both] = left.same_labels(other.current.take(both[other.present]))
    return same


def _rows(keys: Rows, source: Resolved, add: Mask, remove: Mask) -> Rows:
    """Return the rows of ``source`` for the keys in ``add`` and removals for those in ``remove``, in key order."""
    if not add.any() and not remove.any():
        return keys.slice(0, 0)
    parts: list[Rows] = []
    places: list[Index] = []
    if add.any():
        parts.append(source.current.take(add[source.present]))
        places.append(np.flatnonzero(add))
    if remove.any():
        parts.append(keys.take(remove).as_removals())
        places.append(np.flatnonzero(remove))
    return concatenate(parts).take(np.argsort(np.concatenate(places), kind="stable"))
