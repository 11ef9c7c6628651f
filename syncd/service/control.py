"""The control socket: each request is one line of JSON, and so is each answer. Access to the file is the permission.

The kernel identifies the user (SO_PEERCRED, unix(7)), whose name goes into the audit log.
"""

import contextlib
import grp
import json
import os
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from syncd import events
from syncd.errors import RefusedError, StoreError, SyncdError, UsageError, error_document
from syncd.event import Emit
from syncd.files import make_folder, storage
from syncd.service.client import GROUP
from syncd.users import user_name

MODE: Final = 0o660

_MAX_REQUEST: Final = 16 << 20
"""100,000 suppressions at once fit."""
_MAX_CLIENTS: Final = 32
_BACKLOG: Final = 1024
"""Lets hundreds connect at once and be refused with a message; the kernel refuses the rest."""
_CLIENT_TIMEOUT: Final = 10.0
"""Seconds for the request to arrive, and for each answer to be read, so that an idle client cannot block others."""
_CREDENTIALS: Final = struct.Struct("3i")


class OrderedCorrection(BaseModel):
    """A digest to suppress, as ``ALG:HEX``, or one entry of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    digest: Annotated[str, Field(repr=False)]
    entry: Annotated[str | None, Field(repr=False)] = None
    line: int = 0
    """the line of the file that names it; 0: it was not read from a file"""


class Order(BaseModel):
    """One request. ``state_dir`` names the daemon that it is for; another daemon does nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    do: str
    state_dir: str = ""
    source: str | None = None
    dry_run: bool = False
    wait: bool = True
    sync_id: str = ""
    name: str = ""
    lists: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    hold: int = 0
    sha256: str = ""
    """the hash of the hold's rows, as the client was shown them; "": not compared"""
    reason: str = ""
    arguments: dict[str, JsonValue] = Field(default_factory=dict, repr=False)
    """of a question; those of a look-up are secret"""
    corrections: tuple[OrderedCorrection, ...] = ()
    list: str | None = None
    expires_at: AwareDatetime | None = None
    forever: bool = False
    ahead: bool = False
    suppressions: tuple[int, ...] = ()
    ended: bool = False
    version: int = 0
    exact: bool = False
    time: AwareDatetime | None = None
    accepted: str = ""
    """the code that an earlier attempt asked for"""
    mirror: bool = False


Answers = Generator[dict[str, Any], None, None]
Handle = Callable[[Order, str], Iterator[dict[str, Any]]]
"""Carries out an order for the named user and yields the answers. May raise `SyncdError`."""


class ControlSocket:
    """Listens at ``path`` from `open` to `close`."""

    def __init__(self, path: Path, handle: Handle, emit: Emit) -> None:
        self.path, self._handle, self._emit = path, handle, emit
        self._clients = 0
        self._change = threading.Condition()
        self._server: _ControlServer | None = None

    def open(self) -> None:
        """Begin to listen. Raises `RefusedError` if another process does, `StoreError` if the folder cannot be used."""
        remove_stale_socket(self.path)
        make_folder(self.path.parent)
        with storage(self.path, "listen at"):
            self._server = _ControlServer(str(self.path), self._serve)
        thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="syncd-control", daemon=True
        )
        thread.start()

    def close(self) -> None:
        """Stop listening and remove the socket. Answers in progress go on."""
        if self._server is not None:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _serve(self, connection: socket.socket) -> None:
        user = peer(connection)
        with contextlib.suppress(OSError):  # the client has gone; its order is still carried out, its question is not
            connection.settimeout(_CLIENT_TIMEOUT)
            with self._slot() as admitted:
                if not admitted:
                    busy = RefusedError(
                        "the daemon is busy with too many requests", hint="run the command again in a moment"
                    )
                    _send(connection, _refusal(busy))
                    return
                with contextlib.closing(self._answers(connection, user)) as answers:
                    for answer in answers:
                        _send(connection, answer)

    @contextlib.contextmanager
    def _slot(self) -> Iterator[bool]:
        """Count this client while it is answered. Yields False if there are too many."""
        with self._change:
            self._clients += 1
            admitted = self._clients <= _MAX_CLIENTS
        try:
            yield admitted
        finally:
            with self._change:
                self._clients -= 1
                self._change.notify_all()

    def drain(self, seconds: float) -> None:
        """Wait up to ``seconds`` for clients to read their last answers."""
        with self._change:
            self._change.wait_for(lambda: not self._clients, seconds)

    def _answers(self, connection: socket.socket, user: str) -> Answers:
        try:
            with connection.makefile("rb") as reader:
                order = parse_order(reader.readline(_MAX_REQUEST))
            yield from self._handle(order, user)
        except SyncdError as error:
            self._emit(events.ControlRefused(user, error.message))
            yield _refusal(error)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - a bug in one request must not end the daemon
            self._emit(events.InternalError.of(error, "control socket"))
            yield _refusal(SyncdError(f"internal error ({type(error).__name__})", hint="see the daemon's log"))


class _ControlServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = _BACKLOG

    def __init__(self, address: str, serve: Callable[[socket.socket], None]) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                serve(self.request)

        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Keep the socket private until its group is set: fchmod before bind decides the mode that bind gives."""
        os.fchmod(self.socket.fileno(), 0o600)
        super().server_bind()
        path = str(self.server_address)
        with contextlib.suppress(KeyError, PermissionError):  # no such group, or we may not give it
            os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
        os.chmod(path, MODE)  # noqa: PTH101 - next to os.chown, which pathlib lacks

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no traceback: `ControlSocket` reports errors."""


def peer(connection: socket.socket) -> str:
    """Return the user at the other end, by name if there is one."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(raw)
    return user_name(user)


def remove_stale_socket(path: Path) -> None:
    """Remove a stale socket left by a killed daemon. We hold the state lock, so no live daemon of this state owns it.

    Raises `RefusedError` if another process listens there, `StoreError`.
    """
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with storage(path, "remove"):
                path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise StoreError(f"cannot use {path}: {error.strerror or error}", hint="configure another path") from error
    raise RefusedError(f"another daemon listens at {path}", hint="configure a path of its own for each daemon")


def parse_order(line: bytes) -> Order:
    """Parse a request. Raises `UsageError`."""
    try:
        return Order.model_validate_json(line)
    except ValidationError:
        raise UsageError(
            "not a valid request", hint="use the same version of syncd for the command and the daemon"
        ) from None


def _refusal(error: SyncdError) -> dict[str, Any]:
    return {"error": error_document(error), "end": error.exit_code}


def _send(connection: socket.socket, answer: dict[str, Any]) -> None:
    connection.sendall(json.dumps(answer).encode() + b"\n")
