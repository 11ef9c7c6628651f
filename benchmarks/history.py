"""What a long history costs: ``python -m benchmarks.history --workdir DIR``.

Two operators follow lists of the same size. The history of one has ten versions, that of the other 100,000 over two
years, made past the road: the catalog's records and the months' files are those that syncs would have left.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
from sqlalchemy import insert, update

from benchmarks import road
from benchmarks.lists import LIST, now
from benchmarks.measure import Figure, forget
from benchmarks.site import running
from syncd.catalog.catalog import Catalog
from syncd.catalog.database import values_of
from syncd.catalog.history_records import HistoryRecord
from syncd.catalog.records import head_name
from syncd.catalog.tables import history
from syncd.files import PRIVATE_FILE, install_file, make_folder
from syncd.format.manifest import SegmentRef
from syncd.format.segment import Segment
from syncd.history.files import HistoryFolder
from syncd.history.keep import month_of
from syncd.history.rows import HEAD, ORIGIN, HistoryRows, merge, write
from syncd.model import Algorithm
from syncd.operate.repair import recover
from syncd.pipeline.publisher import open_publisher

VERSIONS: Final = 100_000
FEW: Final = 10
ROWS_A_VERSION: Final = 20
AGE: Final = timedelta(days=700)
COMPARED: Final = 60
"""syncs of each operator whose processor times are compared"""
ASKED: Final = 9
NAME: Final = head_name("iwf", LIST)


def figures(workdir: Path, rows: int, versions: int = VERSIONS, rounds: int = COMPARED) -> list[Figure]:
    few, many = (_world(workdir / f"history-{rows}-{count}", rows, count) for count in (FEW, versions))
    less, more = road.processor_times([few, many], road.DELTA, rounds)
    digests = _digests(many)
    forget(many.state.root)
    cold = _explain(many, digests[0])
    alone = statistics.median(_explain(many, digest) for digest in digests)
    start = _start_up(many)
    with running(many.base / "syncd.toml"):  # it has no source to sync
        asked = statistics.median(_explain(many, digest) for digest in digests)
    note = f"{more * 1e3:.0f} and {less * 1e3:.0f} ms of processor time, medians of {rounds} syncs of each"
    what = f"sync of a {road.DELTA:,}-row delta with {versions:,} versions behind it, relative to {FEW}"
    return [
        Figure(what, more / less, "x", 1.1, note=note),
        Figure(
            f"`syncd explain`, {rows:,} entries and {versions:,} versions", asked * 1e3, "ms", 1000,
            note="asks the running daemon, as it does whenever one runs",
        ),
        Figure("... without a daemon", alone * 1e3, "ms", note=f"{start * 1e3:.0f} ms of it to start"),
        Figure("... with nothing in the page cache", cold * 1e3, "ms"),
    ]  # fmt: skip


def _world(base: Path, rows: int, versions: int) -> road.World:
    """The world in ``base`` with its first sync and its history; made once and used again."""
    world = road.World.at(base, rows)
    if not (base / "has-history").exists():
        with road.server(world.partner.feed) as url:
            road.sync_once(world.state, world.partner, url)
        with open_publisher(world.state) as publisher:
            _add_versions(world, publisher.catalog, versions)
            recover(publisher, versions + 1, now(), "benchmark")
        (base / "syncd.toml").write_text(f'state_dir = "{world.state.root}"\ncontrol_socket = "{base}/c.sock"\n')
        (base / "has-history").touch()
    return world


def _base(world: road.World, catalog: Catalog) -> Segment:
    """The segment of the first version, which the history keeps."""
    (first,) = catalog.history_states(NAME)
    ref = first.head[0]
    own = world.state.source("iwf").segment_path(LIST, ref)
    return Segment.open(own if own.exists() else HistoryFolder(world.state.history).segment(NAME, ref.sha256), ref)


def _add_versions(world: road.World, catalog: Catalog, count: int) -> None:
    """Add ``count`` versions: one removes some rows of the base, the next adds them again."""
    base, began = _base(world, catalog), now() - AGE
    records = list(_records(began, count, base.ref))
    with catalog._database.writing() as connection:
        first = {"number": _number(began) - 1, "at": began - timedelta(seconds=1)}
        connection.execute(update(history).values(**first))
        connection.execute(insert(history), [values_of(record) for record in records])
    folder = make_folder(world.state.history / NAME, 0o700)
    for month, some in groupby(records, lambda record: month_of(record.at)):
        parts = list(some)
        staged = folder / "staged"
        sha256 = write(staged, merge([_rows(base, record) for record in parts]))
        covers = parts[0].number, parts[-1].number, sha256
        file = HistoryFolder(world.state.history).month_file(NAME, (Algorithm.SHA256, 32), month, covers)
        install_file(staged, file.path, PRIVATE_FILE)


def _number(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)


def _records(began: datetime, count: int, base: SegmentRef) -> Iterator[HistoryRecord]:
    for index in range(count):
        at = began + AGE * index / count
        ref = SegmentRef(
            sha256=f"{index:064x}", length=2000, algorithm=base.algorithm, kind="delta", rows=ROWS_A_VERSION,
            removals=0 if index % 2 else ROWS_A_VERSION,
        )  # fmt: skip
        yield HistoryRecord(
            number=_number(at), list=NAME, source="iwf", at=at, plan="deltas", version=index + 2, serial=index + 2,
            head=(ref,), origin=(ref,), keys=(f"{7:064x}",), upstream=f"{index:064x}", sync_id=f"{index:032x}",
            folded=True,
        )  # fmt: skip


def _rows(base: Segment, record: HistoryRecord) -> HistoryRows:
    step = len(base) // ROWS_A_VERSION
    index = (record.serial or 0) - 2
    rows = base.take(np.arange(ROWS_A_VERSION, dtype=np.int64) * step + index // 2 % step)
    numbers = record.number, record.version or 0, record.serial or 0, _number(record.at)
    return HistoryRows.of_record(rows if index % 2 else rows.as_removals(), numbers, HEAD | ORIGIN)


def _digests(world: road.World) -> list[str]:
    """Digests that were removed and added again, in different months."""
    with Catalog.open(world.state.catalog) as catalog:
        base = _base(world, catalog)
    step = len(base) // ROWS_A_VERSION
    places = np.linspace(0, min(step - 1, VERSIONS // 4), ASKED).astype(np.int64)
    return [bytes(base.rows(int(place), int(place) + 1).digests.tobytes()).hex() for place in places]


def _explain(world: road.World, digest: str) -> float:
    """Seconds that the command takes, in a process of its own."""
    return _run(world, "explain", f"sha256:{digest}")


def _start_up(world: road.World) -> float:
    return statistics.median(_run(world, "snapshots", NAME, "--limit", "1") for _ in range(ASKED))


def _run(world: road.World, *arguments: str) -> float:
    command = [sys.executable, "-m", "syncd.cli", *arguments, "--config", str(world.base / "syncd.toml")]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=10_000_000)
    parser.add_argument("--versions", type=lambda text: int(float(text)), default=VERSIONS)
    parser.add_argument("--rounds", type=int, default=COMPARED)
    parser.add_argument("--workdir", type=Path, default=Path(tempfile.gettempdir()) / "syncd-benchmarks")
    options = parser.parse_args(arguments)
    options.workdir.mkdir(parents=True, exist_ok=True)
    for figure in figures(options.workdir, options.rows, options.versions, options.rounds):
        print(f"{figure.what}: {figure.measured:.3g} {figure.unit}; {figure.note}")


if __name__ == "__main__":
    main()
