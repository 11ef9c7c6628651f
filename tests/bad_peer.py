"""An HTTP server that serves a folder, and misbehaves at the paths it is told to.

with serve(folder) as peer:
    peer.fault("*.arrow", truncated(10))
"""

import fnmatch
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Send = Callable[[bytes], None]
Fault = Callable[[Send, bytes], None]
"""Answers a request, given how to send and what should have been sent."""

_REASONS = {
    200: "OK",
    302: "Found",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Error",
}


def head(status: int, length: int | None, **headers: str) -> bytes:
    """Status line and headers."""
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


def good(send: Send, body: bytes) -> None:
    """What is there."""
    send(head(200, len(body)) + body)


def answer(status: int, body: bytes = b"no", **headers: str) -> Fault:
    """One fixed answer."""
    return lambda send, _: send(head(status, len(body), **headers) + body)


def page(send: Send, body: bytes) -> None:
    """A log-in page, as a portal between answers."""
    content = b"<!doctype html><title>Please log in</title>"
    send(head(200, len(content), Content_Type="text/html") + content)


def forbidden_page(send: Send, body: bytes) -> None:
    """The page of a firewall in front of the server."""
    content = b"<!doctype html><title>Attention required</title>"
    send(head(403, len(content), Content_Type="text/html; charset=utf-8") + content)


def endless(send: Send, body: bytes) -> None:
    """A body without end, nor a length."""
    send(head(200, None) + body)
    while True:
        send(b" " * (1 << 20))


def dripping_body(send: Send, body: bytes) -> None:
    """One byte of the body now and then."""
    send(head(200, len(body)))
    for byte in body:
        send(bytes([byte]))
        time.sleep(0.05)


def dripping_headers(send: Send, body: bytes) -> None:
    """One byte of a header now and then."""
    send(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        send(b"x")
        time.sleep(0.05)


def silent(send: Send, body: bytes) -> None:
    """Not a word, for longer than anybody should wait here."""
    time.sleep(3)


def truncated(send: Send, body: bytes) -> None:
    """The right length announced, and half of the bytes."""
    send(head(200, len(body)) + body[: len(body) // 2])


def longer(send: Send, body: bytes) -> None:
    """A Content-Length that is not that of the file, and as many bytes."""
    send(head(200, len(body) + 7) + body + b"x" * 7)


def flipped(send: Send, body: bytes) -> None:
    """The right length, and one other bit in the middle."""
    changed = bytearray(body)
    changed[len(body) // 2] ^= 1
    good(send, bytes(changed))


class BadPeer:
    """What the server does; ``requests`` are the paths asked for."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.requests: list[str] = []
        self._faults: dict[str, Fault] = {}

    def fault(self, pattern: str, fault: Fault) -> None:
        """Answer so wherever a path fits."""
        self._faults[pattern] = fault

    def mend(self) -> None:
        """Answer everything properly from now on."""
        self._faults.clear()
        self.requests.clear()

    def handle(self, path: str, send: Send) -> None:
        """Answer one request."""
        self.requests.append(path)
        file = self.folder / path
        found = next((fault for pattern, fault in self._faults.items() if fnmatch.fnmatch(path, pattern)), None)
        if found:
            found(send, file.read_bytes() if file.is_file() else b"{}")
        elif file.is_file():
            good(send, file.read_bytes())
        else:
            answer(404)(send, b"")


@contextmanager
def serve(folder: Path) -> Iterator[BadPeer]:
    """Serve ``folder`` on a port of its own."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline().split()
            while self.rfile.readline().strip():
                pass
            with suppress(OSError):  # whoever asked has gone
                peer.handle(line[1].decode().lstrip("/"), self.request.sendall)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        peer = BadPeer(folder, f"http://127.0.0.1:{server.server_address[1]}/")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield peer
        finally:
            server.shutdown()
            thread.join()
