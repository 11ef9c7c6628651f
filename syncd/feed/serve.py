"""A server for a feed folder, as partners use it. No request is logged: paths name lists, and headers hold tokens."""

import contextlib
import hashlib
import hmac
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from syncd.errors import UsageError
from syncd.feed.offer import CHANGING, NO_STORE, InMemory, file_response, is_known
from syncd.listen import Address, is_loopback, listening

_SECONDS_TO_FINISH: Final = 5


def build_app(folder: Path, token: str | None = None) -> Starlette:
    """The application that serves ``folder``; with ``token``, only to those who send it as a bearer token."""
    routes = [Route("/{path:path}", _ServedFiles(folder, token).answer, methods=["GET"])]
    return Starlette(routes=routes, exception_handlers={404: _no_route})


def _not_found() -> Response:
    return PlainTextResponse("not found\n", 404, {"Cache-Control": NO_STORE})


async def _no_route(request: Request, error: Exception) -> Response:
    """A path that not even the router takes."""
    del request, error
    return _not_found()


class _ServedFiles:
    def __init__(self, folder: Path, token: str | None) -> None:
        self._folder = folder.resolve()
        self._token = None if token is None else _digest(token)
        self._changing = {path: InMemory(self._folder, path) for path in CHANGING}

    async def answer(self, request: Request) -> Response:
        """Answer one request; GET and HEAD get here."""
        if not self._admitted(request):
            headers = {"WWW-Authenticate": "Bearer", "Cache-Control": NO_STORE}
            return PlainTextResponse("unauthorised\n", 401, headers)
        path = request.scope["path"].removeprefix("/")  # the router's parameter loses a line break at its end
        response = self._small(path) if path in CHANGING else file_response(self._folder, path)
        if response is None:
            return _not_found()
        return _unless_known(request, response)

    def _admitted(self, request: Request) -> bool:
        if self._token is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # Digests of one length: the time that comparing takes tells nothing of the token, not even how long it is.
        return hmac.compare_digest(_digest(given.strip()), self._token) and scheme.lower() == "bearer"

    def _small(self, path: str) -> Response | None:
        found = self._changing[path].read()
        if found is None:
            return None
        content, tag = found
        return Response(content, headers={"Cache-Control": NO_STORE, "ETag": tag}, media_type="application/json")


def _unless_known(request: Request, response: Response) -> Response:
    """304 where the client holds this very file (RFC 9110, 13.1.2)."""
    asked = request.headers.get("if-none-match", "")
    if is_known(response.headers["etag"], asked):
        kept = {name: response.headers[name] for name in ("etag", "cache-control")}
        return Response(status_code=304, headers=kept)
    return response


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def check_exposure(host: str, *, tls: bool, token: bool) -> None:
    """Beyond this machine a feed goes out encrypted and to those who are let in only. Raises `UsageError`."""
    if not is_loopback(host) and not (tls and token):
        raise UsageError(
            f"{host} is not on this machine only: without TLS and a token anybody could read the feed",
            hint="give --tls-cert, --tls-key and --token-file, or listen on 127.0.0.1",
        )


def serve(
    folder: Path,
    host: str,
    port: int,
    *,
    token: str | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    announce: Callable[[str], None],
) -> None:
    """Serve ``folder`` until SIGTERM or SIGINT, then finish what is being sent and return.

    ``announce`` is told the address once it listens. Raises `UsageError` where the address is open to others without
    TLS and token, or the certificate cannot be used, and `StoreError` where the address cannot be had.
    """
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("a certificate and its key belong together", hint="give --tls-cert and --tls-key, or neither")
    check_exposure(host, tls=tls_cert is not None, token=token is not None)
    server = _FeedServer(_settings(folder, token, tls_cert, tls_key))
    with listening(host, port) as listener:
        announce(_url(listener, tls=tls_cert is not None))
        server.run_until_told(listener)


@contextlib.contextmanager
def running_server(folder: Path, token: str | None = None) -> Iterator[str]:
    """Serve ``folder`` on a free port of this machine from a thread; yields the address. For tests and the demo."""
    server = _FeedServer(_settings(folder, token, None, None))
    with listening("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="syncd-serve", daemon=True)
        thread.start()
        server.ready.wait()
        try:
            yield _url(listener, tls=False)
        finally:
            server.should_exit = True
            thread.join()


class _FeedServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell when it can be stopped again."""
        await super().startup(sockets)
        self.ready.set()

    def run_until_told(self, listener: socket.socket) -> None:
        """Run in the main thread. uvicorn raises the signal that stopped it once more at the end: it is done with."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.run(sockets=[listener])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.should_exit = True


def _settings(folder: Path, token: str | None, tls_cert: Path | None, tls_key: Path | None) -> uvicorn.Config:
    config = uvicorn.Config(
        build_app(folder, token),
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
        access_log=False,
        log_config=None,
        log_level="error",
        server_header=False,
        headers=[("server", "syncd")],
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"the certificate {tls_cert} or its key cannot be used", hint="both are PEM files") from error
    return config


def _url(listener: socket.socket, *, tls: bool) -> str:
    host, port = listener.getsockname()[:2]
    return f"{Address(host, port).url(tls=tls)}/"
