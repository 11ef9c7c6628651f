"""The command line: what it offers, and what it says when something goes wrong.

Every module that a command needs beyond these is imported by the command, so that ``syncd --help`` stays quick.
"""

import errno
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from typer.main import get_command

from syncd import __version__
from syncd.cli import (
    daemon,
    feed,
    feed_status,
    history,
    lookup,
    match,
    matchers,
    operator,
    pull,
    repair,
    rotate,
    status,
    sync,
    verify,
)
from syncd.cli.output import OutputError, flush, output_error, show_error
from syncd.errors import SyncdError, UsageError

_INTERRUPTED: Final = 130
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_DAEMON_PACKAGES: Final = frozenset({"sqlalchemy", "alembic", "apscheduler", "structlog", "starlette", "uvicorn"})

app = typer.Typer(
    name="syncd",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"syncd {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _syncd(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """Signed hash-list deltas in, verified and versioned snapshots out.

    \b
    Partners publish:    syncd feed init, feed publish, feed status, feed serve
    and change keys:     syncd feed rotate, feed add-role, feed renew
    Operators follow:    syncd init, run, sync, status, snapshots, diff
    and look after it:   syncd verify, backup, recover, retrust
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


feed.app.command("status")(feed_status.status)
feed.app.command("rotate")(rotate.rotate)
feed.app.command("add-role")(rotate.add_role)
feed.app.command("renew")(rotate.renew)
app.add_typer(feed.app, name="feed")
app.command("init")(operator.init)
app.command("run")(daemon.run)
app.command("sync")(sync.sync)
app.command("status")(status.status)
app.command("snapshots")(status.snapshots)
app.command("diff")(history.diff)
app.command("verify")(verify.verify)
app.command("backup")(repair.backup)
app.command("recover")(repair.recover)
app.command("retrust")(repair.retrust)
app.add_typer(matchers.app, name="matchers")
app.command("pull")(pull.pull)
app.command("lookup")(lookup.lookup)
app.command("match")(match.match)
if importlib.util.find_spec("syncd.cli.demo"):
    app.command("demo")(importlib.import_module("syncd.cli.demo").demo)


def run() -> None:
    """The entry point of the console script."""
    _open_streams()
    sys.exit(main(sys.argv[1:]))


def _open_streams() -> None:
    """A standard stream that the caller closed (``>&-``) is as one to nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - open as long as the process lives


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Every error is shown here, and none as a traceback."""
    try:
        return _run(arguments)
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone, as `head` does: end quietly
        _hang_up()
        return 1
    except OutputError as error:
        _hang_up()
        show_error(error)
        return error.exit_code


def _run(arguments: Sequence[str]) -> int:
    """Run one command; raises `OutputError` and `BrokenPipeError` where its output is lost."""
    try:
        code = get_command(app).main(args=list(arguments), prog_name="syncd", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort, BrokenPipeError, OutputError):
        raise
    except Exception as error:  # the last line of defence: a traceback at a user is a bug
        known = _explained(error)
        if isinstance(known, OutputError):
            raise known from error
        show_error(known, as_json="--json" in arguments)
        code = known.exit_code
    flush()
    return code or 0


def _hang_up() -> None:
    """What is left to write goes nowhere, also when Python flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explained(error: Exception) -> SyncdError:
    """Any exception as an error that a user can act on."""
    match error:
        case SyncdError():
            return error
        case typer.TyperException():
            return _usage(error)
        case ModuleNotFoundError() if (error.name or "").partition(".")[0] in _DAEMON_PACKAGES:
            return UsageError(
                f"this command needs the package {error.name}", hint="pip install 'syncd[daemon]' brings what it needs"
            )
        case OSError() if error.filename is None and error.errno in _FULL:  # typer writes help by itself
            return output_error(error)
        case OSError():
            return _storage(error)
    return _internal(error)


def _usage(error: typer.TyperException) -> UsageError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "syncd"
    return UsageError(error.format_message(), hint=f"`{command} --help` says how")


def _storage(error: OSError) -> SyncdError:
    from syncd.errors import StoreError
    from syncd.files import storage

    try:
        with storage(Path(str(error.filename or "a file")), "use"):
            raise error
    except StoreError as explained:
        return explained


def _internal(error: Exception) -> SyncdError:
    """Its own words may hold a digest: only a developer who asks sees them."""
    if os.environ.get("SYNCD_DEBUG") == "1":
        traceback.print_exception(error, file=sys.stderr)
    return SyncdError(
        f"internal error ({type(error).__name__})",
        hint="a bug in syncd: run again with SYNCD_DEBUG=1 and report what it prints, without the secrets in it",
    )
