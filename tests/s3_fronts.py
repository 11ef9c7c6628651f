"""Servers for tests of the bucket: one that ignores conditions, and one that breaks requests to a real one."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import httpx

_HOP: Final = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"})

Fault = Callable[[str, str, bool], str]
"""Receives method, path and whether the request is conditional; returns what goes wrong, '' if nothing does:

"cut": it never arrives; "lost": it is carried out, and the answer is lost; "answer N": it is not carried out, and
answered with the status N; "after N": it is carried out, and answered with N; "silent": no answer comes.
"""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        pass

    def do_GET(self) -> None:
        self.serve()

    def do_HEAD(self) -> None:
        self.serve()

    def do_PUT(self) -> None:
        self.serve()

    def do_POST(self) -> None:
        self.serve()

    def serve(self) -> None:
        raise NotImplementedError

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def _running(handler: type[_Handler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Liar(_Handler):
    """Keeps files in memory, and ignores some conditions."""

    ignored: tuple[str, ...]
    files: dict[str, bytes]
    lock: threading.Lock

    def serve(self) -> None:
        content = self.body()
        if self.command == "PUT":
            self._put(content)
        elif self.command == "POST":
            self.answer(200, b"<DeleteResult></DeleteResult>")
        elif (held := self.files.get(self.path)) is None:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self.answer(200, held, ETag=_tag(held), Last_Modified="Mon, 30 Nov 2026 02:14:31 GMT")

    def _put(self, content: bytes) -> None:
        with self.lock:
            refused = self._is_refused(self.headers["if-none-match"], self.headers["if-match"])
            if not refused:
                self.files[self.path] = content
        self.answer(412) if refused else self.answer(200, ETag=_tag(content))

    def _is_refused(self, none_match: str | None, match: str | None) -> bool:
        held = self.files.get(self.path)
        if none_match is not None and "create" not in self.ignored:
            return held is not None
        if match is None:
            return False
        if held is None:
            return "absent" not in self.ignored
        return _tag(held) != match and "tag" not in self.ignored


@contextmanager
def liar(*ignored: str) -> Iterator[str]:
    """Run an S3 server that ignores conditions: "create", "tag", "absent". Yield its address."""
    with _running(type("Liar", (_Liar,), {"ignored": ignored, "files": {}, "lock": threading.Lock()})) as address:
        yield address


def _tag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


class _Front(_Handler):
    """Hands requests on to ``upstream``, unless ``fault`` says otherwise."""

    upstream: httpx.Client
    fault: Fault
    end: threading.Event

    def serve(self) -> None:
        content = self.body()
        conditional = "if-match" in self.headers or "if-none-match" in self.headers
        wrong, _, status = type(self).fault(self.command, self.path, conditional).partition(" ")
        if wrong == "answer":
            self.answer(int(status), b"<Error><Code>OfTheTest</Code></Error>")
        elif wrong in {"cut", "silent"}:
            self.end.wait(60.0 if wrong == "silent" else 0.0)
            self.close_connection = True
        else:
            answered = self.upstream.request(
                self.command, self.path, content=content, headers=dict(self.headers.items())
            )
            self._hand_on(answered, wrong, status)

    def _hand_on(self, answered: httpx.Response, wrong: str, status: str) -> None:
        if wrong == "lost":
            self.close_connection = True
            return
        if wrong == "after":
            self.answer(int(status))
            return
        self.send_response(answered.status_code)
        for name, value in answered.headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        length = answered.headers.get("content-length") if self.command == "HEAD" else len(answered.content)
        self.send_header("content-length", str(length or 0))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answered.content)


@contextmanager
def breaking(endpoint: str, fault: Fault) -> Iterator[str]:
    """Run a server that hands requests on to a real one, unless ``fault`` says otherwise. Yield its address."""
    end = threading.Event()
    with httpx.Client(base_url=endpoint, timeout=60.0) as upstream:
        front = type("Front", (_Front,), {"upstream": upstream, "fault": staticmethod(fault), "end": end})
        with _running(front) as address:
            try:
                yield address
            finally:
                end.set()
