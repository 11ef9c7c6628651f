"""The page of the audit log. Pure: turns records into markup. No record holds a digest."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from syncd.ask.audit_filters import acts_by_name
from syncd.errors import UsageError
from syncd.service.web.dashboard.frame import heading
from syncd.service.web.dashboard.html import Child, Html, h, join
from syncd.service.web.dashboard.parts import moment, past, prose, table_section

FILTER_LABELS: Final = {"since": "Since", "until": "Until", "actor": "Who", "act": "Act", "list": "List"}
"""What the page calls each filter."""
_HINTS: Final = {
    "since": "a time (UTC) or a duration, such as 24h",
    "until": "the same",
    "actor": "a user or a matcher; automatic: syncd by itself",
    "list": "such as iwf.images",
}
_LONGEST: Final = 200


def audit_page(
    records: Sequence[Mapping[str, Any]], typed: Mapping[str, str], now: datetime, fault: UsageError | None
) -> Html:
    """Return the newest records of the audit log, newest first, below their filters.

    ``records``: as an `AuditQuestion` answers; ``typed``: the filters as they were typed; ``fault``: what is wrong with
    them, in which case there are no records.
    """
    columns = ("When (UTC)", "Who", "What", "How long ago", "Record")
    after = h(
        "p", prose("`syncd audit` shows older records, and `syncd audit verify` checks them all."), class_="faint"
    )
    told = h("p", f"{fault.message}: {fault.hint}.", id="fault", class_="fault", role="alert") if fault else None
    rows = [_row(record, now) for record in records]
    title = "Newest records that meet the filters" if FILTER_LABELS.keys() & typed.keys() else "Newest records"
    return join(
        heading("Audit log"),
        _filters(typed),
        told,
        table_section("audit", title, columns, rows, after=after, empty="No such record."),
    )


def _filters(typed: Mapping[str, str]) -> Html:
    return h(
        "form",
        (
            h("p", h("label", label, for_=name), _choice(typed) if name == "act" else _field(name, typed))
            for name, label in FILTER_LABELS.items()
        ),
        h("p", h("button", "Filter", type="submit"), h("a", "Show all", href="/audit"), class_="choice"),
        method="get",
        action="/audit",
        class_="filters",
        aria_label="Filters",
    )


def _field(name: str, typed: Mapping[str, str]) -> Html:
    return h(
        "input",
        id=name,
        name=name,
        type="text",
        value=typed.get(name),
        placeholder=_HINTS[name],
        maxlength=_LONGEST,
        autocomplete="off",
        spellcheck="false",
    )


def _choice(typed: Mapping[str, str]) -> Html:
    return h(
        "select",
        h("option", "any", value=""),
        (h("option", act, value=act, selected=act == typed.get("act")) for act in sorted(acts_by_name())),
        id="act",
        name="act",
    )


def _row(record: Mapping[str, Any], now: datetime) -> Sequence[Child]:
    at = datetime.fromisoformat(record["at"])
    return moment(at), record["actor"], record["words"], past(at, now), str(record["number"])
