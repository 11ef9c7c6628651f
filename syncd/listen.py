"""Addresses to listen on (``HOST:PORT``, ``[HOST]:PORT``, or ``unix:`` and an absolute path), and listening sockets."""

import contextlib
import errno
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
_HINTS: Final = {
    errno.EADDRINUSE: "stop the other process that uses this port, or choose another port",
    errno.EADDRNOTAVAIL: "choose an address of this machine",
    errno.EACCES: "choose a port from 1024, which every user may use,",
}
_SYNTAX: Final = 'write "127.0.0.1:8470", "[::1]:8470" or "unix:/run/syncd/http.sock"'


@dataclass(frozen=True)
class Address:
    """A host and a port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @property
    def local(self) -> bool:
        """True if the address can be reached only from this machine."""
        return self.path is not None or is_loopback(self.host)

    def url(self, *, tls: bool) -> str:
        """Return the URL for clients: scheme and authority."""
        if self.path is not None:
            return f"{_UNIX}{self.path}"
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if tls else 'http'}://{shown}:{self.port}"


def parse(text: str) -> Address:
    """Parse an address. Raises `UsageError`. Port 0 means any free port."""
    if text.startswith(_UNIX):
        path = Path(text.removeprefix(_UNIX))
        if not path.is_absolute():
            raise UsageError("the path of a unix socket must be absolute", hint=_SYNTAX)
        if len(str(path).encode()) > _LONGEST_SOCKET:
            raise UsageError(
                f"the path of a unix socket has more than {_LONGEST_SOCKET} bytes",
                hint="choose a shorter path: this is the kernel's limit for sockets (unix(7))",
            )
        return Address(path=path)
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not port.isascii() or int(port) > _MAX_PORT:
        raise UsageError("not an address to listen on", hint=_SYNTAX)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UsageError("an IPv6 address must be in brackets", hint=_SYNTAX)
    return Address(host, int(port))


def is_loopback(host: str) -> bool:
    """Return True for ``localhost`` and loopback addresses."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def listening(host: str, port: int, setting: str) -> Iterator[socket.socket]:
    """Yield a listening socket. Raises `StoreError`, which names ``setting``, the key or option of the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)  # `create_server` adds the address to it
        raise StoreError(
            f"cannot listen on {host} port {port}: {reason}",
            hint=_HINTS.get(error.errno or 0, "choose another address") + f" with {setting}",
        ) from error
    with listener:
        # Connections inherit this option. asyncio sets it only on sockets that name their protocol, which these do not.
        # Without it, an answer of two packets waits 40 ms for the acknowledgement of the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener
