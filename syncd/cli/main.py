"""The command line: run one command, and report its errors."""

import errno
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer

from syncd.cli.commands import NOTHING, OF_FEED, OF_PROGRAM, program
from syncd.cli.output import OutputError, flush, note, output_error, show_error, tolerate
from syncd.errors import RESTORE_FEED, FeedError, StoreError, SyncdError, UsageError
from syncd.files import DamagedError, storage

_INTERRUPTED: Final = 130
_COLLECT_AFTER: Final = 50_000
"""Objects created between two garbage collections. With Python's default of 700, collecting took an eighth of the time
of a short command, because importing modules creates many objects that stay."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_DAEMON_PACKAGES: Final = frozenset(
    {
        "sqlalchemy",
        "alembic",
        "apscheduler",
        "structlog",
        "starlette",
        "fastapi",
        "uvicorn",
        "httptools",
        "prometheus_client",
    }
)


def run() -> None:
    """Run the console script."""
    gc.set_threshold(_COLLECT_AFTER)
    _open_streams()
    # Else pydantic searches all installed packages for plugins at each start, and runs those it finds.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    sys.exit(main(sys.argv[1:]))


def _open_streams() -> None:
    """Open a standard stream that the caller closed (``>&-``) on /dev/null; let none fail on a character."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - open as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        tolerate(stream)


def main(arguments: Sequence[str]) -> int:
    """Run one command, show its error if it fails, and return its exit code."""
    code = _run_to_end(arguments)
    if code == _INTERRUPTED:
        _note_interrupted(arguments)
    return code


def _run_to_end(arguments: Sequence[str]) -> int:
    try:
        return _run(arguments)
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `head` does: end quietly
        _hang_up()
        return 1
    except OutputError as error:
        _hang_up()
        show_error(error)
        return error.exit_code


def _note_interrupted(arguments: Sequence[str]) -> None:
    """Say what state Ctrl-C leaves, and what to do."""
    words = [word for word in arguments if not word.startswith("-")]
    places = OF_FEED if words[:1] == ["feed"] else OF_PROGRAM
    place = next((places[word] for word in words if word in places), None)
    note(place.interrupted if place else NOTHING, kind="interrupted")


def _run(arguments: Sequence[str]) -> int:
    """Run one command. Raises `OutputError` or `BrokenPipeError` if its output is lost."""
    try:
        code = program().main(args=list(arguments), prog_name="syncd", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort, BrokenPipeError, OutputError):
        raise
    except Exception as error:  # the last line of defence: no user ever sees a traceback
        known = _explained(error)
        if list(arguments[:1]) == ["feed"] and "--state" not in arguments:
            known = _of_own_feed(known)
        if isinstance(known, OutputError):
            raise known from error
        show_error(known, as_json="--json" in arguments)
        code = known.exit_code
    flush()
    return code or 0


def _hang_up() -> None:
    """Discard the rest of the output, which Python would otherwise try to flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explained(error: Exception) -> SyncdError:
    """Turn any exception into an error that a user can act on."""
    match error:
        case SyncdError():
            return error
        case typer.TyperException():
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "syncd"
            return UsageError(error.format_message(), hint=f"see `{command} --help`")
        case ModuleNotFoundError() if (error.name or "").partition(".")[0] in _DAEMON_PACKAGES:
            return UsageError(
                f"this command needs the package {error.name}", hint="install it: pip install 'syncd[daemon]'"
            )
        case OSError() if error.filename is None and error.errno in _FULL:  # typer writes help by itself
            return output_error(error)
        case OSError():
            return _storage(error)
    # The message is hidden, since it may contain a digest, unless a developer asks for the traceback.
    if os.environ.get("SYNCD_DEBUG") == "1":
        traceback.print_exception(error, file=sys.stderr)
    return SyncdError(
        f"internal error ({type(error).__name__})",
        hint="a bug in syncd: run it again with SYNCD_DEBUG=1, remove secrets from the output, and report it",
    )


def _of_own_feed(error: SyncdError) -> SyncdError:
    """Turn an error of a damaged file into one that says how a partner brings it back.

    `syncd feed` reads no other feed than the partner's own, so what it rejects was damaged on this disk.
    """
    if not isinstance(error, FeedError | DamagedError):
        return error
    return DamagedError(error.message, serving=error.serving, hint=RESTORE_FEED)


def _storage(error: OSError) -> SyncdError:
    try:
        with storage(Path(str(error.filename or "a file")), "use"):
            raise error
    except StoreError as explained:
        return explained
