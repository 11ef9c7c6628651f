"""Counting what goes over the wire."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Relay:
    """What went through: requests, and bytes that the server sent, headers included."""

    url: str
    requests: int = 0
    received: int = 0


@contextlib.contextmanager
def counting_relay(url: str) -> Iterator[Relay]:
    """An address that passes everything on to the server at ``url`` and back."""
    target = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = Relay(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread = threading.Thread(target=_accept, args=(listener, (target.hostname, target.port), relay), daemon=True)
        thread.start()
        yield relay
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _accept(listener: socket.socket, target: tuple[str | None, int | None], relay: Relay) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.create_connection((target[0] or "", target[1] or 0))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=_pass_on, args=(*pair, relay, pair[0] is client), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket, relay: Relay, asking: bool) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(1 << 16):
            if asking:
                relay.requests += content.count(b"GET /")
            else:
                relay.received += len(content)
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
