"""Values from the command line, made into what commands work with. All raise `UsageError`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from syncd.errors import RefusedError, StoreError, UsageError

LARGEST: Final = 2**53 - 1
"""Of versions: as in manifests, which any JSON reader has to understand."""
MOST_KEYS: Final = 100
"""Of a role: nobody gathers more custodians."""
_MAX_PORT: Final = 0xFFFF
_MAX_TOKEN: Final = 4096
_MAX_ROOT: Final = 1 << 20


def named_file(path: Path, limit: int, what: str) -> bytes:
    """The content of a file that the command line names."""
    from syncd.files import read_bytes

    try:
        return read_bytes(path, limit)
    except StoreError as error:
        raise UsageError(f"{what}: {error.message}", hint="check the path, and that this user may read it") from error


def root(path: Path) -> bytes:
    """A trust root. Whether it vouches for anything is not asked here."""
    content = named_file(path, _MAX_ROOT, "the trust root")
    if not _is_root(content):
        raise UsageError(f"{path} is no trust root", hint="name the feed's root.json as it was obtained out of band")
    return content


def _is_root(content: bytes) -> bool:
    try:
        return bool(json.loads(content)["signed"]["_type"] == "root")
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Say that the caller may not read ``folder``, where that is why its files cannot be read."""
    try:
        yield
    except (PermissionError, StoreError) as error:
        if not isinstance(error.__cause__ or error, PermissionError):
            raise
        message = error.message if isinstance(error, StoreError) else f"cannot read {error.filename}: {error.strerror}"
        raise RefusedError(message, hint=f"run as a user that may read all of {folder}") from error


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
