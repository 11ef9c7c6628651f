"""HTTP on loopback with a script of faults, for all fake partners."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from partners.model import Model


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass(frozen=True)
class Reply:
    """An answer of a fake."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = "application/json"
    sent: int | None = None
    """bytes of the body to send before the connection breaks; None: all"""


Fault = Callable[[Reply], Reply | None]
"""Turns a good answer into what is sent; None breaks the connection without an answer."""


def status(code: int, **headers: str) -> Fault:
    """An error status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: Reply(b"no", code, named, "text/plain")


def cut_body(reply: Reply) -> Reply:
    """A body cut in half that claims to be all: 200, with a fitting length."""
    return Reply(reply.body[: len(reply.body) // 2], 200, kind=reply.kind)


def broken_body(reply: Reply) -> Reply:
    """A connection that breaks in the middle of the body."""
    return Reply(reply.body, kind=reply.kind, sent=len(reply.body) // 2)


def no_answer(_: Reply) -> None:
    """A connection that breaks at once."""


class FakePartner:
    """A server. Subclasses implement `answer`."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.asked: list[Asked] = []
        self.sent: list[bytes] = []
        """the bodies of all answers"""
        self.faults: dict[int, Fault] = {}
        """by number of the request, from 0"""
        self.before: dict[int, Callable[[], None]] = {}
        """run before the request of this number is answered"""
        self.stops_at: int | None = None
        """every request from this number on has its connection broken"""
        self.url = ""

    def answer(self, asked: Asked) -> Reply:
        """Answer one request."""
        raise NotImplementedError

    def handle(self, asked: Asked) -> Reply | None:
        """Answer one request as the script has it."""
        number = len(self.asked)
        self.asked.append(asked)
        if number in self.before:
            self.before.pop(number)()
        if self.stops_at is not None and number >= self.stops_at:
            return None
        reply = self.answer(asked)
        self.sent.append(reply.body)
        fault = self.faults.pop(number, None)
        return fault(reply) if fault else reply

    def restart(self, model: Model) -> None:
        """Forget everything, and serve another model at the same address."""
        self.model = model
        self.asked.clear()
        self.sent.clear()
        self.faults.clear()
        self.before.clear()
        self.stops_at = None

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Serve until the end of the block."""

        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                fake._serve(self)

            do_POST = do_PUT = do_GET  # noqa: N815 - the names that the base class looks for

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(fake.model.now, usegmt=True)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *arguments: Any) -> None:
                if not isinstance(sys.exception(), ConnectionError):  # a client that was killed
                    super().handle_error(*arguments)

        server = Server(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        reply = self.handle(Asked(handler.command, handler.path, headers, handler.rfile.read(length)))
        if reply is None:
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        handler.send_header("Content-Type", reply.kind)
        handler.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(reply.body[: reply.sent])
        if reply.sent is not None:
            handler.close_connection = True
