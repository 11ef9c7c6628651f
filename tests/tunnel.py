"""An HTTP proxy that opens tunnels (CONNECT), and a server with TLS behind it."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Tunnel:
    """A proxy. ``requests`` are its CONNECT requests; ``names`` maps the names that it alone can resolve to ports."""

    def __init__(self, names: Mapping[str, int], status: int, context: ssl.SSLContext | None) -> None:
        self.names, self.status, self.requests = names, status, list[str]()
        self._listener, self._context = socket.create_server(("127.0.0.1", 0)), context
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"{'https' if context else 'http'}://{self.host}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError), self._secured(accepted) as client:
            request = b""
            while b"\r\n\r\n" not in request:
                received = client.recv(4096)
                if not received:
                    return
                request += received
            self.requests.append(request.decode())
            target = request.split()[1].decode()
            if self.status != 200 or target not in self.names:
                client.sendall(f"HTTP/1.1 {self.status} Refused\r\nContent-Length: 0\r\n\r\n".encode())
                return
            with socket.create_connection(("127.0.0.1", self.names[target])) as peer:
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                threading.Thread(target=_copy, args=(client, peer), daemon=True).start()
                _copy(peer, client)

    def _secured(self, accepted: socket.socket) -> socket.socket:
        return self._context.wrap_socket(accepted, server_side=True) if self._context else accepted


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while received := source.recv(65536):
            target.sendall(received)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def tunnel(
    names: Mapping[str, int], status: int = 200, certificate: tuple[Path, Path] | None = None
) -> Iterator[Tunnel]:
    """Run a proxy that knows ``names``, or answers every request with another ``status``; it may speak TLS."""
    context = _server_context(certificate) if certificate else None
    with contextlib.closing(Tunnel(names, status, context)) as proxy:
        yield proxy


def _server_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context


@dataclass(frozen=True)
class Served:
    """A server with TLS: its port, and each request as the line and the headers."""

    port: int
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def served(folder: Path, certificate: tuple[Path, Path], redirect: str = "") -> Iterator[Served]:
    """Serve ``folder`` with TLS, or redirect every request to an address."""
    context = _server_context(certificate)
    requests: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(f"{self.requestline}\n{self.headers}")
            if not redirect:
                return super().do_GET()
            self.send_response(302)
            self.send_header("Location", redirect)
            self.send_header("Content-Length", "0")
            return self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield Served(server.server_address[1], requests)
        finally:
            server.shutdown()
            thread.join()
