"""The sections of the runbook in ``docs/operations.md``: each is named like an alert. Pure."""

from collections.abc import Collection, Mapping
from typing import Final

from syncd.outcomes import HoldReason, Outcome

ALERTS: Final = "alerts"
"""The heading above all sections, for a fault without one of its own."""
HELD: Final = "SyncdHeld"
KNOWN_GOOD_HELD: Final = "SyncdKnownGoodHeld"
SYNCS_FAIL: Final = "SyncdSyncsFail"
OF_OUTCOME: Final[Mapping[str, str]] = {
    Outcome.HELD: HELD,
    Outcome.REJECTED: "SyncdRejected",
    Outcome.UNREACHABLE: "SyncdUnreachable",
    Outcome.REFUSED: SYNCS_FAIL,
    Outcome.FAILED: SYNCS_FAIL,
}
"""The section on syncs that end so, by outcome."""
DAEMON: Final = "SyncdDown"
CONFIGURATION: Final = "SyncdConfigRefused"
LATE: Final = "SyncdListStale"
STALE: Final = "SyncdListVeryStale"
NOT_CONFIGURED: Final = "SyncdSourceNotConfigured"
UNPUBLISHED: Final = "SyncdNothingPublished"
PINNED: Final = "SyncdListPinned"
CANARY_MISSING: Final = "SyncdCanaryMissing"
KNOWN_GOOD_UNUSABLE: Final = "SyncdKnownGoodUnusable"
CLOCK: Final = "SyncdStateAhead"
PARTNER_CLOCK: Final = "SyncdPartnerClockAhead"
FILES: Final = "SyncdListNotProved"
HISTORY: Final = "SyncdHistoryDamaged"
PROOF: Final = "SyncdProofLate"
METADATA: Final = "SyncdMetadataExpiring"
METADATA_OVERDUE: Final = "SyncdMetadataOverdue"
TIMESTAMP: Final = "SyncdTimestampNotSigned"
STORAGE: Final = "SyncdInternalErrors"
CERTIFICATE: Final = "SyncdCertificateExpiring"
CERTIFICATE_EARLY: Final = "SyncdCertificateNotYetValid"
MATCHER_BEHIND: Final = "SyncdMatcherBehind"
MATCHER_SILENT: Final = "SyncdMatcherSilent"
INSTANCES_SILENT: Final = "SyncdInstancesSilent"
SUPPRESSION: Final = "SyncdSuppressionExpires"
NO_LEADER: Final = "SyncdNoLeader"
TWO_LEADERS: Final = "SyncdTwoLeaders"
REPLICA: Final = "SyncdReplicaLags"
UNABLE: Final = "SyncdCannotLead"

_KNOWN_GOOD: Final = frozenset({HoldReason.KNOWN_GOOD, HoldReason.KNOWN_GOOD_FILE})


def of_sync(outcome: str, reasons: Collection[str] = ()) -> str:
    """Return the section about the outcome of a sync. ``reasons``: why it was held."""
    if outcome == Outcome.HELD and reasons and _KNOWN_GOOD.issuperset(reasons):
        return KNOWN_GOOD_HELD
    return OF_OUTCOME.get(outcome, ALERTS)


def of_certificate(*, early: bool) -> str:
    """Return the section about a certificate that is not valid yet, or that expires."""
    return CERTIFICATE_EARLY if early else CERTIFICATE


def address(runbook: str, section: str) -> str:
    """Return the address of a section, as a browser takes it. ``runbook``: of the page."""
    return f"{runbook}#{section.lower()}"
