"""``syncd matchers``: who may pull, and which version each has loaded."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.cli.operator import ConfigFile, load_config, sole_writer, state_folder
from syncd.cli.orders import give
from syncd.cli.output import JsonFlag, note, print_json, say, show_table, utc_now
from syncd.cli.repair import actor
from syncd.errors import StoreError, UsageError
from syncd.units import ago, stamp

if TYPE_CHECKING:
    from syncd.catalog.catalog import Catalog
    from syncd.pipeline.laggards import InstanceView, MatcherView

app = typer.Typer(rich_markup_mode=None)

MatcherName = Annotated[str, typer.Argument(metavar="NAME", help="The matcher.")]
_NAMED: Final = 5
"""Laggards of one matcher that are named."""


@app.callback(invoke_without_command=True)
def matchers(context: typer.Context, config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Show who may pull, and which version each has loaded.

    An instance is one process or host of a matcher. Red: some of them are behind (without the version that was
    published more than five minutes ago) or silent (not heard of for 15 minutes); they are named below. Who is not
    heard of for a week is forgotten.

    \b
    Exit codes:
      0   shown, whatever it says
      1   storage
      2   not set up
      6   the state folder is another user's

    \b
    Example:
      syncd matchers --json
    """
    if context.invoked_subcommand is not None:
        if config or as_json:  # or they would be passed over, and another state be changed than was meant
            raise UsageError("--config and --json come after the word `add` or `revoke`", hint="nothing was changed")
        return
    from syncd.catalog.catalog import Catalog
    from syncd.pipeline import laggards

    now = utc_now()
    with Catalog.open(state_folder(load_config(config)).catalog) as catalog:
        due = catalog.due_versions(now - laggards.BEHIND_AFTER)
        found = laggards.views(catalog.matchers(), catalog.loaded(), due, now)
    if as_json:
        print_json({"matchers": [_document(view) for view in found]})
    else:
        _show(found, now)


def _document(view: "MatcherView") -> dict[str, Any]:
    return {
        "name": view.matcher.name,
        "lists": view.matcher.lists,
        "created_at": stamp(view.matcher.created_at),
        "created_by": view.matcher.created_by,
        "seen_at": stamp(view.seen_at) if view.seen_at else None,
        "behind": sum(one.behind for one in view.instances),
        "silent": sum(one.silent for one in view.instances),
        "instances": [_instance_document(one) for one in view.instances],
    }


def _instance_document(one: "InstanceView") -> dict[str, Any]:
    return {
        "instance": one.name,
        "seen_at": stamp(one.seen_at),
        "silent": one.silent,
        "lists": [
            {
                "list": each.loaded.list,
                "version": each.loaded.version,
                "loaded_at": stamp(each.loaded.loaded_at),
                "due": each.due,
                "behind": each.behind,
            }
            for each in one.standings
        ],
    }


def _show(found: "Sequence[MatcherView]", now: datetime) -> None:
    if not found:
        say("no matcher may pull: `syncd matchers add NAME` lets one")
        return
    red = frozenset(number for number, view in enumerate(found) if view.laggards)
    columns = ("name", "lists", "created", "instances#", "loaded", "behind#", "last seen")
    show_table(columns, [_row(view, now) for view in found], red)
    for view in found:
        _name_laggards(view, now)


def _row(view: "MatcherView", now: datetime) -> tuple[str, ...]:
    lists = ", ".join(view.matcher.lists) if view.matcher.lists else "all"
    seen = ago(now - view.seen_at) if view.seen_at else "never"
    created = stamp(view.matcher.created_at)[:10]
    loaded = "; ".join(f"{name} {_versions(found)}" for name, found in view.versions.items())
    return view.matcher.name, lists, created, str(len(view.instances)), loaded, str(len(view.laggards)), seen


def _versions(found: Collection[int]) -> str:
    return str(min(found)) if len(found) == 1 else f"{min(found)}-{max(found)}"


def _name_laggards(view: "MatcherView", now: datetime) -> None:
    for one in view.laggards[:_NAMED]:
        note(f"{view.matcher.name}: {one.name} {one.why(now)}")
    more = len(view.laggards) - _NAMED
    if more > 0:
        note(f"{view.matcher.name}: and {more:,} more; --json names all")


@app.command("add")
def add(
    name: MatcherName,
    lists: Annotated[
        list[str] | None, typer.Option("--list", metavar="L", help="It may pull this list; may be repeated.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the token to this new file, mode 0600; do not print it.")
    ] = None,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a matcher pull, and print its token.

    The token is shown this once: only its hash is kept. Without --list it may pull every list, also those to come. A
    list need not be published yet. Where `syncd run` holds the state, that daemon does it, at once.

    \b
    Exit codes:
      0   added
      1   storage
      2   NAME is in force already, or is no name; FILE exists
      6   the state is in use, or another user's

    \b
    Example:
      syncd matchers add web --list iwf.images > web.token
    """
    if token_file is not None:
        _check_new(token_file)
    settings = load_config(config)
    answers = give(settings, {"do": "matchers_add", "name": name, "lists": lists or []})
    added = _add_here(settings, name, lists or []) if answers is None else dict(_only(answers)["added"])
    _hand_over(added, token_file, as_json=as_json)


def _check_new(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists already", hint="name a file that does not exist; nothing was changed")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", hint="make it first; nothing was changed")


def _only(answers: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    (answer,) = answers
    return answer


def _add_here(settings: Any, name: str, lists: Sequence[str]) -> dict[str, Any]:
    from syncd.pipeline import matchers as pipeline

    with _catalog(settings, "syncd matchers add") as catalog:
        token = pipeline.new_token()
        added = pipeline.add(catalog, name, lists, asked_by=actor(), now=utc_now(), token=token)
    return {**added.document(), "token": added.token}


def _hand_over(added: dict[str, Any], token_file: Path | None, *, as_json: bool) -> None:
    """Let the token out once: to standard output, or to a file."""
    for name in added["not_published"]:
        note(f"{name} is not published (yet)")
    if token_file is not None:
        _write(token_file, added.pop("token"), added["name"])
    if as_json:
        print_json({"matcher": added})
        return
    may = f"{added['name']} may pull {', '.join(added['lists'] or ['all lists'])}"
    if token_file is not None:
        say(f"{may}; its token is in {token_file}")
        return
    say(added["token"])
    note(f"{may}; this token is shown only now: keep it in a file of mode 0600", kind="note")


def _write(path: Path, token: str, name: str) -> None:
    from syncd.files import PRIVATE_FILE, install_bytes

    try:
        install_bytes(path, f"{token}\n".encode(), PRIVATE_FILE)
    except StoreError as error:
        lost = f"its token is lost: `syncd matchers revoke {name}`, then add it again"
        raise StoreError(f"{error.message}; {name} was added", hint=lost) from error


@app.command("revoke")
def revoke(name: MatcherName, config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Let a matcher pull no more, at once.

    Its token opens nothing any more, and streams that it holds open are ended. What it has pulled it keeps. The name
    may be added again, with another token. Where `syncd run` holds the state, that daemon does it.

    \b
    Exit codes:
      0   revoked
      1   storage
      2   there is no such matcher
      6   the state is in use, or another user's

    \b
    Example:
      syncd matchers revoke web
    """
    settings = load_config(config)
    answers = give(settings, {"do": "matchers_revoke", "name": name})
    if answers is None:
        _revoke_here(settings, name)
    else:
        _only(answers)
    if as_json:
        print_json({"revoked": {"name": name}})
    else:
        say(f"{name} may pull no more")


def _revoke_here(settings: Any, name: str) -> None:
    from syncd.pipeline import matchers as pipeline

    with _catalog(settings, "syncd matchers revoke") as catalog:
        pipeline.revoke(catalog, name, asked_by=actor(), now=utc_now())


@contextmanager
def _catalog(settings: Any, purpose: str) -> "Iterator[Catalog]":
    """The catalog, while nobody else changes the state."""
    from syncd.catalog.catalog import Catalog

    folder = state_folder(settings)
    with sole_writer(folder, purpose), Catalog.open(folder.catalog) as catalog:
        yield catalog
