"""The operator's view: ``syncd status`` and ``syncd snapshots``."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.cli.arguments import LARGEST
from syncd.cli.operator import ConfigFile, load_config, state_folder
from syncd.cli.orders import Document, told
from syncd.cli.output import JsonFlag, note, print_json, say, show_table, utc_now
from syncd.errors import UsageError, as_known, nearest
from syncd.units import ago, count, day, in_words, span, stamp

if TYPE_CHECKING:
    from syncd.catalog.records import VersionRecord

_LIMIT: Final = 20
_NAMED: Final = 5
_OVERDUE: Final = timedelta(minutes=5)


def status(
    check: Annotated[
        bool, typer.Option("--check", help="One line and exit code 0 to 3, for Nagios and its like.")
    ] = False,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Show every list, its age, and how its last sync ended.

    "verified" is when the source was last proved to be in this state; a failed sync does not move it. Lists where a
    person must act are red, with the reason. Warns 60, 30 and 7 days before root or targets expire. Where `syncd run`
    holds the state, that daemon is asked.

    \b
    Exit codes:
      0   shown, whatever it says
      1   storage
      2   not set up
      6   the state folder is another user's
    With --check: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN, whatever happens.

    \b
    Example:
      syncd status --json
    """
    if check:
        return _probe(config)
    found = _read(config)
    if as_json:
        print_json(found)
    else:
        _show_status(found)
    return 0


def _probe(config: Path | None) -> int:
    from syncd.cli import probe

    try:
        result = probe.judge(_read(config))
    except Exception as error:  # noqa: BLE001 - exit codes 1 and 2 have meanings of their own here, whatever happens
        result = probe.unknown(as_known(error))
    say(result.line)
    return result.code


def _read(config: Path | None) -> Document:
    """The status document: from the daemon, or read here."""
    settings = load_config(config)
    return told(settings, "status") or _read_here(settings)


def _read_here(settings: Any) -> Document:
    from syncd.catalog.catalog import Catalog
    from syncd.report import overview
    from syncd.report.status import status_document

    folder = state_folder(settings)
    with Catalog.open(folder.catalog) as catalog:
        found = overview.read(folder, catalog, settings.intervals(), utc_now(), settings.certificates())
    return status_document(found).model_dump(mode="json")


def _show_status(found: Document) -> None:
    now, lists, waiting = _time(found["at"]), found["lists"], found["not_published"]
    if lists:
        red = frozenset(number for number, one in enumerate(lists) if one["act"])
        columns = ("list", "version#", "rows#", "verified~", "last sync~", "outcome")
        show_table(columns, [_status_row(one, now) for one in lists], red)
    for source in waiting:
        say(f"{source['source']}: nothing published yet; {_how_ended(source)}")
    for source in found["sources"]:
        if source.get("running"):  # a daemon may be older
            say(f"{source['source']}: {_under_way(source['running'], now)}")
        if source["next_sync_at"] is not None and source["interval_seconds"] is not None:
            say(f"{source['source']}: {_next(source, now)}")
    if not lists and not waiting:
        say("no source is configured: add [sources.NAME] to the configuration")
    _note_faults(found)
    _note_storage(found.get("storage_faults", ()), now)
    _note_laggards(found["matchers"])


def _note_faults(found: Document) -> None:
    """Why a person must act."""
    for one in found["lists"]:
        if one["act"]:
            note(f"{one['list']}: {one['act']}")
    for source in found["sources"]:
        for one in source.get("faults", ()):  # a daemon may be older: so below
            note(f"{source['source']}: {one['act']}")
    for one in (*found["metadata"], *found.get("certificates", ())):
        if one["act"]:
            note(one["act"])


def _note_storage(faults: Sequence[Document], now: datetime) -> None:
    for one in faults:
        note(f"{one['what']}: {one['message']} (for {span(now - _time(one['since']))}): {one['to_do']}")


def _note_laggards(matchers: Sequence[Document]) -> None:
    lagging = [(matcher["matcher"], one) for matcher in matchers for one in matcher["laggards"]]
    for name, one in lagging[:_NAMED]:
        note(f"matcher {name}: {one['instance']} {one['act']}")
    more = sum(matcher["lagging"] for matcher in matchers) - _NAMED
    if more > 0:
        note(f"and {count(more, 'instance')} more: see `syncd matchers`")


def _status_row(one: Document, now: datetime) -> tuple[str, ...]:
    last, age = one["last_sync"], one["age_seconds"]
    if one.get("retired_at"):  # a daemon may be older
        return one["list"], str(one["version"]), f"{one['rows']:,}", "", "", f"retired on {one['retired_at'][:10]}"
    verified = ago(timedelta(seconds=age)) if age is not None else "never"
    started = ago(now - _time(last["started_at"])) if last else "never"
    outcome = in_words(last["outcome"]) if last else ""
    return one["list"], str(one["version"]), f"{one['rows']:,}", verified, started, outcome


def _next(source: Document, now: datetime) -> str:
    """When it is synced next, as the daemon planned it; a time that has passed says that none runs."""
    at, cool_down_until = _time(source["next_sync_at"]), source["cool_down_until"]
    if at < now - _OVERDUE:
        return "the next sync is overdue: does the daemon run?"
    due = f"next sync in {span(at - now)}"
    if cool_down_until is not None and _time(cool_down_until) > now:
        return f"{due}: left alone, after {count(source['failures'], 'failure')} in a row"
    return due


def _under_way(running: Document, now: datetime) -> str:
    kind = "a dry run" if running["dry_run"] else "a sync"
    return f"{kind} is running, begun {ago(now - _time(running['started_at']))}"


def _how_ended(source: Document) -> str:
    last = source["last_sync"]
    if last is None:
        running = source.get("running")
        return "the first sync is running" if running and not running["dry_run"] else "run `syncd sync`"
    said = f": {last['message']}" if last["message"] else ""
    return f"the last sync was {in_words(last['outcome'])}{said}"


def _time(stated: str) -> datetime:
    return datetime.fromisoformat(stated)


def snapshots(
    name: Annotated[str, typer.Argument(metavar="LIST", help="A published list, such as iwf.images.")],
    limit: Annotated[int, typer.Option(min=1, max=LARGEST, help="How many, the newest first.")] = _LIMIT,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the published versions of a list, the newest first.

    \b
    Exit codes:
      0   shown
      1   storage
      2   there is no such list
      6   the state folder is another user's

    \b
    Example:
      syncd snapshots iwf.images
    """
    from syncd.catalog.catalog import Catalog
    from syncd.model import list_name

    listed = list_name(name)
    with Catalog.open(state_folder(load_config(config)).catalog) as catalog:
        found = catalog.versions(listed, limit)
        known = [head.list for head in catalog.heads()]
    if not found:
        raise UsageError(f"there is no list {listed}", hint=nearest(listed, known, "list"))
    if as_json:
        print_json({"list": listed, "snapshots": [_snapshot_document(one) for one in found]})
        return
    columns = ("version#", "created (UTC)~", "rows#", "added#", "removed#", "relabelled#", "plan")
    show_table(columns, [_snapshot_row(one) for one in found])


def _snapshot_document(one: "VersionRecord") -> dict[str, Any]:
    from syncd.report.document import counts_document

    return {
        "version": one.version,
        "created_at": stamp(one.created_at),
        "rows": one.rows,
        "counts": counts_document(one.counts),
        "plan": one.plan,
        "sync_id": one.sync_id,
        "manifest": one.manifest_sha256,
    }


def _snapshot_row(one: "VersionRecord") -> tuple[str, ...]:
    from syncd.model import Counts

    total = sum(one.counts.values(), Counts())
    changes = (f"{total.added:,}", f"{total.removed:,}", f"{total.relabelled:,}") if one.counts else ("", "", "")
    return str(one.version), day(one.created_at), f"{one.rows:,}", *changes, one.plan
