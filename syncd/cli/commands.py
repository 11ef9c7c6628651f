"""Which commands there are. Their modules are imported when they are asked for, so that each starts quickly."""

from functools import cache
from importlib import import_module
from typing import Annotated, Final

import typer

from syncd import __version__

_GROUPS: Final = {"feed": ("feed", "feed_status", "rotate"), "matchers": ("matchers",), "audit": ("audit",)}
"""The modules of each; the first has its ``app``."""
_MODULES: Final = {
    "feed": "",
    "init": "operator",
    "run": "daemon",
    "sync": "sync",
    "holds": "holds",
    "release": "holds",
    "discard": "holds",
    "status": "status",
    "snapshots": "status",
    "diff": "history",
    "verify": "verify",
    "backup": "repair",
    "recover": "repair",
    "retrust": "repair",
    "retire": "retire",
    "matchers": "",
    "audit": "",
    "pull": "pull",
    "lookup": "lookup",
    "match": "match",
}
"""The module of each command, whose function has its name; none of a group."""


@cache
def app(only: str = "") -> typer.Typer:
    """All commands, or one of them where ``only`` names one."""
    found = typer.Typer(
        name="syncd",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    found.callback(invoke_without_command=True)(_syncd)
    for name in (only,) if only in _MODULES else _MODULES:
        parts = [import_module(f"syncd.cli.{module}") for module in _GROUPS.get(name, (_MODULES[name],))]
        if name in _GROUPS:
            found.add_typer(parts[0].app, name=name)
        else:
            found.command(name)(getattr(parts[0], name))
    return found


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"syncd {__version__}")
        raise typer.Exit


def _syncd(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """Signed hash-list deltas in, verified and versioned snapshots out.

    \b
    Partners publish:    syncd feed init, feed publish, feed status, feed serve, feed retire
    and change keys:     syncd feed rotate, feed add-role, feed renew
    Operators follow:    syncd init, run, sync, status, snapshots, diff
    judge what waits:    syncd holds, release, discard
    and look after it:   syncd audit, verify, backup, recover, retrust, retire
    Matchers' hosts:     syncd pull, lookup, match, verify

    \b
    Exit codes of every command:
      0    done, or already up to date
      1    internal or storage error
      2    the command line or the configuration is wrong
      3    held: authentic, but waits for an operator
      4    rejected: verification failed
      5    the source could not be reached, or the deadline passed
      6    refused: locked, or not permitted
      10   lookup and match only: nothing matched
      130  interrupted
    Of several lists or sources the first of 1, 4, 3, 6, 5, 0 that occurred.

    \b
    Environment:
      SYNCD_CONFIG  the configuration file, where --config is not given
      SYNCD_...     overrides any key of it (docs/configuration.md)
      SYNCD_DEBUG   1: show the traceback of an internal error
      NO_COLOR      no colour, ever
    """
    del version
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
