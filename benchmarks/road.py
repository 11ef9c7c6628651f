"""The write side of the road: syncs of deltas, of nothing and of everything, over loopback HTTP."""

import contextlib
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import measure
from benchmarks.lists import Partner, now
from benchmarks.measure import Run, Timing
from benchmarks.relay import counting_relay
from syncd.catalog.folder import StateFolder
from syncd.feed.folder import FeedFolder
from syncd.fetch import Endpoint
from syncd.matcher.pull import PullResult, pull
from syncd.operate.setup import init
from syncd.pipeline.outcome import SyncOutcome
from syncd.pipeline.publisher import Publisher, open_publisher
from syncd.pipeline.sync import sync_source
from syncd.sources.signed_feed import SignedFeed

DELTA: Final = 1000
ROUNDS: Final = 25
"""Deltas measured: more than `compact.RUN`, so that one of them folds."""

COMPARED: Final = 120
"""Syncs whose processor times are compared: they differ by more than lists of different sizes do."""

_SERVE: Final = """
import sys
from pathlib import Path
from syncd.service.web.partner import running_server
with running_server(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def server(folder: FeedFolder) -> Iterator[str]:
    """Serve a feed from a process of its own, so that its work is not counted as ours."""
    command = [sys.executable, "-c", _SERVE, str(folder.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


@dataclass(frozen=True)
class World:
    """A partner with a list, an operator and a matcher's host, in one folder."""

    base: Path
    partner: Partner
    rows: int
    """in the base of the partner's list"""

    @classmethod
    def at(cls, base: Path, count: int) -> "World":
        """The world in ``base``; the partner's list is made once and used again."""
        ready = base / "ready"
        if not ready.exists():
            base.mkdir(parents=True, exist_ok=True)
            Partner.make(base, count)
            init(StateFolder(base / "state"), base / "operator-offline", count=1, threshold=1, now=now())
            ready.touch()
        return cls(base, Partner(FeedFolder(base / "partner")), count)

    @property
    def state(self) -> StateFolder:
        return StateFolder(self.base / "state")

    @property
    def copy(self) -> Path:
        return self.base / "copy"

    def fresh_state(self, name: str) -> StateFolder:
        """Another operator's state, with nothing in it yet."""
        for path in (self.base / name, self.base / f"{name}-offline"):
            shutil.rmtree(path, ignore_errors=True)
        state = StateFolder(self.base / name)
        init(state, self.base / f"{name}-offline", count=1, threshold=1, now=now())
        return state

    def version(self) -> int:
        """Of the partner's list, and the number of the next delta."""
        return self.partner.version()


def source_of(partner: Partner, url: str) -> SignedFeed:
    """The partner as a source that is followed."""
    return SignedFeed("iwf", url, partner.root, deadline=3600.0)


def sync_once(state: StateFolder, partner: Partner, url: str) -> None:
    """What `syncd sync` does: open the state, sync, close it."""
    with open_publisher(state) as publisher:
        checked(sync_source(publisher, source_of(partner, url), now))


def checked(outcome: SyncOutcome) -> SyncOutcome:
    """The outcome of a sync; raises its first error."""
    for error in (outcome.error, *(one.error for one in outcome.lists)):
        if error is not None:
            raise error
    return outcome


def _pull(world: World, url: str) -> PullResult:
    root = world.state.feed.path("root.json").read_bytes()
    pulled = pull(Endpoint(url), root, world.copy, now=now(), deadline=3600.0)
    for error in pulled.errors:
        raise error
    return pulled


@dataclass(frozen=True)
class DeltaTimes:
    """Medians of what one delta costs at each step, of a list of ``rows``; its slowest sync; and a poll for nothing."""

    rows: int
    publish: Timing
    sync: Timing
    slowest: Timing
    pull: Timing
    nothing: Timing
    pull_nothing: Timing
    idle_requests: int
    idle_bytes: int


class _Site:
    """A world with its servers and its operator's process running, and the times taken there."""

    def __init__(self, world: World, upstream: str, downstream: str, publisher: Publisher) -> None:
        self.world, self._upstream, self._downstream, self._publisher = world, upstream, downstream, publisher
        self._times: dict[str, list[Timing]] = defaultdict(list)
        self.sync()
        self.pull()

    @classmethod
    @contextlib.contextmanager
    def running(cls, world: World) -> Iterator["_Site"]:
        with (
            server(world.partner.feed) as upstream,
            server(world.state.feed) as downstream,
            open_publisher(world.state) as publisher,
        ):
            yield cls(world, upstream, downstream, publisher)

    def sync(self, url: str = "") -> None:
        checked(sync_source(self._publisher, source_of(self.world.partner, url or self._upstream), now))

    def pull(self) -> None:
        _pull(self.world, self._downstream)

    def sync_of(self, count: int) -> Timing:
        """What a delta of ``count`` rows costs to sync."""
        self.world.partner.publish_delta(self.world.version(), count)
        return measure.timed(self.sync)

    def round(self, count: int, *, counts: bool) -> None:
        """One delta's way, and polls that find nothing new; ``counts`` says whether the times do."""
        number = self.world.version()
        steps: list[tuple[str, Callable[[], None]]] = [
            ("publish", lambda: self.world.partner.publish_delta(number, count)),
            ("sync", self.sync),
            ("pull", self.pull),
            ("nothing", self.sync),
            ("pull_nothing", self.pull),
        ]
        for name, step in steps:
            timing = measure.timed(step)
            if counts:
                self._times[name].append(timing)

    def times(self) -> DeltaTimes:
        medians = {name: measure.median(taken) for name, taken in self._times.items()}
        slowest = max(self._times["sync"], key=lambda one: one.wall)
        with counting_relay(self._upstream) as relay:
            self.sync(relay.url)
        return DeltaTimes(
            self.world.rows, slowest=slowest, idle_requests=relay.requests, idle_bytes=relay.received, **medians
        )


def deltas(worlds: Sequence[World], count: int = DELTA, rounds: int = ROUNDS) -> list[DeltaTimes]:
    """Publish, sync and pull ``rounds`` deltas of ``count`` rows in each world, each step in this running process.

    The worlds take turns, so that a busy spell of the machine falls on all of them.
    """
    with contextlib.ExitStack() as stack:
        sites = [stack.enter_context(_Site.running(world)) for world in worlds]
        for number in range(rounds + 1):
            for world in worlds:  # all before the first: reading a list leaves no cache of the processor as it was
                measure.warm(world.base)
            measure.settle()
            for site in sites:
                site.round(count, counts=number > 0)  # the first one finds caches cold
        return [site.times() for site in sites]


def processor_times(worlds: Sequence[World], count: int = DELTA, rounds: int = COMPARED) -> list[float]:
    """Seconds of processor time that the sync of a delta of ``count`` rows costs in each world, medians of ``rounds``.

    Nothing else is done in between, and each world is as often the first of a round as the last. The lists are read
    anew before, as after a restart: how a file lies in the page cache depends on how it came there.
    """
    taken: list[list[float]] = [[] for _ in worlds]
    with contextlib.ExitStack() as stack:
        sites = [stack.enter_context(_Site.running(world)) for world in worlds]
        turns = list(zip(sites, taken, strict=True))
        for world in worlds:
            measure.forget(world.state.root)
        for _ in range(rounds):
            for world in worlds:
                measure.warm(world.state.root)
            measure.settle()
            for site, times in turns:
                times.append(site.sync_of(count).cpu)
            turns.reverse()
    return [statistics.median(times) for times in taken]


def first_sync(world: World) -> tuple[Run, float]:
    """A first sync in a process of its own, and the yardstick: seconds to copy, hash and sync the same file."""
    state = world.fresh_state("first")
    base = world.partner.base_segment()
    measure.warm(world.partner.feed.root)
    before = measure.copy_and_hash(base, world.base)
    with server(world.partner.feed) as upstream:
        run = measure.in_process(sync_once, state, world.partner, upstream)
    return run, (before + measure.copy_and_hash(base, world.base)) / 2
