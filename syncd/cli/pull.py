"""``syncd pull``: what a matcher's host runs."""

import contextlib
import json
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli import arguments
from syncd.cli.output import JsonFlag, alarm, flush, note, print_json, progress, quiet_retries, say, show_error, utc_now
from syncd.errors import error_document
from syncd.outcomes import worst_code
from syncd.units import stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from syncd.errors import SyncdError
    from syncd.fetch import Endpoint
    from syncd.matcher.pull import ListPull, PullResult
    from syncd.matcher.watch import PullAttempt
    from syncd.model import ListName


def pull(
    url: Annotated[str, typer.Argument(metavar="URL", help="The feed: https://, file://, or http:// on this machine.")],
    root: Annotated[Path, typer.Option(metavar="ROOT", help="The feed's trust root, obtained by another way.")],
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="The copy to make or bring up to date.")],
    token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="The token to send.")] = None,
    lists: Annotated[
        list[str] | None, typer.Option("--list", metavar="L", help="A list to hold; may be repeated. Default: all.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate authorities, PEM.")] = None,
    client_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Our certificate, PEM.")] = None,
    client_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
    deadline: Annotated[str, typer.Option(metavar="TIME", help="Give up after 90s, 10m, 2h ...")] = "10m",
    watch: Annotated[bool, typer.Option("--watch", help="Keep the copy up to date until stopped.")] = False,
    interval: Annotated[str, typer.Option(metavar="TIME", help="With --watch: how often, give or take.")] = "1m",
    instance: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --watch: this host, to the operator. Default: its name.")
    ] = None,
    as_json: JsonFlag = False,
) -> int:
    """Bring a copy of a feed up to date, and prove it.

    Signatures, thresholds, manifests and segments are verified before anything becomes current, in one rename: readers
    of DIR see one whole version or the one before. What is there already is not fetched again. Where one list fails, it
    stays at its version and the others go on.

    With --watch it goes on until SIGTERM or SIGINT. Where the URL is that of a syncd (it ends in /feed/) it follows the
    feed's events, pulls at once when a version is published, and tells the operator which versions are here. Elsewhere,
    and while there are no events, it polls at the interval give or take a fifth, and leaves a feed alone longer and
    longer while it cannot be reached. It says what changed and what went wrong, a line each.

    \b
    Exit codes:
      0   up to date; with --watch: stopped
      1   storage
      2   command line
      4   rejected
      5   unreachable or deadline
      6   another pull is at it, others may write DIR, or the clock runs backwards
    Of several lists the first of 1, 4, 3, 6, 5, 0.

    \b
    Example:
      syncd pull https://feed.example.org/ --root root.json --dir /var/lib/hashes
    """
    from syncd.fetch import Endpoint
    from syncd.matcher.pull import pull as bring_up_to_date
    from syncd.matcher.status import retirement_warning
    from syncd.model import list_name
    from syncd.settings import parse_duration

    quiet_retries()
    token = arguments.token(token_file)
    endpoint = Endpoint(url, token, ca, client_cert, client_key)
    names = [list_name(one) for one in lists or ()]
    seconds, pause, trusted = parse_duration(deadline), parse_duration(interval), arguments.root(root)

    def pull_once() -> "PullResult":
        with progress("pulling") as tell:
            return bring_up_to_date(
                endpoint,
                trusted,
                folder,
                now=utc_now(),
                lists=names,
                deadline=seconds,
                progress=lambda done, total: tell("fetch", done, total),
            )

    if watch:
        return _watch(pull_once, endpoint, names, pause, instance, as_json=as_json)
    pulled = pull_once()
    if as_json:
        print_json(_document(pulled))
    else:
        _show(pulled)
    for one in pulled.lists:
        if one.forked:
            _alarm_of_fork(one)
        if warning := retirement_warning(one.list, one.retired, utc_now()):
            note(warning)
    return worst_code(error.exit_code for error in pulled.errors)


def _watch(
    pull_once: "Callable[[], PullResult]",
    endpoint: "Endpoint",
    names: "list[ListName]",
    interval: float,
    instance: str | None,
    *,
    as_json: bool,
) -> int:
    from syncd.matcher.check_in import CheckIn, checked_instance, host_instance
    from syncd.matcher.news import NewsStream
    from syncd.matcher.threads import WakeSignal
    from syncd.matcher.watch import follow

    name = checked_instance(instance) if instance else host_instance()
    wake_signal, stop, api = WakeSignal(), threading.Event(), endpoint.api

    def end(*_: object) -> None:
        stop.set()
        wake_signal.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with contextlib.ExitStack() as open_:
            follow(
                pull_once,
                interval=interval,
                stop=stop,
                on_event=lambda attempt: _tell(attempt, as_json=as_json),
                lists=names,
                news=open_.enter_context(contextlib.closing(NewsStream(api, wake_signal.set))) if api else None,
                check_in=open_.enter_context(contextlib.closing(CheckIn(api, name))) if api else None,
                on_stream=lambda trouble: _tell_of_stream(trouble, interval),
                wait=wake_signal.wait,
            )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _tell_of_stream(trouble: "SyncdError | None", interval: float) -> None:
    """Where the news come from, when that changes: they come either way."""
    from syncd.errors import HttpStatusError
    from syncd.matcher.news import REFUSALS

    if trouble is None:
        note("following events again", kind="note")
    elif isinstance(trouble, HttpStatusError) and trouble.status in REFUSALS:
        show_error(trouble)
    else:
        note(f"{trouble.message}: polling every {interval:.0f} seconds instead", kind="note")


def _tell(attempt: "PullAttempt", *, as_json: bool) -> None:
    """What changed and what went wrong; nothing where there is no news."""
    changed = [one for one in attempt.pulled.lists if one.before != one.after] if attempt.pulled else []
    if not changed and not attempt.errors:
        return
    if as_json:
        say(json.dumps(_event(attempt)))
    else:
        for one in changed:
            say(f"{stamp(utc_now())}  {_line(one)}")
        for error in attempt.errors:
            show_error(error)
    for one in changed:
        if one.forked:
            _alarm_of_fork(one)
    flush()


def _event(attempt: "PullAttempt") -> dict[str, Any]:
    document = _document(attempt.pulled) if attempt.pulled else {}
    errors = [error_document(error) for error in attempt.errors]
    return {"at": stamp(utc_now()), **document, "errors": errors, "next_in": round(attempt.wait, 1)}


def _document(pulled: "PullResult") -> dict[str, Any]:
    return {
        "changed": pulled.changed,
        "bytes": pulled.bytes,
        "lists": [
            {
                "list": one.list,
                "before": one.before,
                "after": one.after,
                "forked": one.forked,
                "retired": stamp(one.retired) if one.retired else None,
                "error": error_document(one.error) if one.error else None,
            }
            for one in pulled.lists
        ],
    }


def _show(pulled: "PullResult") -> None:
    for one in pulled.lists:
        if one.error is None:
            say(_line(one))
    for error in pulled.errors:
        show_error(error)
    if not pulled.lists:
        note("the feed has no list yet")


def _line(one: "ListPull") -> str:
    if one.retired:
        return f"{one.list} version {one.after}, retired on {one.retired:%Y-%m-%d}"
    if one.before == one.after:
        return f"{one.list} is up to date: version {one.after}"
    if one.before is None:
        return f"{one.list} version {one.after}, new here"
    return f"{one.list} version {one.after}, was {one.before}"


def _alarm_of_fork(one: "ListPull") -> None:
    alarm(
        f"{one.list} version {one.after} does not descend from version {one.before}: its signer went back to a backup",
        "ask the feed's operator whether that was meant; look-ups answer from the new version",
    )
