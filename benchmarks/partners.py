"""What lists cost that a partner states and nobody signs: ``python -m benchmarks.partners --workdir DIR``.

A first sync is compared with a plain client that only downloads the same pages from the same server, in the same run.
The server makes its pages beforehand and costs next to nothing. Large lists are made past the partner, as one segment;
what is measured over them takes the whole road.
"""

import argparse
import base64
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from pydantic import JsonValue

from benchmarks import lists, measure, partner_site
from benchmarks.lists import now
from benchmarks.lookup import show
from benchmarks.measure import Figure, Timing
from benchmarks.partner_site import NCMEC, PAGE, STOPNCII, TCAP
from benchmarks.road import checked
from benchmarks.site import Lines, process, secret
from syncd.catalog.folder import StateFolder
from syncd.files import link_file, sha256_file
from syncd.format.batch import WholeList
from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.format.entry_index import KIND
from syncd.format.freshness import SourceAges
from syncd.format.manifest import SegmentRef
from syncd.format.segment import Segment
from syncd.format.writer import write_segment
from syncd.model import Algorithm, ListName
from syncd.operate.setup import init
from syncd.outcomes import Outcome
from syncd.pipeline.preparation import Prepare
from syncd.pipeline.prepare import prepare
from syncd.pipeline.publisher import Publisher, open_publisher
from syncd.pipeline.sync import sync_source
from syncd.service.worker import Process, SpareWorker, Worker
from syncd.sources.drop import Drop
from syncd.sources.kinds import AnySource
from syncd.sources.ncmec import Ncmec
from syncd.sources.ncmec_page import INLINE, NcmecReader, parse_page
from syncd.sources.partner import IMAGES, VIDEOS
from syncd.sources.selection import NO_FILTER, RecordFilter, RecordSelection
from syncd.sources.source import Memory
from syncd.sources.statements import ListKind, PollRequest, StatedFile
from syncd.sources.stopncii import StopNcii
from syncd.sources.tcap import CONTENT, Tcap

RECORDS: Final = 1_000_000
"""of a first sync"""
VICS_BYTES: Final = 2_000_000_000
CHANGED: Final = 100
CHANGES: Final = 15
"""polls with some changed records"""
REMOVED: Final = 1000
REMOVALS: Final = 41
"""polls with removals, at each size"""
_MEMORY: Final = 300
_PAUSE: Final = 0.2
"""seconds that a server takes for a page, to see if a sync adds to it"""
_PACED_RECORDS: Final = 100_000
_BOUND: Final = 1.25
"""times a plain client's time: the rest is counting, signing and publishing"""
_VOTES: Final = RecordFilter(votes=2)
_PARSED: Final = 50
"""pages that are parsed for their rate"""
_SAMPLE: Final = 0.02


@contextlib.contextmanager
def serving(kind: str, folder: Path, pause: float = 0.0) -> Iterator[tuple[str, Lines]]:
    """Serve a partner from a process of its own; yield its address, and what it answered so far."""
    command = (sys.executable, "-m", "benchmarks.partner_site", kind, str(folder), str(pause))
    with process(*command) as said:
        yield said.wait(lambda line: line.startswith("http")).strip(), said


def _targets(said: Lines) -> list[str]:
    return [line.split()[1] for line in said.lines[1:]]


class Watched:
    """Starts worker processes, and watches their anonymous memory and processor time."""

    def __init__(self) -> None:
        self.anonymous = 0
        """the most of any of them"""
        self.cpu = 0.0
        """of the last one, since it was taken"""
        self._spare = SpareWorker()
        self._pid: int | None = None
        self._before = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watched":
        self._spare.refill()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._spare.close()

    def start(self) -> Process:
        self._pid, taken = None, self._spare.take()
        self.cpu, self._before = 0.0, _cpu_of(taken.pid)
        self._pid = taken.pid
        return taken

    def refill(self) -> None:
        self._spare.refill()

    def _watch(self) -> None:
        while not self._end.wait(_SAMPLE):
            if self._pid is not None:
                with contextlib.suppress(OSError, IndexError):
                    self.anonymous = max(self.anonymous, measure.anonymous(self._pid))
                    self.cpu = max(self.cpu, _cpu_of(self._pid) - self._before)


def _cpu_of(pid: int) -> float:
    """Seconds of processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fresh_state(base: Path) -> StateFolder:
    """The state of an operator who has nothing yet."""
    for path in (base / "state", base / "offline"):
        shutil.rmtree(path, ignore_errors=True)
    state = StateFolder(base / "state")
    init(state, base / "offline", count=1, threshold=1, now=now())
    return state


def _ncmec(url: str, folder: Path) -> Ncmec:
    return Ncmec(
        name="p",
        url=url,
        username="us",
        password_file=secret(folder / "password", "correct-horse-battery"),
        exclude=_VOTES,
        deadline=7200.0,
    )


def _stopncii(url: str, folder: Path) -> StopNcii:
    return StopNcii(
        name="p",
        url=f"{url}/v1",
        function_key_file=secret(folder / "function", "function-key-1"),
        subscription_key_file=secret(folder / "subscription", "subscription-key-1"),
        exclude=_VOTES,
        deadline=7200.0,
    )


def _tcap(url: str, folder: Path) -> Tcap:
    return Tcap(name="p", url=url, username="us", password_file=secret(folder / "password", "correct-horse-battery"))


_SOURCES: Final[Mapping[str, Callable[[str, Path], AnySource]]] = {NCMEC: _ncmec, STOPNCII: _stopncii}


@dataclass(frozen=True)
class FirstSync:
    """What a first sync took, and what it is compared with."""

    seconds: float
    worker: float
    """of processor time in the worker"""
    anonymous: int
    download: Timing
    """of a plain client: the same pages"""
    pages: int
    size: int


def first_sync(workdir: Path, kind: str, count: int, pause: float = 0.0) -> FirstSync:
    """Sync everything that a partner has."""
    folder, base = workdir / f"{kind}-{count}", workdir / "first"
    partner_site.make(kind, folder, count)
    measure.warm(folder, "records")
    state = fresh_state(base)
    with serving(kind, folder, pause) as (url, said), open_publisher(state) as publisher, Watched() as watched:
        source = _SOURCES[kind](url, base)
        measure.settle()
        started = time.perf_counter()
        outcome = checked(sync_source(publisher, source, now, prepared_by=Worker(start=watched.start)))
        seconds = time.perf_counter() - started
        assert [one.outcome for one in outcome.lists] == [Outcome.PUBLISHED, Outcome.PUBLISHED]
        targets, size = _targets(said), 0
        download = measure.timed(lambda: _download(url, targets))
        size = outcome.bytes
    return FirstSync(seconds, watched.cpu, watched.anonymous, download, len(targets), size)


def _download(url: str, targets: Sequence[str]) -> None:
    """What any client has to do at least: fetch the pages, one after the other, over one connection."""
    with httpx.Client() as client:
        for target in targets:
            client.get(url + target).raise_for_status()


def _first_sync_figures(workdir: Path, kind: str, name: str, count: int) -> list[Figure]:
    run = first_sync(workdir, kind, count)
    paced = first_sync(workdir, kind, min(count, _PACED_RECORDS), _PAUSE)
    shutil.rmtree(workdir / "first", ignore_errors=True)
    note = f"{run.worker:.1f} s of the worker's processor time; a plain client: {run.download.wall:.1f} s"
    pages = f"{paced.seconds:.1f} and {paced.download.wall:.1f} s for {paced.pages} pages"
    return [
        Figure(
            f"first sync of {count:,} {name} records ({run.pages} pages, {run.size / 1e6:,.0f} MB)",
            run.seconds, "s", note=note,
        ),
        Figure("... anonymous memory of the worker", run.anonymous / 1e6, "MB", _MEMORY),
        Figure(
            f"... from a server that needs {_PAUSE * 1e3:.0f} ms for a page, relative to a plain client",
            paced.seconds / paced.download.wall, "x", _BOUND, note=pages,
        ),
    ]  # fmt: skip


def parse_rates(workdir: Path, count: int) -> list[Figure]:
    """Records a second of one core, with votes."""
    found = []
    for kind, name, parse in (
        (NCMEC, "NCMEC", _ncmec_parser(workdir / f"{NCMEC}-{count}")),
        (STOPNCII, "StopNCII", _stopncii_parser(workdir / f"{STOPNCII}-{count}")),
    ):
        partner_site.make(kind, workdir / f"{kind}-{count}", count)
        records = parse()  # finds imports and caches cold
        timings = [measure.timed(parse) for _ in range(5)]
        rate = records / measure.median(timings).cpu
        found.append(Figure(f"parse {name} records, votes included, one core", rate, "/s", 20_000, at_least=True))
    return found


def _ncmec_parser(folder: Path) -> Callable[[], int]:
    def parse() -> int:
        server = partner_site.NcmecSite(folder)
        query = "from=2000-01-01T00:00:00Z&to=2040-01-01T00:00:00Z"
        reader = NcmecReader(frozenset({IMAGES, VIDEOS}), frozenset(INLINE), RecordSelection(NO_FILTER, _VOTES))
        bodies = (server.answer(f"/v2/entries?{query}&start={1 + page * PAGE}") for page in range(_PARSED))
        return sum(len(reader.read(parse_page(b"".join(body)))) for body in bodies)

    return parse


def _stopncii_parser(folder: Path) -> Callable[[], int]:
    from syncd.sources.documents import parse_json
    from syncd.sources.stopncii import StopNciiReader

    def parse() -> int:
        server, records = partner_site.StopNciiSite(folder), 0
        reader = StopNciiReader(frozenset({IMAGES, VIDEOS}), RecordSelection(NO_FILTER, _VOTES))
        for page in range(_PARSED):
            body = b"".join(server.answer(f"/FetchHashes?pageSize={PAGE}&nextPageToken={page * PAGE}"))
            records += len(reader.read(parse_json(body, "x")["hashRecords"]))
        return records

    return parse


@dataclass(frozen=True)
class _Seed:
    """A first poll of a partner's list that finds it in one piece: a source of files in place of the real one."""

    real: Tcap
    segment: Segment
    name: str = "p"
    type: str = "tcap"
    deadline: float = 3600.0
    caps: Caps = DEFAULT_CAPS
    ages: SourceAges | None = None

    @property
    def checkpoint(self) -> JsonValue:
        return {"after": "1.0,1"}

    @property
    def lists(self) -> tuple[ListName, ...]:
        return self.real.lists

    @property
    def kinds(self) -> Mapping[ListName, ListKind]:
        return self.real.kinds

    @property
    def shape(self) -> JsonValue:
        return self.real.shape

    def check(self) -> None:
        pass

    def check_trust(self, memory: Memory) -> None:
        pass

    @contextlib.contextmanager
    def poll(self, request: PollRequest) -> Iterator["_Seed"]:
        del request
        yield self

    def files(self) -> Iterator[StatedFile]:
        yield StatedFile(CONTENT, WholeList({self.segment.algorithm: self.segment}), None)


@dataclass
class StatedWorld:
    """An operator of a list that a partner stated, and the partner, whose next page a round writes."""

    folder: Path
    rows: int
    publisher: Publisher
    source: Tcap
    said: Lines
    turn: int = 0

    @classmethod
    @contextlib.contextmanager
    def running(cls, folder: Path, rows: int) -> Iterator["StatedWorld"]:
        """A world with the list in its first version. Its segment is made once; the state is new."""
        folder.mkdir(parents=True, exist_ok=True)
        with serving(TCAP, folder) as (url, said):
            source = _tcap(url, folder)
            state = _seeded(folder, rows, source)
            try:
                with open_publisher(state) as publisher:
                    yield cls(folder, rows, publisher, source, said)
            finally:
                shutil.rmtree(state.root)

    def state(self, records: Sequence[Mapping[str, object]]) -> None:
        """Let the partner answer the next poll with these records."""
        self.turn += 1
        page = {"count": len(records), "next": None, "checkpoint": f"{self.turn + 1}.0,1", "results": records}
        (self.folder / "page").write_text(json.dumps(page))

    def sync(self, prepared_by: Prepare = prepare) -> None:
        checked(sync_source(self.publisher, self.source, now, prepared_by=prepared_by))

    def entries(self, count: int) -> list[str]:
        """Entries all over the list, other ones in each turn."""
        step = self.rows // count
        assert self.turn < step
        return [f"e{index * step + self.turn:0{lists.ENTRY_LENGTH - 1}}" for index in range(count)]


def _seeded(folder: Path, rows: int, source: Tcap) -> StateFolder:
    """A new state with the list in its first version."""
    base, ready = folder / "base", folder / "ref.json"
    if not ready.exists():
        made = write_segment(base, Algorithm.SHA256, "base", lists.chunks(rows))
        assert made is not None
        ready.write_text(made.model_dump_json())
    state = fresh_state(folder)
    link_file(base, folder / "linked")
    segment = Segment.open(folder / "linked", SegmentRef.model_validate_json(ready.read_text()))
    with open_publisher(state) as publisher:
        checked(sync_source(publisher, _Seed(source, segment), now))
    return state


def _record(entry: str, digest: str, *, deleted: bool = False) -> dict[str, object]:
    return {"id": entry, "hash_digest": digest, "algorithm": "SHA256", "ideology": "islamist", "deleted": deleted}


def changes(workdir: Path, rows: int, rounds: int = CHANGES) -> list[Timing]:
    """From the last byte of a poll with some changed records to their publication; processor time of both processes.

    Most records have another digest than before; some are new, and some are deleted.
    """
    rng, taken = random.Random(rows), []
    with StatedWorld.running(workdir / f"stated-{rows}", rows) as world, Watched() as watched:
        for number in range(rounds + 1):
            entries = world.entries(CHANGED)
            entries[:10] = [f"new-{number}-{index}" for index in range(10)]
            world.state([_record(one, rng.randbytes(32).hex(), deleted=at % 10 == 9) for at, one in enumerate(entries)])
            watched.refill()
            time.sleep(2)  # a daemon starts its next worker after each sync
            ours = time.process_time()
            world.sync(Worker(start=watched.start))
            ended, cpu = time.monotonic(), time.process_time() - ours + watched.cpu
            if number:  # the first one makes the index
                taken.append(Timing(ended - float(world.said.lines[-1].split()[0]), cpu))
    return taken


def removals(workdir: Path, sizes: Sequence[int], rounds: int = REMOVALS) -> list[Timing]:
    """What a poll with removals by key costs at each size, in one process, medians. The sizes take turns."""
    taken: list[list[Timing]] = [[] for _ in sizes]
    with contextlib.ExitStack() as stack:
        worlds = [stack.enter_context(StatedWorld.running(workdir / f"stated-{rows}", rows)) for rows in sizes]
        for number in range(rounds + 1):
            for world in worlds:
                for files in ("*.arrow", f"*.{KIND}"):
                    measure.warm(world.folder, files)
            measure.settle()
            for world, times in zip(worlds, taken, strict=True):
                world.state([_record(one, "", deleted=True) for one in world.entries(REMOVED)])
                timing = measure.timed(world.sync)
                if number:  # the first one makes the index
                    times.append(timing)
    return [measure.median(times) for times in taken]


def vics(workdir: Path, size: int) -> tuple[int, float]:
    """Bytes of anonymous memory of a worker that reads a dropped VICS file of ``size`` bytes, and its seconds."""
    folder, base = workdir / f"vics-{size}", workdir / "first"
    if not (folder / "list.json.sha256").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_vics(folder / "list.json", size)
        (folder / "list.json.sha256").write_text(f"{sha256_file(folder / 'list.json')}  list.json\n")
    state = fresh_state(base)
    source = Drop(name="p", list=IMAGES, folder=folder, profile="vics")
    with open_publisher(state) as publisher, Watched() as watched:
        started = time.perf_counter()
        checked(sync_source(publisher, source, now, prepared_by=Worker(start=watched.start)))
        seconds = time.perf_counter() - started
    shutil.rmtree(base)
    return watched.anonymous, seconds


def _write_vics(path: Path, size: int) -> None:
    """A file of VICS 2.0 with a record for each 700 bytes: three hashes, and what a record carries besides."""
    rng = random.Random(size)
    context = "https://x.invalid/ProjectVic/DataModels/2.0.xml/US/$metadata#Media"
    with path.open("w") as out:
        out.write(f'{{"@odata.context": "{context}", "value": [')
        number = 0
        while out.tell() < size:
            record = {
                "MediaID": number,
                "Category": number % 3,
                "MD5": rng.randbytes(16).hex().upper(),
                "SHA1": rng.randbytes(20).hex().upper(),
                "PhotoDNA": base64.b64encode(rng.randbytes(144)).decode(),
                "MediaSize": 12345,
                "DateUpdated": "2026-01-02T03:04:05-05:00",
                "IsPrecategorized": "false",
                "VictimIdentified": "true",
                "Series": "",
                "Tags": "",
                "Exifs": [{"PropertyName": "Model", "PropertyValue": "Example " * 20}],
            }
            out.write(("," if number else "") + json.dumps(record))
            number += 1
        out.write("]}")


def figures(workdir: Path, rows: int, records: int = RECORDS, size: int = VICS_BYTES) -> list[Figure]:
    """All of them. ``rows``: of the list in which some records change; removals are measured in five times as many."""
    few, many = min(100_000, rows), 5 * rows
    found = _first_sync_figures(workdir, NCMEC, "NCMEC", records)
    found += _first_sync_figures(workdir, STOPNCII, "StopNCII", records)
    found += parse_rates(workdir, records)
    changed = changes(workdir, rows)
    median, most = measure.median(changed), max(one.wall for one in changed)
    memory, seconds = vics(workdir, size)
    less, more = removals(workdir, (few, many))
    what = f"removal of {REMOVED:,} entries by key, {many:,} rows, more than at {few:,}"
    return [
        *found,
        Figure(
            f"{CHANGED} changed records, {rows:,} rows, last byte to published", median.wall * 1e3, "ms", 300,
            note=f"{median.cpu * 1e3:.0f} ms of processor time for the whole sync, in both processes",
        ),
        Figure("... the slowest", most * 1e3, "ms", note=f"of {CHANGES}"),
        Figure(
            f"worker's anonymous memory, dropped VICS file of {size / 1e9:g} GB", memory / 1e6, "MB", _MEMORY,
            note=f"{seconds:.0f} s",
        ),
        Figure(
            what, (more.cpu - less.cpu) * 1e3, "ms", 20,
            note=f"{more.cpu * 1e3:.0f} and {less.cpu * 1e3:.0f} ms of processor time, medians of {REMOVALS} polls",
        ),
        Figure("... wall time", (more.wall - less.wall) * 1e3, "ms", 20),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.partners", description=__doc__)
    number = lambda text: int(float(text))  # noqa: E731 - 10e6 is a number here
    parser.add_argument("--rows", type=number, default=10_000_000, help="of a list that changes (10e6)")
    parser.add_argument("--records", type=number, default=RECORDS, help="of a first sync (1e6)")
    parser.add_argument("--vics", type=number, default=VICS_BYTES, help="bytes of a dropped file (2e9)")
    parser.add_argument("--workdir", type=Path, default=Path(tempfile.gettempdir()) / "syncd-benchmarks")
    options = parser.parse_args(arguments)
    options.workdir.mkdir(parents=True, exist_ok=True)
    show(figures(options.workdir, options.rows, options.records, options.vics))


if __name__ == "__main__":
    main()
