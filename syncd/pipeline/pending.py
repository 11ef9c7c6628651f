"""The pending difference of a list, from its state and the counts of what would change: the input of the gate."""

from collections.abc import Mapping

from syncd.catalog.changes import LabelSize
from syncd.format.manifest import Withheld
from syncd.model import Algorithm
from syncd.pipeline.heads import ListState
from syncd.pipeline.keyed import Labels, WithheldBy
from syncd.pipeline.values import Change, Pending, Update


def pending_of(
    state: ListState, waiting: WithheldBy, labels: Labels | None = None, grown: Mapping[Algorithm, int] | None = None
) -> Pending:
    """Return the pending difference of a list if all of ``waiting`` passed.

    ``labels``: the origin's afterwards. ``grown``: entries by which the head grows before that.
    """
    held = state.head.end_state if state.head else {}
    nothing = Withheld()
    changes = {
        str(algorithm): Change(
            rows=(held[algorithm].rows if algorithm in held else 0) + (grown or {}).get(algorithm, 0),
            added=waiting.get(algorithm, nothing).additions,
            removed=waiting.get(algorithm, nothing).removals,
            relabelled=waiting.get(algorithm, nothing).relabels,
        )
        for algorithm in sorted({*held, *waiting})
    }
    before = sum(change.rows for change in changes.values())
    return Pending(
        rows_before=before,
        rows_after=sum(change.after for change in changes.values()),
        algorithms=changes,
        labels=_label_changes(state, labels, sum(counts.suppressed for counts in waiting.values())),
        windows=state.windows,
        label_windows=state.label_windows,
    )


def pending_whole(state: ListState, update: Update) -> Pending:
    """Return the pending difference of a list whose segments are not here: known by its counts alone."""
    held = state.head.end_state if state.head else {}
    stated = update.candidate.end_state
    changes = {}
    for algorithm in sorted({*held, *stated}):
        before, after = (states[algorithm].rows if algorithm in states else 0 for states in (held, stated))
        changes[str(algorithm)] = Change(before, max(0, after - before), max(0, before - after))
    return Pending(
        rows_before=sum(change.rows for change in changes.values()),
        rows_after=update.candidate.rows,
        algorithms=changes,
        labels=_label_changes(state, update.growth, 0),
        windows=state.windows,
        label_windows=state.label_windows,
        first=state.head is None,
    )


def _label_changes(state: ListState, labels: Labels | None, suppressed: int) -> dict[str, Change]:
    """Return the net change by label. Suppressed entries never count as added.

    Nothing if no limit asks for it, or if the list is pinned: it does not follow the origin's labels.
    """
    pinned = state.origin is not None and state.origin.pin is not None
    if pinned or not (state.limits.labels or state.limits.known_labels):
        return {}
    before, after = (_by_label(by) for by in (state.head_labels, state.origin_labels if labels is None else labels))
    changes = {}
    for label in sorted({*before, *after}):
        rows = before.get(label, 0)
        growth = after.get(label, 0) - rows
        changes[label] = Change(rows, max(0, growth - suppressed), max(0, -growth))
    return changes


def _by_label(labels: Labels) -> dict[str, int]:
    total: dict[str, int] = {}
    for counts in labels.values():
        for label, count in counts.items():
            total[label] = total.get(label, 0) + count
    return total


def labels_after(before: Labels, growth: Mapping[Algorithm, Mapping[str, int]]) -> Labels:
    """Return the entries by label after ``growth``."""
    after = {algorithm: dict(labels) for algorithm, labels in before.items()}
    for algorithm, grown in growth.items():
        labels = after.setdefault(algorithm, {})
        for label, count in grown.items():
            labels[label] = labels.get(label, 0) + count
    return {
        algorithm: {label: count for label, count in sorted(labels.items()) if count}
        for algorithm, labels in sorted(after.items())
        if any(labels.values())
    }


def limited_labels(state: ListState, labels: Labels | None) -> dict[str, LabelSize]:
    """Return the size of each label that has limits once the head's entries are those in ``labels`` (None: as now)."""
    if not state.limits.labels:
        return {}
    before = _by_label(state.head_labels)
    after = before if labels is None else _by_label(labels)
    return {
        label: LabelSize(after.get(label, 0), after.get(label, 0) - before.get(label, 0))
        for label in state.limits.labels
    }
