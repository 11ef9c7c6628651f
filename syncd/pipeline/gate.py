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
    """Judge a pending difference. ``accepted``: reasons that an operator has released already. Pure."""
    forked = (HoldReason.FORKED,) if pending.forked else ()
    left = HoldReason.RETIRED if pending.retired else HoldReason.EMPTIED
    emptied = (left,) if pending.rows_before and (pending.retired or pending.rows_after <= 0) else ()
    additions = (*forked, *closed.get(Lane.ADDITIONS, ()))
    removals = (*forked, *emptied, *closed.get(Lane.REMOVALS, ()))
    return Verdict(_lane(additions, accepted), _lane(removals, accepted))


def _lane(reasons: tuple[HoldReason, ...], accepted: Collection[HoldReason]) -> Pass | Hold:
    left = tuple(reason for reason in dict.fromkeys(reasons) if reason not in accepted)
    return Hold(left) if left else Pass()
