"""``syncd pull``."""

import contextlib
import json
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from syncd.cli import arguments
from syncd.cli.output import JsonFlag, alarm, flush, note, print_json, progress, quiet_retries, say, show_error, utc_now
from syncd.cli.pulled import feed_clock_warning
from syncd.errors import HttpStatusError, RefusedError, SyncdError, UsageError, error_document
from syncd.feed.folder import FeedFolder
from syncd.fetch import Endpoint
from syncd.kernel_clock import kernel_clock
from syncd.matcher.check_in import CheckIn, checked_instance, host_instance
from syncd.matcher.clock import late_expiry, signed_ahead
from syncd.matcher.indexing import IndexBuilder, make_indexes
from syncd.matcher.news import REFUSALS, NewsStream
from syncd.matcher.pull import ListPull, PullResult
from syncd.matcher.pull import pull as pull_copy
from syncd.matcher.reproof import BackgroundProof
from syncd.matcher.status import retirement_warning
from syncd.matcher.threads import WakeSignal
from syncd.matcher.watch import PullAttempt, follow
from syncd.model import ListName, list_name
from syncd.outcomes import worst_code
from syncd.settings import parse_duration
from syncd.trust.overlong import LateExpiry
from syncd.units import count, stamp


def pull(
    url: Annotated[str, typer.Argument(metavar="URL", help="The feed: https://, file://, or http:// on this machine.")],
    root: Annotated[Path, typer.Option(metavar="ROOT", help="The feed's trust root, obtained out of band.")],
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="The copy to create or update.")],
    token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="A file with the token to send.")] = None,
    lists: Annotated[
        list[str] | None, typer.Option("--list", metavar="L", help="A list to keep; may be repeated. Default: all.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate authorities to trust, PEM.")] = None,
    client_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Client certificate, PEM.")] = None,
    client_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
    proxy: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The HTTP proxy to go through: http://HOST:PORT. The environment names none."),
    ] = None,
    redirects: Annotated[
        list[str] | None,
        typer.Option("--redirect", metavar="HOST", help="A host to which the feed may redirect; may be repeated."),
    ] = None,
    deadline: Annotated[str, typer.Option(metavar="TIME", help="Give up after this time: 90s, 10m, 2h.")] = "10m",
    watch: Annotated[bool, typer.Option("--watch", help="Keep the copy up to date until stopped.")] = False,
    interval: Annotated[str, typer.Option(metavar="TIME", help="With --watch: how often to poll.")] = "1m",
    instance: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --watch: the name to report to the operator. Default: host name."),
    ] = None,
    accept_clock: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The present time with its zone, if the clock was ahead at the last pull."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read every byte of the copy first, and fetch damaged files again.")
    ] = False,
    no_near_indexes: Annotated[
        bool, typer.Option("--no-near-indexes", help="Do not make the indexes that near look-ups use.")
    ] = False,
    as_json: JsonFlag = False,
) -> int:
    """Bring a copy of a feed up to date, and verify it.

    Signatures, thresholds, manifests and segments are verified before one rename makes the new version current: readers
    of DIR see either the whole new version or the previous one. Files that are already present are not fetched again,
    and segments among them are only checked for their length. With --check every segment is read and every end state
    recomputed, and what was damaged on this disk is fetched again before a list is reported as up to date. If a list
    fails, it stays at its version and the others are updated.

    With --watch it runs until SIGTERM or SIGINT, and prints a line for each change and each error. If the URL is that
    of a syncd daemon (it ends in /feed/), it follows the daemon's events, pulls as soon as a version is published, and
    reports the loaded versions to the operator. Otherwise, or while events are unavailable, it polls at the interval,
    varied by up to a fifth; while the feed is unreachable, it waits longer after each attempt. Once a day it reads the
    whole copy again, slowly, and fetches what was damaged; `syncd status DIR` shows when.

    For lists of 32,768 and more PDQ or vPDQ digests, a pull then makes the index that near look-ups use, below DIR, in
    about a second for a million rows; with --watch, in the background. Exact look-ups do not wait for it.

    If the clock of this host was ahead at the last pull, every later pull is refused until that time. Once the clock is
    right, give the present time with --accept-clock: it replaces the time of the last pull. The floors of versions
    stay. TIME may not be in the future, nor before the newest signed time of the copy that is not itself in the future.
    It is refused with --watch, and if nothing lies in the future.

    \b
    Exit codes:
      0   up to date; with --watch: stopped
      1   storage
      2   command line, or a TIME that is not permitted
      4   rejected
      5   unreachable, or deadline
      6   another pull is running, other users may write DIR,
          the clock was set back, or there is no clock to accept
    For several lists: the first of 1, 4, 3, 6, 5, 0 that occurred.

    \b
    Example:
      syncd pull https://feed.example.org/ --root root.json --dir /var/lib/hashes
    """
    quiet_retries()
    token = arguments.token(token_file)
    endpoint = Endpoint(
        url,
        token,
        ca=ca,
        client_cert=client_cert,
        client_key=client_key,
        proxy=proxy,
        redirects=tuple(redirects or ()),
    )
    names = [list_name(name) for name in lists or ()]
    seconds, pause, trusted = parse_duration(deadline), parse_duration(interval), arguments.root(root)
    accepted = _accepted(accept_clock, watch=watch) if accept_clock is not None else None

    def pull_once() -> PullResult:
        with progress("pulling") as report:
            return pull_copy(
                endpoint,
                trusted,
                folder,
                now=utc_now(),
                lists=names,
                deadline=seconds,
                progress=lambda done, total: report("fetch", done, total),
                accept_clock=accepted,
                check=_WorkProgress(report, "check") if check else None,
            )

    if watch:
        if check:
            raise UsageError("--check and --watch exclude each other", hint="--watch checks the copy once a day itself")
        builder = None if no_near_indexes else IndexBuilder(FeedFolder(folder))
        return _watch(pull_once, endpoint, names, pause, instance, folder=folder, builder=builder, as_json=as_json)
    pulled = pull_once()
    _make_indexes(FeedFolder(folder), wanted=not no_near_indexes)
    if warning := feed_clock_warning(_ahead(pulled), _late_expiry(pulled)):
        note(warning)
    if as_json:
        print_json(_document(pulled))
    else:
        if pulled.clock_was and accepted:
            say(f"the last pull into this copy: was {stamp(pulled.clock_was)}, accepted {stamp(accepted)}")
        _show(pulled)
    for change in pulled.lists:
        if change.forked:
            _alarm_of_fork(change)
        if warning := retirement_warning(change.list, change.retired, utc_now()):
            note(warning)
    return worst_code(error.exit_code for error in pulled.errors)


def _make_indexes(copy: FeedFolder, *, wanted: bool) -> None:
    """Make the missing near indexes. The lists are current already: a fault is a warning, and costs only speed."""
    if not wanted:
        return
    try:
        with progress("indexing") as report:
            make_indexes(copy, _WorkProgress(report, "index"))
    except RefusedError:  # another process makes them
        pass
    except SyncdError as error:
        note(f"{error.message}: near look-ups compare all rows", hint=error.hint)


def _accepted(text: str, *, watch: bool) -> datetime:
    """Return the time of ``--accept-clock``, after saying what the kernel knows about the clock."""
    if watch:
        raise UsageError(
            "--accept-clock is for one pull, not for --watch", hint="pull once with it, then watch without it"
        )
    accepted, kernel = arguments.clock_time(text, "--accept-clock"), kernel_clock()
    note(kernel.words, kind="note" if kernel.synchronised else "warning")
    return accepted


def _ahead(pulled: PullResult) -> timedelta | None:
    return signed_ahead(pulled.trusted, utc_now()) if pulled.trusted else None


def _late_expiry(pulled: PullResult) -> LateExpiry | None:
    return late_expiry(pulled.trusted) if pulled.trusted else None


class _WorkProgress:
    """Reports the progress of a stage whose whole size is not known."""

    def __init__(self, report: Callable[[str, int, int], None], stage: str) -> None:
        self._report, self._stage, self._done = report, stage, 0

    def __call__(self, size: int) -> None:
        self._done += size
        self._report(self._stage, self._done, 0)


def _watch(
    pull_once: Callable[[], PullResult],
    endpoint: Endpoint,
    names: Sequence[ListName],
    interval: float,
    instance: str | None,
    *,
    folder: Path,
    builder: IndexBuilder | None,
    as_json: bool,
) -> int:
    name = checked_instance(instance) if instance else host_instance()
    clock_warning = _FeedClockWarning()
    wake_signal, stop, api = WakeSignal(), threading.Event(), endpoint.api
    faults: queue.SimpleQueue[SyncdError] = queue.SimpleQueue()

    def note_faults(errors: Sequence[SyncdError]) -> None:
        for error in errors:
            faults.put(error)
        wake_signal.set()

    def end(*_: object) -> None:
        stop.set()
        wake_signal.set()

    def show(attempt: PullAttempt) -> None:
        _show_attempt(attempt, clock_warning, as_json=as_json)
        if builder and attempt.pulled:
            builder.start()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with contextlib.ExitStack() as open_:
            open_.enter_context(contextlib.closing(BackgroundProof(folder, utc_now, note_faults)))
            if builder:
                open_.enter_context(contextlib.closing(builder))
            follow(
                pull_once,
                interval=interval,
                stop=stop,
                on_event=show,
                lists=names,
                news=open_.enter_context(contextlib.closing(NewsStream(api, wake_signal.set))) if api else None,
                check_in=open_.enter_context(contextlib.closing(CheckIn(api, name))) if api else None,
                on_stream=lambda error: _show_stream(error, interval),
                faults=faults,
                wait=wake_signal.wait,
            )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _show_stream(error: SyncdError | None, interval: float) -> None:
    """Report that the event stream works again, or why polling replaces it."""
    if error is None:
        note("following events again", kind="note")
    elif isinstance(error, HttpStatusError) and error.status in REFUSALS:
        show_error(error)
    else:
        note(f"{error.message}: polling every {count(round(interval), 'second')} instead", kind="note")


class _FeedClockWarning:
    """Warns about a feed that was signed with a wrong clock when that begins, not at each poll."""

    def __init__(self) -> None:
        self._before = (False, False)

    def look(self, pulled: PullResult) -> None:
        """Warn if the feed is signed ahead of this clock, or valid for far too long, and was not at the last pull."""
        if pulled.trusted is None:
            return
        ahead, late = _ahead(pulled), _late_expiry(pulled)
        now = (ahead is not None, late is not None)
        if now != self._before and (warning := feed_clock_warning(ahead, late)):
            note(warning)
        self._before = now


def _show_attempt(attempt: PullAttempt, clock_warning: _FeedClockWarning, *, as_json: bool) -> None:
    """Report the changes and errors of a pull, and a wrong clock of the feed; nothing if it has none."""
    if attempt.pulled:
        clock_warning.look(attempt.pulled)
    changed = [change for change in attempt.pulled.lists if change.before != change.after] if attempt.pulled else []
    if not changed and not attempt.errors:
        return
    if as_json:
        document = _document(attempt.pulled) if attempt.pulled else {}
        errors = [error_document(error) for error in attempt.errors]
        say(json.dumps({"at": stamp(utc_now()), **document, "errors": errors, "next_in": round(attempt.wait, 1)}))
    else:
        for change in changed:
            say(f"{stamp(utc_now())}  {_line(change)}")
        for error in attempt.errors:
            show_error(error)
    for change in changed:
        if change.forked:
            _alarm_of_fork(change)
    flush()


def _document(pulled: PullResult) -> dict[str, Any]:
    return {
        "changed": pulled.changed,
        "bytes": pulled.bytes,
        "clock_was": stamp(pulled.clock_was) if pulled.clock_was else None,
        "ahead_seconds": int(ahead.total_seconds()) if (ahead := _ahead(pulled)) else 0,
        "timestamp_counts_until": stamp(late.until) if (late := _late_expiry(pulled)) else None,
        "lists": [
            {
                "list": change.list,
                "before": change.before,
                "after": change.after,
                "forked": change.forked,
                "retired": stamp(change.retired) if change.retired else None,
                "error": error_document(change.error) if change.error else None,
            }
            for change in pulled.lists
        ],
    }


def _show(pulled: PullResult) -> None:
    for change in pulled.lists:
        if change.error is None:
            say(_line(change))
    for error in pulled.errors:
        show_error(error)
    if not pulled.lists:
        note("the feed has no list yet")


def _line(change: ListPull) -> str:
    if change.retired:
        return f"{change.list} version {change.after}, retired on {change.retired:%Y-%m-%d}"
    if change.before == change.after:
        return f"{change.list} is up to date: version {change.after}"
    if change.before is None:
        return f"{change.list} version {change.after}, new here"
    return f"{change.list} version {change.after}, was {change.before}"


def _alarm_of_fork(change: ListPull) -> None:
    alarm(
        f"{change.list} version {change.after} does not descend from version {change.before}: "
        "its signer restored a backup",
        "ask the feed's operator whether this was intended; look-ups now answer from the new version",
    )
