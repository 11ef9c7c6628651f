"""The operator's end of the control socket. Light: no part of the daemon is imported.

A request is one line of JSON, and so is each answer; ``docs/operations.md`` names them.
"""

import json
import socket
from collections.abc import Generator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from syncd.errors import RefusedError, StoreError, SyncdError, error_named

CONNECT_WITHIN: Final = 10.0
"""Seconds for the daemon to take the request; for its answers nobody hurries it, since a sync has its own deadline."""
MAX_LINE: Final = 16 << 20

Answers = Generator[dict[str, Any], None, None]
"""Close it where it is not read to its end."""


def ask(path: Path, request: Mapping[str, Any], within: float | None = None) -> Answers | None:
    """The daemon's answers, as they come, each ``within`` so many seconds; None where no daemon listens.

    Raises `RefusedError` where the socket is not for this user, `StoreError` where it cannot be used or the daemon ends
    before the answer does.
    """
    connection = _connect(path, within)
    if connection is None:
        return None
    return _answers(connection, path, request)


def answers(path: Path, state_dir: str, within: float) -> bool:
    """Whether the daemon of that state does; one that refuses, since too many ask at once, is alive."""
    try:
        found = ask(path, {"do": "ping", "state_dir": state_dir}, within)
        return found is not None and any("end" in answer for answer in found)
    except SyncdError:
        return False


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
        raise RefusedError(
            f"{path}: this user may not give orders to the daemon",
            hint="join the group of that socket, then log in anew",
        ) from None
    except OSError as error:
        connection.close()
        raise StoreError(f"cannot reach the daemon at {path}: {error.strerror or error}", hint=_SEE_LOG) from error
    return connection


_SEE_LOG: Final = "see its log; is it stuck?"


def _answers(connection: socket.socket, path: Path, request: Mapping[str, Any]) -> Answers:
    with closing(connection), connection.makefile("rb") as reader:
        try:
            with suppress(BrokenPipeError):  # it refused without reading, as where too many ask: that can be heard
                connection.sendall(json.dumps(request).encode() + b"\n")
            while line := reader.readline(MAX_LINE):
                answer = json.loads(line)
                yield answer
                if "end" in answer:
                    return
        except (OSError, ValueError) as error:
            raise StoreError(f"the daemon at {path} broke off", hint=_SEE_LOG) from error
    raise StoreError(f"the daemon at {path} ended before it had answered", hint="`syncd status` tells what was done")


def error_of(document: Mapping[str, Any]) -> SyncdError:
    """An error that the daemon told, as `syncd.errors.error_document` wrote it."""
    return error_named(*(str(document[key]) for key in ("kind", "message", "to_do", "still_served")))
