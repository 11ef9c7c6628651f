"""``syncd audit`` and ``audit verify``."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.cli.operator import ConfigFile, load_config, open_catalog, state_folder
from syncd.cli.output import JsonFlag, note, print_json, say, show_table, show_trouble, utc_now
from syncd.errors import UsageError
from syncd.feed.signed import load_repository
from syncd.outcomes import Outcome
from syncd.settings import parse_duration
from syncd.units import count, day

if TYPE_CHECKING:
    from syncd.catalog.audit import AuditCheck, ChainFault, ChainGap, StatedHead

app = typer.Typer(rich_markup_mode=None)

_NEWEST: Final = 100
"""Records shown without --since."""
_NAMED: Final = 20
"""Faults named one by one."""


@app.callback(invoke_without_command=True)
def audit(
    context: typer.Context,
    since: Annotated[
        str | None,
        typer.Option(metavar="T", help="Since a time (UTC: 2026-11-01, 2026-11-01T09:30) or for a duration (24h)."),
    ] = None,
    actor: Annotated[str | None, typer.Option(metavar="A", help="Only this user or matcher.")] = None,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the audit log: who did what, newest last.

    Without --since, the newest 100 records. Pulls of matchers are summed up by the hour. No record contains a digest,
    an entry id or a token. Safe while a daemon is running.

    \b
    Exit codes:
      0   shown
      1   storage, or a record cannot be read
      2   not set up, or T is neither a time nor a duration
      6   the state folder belongs to another user

    \b
    Example:
      syncd audit --since 24h --actor alice
    """
    if context.invoked_subcommand is not None:
        if since or actor or config or as_json:  # else they would be ignored silently
            raise UsageError("the options of `syncd audit verify` come after the word `verify`")
        return
    begin = None if since is None else _time(since, utc_now())
    limit = None if since is not None else _NEWEST
    with open_catalog(state_folder(load_config(config))) as catalog:
        records = catalog.audit_records(since=begin, actor=actor, limit=limit)
    if as_json:
        from syncd.catalog.tables import time_text  # SQLAlchemy: not needed for the help

        documents = [
            {
                "number": record.number,
                "at": time_text(record.entry.at),
                "actor": record.entry.actor,
                "act": record.entry.act.name(),
                "fields": record.entry.act.document(),
                "words": record.entry.act.words,
                "sha256": record.sha256,
            }
            for record in records
        ]
        print_json({"records": documents})
    elif not records:
        say("no such record")
    else:
        rows = [(str(one.number), day(one.entry.at), one.entry.actor, one.entry.act.words) for one in records]
        show_table(("number#", "time (UTC)", "who", "what~"), rows)


def _time(text: str, now: datetime) -> datetime:
    """Parse a time, or a duration before ``now``."""
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    try:
        return now - timedelta(seconds=parse_duration(text))
    except (UsageError, OverflowError):
        raise UsageError(
            "--since is neither a time nor a duration",
            hint="for example 2026-11-01, 2026-11-01T09:30 (UTC unless it names a zone), 90s, 10m, 24h or 7d",
        ) from None


@app.command()
def verify(config: ConfigFile = None, as_json: JsonFlag = False) -> int:
    """Verify that nobody has changed the audit log.

    Recomputes the chain: each record's hash covers the record and the hash before it. Then compares the chain with the
    heads stated in the signed timestamp and manifests of the published feed, so that removing the newest records is
    detected too. Records lost with a restored catalog (`syncd recover`) are reported once.

    \b
    Exit codes:
      0   unbroken
      1   storage, or the feed's metadata is damaged
      2   not set up
      4   a record was changed, moved or removed
      6   the state folder belongs to another user

    \b
    Example:
      syncd audit verify --json
    """
    from syncd.operate.audit import stated_heads  # SQLAlchemy: not needed for the help

    folder = state_folder(load_config(config))
    stated = stated_heads(folder.feed, load_repository(folder.feed))  # before the chain, which grows meanwhile
    with open_catalog(folder) as catalog:
        result = catalog.check_audit(stated)
    if as_json:
        print_json(_check_document(result, stated))
    else:
        _show_check(result, stated)
    return Outcome.REJECTED.exit_code if result.faults else 0


def _check_document(result: "AuditCheck", stated: "Sequence[StatedHead]") -> dict[str, Any]:
    def listed(findings: "Sequence[ChainFault | ChainGap]") -> list[dict[str, Any]]:
        return [{"number": finding.number, "message": finding.message} for finding in findings]

    return {
        "unbroken": not result.faults,
        "records": result.head.records,
        "head": result.head.head,
        "compared_with": [head.where for head in stated],
        "faults": listed(result.faults),
        "gaps": listed(result.gaps),
    }


def _show_check(result: "AuditCheck", stated: "Sequence[StatedHead]") -> None:
    for gap in result.gaps:
        note(gap.message)
    for fault in result.faults[:_NAMED]:
        note(fault.message, kind="broken")
    if len(result.faults) > _NAMED:
        note(f"and {count(len(result.faults) - _NAMED, 'fault')} more", kind="broken")
    if result.faults:
        show_trouble(
            "error",
            "the audit log was changed",
            "every list; the audit log is not served",
            "keep a copy of the catalog, find out who could write to it, and compare it with the newest backup",
        )
        return
    if not stated:
        note("no signed document of the feed states a head yet: removing the newest records would not be detected")
    compared = f", compared with {count(len(stated), 'signed document')}" if stated else ""
    say(f"unbroken: {count(result.head.records, 'record')}{compared}")
