"""The running daemon under load: ``python -m benchmarks.load --workdir DIR``.

A real daemon with a list of ``--rows`` rows, its API on loopback, 1,000 event streams held by one process, 20 matcher
processes that each follow it with a copy of their own, and a load generator (``wrk``, where it is installed) that polls
with a token. Everything stays on this machine and ends by itself.
"""

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.lists import LIST
from benchmarks.lookup import show
from benchmarks.measure import Figure, warm
from benchmarks.site import Lines, Site, daemon, process, run, secret
from syncd.fetch import Endpoint
from syncd.matcher.pull import pull
from syncd.publish import author

STREAMS: Final = 1000
MATCHERS: Final = 20
PUBLICATIONS: Final = 20
DELTA: Final = 1000
SYNCS: Final = 1000
STATUSES: Final = 15
POLL_SECONDS: Final = 6
POLLERS: Final = 52
POLL_PAUSE: Final = 8
"""milliseconds between the polls of one connection: 52 of them make some 5,500 a second"""
_HEAD: Final = f"iwf.{LIST}"

MATCHER_PROGRAM: Final = """
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

STREAMS_PROGRAM: Final = """
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
        shutil.rmtree(other, ignore_errors=True)
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
            stack.enter_context(process(sys.executable, "-c", MATCHER_PROGRAM, str(copy), *tokens))
            for copy in copies(site, matchers)
        ]
        arguments = ("127.0.0.1", str(site.port), str(site.listener), str(streams))
        heard = stack.enter_context(process(sys.executable, "-c", STREAMS_PROGRAM, *arguments))
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
    script = secret(
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
        status = statistics.median(run("status", "--config", str(site.base / "syncd.toml")) for _ in range(STATUSES))
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
