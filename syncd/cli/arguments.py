"""Values from the command line, made into what commands work with. All raise `UsageError`."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from syncd.errors import StoreError, UsageError

_MAX_PORT: Final = 0xFFFF
_MAX_TOKEN: Final = 4096
_MAX_ROOT: Final = 1 << 20


def named_file(path: Path, limit: int, what: str) -> bytes:
    """The content of a file that the command line names."""
    from syncd.files import read_bytes

    try:
        return read_bytes(path, limit)
    except StoreError as error:
        raise UsageError(f"{what}: {error.message}", hint="check the path given") from error


def root(path: Path) -> bytes:
    """A trust root."""
    return named_file(path, _MAX_ROOT, "the trust root")


def token(path: Path | None) -> str | None:
    """The token in a file."""
    if path is None:
        return None
    found = named_file(path, _MAX_TOKEN, "the token").decode(errors="replace").strip()
    if not found:
        raise UsageError(f"{path} holds no token", hint="write one into it, such as by `openssl rand -hex 32`")
    return found


def address(listen: str) -> tuple[str, int]:
    """``HOST:PORT``, an IPv6 address in brackets."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        raise UsageError("--listen is not HOST:PORT", hint="such as 127.0.0.1:8470 or [::1]:8470")
    return host.removeprefix("[").removesuffix("]"), int(port)


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """The hint for a name that is none."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean {close[0]}?" if close else f"known {what}s: {', '.join(names) or 'none'}"
