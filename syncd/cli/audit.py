"""``syncd audit``: who did what, and the proof that nobody changed the record of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.cli.operator import ConfigFile, load_config, state_folder
from syncd.cli.output import JsonFlag, note, print_json, say, show_table, show_trouble, utc_now
from syncd.errors import UsageError
from syncd.outcomes import Outcome
from syncd.units import count, day

if TYPE_CHECKING:
    from syncd.catalog.audit import AuditCheck, ChainFault, ChainGap, StatedHead
    from syncd.catalog.records import AuditRecord

app = typer.Typer(rich_markup_mode=None)

_NEWEST: Final = 100
_NAMED: Final = 20


@app.callback(invoke_without_command=True)
def audit(
    context: typer.Context,
    since: Annotated[
        str | None, typer.Option(metavar="T", help="A time (UTC, such as 2026-11-01 or 2026-11-01T09:30), or 24h ago.")
    ] = None,
    actor: Annotated[str | None, typer.Option(metavar="A", help="A user, or a matcher.")] = None,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show who did what, the newest last.

    Without --since the newest 100 records. What matchers pulled is summed up by the hour. No record holds a digest, an
    entry id or a token. A daemon may be running.

    \b
    Exit codes:
      0   shown
      1   storage, or a record cannot be read
      2   not set up, or T is neither a time nor a duration
      6   the state folder is another user's

    \b
    Example:
      syncd audit --since 24h --actor alice
    """
    if context.invoked_subcommand is not None:
        if since or actor or config or as_json:  # or they would be passed over
            raise UsageError("the options of `syncd audit verify` come after the word `verify`")
        return
    from syncd.catalog.catalog import Catalog

    begin = None if since is None else _time(since, utc_now())
    limit = None if since is not None else _NEWEST
    with Catalog.open(state_folder(load_config(config)).catalog) as catalog:
        records = catalog.audit_records(since=begin, actor=actor, limit=limit)
    if as_json:
        print_json({"records": [_document(one) for one in records]})
    else:
        _show(records)


def _time(text: str, now: datetime) -> datetime:
    """A time, or how long ago."""
    from syncd.settings import parse_duration

    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    try:
        return now - timedelta(seconds=parse_duration(text))
    except (UsageError, OverflowError):
        raise UsageError(
            "--since is neither a time nor a duration",
            hint="such as 2026-11-01, 2026-11-01T09:30 (UTC unless it says otherwise), 90s, 10m, 24h or 7d",
        ) from None


def _document(one: "AuditRecord") -> dict[str, Any]:
    from syncd.catalog.tables import time_text

    entry = one.entry
    return {
        "number": one.number,
        "at": time_text(entry.at),
        "actor": entry.actor,
        "act": entry.act.name(),
        "fields": entry.act.document(),
        "words": entry.act.words,
        "sha256": one.sha256,
    }


def _show(records: Sequence["AuditRecord"]) -> None:
    if not records:
        say("no such record")
        return
    rows = [(str(one.number), day(one.entry.at), one.entry.actor, one.entry.act.words) for one in records]
    show_table(("number#", "time (UTC)", "who", "what~"), rows)


@app.command()
def verify(config: ConfigFile = None, as_json: JsonFlag = False) -> int:
    """Prove that nobody changed the audit log.

    Recomputes the chain: each record's hash covers the record and the hash before it. The chain is then compared with
    the heads that the timestamp and the manifests of the published feed state under their signatures: an end that was
    cut off is found as well. Records lost with a restored catalog (`syncd recover`) are reported once.

    \b
    Exit codes:
      0   unbroken
      1   storage, or the feed's metadata is damaged
      2   not set up
      4   a record was changed, moved or removed
      6   the state folder is another user's

    \b
    Example:
      syncd audit verify --json
    """
    from syncd.catalog.catalog import Catalog
    from syncd.feed.signed import load_repository
    from syncd.operate.audit import stated_heads

    folder = state_folder(load_config(config))
    stated = stated_heads(folder.feed, load_repository(folder.feed))  # first: the chain grows meanwhile
    with Catalog.open(folder.catalog) as catalog:
        found = catalog.check_audit(stated)
    if as_json:
        print_json(_check_document(found, stated))
    else:
        _show_check(found, stated)
    return Outcome.REJECTED.exit_code if found.faults else 0


def _check_document(found: "AuditCheck", stated: Sequence["StatedHead"]) -> dict[str, Any]:
    def listed(these: Sequence["ChainFault | ChainGap"]) -> list[dict[str, Any]]:
        return [{"number": one.number, "message": one.message} for one in these]

    return {
        "unbroken": not found.faults,
        "records": found.head.records,
        "head": found.head.head,
        "compared_with": [one.where for one in stated],
        "faults": listed(found.faults),
        "gaps": listed(found.gaps),
    }


def _show_check(found: "AuditCheck", stated: Sequence["StatedHead"]) -> None:
    for gap in found.gaps:
        note(gap.message)
    for fault in found.faults[:_NAMED]:
        note(fault.message, kind="broken")
    if len(found.faults) > _NAMED:
        note(f"and {count(len(found.faults) - _NAMED, 'fault')} more", kind="broken")
    if found.faults:
        show_trouble(
            "error",
            "the audit log was changed",
            "every list; the audit log is not served",
            "keep a copy of the catalog; find out who could write to it; compare with the newest backup",
        )
        return
    if not stated:
        note("no signed document of the feed states a head yet: an end that was cut off would not be found")
    compared = f", compared with {count(len(stated), 'signed document')}" if stated else ""
    say(f"unbroken: {count(found.head.records, 'record')}{compared}")
