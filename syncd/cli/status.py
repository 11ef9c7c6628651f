"""``syncd status``."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from syncd.cli import probe
from syncd.cli.operator import (
    RUNNING,
    ConfigFile,
    Document,
    RefusedConfig,
    load_config,
    note_not_loaded,
    say_who_answered,
    state_report,
)
from syncd.cli.output import JsonFlag, note, print_json, say, show_table
from syncd.errors import as_known
from syncd.units import ago, count, in_words, span

_NAMED: Final = 5
_OVERDUE: Final = timedelta(minutes=5)
_FINE: Final = frozenset({"", "published", "up to date"})
"""Outcomes that need no mention beside a pin."""


def status(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", readable=False, help="A copy made by `syncd pull`; default: our own state."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Print one line and exit with 0 to 3, for Nagios and similar monitoring.")
    ] = False,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Show every list, its age, and how its last sync ended.

    "verified" is the last time the source was proved to be in this state; a failed sync does not change it. Lists that
    need a person are red, with the reason. Warns 60, 30 and 7 days before root or targets expire. If `syncd run` holds
    the state, this asks that daemon.

    With DIR it shows the lists of a pulled copy: their signed ages, and the limits in their manifests. This needs no
    configuration, no daemon and no network. A list is late from its first limit, and stale from its second.

    \b
    Exit codes:
      0   shown, whatever the state is
      1   storage
      2   not set up, or DIR is not a copy
      4   altered: signatures, manifests, or the length or structure of a segment
      6   the state folder belongs to another user;
          other users may write DIR, or you may not read it
    With --check: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN, and no other.

    \b
    Example:
      syncd status --json
    """
    if folder is not None:
        return _status_of_copy(folder, check=check, as_json=as_json)
    if check:
        result = _probe(config)
        say(result.line)
        return result.code
    settings = load_config(config)
    document = state_report(settings, "status")
    if as_json:
        print_json(document)
        return 0
    _show(document)
    if document["daemon"] == RUNNING:
        note_not_loaded(settings, (source["source"] for source in document["sources"]))
    return 0


def _probe(config: Path | None) -> probe.ProbeResult:
    """Judge the state. Codes 1 and 2 have meanings of their own here, so whatever fails is UNKNOWN."""
    try:
        settings = load_config(config)
        refused = settings.fault.message if isinstance(settings, RefusedConfig) else ""
        page = None if isinstance(settings, RefusedConfig) else settings.runbook
        return probe.judge(state_report(settings, "status"), refused, page)
    except Exception as error:  # noqa: BLE001 - see above
        return probe.unknown(as_known(error))


def _status_of_copy(folder: Path, *, check: bool, as_json: bool) -> int:
    from syncd.cli import copy_status  # the matcher: not needed to ask a daemon

    if check:
        return copy_status.probe_copy(folder)
    copy_status.show_copy(folder, as_json=as_json)
    return 0


def _show(document: Document) -> None:
    now, lists, waiting = _time(document["at"]), document["lists"], document["not_published"]
    if lists:
        red = frozenset(number for number, one in enumerate(lists) if one["act"])
        columns = ("list", "version#", "rows#", "verified~", "last sync~", "outcome")
        show_table(columns, [_row(one, now) for one in lists], red)
    for source in waiting:
        say(f"{source['source']}: nothing published yet; {_how_ended(source)}")
    for source in document["sources"]:
        if source.get("running"):  # an older daemon does not report it
            kind = "a dry run" if source["running"]["dry_run"] else "a sync"
            began = ago(now - _time(source["running"]["started_at"]))
            say(f"{source['source']}: {kind} is running, started {began}")
        if source["next_sync_at"] is not None and source["interval_seconds"] is not None:
            say(f"{source['source']}: {_next(source, now)}")
    _show_fleet(document.get("fleet"), now)  # an older daemon does not report it
    say_who_answered(document)
    if not lists and not waiting:
        say("no source is configured: add [sources.NAME] to the configuration")
    in_force = document.get("suppressions", {}).get("in_force", 0)  # an older daemon does not report them
    if in_force:
        say(f"{count(in_force, 'suppression')} in force: `syncd suppressions`")
    _note_faults(document)
    _show_files(document, now)
    for fault in document.get("storage_faults", ()):
        lasts = span(now - _time(fault["since"]))
        note(f"{fault['what']}: {fault['message']} (for {lasts}): {fault['to_do']}")
    _note_laggards(document["matchers"])


def _note_faults(document: Document) -> None:
    """Say why a person must act. An older daemon does not report all kinds of faults."""
    named = [
        *((one["list"], one) for one in document["lists"]),
        *((one["source"], one) for one in document["not_published"]),
        *((one["source"], fault) for one in document["sources"] for fault in one.get("faults", ())),
        *((one["source"], one["late_expiry"]) for one in document["sources"] if one.get("late_expiry")),
    ]
    for name, one in named:
        if one.get("act"):
            note(f"{name}: {one['act']}")
    clock = document.get("clock", {"act": None})
    for one in (clock, *document["metadata"], *document.get("certificates", ())):
        if one["act"]:
            note(one["act"])
    suppressions = document.get("suppressions", {"soonest": (), "expiring": 0})
    for one in suppressions["soonest"][:_NAMED]:
        note(one["act"])
    if suppressions["expiring"] > _NAMED:
        more = count(suppressions["expiring"] - _NAMED, "suppression")
        note(f"and {more} more that expire within three days: see `syncd suppressions`")


def _show_files(document: Document, now: datetime) -> None:
    files = document.get("files", {"proved_at": None, "faults": ()})  # an older daemon does not report them
    if files["proved_at"] is not None:
        say(f"all files proved {ago(now - _time(files['proved_at']))}")
    for fault in (*files["faults"], *files.get("history", ())):
        note(f"{fault['message']}: {fault['to_do']}")
    if files.get("act"):
        note(files["act"])


def _show_fleet(fleet: Document | None, now: datetime) -> None:
    """Show the daemons that share the catalog."""
    if fleet is None:
        return
    leader = fleet["leader"]
    if leader is None:
        say("no daemon leads now")
    else:
        since = leader["since"].replace("T", " ").replace("Z", " UTC")
        say(f"the daemon on {leader['host']} leads since {since}, for {span(timedelta(seconds=leader['seconds']))}")
    columns = ("daemon", "role", "syncd", "started~", "seen~", "")
    show_table(columns, [_daemon_row(one, now) for one in fleet["daemons"]])
    for fault in fleet["faults"]:
        note(fault["act"])


def _daemon_row(one: Document, now: datetime) -> tuple[str, ...]:
    started, seen = ago(now - _time(one["started_at"])), ago(timedelta(seconds=one["seen_seconds"]))
    answered = "answers here" if one["answers"] else ""
    return one["host"], one["role"], one["version"], started, seen, answered


def _note_laggards(matchers: Sequence[Document]) -> None:
    lagging = [(matcher["matcher"], instance) for matcher in matchers for instance in matcher["laggards"]]
    for name, instance in lagging[:_NAMED]:
        note(f"matcher {name}: {instance['instance']} {instance['act']}")
    more = sum(matcher["lagging"] for matcher in matchers) - _NAMED
    if more > 0:
        note(f"and {count(more, 'instance')} more: see `syncd matchers`")


def _row(one: Document, now: datetime) -> tuple[str, ...]:
    last, age = one["last_sync"], one["age_seconds"]
    if one.get("retired_at"):  # an older daemon does not report it
        return one["list"], str(one["version"]), f"{one['rows']:,}", "", "", f"retired on {one['retired_at'][:10]}"
    verified = ago(timedelta(seconds=age)) if age is not None else "never"
    started = ago(now - _time(last["started_at"])) if last else "never"
    outcome = in_words(last["outcome"]) if last else ""
    if one.get("pinned"):  # an older daemon does not report it
        pinned = f"pinned to {one['pinned']['version']}"
        outcome = pinned if outcome in _FINE else f"{outcome}, {pinned}"
    return one["list"], str(one["version"]), f"{one['rows']:,}", verified, started, outcome


def _next(source: Document, now: datetime) -> str:
    """Say when the daemon plans the next sync of a source. A time in the past means that no daemon is running."""
    at, cool_down_until = _time(source["next_sync_at"]), source["cool_down_until"]
    if at < now - _OVERDUE:
        return "the next sync is overdue: check that the daemon is running"
    due = f"next sync in {span(at - now)}"
    if cool_down_until is not None and _time(cool_down_until) > now:
        return f"{due}: paused after {count(source['failures'], 'failure')} in a row"
    return due


def _how_ended(source: Document) -> str:
    last = source["last_sync"]
    if last is None:
        running = source.get("running")
        return "the first sync is running" if running and not running["dry_run"] else "run `syncd sync`"
    message = f": {last['message']}" if last["message"] else ""
    return f"the last sync was {in_words(last['outcome'])}{message}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
