"""``syncd audit`` and ``audit verify``."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from syncd.ask.audit_filters import checked_filters
from syncd.cli.arguments import LARGEST
from syncd.cli.operator import ConfigFile, Document, ask_document, ask_state, load_config
from syncd.cli.output import JsonFlag, note, print_json, progress, say, show_table, show_trouble, utc_now
from syncd.errors import UsageError
from syncd.units import count, day

app = typer.Typer(rich_markup_mode=None)

_NEWEST: Final = 100
"""Records shown without --since, --until and --limit."""
_NAMED: Final = 20
"""Faults named one by one."""
_JSON_LINES: Final = "--json"


@app.callback(invoke_without_command=True)
def audit(
    context: typer.Context,
    since: Annotated[
        str | None,
        typer.Option(metavar="T", help="Since a time (UTC: 2026-11-01, 2026-11-01T09:30) or for a duration (24h)."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="T", help="Until a time, or a duration ago.")] = None,
    actor: Annotated[
        str | None, typer.Option(metavar="A", help='Only this user or matcher; "automatic": syncd by itself.')
    ] = None,
    act: Annotated[str | None, typer.Option(metavar="ACT", help="Only this act, such as released.")] = None,
    of_list: Annotated[str | None, typer.Option("--list", metavar="L", help="Only acts on this list.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, max=LARGEST, help="Only the newest N.")] = None,
    config: ConfigFile = None,
    as_json: Annotated[
        bool, typer.Option(_JSON_LINES, help="Print one JSON document a line, errors included.")
    ] = False,
) -> None:
    """Show the audit log: who did what, newest last.

    Without --since, --until and --limit, the newest 100 records. Pulls of matchers are summed up by the hour. No record
    contains a digest, an entry id or a token. Safe while a daemon is running. Members of the group syncd-operators ask
    that daemon; the owner of the state reads it.

    \b
    Exit codes:
      0   shown
      1   storage, or a record cannot be read
      2   not set up; or not a time, an act or a list name
      6   you are neither an operator of the daemon nor the owner of the state

    \b
    Example:
      syncd audit --since 24h --actor alice
      syncd audit --list iwf.images --act released --json
    """
    given = {"since": since, "until": until, "actor": actor, "act": act, "list": of_list, "limit": limit}
    if context.invoked_subcommand is not None:
        if config or as_json or any(value is not None for value in given.values()):  # else they would be ignored
            raise UsageError("the options of `syncd audit verify` come after the word `verify`")
        return
    settings, now = load_config(config), utc_now()
    parts = ask_state(settings, "audit", _checked(given, now), now)
    records = (record for part in parts for record in part.get("records", ()))
    if as_json:
        for record in records:
            say(json.dumps(record))
    else:
        _show(list(records))


def _checked(given: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return the filters as the question takes them."""
    checked = {**checked_filters(given, now), "limit": given["limit"]}
    if checked["since"] is None and checked["until"] is None and checked["limit"] is None:
        checked["limit"] = _NEWEST
    return checked


def _show(records: Sequence[Document]) -> None:
    if not records:
        say("no such record")
        return
    rows = [
        (str(record["number"]), day(datetime.fromisoformat(record["at"])), record["actor"], record["words"])
        for record in records
    ]
    show_table(("number#", "time (UTC)", "who", "what~"), rows)


@app.command()
def verify(config: ConfigFile = None, as_json: JsonFlag = False) -> int:
    """Verify that nobody has changed the audit log.

    Recomputes the chain: each record's hash covers the record and the hash before it. Then compares the chain with the
    heads stated in the signed timestamp and manifests of the published feed, so that removing the newest records is
    detected too. Records lost with a restored catalog (`syncd recover`) are reported once. Members of the group
    syncd-operators have the running daemon do it; the owner of the state reads it.

    \b
    Exit codes:
      0   unbroken
      1   storage, or the feed's metadata is damaged
      2   not set up
      4   a record was changed, moved or removed
      6   you are neither an operator of the daemon nor the owner of the state

    \b
    Example:
      syncd audit verify --json
    """
    with progress("verifying the audit log"):
        document, code = ask_document(load_config(config), "audit_verify", {}, utc_now())
    if as_json:
        print_json(document)
    else:
        _show_check(document)
    return code


def _show_check(result: Document) -> None:
    for gap in result["gaps"]:
        note(gap["message"])
    for fault in result["faults"][:_NAMED]:
        note(fault["message"], kind="broken")
    if len(result["faults"]) > _NAMED:
        note(f"and {count(len(result['faults']) - _NAMED, 'fault')} more", kind="broken")
    if result["faults"]:
        show_trouble(
            "error",
            "the audit log was changed",
            "every list; the audit log is not served",
            "keep a copy of the catalog, find out who could write to it, and compare it with the newest backup",
        )
        return
    stated = result["compared_with"]
    if not stated:
        note("no signed document of the feed states a head yet: removing the newest records would not be detected")
    compared = f", compared with {count(len(stated), 'signed document')}" if stated else ""
    removed = result.get("removed", 0)  # an older daemon does not report it
    if removed:
        since = f"the log is kept since {day(datetime.fromisoformat(result['since']))} UTC"
        note(f"{since}; records 1 to {removed:,} were removed, as [retention] says")
    say(f"unbroken: {count(result['records'] - removed, 'record')}{compared}")
