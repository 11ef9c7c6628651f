"""The outcome of a sync as JSON, for commands and the control socket."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.errors import UsageError, error_document
from syncd.model import Algorithm, Counts
from syncd.outcomes import Outcome, joined
from syncd.pipeline.outcome import ListOutcome, SyncOutcome
from syncd.report.recorded import checked_record
from syncd.trust.overlong import TO_DO, LateExpiry
from syncd.units import stamp


def sync_document(outcome: SyncOutcome) -> dict[str, Any]:
    """Return the outcome of a sync as JSON."""
    return {
        "sync_id": outcome.sync_id,
        "source": outcome.source,
        "outcome": str(outcome.outcome),
        "exit_code": outcome.exit_code,
        "seconds": round(outcome.seconds, 3),
        "bytes": outcome.bytes,
        "error": error_document(outcome.error) if outcome.error else None,
        "warnings": [error_document(one) for one in (*outcome.warnings, *(mended.error for mended in outcome.mended))],
        "late_expiry": _late_expiry_document(outcome.late_expiry) if outcome.late_expiry else None,
        "canaries_missing": {note.list: note.missing for note in outcome.canaries},
        "set_aside": dict(outcome.set_aside),
        "lists": [_list_document(result) for result in outcome.lists],
    }


def recorded_document(folder: StateFolder, catalog: Catalog, sync_id: str) -> dict[str, Any]:
    """Return the catalog's record of a sync as JSON. Raises `UsageError` if there is no such sync, `StoreError`."""
    found = catalog.sync(sync_id)
    if found is None:
        raise UsageError(f"there is no sync {sync_id[:64]}", hint="`syncd sync --no-wait` prints the id of a sync")
    record = checked_record(folder, catalog, found)
    ended = record.finished_at
    return {
        "sync_id": record.id,
        "source": record.source,
        "outcome": str(record.outcome),
        "exit_code": record.outcome.exit_code,
        "started_at": stamp(record.started_at),
        "seconds": round((ended - record.started_at).total_seconds(), 3) if ended else None,
        "bytes": record.bytes,
        "reason": joined(record.reasons),
        "reasons": list(record.reasons),
        "message": record.message,
    }


def _late_expiry_document(late: LateExpiry) -> dict[str, str]:
    return {"message": late.why, "counts_until": stamp(late.until), "to_do": TO_DO}


def _list_document(result: ListOutcome) -> dict[str, Any]:
    return {
        "list": result.list,
        "outcome": str(result.outcome),
        "version": result.version,
        "serial": result.serial,
        "plan": result.plan,
        "rows": result.rows,
        "counts": counts_document(result.counts),
        "labels": {
            str(algorithm): {label: asdict(counts) for label, counts in labels.items()}
            for algorithm, labels in result.labels.items()
        },
        "known_good": {str(algorithm): rows for algorithm, rows in result.known_good.items()},
        "reason": joined(result.reasons),
        "reasons": list(result.reasons),
        "hold": _hold_document(result) if result.outcome is Outcome.HELD else None,
        "error": error_document(result.error) if result.error else None,
    }


def _hold_document(result: ListOutcome) -> dict[str, Any]:
    """Return a hold with the keys of an error document."""
    return {
        "message": result.message,
        "still_served": result.serving,
        "to_do": result.to_do,
        "exit_code": result.exit_code,
        "holds": [hold.id for hold in result.holds],
    }


def counts_document(counts: Mapping[Algorithm, Counts]) -> dict[str, Any]:
    """Return counts by algorithm as JSON."""
    return {str(algorithm): asdict(count) for algorithm, count in counts.items()}
