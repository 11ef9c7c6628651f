"""Client of the control socket. Light: it imports no part of the daemon.

A request is one line of JSON, and so is each answer. ``docs/operations.md`` lists them.
"""

import json
import socket
from collections.abc import Generator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from syncd.errors import RefusedError, StoreError, SyncdError, error_named
from syncd.users import group_name, this_user

GROUP: Final = "syncd-operators"
"""The group whose members may use the socket."""
CONNECT_WITHIN: Final = 10.0
"""Seconds for the daemon to take the request. Its answers have no limit by default: a sync has its own deadline."""
MAX_LINE: Final = 16 << 20

Answers = Generator[dict[str, Any], None, None]
"""Close it if you do not read it to its end."""


def ask(path: Path, request: Mapping[str, Any], within: float | None = None) -> Answers | None:
    """Return the daemon's answers as they come, each within ``within`` seconds. None if no daemon listens.

    Raises `RefusedError` if this user may not open the socket, `StoreError` if the socket cannot be used or the daemon
    ends before its answer is complete.
    """
    connection = _connect(path, within)
    if connection is None:
        return None
    return _answers(connection, path, request)


def responds(path: Path, state_dir: str, within: float) -> bool:
    """Return True if the daemon of that state answers. A daemon that refuses because it is busy is alive too."""
    try:
        found = ask(path, {"do": "ping", "state_dir": state_dir}, within)
        return found is not None and any("end" in answer for answer in found)
    except SyncdError:
        return False


def listens(path: Path) -> bool:
    """Return True if a daemon listens on the socket ``path``, or if this user may not connect to find out."""
    try:
        connection = _connect(path, CONNECT_WITHIN)
    except SyncdError:
        return True
    if connection is None:
        return False
    connection.close()
    return True


def _connect(path: Path, within: float | None) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_WITHIN)
        connection.connect(str(path))
        connection.settimeout(within)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        connection.close()
        return None
    except PermissionError:
        connection.close()
        raise _not_permitted(path) from None
    except OSError as error:
        connection.close()
        raise StoreError(f"cannot reach the daemon at {path}: {error.strerror or error}", hint=_SEE_LOG) from error
    return connection


def _not_permitted(path: Path) -> RefusedError:
    user = this_user()
    add = f"as root: usermod -aG {GROUP} {user}; then log in again"
    if _group(path) != GROUP:
        add = f"the daemon could not give its socket to {GROUP}: create that group, put the daemon's user into it, "
        add += f"restart the daemon, and put {user} into it as well"
    return RefusedError(
        f"{user} may not use {path}: only members of the group {GROUP} may ask the daemon or give it orders", hint=add
    )


def _group(path: Path) -> str:
    """Return the group that owns the socket; the usual one if that cannot be seen."""
    try:
        return group_name(path.stat().st_gid)
    except OSError:
        return GROUP


_SEE_LOG: Final = "see the daemon's log; restart it if it hangs"


def _answers(connection: socket.socket, path: Path, request: Mapping[str, Any]) -> Answers:
    with closing(connection), connection.makefile("rb") as reader:
        try:
            with suppress(BrokenPipeError):  # a busy daemon refuses before it reads the request: read its refusal
                connection.sendall(json.dumps(request).encode() + b"\n")
            while line := reader.readline(MAX_LINE):
                answer = json.loads(line)
                yield answer
                if "end" in answer:
                    return
        except (OSError, ValueError) as error:
            raise StoreError(f"lost the connection to the daemon at {path}", hint=_SEE_LOG) from error
    raise StoreError(
        f"the daemon at {path} ended before it had answered",
        hint="`syncd status` shows whether the request was carried out",
    )


def error_of(document: Mapping[str, Any]) -> SyncdError:
    """Return the error in an answer of the daemon, as `syncd.errors.error_document` wrote it."""
    return error_named(*(str(document[key]) for key in ("kind", "message", "to_do", "still_served")))
