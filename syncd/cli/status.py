"""The operator's view: ``syncd status`` and ``syncd snapshots``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.cli import arguments
from syncd.cli.operator import ConfigFile, load_config, state_folder, words
from syncd.cli.output import JsonFlag, ago, behind, day, note, print_json, say, show_table, span, stamp, utc_now
from syncd.errors import RefusedError, StoreError, SyncdError, UsageError

if TYPE_CHECKING:
    from syncd.catalog.catalog import Catalog
    from syncd.catalog.records import HeadRecord, OriginRecord, SyncRecord, VersionRecord
    from syncd.cli.expiry import Expiry
    from syncd.pipeline.state import StateFolder

_NO_ACTION: Final = frozenset({"published", "up_to_date", "running", "staged"})
_LIMIT: Final = 20
_PATIENCE: Final = timedelta(hours=1)
_MISSED_SYNCS: Final = 3


@dataclass(frozen=True)
class Row:
    """One published list as `status` shows it."""

    head: "HeadRecord"
    rows: int
    origin: "OriginRecord | None"
    last: "SyncRecord | None"
    patience: timedelta | None
    """how old the verified state may be; None: its source is not configured"""
    now: datetime

    @property
    def age(self) -> timedelta | None:
        """How long ago the source was last proved to be in this state."""
        return self.now - self.origin.verified_at if self.origin else None

    @property
    def stale(self) -> bool:
        """Whether nobody keeps it up to date any more."""
        return self.patience is None or (self.age is not None and self.age > self.patience)

    @property
    def why(self) -> str:
        """Why a person must act; '' where nobody must."""
        if self.patience is None:
            return f"source {self.head.source} is no longer configured: it grows old"
        if self.last and self.last.outcome not in _NO_ACTION:
            return self.last.message or self.last.reason or f"the last sync was {words(self.last.outcome)}"
        if self.age and behind(self.age):
            return f"the local clock is {span(-self.age)} behind the last verification: set it"
        if self.age and self.age > self.patience:
            return f"not verified for {span(self.age)}: syncs do not run"
        return ""


@dataclass(frozen=True)
class Status:
    """All that `status` shows."""

    rows: tuple[Row, ...]
    waiting: tuple[tuple[str, "SyncRecord | None"], ...]
    """configured sources of which nothing is published, with their last sync"""
    roles: "tuple[Expiry, ...]"


def status(
    check: Annotated[
        bool, typer.Option("--check", help="One line and exit code 0 to 3, for Nagios and its like.")
    ] = False,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Show every list, its age, and how its last sync ended.

    "verified" is when the source was last proved to be in this state; a failed sync does not move it. Lists where a
    person must act are red, with the reason. Warns 60, 30 and 7 days before root or targets expire.

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
        print_json(_status_document(found))
    else:
        _show_status(found)
    return 0


def _probe(config: Path | None) -> int:
    from syncd.cli import probe

    try:
        result = probe.judge(_read(config))
    except SyncdError as error:
        result = probe.unknown(error)
    say(result.line)
    return result.code


def _read(config: Path | None) -> Status:
    from syncd.catalog.catalog import Catalog

    settings = load_config(config)
    folder = state_folder(settings)
    with Catalog.open(folder.catalog) as catalog:
        intervals = {name: source.interval for name, source in settings.sources.items()}
        return _read_status(folder, catalog, intervals, utc_now())


def _read_status(folder: "StateFolder", catalog: "Catalog", intervals: Mapping[str, float], now: datetime) -> Status:
    """``intervals``: seconds between syncs, of each configured source."""
    from syncd.cli.expiry import expiries
    from syncd.feed.author import load_repository
    from syncd.pipeline.values import head_name

    repository = load_repository(folder.feed)
    origins = {head_name(one.source, one.list): one for one in catalog.origins()}
    rows = []
    for head in catalog.heads():
        version = catalog.version(head.list, head.version)
        interval = intervals.get(head.source)
        patience = None if interval is None else max(_PATIENCE, _MISSED_SYNCS * timedelta(seconds=interval))
        last = _last(folder, catalog, head.source)
        rows.append(Row(head, version.rows if version else 0, origins.get(head.list), last, patience, now))
    published = {row.head.source for row in rows}
    waiting = tuple((name, _last(folder, catalog, name)) for name in intervals if name not in published)
    return Status(tuple(rows), waiting, tuple(expiries(repository.versions, repository.expiries(), now)))


def _last(folder: "StateFolder", catalog: "Catalog", source: str) -> "SyncRecord | None":
    """The newest sync of a source. One that was killed is still "running" in the catalog, but holds no lock."""
    from syncd.catalog.records import Outcome

    last = _newest(catalog, source)
    if last is None or last.outcome is not Outcome.RUNNING or _is_locked(folder.source(source).lock):
        return last
    now = _newest(catalog, source)  # it may have ended between the two looks
    return replace(last, outcome=Outcome.INTERRUPTED) if now == last else now


def _newest(catalog: "Catalog", source: str) -> "SyncRecord | None":
    return next(iter(catalog.recent_syncs(source, 1)), None)


def _is_locked(path: Path) -> bool:
    from syncd.files import lock

    try:
        with lock(path, "syncd status"):
            return False
    except (RefusedError, StoreError):  # a disk that cannot be written says nothing either way
        return True


def _status_document(found: Status) -> dict[str, Any]:
    return {
        "lists": [
            {
                "list": row.head.list,
                "source": row.head.source,
                "version": row.head.version,
                "rows": row.rows,
                "serial": row.head.origin_serial,
                "published_at": stamp(row.head.published_at),
                "verified_at": stamp(row.origin.verified_at) if row.origin else None,
                "age_seconds": int(row.age.total_seconds()) if row.age is not None else None,
                "last_sync": _last_document(row.last),
                "act": row.why or None,
            }
            for row in found.rows
        ],
        "not_published": [{"source": name, "last_sync": _last_document(last)} for name, last in found.waiting],
        "metadata": [one.document() for one in found.roles],
    }


def _last_document(last: "SyncRecord | None") -> dict[str, Any] | None:
    if last is None:
        return None
    return {
        "sync_id": last.id,
        "started_at": stamp(last.started_at),
        "finished_at": stamp(last.finished_at) if last.finished_at else None,
        "outcome": str(last.outcome),
        "reason": last.reason,
        "message": last.message,
        "bytes": last.bytes,
    }


def _show_status(found: Status) -> None:
    if found.rows:
        red = frozenset(number for number, row in enumerate(found.rows) if row.why)
        columns = ("list", "version#", "rows#", "verified", "last sync", "outcome")
        show_table(columns, [_status_row(row) for row in found.rows], red)
    for name, last in found.waiting:
        say(f"{name}: nothing published yet; {_told(last)}")
    if not found.rows and not found.waiting:
        say("no source is configured: add [sources.NAME] to the configuration")
    for row in found.rows:
        if row.why:
            note(f"{row.head.list}: {row.why}")
    for role in found.roles:
        if role.warning:
            note(role.warning)


def _status_row(row: Row) -> tuple[str, ...]:
    verified = ago(row.age) if row.age is not None else "never"
    started = ago(row.now - row.last.started_at) if row.last else "never"
    outcome = words(row.last.outcome) if row.last else ""
    return row.head.list, str(row.head.version), f"{row.rows:,}", verified, started, outcome


def _told(last: "SyncRecord | None") -> str:
    if last is None:
        return "run `syncd sync`"
    said = f": {last.message}" if last.message else ""
    return f"the last sync was {words(last.outcome)}{said}"


def snapshots(
    name: Annotated[str, typer.Argument(metavar="LIST", help="A published list, such as iwf.images.")],
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = _LIMIT,
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
        raise UsageError(f"there is no list {listed}", hint=arguments.nearest(listed, known, "list"))
    if as_json:
        print_json({"list": listed, "snapshots": [_snapshot_document(one) for one in found]})
        return
    columns = ("version#", "created (UTC)", "rows#", "added#", "removed#", "relabelled#", "plan")
    show_table(columns, [_snapshot_row(one) for one in found])


def _snapshot_document(one: "VersionRecord") -> dict[str, Any]:
    from syncd.pipeline.document import counts_document

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
