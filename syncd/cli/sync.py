"""``syncd sync``: by the running daemon, or in this process if none runs."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.acts import AskedForSync
from syncd.cli.operator import (
    NOT_RUNNING,
    RELOAD,
    RUNNING,
    ConfigFile,
    Document,
    actor,
    answers_of_leader,
    load_config,
    locked_publisher,
    not_loaded,
    note_not_loaded,
    open_catalog,
    send_order,
    send_single,
    sources_on_disk,
    state_folder,
)
from syncd.cli.output import (
    JsonFlag,
    note,
    print_json,
    progress,
    quiet_retries,
    say,
    show_error,
    show_table,
    show_trouble,
    utc_now,
)
from syncd.cli.suppressions import note_other_entry
from syncd.errors import StoreError, SyncdError, UsageError
from syncd.kernel_clock import kernel_clock
from syncd.outcomes import CANARY_CURE, cure, worst_code
from syncd.service.client import error_of
from syncd.units import count, done_of, in_words, ranges

if TYPE_CHECKING:
    from syncd.pipeline.publisher import Publisher


def sync(
    source: Annotated[str | None, typer.Argument(metavar="SOURCE", help="One source; default: all.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Fetch, verify and judge, but publish nothing.")] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Have the daemon start it, print its ID, and do not wait.")
    ] = False,
    status: Annotated[
        str | None, typer.Option("--status", metavar="ID", help="Only show the state of the sync with this ID.")
    ] = None,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Bring sources up to date now: fetch, verify, judge, publish.

    The running daemon does it. If it is already syncing a source, this waits for that sync instead of starting another.
    If no daemon is running, this process syncs one source after another. A fault in one list or source does not stop
    the others, and every published list stays published.

    \b
    Exit codes:
      0   published, or up to date; --no-wait: started
      1   storage
      2   configuration, or --status together with another argument
      3   held
      4   rejected
      5   unreachable, or deadline
      6   refused, or the daemon stopped before it was done
    For several lists or sources: the first of 1, 4, 3, 6, 5, 0 that occurred.

    \b
    Example:
      syncd sync iwf --json
    """
    if status is not None and (source is not None or dry_run or no_wait):
        raise UsageError(
            "--status shows one sync: SOURCE, --dry-run and --no-wait cannot be combined with it",
            hint="give the ID alone: `syncd sync --status ID`; nothing was started",
        )
    settings = load_config(config)
    if status is not None:
        return _show_status(settings, status, as_json=as_json)
    answers = _order(settings, source, dry_run=dry_run, wait=not no_wait)
    if no_wait:
        if answers is None:
            raise UsageError("--no-wait needs a running daemon", hint="start it, or leave --no-wait out")
        return _show_started(answers, as_json=as_json)
    if answers is None:
        daemon, done = NOT_RUNNING, _sync_here(settings, source, dry_run=dry_run)
    else:
        daemon, done = RUNNING, _listen(answers)
    if as_json:
        print_json({"dry_run": dry_run, "syncs": done, "daemon": daemon})
    else:
        _show(done, dry_run=dry_run)
        if daemon == NOT_RUNNING:
            note("no daemon is running: this process synced, and nothing syncs by itself", kind="note")
    if daemon == RUNNING and source is None:
        note_not_loaded(settings, (sync["source"] for sync in done))
    return worst_code([ended["exit_code"] for ended in done])


def _order(settings: Any, source: str | None, *, dry_run: bool, wait: bool) -> Iterable[Document] | None:
    """Send the order to the daemon. If the source is configured on disk only, the error says to reload."""
    order = {"do": "sync", "source": source, "dry_run": dry_run, "wait": wait}
    answers = send_order(settings, order)
    if answers is None:
        answers = answers_of_leader(settings, order)
    return None if answers is None else _naming_reload(answers, settings, source)


def _naming_reload(answers: Iterable[Document], settings: Any, source: str | None) -> Iterator[Document]:
    try:
        yield from answers
    except UsageError as error:
        on_disk = sources_on_disk(settings)
        if error.message.startswith("no source") and on_disk and source in (None, *on_disk):
            raise UsageError(
                not_loaded([source] if source else on_disk),
                hint=f"{RELOAD}; then run this again. Nothing was started",
            ) from error
        raise


def _listen(answers: Iterable[Document]) -> list[Document]:
    """Show the daemon's progress, and return how each sync ended."""
    done = []
    with progress("syncing") as report:
        for answer in answers:
            if "accepted" in answer and answer["accepted"]["joined"]:
                note(f"a sync of {answer['accepted']['source']} is already running: waiting for it", kind="note")
            elif "progress" in answer:
                step = answer["progress"]
                report(step["stage"], step["done"], step["total"], step["source"])
            elif "sync" in answer:
                done.append(answer["sync"])
    return done


def _show_started(answers: Iterable[Document], *, as_json: bool) -> int:
    received = list(answers)
    started = [answer["accepted"] for answer in received if "accepted" in answer]
    refused = [answer["sync"] for answer in received if "sync" in answer]
    if as_json:
        print_json({"started": started, "refused": refused})
    else:
        for sync in started:
            say(f"{sync['sync_id']}  {sync['source']}{'  (already running)' if sync['joined'] else ''}")
        _show_errors(refused, "source")
    return worst_code([sync["exit_code"] for sync in refused])


def _show_status(settings: Any, sync_id: str, *, as_json: bool) -> int:
    answer = send_single(settings, {"do": "sync_status", "sync_id": sync_id})
    status = _recorded(settings, sync_id) if answer is None else answer["status"]
    if as_json:
        print_json(status)
    else:
        amount = done_of(status["stage"], status["done"], status["total"]) if status.get("stage") else ""
        stage = f" ({', '.join(filter(None, (status['stage'], amount)))})" if status.get("stage") else ""
        why = f": {status['message'] or status['reason']}" if status.get("message") or status.get("reason") else ""
        say(f"{status['source']}: {in_words(status['outcome'])}{stage}{why}")
    return int(status["exit_code"])


def _recorded(settings: Any, sync_id: str) -> Document:
    from syncd.report.document import recorded_document  # SQLAlchemy: not needed if the daemon answers

    folder = state_folder(settings)
    with open_catalog(folder) as catalog:
        return recorded_document(folder, catalog, sync_id)


def _sync_here(settings: Any, source: str | None, *, dry_run: bool) -> list[Document]:
    quiet_retries()
    sources = settings.all_sources() if source is None else (settings.source(source),)
    if not sources:
        raise UsageError("no source is configured", hint="add [sources.NAME] to the configuration")
    # numpy and SQLAlchemy: not needed if the daemon does it
    from syncd.pipeline.sync import new_sync_id, sync_source
    from syncd.report.document import sync_document

    done: list[Document] = []
    with locked_publisher(settings, "syncd sync") as publisher:
        publisher.catalog.mark_interrupted(utc_now())
        if not dry_run:
            _accept_clock(publisher)
            _expire(publisher)
        for configured in sources:
            asked = AskedForSync(configured.name, new_sync_id(), dry_run, joined=False)
            publisher.catalog.append(actor(), asked, utc_now())
            with progress(f"syncing {configured.name}") as report:
                outcome = sync_source(publisher, configured, utc_now, report, dry_run=dry_run, sync_id=asked.sync_id)
            done.append(sync_document(outcome))
        if not dry_run:
            _note_gained(publisher)
        if any(one["outcome"] == "published" for sync in done for one in sync["lists"]):
            try:  # no part of the sync: if it fails, only `syncd explain` knows less
                publisher.keep_history(utc_now(), timedelta(seconds=settings.history_retention))
            except StoreError as error:
                note(f"the history was not brought up to date: {error.message}; the next sync tries again")
    return done


def _accept_clock(publisher: "Publisher") -> None:
    """Correct times in the future if the kernel says that the clock is right now, as the daemon does every minute."""
    from syncd.operate.clock import accept_synchronised  # numpy and SQLAlchemy: see above

    try:  # what it cannot correct, the sync reports
        done = accept_synchronised(publisher, kernel_clock(), utc_now())
    except SyncdError as error:
        show_error(error)
        return
    for one in done.document()["replaced"] if done else ():
        note(f"{one['what']} was dated {one['before']}, in the future: now {one['after']}", kind="note")


def _expire(publisher: "Publisher") -> None:
    """End the suppressions whose time has come, as the daemon does every minute."""
    from syncd.operate.suppression_ends import expire  # numpy and SQLAlchemy: see above

    expired = expire(publisher, utc_now())
    if expired and expired.suppressions:
        numbers = ranges(one.id for one in expired.suppressions)
        note(f"suppressions expired ({numbers}): {count(expired.rows, 'entry')} listed again", kind="note")
        for hold in expired.opened:
            note(
                f"{hold.list}: entries that would return are held: {hold.message}", hint=cure(hold.reasons, (hold.id,))
            )


def _note_gained(publisher: "Publisher") -> None:
    """Warn once of suppressions of one entry whose digest is listed under another now, as the daemon does."""
    from syncd.operate.suppression_ends import gained  # numpy and SQLAlchemy: see above

    try:  # no part of the sync: the next one looks again
        for one in gained(publisher, utc_now()):
            note_other_entry(one.id)
    except StoreError as error:
        note(f"suppressions of one entry were not looked at: {error.message}; the next sync does it")


def _show(syncs: Sequence[Document], *, dry_run: bool) -> None:
    lists = [one for sync in syncs for one in sync["lists"]]
    if lists:
        red = frozenset(number for number, one in enumerate(lists) if one["error"] or one["outcome"] == "held")
        columns = ("list", "outcome", "version#", "rows#", "added#", "removed#", "relabelled#", "why~")
        show_table(columns, [_row(one) for one in lists], red)
    _show_errors(syncs, "source")
    for sync in syncs:
        if not sync["error"] and not sync["lists"]:
            note(f"{sync['source']}: the feed has no list yet")
    _show_errors(lists, "list")
    _note_warnings(syncs)
    for one in lists:
        if one.get("hold"):  # an older daemon does not report it
            hold = one["hold"]
            show_trouble("held", f"{one['list']}: {hold['message']}", hold["still_served"], hold["to_do"])
    if dry_run:
        _show_labels(lists)
        note("a dry run: nothing was published", kind="note")


def _note_warnings(syncs: Sequence[Document]) -> None:
    """Show the faults with which a sync succeeds: missing canaries, known-good digests, a late expiry.

    An older daemon may not report them.
    """
    for sync in syncs:
        for warning in sync.get("warnings", ()):
            note(f"{sync['source']}: {warning['message']}", hint=warning["to_do"])
        if late := sync.get("late_expiry"):
            note(f"{sync['source']}: {late['message']}", hint=late["to_do"])
        for why, number in sync.get("set_aside", {}).items():
            note(f"{sync['source']}: {number} set aside ({why})", kind="note")
        for name, missing in sync.get("canaries_missing", {}).items():
            note(f"{name}: {count(missing, 'digest')} missing that must be present", hint=CANARY_CURE)
        for one in sync["lists"]:
            kept_out = sum(one.get("known_good", {}).values())
            if kept_out:
                note(f"{one['list']}: {count(kept_out, 'row')} kept out, known to be good", kind="note")


def _show_errors(ended: Sequence[Document], kind: str) -> None:
    """Show the errors of lists or sources (``kind``); of several each with its name, since they may read alike."""
    for one in ended:
        if one["error"]:
            error = error_of(one["error"])
            if len(ended) > 1:
                error.message = f"{one[kind]}: {error.message}"
            show_error(error)


def _row(one: Document) -> tuple[str, ...]:
    counts = one["counts"].values()
    changes = tuple(f"{sum(count[kind] for count in counts):,}" for kind in ("added", "removed", "relabelled"))
    why = one["error"]["kind"] if one["error"] else one["reason"]
    version, rows = str(one["version"] or ""), f"{one['rows']:,}" if one["rows"] else ""
    return (one["list"], in_words(one["outcome"]), version, rows, *(changes if counts else ("", "", "")), why)


def _show_labels(lists: Sequence[Document]) -> None:
    """Show the changes of a dry run by algorithm and label."""
    rows = [
        (one["list"], algorithm, label, *(f"{count[kind]:,}" for kind in ("added", "removed", "relabelled")))
        for one in lists
        for algorithm, labels in one["labels"].items()
        for label, count in labels.items()
        if count["added"] or count["removed"] or count["relabelled"]
    ]
    if rows:
        say("")
        show_table(("list", "algorithm", "label~", "added#", "removed#", "relabelled#"), rows)
