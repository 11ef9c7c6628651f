"""Shared by ``syncd lookup`` and ``syncd match``: open a pulled copy, warn about its age, show hits."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from syncd.cli import arguments
from syncd.cli.output import note, say, utc_now
from syncd.clock import ACCEPT_IN_COPY, CORRECT, ClockReading, in_future
from syncd.errors import error_document
from syncd.format.freshness import AgeVerdict, limit_in_words
from syncd.matcher import ListStatus, Matcher
from syncd.matcher.copy import copy_at, read_current
from syncd.matcher.status import retirement_warning
from syncd.model import Hit
from syncd.trust.overlong import TO_DO, LateExpiry
from syncd.units import clock_is_behind, span, stamp

NOTHING_MATCHED: Final = 10
Copy = Annotated[Path, typer.Argument(metavar="DIR", readable=False, help="A copy made by `syncd pull`.")]
"""``readable=False``, here and below: typer's own check would give another message and exit code."""
Root = Annotated[
    Path | None,
    typer.Option(
        metavar="ROOT", readable=False, help="The trust root to verify DIR with; default: the root of the pull."
    ),
]
RefuseStale = Annotated[
    bool, typer.Option("--refuse-stale", help="Fail if a list is older than its limit, instead of warning.")
]


def open_copy(folder: Path, root: Path | None = None, *, refuse_stale: bool = False) -> Matcher:
    """Open a matcher on the copy, verified with ``root`` if given. It makes no near indexes: a command ends too soon.

    Raises the errors of `Matcher.open`, and `RefusedError` if this user may not read the copy.
    """
    if root is not None:
        arguments.root(root)
    with arguments.readable(folder):
        stale: Literal["refuse", "serve"] = "refuse" if refuse_stale else "serve"
        return Matcher.open(folder, root=root, clock=utc_now, stale=stale, make_indexes=False)


def warn_of_age(matcher: Matcher, folder: Path) -> None:
    """Warn on standard error about a copy that is not current; its answers stand."""
    statuses = matcher.status()
    clock = clock_warning(statuses, folder)
    if clock:
        note(clock)
    expired = sorted({role for status in statuses for role in status.expired})
    if expired:
        note(f"this copy is stale: its {' and '.join(expired)} metadata expired; pull again")
    for status in statuses:
        if status.retired:
            if warning := retirement_warning(status.list, status.retired, utc_now()):
                note(warning)
        elif (warning := age_warning(status)) and not (clock and _is_in_future(status)):
            note(warning)


def _is_in_future(status: ListStatus) -> bool:
    return status.age is not None and clock_is_behind(status.age)


def clock_warning(statuses: Sequence[ListStatus], folder: Path) -> str:
    """Return the warning if the last pull, or a signature of the feed, is dated in the future; "" if none is.

    Raises `StoreError`, `UsageError`.
    """
    current, now = read_current(copy_at(folder)), utc_now()
    if current is not None and in_future([ClockReading("", current.updated)], now):
        ahead = span(current.updated - now)
        return f"the last pull into this copy is dated {ahead} in the future: {CORRECT}; {ACCEPT_IN_COPY}"
    late = next((one.late_expiry for one in statuses if one.late_expiry), None)
    return feed_clock_warning(max((one.ahead for one in statuses if one.ahead), default=None), late)


def feed_clock_warning(ahead: timedelta | None, late: LateExpiry | None) -> str:
    """Return the warning about a feed that was signed ``ahead`` in the future; "" if it was not.

    ``late``: the expiry of its timestamp, if that does not count in full.
    """
    if ahead is None:
        return f"the feed was signed with a wrong clock: {late.why}; {TO_DO}" if late else ""
    return "; ".join(
        [
            f"the feed was signed {span(ahead)} in the future: {CORRECT}",
            "if it is right, ask the feed's operator, whose clock was ahead, to sign again",
            *([late.why] if late else []),
        ]
    )


def age_warning(status: ListStatus) -> str:
    """Return the warning about a list that is not fresh; "" if it is, or is retired."""
    if status.freshness in {None, AgeVerdict.FRESH}:
        return ""
    if status.age is None:
        return f"{status.list} is stale: the feed does not say when it was last verified"
    if clock_is_behind(status.age):
        return f"{status.list} is stale: its last verification lies in the future, so its age is not known"
    verified = f"it was last verified {span(status.age)} ago"
    stale = f"stale after {limit_in_words(status.max_age.critical)}"
    if status.freshness is AgeVerdict.STALE:
        return f"{status.list} is stale: {verified} ({stale})"
    return f"{status.list} is late: {verified} (late after {limit_in_words(status.max_age.warn)}, {stale})"


def lists_document(statuses: Iterable[ListStatus]) -> list[dict[str, Any]]:
    """Return the lists of the copy as JSON."""
    return [
        {
            "list": status.list,
            "version": status.version,
            "rows": status.rows,
            "serial": status.serial,
            "verified_at": stamp(status.verified_at) if status.verified_at else None,
            "age_seconds": int(status.age.total_seconds()) if status.age is not None else None,
            "max_age": {"warn": status.max_age.warn, "critical": status.max_age.critical},
            "freshness": status.freshness,
            "expired": list(status.expired),
            "retired": stamp(status.retired) if status.retired else None,
            "ahead_seconds": int(status.ahead.total_seconds()) if status.ahead else 0,
            "timestamp_counts_until": stamp(status.late_expiry.until) if status.late_expiry else None,
            "proved_at": stamp(status.proved_at) if status.proved_at else None,
            "damage": error_document(status.damage) if status.damage else None,
        }
        for status in statuses
    ]


def show_hits(name: str, hits: Sequence[Hit], algorithm: str = "") -> None:
    """Show a line for each hit, or "no match"; with the ``algorithm`` if ``name`` does not contain it."""
    if not hits:
        say(f"{name}  no match")
    for hit in hits:
        parts = [name, f"MATCH {hit.list} version {hit.version}", algorithm]
        parts += [f"label {hit.label}" if hit.label else "", f"entry {hit.entry}" if hit.entry else ""]
        say("  ".join(filter(None, parts)))
