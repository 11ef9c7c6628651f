"""What came of a sync, as the JSON that commands print and the control socket carries."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from syncd.catalog.records import SyncRecord
from syncd.errors import UsageError, error_document
from syncd.model import Algorithm, Counts
from syncd.outcomes import Outcome, joined
from syncd.pipeline.outcome import ListOutcome, SyncOutcome
from syncd.units import stamp


def sync_document(outcome: SyncOutcome) -> dict[str, Any]:
    """One sync, whole."""
    return {
        "sync_id": outcome.sync_id,
        "source": outcome.source,
        "outcome": str(outcome.outcome),
        "exit_code": outcome.exit_code,
        "seconds": round(outcome.seconds, 3),
        "bytes": outcome.bytes,
        "error": error_document(outcome.error) if outcome.error else None,
        "lists": [_list_document(one) for one in outcome.lists],
    }


def record_document(record: SyncRecord) -> dict[str, Any]:
    """One sync, as the catalog remembers it."""
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


def unknown_sync(sync_id: str) -> UsageError:
    """There is no such sync."""
    return UsageError(f"there is no sync {sync_id[:64]}", hint="`syncd sync --no-wait` prints its name")


def _list_document(one: ListOutcome) -> dict[str, Any]:
    return {
        "list": one.list,
        "outcome": str(one.outcome),
        "version": one.version,
        "serial": one.serial,
        "plan": one.plan,
        "rows": one.rows,
        "counts": counts_document(one.counts),
        "labels": {
            str(algorithm): {label: asdict(counts) for label, counts in labels.items()}
            for algorithm, labels in one.labels.items()
        },
        "reason": joined(one.reasons),
        "reasons": list(one.reasons),
        "hold": _hold_document(one) if one.outcome is Outcome.HELD else None,
        "error": error_document(one.error) if one.error else None,
    }


def _hold_document(one: ListOutcome) -> dict[str, Any]:
    """As of an error, which a hold is not."""
    return {
        "message": one.message,
        "still_served": one.serving,
        "to_do": one.to_do,
        "exit_code": one.exit_code,
        "holds": [hold.id for hold in one.holds],
    }


def counts_document(counts: Mapping[Algorithm, Counts]) -> dict[str, Any]:
    """Counts by algorithm."""
    return {str(algorithm): asdict(count) for algorithm, count in counts.items()}
