"""The explanation of a digest as JSON."""

from datetime import datetime
from typing import Any, Final

from syncd.catalog.decisions import HoldRecord, Suppression, SuppressionState
from syncd.errors import StoreError
from syncd.history.timeline import EntryEvent
from syncd.operate.explained import (
    ExplainedEntry,
    ExplainedList,
    Explanation,
)
from syncd.outcomes import reasons_in_words
from syncd.units import stamp

_NOTHING_MATCHED: Final = 10


def explanation_document(found: Explanation, text: str, now: datetime) -> dict[str, Any]:
    """Return an explanation as JSON. ``text``: the digest as the user wrote it."""
    return {
        "digest": text,
        "at": stamp(found.at or now),
        "in_force": found.in_force,
        "lists": [_list_document(one) for one in found.lists],
        "other_lists": [
            {"list": one.list, **_known(one), "gaps": [gap.message for gap in one.gaps]} for one in found.others
        ],
        "suppressions": [_suppression_document(one, found.at or now) for one in found.suppressions],
        "matchers_known_from": stamp(found.loads_from) if found.loads_from else None,
        "gaps": [
            {"list": gap.list, "at": stamp(gap.at) if gap.at else None, "message": gap.message} for gap in found.gaps
        ],
    }


def explanation_exit_code(found: Explanation) -> int:
    """Return the exit code of a command that shows an explanation: incomplete, found, or nothing matched."""
    if found.gaps:
        return StoreError.exit_code
    return 0 if found.lists else _NOTHING_MATCHED


def _list_document(one: ExplainedList) -> dict[str, Any]:
    return {
        "list": one.list,
        "source": one.source,
        "version": one.version,
        "in_force": one.in_force,
        **_known(one),
        "retired_at": stamp(one.retired_at) if one.retired_at else None,
        "entries": [_entry_document(entry) for entry in one.entries],
        "matchers": [
            {
                "matcher": matcher.matcher,
                "version": matcher.version,
                "instances": matcher.instances,
                "in_force": matcher.in_force,
            }
            for matcher in one.matchers
        ],
        "holds": [_hold_document(hold) for hold in one.holds],
        "suppressed_by": [suppression.id for suppression in one.suppressions],
    }


def _known(one: ExplainedList) -> dict[str, Any]:
    """Return the first version whose changes are known. What was before is unknown, unless it is ``complete``."""
    first = one.known_from
    return {
        "known_from_version": first.version if first else None,
        "known_from": stamp(first.at) if first else None,
        "complete": one.complete,
    }


def _entry_document(entry: ExplainedEntry) -> dict[str, Any]:
    return {
        "entry": entry.entry,
        "label": entry.label,
        "in_force": entry.in_force,
        "since_before_known": entry.since_before,
        "events": [_event_document(event) for event in entry.events],
    }


def _event_document(event: EntryEvent) -> dict[str, Any]:
    record, stated_by = event.record, event.stated_by
    return {
        "at": stamp(event.at),
        "change": str(event.change),
        "label": event.label,
        "label_before": event.before,
        "version": event.version,
        "serial": event.serial,
        "by_partner": event.stated,
        "certain": event.certain,
        "plan": record.plan if record else None,
        "actor": record.actor if record else "",
        "reason": record.reason if record else "",
        "sync_id": record.sync_id if record else None,
        "keys": list(stated_by.keys) if stated_by else [],
        "segments": [ref.sha256 for ref in record.segments] if record else [],
    }


def _hold_document(hold: HoldRecord) -> dict[str, Any]:
    return {
        "hold": hold.id,
        "lane": str(hold.lane),
        "rows": hold.rows,
        "reasons": [str(reason) for reason in hold.reasons],
        "message": reasons_in_words(hold.reasons),
        "state": str(hold.state),
        "opened_at": stamp(hold.opened_at),
    }


def _suppression_document(one: Suppression, at: datetime) -> dict[str, Any]:
    return {
        "id": one.id,
        "list": one.list,
        "entry": one.entry,
        "reason": one.reason,
        "author": one.author,
        "created_at": stamp(one.created_at),
        "expires_at": stamp(one.expires_at) if one.expires_at else None,
        "ended_at": stamp(one.ended_at) if one.ended_at else None,
        "ended_by": one.ended_by,
        "ended_reason": one.ended_reason,
        "state": str(one.state),
        "in_force": _was_active(one, at),
    }


def _was_active(one: Suppression, at: datetime) -> bool:
    """Return True if a suppression was in force at a time. One that waits for a second operator has no effect."""
    ended = any(end is not None and end <= at for end in (one.expires_at, one.ended_at))
    return one.state is not SuppressionState.WAITING and one.created_at <= at and not ended
