"""A server as a syncd's: a feed folder below ``/feed/``, and beside it an API that misbehaves where it is told to.

with serve(folder) as peer:
    peer.behave(refusal(503, Retry_After="7"))
"""

import json
import queue
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

STREAM: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n"
_REASONS = {200: "OK", 204: "No Content", 302: "Found", 401: "No", 403: "No", 404: "Not Found", 503: "Later"}

Behaviour = Callable[["EventPeer", socket.socket], None]
"""Answers a request for events."""


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def refusal(status: int, body: bytes = b"no", **headers: str) -> Behaviour:
    """One fixed answer."""
    return lambda _, connection: connection.sendall(answer(status, body, **headers))


def streaming(content: bytes = b"", *, end: bool = False) -> Behaviour:
    """A stream of these bytes, and then silence, or its end."""

    def behave(peer: "EventPeer", connection: socket.socket) -> None:
        if end:
            connection.sendall(STREAM + content)
        else:
            peer.hold(connection, STREAM + content)

    return behave


def following(peer: "EventPeer", connection: socket.socket) -> None:
    """As it should be: the newest versions, then each as it happens."""
    peer.hold(connection, STREAM + b"retry: 100\n\n" + b"".join(peer.event(*one) for one in peer.versions.items()))


def dripping(head: bytes) -> Behaviour:
    """One byte now and then, of a line that never ends."""

    def behave(peer: "EventPeer", connection: socket.socket) -> None:
        connection.sendall(head)
        while not peer.stopped.wait(0.02):
            connection.sendall(b"x")

    return behave


@dataclass
class EventPeer:
    """What the server does, and what was asked of it."""

    folder: Path
    url: str
    versions: dict[str, int] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)
    asked: "queue.Queue[dict[str, str]]" = field(default_factory=queue.Queue)
    """the headers of each request for events"""
    check_ins: "queue.Queue[dict[str, Any]]" = field(default_factory=queue.Queue)
    pulls: "queue.Queue[float]" = field(default_factory=queue.Queue)
    """when each pull began"""
    pull_count: int = 0
    check_in_status: int = 204
    feed_lock: threading.Event = field(default_factory=threading.Event)
    _behaviour: Behaviour = following
    _streams: list[socket.socket] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        self.feed_lock.set()

    def behave(self, behaviour: Behaviour) -> None:
        """Answer so from now on."""
        self._behaviour = behaviour

    def event(self, name: str, version: int) -> bytes:
        """An event on the wire."""
        self._number += 1
        data = json.dumps({"list": name, "version": version})
        return f"id: epoch-{self._number}\nevent: published\ndata: {data}\n\n".encode()

    def tell(self, name: str, version: int) -> None:
        """Tell all streams of a version."""
        self.versions[name] = version
        self.send(self.event(name, version))

    def send(self, content: bytes) -> None:
        """Send bytes to all streams."""
        for one in list(self._streams):
            with suppress(OSError):
                one.sendall(content)

    def drop(self) -> None:
        """Break all streams."""
        for one in list(self._streams):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def hold(self, connection: socket.socket, content: bytes = b"") -> None:
        """Send this, and keep a stream open until it is closed by either side."""
        self._streams.append(connection)  # first: whoever has read the content may break the stream
        try:
            connection.sendall(content)
            while not self.stopped.is_set():
                readable, _, _ = select.select([connection], [], [], 0.02)
                if readable and not connection.recv(1024):
                    return
        finally:
            self._streams.remove(connection)

    def handle(self, method: str, path: str, headers: dict[str, str], body: bytes, connection: socket.socket) -> None:
        """Answer one request."""
        if path == "/api/v1/events":
            self.asked.put(headers)
            self._behaviour(self, connection)
        elif path == "/api/v1/checkin" and method == "POST":
            self.check_ins.put({**json.loads(body), "token": headers.get("authorization")})
            if self.check_in_status:
                connection.sendall(answer(self.check_in_status))
            else:  # no answer at all
                self.hold(connection)
        else:
            self._file(path, connection)

    def _file(self, path: str, connection: socket.socket) -> None:
        if path.endswith("/timestamp.json"):
            self.pull_count += 1
            self.pulls.put(time.monotonic())
            self.feed_lock.wait(30)
        file = self.folder / path.removeprefix("/feed/")
        connection.sendall(answer(200, file.read_bytes()) if file.is_file() else answer(404))


@contextmanager
def serve(folder: Path) -> Iterator[EventPeer]:
    """Serve ``folder`` on a port of its own."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # whoever asked has gone
                method, path, _ = self.rfile.readline().decode().split()
                headers = dict(self._headers())
                body = self.rfile.read(int(headers.get("content-length", 0)))
                peer.handle(method, path, headers, body, self.request)

        def _headers(self) -> Iterator[tuple[str, str]]:
            while line := self.rfile.readline().decode().strip():
                name, _, value = line.partition(":")
                yield name.lower(), value.strip()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        peer = EventPeer(folder, f"http://127.0.0.1:{server.server_address[1]}/feed/")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield peer
        finally:
            peer.stopped.set()
            peer.feed_lock.set()
            server.shutdown()
            thread.join()
