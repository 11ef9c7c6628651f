"""An HTTP proxy that opens tunnels (CONNECT), and a server with TLS behind it."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Tunnel:
    """A proxy. ``requests`` are its CONNECT requests; ``names`` maps the names that it alone can resolve to ports."""

    def __init__(self, names: Mapping[str, int], status: int) -> None:
        self.names, self.status, self.requests = names, status, list[str]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.host = self.url.removeprefix("http://")
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
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


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while received := source.recv(65536):
            target.sendall(received)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def tunnel(names: Mapping[str, int], status: int = 200) -> Iterator[Tunnel]:
    """Run a proxy that knows ``names``, or answers every request with another ``status``."""
    with contextlib.closing(Tunnel(names, status)) as proxy:
        yield proxy


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path, certificate: tuple[Path, Path]) -> Iterator[int]:
    """Serve ``folder`` with TLS; yield the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
