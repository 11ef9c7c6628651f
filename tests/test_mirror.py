"""`syncd mirror` as real processes: a daemon, a mirror, a mirror of that mirror, and hosts that pull from them."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import httpx
import pytest

from command_line import syncd
from test_daemon import SYNCD, today
from test_daemon_web import serve
from web_site import bearer
from world import HEAD, World, row

__all__ = ["today"]  # a fixture

pytestmark = pytest.mark.timeout(400)  # up to four processes each, on a machine that may be busy

METRICS = "metrics-token-0123456789"


@dataclass
class Started:
    """A process, and the lines of its two outputs as they come."""

    process: subprocess.Popen[str]
    out: "SimpleQueue[str]" = field(default_factory=SimpleQueue)
    err: "SimpleQueue[str]" = field(default_factory=SimpleQueue)

    def __post_init__(self) -> None:
        for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err)):
            Thread(target=self._read, args=(stream, lines), daemon=True).start()

    @staticmethod
    def _read(stream: Any, lines: "SimpleQueue[str]") -> None:
        for line in stream:
            lines.put(line)

    def event(self, name: str) -> dict[str, Any]:
        """The next event of this name."""
        while True:
            document = json.loads(self.err.get(timeout=60))
            if document["event"] == name:
                return dict(document)

    def said(self, text: str) -> str:
        """The next line with this text."""
        while text not in (line := self.out.get(timeout=60)):
            pass
        return line

    def url(self) -> str:
        """Where a mirror serves."""
        return self.said("mirroring ").split()[-1]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@contextmanager
def process(*arguments: object) -> Iterator[Started]:
    command = [*SYNCD, *map(str, arguments)]
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as started:
        try:
            yield Started(started)
        finally:
            started.kill()


def token(world: World, name: str, *options: str) -> Path:
    """Make a token by command, as an operator does; the file that holds it."""
    path = world.base / f"{name}.token"
    assert syncd("matchers", "add", name, "--token-file", path, *options).code == 0
    return path


def mirror(world: World, name: str, upstream: str, tokens: Path, *more: object) -> Any:
    """A mirror's process."""
    (world.base / "metrics.token").write_text(METRICS)
    return process(
        *("mirror", upstream, "--root", world.operator_root, "--dir", world.base / name, "--listen", "127.0.0.1:0"),
        *("--token-file", tokens, "--metrics-token-file", world.base / "metrics.token", "--instance", f"{name}.1"),
        *more,
    )


def watching(world: World, url: str, tokens: Path, name: str = "copy") -> Any:
    """A matcher's host that follows a mirror."""
    return process(
        *("pull", url, "--root", world.operator_root, "--dir", world.base / name, "--token-file", tokens),
        *("--watch", "--interval", "1h", "--instance", "web-3"),
    )


def until(condition: Callable[[], bool]) -> None:
    """Wait until something came to be."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def instances() -> dict[str, tuple[str | None, int]]:
    """What the operator's daemon shows: of each instance the mirror that it came by, and its version."""
    return {
        instance["instance"]: (instance["via"], instance["lists"][0]["version"])
        for matcher in syncd("matchers", "--json").json["matchers"]
        for instance in matcher["instances"]
    }


def status(url: str, tokens: Path, path: str = "/feed/metadata/timestamp.json") -> int:
    """The answer to a request with this token."""
    address = httpx.URL(url).join(path)
    return httpx.get(address, headers=bearer(tokens.read_text().strip()), timeout=30).status_code


def get(url: str, path: str, held: str = "") -> str:
    """The text of an answer."""
    return httpx.get(httpx.URL(url).join(path), headers=bearer(held) if held else {}, timeout=30).text


def test_a_publication_arrives_through_two_levels_and_check_ins_come_back(today: World) -> None:
    """A matcher behind a mirror of a mirror follows the daemon; the daemon shows it, and both mirrors."""
    with serve(today) as daemon, ExitStack() as stack:
        assert syncd("sync").code == 0
        web, first, second = token(today, "web"), token(today, "eu", "--mirror"), token(today, "eu-2", "--mirror")
        near = stack.enter_context(mirror(today, "near", f"{daemon.url}/feed/", first))
        far = stack.enter_context(mirror(today, "far", near.url(), second))
        host = stack.enter_context(watching(today, far.url(), web))
        host.said(f"{HEAD} version 1, new here")
        today.publish(add=[row(99)])
        assert syncd("sync").code == 0
        host.said(f"{HEAD} version 2, was 1")
        assert today.hits(99)
        until(lambda: instances() == {"web-3": ("eu/eu-2", 2), "near.1": (None, 2), "far.1": ("eu", 2)})
        assert host.stop() == 0
        until(lambda: "web-3" not in instances())
        assert [far.stop(), near.stop(signal.SIGINT)] == [0, 0]
        daemon.stop()


def test_a_revocation_arrives_at_every_level_at_once(today: World) -> None:
    """With an event: the stream that the token holds at the far mirror ends, and nothing more is sent to it."""
    with serve(today) as daemon, ExitStack() as stack:
        assert syncd("sync").code == 0
        web, first, second = token(today, "web"), token(today, "eu", "--mirror"), token(today, "eu-2", "--mirror")
        near = stack.enter_context(mirror(today, "near", f"{daemon.url}/feed/", first)).url()
        far = stack.enter_context(mirror(today, "far", near, second)).url()
        late = token(today, "late")
        until(lambda: status(far, late) == 200)
        events, headers = httpx.URL(far).join("/api/v1/events"), bearer(web.read_text().strip())
        with httpx.stream("GET", events, headers=headers, timeout=60) as response:
            lines = response.iter_lines()
            assert 'data: {"list":"iwf.images","version":1}' in lines
            began = time.monotonic()
            assert syncd("matchers", "revoke", "web").code == 0
            assert all(line.startswith(":") or not line for line in lines)  # to its end
            assert time.monotonic() - began < 15  # a poll alone would take longer on average
        assert [status(near, web), status(far, web), status(far, late)] == [401, 401, 200]


def test_without_its_upstream_a_mirror_serves_on(today: World) -> None:
    """The state and the tokens that it has, after a restart too; it takes up the work when the upstream is back."""
    with ExitStack() as stack:
        with serve(today) as daemon:
            upstream = f"{daemon.url}/feed/"
            assert syncd("sync").code == 0
            web, first, operator = token(today, "web"), token(today, "eu", "--mirror"), today.base / "operator"
            edge = stack.enter_context(mirror(today, "near", upstream, first))
            url = edge.url()
            until(lambda: "tokens: confirmed" in get(url, "/readyz"))
            daemon.stop()
        assert status(url, web) == 200
        edge.process.kill()
        edge.process.wait(30)
        again = stack.enter_context(mirror(today, "near", upstream, first))
        url = again.url()
        event = again.event("mirror_not_updated")
        assert (event["rejected"], event["still_served"]) == (False, f"{HEAD} version 1")
        assert [status(url, web), status(url, operator)] == [200, 401]
        host = stack.enter_context(watching(today, url, web))
        host.said(f"{HEAD} version 1, new here")
        assert get(url, "/healthz") == "ok\n"
        assert get(url, "/readyz") == (
            "ready: 1 list\nupdated: not since the start\ntokens: not confirmed since the start\n"
        )
        assert 'syncd_mirror_list_version{list="iwf.images"} 1.0' in get(url, "/metrics", METRICS)
        assert status(url, web, "/metrics") == 403
        port = httpx.URL(upstream).port
        with serve(today, listen=f"127.0.0.1:{port}") as daemon:
            today.publish(add=[row(99)])
            assert syncd("sync").code == 0
            host.said(f"{HEAD} version 2, was 1")
            until(lambda: instances().get("web-3") == ("eu", 2))
            daemon.stop()


def test_a_mirror_whose_token_is_revoked_admits_nobody(today: World) -> None:
    """So that a mirror is switched off from the daemon, whoever runs it."""
    with serve(today) as daemon, ExitStack() as stack:
        assert syncd("sync").code == 0
        web, first = token(today, "web"), token(today, "eu", "--mirror")
        edge = stack.enter_context(mirror(today, "near", f"{daemon.url}/feed/", first))
        url = edge.url()
        assert status(url, web) == 200
        assert syncd("matchers", "revoke", "eu").code == 0
        assert "answered 401" in edge.event("mirror_refused")["message"]
        assert status(url, web) == 401
        assert get(url, "/healthz") == "ok\n"


def test_a_mirror_that_is_killed_while_pulling_serves_the_version_before(today: World) -> None:
    """At once when it starts again, and whole; what had arrived is not fetched twice."""
    with serve(today) as daemon, slow_line(daemon.url) as line, ExitStack() as stack:
        assert syncd("sync").code == 0
        web, first = token(today, "web"), token(today, "eu", "--mirror")
        edge = stack.enter_context(mirror(today, "near", f"{line.url}/feed/", first))
        url = edge.url()
        line.hold.set()
        today.publish(add=[row(99)])
        assert syncd("sync").code == 0
        assert line.held.wait(60)
        edge.process.kill()
        edge.process.wait(30)
        line.held.clear()
        again = stack.enter_context(mirror(today, "near", f"{line.url}/feed/", first))
        url = again.url()
        assert line.held.wait(60)
        host = stack.enter_context(watching(today, url, web))
        host.said(f"{HEAD} version 1, new here")
        line.hold.clear()
        host.said(f"{HEAD} version 2, was 1")
        assert today.hits(99)


def test_a_mirror_without_an_upstream_says_what_is_wrong(today: World) -> None:
    """At the first start: another kind of token, another root, no daemon, no TLS."""
    with serve(today) as daemon:
        assert syncd("sync").code == 0
        web, first = token(today, "web"), token(today, "eu", "--mirror")
        feed = ("--root", today.operator_root, "--dir", today.base / "near", "--listen", "127.0.0.1:0")
        ran = syncd("mirror", f"{daemon.url}/feed/", *feed, "--token-file", web)
        assert (ran.code, ran.err.splitlines()[0].endswith("answered 403 to mirror/access")) == (5, True)
        ran = syncd("mirror", f"{daemon.url}/", *feed, "--token-file", first)
        assert (ran.code, "a mirror asks it which tokens to admit" in ran.err) == (2, True)
        other = ("--root", today.root, "--dir", today.base / "other", "--listen", "127.0.0.1:0")
        assert syncd("mirror", f"{daemon.url}/feed/", *other, "--token-file", first).code == 4
        open_to_all = (*feed[:-1], "0.0.0.0:0")
        ran = syncd("mirror", f"{daemon.url}/feed/", *open_to_all, "--token-file", first)
        assert (ran.code, ran.err.splitlines()[1]) == (
            2,
            "  to do: give --tls-cert, --tls-key, or listen on 127.0.0.1",
        )
        url = f"{daemon.url}/feed/"
        daemon.stop()
    assert syncd("mirror", url, *feed, "--token-file", first).code == 5


@dataclass
class SlowLine:
    """A line to a daemon on which segments are held back while ``hold`` is set."""

    url: str
    hold: Event = field(default_factory=Event)
    held: Event = field(default_factory=Event)
    """set once a segment was asked for, and held back"""

    _sockets: list[socket.socket] = field(default_factory=list)
    _threads: list[Thread] = field(default_factory=list)

    def accept(self, listener: socket.socket, target: httpx.URL) -> None:
        """Pass on what comes on each connection."""
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((target.host, target.port or 0))
                for pair in ((client, server), (server, client)):
                    self._sockets.append(pair[0])
                    self._threads.append(Thread(target=self._pass_on, args=pair, daemon=True))
                    self._threads[-1].start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(1 << 16):
                if b"/segments/" in content and self.hold.is_set():
                    self.held.set()
                    until(lambda: not self.hold.is_set())
                sink.sendall(content)
        hang_up(source, sink)

    def close(self) -> None:
        """End every connection."""
        self.hold.clear()
        hang_up(*self._sockets)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()


def hang_up(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def slow_line(url: str) -> Iterator[SlowLine]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = SlowLine(f"http://127.0.0.1:{listener.getsockname()[1]}")
        accepting = Thread(target=line.accept, args=(listener, httpx.URL(url)), daemon=True)
        accepting.start()
        try:
            yield line
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            line.close()
