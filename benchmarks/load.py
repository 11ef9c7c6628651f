"""The running daemon under load: ``python -m benchmarks.load --workdir DIR``.

A real daemon with a list of ``--rows`` rows, its API on loopback, 1,000 event streams held by one process, 20 matcher
processes that each follow it with a copy of their own, and a load generator (``wrk``, where it is installed) that polls
with a token. Everything stays on this machine and ends by itself.
"""

import argparse
import contextlib
import functools
import os
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import road
from benchmarks.lists import LIST
from benchmarks.lookup import show
from benchmarks.measure import Figure, warm
from syncd.feed import author
from syncd.fetch import Endpoint
from syncd.matcher.pull import pull
from syncd.service import client

STREAMS: Final = 1000
MATCHERS: Final = 20
PUBLICATIONS: Final = 20
DELTA: Final = 1000
SYNCS: Final = 1000
POLL_SECONDS: Final = 6
POLLERS: Final = 52
POLL_PAUSE: Final = 8
"""milliseconds between the polls of one connection: 52 of them make some 5,500 a second"""
_SYNCD: Final = (sys.executable, "-c", "from syncd.cli.main import run; run()")
_HEAD: Final = f"iwf.{LIST}"

_MATCHER: Final = """
import sys, time
from syncd.matcher import Feed, Matcher

folder, url, token = sys.argv[1:]

def tell(status):
    print(time.monotonic(), max(one.version for one in status), flush=True)

with Matcher.open(folder) as matcher:
    matcher.lookup("sha256", bytes(32))
    matcher.watch(feed=Feed(url, token_file=token, instance="bench"), on_change=tell)
    tell(matcher.status())
    sys.stdin.read()
"""

_STREAMS: Final = """
import asyncio, json, sys, time

host, port, token, count = sys.argv[1], int(sys.argv[2]), open(sys.argv[3]).read().strip(), int(sys.argv[4])
REQUEST = "\\r\\n".join(["GET /api/v1/events HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {token}", "", ""])
arrived = {}

class Stream(asyncio.Protocol):
    def __init__(self):
        self.held = b""

    def connection_made(self, transport):
        transport.write(REQUEST.encode())

    def data_received(self, data):
        now = time.monotonic()
        self.held += data
        *whole, self.held = self.held.split(b"\\n")
        for line in whole:
            if line.startswith(b"data:"):
                version = json.loads(line[5:])["version"]
                arrived.setdefault(version, []).append(now)
                if len(arrived[version]) == count:
                    print(version, min(arrived[version]), max(arrived[version]), flush=True)

    def connection_lost(self, error):
        print("lost", error, file=sys.stderr, flush=True)

async def main():
    loop = asyncio.get_running_loop()
    for number in range(count):
        await loop.create_connection(Stream, host, port)
    await loop.run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


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
    operator: Path

    @property
    def feed(self) -> str:
        return f"http://127.0.0.1:{self.port}/feed/"

    @property
    def state(self) -> Path:
        return self.base / "state"

    def ask(self, **order: object) -> list[dict[str, Any]]:
        """Give an order at the control socket."""
        answers = client.ask(self.base / "c.sock", {"state_dir": str(self.state), **order}, 600)
        assert answers is not None
        return list(answers)

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
def daemon(workdir: Path, rows: int) -> Iterator[Site]:
    """A daemon with nothing synced yet, and a partner who publishes a list of ``rows``."""
    world = road.World.at(workdir / f"list-{rows}", rows)
    base = Path(tempfile.mkdtemp(prefix="load-", dir=workdir))
    port = _free_port()
    config = base / "syncd.toml"
    operator = _secret(base / "operator.token", secrets.token_hex(32))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        upstream = stack.enter_context(road.server(world.partner.feed))
        config.write_text(
            f'state_dir = "{base}/state"\ncontrol_socket = "{base}/c.sock"\n[sources.iwf]\ntype = "feed"\n'
            f'url = "{upstream}"\nroot = "{world.partner.root}"\ninterval = "1d"\ndeadline = "1h"\n'
            f'[serve]\nlisten = "127.0.0.1:{port}"\noperator_token_file = "{operator}"\n'
        )
        _run("init", "--config", str(config), "--offline-keys", str(base / "offline"))
        token = base / "matcher.token"
        _run("matchers", "add", "bench", "--token-file", str(token), "--config", str(config))
        _hold_off(base / "state")
        started = subprocess.Popen([*_SYNCD, "run", "--config", str(config)], stderr=subprocess.PIPE, text=True)
        stack.callback(_end, started)
        _ready(started)
        yield Site(world, base, port, started.pid, token, operator)


def _run(*arguments: str) -> float:
    """Seconds that a command takes."""
    begin = time.perf_counter()
    subprocess.run([*_SYNCD, *arguments], check=True, stdout=subprocess.DEVNULL)
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


def _secret(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text + "\n")
    return path


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def ingest(site: Site) -> tuple[list[float], float]:
    """Seconds of API answers while the first sync takes the whole list in, and the seconds of that."""
    times: list[float] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for path in ("/api/v1/status", "/feed/metadata/timestamp.json", "/healthz"):
                begin = time.perf_counter()
                site.get(path, site.operator if "status" in path else site.token)
                times.append(time.perf_counter() - begin)
            done.wait(0.01)

    watcher = threading.Thread(target=look)
    watcher.start()
    begin = time.perf_counter()
    try:
        assert site.sync() == 1
    finally:
        done.set()
        watcher.join()
    return times, time.perf_counter() - begin


def copies(site: Site, count: int) -> list[Path]:
    """Pulled copies, of which all but the first are made of links."""
    first = site.base / "copy-0"
    root = (site.state / "feed" / author.ROOT_FILE).read_bytes()
    from benchmarks.lists import now

    endpoint = Endpoint(site.feed, site.token.read_text().strip())
    pull(endpoint, root, first, now=now(), deadline=3600)
    warm(first)
    others = [site.base / f"copy-{number}" for number in range(1, count)]
    for other in others:
        shutil.copytree(first, other, copy_function=_link_or_copy)
    return [first, *others]


def _link_or_copy(source: str, target: str) -> None:
    """Segments never change, so that one file will do for all; locks and what is replaced are each copy's own."""
    if source.endswith(".arrow"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


@dataclass(frozen=True)
class Spread:
    """Seconds of one publication, from the order to sync on."""

    told: float
    """from the first stream that heard of it to the last"""
    answered: list[float]
    """until each matcher answered from it, from the first stream's moment on"""
    road: list[float]
    """the same, from the order on: the partner's delta fetched, verified, staged, published, pulled, loaded"""


def publications(site: Site, count: int, matchers: int, streams: int) -> list[Spread]:
    """Publish ``count`` deltas to matchers and streams, and see when each has them."""
    with contextlib.ExitStack() as stack:
        tokens = (site.feed, str(site.token))
        started = [
            stack.enter_context(process(sys.executable, "-c", _MATCHER, str(copy), *tokens))
            for copy in copies(site, matchers)
        ]
        arguments = ("127.0.0.1", str(site.port), str(site.token), str(streams))
        heard = stack.enter_context(process(sys.executable, "-c", _STREAMS, *arguments))
        for one in started:
            one.wait(lambda line: line.split()[1] == "1")
        heard.wait(lambda line: line.startswith("1 "))
        found = [_publication(site, started, heard) for _ in range(count + 1)]
        return found[1:]  # the first finds connections cold


def _publication(site: Site, matchers: Sequence[Lines], heard: Lines) -> Spread:
    site.world.partner.publish_delta(site.world.version(), DELTA)
    begin = time.monotonic()
    version = site.sync()
    assert version is not None
    _, first, last = heard.wait(lambda line: line.startswith(f"{version} ")).split()
    ready = [float(one.wait(lambda line: int(line.split()[1]) >= version).split()[0]) for one in matchers]
    time.sleep(3)  # check-ins of this one are not part of the next, for which a worker waits again
    return Spread(float(last) - float(first), [one - float(first) for one in ready], [one - begin for one in ready])


def polls(site: Site) -> tuple[float, float] | None:
    """Polls a second with a token that find nothing new, and milliseconds of the slowest in a hundred."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return None
    request = urllib.request.Request(site.feed + "metadata/timestamp.json")
    request.add_header("Authorization", f"Bearer {site.token.read_text().strip()}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        tag = answer.headers["ETag"]
    script = _secret(
        site.base / "poll.lua",
        f'wrk.headers["Authorization"] = "Bearer {site.token.read_text().strip()}"\n'
        f"wrk.headers[\"If-None-Match\"] = '{tag}'\nfunction delay() return {POLL_PAUSE} end\n",
    )
    command = [wrk, "-t1", f"-c{POLLERS}", f"-d{POLL_SECONDS}s", "--latency", "-s", str(script), site.feed]
    command[-1] += "metadata/timestamp.json"
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in told, told
    rate = float(re.search(r"Requests/sec:\s+([0-9.]+)", told)[1])  # type: ignore[index]  # or it is not wrk
    value, unit = re.search(r"99%\s+([0-9.]+)(us|ms|s)", told).groups()  # type: ignore[union-attr]  # as above
    return rate, float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def percentile(values: Sequence[float], part: float) -> float:
    """The value that ``part`` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def figures(workdir: Path, rows: int, syncs: int = SYNCS) -> list[Figure]:
    """All of them."""
    with daemon(workdir, rows) as site:
        answers, seconds = ingest(site)
        spreads = publications(site, PUBLICATIONS, MATCHERS, STREAMS)
        polled = polls(site)
        status = statistics.median(_run("status", "--config", str(site.base / "syncd.toml")) for _ in range(5))
        before, after = _memory(site, syncs)
    answered = [one for spread in spreads for one in spread.answered]
    whole = [one for spread in spreads for one in spread.road]
    told = [spread.told for spread in spreads]
    size = f"{rows:,} rows"
    found = [
        Figure(
            f"API, slowest in a hundred, while {size} are taken in",
            percentile(answers, 0.99) * 1e3,
            "ms",
            250,
            note=f"{len(answers)} requests in {seconds:.1f} s",
        ),
        Figure(
            f"published to answered by {MATCHERS} matchers, p99",
            percentile(answered, 0.99),
            "s",
            1,
            note=f"median {statistics.median(answered):.2f} s; {len(spreads)} deltas of {DELTA} rows",
        ),
        Figure(
            "... from the order to sync",
            percentile(whole, 0.99),
            "s",
            note=f"median {statistics.median(whole):.2f} s",
        ),
        Figure(f"one event to {STREAMS:,} streams, slowest", max(told), "s", 0.3, note="last after first"),
    ]
    if polled:
        found += [
            Figure(
                "polls that find nothing new",
                polled[0],
                "/s",
                5000,
                at_least=True,
                note=f"wrk, {POLLERS} connections that each wait {POLL_PAUSE} ms between polls",
            ),
            Figure("... slowest in a hundred", polled[1], "ms", 10),
        ]
    return [
        *found,
        Figure(f"daemon's own memory (USS), {size}", after / 1e6, "MB", 250, note=f"{STREAMS:,} streams before"),
        Figure(f"... growth over {syncs:,} syncs", (after - before) / before * 100, "%", 5),
        Figure("`syncd status`", status, "s", 0.5),
    ]


def _memory(site: Site, syncs: int) -> tuple[int, int]:
    for _ in range(20):
        site.sync()
    before = site.unique_memory()
    for _ in range(syncs):
        site.sync()
    return before, site.unique_memory()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=10_000_000)
    parser.add_argument("--syncs", type=int, default=SYNCS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    found = figures(options.workdir, options.rows, options.syncs)
    show(found)


if __name__ == "__main__":
    main()
