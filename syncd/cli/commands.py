"""The commands of the program. Each is imported only when it runs, so that all start quickly and help needs none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Final, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from syncd import __version__

_CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


NOTHING: Final = "nothing was changed"
_ORDER: Final = "it may have been carried out all the same: `syncd audit` shows whether it was"
_PUBLISHING: Final = (
    "the published versions stay in force; if a publication had begun, which `syncd feed status FEED` shows, the "
    "next command finishes it"
)
_INIT: Final = "run the same command again: it continues with the keys that were made so far"
_SYNC: Final = (
    "a running daemon continues its syncs, which `syncd status` shows; without a daemon, lists that are not published "
    "yet stay at their versions, and the next sync continues from there"
)
_PULL: Final = (
    "the copy stays at its versions; files that were fetched are kept, and the next pull continues from there"
)
_CATALOG: Final = "the catalog was not moved, unless the command says so when it is run again"
_STORE: Final = "the state is used as before; run the same command again: it continues"
_KEYS: Final = (
    "the old keys stay valid unless the change was signed already, which `syncd feed status FEED` shows; if it was "
    "not, run the same command again"
)


@dataclass(frozen=True)
class Place:
    """The module of a command in this package, and in it a function, or a `typer.Typer` for a group with a module."""

    module: str
    name: str
    summary: str
    """The first line of its help, repeated here."""
    interrupted: str = NOTHING
    """The state after Ctrl-C, and what to do about it."""


OF_FEED: Final = {
    "init": Place("feed", "init", "Create a feed folder, its keys and its trust root.", _INIT),
    "publish": Place("feed", "publish", "Publish the next version of a list.", _PUBLISHING),
    "snapshots": Place("feed_history", "snapshots", "Show the versions of a feed's lists that are kept, newest first."),
    "diff": Place("feed_history", "diff", "Count the changes between two versions of a feed's list."),
    "revert": Place("feed_history", "revert", "Publish the content of an older version of a list again.", _PUBLISHING),
    "compact": Place(
        "feed", "compact", "Fold accumulated deltas into fewer files, to keep look-ups fast.", _PUBLISHING
    ),
    "sign": Place("feed", "sign", "Sign the timestamp again: followers then know that lists are current.", _PUBLISHING),
    "retire": Place("feed", "retire", "Retire a list: publish that it has ended.", _PUBLISHING),
    "serve": Place("feed_serve", "serve", "Serve a feed over HTTP until stopped."),
    "status": Place("feed_status", "status", "Show a feed's lists, and when its signatures expire."),
    "rotate": Place("rotate", "rotate", "Replace the keys of a role; the old keys are no longer accepted.", _KEYS),
    "add-role": Place("rotate", "add_role", "Give a list its own keys, and require M of them to sign.", _KEYS),
    "renew": Place("rotate", "renew", "Re-sign root and targets before they expire, with the same keys.", _KEYS),
}
OF_PROGRAM: Final = {
    "init": Place("init", "init", "Set up an operator: folders, keys and a trust root.", _INIT),
    "run": Place("daemon", "run", "Run the daemon: sync every source at its interval."),
    "sync": Place("sync", "sync", "Bring sources up to date now: fetch, verify, judge, publish.", _SYNC),
    "source": Place("source", "app", "Show the configured sources: name, type, place and interval."),
    "holds": Place("holds", "holds", "Show the holds: changes that wait for an operator's decision."),
    "release": Place("holds", "release", "Publish the rows of a hold.", _ORDER),
    "discard": Place("holds", "discard", "Refuse the rows of a hold.", _ORDER),
    "known-good": Place(
        "known_good", "known_good", "Count entries that are kept out because they are known to be good."
    ),
    "suppress": Place("suppress", "suppress", "Stop digests from matching, whatever the partner lists.", _ORDER),
    "suppressions": Place(
        "suppressions", "suppressions", "Show the suppressions in force, with reason, author and expiry."
    ),
    "unsuppress": Place(
        "suppress", "unsuppress", "End suppressions: entries that the partner still lists match again.", _ORDER
    ),
    "status": Place("status", "status", "Show every list, its age, and how its last sync ended."),
    "snapshots": Place("snapshots", "snapshots", "Show the published versions of a list, newest first."),
    "diff": Place("diff", "diff", "Count the changes between two published versions of a list."),
    "explain": Place("explain", "explain", "Explain why a digest matches, or matched."),
    "verify": Place("verify", "verify", "Verify everything on disk again, from trust root to last byte."),
    "gc": Place("collect", "gc", "Remove old files and records now, as syncs do once an hour.", _ORDER),
    "backup": Place("repair", "backup", "Write the operator's state to one file, mode 0600.", "FILE was not written"),
    "catalog": Place("catalog", "app", "Show where the catalog is, and how many rows it has.", _CATALOG),
    "store": Place("store", "app", "Show where the published files are: a folder or a bucket.", _STORE),
    "recover": Place("repair", "recover", "Continue from a restored backup, with higher version numbers.", _ORDER),
    "retrust": Place("repair", "retrust", "Accept the new trust root of a partner that rebuilt its feed.", _ORDER),
    "rollback": Place(
        "rollback", "rollback", "Publish the content of an older version of a list, and pin it there.", _ORDER
    ),
    "unpin": Place("rollback", "unpin", "Let a list that was rolled back follow its source again.", _ORDER),
    "retire": Place("retire", "retire", "Retire a list: publish that it has ended.", _ORDER),
    "clock": Place("clock", "app", "Show the clock of this host, and times in the future.", _ORDER),
    "pull": Place("pull", "pull", "Bring a copy of a feed up to date, and verify it.", _PULL),
    "mirror": Place("mirror", "mirror", "Serve a feed from near its matchers, as the daemon does."),
    "lookup": Place("lookup", "lookup", "Check whether digests are on the lists."),
    "near": Place("near", "near", "Look for digests near those given, in the lists of a pulled copy."),
    "match": Place("match", "match", "Check whether files are on the lists of a pulled copy."),
    "matchers": Place("matchers", "app", "Show the permitted matchers, and the versions they have loaded.", _ORDER),
    "audit": Place("audit", "app", "Show the audit log: who did what, newest last."),
    "alerts": Place("alerts", "alerts", "Print the alert rules for Prometheus, with links to the runbook."),
    "version": Place("version", "version", "Print the versions of syncd, of its format and of Python."),
}


class LazyCommand(TyperCommand):
    """A command known by its name and summary, imported when it is called."""

    def __init__(self, name: str, place: Place) -> None:
        super().__init__(name, help=place.summary, rich_markup_mode=None)
        self.place = place

    def load(self) -> TyperCommand | TyperGroup:
        """Import the command itself."""
        found = getattr(import_module(f"syncd.cli.{self.place.module}"), self.place.name)
        if isinstance(found, typer.Typer):
            return get_group(found)
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command(self.name)(found)
        return cast(TyperCommand, get_command(app))

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the arguments of the command itself; the context that is returned runs it."""
        return self.load().make_context(info_name, args, parent, **extra)


def program() -> TyperGroup:
    """Return the program, ``syncd``; no module of a command is imported yet."""
    found = _group(_syncd, OF_PROGRAM)
    found.add_command(_group(_feed, OF_FEED), "feed")
    return found


def _group(callback: Callable[..., None], places: Mapping[str, Place]) -> TyperGroup:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=_CONTEXT)
    app.callback(invoke_without_command=True)(callback)
    group = get_group(app)
    for name, place in places.items():
        group.add_command(LazyCommand(name, place))
    return group


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"syncd {__version__}")
        raise typer.Exit


def _syncd(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Signed hash-list deltas in, verified and versioned snapshots out.

    \b
    Partners publish:    syncd feed init, feed publish, feed status, feed serve, feed retire
    look back:           syncd feed snapshots, feed diff, feed revert
    and change keys:     syncd feed rotate, feed add-role, feed renew
    Operators follow:    syncd init, run, sync, source, status, snapshots, diff
    decide on holds:     syncd holds, release, discard
    correct mistakes:    syncd suppress, suppressions, unsuppress, rollback, unpin
    keep good files out: syncd known-good
    and maintain:        syncd matchers, audit, verify, gc, backup, recover, retrust,
                         retire, catalog, store, clock, version
    Matchers' hosts:     syncd pull, lookup, near, match, verify
    Mirrors:             syncd mirror

    \b
    Exit codes of every command:
      0    done, or already up to date
      1    internal or storage error
      2    the command line or the configuration is wrong
      3    held: authentic, but waiting for a person's decision
      4    rejected: verification failed
      5    the source is unreachable, or the deadline has passed
      6    refused: locked, or not permitted
      10   lookup, near and match only: nothing matched
      130  interrupted
    For several lists or sources: the first of 1, 4, 3, 6, 5, 0 that occurred.

    \b
    Environment:
      SYNCD_CONFIG  the configuration file, if --config is not given
      SYNCD_...     overrides any key of it (docs/configuration.md)
      SYNCD_DEBUG   1: show the traceback of an internal error
      NO_COLOR      disable colour
    """
    del version
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _feed(context: typer.Context) -> None:
    """Publish signed hash lists, as a partner does."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
