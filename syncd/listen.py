"""Where a server listens: ``HOST:PORT``, ``[HOST]:PORT``, or ``unix:`` and an absolute path; and listening there."""

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from syncd.errors import StoreError, UsageError

_MAX_PORT: Final = 65535
_LONGEST_SOCKET: Final = 107
_UNIX: Final = "unix:"
_HOW: Final = 'write "127.0.0.1:8470", "[::1]:8470" or "unix:/run/syncd/http.sock"'


@dataclass(frozen=True)
class Address:
    """A host and a port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @property
    def local(self) -> bool:
        """Whether nobody beyond this machine can reach it."""
        return self.path is not None or is_loopback(self.host)

    def url(self, *, tls: bool) -> str:
        """As a client writes it, without what follows the authority."""
        if self.path is not None:
            return f"{_UNIX}{self.path}"
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if tls else 'http'}://{shown}:{self.port}"


def parse(text: str) -> Address:
    """Read an address; raises `UsageError`. Port 0 is any that is free."""
    if text.startswith(_UNIX):
        return _unix(Path(text.removeprefix(_UNIX)))
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not port.isascii() or int(port) > _MAX_PORT:
        raise UsageError("not an address to listen at", hint=_HOW)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UsageError("an IPv6 address without brackets", hint=_HOW)
    return Address(host, int(port))


def _unix(path: Path) -> Address:
    if not path.is_absolute():
        raise UsageError("the path of a unix socket is not absolute", hint=_HOW)
    if len(str(path).encode()) > _LONGEST_SOCKET:
        raise UsageError(f"longer than {_LONGEST_SOCKET} bytes", hint="the kernel takes no longer address (unix(7))")
    return Address(path=path)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens. Raises `StoreError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise StoreError(
            f"cannot listen on {host} port {port}: {_reason(error)}", hint="is another process using it?"
        ) from error
    with listener:
        # Connections inherit it. asyncio sets it only on sockets that name their protocol, which these do not; without
        # it, an answer of two packets waits 40 ms for the acknowledgement of the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _reason(error: OSError) -> str:
    """The system's words alone: `socket.create_server` adds the address to them."""
    return os.strerror(error.errno) if error.errno else str(error)
