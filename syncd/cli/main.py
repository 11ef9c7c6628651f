"""The command line: runs what it was asked for, and says what went wrong.

Every module that a command needs beyond its own is imported by its function, so that ``syncd --help`` stays quick.
"""

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer
from typer.main import get_command

from syncd.cli.commands import app
from syncd.cli.output import OutputError, flush, output_error, show_error, tolerate
from syncd.errors import SyncdError, UsageError

_INTERRUPTED: Final = 130
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_DAEMON_PACKAGES: Final = frozenset({"sqlalchemy", "alembic", "apscheduler", "structlog", "starlette", "uvicorn"})


def run() -> None:
    """The entry point of the console script."""
    _open_streams()
    # Else pydantic searches every package there is for plugins, at each start, and runs what it finds.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    sys.exit(main(sys.argv[1:]))


def _open_streams() -> None:
    """Open a standard stream that the caller closed (``>&-``) to nowhere, and let none fail for a character."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - open as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        tolerate(stream)


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
        command = get_command(app(arguments[0] if arguments else ""))
        code = command.main(args=list(arguments), prog_name="syncd", standalone_mode=False)
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
