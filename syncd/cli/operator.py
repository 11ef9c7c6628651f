"""Shared by the operator's commands: the configuration, the state folder, and orders to the daemon.

`syncd status` and others ask the daemon first and then need neither SQL nor numpy: what opens the state is imported
by the functions that open it.
"""

import itertools
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.cli.output import note, say, utc_now
from syncd.config_file import daemon_place, load
from syncd.errors import ConfigError, RefusedError, SyncdError
from syncd.files import check_private
from syncd.locks import lock
from syncd.service.client import ask, error_of, listens, responds
from syncd.settings import credentials
from syncd.users import is_of_another, owner_name, this_user

if TYPE_CHECKING:
    from syncd.catalog.catalog import Catalog
    from syncd.catalog.folder import StateFolder
    from syncd.pipeline.publisher import Publisher

Document = Mapping[str, Any]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", readable=False, help="Default: $SYNCD_CONFIG, or /etc/syncd/syncd.toml."),
]
Report = Callable[[str, int, int], None]
"""Receives the stage of a long answer, how much of it is done, and the total."""
_REPORT_WITHIN: Final = 5.0
"""Seconds the daemon may take to report what it only has to look up."""
RELOAD: Final = "load the configuration: `systemctl reload syncd`, or send SIGHUP to the daemon"
RUNNING: Final = "running"
NOT_RUNNING: Final = "not running"
NOT_ANSWERING: Final = "not answering"
_SAY_WHO: Final = frozenset({"status", "matchers"})
"""Reports that say whether a daemon made them."""


class RefusedConfig:
    """A configuration that is refused while a daemon still runs on the previous one. It only locates that daemon.

    Reading any other setting raises the `ConfigError` for which it is refused.
    """

    def __init__(self, state_dir: Path, control_socket: Path, fault: ConfigError) -> None:
        self.state_dir, self.control_socket, self.fault = state_dir, control_socket, fault

    def __getattr__(self, name: str) -> Any:
        raise self.fault


def load_config(config: Path | None) -> Any:
    """Read the configuration.

    If it is refused, commands that only ask the running daemon still work: this warns, and returns a `RefusedConfig`.
    Raises `ConfigError` if no daemon answers for its state folder.
    """
    try:
        return load(config)
    except ConfigError as fault:
        place = daemon_place(config)
        if place is None or not responds(place[1], str(place[0]), _REPORT_WITHIN):
            raise
        note(
            f"the configuration on disk is refused, so the daemon still runs on the previous one: {fault.message}",
            hint=f"{fault.hint}; until then a restart of the daemon fails",
        )
        return RefusedConfig(*place, fault)


def actor() -> str:
    """Return the name of this user, for the audit log."""
    return this_user()


def check_owner(folder: Path) -> None:
    """Refuse a folder that belongs to another user, even for root, or that every user may write to.

    Files that we create in another user's folder would make that user's next sync fail.
    """
    if is_of_another(folder):
        owner = owner_name(folder)
        raise RefusedError(f"{folder} belongs to {owner}", hint=f"run this command as {owner}; nothing was changed")
    check_private(folder)


def state_folder(config: Any, *, daemon_could: bool = True) -> "StateFolder":
    """Return the state folder, after checking that it is set up and belongs to this user.

    ``daemon_could``: true if a daemon would do for another user what the command does.
    """
    from syncd.catalog.folder import StateFolder  # manifests and their models: not needed if the daemon answers

    folder = StateFolder(config.state_dir, config.bucket, config.database)
    if is_of_another(folder.root):
        raise _belongs_to_another(folder.root, may_start=daemon_could and not listens(config.control_socket))
    check_private(folder.root)
    folder.check_set_up()
    return folder


def _belongs_to_another(folder: Path, *, may_start: bool) -> RefusedError:
    owner = owner_name(folder)
    if not may_start:
        return RefusedError(f"{folder} belongs to {owner}", hint=f"run this command as {owner}; nothing was changed")
    return RefusedError(
        f"no daemon is running, and {folder} belongs to {owner}",
        hint=f"start the daemon (`systemctl start syncd`), or run this command as {owner}; nothing was changed",
    )


def state_lock(folder: "StateFolder", purpose: str) -> AbstractContextManager[None]:
    """Hold the lock of the state: no other process changes it meanwhile."""
    return lock(folder.root / "lock", purpose)


def open_catalog(folder: "StateFolder") -> "AbstractContextManager[Catalog]":
    """Open the catalog of a state."""
    from syncd.catalog.catalog import Catalog  # SQLAlchemy: not needed if the daemon answers

    return Catalog.open(folder.catalog)


@contextmanager
def locked_publisher(settings: Any, purpose: str) -> "Iterator[Publisher]":
    """Open a state for publishing, with its lock held, its online keys at hand and the configured limits."""
    folder, given = state_folder(settings), credentials(os.environ)
    with (
        state_lock(folder, purpose),
        _open_publisher(
            folder,
            credentials=given,
            limits=settings.limits,
            second_operator=lambda: settings.corrections.second_operator,
            retention=settings.retention_limits,
        ) as publisher,
        _leading(publisher, purpose),
    ):
        yield publisher


@contextmanager
def keyless_publisher(folder: "StateFolder", purpose: str | None, **options: Any) -> "Iterator[Publisher]":
    """Open a state without its online keys; with its lock held if there is a ``purpose`` for it."""
    held = state_lock(folder, purpose) if purpose else nullcontext()
    with held, _open_publisher(folder, online=False, **options) as publisher, _leading(publisher, purpose):
        yield publisher


@contextmanager
def changing_publisher(
    folder: "StateFolder", purpose: str, check: "Callable[[Publisher], None]" = lambda _: None
) -> "Iterator[Publisher]":
    """Open a state without its online keys, for a change that no daemon carries out.

    The only daemon on a state has to be stopped first. Several daemons on one catalog go on, and this leads in place of
    the one that led, for as long as it works. ``check`` is called first, and may refuse.
    """
    if folder.database is None:
        with keyless_publisher(folder, purpose) as publisher:
            check(publisher)
            yield publisher
        return
    from syncd.service.leading import lead_alone  # SQLAlchemy: as below

    with _open_publisher(folder, online=False) as publisher:
        check(publisher)
        with lead_alone(publisher.catalog, purpose, folder.store_place, take_over=True):
            yield publisher


def _leading(publisher: "Publisher", purpose: str | None) -> AbstractContextManager[None]:
    return leading(publisher, purpose, publisher.folder.store_place)


def leading(publisher: "Publisher", purpose: str | None, store: str) -> AbstractContextManager[None]:
    """Lead while a command works, if it has a purpose and daemons may share the catalog.

    ``store``: the place of the published files, as the catalog has it. Raises `NotLeadingError` if one of them leads.
    """
    if purpose is None or publisher.folder.database is None:
        return nullcontext()
    from syncd.service.leading import lead_alone  # SQLAlchemy: not needed if the daemon does the work

    return lead_alone(publisher.catalog, purpose, store)


def answers_of_leader(settings: Any, order: Document) -> Iterable[Document] | None:
    """Leave an order for the daemon that leads on another machine; return its answers. None if none leads, or may.

    For a command on a machine where no daemon runs.
    """
    if settings.database is None:
        return None
    folder = state_folder(settings)
    with open_catalog(folder) as catalog:
        leader = catalog.leader()
    if leader is None or not leader.in_force:
        return None
    note(f"no daemon runs here: the order goes to the leader, on {leader.host}", kind="note")
    return _relayed(folder, order)


def _relayed(folder: "StateFolder", order: Document) -> Iterator[Document]:
    from syncd.service.control import parse_order  # pydantic and more: only needed if daemons share a catalog
    from syncd.service.relay import Relay

    with open_catalog(folder) as catalog:
        yield from Relay(catalog, actor())(parse_order(json.dumps(order).encode()), actor())


def _keyless(settings: Any, purpose: str) -> "AbstractContextManager[Publisher]":
    return keyless_publisher(state_folder(settings), purpose, retention=settings.retention_limits)


def _open_publisher(folder: "StateFolder", **options: Any) -> "AbstractContextManager[Publisher]":
    from syncd.pipeline.publisher import open_publisher  # SQLAlchemy and numpy: not needed if the daemon does the work

    return open_publisher(folder, **options)


def state_report(settings: Any, what: str, **asked: bool) -> Document:
    """Return the "status", "matchers", "holds" or "suppressions": of the daemon that holds this state, or our own.

    ``daemon`` in the first two is "running", "not running", or "not answering". Reads the state if no daemon runs, or
    if the daemon cannot answer because it is older or stuck. If this user cannot read the state, raises the daemon's
    error, which says more than that the state belongs to another user.
    """
    daemon = NOT_RUNNING
    try:
        answers = list(send_order(settings, {"do": what, **asked}, _REPORT_WITHIN) or ())
    except SyncdError:
        if is_of_another(settings.state_dir):
            raise
        answers, daemon = [], NOT_ANSWERING
    document: Document | None = answers[0].get("document") if answers else None
    if document is not None:
        daemon = RUNNING
    else:
        document = _read_report(settings, what, **asked)
    return {**document, "daemon": daemon} if what in _SAY_WHO else document


def led_elsewhere(document: Document) -> bool:
    """Return True if one of several daemons leads, so that syncs run although this machine has no daemon."""
    return bool((document.get("fleet") or {}).get("leader"))  # an older daemon does not report it


def say_who_answered(document: Document) -> None:
    """Say if no daemon made a report."""
    if document["daemon"] == NOT_RUNNING and led_elsewhere(document):
        say("no daemon is running on this machine: this was read from the catalog")
    elif document["daemon"] == NOT_RUNNING:
        say("no daemon is running: this was read from the state, and nothing syncs by itself")
    elif document["daemon"] == NOT_ANSWERING:
        say("the daemon does not answer: this was read from the state; see its log")


def _read_report(settings: Any, what: str, **asked: bool) -> Document:
    from syncd.report.reports import read_report  # SQLAlchemy and tuf: not needed if the daemon answers

    folder = state_folder(settings)
    with open_catalog(folder) as catalog:
        return read_report(what, settings, folder, catalog, utc_now(), **asked)


def carry_out(settings: Any, order: Document, *, signs: bool = True) -> Document:
    """Have the daemon that holds this state carry out an order; if none runs, do it here. See `LIST_ORDERS`.

    ``signs``: false if the order needs no keys. Returns the answer, after warning if it was signed by a clock that is
    behind. Raises `SyncdError`.
    """
    answer = send_single(settings, order)
    if answer is None:
        answer = _carry_out_here(settings, order, signs=signs)
    if order["do"] != "clock" and (warning := answer.get("clock")):  # an older daemon does not report it
        note(warning["message"], hint=warning["to_do"])
    return answer


def done_document(answer: Document, key: str) -> Document:
    """Return what an order did as JSON, with ``clock``: the warning about the clock that signed it, or None."""
    return {**answer[key], "clock": answer.get("clock")}


def _carry_out_here(settings: Any, order: Document, *, signs: bool) -> Document:
    answers = answers_of_leader(settings, order)
    if answers is not None:
        (answer,) = answers
        return answer
    from syncd.service.list_orders import carry_out_here  # numpy and SQLAlchemy: not needed if the daemon does it

    command = "suppress" if order["do"] == "extend" else order["do"]
    purpose = f"syncd {command}"
    with locked_publisher(settings, purpose) if signs else _keyless(settings, purpose) as publisher:
        return carry_out_here(publisher, settings, order, actor(), utc_now)


def sources_on_disk(settings: Any) -> tuple[str, ...]:
    """Return the sources of the configuration on disk; () if it is refused."""
    return () if isinstance(settings, RefusedConfig) else tuple(settings.sources)


def not_loaded(sources: Sequence[str]) -> str:
    """Say that sources are only in the configuration on disk."""
    return f"the running daemon has not loaded {', '.join(sources)} from the configuration on disk"


def note_not_loaded(settings: Any, loaded: Iterable[str]) -> None:
    """Warn about sources in the configuration on disk that the running daemon has not loaded."""
    missing = [name for name in sources_on_disk(settings) if name not in set(loaded)]
    if missing:
        note(not_loaded(missing), hint=RELOAD)


def ask_state(
    settings: Any,
    name: str,
    arguments: Document,
    now: datetime,
    report: Report = lambda _stage, _done, _total: None,
    *,
    quick: bool = False,
) -> Iterator[Document]:
    """Yield the answers to a question of `syncd.ask.questions`, the exit code last.

    The owner of the state reads it, or asks the daemon first if the question is ``quick``: most of the time goes into
    starting what reads a state. Anybody else asks the daemon, which refuses all but its operators. Raises `SyncdError`.
    """
    order = {"do": name, "arguments": {key: _as_json(value) for key, value in arguments.items()}}
    if is_of_another(settings.state_dir):
        answers = send_order(settings, order)
    else:
        answers = _quick_answers(settings, order) if quick else None
    if answers is not None:
        yield from _without_progress(answers, report)
        return
    folder = state_folder(settings)
    from syncd.ask.questions import answer, question  # numpy and SQLAlchemy: not needed if the daemon answers

    code = yield from answer(question(name, arguments), folder, now, report)
    yield {"end": code}


def _quick_answers(settings: Any, order: Document) -> list[Document] | None:
    """Return the daemon's answers to the owner; None if no daemon runs, or it is older or stuck, or has an error."""
    try:
        return list(send_order(settings, order, _REPORT_WITHIN) or ()) or None
    except SyncdError:  # reading the state gives the same error, or the answer
        return None


def ask_document(
    settings: Any,
    name: str,
    arguments: Document,
    now: datetime,
    report: Report = lambda _stage, _done, _total: None,
    *,
    quick: bool = False,
) -> tuple[Document, int]:
    """Return the single document that answers a question, and the exit code; see `ask_state`."""
    document: Document = {}
    code = 0
    for part in ask_state(settings, name, arguments, now, report, quick=quick):
        document = part.get("document", document)
        code = part.get("end", 0)
    return document, code


def _as_json(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _without_progress(answers: Iterable[Document], report: Report) -> Iterator[Document]:
    for part in answers:
        if "progress" in part:
            report(part["progress"]["stage"], part["progress"]["done"], part["progress"]["total"])
        elif "beat" not in part:
            yield part


def send_single(settings: Any, order: Document) -> Document | None:
    """Send an order that has a single answer, and return it; see `send_order`."""
    answers = send_order(settings, order)
    if answers is None:
        return None
    (answer,) = answers
    return answer


def send_order(settings: Any, order: Document, within: float | None = None) -> Iterable[Document] | None:
    """Send an order to the daemon that holds this state, and return its answers; None if no such daemon runs.

    Each answer may take ``within`` seconds. Raises the daemon's error, and the errors of `syncd.service.client.ask`.
    """
    answers = ask(settings.control_socket, {**order, "state_dir": str(settings.state_dir)}, within)
    if answers is None:
        return None
    first = next(answers)
    if "other" in first:  # it serves another state: ours is free, or its lock names the process that has it
        answers.close()
        return None
    return _checked(first, answers)


def _checked(first: Document, rest: Generator[dict[str, Any], None, None]) -> Iterable[Document]:
    with closing(rest):
        for answer in itertools.chain([first], rest):
            if "error" in answer:
                raise error_of(answer["error"])
            yield answer
