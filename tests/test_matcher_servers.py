"""A service in gunicorn or uvicorn: workers that end check out, so the operator waits for none of them."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from event_peer import EventPeer, serve
from world import IMAGES, Clock, World, rows

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
WSGI = """
import os

from syncd.matcher import Feed, Matcher

feed = Feed("https://syncd.example.org/feed/", instance="web")
matcher = Matcher.open("/var/lib/hashes", root="/etc/hashes/root.json", feed=feed)
matcher.watch(feed=feed)


def application(environ, start_response):
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""
ASGI = """
from starlette.applications import Starlette

from syncd.matcher import Feed, Matcher

feed = Feed("https://syncd.example.org/feed/", instance="web")
{lifespan}

application = Starlette(lifespan=lifespan)
"""


@dataclass
class Service:
    """A server that runs, and the instances that its operator knows."""

    process: "subprocess.Popen[bytes]"
    peer: EventPeer
    path: str
    known: set[str] = field(default_factory=set)

    @property
    def parent(self) -> str:
        """The instance of the process that forks the workers, if it has one."""
        return f"web.{self.process.pid}"

    def until(self, count: int, gone: Collection[str] = ()) -> set[str]:
        """Read check-ins until the operator knows ``count`` instances, and none of those that are ``gone``."""
        while len(self.known) != count or not self.known.isdisjoint(gone):
            check_in = self.peer.check_ins.get(timeout=60)
            (self.known.add if check_in["lists"] else self.known.discard)(check_in["instance"])
        return set(self.known)

    def ask(self) -> str:
        """Ask the service; return the instance that answered."""
        connection = http.client.HTTPConnection("service")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.path)
        connection.request("GET", "/")
        return f"web.{connection.getresponse().read().decode()}"


@contextmanager
def running(base: Path, service: str, *command: str) -> Iterator[Service]:
    """Run ``service`` in a server, with a feed and an operator."""
    world = World(base, Clock(datetime.now(UTC)))
    world.publish(full=rows(0, 9))
    world.follow()
    path = str(base / "socket")
    with serve(world.partner.root) as peer:
        peer.versions = {IMAGES: 1}
        for place, here in (
            ("https://syncd.example.org/feed/", peer.url),
            ("/var/lib/hashes", str(world.mirror)),
            ("/etc/hashes/root.json", str(world.root)),
        ):
            service = service.replace(place, here)
        (base / "service.py").write_text(service)
        started = [sys.executable, "-m", *command, "service:application"]
        with subprocess.Popen(started, cwd=base, start_new_session=True) as process:
            try:
                yield Service(process, peer, path)
            finally:
                with suppress(ProcessLookupError):  # all have ended, unless the test failed
                    os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("options", [("--preload",), ("--worker-class", "gthread")], ids=" ".join)
def test_a_worker_of_gunicorn_that_ends_checks_out(tmp_path: Path, options: tuple[str, ...]) -> None:
    """After a reload, its last request, a timeout, or a stop; without a hook."""
    gunicorn = ("gunicorn", "--workers", "2", "--max-requests", "1", "--no-control-socket", "--bind", "unix:socket")
    with running(tmp_path, WSGI, *gunicorn, *options) as service:
        count = 3 if "--preload" in options else 2
        first = service.until(count)
        service.process.send_signal(signal.SIGHUP)
        second = service.until(count, gone=first - {service.parent})
        third = service.until(count, gone={service.ask()})
        assert third != second
        victim = min(third - {service.parent})
        os.kill(int(victim.removeprefix("web.")), signal.SIGABRT)  # as gunicorn does after --timeout
        service.until(count, gone={victim})
        service.process.terminate()
        assert service.until(0) == set()
        assert service.process.wait(60) == 0


def test_a_worker_of_uvicorn_that_ends_checks_out(tmp_path: Path) -> None:
    """With the lifespan of docs/python.md: uvicorn ends its processes by the signal that stops them."""
    (lifespan,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "lifespan" in block)
    uvicorn = ("uvicorn", "--workers", "2", "--uds", "socket")
    with running(tmp_path, ASGI.format(lifespan=lifespan), *uvicorn) as service:
        first = service.until(2)
        service.process.send_signal(signal.SIGHUP)
        service.until(2, gone=first)
        service.process.terminate()
        assert service.until(0) == set()
        assert service.process.wait(60) == 0
