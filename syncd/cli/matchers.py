"""``syncd matchers``: who may pull, and which version each has loaded."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.cli.operator import ConfigFile, load_config, sole_writer, state_folder
from syncd.cli.orders import give
from syncd.cli.output import JsonFlag, note, print_json, say, show_table, utc_now
from syncd.cli.repair import actor
from syncd.errors import StoreError, UsageError
from syncd.units import ago, span, stamp

if TYPE_CHECKING:
    from syncd.catalog.catalog import Catalog
    from syncd.catalog.records import MatcherRecord
    from syncd.pipeline.laggards import Standing

app = typer.Typer(rich_markup_mode=None)

MatcherName = Annotated[str, typer.Argument(metavar="NAME", help="The matcher.")]
_NAMED: Final = 5
"""Laggards of one matcher that are named."""


@dataclass(frozen=True)
class Row:
    """One matcher as `matchers` shows it."""

    matcher: "MatcherRecord"
    standings: "tuple[Standing, ...]"

    @property
    def instances(self) -> "dict[str, list[Standing]]":
        """Its instances, and what each has loaded."""
        found: dict[str, list[Standing]] = {}
        for one in self.standings:
            found.setdefault(one.loaded.instance, []).append(one)
        return found

    @property
    def laggards(self) -> "dict[str, list[Standing]]":
        """Those that are behind, or silent."""
        return {name: found for name, found in self.instances.items() if any(one.lags for one in found)}

    @property
    def seen_at(self) -> datetime | None:
        """When any of them was heard of last."""
        return max((one.loaded.seen_at for one in self.standings), default=None)


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

    now = utc_now()
    with Catalog.open(state_folder(load_config(config)).catalog) as catalog:
        rows = _read(catalog, now)
    if as_json:
        print_json({"matchers": [_document(row) for row in rows]})
    else:
        _show(rows, now)


def _read(catalog: "Catalog", now: datetime) -> list[Row]:
    from syncd.pipeline.laggards import BEHIND_AFTER, standings

    found = standings(catalog.loaded(), catalog.due_versions(now - BEHIND_AFTER), now)
    return [Row(one, tuple(each for each in found if each.loaded.matcher == one.name)) for one in catalog.matchers()]


def _document(row: Row) -> dict[str, Any]:
    return {
        "name": row.matcher.name,
        "lists": row.matcher.lists,
        "created_at": stamp(row.matcher.created_at),
        "created_by": row.matcher.created_by,
        "seen_at": stamp(row.seen_at) if row.seen_at else None,
        "behind": sum(any(one.behind for one in found) for found in row.instances.values()),
        "silent": sum(found[0].silent for found in row.instances.values()),
        "instances": [_instance_document(name, found) for name, found in row.instances.items()],
    }


def _instance_document(name: str, found: "Sequence[Standing]") -> dict[str, Any]:
    return {
        "instance": name,
        "seen_at": stamp(found[0].loaded.seen_at),
        "silent": found[0].silent,
        "lists": [
            {
                "list": one.loaded.list,
                "version": one.loaded.version,
                "loaded_at": stamp(one.loaded.loaded_at),
                "due": one.due,
                "behind": one.behind,
            }
            for one in found
        ],
    }


def _show(rows: Sequence[Row], now: datetime) -> None:
    if not rows:
        say("no matcher may pull: `syncd matchers add NAME` lets one")
        return
    red = frozenset(number for number, row in enumerate(rows) if row.laggards)
    columns = ("name", "lists", "created", "instances#", "loaded", "behind#", "last seen")
    show_table(columns, [_table_row(row, now) for row in rows], red)
    for row in rows:
        _name_laggards(row, now)


def _table_row(row: Row, now: datetime) -> tuple[str, ...]:
    lists = ", ".join(row.matcher.lists) if row.matcher.lists else "all"
    seen = ago(now - row.seen_at) if row.seen_at else "never"
    created = stamp(row.matcher.created_at)[:10]
    loaded = "; ".join(f"{name} {_versions(found)}" for name, found in _by_list(row.standings).items())
    return row.matcher.name, lists, created, str(len(row.instances)), loaded, str(len(row.laggards)), seen


def _by_list(found: "Sequence[Standing]") -> dict[str, set[int]]:
    versions: dict[str, set[int]] = {}
    for one in found:
        versions.setdefault(one.loaded.list, set()).add(one.loaded.version)
    return dict(sorted(versions.items()))


def _versions(found: set[int]) -> str:
    return str(min(found)) if len(found) == 1 else f"{min(found)}-{max(found)}"


def _name_laggards(row: Row, now: datetime) -> None:
    for name, found in list(row.laggards.items())[:_NAMED]:
        note(f"{row.matcher.name}: {name} {_why(found, now)}")
    more = len(row.laggards) - _NAMED
    if more > 0:
        note(f"{row.matcher.name}: and {more:,} more; --json names all")


def _why(found: "Sequence[Standing]", now: datetime) -> str:
    if found[0].silent:
        return f"was not heard of for {span(now - found[0].loaded.seen_at)}"
    return "has " + ", ".join(
        f"{one.loaded.list} {one.loaded.version} and should have {one.due}" for one in found if one.behind
    )


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
