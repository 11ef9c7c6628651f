"""Deltas: the difference of two stacks, and the end states that deltas lead to."""

from collections.abc import Mapping

from syncd.format.checksum import Checksum
from syncd.format.manifest import EndState
from syncd.format.rows import Rows, concatenate, sort_order
from syncd.format.segment import RowProgress, ignore_progress
from syncd.format.stack import Effect, Stack, Totals
from syncd.model import Algorithm, Counts


def difference(old: Stack, new: Stack, read: RowProgress = ignore_progress) -> Rows:
    """Return the sorted rows that turn ``old`` into ``new``. Reads both lists once; memory grows with the result.

    ``read`` reports progress over the entries in force of both.
    """
    parts = [Rows.empty(old.algorithm)]
    for rows in new.effective():
        held = old.resolve(rows)
        changed = ~held.present
        changed[held.present] = ~rows.take(held.present).same_labels(held.current)
        if changed.any():
            parts.append(rows.take(changed))
        read(len(rows))
    for rows in old.effective():
        gone = ~new.resolve(rows).present
        if gone.any():
            parts.append(rows.take(gone).as_removals())
        read(len(rows))
    merged = concatenate(parts)
    return merged.take(sort_order(merged))


def whole_state(stack: Stack, read: RowProgress = ignore_progress) -> tuple[EndState, Counts]:
    """Compute the end state of a stack from its rows, and the counts of a first version. Reads the whole list.

    ``read`` reports progress over the rows of the base.
    """
    totals = stack.totals(read)
    return state_of(totals), Counts(added=totals.rows)


def state_of(totals: Totals) -> EndState:
    """Return totals as an end state of a manifest."""
    return EndState(rows=totals.rows, checksum=str(totals.checksum))


def end_state_after(before: EndState | None, effect: Effect) -> EndState:
    """Return the end state that a delta leads to, given the one before it and the effect of the delta."""
    rows = before.rows if before else 0
    total = Checksum.parse(before.checksum) if before else Checksum()
    return EndState(rows=rows + effect.counts.growth, checksum=str(total + effect.change))


def drop_empty(states: Mapping[Algorithm, EndState]) -> dict[Algorithm, EndState]:
    """Return the end states as manifests state them: without algorithms that have no entry in force."""
    return {algorithm: state for algorithm, state in sorted(states.items()) if state.rows}
