"""The filters of the audit log as people type them, on the command line and on the dashboard."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from syncd.acts import ACTS
from syncd.ask.times import time_or_ago
from syncd.errors import UsageError, nearest
from syncd.model import list_name

FILTERS: Final = ("since", "until", "actor", "act", "list")


def acts_by_name() -> list[str]:
    """Return the names of all acts, in their order."""
    return [act.name() for act in ACTS]


def checked_filters(
    typed: Mapping[str, str | None], now: datetime, named: Callable[[str], str] = "--{}".format
) -> dict[str, Any]:
    """Return the arguments of an `AuditQuestion`, by `FILTERS`; None: not filtered by it.

    ``named`` returns how a message calls the filter of a name. Raises `UsageError`.
    """
    found: dict[str, Any] = {name: typed.get(name) for name in FILTERS}
    for name in ("since", "until"):
        if found[name] is not None:
            found[name] = time_or_ago(found[name], named(name), now)
    if found["since"] and found["until"] and found["since"] > found["until"]:
        raise UsageError(f"{named('since')} is after {named('until')}", hint="exchange the two times")
    if found["act"] is not None and found["act"] not in acts_by_name():
        raise UsageError("there is no act of that name", hint=nearest(found["act"], acts_by_name(), "act"))
    if found["list"] is not None:
        list_name(found["list"])
    return found
