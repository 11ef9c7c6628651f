"""Suppressions as JSON, for commands, the control socket and pages. No document has a digest or an entry id."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.decisions import EXPIRES_SOON, HoldRecord, Suppression, SuppressionState
from syncd.model import ListName
from syncd.report.holds import hold_document
from syncd.units import ranges, span, stamp

MOST_SHOWN: Final = 5000
"""Suppressions in one document: the answers of the control socket have a limit."""
_MOST_MADE: Final = 100
"""Suppressions that the result of one command describes; the rest are counted."""
_FIRST: Final = 20
"""Suppressions that views name."""


@dataclass(frozen=True)
class SuppressionsView:
    """The suppressions in force, for views: counted, and the soonest to expire."""

    counts: Mapping[ListName | None, int] = field(default_factory=dict)
    """by published list; under None those of all lists"""
    first: tuple[Suppression, ...] = ()
    """at most 20, the soonest to expire first, those that do not expire last"""
    ending: int = 0
    """those that expire within three days"""

    @property
    def number(self) -> int:
        """The number in force."""
        return sum(self.counts.values())

    @property
    def soon(self) -> tuple[Suppression, ...]:
        """Those of ``first`` that expire within three days."""
        return self.first[: self.ending]


NO_SUPPRESSIONS: Final = SuppressionsView()


def read_suppressions(catalog: Catalog, now: datetime) -> SuppressionsView:
    """Read the suppressions in force; costs the same however many there are. Raises `StoreError`."""
    counts = catalog.suppression_counts()
    if not counts:
        return NO_SUPPRESSIONS
    return SuppressionsView(counts, catalog.suppressions_ending(None, _FIRST), catalog.count_ending(now + EXPIRES_SOON))


def why_soon(one: Suppression, now: datetime) -> str:
    """Say that a suppression expires soon, and what that means."""
    left = one.expires_at - now if one.expires_at else EXPIRES_SOON
    ends = f"expires in {span(left)}" if left.total_seconds() > 0 else "expires now"
    return f"suppression {one.id} ({scope_in_words(one)}: {one.reason}) {ends}: then it matches again"


def keep(one: Suppression) -> str:
    """Return the command that keeps a suppression in force."""
    return f"`syncd suppress --extend {one.id} --reason R` keeps it in force"


def scope_in_words(one: Suppression) -> str:
    """Describe the scope of a suppression."""
    return f"{one.list or 'all lists'}{', one entry' if one.entry is not None else ''}"


def suppression_document(one: Suppression, now: datetime) -> dict[str, Any]:
    """Return a suppression as JSON."""
    return {
        "suppression": one.id,
        "algorithm": str(one.algorithm),
        "list": one.list,
        "one_entry": one.entry is not None,
        "reason": one.reason,
        "author": one.author,
        "created_at": stamp(one.created_at),
        "expires_at": stamp(one.expires_at) if one.expires_at else None,
        "expires_soon": one.expires_soon(now),
        "also_listed_since": stamp(one.others_at) if one.others_at else None,
        "rows": one.rows,
        "state": str(one.state),
        "hold": one.hold_id,
        "confirmed_by": one.second,
        "ended_at": stamp(one.ended_at) if one.ended_at else None,
        "ended_by": one.ended_by,
        "ended_reason": one.ended_reason,
    }


def suppressions_document(catalog: Catalog, now: datetime, *, ended: bool) -> dict[str, Any]:
    """Return suppressions in force and those that wait, the newest `MOST_SHOWN` of them; ``ended``: the others too."""
    states = () if ended else (SuppressionState.ACTIVE, SuppressionState.WAITING)
    every = catalog.suppressions(*states)
    return {"suppressions": [suppression_document(one, now) for one in every[-MOST_SHOWN:]], "total": len(every)}


def corrected_document(
    catalog: Catalog,
    suppressions: Sequence[Suppression],
    now: datetime,
    *,
    versions: Mapping[ListName, int],
    rows: int,
    hold: HoldRecord | None = None,
    opened: Iterable[HoldRecord] = (),
) -> dict[str, Any]:
    """Return the result of an act on suppressions as JSON: the first 100 of them as the catalog has them now."""
    shown: Iterable[Suppression] = (catalog.suppression(one.id) or one for one in suppressions[:_MOST_MADE])
    return {
        "numbers": ranges(one.id for one in suppressions),
        "total": len(suppressions),
        "suppressions": [suppression_document(one, now) for one in shown],
        "versions": dict(versions),
        "rows": rows,
        "hold": hold_document(hold) if hold else None,
        "opened": [hold_document(one) for one in opened],
    }
