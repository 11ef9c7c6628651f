"""The sections of the runbook in ``docs/operations.md``: each is named like an alert. Pure."""

from typing import Final

ALERTS: Final = "alerts"
"""The heading above all sections, for a fault without one of its own."""
OF_OUTCOME: Final = {
    "held": "SyncdHeld",
    "rejected": "SyncdRejected",
    "unreachable": "SyncdUnreachable",
    "refused": "SyncdSyncsFail",
    "failed": "SyncdSyncsFail",
}
"""The section on syncs that end so, by outcome."""
DAEMON: Final = "SyncdDown"
CONFIGURATION: Final = "SyncdConfigRefused"
STALE: Final = "SyncdListStale"
CLOCK: Final = "SyncdStateAhead"
PARTNER_CLOCK: Final = "SyncdPartnerClockAhead"
FILES: Final = "SyncdListNotProved"
HISTORY: Final = "SyncdHistoryDamaged"
PROOF: Final = "SyncdProofLate"
METADATA: Final = "SyncdMetadataExpiring"
UNPUBLISHED: Final = "SyncdNothingPublished"
MATCHER: Final = "SyncdMatcherBehind"
SUPPRESSION: Final = "SyncdSuppressionExpires"
NO_LEADER: Final = "SyncdNoLeader"
TWO_LEADERS: Final = "SyncdTwoLeaders"
REPLICA: Final = "SyncdReplicaLags"
UNABLE: Final = "SyncdCannotLead"


def address(runbook: str, section: str) -> str:
    """Return the address of a section, as a browser takes it. ``runbook``: of the page."""
    return f"{runbook}#{section.lower()}"
