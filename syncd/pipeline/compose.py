"""Compose: from the origin, the verdict and the corrections to the head's next rows. Pure; one rule, key by key.

For each key (digest, entry) that an update, an ended hold or a changed suppression touches, and for no other: *wanted*
is the origin's row, or none if it is suppressed; *is* is the head's row. A missing row or another label belongs to the
lane of additions, a row too many to the lane of removals. A lane that passes takes *wanted*, a lane that holds keeps
*is*. A refused key keeps *is* in both lanes. A suppression needs no lane: it always wins.

What origin and head differ by afterwards goes into ``owed``, the rows that turn the head into the origin.
"""

from dataclasses import dataclass

import numpy as np

from syncd.format.manifest import Withheld
from syncd.format.rows import Index, Mask, Rows, concatenate
from syncd.format.stack import Resolved


@dataclass(frozen=True)
class Touched:
    """Keys of one algorithm, sorted and each once, with what origin and head hold of each; masks are by key."""

    keys: Rows
    """only digest and entry count"""
    origin: Resolved
    head: Resolved
    suppressed: Mask
    """the operator's correction: the digest, or the entry, must not match"""
    refused: Mask
    """an operator discarded the hold of it, and the partner has not touched it since"""

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Passing:
    """The keys, as masks, whose addition and whose removal may go live."""

    additions: Mask
    removals: Mask


@dataclass(frozen=True)
class Composed:
    """What becomes of the keys of one algorithm."""

    head: Rows
    """the delta that turns the head into its next version"""
    owed: Rows
    """rows on top of ``owed`` so far: what the next head lacks of the origin, and what it lacks no more"""
    differs: Mask
    """keys that the next head does not hold as the origin does: of an update without any, the segments go out as the
    partner made them"""
    added: Rows
    """rows that would be added or relabelled, and wait"""
    removed: Rows
    """rows that would be removed, and wait"""
    growth: int
    """by how many entries the head grows"""
    waiting: Withheld
    """counts of both, and of suppressed entries"""
    refused: Withheld
    """counts of the refused keys by which the head still differs"""


@dataclass(frozen=True)
class _Wanted:
    """By key: how the head would have to change."""

    add: Mask
    """to add, or to give another label"""
    relabel: Mask
    """those of ``add`` that are there under another label"""
    remove: Mask


def compose(touched: Touched, passing: Passing, owed: Mask) -> Composed:
    """Apply the rule. ``owed``: the keys of which ``owed`` has a row so far. Pure."""
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
    """Count the rows by which the head differs from the origin: those that wait, and those that were refused. Pure."""
    found = _difference(touched)
    hidden = touched.suppressed & touched.origin.present
    waiting = _counted(found, ~touched.refused & ~touched.suppressed, int(hidden.sum()))
    return waiting, _counted(found, touched.refused & ~touched.suppressed, 0)


def _counted(found: _Wanted, among: Mask, suppressed: int) -> Withheld:
    relabels = int((found.relabel & among).sum())
    return Withheld(
        additions=int((found.add & among).sum()) - relabels,
        removals=int((found.remove & among).sum()),
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
    """The origin's rows of the keys ``add``, and removals of the keys ``remove``, in the order of the keys."""
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
