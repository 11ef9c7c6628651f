"""The gate: judge the pending difference of a head, and change nothing. Pure.

Additions and removals are separate lanes with separate verdicts. The gate judges the whole pending difference, never
only the newest delta, so a small later delta cannot release held rows. A lane with an open hold stays closed until the
hold is released or discarded. Limits set by the operator are not implemented yet; the reasons here never occur in an
ordinary update.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from syncd.outcomes import HoldReason, Lane
from syncd.pipeline.values import Hold, Pass, Pending, Verdict

Closed = Mapping[Lane, tuple[HoldReason, ...]]
"""The lanes with an open hold, each with its reasons."""
NONE_CLOSED: Closed = MappingProxyType({})


def judge(pending: Pending, closed: Closed = NONE_CLOSED, accepted: Collection[HoldReason] = ()) -> Verdict:
    """Judge a pending difference. Pure.

    ``accepted``: the reasons that an operator released this update for; the caller then passes no ``closed`` lanes.
    """
    forked = (HoldReason.FORKED,) if pending.forked else ()
    reason_if_empty = HoldReason.RETIRED if pending.retired else HoldReason.EMPTIED
    emptied = (reason_if_empty,) if pending.rows_before and (pending.retired or pending.rows_after <= 0) else ()
    own = {Lane.ADDITIONS: forked, Lane.REMOVALS: (*forked, *emptied)}

    def lane(which: Lane) -> Pass | Hold:
        reasons = [*(reason for reason in own[which] if reason not in accepted), *closed.get(which, ())]
        return Hold(tuple(dict.fromkeys(reasons))) if reasons else Pass()

    return Verdict(lane(Lane.ADDITIONS), lane(Lane.REMOVALS))
