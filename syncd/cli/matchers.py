"""``syncd matchers``: who may pull, and which version each has loaded."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.cli.operator import ConfigFile, load_config, sole_writer, state_folder
from syncd.cli.orders import Document, give, told
from syncd.cli.output import JsonFlag, OutputError, flush, note, print_json, say, show_table, utc_now
from syncd.cli.repair import actor
from syncd.errors import StoreError, UsageError
from syncd.units import ago

if TYPE_CHECKING:
    from syncd.catalog.catalog import Catalog

app = typer.Typer(rich_markup_mode=None)

MatcherName = Annotated[str, typer.Argument(metavar="NAME", help="The matcher.")]
_NAMED: Final = 5
"""Laggards of one matcher that are named."""


@app.callback(invoke_without_command=True)
def matchers(context: typer.Context, config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Show who may pull, and which version each has loaded.

    An instance is one process or host of a matcher. Red: some of them are behind (without the version that was
    published more than five minutes ago) or silent (not heard of for 15 minutes); they are named below. Who is not
    heard of for a week is forgotten. Where `syncd run` holds the state, that daemon is asked.

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
    settings = load_config(config)
    found = told(settings, "matchers") or _read_here(settings)
    if as_json:
        print_json(found)
    else:
        _show(found["matchers"], utc_now())


def _read_here(settings: Any) -> Document:
    from syncd.catalog.catalog import Catalog
    from syncd.report import lagging, overview

    now = utc_now()
    with Catalog.open(state_folder(settings).catalog) as catalog:
        return lagging.document(overview.matcher_views(catalog, now), now)


def _show(found: Sequence[Document], now: datetime) -> None:
    if not found:
        say("no matcher may pull: `syncd matchers add NAME` lets one")
        return
    red = frozenset(number for number, one in enumerate(found) if _laggards(one))
    columns = ("name", "lists~", "created~", "instances#", "loaded~", "behind#", "last seen~")
    show_table(columns, [_row(one, now) for one in found], red)
    for one in found:
        _name_laggards(one)


def _laggards(matcher: Document) -> Sequence[Document]:
    return [one for one in matcher["instances"] if one["act"]]


def _row(matcher: Document, now: datetime) -> tuple[str, ...]:
    lists = ", ".join(matcher["lists"]) if matcher["lists"] else "all"
    seen = ago(now - datetime.fromisoformat(matcher["seen_at"])) if matcher["seen_at"] else "never"
    created = matcher["created_at"][:10]
    instances, behind = len(matcher["instances"]), len(_laggards(matcher))
    return matcher["name"], lists, created, str(instances), _loaded(matcher), str(behind), seen


def _loaded(matcher: Document) -> str:
    """Of each list the oldest and the newest version that any instance has."""
    found: dict[str, set[int]] = {}
    for one in (each for instance in matcher["instances"] for each in instance["lists"]):
        found.setdefault(one["list"], set()).add(one["version"])
    return "; ".join(f"{name} {_versions(found[name])}" for name in sorted(found))


def _versions(found: Collection[int]) -> str:
    return str(min(found)) if len(found) == 1 else f"{min(found)}-{max(found)}"


def _name_laggards(matcher: Document) -> None:
    laggards = _laggards(matcher)
    for one in laggards[:_NAMED]:
        note(f"{matcher['name']}: {one['instance']} {one['act']}")
    more = len(laggards) - _NAMED
    if more > 0:
        note(f"{matcher['name']}: and {more:,} more; --json names all")


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
    from syncd.operate import matchers as pipeline

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
        with _arriving(added["name"]):
            print_json({"matcher": added})
        return
    may = f"{added['name']} may pull {', '.join(added['lists'] or ['all lists'])}"
    if token_file is not None:
        say(f"{may}; its token is in {token_file}")
        return
    with _arriving(added["name"]):
        say(added["token"])
    note(f"{may}; this token is shown only now: keep it in a file of mode 0600", kind="note")


@contextmanager
def _arriving(name: str) -> Iterator[None]:
    """What is printed within must be seen now, or never: also a reader that has gone is told of."""
    try:
        yield
        flush()
    except (OutputError, BrokenPipeError) as error:
        what = error.message if isinstance(error, OutputError) else "nobody reads the output"
        raise OutputError(f"{what}; {name} was added", hint=_lost(name)) from error


def _lost(name: str) -> str:
    return f"its token is lost: `syncd matchers revoke {name}`, then add it again"


def _write(path: Path, token: str, name: str) -> None:
    from syncd.files import PRIVATE_FILE, install_bytes

    try:
        install_bytes(path, f"{token}\n".encode(), PRIVATE_FILE)
    except StoreError as error:
        raise StoreError(f"{error.message}; {name} was added", hint=_lost(name)) from error


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
    from syncd.operate import matchers as pipeline

    with _catalog(settings, "syncd matchers revoke") as catalog:
        pipeline.revoke(catalog, name, asked_by=actor(), now=utc_now())


@contextmanager
def _catalog(settings: Any, purpose: str) -> "Iterator[Catalog]":
    """The catalog, while nobody else changes the state."""
    from syncd.catalog.catalog import Catalog

    folder = state_folder(settings)
    with sole_writer(folder, purpose), Catalog.open(folder.catalog) as catalog:
        yield catalog
