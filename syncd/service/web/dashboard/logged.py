"""The page of the daemon's newest events. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from syncd.outcomes import Level
from syncd.service.log import MOST_RECENT, LoggedEvent
from syncd.service.web.dashboard.frame import heading
from syncd.service.web.dashboard.html import Child, Html, h, join
from syncd.service.web.dashboard.parts import Mark, moment, past, prose, state, table_section

_MARKS: Final = {Level.INFO: Mark.GOOD, Level.WARNING: Mark.WATCH, Level.ERROR: Mark.ACT}


def events_page(logged: Sequence[LoggedEvent], now: datetime) -> Html:
    """Return the events, the newest first."""
    columns = ("When (UTC)", "Level", "Event", "Details", "How long ago")
    after = h(
        "p",
        prose(f"The newest {MOST_RECENT} events since the daemon started. `journalctl -u syncd` shows all of them."),
        class_="faint",
    )
    rows = [_row(one, now) for one in logged]
    empty = "The daemon has logged nothing yet."
    return join(heading("Events"), table_section("events", "Newest events", columns, rows, after=after, empty=empty))


def _row(one: LoggedEvent, now: datetime) -> Sequence[Child]:
    level = one.event.importance
    details = ", ".join(
        f"{key} {_words(value)}" for key, value in one.event.document().items() if value not in ("", [])
    )
    return moment(one.at), state(_MARKS[level], str(level)), one.event.name(), details, past(one.at, now)


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
