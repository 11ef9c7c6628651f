"""Compose the head's next rows from the origin, the verdict and the operator's corrections. Pure; one rule per key.

The rule applies to each key (digest, entry) that an update, an ended hold or a changed suppression touches, and to no
other. *Wanted* is the origin's row, or nothing if the key is suppressed; *is* is the head's row. A missing row or
another label belongs to the addition lane, a surplus row to the removal lane. A lane that passes takes *wanted*, a lane
that holds keeps *is*. A refused key keeps *is* in both lanes. A suppression always wins, in either lane.

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
    differs = wait_add | wait_remove | hidden
    neutral = owed & ~differs
    keep = differs | neutral
    left = _Wanted(wait_add, wait_add & wanted.relabel, wait_remove)
    visible = ~touched.suppressed
    return Composed(
        head=_rows(touched, take_add, take_remove),
        owed=_rows(touched, keep & touched.origin.present, keep & ~touched.origin.present),
        differs=differs,
        added=_rows(touched, wait_add & free, np.zeros(len(touched), bool)),
        removed=_rows(touched, np.zeros(len(touched), bool), wait_remove & free),
        growth=int((take_add & ~touched.head.present).sum()) - int(take_remove.sum()),
        waiting=_counted(left, free & visible, int(hidden.sum())),
        refused=_counted(left, touched.refused & visible, 0),
    )


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
    origin, head = touched.origin, touched.head
    both = origin.present & head.present
    same = both.copy()
    left = origin.current.take(both[origin.present])
    same[both] = left.same_labels(head.current.take(both[head.present]))
    wanted = origin.present & ~touched.suppressed
    add = wanted & ~same
    return _Wanted(add, add & head.present, head.present & ~wanted)


def _rows(touched: Touched, add: Mask, remove: Mask) -> Rows:
    """Return the origin's rows for the keys in ``add`` and removals for those in ``remove``, in key order."""
    if not add.any() and not remove.any():
        return touched.keys.slice(0, 0)
    parts: list[Rows] = []
    places: list[Index] = []
    if add.any():
        parts.append(touched.origin.current.take(add[touched.origin.present]))
        places.append(np.flatnonzero(add))
    if remove.any():
        parts.append(touched.keys.take(remove).as_removals())
        places.append(np.flatnonzero(remove))
    return concatenate(parts).take(np.argsort(np.concatenate(places), kind="stable"))
