"""``syncd suppressions``."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from syncd.cli.operator import ConfigFile, Document, load_config, state_report
from syncd.cli.output import JsonFlag, note, print_json, say, show_table
from syncd.units import day


def suppressions(
    every: Annotated[bool, typer.Option("--all", help="Also those that have ended or expired.")] = False,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the suppressions in force, with reason, author and expiry.

    Those that wait for a second operator are shown too. No digest is. Those that expire within three days are red. If
    `syncd run` holds the state, this asks that daemon.

    \b
    Exit codes:
      0   shown, with or without suppressions
      1   storage
      2   not set up
      6   the state folder belongs to another user

    \b
    Example:
      syncd suppressions --all --json
    """
    settings = load_config(config)
    document = state_report(settings, "suppressions", ended=every)
    if as_json:
        print_json(document)
        return
    shown = document["suppressions"]
    if not shown:
        say("nothing is suppressed" if not every else "nothing was ever suppressed")
        return
    red = frozenset(number for number, one in enumerate(shown) if one["expires_soon"])
    columns = ("id#", "algorithm", "scope", "rows#", "reason~", "author", "expires (UTC)~")
    show_table(columns, [_row(one) for one in shown], red)
    if document["total"] > len(shown):
        note(f"and {document['total'] - len(shown):,} older ones", kind="note")
    show_others(shown)
    for one in shown:
        if one["expires_soon"]:
            keep = f"`syncd suppress --extend {one['suppression']} --reason R` keeps it in force"
            note(f"suppression {one['suppression']} expires on {day_of(one['expires_at'])} UTC", hint=keep)
    waiting = dict.fromkeys(one["hold"] for one in shown if one["state"] == "waiting")
    for hold in waiting:
        confirm = f"another operator decides: `syncd release {hold} --reason R` or `syncd discard {hold} --reason R`"
        note(f"hold {hold} waits for a second operator", hint=confirm)


def _row(one: Document) -> tuple[str, ...]:
    expires = day_of(one["expires_at"]) if one["expires_at"] else "never"
    if one["state"] == "waiting":
        expires = f"not in force: hold {one['hold']}"
    elif one["state"] != "active":
        by = f" by {one['ended_by']}" if one["ended_by"] else ""
        expires = f"{one['state']}{by} on {day_of(one['ended_at'])}"
    number, rows = str(one["suppression"]), f"{one['rows']:,}"
    return number, one["algorithm"], scope(one), rows, one["reason"], one["author"], expires


def scope(one: Document) -> str:
    """Describe the scope of a suppression."""
    return f"{one['list'] or 'all lists'}{', one entry' if one['one_entry'] else ''}"


def show_others(shown: Sequence[Document]) -> None:
    """Warn of suppressions of one entry whose digest is listed under another."""
    for one in shown:
        if one["also_listed_since"] and one["state"] == "active":
            note_other_entry(one["suppression"])


def note_other_entry(number: int) -> None:
    """Warn that a suppression of one entry does not keep its digest from matching."""
    note(
        f"suppression {number}: the digest is also listed under another entry, which matches",
        hint="if that one is wrong too, suppress the digest without --entry",
    )


def day_of(text: str) -> str:
    """Format a time of a document for tables."""
    return day(datetime.fromisoformat(text))
