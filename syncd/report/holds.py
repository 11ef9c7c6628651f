"""Holds in words, and as JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from syncd.catalog.catalog import Catalog
from syncd.catalog.decisions import HoldRecord, HoldState
from syncd.errors import StoreError
from syncd.outcomes import Finding, HoldReason, Lane, cure
from syncd.units import count, ranges, stamp

if TYPE_CHECKING:
    from syncd.pipeline.settle.result import Settled


def hold_in_words(hold: HoldRecord) -> str:
    """Describe an open hold in one sentence: number, rows, reasons, and the commands that end it."""
    rows = f"{count(hold.rows, 'row')} ({hold.lane})"
    return f"hold {hold.id}: {rows}: {hold.message}; {commands_of(hold)}"


def commands_of(hold: HoldRecord) -> str:
    """Return the commands that end an open hold."""
    return cure(hold.reasons if hold.lane is Lane.SUPPRESSIONS else (), (hold.id,))


def reasons_of(holds: Iterable[HoldRecord]) -> tuple[HoldReason, ...]:
    """Return the reasons of several holds, each once."""
    return tuple(dict.fromkeys(reason for hold in holds for reason in hold.reasons))


def finding_document(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON."""
    return {**asdict(finding), "reason": str(finding.reason)}


def hold_document(hold: HoldRecord) -> dict[str, Any]:
    """Return a hold as JSON."""
    return {
        "hold": hold.id,
        "list": hold.list,
        "source": hold.source,
        "lane": str(hold.lane),
        "rows": hold.rows,
        "reasons": [str(reason) for reason in hold.reasons],
        "message": hold.message,
        "findings": [finding_document(finding) for finding in hold.why],
        "to_do": cure(hold.reasons, (hold.id,)) if hold.state is HoldState.OPEN else "",
        "state": str(hold.state),
        "opened_at": stamp(hold.opened_at),
        "ended_at": stamp(hold.ended_at) if hold.ended_at else None,
        "ended_by": hold.ended_by,
        "ended_reason": hold.ended_reason,
        "sha256": hold.sha256,
    }


def ended_document(catalog: Catalog, number: int, settled: "Settled") -> dict[str, Any]:
    """Return the result of a release or a discard as JSON. ``settled`` is the return value of `end_hold`."""
    hold = catalog.hold(number)
    if hold is None:
        raise StoreError(f"the catalog has no hold {number} any more", hint="run `syncd holds`")
    head = catalog.head(hold.list)
    also = [ended for ended in settled.ended if ended.id != number]
    return {
        **hold_document(hold),
        "suppressions": ranges(one.id for one in catalog.suppressions_in_hold(number)),
        "versions": dict(settled.corrected),
        "published": settled.changes_head or bool(settled.corrected),
        "wanted_rows": settled.released,
        "version": head.version if head else None,
        "rows_in_force": catalog.head_rows(hold.list).get(hold.list, 0),
        "also_ended": [{"hold": ended.id, "state": str(ended.state)} for ended in also],
        "still_held": [str(reason) for reason in settled.reasons],
    }


def ended_suppressions_in_words(ended: Mapping[str, Any]) -> str:
    """Describe how a hold of suppressions, or of a changed known-good file, ended. ``ended``: its `ended_document`."""
    numbers, released = ended["suppressions"], ended["state"] == "released"
    named = f"suppressions {numbers} are" if numbers else f"the changed known-good file of {ended['list']} is"
    done = f"hold {ended['hold']} was {ended['state']}: {named}"
    if released:
        return f"{done} in force, {count(ended['wanted_rows'], 'row')} off the lists"
    return f"{done} {'dropped' if numbers else 'not used'}, and no list has changed"


def holds_document(holds: Iterable[HoldRecord]) -> dict[str, Any]:
    """Return holds as JSON."""
    return {"holds": [hold_document(hold) for hold in holds]}
