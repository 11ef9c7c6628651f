"""The gate: judges a candidate and edits nothing. Pure.

Additions and removals are judged apart, a lane each. The operator's limits are not here yet: this gate holds only what
can never be an ordinary update.
"""

from syncd.outcomes import HoldReason
from syncd.pipeline.values import Candidate, Hold, Pass, Verdict


def judge(candidate: Candidate) -> Verdict:
    """Judge what a candidate would change. Pure."""
    forked = (HoldReason.FORKED,) if candidate.forked else ()
    emptied = (HoldReason.EMPTIED,) if candidate.rows_before and not candidate.rows else ()
    return Verdict(_lane(forked), _lane((*forked, *emptied)))


def _lane(reasons: tuple[HoldReason, ...]) -> Pass | Hold:
    return Hold(reasons) if reasons else Pass()
