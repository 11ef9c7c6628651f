"""The operator's commands that change things, in this process: ``init``, ``sync``."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli.output import (
    JsonFlag,
    error_document,
    note,
    print_json,
    progress,
    quiet_retries,
    say,
    show_error,
    show_table,
    utc_now,
)
from syncd.errors import RefusedError, UsageError, worst_code

if TYPE_CHECKING:
    from syncd.model import Algorithm, Counts
    from syncd.pipeline.outcome import ListOutcome, SyncOutcome
    from syncd.pipeline.state import Publisher, StateFolder

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", readable=False, help="Default: $SYNCD_CONFIG, or /etc/syncd/syncd.toml."),
]


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

    folder = state.StateFolder(state_dir or load_config(config).state_dir)
    check_owner(folder.root)
    root = state.init(folder, offline_keys, count=keys, threshold=threshold, now=utc_now())
    say(f"state folder  {folder.root}")
    say(f"feed          {folder.feed.root}  (serve this folder to matchers)")
    say(f"trust root    {root}  (hand it to matchers, not through the feed)")
    say(f"offline keys  {offline_keys}  (take them off this machine)")
    say("next: name your sources in the configuration, then run `syncd sync`")


def load_config(config: Path | None) -> Any:
    """The configuration, read when a command needs it."""
    from syncd.config import load

    return load(config)


def check_owner(folder: Path) -> None:
    """Another user's files in it, root's included, would lock the owner's next sync out."""
    if folder.exists() and folder.stat().st_uid != os.geteuid():
        import pwd

        try:
            owner = pwd.getpwuid(folder.stat().st_uid).pw_name
        except KeyError:
            owner = f"user {folder.stat().st_uid}"
        raise RefusedError(f"{folder} belongs to {owner}", hint=f"run this command as {owner}; nothing was changed")


def state_folder(config: Any) -> "StateFolder":
    """The state folder, set up and ours."""
    from syncd.pipeline.state import StateFolder

    folder = StateFolder(config.state_dir)
    check_owner(folder.root)
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
    settings = load_config(config)
    folder = state_folder(settings)
    feeds = settings.feeds() if source is None else (settings.feed(source),)
    if not feeds:
        raise UsageError("no source is configured", hint="add [sources.NAME] to the configuration")
    with sole_writer(folder), open_publisher(folder) as publisher:
        publisher.catalog.mark_interrupted(utc_now())
        outcomes = [_sync(publisher, feed, utc_now, dry_run=dry_run) for feed in feeds]
    if as_json:
        print_json({"dry_run": dry_run, "syncs": [_sync_document(one) for one in outcomes]})
    else:
        _show_outcomes(outcomes, dry_run=dry_run)
    return worst_code([one.exit_code for one in outcomes])


@contextmanager
def sole_writer(folder: "StateFolder", purpose: str = "syncd sync") -> Iterator[None]:
    """Nobody else changes the state meanwhile."""
    from syncd.files import lock

    with lock(folder.root / "lock", purpose):
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
        "counts": counts_document(one.counts),
        "labels": {
            str(algorithm): {label: asdict(counts) for label, counts in labels.items()}
            for algorithm, labels in one.labels.items()
        },
        "reason": one.reason,
        "error": error_document(one.error) if one.error else None,
    }


def counts_document(counts: "Mapping[Algorithm, Counts]") -> dict[str, Any]:
    """Counts by algorithm, as JSON."""
    return {str(algorithm): asdict(count) for algorithm, count in counts.items()}


def _show_outcomes(outcomes: "Sequence[SyncOutcome]", *, dry_run: bool) -> None:
    lists = [one for outcome in outcomes for one in outcome.lists]
    if lists:
        red = frozenset(number for number, one in enumerate(lists) if one.exit_code)
        columns = ("list", "outcome", "version#", "rows#", "added#", "removed#", "relabelled#", "why")
        show_table(columns, [_outcome_row(one) for one in lists], red)
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


def _outcome_row(one: "ListOutcome") -> tuple[str, ...]:
    from syncd.model import Counts

    total = sum(one.counts.values(), Counts())
    why = type(one.error).__name__ if one.error else one.reason
    changes = (f"{total.added:,}", f"{total.removed:,}", f"{total.relabelled:,}") if one.counts else ("", "", "")
    return (one.list, words(one.outcome), str(one.version or ""), f"{one.rows:,}" if one.rows else "", *changes, why)


def words(name: str) -> str:
    """An outcome as people read it."""
    return "would be published" if name == "staged" else name.replace("_", " ")
