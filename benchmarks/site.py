"""A daemon with a partner of its own, for benchmarks: real processes on loopback that end by themselves."""

import contextlib
import functools
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import road
from syncd.service import client

SYNCD: Final = (sys.executable, "-c", "from syncd.cli.main import run; run()")


@dataclass
class Lines:
    """What a process writes, read as it comes; whoever waits for a line gets it once it is there."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self.news:
                self.lines.append(line)
                self.news.notify_all()

    def wait(self, wanted: Callable[[str], bool], seconds: float = 120.0) -> str:
        """The first line that is wanted."""

        def found() -> str | None:
            return next((line for line in self.lines if wanted(line)), None)

        with self.news:
            line = self.news.wait_for(found, seconds)
        if not line:
            raise TimeoutError(f"process {self.process.args!r:.80} did not say it; it said {self.lines[-3:]}")
        return line


@contextlib.contextmanager
def process(*command: str) -> Iterator[Lines]:
    """A process that ends with its standard input."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield Lines(started)
        finally:
            assert started.stdin
            started.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(10)
            started.kill()


@dataclass(frozen=True)
class Site:
    """A partner, the daemon that follows it, and where everything is."""

    world: road.World
    base: Path
    port: int
    pid: int
    token: Path
    """of the matchers"""
    listener: Path
    """the token of many streams: one token may have half of all"""
    operator: Path

    @property
    def feed(self) -> str:
        return f"http://127.0.0.1:{self.port}/feed/"

    @property
    def state(self) -> Path:
        return self.base / "state"

    def answers(self, **order: object) -> Iterator[dict[str, Any]]:
        """Give an order at the control socket, and yield the answers as they come."""
        answers = client.ask(self.base / "c.sock", {"state_dir": str(self.state), **order}, 600)
        assert answers is not None
        return answers

    def ask(self, **order: object) -> list[dict[str, Any]]:
        """Give an order at the control socket."""
        return list(self.answers(**order))

    def sync(self) -> int | None:
        """Force a sync; the version published, or None where nothing changed."""
        answers = self.ask(do="sync")
        done = [one["sync"] for one in answers if "sync" in one]
        assert [one["exit_code"] for one in done] == [0], answers
        return next((one["version"] for one in done[0]["lists"] if one["outcome"] == "published"), None)

    def get(self, path: str, token: Path) -> bytes:
        """One request to the API."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        request.add_header("Authorization", f"Bearer {token.read_text().strip()}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())

    def unique_memory(self) -> int:
        """Bytes that the daemon alone holds (USS)."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


@contextlib.contextmanager
def daemon(workdir: Path, rows: int, settings: str = "") -> Iterator[Site]:
    """A daemon with nothing synced yet, and a partner who publishes a list of ``rows``; with further ``settings``."""
    world = road.World.at(workdir / f"list-{rows}", rows)
    base = Path(tempfile.mkdtemp(prefix="load-", dir=workdir))
    port = _free_port()
    config = base / "syncd.toml"
    operator = secret(base / "operator.token", secrets.token_hex(32))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        upstream = stack.enter_context(road.server(world.partner.feed))
        config.write_text(
            f'state_dir = "{base}/state"\ncontrol_socket = "{base}/c.sock"\n[sources.iwf]\ntype = "feed"\n'
            f'url = "{upstream}"\nroot = "{world.partner.root}"\ninterval = "1d"\ndeadline = "1h"\n'
            f'[serve]\nlisten = "127.0.0.1:{port}"\noperator_token_file = "{operator}"\n{settings}'
        )
        run("init", "--config", str(config), "--offline-keys", str(base / "offline"))
        token, listener = base / "matcher.token", base / "listener.token"
        for name, path in (("bench", token), ("listener", listener)):
            run("matchers", "add", name, "--token-file", str(path), "--config", str(config))
        _hold_off(base / "state")
        started = stack.enter_context(running(config))
        yield Site(world, base, port, started.pid, token, listener, operator)


@contextlib.contextmanager
def running(config: Path) -> Iterator[subprocess.Popen[str]]:
    """A daemon that is ready."""
    started = subprocess.Popen([*SYNCD, "run", "--config", str(config)], stderr=subprocess.PIPE, text=True)
    try:
        _ready(started)
        yield started
    finally:
        _end(started)


def run(*arguments: str) -> float:
    """Seconds that a command takes."""
    begin = time.perf_counter()
    subprocess.run([*SYNCD, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def _hold_off(state: Path) -> None:
    """Let nothing be synced but what is asked for."""
    from datetime import timedelta

    from benchmarks.lists import now
    from syncd.catalog.catalog import Catalog

    with Catalog.open(state / "catalog.sqlite3") as catalog:
        catalog.note_schedule("iwf", now() + timedelta(hours=12))


def _ready(started: subprocess.Popen[str]) -> None:
    assert started.stderr
    for line in started.stderr:
        if '"daemon_ready"' in line:
            break
    else:
        raise RuntimeError("the daemon did not start")
    threading.Thread(target=functools.partial(_drain, started.stderr), daemon=True).start()


def _drain(stream: Any) -> None:
    for line in stream:
        if '"level": "error"' in line:
            print(line, end="", file=sys.stderr)


def _end(started: subprocess.Popen[str]) -> None:
    started.send_signal(signal.SIGTERM)
    started.wait(20)


def secret(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text + "\n")
    return path


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
