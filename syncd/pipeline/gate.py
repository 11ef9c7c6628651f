"""The gate: judge the pending difference of a head, and change nothing. Pure.

Additions and removals are separate lanes with separate verdicts. The gate judges the whole pending difference, never
only the newest delta, so a small later delta cannot release held rows. The changes of the past 24 hours and 7 days are
added to it, so that small steps do not add up unseen.

A lane with an open hold passes again only if its pending rows have become few enough: the findings of the hold are
judged again with the numbers that they had, so that time alone releases nothing.
"""

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from syncd.limits import DEFAULT_LIMITS, ListLimits, PartLimits
from syncd.outcomes import Finding, HoldReason, Lane
from syncd.pipeline.values import Change, Hold, Pass, Pending, Period, Verdict, Window

Closed = Mapping[Lane, tuple[Finding, ...]]
"""The lanes with an open hold, each with its findings."""
NONE_CLOSED: Closed = MappingProxyType({})

_LANES: Final = (Lane.ADDITIONS, Lane.REMOVALS)
_LANE_OF: Final = {
    HoldReason.EMPTIED: (Lane.REMOVALS,),
    HoldReason.RETIRED: (Lane.REMOVALS,),
    HoldReason.SHRUNK: (Lane.REMOVALS,),
    HoldReason.TOO_SMALL: (Lane.REMOVALS,),
    HoldReason.GROWN: (Lane.ADDITIONS,),
    HoldReason.RELABELLED: (Lane.ADDITIONS,),
    HoldReason.TOO_LARGE: (Lane.ADDITIONS,),
    HoldReason.UNKNOWN_ALGORITHM: (Lane.ADDITIONS,),
    HoldReason.UNKNOWN_LABEL: (Lane.ADDITIONS,),
    HoldReason.KNOWN_GOOD: (Lane.ADDITIONS,),
    HoldReason.CANARY_MISSING: (Lane.REMOVALS,),
}
"""The lanes that a reason holds; a reason that is not named here holds both."""
_VOLUME: Final = frozenset({HoldReason.SHRUNK, HoldReason.GROWN, HoldReason.RELABELLED})
_JUDGED_ANEW: Final = frozenset(
    {
        HoldReason.TOO_SMALL,
        HoldReason.TOO_LARGE,
        HoldReason.UNKNOWN_ALGORITHM,
        HoldReason.UNKNOWN_LABEL,
        HoldReason.BAD_ROWS,
        HoldReason.CANARY_MISSING,
    }
)
"""Reasons that depend on the pending difference alone."""


def judge(
    pending: Pending,
    limits: ListLimits = DEFAULT_LIMITS,
    closed: Closed = NONE_CLOSED,
    accepted: Collection[HoldReason] = (),
) -> Verdict:
    """Judge a pending difference. Pure.

    ``accepted``: the reasons that an operator released this update for; the caller then passes no ``closed`` lanes.
    """
    found = [finding for finding in _findings(pending, limits) if finding.reason not in accepted]

    def lane(which: Lane) -> Pass | Hold:
        own = [finding for finding in found if which in _LANE_OF.get(finding.reason, _LANES)]
        reasons = {finding.reason for finding in own}
        kept = [
            finding
            for finding in closed.get(which, ())
            if finding.reason not in reasons and _still_holds(finding, pending, limits)
        ]
        return Hold((*own, *kept)) if own or kept else Pass()

    return Verdict(lane(Lane.ADDITIONS), lane(Lane.REMOVALS))


def _findings(pending: Pending, limits: ListLimits) -> Iterator[Finding]:
    if pending.forked:
        yield Finding(HoldReason.FORKED)
    if pending.serial_jump > limits.max_serial_jump:
        yield Finding(HoldReason.SERIAL_JUMP, rows=pending.serial_jump, allowed=limits.max_serial_jump)
    if pending.rows_before and pending.retired:
        yield Finding(HoldReason.RETIRED)
    elif pending.rows_before and pending.rows_after <= 0:
        yield Finding(HoldReason.EMPTIED)
    if not pending.retired:
        yield from _sizes(pending, limits)
    yield from _unknown(pending, limits)
    allowed = _allowed(pending.read, limits.max_removed_percent, limits.max_removed_rows)
    if pending.skipped > allowed:
        yield Finding(HoldReason.BAD_ROWS, rows=pending.skipped, of=pending.read, allowed=allowed)
    yield from _canaries(pending, limits)
    if not pending.first:
        yield from _volumes(pending, limits)


def _sizes(pending: Pending, limits: ListLimits) -> Iterator[Finding]:
    whole = Change(pending.rows_before, max(0, pending.growth), max(0, -pending.growth))
    parts = [("", "", whole, limits.min_rows, limits.max_rows)]
    for algorithm, change in pending.algorithms.items():
        part = limits.of_algorithm(algorithm)
        parts.append((algorithm, "", change, part.min_rows, part.max_rows))
    for label in limits.labels:
        part, change = limits.of_label(label), pending.labels.get(label, Change())
        parts.append(("", label, change, part.min_rows, part.max_rows))
    for algorithm, label, change, least, most in parts:
        shrinks = change.removed or pending.first
        emptied = not (algorithm or label) and pending.rows_before and change.after <= 0
        if shrinks and change.after < least and not emptied:
            yield Finding(HoldReason.TOO_SMALL, algorithm, label, rows=max(0, change.after), allowed=least)
        if change.added and most is not None and change.after > most:
            yield Finding(HoldReason.TOO_LARGE, algorithm, label, rows=change.after, allowed=most)


def _unknown(pending: Pending, limits: ListLimits) -> Iterator[Finding]:
    if limits.known_algorithms:
        for algorithm, change in pending.algorithms.items():
            if change.added and algorithm not in limits.known_algorithms:
                yield Finding(HoldReason.UNKNOWN_ALGORITHM, algorithm, rows=change.added)
    if limits.known_labels:
        for label, change in pending.labels.items():
            if change.added and label not in limits.known_labels:
                yield Finding(HoldReason.UNKNOWN_LABEL, label=label, rows=change.added)


def _canaries(pending: Pending, limits: ListLimits) -> Iterator[Finding]:
    if pending.missing and not pending.retired:
        yield Finding(HoldReason.CANARY_MISSING, rows=pending.missing, of=pending.must_have)
    if pending.known_good > limits.max_known_good:
        yield Finding(HoldReason.KNOWN_GOOD, rows=pending.known_good, allowed=limits.max_known_good)


def _volumes(pending: Pending, limits: ListLimits) -> Iterator[Finding]:
    for algorithm, change in pending.algorithms.items():
        day, week = (pending.window(period, algorithm) for period in Period)
        yield from _volume(change, limits.of_algorithm(algorithm), day, week, algorithm=algorithm)
    for label in limits.labels:
        day, week = (pending.label_window(period, label) for period in Period)
        yield from _volume(pending.labels.get(label, Change()), limits.of_label(label), day, week, label=label)


def _volume(
    change: Change, limits: PartLimits, day: Window, week: Window, *, algorithm: str = "", label: str = ""
) -> Iterator[Finding]:
    """Compare a change, alone and with the earlier changes of each window. The first finding of a kind is enough."""
    removed = (
        ("", 0, change.rows, limits.max_removed_percent),
        (Period.DAY, day.removed, max(day.largest, change.rows), limits.max_removed_percent),
        (Period.WEEK, week.removed, max(week.largest, change.rows), limits.max_removed_week_percent),
    )
    added = (
        ("", 0, change.rows, limits.max_added_percent),
        (Period.DAY, day.added, max(day.largest, change.rows), limits.max_added_percent),
        (Period.WEEK, week.added, max(week.largest, change.rows), limits.max_added_week_percent),
    )
    relabelled = (("", 0, change.rows, limits.max_relabelled_percent),)
    kinds = (
        (HoldReason.SHRUNK, change.removed, limits.max_removed_rows, removed),
        (HoldReason.GROWN, change.added, limits.max_added_rows, added),
        (HoldReason.RELABELLED, change.relabelled, limits.max_relabelled_rows, relabelled),
    )
    for reason, rows, floor, periods in kinds:
        for window, before, of, percent in periods:
            allowed = _allowed(of, percent, floor)
            if rows and before + rows > allowed:
                yield Finding(reason, algorithm, label, window=window, rows=rows, before=before, of=of, allowed=allowed)
                break


def _allowed(of: int, percent: float, floor: int) -> int:
    return max(int(of * percent / 100), floor)


def _still_holds(finding: Finding, pending: Pending, limits: ListLimits) -> bool:
    """Return True if the finding of an open hold is true of what is pending now, with the numbers that it had."""
    if finding.reason in _JUDGED_ANEW:
        return False
    if finding.reason is HoldReason.KNOWN_GOOD:
        return finding.rows > limits.max_known_good
    if finding.reason is HoldReason.SERIAL_JUMP:
        return finding.rows > limits.max_serial_jump
    if finding.reason in {HoldReason.EMPTIED, HoldReason.RETIRED}:
        # Without the allowance for small lists: otherwise a few new rows would let the emptying of a list pass.
        changes = pending.algorithms.values()
        return any(change.removed * 100 > change.rows * limits.max_removed_percent for change in changes)
    if finding.reason not in _VOLUME:
        return True
    if finding.label:
        change = pending.labels.get(finding.label, Change())
        part: PartLimits = limits.of_label(finding.label) if finding.label in limits.labels else limits
    else:
        change = pending.algorithms.get(finding.algorithm, Change())
        part = limits.of_algorithm(finding.algorithm)
    kind = {
        HoldReason.SHRUNK: (change.removed, "removed"),
        HoldReason.GROWN: (change.added, "added"),
        HoldReason.RELABELLED: (change.relabelled, "relabelled"),
    }
    rows, name = kind[finding.reason]
    percent = getattr(part, f"max_{name}{'_week' if finding.window == Period.WEEK else ''}_percent")
    return finding.before + rows > _allowed(finding.of, percent, getattr(part, f"max_{name}_rows"))
