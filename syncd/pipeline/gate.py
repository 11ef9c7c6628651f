"""The gate: judges what the head would become, and edits nothing. Pure.

Additions and removals are judged apart, a lane each. It judges the whole pending difference, never the newest delta
alone; so a small delta releases nothing that waits. A lane of which something waits stays closed until that was
released or discarded. The operator's limits are not here yet: these are the reasons that can never be an ordinary
update.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from syncd.outcomes import HoldReason, Lane
from syncd.pipeline.values import Hold, Pass, Pending, Verdict

Closed = Mapping[Lane, tuple[HoldReason, ...]]
"""Lanes of which something waits, and why."""
NONE_CLOSED: Closed = MappingProxyType({})


def judge(pending: Pending, closed: Closed = NONE_CLOSED, accepted: Collection[HoldReason] = ()) -> Verdict:
    """Judge a pending difference. Pure.

    ``accepted``: reasons that an operator released with this update; ``closed`` is then the caller's to leave out.
    """
    forked = (HoldReason.FORKED,) if pending.forked else ()
    left = HoldReason.RETIRED if pending.retired else HoldReason.EMPTIED
    emptied = (left,) if pending.rows_before and (pending.retired or pending.rows_after <= 0) else ()
    own = {Lane.ADDITIONS: forked, Lane.REMOVALS: (*forked, *emptied)}

    def lane(which: Lane) -> Pass | Hold:
        reasons = [*(reason for reason in own[which] if reason not in accepted), *closed.get(which, ())]
        return Hold(tuple(dict.fromkeys(reasons))) if reasons else Pass()

    return Verdict(lane(Lane.ADDITIONS), lane(Lane.REMOVALS))
