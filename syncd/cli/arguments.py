"""Arguments that several commands share, and parsers for their values. All parsers raise `UsageError`."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from syncd.clock import EXAMPLE
from syncd.errors import RefusedError, StoreError, UsageError
from syncd.files import read_bytes
from syncd.units import count

LARGEST: Final = 2**53 - 1
"""The highest version: as in manifests, which any JSON reader has to parse."""
MOST_KEYS: Final = 100
"""Keys of a role: nobody gathers more custodians."""
Feed = Annotated[Path, typer.Argument(metavar="FEED", help="The folder of the feed.")]
OnlineKeys = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The keys for daily signing; default: FEED.keys, beside FEED."),
]
SignWith = Annotated[
    list[str] | None, typer.Option(metavar="FILE", help="A key of a list with its own keys; may be repeated.")
]
PublishedList = Annotated[str, typer.Argument(metavar="LIST", help="A published list, such as iwf.images.")]
_MAX_PORT: Final = 0xFFFF
_MAX_TOKEN: Final = 4096
_MAX_STDIN: Final = 1 << 20
_MAX_ROOT: Final = 1 << 20


def named_file(path: Path, limit: int, what: str) -> bytes:
    """Read a file that the command line names."""
    try:
        return read_bytes(path, limit)
    except StoreError as error:
        raise UsageError(f"{what}: {error.message}", hint="check the path, and that this user may read it") from error


def root(path: Path) -> bytes:
    """Read a trust root. Its signatures are not checked here."""
    content = named_file(path, _MAX_ROOT, "the trust root")
    if not _is_root(content):
        raise UsageError(
            f"{path} is not a trust root", hint="name the feed's root.json, as you obtained it out of band"
        )
    return content


def _is_root(content: bytes) -> bool:
    try:
        return bool(json.loads(content)["signed"]["_type"] == "root")
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Raise `RefusedError` if a file below ``folder`` cannot be read because this user lacks the permission."""
    try:
        yield
    except (PermissionError, StoreError) as error:
        if not isinstance(error.__cause__ or error, PermissionError):
            raise
        message = error.message if isinstance(error, StoreError) else f"cannot read {error.filename}: {error.strerror}"
        raise RefusedError(message, hint=f"run as a user that may read all of {folder}") from error


def token(path: Path | None) -> str | None:
    """Read the token in a file."""
    if path is None:
        return None
    content = named_file(path, _MAX_TOKEN, "the token").decode(errors="replace").strip()
    if not content:
        raise UsageError(
            f"{path} holds no token", hint="write the token into it; `openssl rand -hex 32` prints a new one"
        )
    return content


def clock_time(text: str, name: str) -> datetime:
    """Parse a time that must state its zone, since a clock that is wrong by hours is often set to local time."""
    try:
        parsed = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(f"{name} is not a time", hint=f"for example {EXAMPLE}; nothing was changed") from None
    if parsed.tzinfo is None:
        raise UsageError(
            f"{name} does not name its time zone", hint=f"end it with Z for UTC, as in {EXAMPLE}; nothing was changed"
        )
    try:
        return parsed.astimezone(UTC)
    except OverflowError:
        raise UsageError(f"{name} is not a time", hint=f"for example {EXAMPLE}; nothing was changed") from None


def digest_of(text: str, hint: str = "write one ALG:HEX to it") -> str:
    """Return the one digest that was given; ``-`` reads it from standard input, so that it is not in the arguments.

    ``hint``: if it has more lines, or none.
    """
    if text != "-":
        return text
    try:
        lines = [line.strip() for line in sys.stdin.read(_MAX_STDIN).splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise UsageError("standard input is not text", hint="write one ALG:HEX to it") from None
    if len(lines) != 1:
        raise UsageError(f"standard input has {count(len(lines), 'line')} instead of one digest", hint=hint)
    return lines[0]


def address(listen: str) -> tuple[str, int]:
    """Parse ``HOST:PORT``, an IPv6 address in brackets."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        raise UsageError("--listen is not HOST:PORT", hint="for example 127.0.0.1:8470 or [::1]:8470")
    return host.removeprefix("[").removesuffix("]"), int(port)


def not_a_stream(path: Path | None) -> Path | None:
    """Refuse ``-`` as the name of a file to write: elsewhere it stands for a standard stream. Raises `UsageError`."""
    if str(path) == "-":
        raise UsageError("the name of a file is needed, not -", hint="name a file; nothing was changed")
    return path
