"""Several daemons on PostgreSQL and S3: ``python -m benchmarks.cluster --workdir DIR --rows 10e6``.

A real PostgreSQL, which syncs its commits to the disk, and a real S3 server, on this machine. Measured are the sync of
a delta, beside the time that its puts alone take a plain client of the same server, and the time from the end of a
leader until another daemon leads.
"""

import argparse
import contextlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import obstore
from obstore.store import S3Store

from benchmarks import measure, road
from benchmarks.lists import now
from benchmarks.lookup import show
from benchmarks.measure import Figure, Timing
from engines.daemons import Cluster, DaemonProcess
from engines.shared import Engines
from syncd.catalog.folder import StateFolder
from syncd.database_address import DatabaseAddress
from syncd.operate.setup import init
from syncd.pipeline.publisher import open_publisher
from syncd.pipeline.sync import sync_source
from syncd.store.settings import BucketSettings

BEYOND: Final = 0.3
"""seconds that a sync may take beyond the puts"""
LEADS_WITHIN: Final = 30.0
"""seconds after a crash"""
LEADS_AFTER_STOP: Final = 5.0
TURNS: Final = 3
"""leaders that are killed, and as many that are stopped"""
_DURABLE: Final = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on", "shared_buffers": "128MB"}


@dataclass(frozen=True)
class Deltas:
    """Medians of one delta."""

    sync: Timing
    nothing: Timing
    puts: float
    """seconds that the same files take a plain client, one after the other"""
    files: int
    size: int
    """bytes of them"""


class PlainClient:
    """Puts what syncd has put, below another prefix of the same bucket."""

    def __init__(self, bucket: BucketSettings) -> None:
        assert bucket.access_key_file is not None
        assert bucket.secret_key_file is not None
        self._prefix, self._copies = f"{bucket.prefix}/", f"{bucket.prefix}-again/"
        self._store = S3Store(
            bucket.bucket,
            endpoint=bucket.endpoint,
            region="us-east-1",
            access_key_id=bucket.access_key_file.read_text().strip(),
            secret_access_key=bucket.secret_key_file.read_text().strip(),
            client_options={"allow_http": True, "timeout": timedelta(minutes=5)},
        )
        self._known = self._tags()

    def _tags(self) -> dict[str, str | None]:
        chunks = obstore.list(self._store, self._prefix)
        return {one["path"]: one["e_tag"] for chunk in chunks for one in chunk}

    def news(self) -> dict[str, bytes]:
        """The files that were put since the last call, by key."""
        before, self._known = self._known, self._tags()
        changed = [key for key, tag in self._known.items() if before.get(key) != tag]
        return {key: bytes(obstore.get(self._store, key).bytes()) for key in changed}

    def put(self, files: dict[str, bytes], number: int) -> float:
        """Seconds to put them, one after the other, each created only if it is absent."""
        begin = time.perf_counter()
        for key, content in files.items():
            target = f"{self._copies}{number}/{key}"
            obstore.put(self._store, target, content, mode="create", use_multipart=False)
        return time.perf_counter() - begin


def deltas(engines: Engines, world: road.World, rounds: int) -> Deltas:
    """Sync ``rounds`` deltas of `road.DELTA` rows into an empty database and an empty place in the bucket."""
    place = engines.fresh()
    state = StateFolder(place.folder / "state", place.bucket, DatabaseAddress(place.catalog))
    init(state, place.folder / "offline", count=1, threshold=1, now=now())
    syncs, nothings, puts, sizes = list[Timing](), list[Timing](), list[float](), list[tuple[int, int]]()
    with road.server(world.partner.feed) as url, open_publisher(state) as publisher:

        def sync() -> None:
            road.checked(sync_source(publisher, road.source_of(world.partner, url), now))

        sync()
        plain = PlainClient(place.bucket)
        for number in range(rounds + 1):
            world.partner.publish_delta(world.version(), road.DELTA)
            measure.warm(world.base / "partner")
            measure.warm(state.root)
            measure.settle()
            plain.news()
            taken = measure.timed(sync)
            files = plain.news()
            idle = measure.timed(sync)
            if number:  # the first finds caches cold
                syncs.append(taken)
                nothings.append(idle)
                puts.append(plain.put(files, number))
                sizes.append((len(files), sum(map(len, files.values()))))
    count, size = (int(statistics.median(column)) for column in zip(*sizes, strict=True))
    return Deltas(measure.median(syncs), measure.median(nothings), statistics.median(puts), count, size)


@contextlib.contextmanager
def _running(engines: Engines, world: road.World) -> Iterator[Cluster]:
    with road.server(world.partner.feed) as url:
        cluster = Cluster(engines.fresh(), url, world.partner.root)
        cluster.set_up()
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def fail_over(cluster: Cluster, end: str) -> float:
    """Seconds from the end of the leader until another daemon leads; the former one is started again."""
    leader = cluster.wait(cluster.leader, "a daemon to lead")
    cluster.wait(lambda: _all_stand_by(leader), "the others to stand by")
    begin = time.monotonic()
    if end == "kill":
        leader.kill()
    else:
        assert leader.process is not None
        leader.process.terminate()
    cluster.wait(lambda: cluster.leader(besides=leader), "another daemon to lead")
    taken = time.monotonic() - begin
    leader.stop()
    leader.start()
    return taken


def _all_stand_by(leader: DaemonProcess) -> bool:
    fleet = (leader.status() or {}).get("fleet") or {}
    return sorted(one["role"] for one in fleet.get("daemons", ())) == ["leader", *["standby"] * 2]


def figures(workdir: Path, rows: int, rounds: int = road.ROUNDS) -> list[Figure]:
    """All of them."""
    base = Path(tempfile.mkdtemp(prefix="cluster-", dir=workdir))
    engines = Engines(base, **_DURABLE)
    try:
        found = deltas(engines, road.World.at(workdir / f"list-{rows}", rows), rounds)
        with _running(engines, road.World.at(workdir / "list-1000", 1000)) as cluster:
            killed = [fail_over(cluster, "kill") for _ in range(TURNS)]
            stopped = [fail_over(cluster, "stop") for _ in range(TURNS)]
    finally:
        engines.close()
        shutil.rmtree(base, ignore_errors=True)
    puts = f"{found.files} files of {found.size / 1e3:.0f} kB: {found.puts * 1e3:.0f} ms for a plain client"
    return [
        Figure(
            f"sync of a 1,000-row delta on PostgreSQL and S3, {rows:,} rows",
            found.sync.wall * 1e3,
            "ms",
            (found.puts + BEYOND) * 1e3,
            note=f"{found.sync.cpu * 1e3:.0f} ms of processor time; {puts}, and {BEYOND:.1f} s",
        ),
        Figure("... nothing changed", found.nothing.wall * 1e3, "ms"),
        Figure(
            f"a leader is killed until another one leads, the slowest of {TURNS}",
            max(killed),
            "s",
            LEADS_WITHIN,
            note=f"the quickest {min(killed):.1f} s",
        ),
        Figure(f"... is stopped, the slowest of {TURNS}", max(stopped), "s", LEADS_AFTER_STOP),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=10_000_000)
    parser.add_argument("--rounds", type=int, default=road.ROUNDS)
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    show(figures(options.workdir, options.rows, options.rounds))


if __name__ == "__main__":
    main()
