"""``syncd matchers``: the permitted matchers, and the versions they have loaded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.cli.arguments import not_a_stream
from syncd.cli.operator import (
    ConfigFile,
    Document,
    actor,
    load_config,
    open_catalog,
    say_who_answered,
    send_single,
    state_folder,
    state_lock,
    state_report,
)
from syncd.cli.output import JsonFlag, OutputError, flush, note, print_json, say, show_table, utc_now
from syncd.errors import StoreError, UsageError
from syncd.files import PRIVATE_FILE, make_folder, new_file
from syncd.units import ago

if TYPE_CHECKING:
    from syncd.catalog.catalog import Catalog

app = typer.Typer(rich_markup_mode=None)

MatcherName = Annotated[str, typer.Argument(metavar="NAME", help="The matcher.")]
_NAMED: Final = 5
"""The number of lagging instances named for each matcher."""


@app.callback(invoke_without_command=True)
def matchers(context: typer.Context, config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Show the permitted matchers, and the versions they have loaded.

    An instance is one process or host of a matcher. A matcher is red if an instance is behind (lacks a version
    published more than five minutes ago) or silent (has not checked in for 15 minutes); such instances are named below.
    An instance silent for a week is forgotten. If `syncd run` holds the state, this asks that daemon.

    \b
    Exit codes:
      0   shown, whatever the state is
      1   storage
      2   not set up
      6   the state folder belongs to another user

    \b
    Example:
      syncd matchers --json
    """
    if context.invoked_subcommand is not None:
        if config or as_json:  # ignoring --config would change the wrong state
            raise UsageError(
                "--config and --json come after the word `add`, `revoke` or `forget`", hint="nothing was changed"
            )
        return
    settings = load_config(config)
    document = state_report(settings, "matchers")
    if as_json:
        print_json(document)
        return
    found, now = document["matchers"], utc_now()
    if not found:
        say("no matcher is permitted to pull: `syncd matchers add NAME` permits one")
        say_who_answered(document)
        return
    red = frozenset(number for number, matcher in enumerate(found) if _laggards(matcher))
    columns = ("name", "lists~", "created~", "instances#", "loaded~", "behind#", "last seen~")
    show_table(columns, [_row(matcher, now) for matcher in found], red)
    say_who_answered(document)
    for matcher in found:
        laggards = _laggards(matcher)
        for instance in laggards[:_NAMED]:
            via = f" (via {instance['via']})" if instance["via"] else ""
            note(f"{matcher['name']}: {instance['instance']}{via} {instance['act']}")
        more = len(laggards) - _NAMED
        if more > 0:
            note(f"{matcher['name']}: and {more:,} more; --json names all")


def _laggards(matcher: Document) -> Sequence[Document]:
    return [instance for instance in matcher["instances"] if instance["act"]]


def _row(matcher: Document, now: datetime) -> tuple[str, ...]:
    lists = ", ".join(matcher["lists"]) if matcher["lists"] else "all"
    seen = ago(now - datetime.fromisoformat(matcher["seen_at"])) if matcher["seen_at"] else "never"
    created = matcher["created_at"][:10]
    instances, behind = len(matcher["instances"]), len(_laggards(matcher))
    return matcher["name"], lists, created, str(instances), _loaded(matcher), str(behind), seen


def _loaded(matcher: Document) -> str:
    """Return the oldest and the newest version of each list over all instances."""
    loaded: dict[str, set[int]] = {}
    for held in (held for instance in matcher["instances"] for held in instance["lists"]):
        loaded.setdefault(held["list"], set()).add(held["version"])
    ends = {name: dict.fromkeys((min(versions), max(versions))) for name, versions in loaded.items()}
    return "; ".join(f"{name} {'-'.join(map(str, ends[name]))}" for name in sorted(ends))


@app.command("add")
def add(
    name: MatcherName,
    lists: Annotated[
        list[str] | None, typer.Option("--list", metavar="L", help="Permit only this list; may be repeated.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", callback=not_a_stream, help="Write the token to this new file, mode 0600; do not print it."
        ),
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="It is a mirror (`syncd mirror`), which serves matchers of its own.")
    ] = False,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Permit a matcher or a mirror to pull, and print its token.

    The token is shown only once: syncd keeps nothing but its hash. Without --list the matcher may pull every list,
    future ones included. A list need not be published yet. If `syncd run` holds the state, that daemon does it, at
    once.

    A mirror (--mirror) may also read the names, scopes and token hashes of the other matchers of these lists, so that
    it can admit them, and pass their check-ins on.

    \b
    Exit codes:
      0   added
      1   storage
      2   NAME already has a token, or is not a valid name; FILE exists
      6   the state is in use, or belongs to another user

    \b
    Example:
      syncd matchers add web --list iwf.images > web.token
    """
    if token_file is not None:
        if token_file.exists() or token_file.is_symlink():
            raise UsageError(
                f"{token_file} exists already", hint="name a file that does not exist; nothing was changed"
            )
        if not token_file.parent.is_dir():
            raise UsageError(f"there is no folder {token_file.parent}", hint="create it first; nothing was changed")
    settings = load_config(config)
    order = {"do": "matchers_add", "name": name, "lists": lists or [], "mirror": mirror}
    answer = send_single(settings, order)
    added = _add_here(settings, name, lists or [], mirror=mirror) if answer is None else dict(answer["added"])
    _hand_over(added, token_file, as_json=as_json)


def _add_here(settings: Any, name: str, lists: Sequence[str], *, mirror: bool) -> dict[str, Any]:
    from syncd.operate import matchers  # SQLAlchemy: not needed if the daemon does it

    with _locked_catalog(settings, "syncd matchers add") as catalog:
        token = matchers.new_token()
        added = matchers.add(
            catalog,
            name,
            lists,
            asked_by=actor(),
            now=utc_now(),
            token=token,
            operators=settings.operators,
            mirror=mirror,
        )
    return {**added.document(), "token": added.token}


def _hand_over(added: dict[str, Any], token_file: Path | None, *, as_json: bool) -> None:
    """Hand the token over once: on standard output, or in a file."""
    for name in added["not_published"]:
        note(f"{name} is not published yet")
    if token_file is not None:
        _write(token_file, added.pop("token"), added["name"])
    if as_json:
        with _arriving(added["name"]):
            print_json({"matcher": added})
        return
    may = f"{'mirror ' if added['mirror'] else ''}{added['name']} may pull {', '.join(added['lists'] or ['all lists'])}"
    if token_file is not None:
        say(f"{may}; its token is in {token_file}")
        return
    with _arriving(added["name"]):
        say(added["token"])
    note(f"{may}; this token is shown only once: keep it in a file of mode 0600", kind="note")


@contextmanager
def _arriving(name: str) -> Iterator[None]:
    """Report any output within that was lost, even to a reader that has gone: it is never shown again."""
    try:
        yield
        flush()
    except (OutputError, BrokenPipeError) as error:
        message = error.message if isinstance(error, OutputError) else "nobody reads the output"
        raise OutputError(f"{message}; {name} was added", hint=_lost(name)) from error


def _lost(name: str) -> str:
    return f"its token is lost: `syncd matchers revoke {name}`, then add it again"


def _write(path: Path, token: str, name: str) -> None:
    try:
        make_folder(path.parent)
        with new_file(path, PRIVATE_FILE) as stream:  # a command that is killed leaves no partial file
            stream.write(f"{token}\n".encode())
    except StoreError as error:
        raise StoreError(f"{error.message}; {name} was added", hint=_lost(name)) from error


@app.command("revoke")
def revoke(name: MatcherName, config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Revoke a matcher's token, at once.

    The token is no longer accepted, and event streams that the matcher holds open are closed. It keeps the lists that
    it has pulled. The name may be added again, with another token. If `syncd run` holds the state, that daemon does it.

    \b
    Exit codes:
      0   revoked
      1   storage
      2   there is no such matcher
      6   the state is in use, or belongs to another user

    \b
    Example:
      syncd matchers revoke web
    """
    settings = load_config(config)
    if send_single(settings, {"do": "matchers_revoke", "name": name}) is None:
        from syncd.operate import matchers  # SQLAlchemy: not needed if the daemon does it

        with _locked_catalog(settings, "syncd matchers revoke") as catalog:
            matchers.revoke(catalog, name, asked_by=actor(), now=utc_now())
    if as_json:
        print_json({"revoked": {"name": name}})
    else:
        say(f"{name} may no longer pull")


@contextmanager
def _locked_catalog(settings: Any, purpose: str) -> "Iterator[Catalog]":
    folder = state_folder(settings)
    with state_lock(folder, purpose), open_catalog(folder) as catalog:
        yield catalog


@app.command("forget")
def forget(
    name: MatcherName,
    instances: Annotated[
        list[str] | None, typer.Argument(metavar="[INSTANCE]...", help="Its instances; default: those that are silent.")
    ] = None,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Forget instances of a matcher that are gone.

    They are no longer shown, and raise no alert. An instance reports its own end. One that was killed, or could not
    reach the daemon when it ended, counts as silent for a week unless it is forgotten. An instance that checks in again
    is recorded again; the token stays valid. If `syncd run` holds the state, that daemon does it.

    \b
    Exit codes:
      0   forgotten
      1   storage
      2   there is no such matcher or instance, or no instance is silent
      6   the state is in use, or belongs to another user

    \b
    Example:
      syncd matchers forget web
    """
    settings = load_config(config)
    answer = send_single(settings, {"do": "matchers_forget", "name": name, "instances": instances or []})
    forgotten = _forget_here(settings, name, instances or []) if answer is None else answer["forgotten"]["instances"]
    if as_json:
        print_json({"forgotten": {"name": name, "instances": forgotten}})
    else:
        say(*(f"{instance} of {name} is forgotten" for instance in forgotten))


def _forget_here(settings: Any, name: str, instances: Sequence[str]) -> Sequence[str]:
    from syncd.service.checkins import Checkins, forget_instances  # SQLAlchemy: not needed if the daemon does it

    with _locked_catalog(settings, "syncd matchers forget") as catalog:
        return forget_instances(Checkins(catalog), catalog, name, instances, asked_by=actor(), now=utc_now())
