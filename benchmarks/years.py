"""Years later: `status` and a sync with very many syncs and versions behind them, against a new catalog.

The history is written by SQL: each version has a manifest of the usual size, each source a sync every ten minutes. It
is not pruned, as if the operator kept everything: ``python -m benchmarks.years --syncs 200000 --versions 100000``.
"""

import argparse
import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks import measure
from benchmarks.lists import Partner, now
from benchmarks.measure import Figure, Timing
from benchmarks.road import World
from syncd.feed.folder import FeedFolder
from syncd.pipeline.outcome import SyncOutcome
from syncd.pipeline.publisher import Publisher, open_publisher
from syncd.pipeline.sync import sync_source
from syncd.report import overview
from syncd.report.status import status_document
from syncd.retention import RetentionLimits
from syncd.sources.signed_feed import SignedFeed
from syncd.verify.state import prove_state

SYNCS: Final = 200_000
VERSIONS: Final = 100_000
_ROWS: Final = 10_000
_DELTA: Final = 100
_BEFORE: Final = 60
"""Versions of both worlds before the history is written, so that their manifests name as many deltas."""
_ROUNDS: Final = 15
_EVERYTHING: Final = RetentionLimits(versions=10_000_000, syncs=10_000_000)


def figures(workdir: Path, syncs: int = SYNCS, versions: int = VERSIONS) -> list[Figure]:
    """Measure both worlds, round by round in turn, so that a busy machine disturbs both alike."""
    young, old = _worlds(workdir / "years", syncs, versions)
    status, sync = _alternating(young, old, _status), _alternating(young, old, _sync)
    what = f"{syncs:,} syncs and {versions:,} versions"
    return [
        Figure(f"status with {what} behind it, to a new catalog", *_ratio(status)),
        Figure(f"sync of a delta with {what} behind it, to a new catalog", *_ratio(sync)),
        *_deep(young),
    ]


def _ratio(both: tuple[Timing, Timing]) -> tuple[float, str, float, bool, str]:
    young, old = both
    return old.wall / young.wall, "x", 1.5, False, f"{old.wall * 1e3:.1f} and {young.wall * 1e3:.1f} ms"


def _deep(world: World) -> list[Figure]:
    plain = measure.timed(lambda: prove_state(world.state, None, now()))
    deep = measure.timed(lambda: prove_state(world.state, None, now(), deep=True))
    note = f"{deep.wall:.2f} and {plain.wall:.2f} s, {_ROWS:,} rows"
    return [Figure("`verify --deep` to `verify`", deep.wall / plain.wall, "x", note=note)]


def _worlds(base: Path, syncs: int, versions: int) -> tuple[World, World]:
    """Make a young world, and an old one that is a copy of it with a long history."""
    young = World.at(base / "young", _ROWS)
    ready = base / f"old-{syncs}-{versions}" / "aged"
    if not ready.exists():
        for _ in range(_BEFORE):
            _sync(young)
        shutil.rmtree(ready.parent, ignore_errors=True)
        shutil.copytree(young.base, ready.parent)
        _age(ready.parent / "state" / "catalog.sqlite3", syncs, versions)
        ready.touch()
    old = World(ready.parent, Partner(FeedFolder(ready.parent / "partner")), _ROWS)
    measure.settle()
    return young, old


def _age(catalog: Path, syncs: int, versions: int) -> None:
    """Write a history below the newest versions and syncs, which are moved up in number."""
    with contextlib.closing(sqlite3.connect(catalog)) as connection, connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        ((source,),) = connection.execute("SELECT name FROM sources")
        connection.execute("UPDATE syncs SET number = number + ?", (syncs,))
        connection.execute("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'syncs'", (syncs,))
        connection.executemany(
            "INSERT INTO syncs (number, id, source, started_at, finished_at, outcome, reasons, message, bytes) "
            "VALUES (?, ?, ?, ?, ?, ?, '[]', '', 900)",
            _syncs(source, syncs),
        )
        version = connection.execute("SELECT * FROM versions ORDER BY version DESC LIMIT 1").fetchone()
        marks = ", ".join("?" * len(version))
        # Below zero: they have the size and the age of old versions, and the real ones keep their signed numbers.
        connection.executemany(
            f"INSERT INTO versions VALUES ({marks})",
            (
                (version[0], number - versions, *version[2:4], _time(versions - number), *version[5:])
                for number in range(versions)
            ),
        )


def _syncs(source: str, count: int) -> Iterator[tuple[Any, ...]]:
    for number in range(count):
        at = _time(count - number)
        yield number, f"old-{number}", source, at, at, ("up_to_date", "unreachable")[number % 7 == 0]


def _time(steps: int) -> str:
    return (now() - timedelta(days=1, minutes=10 * steps)).isoformat(timespec="microseconds")


def _alternating(young: World, old: World, work: Callable[[World], Timing]) -> tuple[Timing, Timing]:
    timings = [(work(young), work(old)) for _ in range(_ROUNDS)]
    return measure.median([one for one, _ in timings]), measure.median([other for _, other in timings])


@contextlib.contextmanager
def _opened(world: World) -> Iterator[Publisher]:
    with open_publisher(world.state) as publisher:
        yield replace(publisher, retention=lambda: _EVERYTHING)


def _status(world: World) -> Timing:
    with _opened(world) as publisher:

        def work() -> None:
            seen = overview.read(publisher.folder, publisher.catalog, {"iwf": 600.0}, now())
            status_document(seen).model_dump_json()

        return measure.timed(work)


def _sync(world: World) -> Timing:
    world.partner.publish_delta(world.version(), _DELTA)
    source = SignedFeed("iwf", world.partner.feed.root.as_uri(), world.partner.root, deadline=3600.0)
    with _opened(world) as publisher:
        return measure.timed(lambda: _checked(sync_source(publisher, source, now)))


def _checked(outcome: SyncOutcome) -> None:
    for error in (outcome.error, *(one.error for one in outcome.lists)):
        if error is not None:
            raise error


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.years", description=__doc__)
    parser.add_argument("--syncs", type=int, default=SYNCS)
    parser.add_argument("--versions", type=int, default=VERSIONS)
    parser.add_argument("--workdir", type=Path, default=Path(tempfile.gettempdir()) / "syncd-benchmarks")
    options = parser.parse_args(arguments)
    for figure in figures(options.workdir, options.syncs, options.versions):
        print(f"{figure.what}: {figure.measured:.2f} {figure.unit} ({figure.note})")


if __name__ == "__main__":
    main()
