"""Holds as an operator names them: which there are, and whether one can be ended."""

from collections.abc import Iterable
from typing import Any

from syncd.catalog.catalog import Catalog
from syncd.catalog.records import HoldRecord, HoldState
from syncd.errors import RefusedError, UsageError
from syncd.outcomes import cure, reasons_in_words
from syncd.units import stamp


def open_hold(catalog: Catalog, number: int, *, release: bool, reason: str) -> HoldRecord:
    """Return a hold that can be released, or discarded.

    Raises `UsageError` if there is no such hold or no reason was given, `RefusedError` if it has ended.
    """
    if not reason.strip():
        raise UsageError("a reason is needed", hint="say with --reason why: the audit log keeps it")
    hold = catalog.hold(number)
    if hold is None:
        raise UsageError(f"there is no hold {number}", hint="`syncd holds` lists those that wait")
    if hold.state is HoldState.OPEN or (release and hold.state is HoldState.DISCARDED):
        return hold
    by = f" by {hold.ended_by}" if hold.ended_by else ""
    raise RefusedError(
        f"hold {number} of {hold.list} was {hold.state} already{by}",
        hint="`syncd holds` lists those that wait; nothing was changed",
    )


def hold_document(hold: HoldRecord) -> dict[str, Any]:
    """A hold as JSON."""
    return {
        "hold": hold.id,
        "list": hold.list,
        "source": hold.source,
        "lane": str(hold.lane),
        "rows": hold.rows,
        "reasons": [str(reason) for reason in hold.reasons],
        "message": reasons_in_words(hold.reasons),
        "to_do": cure(hold.reasons) if hold.state is HoldState.OPEN else "",
        "state": str(hold.state),
        "opened_at": stamp(hold.opened_at),
        "ended_at": stamp(hold.ended_at) if hold.ended_at else None,
        "ended_by": hold.ended_by,
        "ended_reason": hold.ended_reason,
        "sha256": hold.sha256,
    }


def holds_document(holds: Iterable[HoldRecord]) -> dict[str, Any]:
    """Holds as JSON."""
    return {"holds": [hold_document(hold) for hold in holds]}
