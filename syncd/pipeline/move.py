"""The keys of one list that a publication touches, and the changes to them that `compose` decides.

Nothing here writes, signs or commits.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from syncd.format.rows import Mask, Rows, concatenate
from syncd.format.search import among
from syncd.format.segment import Segment
from syncd.format.stack import Resolved, Stack, merge_deltas
from syncd.model import Algorithm
from syncd.outcomes import Lane
from syncd.pipeline import compose
from syncd.pipeline.compose import Composed, Passing, Touched
from syncd.pipeline.heads import LeftOut, ListState, Pinned
from syncd.pipeline.keyed import MasksBy, RowsBy, WithheldBy, in_order, shifted, without_zeros
from syncd.pipeline.suppressed import SuppressedKeys


@dataclass(frozen=True)
class _Touch:
    """The keys of one algorithm before and after the change of the origin. The head is the same in both."""

    before: Touched
    after: Touched
    owed: Mask
    """keys that have a row in ``owed`` now"""
    own: Mask
    """keys that the update, if there is one, does not name"""


@dataclass
class Move:
    """The touched keys of one list, and the changes to them that were decided."""

    state: ListState
    suppressed: SuppressedKeys | None = None
    """in force afterwards; None: as now"""
    repin: bool = False
    """true if ``pinned`` replaces the state's pin. Then every key that differs is touched, and counts start again"""
    pinned: Pinned | None = None
    _touches: dict[Algorithm, _Touch] = field(default_factory=dict)
    _composed: dict[Algorithm, Composed] = field(default_factory=dict)

    def touch_update(
        self, segments: Iterable[Segment], resolved: Mapping[Algorithm, Resolved], also: RowsBy | None = None
    ) -> None:
        """Touch the keys of an update's delta, oldest segment first. None of them is refused any longer.

        ``resolved``: the origin's rows for an algorithm's keys, if they were looked up already. ``also``: waiting rows
        to touch as well.
        """
        by_algorithm: dict[Algorithm, list[Segment]] = {}
        for segment in segments:
            by_algorithm.setdefault(segment.algorithm, []).append(segment)
        waiting = dict(also or {})
        for algorithm, some in by_algorithm.items():
            rows = merge_deltas(algorithm, some)
            more = waiting.pop(algorithm, None)
            more = more.take(~among(rows, more)) if more is not None else None
            if more is None or not len(more):
                stated = Resolved(~rows.removed, rows.take(~rows.removed))
                self._touch(algorithm, rows, stated, np.zeros(len(rows), bool), resolved.get(algorithm))
            else:
                keys = in_order(concatenate([rows, more]))
                stated = self._origin_after(algorithm, keys, rows)
                self._touch(algorithm, keys, stated, np.zeros(len(keys), bool), own=~among(rows, keys))
        self.touch_rows(waiting, {algorithm: np.zeros(len(some), bool) for algorithm, some in waiting.items()})

    def _origin_after(self, algorithm: Algorithm, keys: Rows, changed: Rows) -> Resolved:
        """Return the origin's rows for ``keys`` once the rows ``changed`` apply, which are some of them."""
        before = self.state.basis.stacks.get(algorithm, Stack(algorithm, [])).resolve(keys)
        mine = among(changed, keys)
        present = before.present & ~mine
        kept = before.current.take(~mine[before.present])
        added = changed.take(~changed.removed)
        present[mine] = ~changed.removed
        return Resolved(present, in_order(concatenate([kept, added])) if len(added) else kept)

    def touch_rows(self, rows: RowsBy, refused: MasksBy) -> None:
        """Touch the keys of waiting or refused rows. ``refused`` marks those that are refused afterwards."""
        for algorithm, some in rows.items():
            self._touch(algorithm, some, None, refused[algorithm])

    def _touch(
        self,
        algorithm: Algorithm,
        keys: Rows,
        origin: Resolved | None,
        refused: Mask,
        resolved: Resolved | None = None,
        own: Mask | None = None,
    ) -> None:
        """``origin``: its rows afterwards, None if they stay. ``resolved``: its present rows, if known.

        ``own``: keys that the update does not name; None: none of them, or all if there is no update.
        """
        empty = Stack(algorithm, [])
        owed = np.zeros(len(keys), bool)
        if algorithm in self.state.owed or resolved is None:
            head = self.state.head_basis.stacks.get(algorithm, empty).resolve(keys)
            for segment in self.state.owed.get(algorithm, empty).segments:
                owed |= segment.positions(keys.digests, keys.entries)[1]
        else:  # head and origin are equal
            head = resolved
        before = self.state.basis.stacks.get(algorithm, empty).resolve(keys) if owed.any() else head
        hidden = self.state.suppressed.mask(algorithm, keys)
        afterwards = hidden if self.suppressed is None else self.suppressed.mask(algorithm, keys)
        stated = before if origin is None else origin
        pinned = self.pinned if self.repin else self.state.pinned
        target = pinned.target(algorithm, keys, stated) if pinned else None
        was = None if self.repin or not pinned else pinned.target(algorithm, keys, before)
        self._touches[algorithm] = _Touch(
            Touched(keys, before, head, hidden, self.refused_before(algorithm, keys), was),
            Touched(keys, stated, head, afterwards, refused, target),
            owed,
            np.zeros(len(keys), bool) if own is None else own,
        )

    def refused_before(self, algorithm: Algorithm, keys: Rows) -> Mask:
        """Mark the sorted keys that are refused now."""
        return among(self.state.refused.get(algorithm), keys)

    def refused_after(self) -> dict[Algorithm, Rows]:
        """Return the new refused rows of each algorithm in which they change."""
        changed = {}
        for algorithm, touch in self._touches.items():
            now, before = touch.after.refused, touch.before.refused
            if (now != before).any():
                held = self.state.refused.get(algorithm)
                left = held.take(~among(touch.after.keys, held)) if held is not None else None
                added = touch.after.keys.take(now)
                changed[algorithm] = added if left is None else in_order(concatenate([left, added]))
        return changed

    def still_wanted(self, rows: RowsBy) -> dict[Algorithm, Mask]:
        """Mark, by algorithm, the rows of a touched hold that are still wanted unchanged."""
        return {algorithm: _states(self._touches[algorithm].after.target, some) for algorithm, some in rows.items()}

    def states_suppressed(self, rows: RowsBy) -> bool:
        """Return True if the origin still has a suppressed entry that ``rows`` would add."""
        suppressed = self.suppressed or self.state.suppressed
        for algorithm, some in rows.items():
            hidden = some.take(suppressed.mask(algorithm, some) & ~some.removed)
            touch = self._touches.get(algorithm)
            if touch is not None:
                mine = touch.after.keys
                if among(mine.take(touch.after.origin.present), hidden).any():
                    return True
                hidden = hidden.take(~among(mine, hidden))
            stack = self.state.basis.stacks.get(algorithm)
            if len(hidden) and stack is not None and stack.resolve(hidden).present.any():
                return True
        return False

    def if_all_wait(self) -> WithheldBy:
        """Return the counts of waiting rows if none of the touched keys passes."""
        return self._total({algorithm: compose.withheld(touch.after)[0] for algorithm, touch in self._touches.items()})

    def kept_out(self) -> RowsBy:
        """Return the touched rows that are new in the origin and kept out because they are known to be good."""
        found = {}
        for algorithm, touch in self._touches.items():
            origin, known = touch.after.origin, self.state.suppressed.known_good
            new = origin.present & ~touch.before.origin.present
            rows = origin.current.take(new[origin.present])
            rows = rows.take(known.mask(algorithm, rows.digests))
            if len(rows):
                found[algorithm] = rows
        return found

    def left_out(self) -> LeftOut:
        """Count the touched entries of the new pin's version that the head is not to have."""
        removed = suppressed = 0
        for algorithm, touch in self._touches.items():
            if self.pinned is None:
                break
            mine = self.pinned.resolve(algorithm, touch.after.keys).present
            removed += int((mine & ~touch.after.target.present).sum())
            suppressed += int((touch.after.target.present & touch.after.suppressed).sum())
        return LeftOut(removed, suppressed)

    def compose(self, passing: Callable[[Algorithm, int], Passing]) -> None:
        """Apply the rule. ``passing`` returns the keys that may go live, given an algorithm and its number of keys."""
        self._composed = {
            algorithm: compose.compose(touch.after, passing(algorithm, len(touch.after)), touch.owed)
            for algorithm, touch in self._touches.items()
        }

    @property
    def waiting(self) -> WithheldBy:
        """Counts of the rows that wait afterwards."""
        return self._total({algorithm: composed.waiting for algorithm, composed in self._composed.items()})

    @property
    def discarded(self) -> WithheldBy:
        """Counts of the refused rows that still differ afterwards."""
        if self.repin:
            return without_zeros({algorithm: composed.refused for algorithm, composed in self._composed.items()})
        origin = self.state.origin
        total = dict(origin.discarded) if origin else {}
        for algorithm, touch in self._touches.items():
            before = compose.withheld(touch.before)[1]
            total[algorithm] = shifted(total.get(algorithm), before, self._composed[algorithm].refused)
        return without_zeros(total)

    def _total(self, after: WithheldBy) -> WithheldBy:
        """Return the counts of waiting rows, with those of the touched keys replaced by ``after``."""
        origin = self.state.origin
        if self.repin:
            return without_zeros(after)
        total = dict(origin.waiting) if origin else {}
        for algorithm, touch in self._touches.items():
            total[algorithm] = shifted(total.get(algorithm), compose.withheld(touch.before)[0], after[algorithm])
        return without_zeros(total)

    def is_altered(self, algorithm: Algorithm) -> bool:
        """Return True if any key of the update differs from the update in the next head."""
        return bool((self._composed[algorithm].differs & ~self._touches[algorithm].own).any())

    @property
    def growth(self) -> Mapping[Algorithm, int]:
        """Entries by which the head grows."""
        return {algorithm: composed.growth for algorithm, composed in self._composed.items()}

    def head_rows(self) -> RowsBy:
        """Return the delta that turns the head into its next version."""
        return {algorithm: composed.head for algorithm, composed in self._composed.items() if len(composed.head)}

    def rows_beside_update(self, algorithm: Algorithm) -> Rows:
        """Return the part of the head's delta that the update does not name."""
        keys = self._touches[algorithm].after.keys.take(self._touches[algorithm].own)
        rows = self._composed[algorithm].head
        return rows.take(among(keys, rows))

    def owed_rows(self) -> RowsBy:
        """Return the rows to put on top of ``owed``."""
        return {algorithm: composed.owed for algorithm, composed in self._composed.items() if len(composed.owed)}

    def waiting_rows(self, lane: Lane) -> RowsBy:
        """Return the touched rows of one lane that wait."""
        additions = lane is Lane.ADDITIONS
        rows = {
            algorithm: composed.added if additions else composed.removed
            for algorithm, composed in self._composed.items()
        }
        return {algorithm: some for algorithm, some in rows.items() if len(some)}


def _states(origin: Resolved, rows: Rows) -> Mask:
    same = ~origin.present & rows.removed
    stated = origin.present & ~rows.removed
    same[stated] = rows.take(stated).same_labels(origin.current.take(stated[origin.present]))
    return same
