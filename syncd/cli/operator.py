"""The operator's commands, in this process: ``init``, ``sync``, ``status``, ``snapshots``."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.cli import arguments
from syncd.cli.output import (
    JsonFlag,
    day,
    error_document,
    note,
    print_json,
    progress,
    quiet_retries,
    say,
    show_error,
    show_table,
    span,
    stamp,
    utc_now,
    worst_code,
)
from syncd.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from syncd.catalog.catalog import Catalog
    from syncd.catalog.records import HeadRecord, OriginRecord, SyncRecord, VersionRecord
    from syncd.cli.expiry import Expiry
    from syncd.model import Algorithm, Counts
    from syncd.pipeline.state import Publisher, StateFolder
    from syncd.pipeline.sync import ListOutcome, SyncOutcome

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Default: $SYNCD_CONFIG, or /etc/syncd/syncd.toml."),
]

_NO_ACTION: Final = frozenset({"published", "up_to_date", "running"})
_LIMIT: Final = 20
_PATIENCE: Final = timedelta(hours=1)
_MISSED_SYNCS: Final = 3


def init(
    offline_keys: Annotated[
        Path, typer.Option(metavar="DIR", help="The keys that stay off this machine; made where DIR has none.")
    ],
    state_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The state folder; default: state_dir of the configuration.")
    ] = None,
    keys: Annotated[int, typer.Option(min=1, help="How many root keys to make; 3 is usual.")] = 1,
    threshold: Annotated[int, typer.Option(min=1, help="How many of them must sign; 2 is usual.")] = 1,
    config: ConfigFile = None,
) -> None:
    """Set up an operator: folders, keys, and a trust root.

    Matchers pin that root, not the partners'. Run this once, as the user that will run the syncs. Nothing is ever
    overwritten.

    \b
    Exit codes:
      0   set up
      1   storage
      2   set up already, or keys would lie in the state folder
      6   the folder is another user's

    \b
    Example:
      syncd init --offline-keys /media/stick/keys --keys 3 --threshold 2
    """
    from syncd.pipeline import state

    folder = state.StateFolder(state_dir or _load(config).state_dir)
    _check_owner(folder.root)
    root = state.init(folder, offline_keys, count=keys, threshold=threshold, now=utc_now())
    say(f"state folder  {folder.root}")
    say(f"feed          {folder.feed.root}  (serve this folder to matchers)")
    say(f"trust root    {root}  (hand it to matchers, not through the feed)")
    say(f"offline keys  {offline_keys}  (take them off this machine)")
    say("next: name your sources in the configuration, then run `syncd sync`")


def _load(config: Path | None) -> Any:
    from syncd.config import load

    return load(config)


def _check_owner(folder: Path) -> None:
    """Another user's files in it, root's included, would lock the owner's next sync out."""
    if folder.exists() and folder.stat().st_uid != os.geteuid():
        import pwd

        try:
            owner = pwd.getpwuid(folder.stat().st_uid).pw_name
        except KeyError:
            owner = f"user {folder.stat().st_uid}"
        raise RefusedError(f"{folder} belongs to {owner}", hint=f"run this command as {owner}; nothing was changed")


def _state(config: Any) -> "StateFolder":
    """The state folder, set up and ours."""
    from syncd.pipeline.state import StateFolder

    folder = StateFolder(config.state_dir)
    _check_owner(folder.root)
    if not folder.catalog.exists():
        raise UsageError(f"{folder.root} is not set up", hint="run `syncd init --offline-keys DIR` first")
    return folder


def sync(
    source: Annotated[str | None, typer.Argument(metavar="SOURCE", help="One source; default: all, in turn.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Fetch, verify and judge, and publish nothing.")] = False,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Bring sources up to date now: fetch, verify, judge, publish.

    A fault in one list or one source does not keep the others from going on, and what is published stays published.
    The timestamp that tells matchers how fresh the lists are is signed anew where it is an hour old.

    \b
    Exit codes:
      0   published, or up to date
      1   storage
      2   configuration
      3   held
      4   rejected
      5   unreachable or deadline
      6   refused
    Of several lists or sources the first of 1, 4, 3, 6, 5, 0.

    \b
    Example:
      syncd sync iwf --json
    """
    from syncd.pipeline.state import open_publisher

    quiet_retries()
    settings = _load(config)
    folder = _state(settings)
    feeds = settings.feeds() if source is None else (settings.feed(source),)
    if not feeds:
        raise UsageError("no source is configured", hint="add [sources.NAME] to the configuration")
    with _sole_writer(folder), open_publisher(folder) as publisher:
        publisher.catalog.mark_interrupted(utc_now())
        outcomes = [_sync(publisher, feed, utc_now, dry_run=dry_run) for feed in feeds]
    if as_json:
        print_json({"dry_run": dry_run, "syncs": [_sync_document(one) for one in outcomes]})
    else:
        _show_outcomes(outcomes, dry_run=dry_run)
    return worst_code([one.exit_code for one in outcomes])


@contextmanager
def _sole_writer(folder: "StateFolder") -> Iterator[None]:
    from syncd.files import lock

    with lock(folder.root / "lock", "syncd sync"):
        yield


def _sync(publisher: "Publisher", feed: Any, clock: Callable[[], datetime], *, dry_run: bool) -> "SyncOutcome":
    from syncd.pipeline.sync import sync_source

    with progress(f"syncing {feed.name}") as tell:
        return sync_source(publisher, feed, clock, tell, dry_run=dry_run)


def _sync_document(outcome: "SyncOutcome") -> dict[str, Any]:
    return {
        "sync_id": outcome.sync_id,
        "source": outcome.source,
        "outcome": str(outcome.outcome),
        "exit_code": outcome.exit_code,
        "seconds": round(outcome.seconds, 3),
        "bytes": outcome.bytes,
        "error": error_document(outcome.error) if outcome.error else None,
        "lists": [_list_document(one) for one in outcome.lists],
    }


def _list_document(one: "ListOutcome") -> dict[str, Any]:
    return {
        "list": one.list,
        "outcome": str(one.outcome),
        "version": one.version,
        "serial": one.serial,
        "plan": one.plan,
        "rows": one.rows,
        "counts": _counts_document(one.counts),
        "labels": {
            str(algorithm): {label: asdict(counts) for label, counts in labels.items()}
            for algorithm, labels in one.labels.items()
        },
        "reason": one.reason,
        "error": error_document(one.error) if one.error else None,
    }


def _counts_document(counts: "Mapping[Algorithm, Counts]") -> dict[str, Any]:
    return {str(algorithm): asdict(count) for algorithm, count in counts.items()}


def _show_outcomes(outcomes: "Sequence[SyncOutcome]", *, dry_run: bool) -> None:
    lists = [one for outcome in outcomes for one in outcome.lists]
    if lists:
        red = frozenset(number for number, one in enumerate(lists) if one.exit_code)
        columns = ("list", "outcome", "version#", "rows#", "added#", "removed#", "relabelled#", "why")
        show_table(columns, [_outcome_row(one, dry_run=dry_run) for one in lists], red)
    for outcome in outcomes:
        if outcome.error:
            show_error(outcome.error)
        elif not outcome.lists:
            note(f"{outcome.source}: the feed has no list yet")
    for one in lists:
        if one.error:
            show_error(one.error)
    if dry_run:
        note("a dry run: nothing was published", kind="note")


def _outcome_row(one: "ListOutcome", *, dry_run: bool) -> tuple[str, ...]:
    from syncd.model import Counts

    total = sum(one.counts.values(), Counts())
    why = type(one.error).__name__ if one.error else one.reason.replace("dry run", "")
    changes = (f"{total.added:,}", f"{total.removed:,}", f"{total.relabelled:,}") if one.counts else ("", "", "")
    would = dry_run and one.error is None and bool(one.counts)
    outcome = "would be published" if would and one.reason == "dry run" else _words(one.outcome)
    return (one.list, outcome, str(one.version or ""), f"{one.rows:,}" if one.rows else "", *changes, why)


def _words(name: str) -> str:
    return name.replace("_", " ")


@dataclass(frozen=True)
class _Row:
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
    def why(self) -> str:
        """Why a person must act; '' where nobody must."""
        if self.patience is None:
            return f"source {self.head.source} is no longer configured: nobody keeps this list up to date"
        if self.last and self.last.outcome not in _NO_ACTION:
            return self.last.message or self.last.reason or f"the last sync was {_words(self.last.outcome)}"
        if self.age and self.age > self.patience:
            return f"not verified for {span(self.age)}: syncs do not run"
        return ""


@dataclass(frozen=True)
class _Status:
    rows: tuple[_Row, ...]
    waiting: tuple[tuple[str, "SyncRecord | None"], ...]
    """configured sources of which nothing is published, with their last sync"""
    roles: "tuple[Expiry, ...]"


def status(config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Show every list, its age, and how its last sync ended.

    "verified" is when the source was last proved to be in this state; a failed sync does not move it. Lists where a
    person must act are red, with the reason. Warns 60, 30 and 7 days before root or targets expire.

    \b
    Exit codes:
      0   shown, whatever it says
      1   storage
      2   not set up
      6   the state folder is another user's

    \b
    Example:
      syncd status --json
    """
    from syncd.catalog.catalog import Catalog

    settings = _load(config)
    folder = _state(settings)
    now = utc_now()
    with Catalog.open(folder.catalog) as catalog:
        intervals = {name: source.interval for name, source in settings.sources.items()}
        found = _read_status(folder, catalog, intervals, now)
    if as_json:
        print_json(_status_document(found))
    else:
        _show_status(found)


def _read_status(folder: "StateFolder", catalog: "Catalog", intervals: Mapping[str, float], now: datetime) -> _Status:
    """``intervals``: seconds between syncs, of each configured source."""
    from syncd.cli.expiry import expiries
    from syncd.feed.author import load_repository
    from syncd.pipeline.state import head_name

    repository = load_repository(folder.feed)
    origins = {head_name(one.source, one.list): one for one in catalog.origins()}
    rows = []
    for head in catalog.heads():
        version = catalog.version(head.list, head.version)
        interval = intervals.get(head.source)
        patience = None if interval is None else max(_PATIENCE, _MISSED_SYNCS * timedelta(seconds=interval))
        last = _last(catalog, head.source)
        rows.append(_Row(head, version.rows if version else 0, origins.get(head.list), last, patience, now))
    published = {row.head.source for row in rows}
    waiting = tuple((name, _last(catalog, name)) for name in intervals if name not in published)
    return _Status(tuple(rows), waiting, tuple(expiries(repository.versions, repository.expiries(), now)))


def _last(catalog: "Catalog", source: str) -> "SyncRecord | None":
    return next(iter(catalog.recent_syncs(source, 1)), None)


def _status_document(found: _Status) -> dict[str, Any]:
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


def _show_status(found: _Status) -> None:
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


def _status_row(row: _Row) -> tuple[str, ...]:
    verified = f"{span(row.age)} ago" if row.age is not None else "never"
    started = f"{span(row.now - row.last.started_at)} ago" if row.last else "never"
    outcome = _words(row.last.outcome) if row.last else ""
    return row.head.list, str(row.head.version), f"{row.rows:,}", verified, started, outcome


def _told(last: "SyncRecord | None") -> str:
    if last is None:
        return "run `syncd sync`"
    said = f": {last.message}" if last.message else ""
    return f"the last sync was {_words(last.outcome)}{said}"


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
    with Catalog.open(_state(_load(config)).catalog) as catalog:
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
    return {
        "version": one.version,
        "created_at": stamp(one.created_at),
        "rows": one.rows,
        "counts": _counts_document(one.counts),
        "plan": one.plan,
        "sync_id": one.sync_id,
        "manifest": one.manifest_sha256,
    }


def _snapshot_row(one: "VersionRecord") -> tuple[str, ...]:
    from syncd.model import Counts

    total = sum(one.counts.values(), Counts())
    changes = (f"{total.added:,}", f"{total.removed:,}", f"{total.relabelled:,}") if one.counts else ("", "", "")
    return str(one.version), day(one.created_at), f"{one.rows:,}", *changes, one.plan
