"""The write side of the road: syncs of deltas, of nothing and of everything, over loopback HTTP."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import measure
from benchmarks.lists import LIST, Partner, now
from benchmarks.measure import Figure, Timing
from syncd.errors import SyncdError
from syncd.fetch import Endpoint
from syncd.feed.folder import FeedFolder
from syncd.matcher.pull import Pulled, pull
from syncd.pipeline.state import StateFolder, init, open_publisher
from syncd.pipeline.sync import SyncOutcome, sync_source
from syncd.sources.signed_feed import SignedFeed

DELTA: Final = 1000
ROUNDS: Final = 9
"""Deltas measured: more than `compact.RUN`, so that one of them folds."""

_SERVE: Final = """
import sys
from pathlib import Path
from syncd.feed.serve import running_server
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

    @classmethod
    def at(cls, base: Path, count: int) -> "World":
        """The world in ``base``; the partner's list is made once and used again."""
        ready = base / "ready"
        if not ready.exists():
            base.mkdir(parents=True, exist_ok=True)
            Partner.make(base, count)
            init(StateFolder(base / "state"), base / "operator-offline", count=1, threshold=1, now=now())
            ready.touch()
        return cls(base, Partner(FeedFolder(base / "partner")))

    @property
    def state(self) -> StateFolder:
        return StateFolder(self.base / "state")

    @property
    def copy(self) -> Path:
        return self.base / "copy"

    def fresh_state(self, name: str) -> StateFolder:
        """Another operator's state, with nothing in it yet."""
        state = StateFolder(self.base / name)
        init(state, self.base / f"{name}-offline", count=1, threshold=1, now=now())
        return state

    def version(self) -> int:
        """Of the partner's list, and the number of the next delta."""
        return self.partner.version()


def _source(partner: Partner, url: str) -> SignedFeed:
    return SignedFeed("iwf", url, partner.root, deadline=3600.0)


def sync_once(state: StateFolder, partner: Partner, url: str) -> None:
    """What `syncd sync` does: open the state, sync, close it."""
    with open_publisher(state) as publisher:
        _checked(sync_source(publisher, _source(partner, url), now))


def _checked(outcome: SyncOutcome) -> SyncOutcome:
    for error in (outcome.error, *(one.error for one in outcome.lists)):
        if error is not None:
            raise error
    return outcome


def _pull(world: World, url: str) -> Pulled:
    root = world.state.feed.path("root.json").read_bytes()
    pulled = pull(Endpoint(url), root, world.copy, now=now(), deadline=3600.0)
    for error in pulled.errors:
        raise error
    return pulled


@dataclass(frozen=True)
class DeltaTimes:
    """Medians of what one delta costs at each step, of a list of ``rows``; and its slowest sync."""

    rows: int
    publish: Timing
    sync: Timing
    slowest: Timing
    pull: Timing
    nothing: Timing
    pull_nothing: Timing


def deltas(world: World, rows: int, count: int = DELTA, rounds: int = ROUNDS) -> DeltaTimes:
    """Publish, sync and pull ``rounds`` deltas of ``count`` rows, each step in this running process."""
    publishes, syncs, pulls, idle, idle_pulls = [], [], [], [], []
    with (
        server(world.partner.feed) as upstream,
        server(world.state.feed) as downstream,
        open_publisher(world.state) as publisher,
    ):
        source = _source(world.partner, upstream)
        _checked(sync_source(publisher, source, now))
        _pull(world, downstream)
        for turn in range(rounds + 1):
            measure.warm(world.base)
            number = world.version()
            measure.settle()
            publishes.append(measure.timed(lambda: world.partner.publish_delta(number, count)))
            syncs.append(measure.timed(lambda: _checked(sync_source(publisher, source, now))))
            pulls.append(measure.timed(lambda: _pull(world, downstream)))
            idle.append(measure.timed(lambda: _checked(sync_source(publisher, source, now))))
            idle_pulls.append(measure.timed(lambda: _pull(world, downstream)))
            if not turn:  # the first one finds pages and caches cold
                for times in (publishes, syncs, pulls, idle, idle_pulls):
                    times.clear()
    medians = [measure.median(times) for times in (publishes, syncs, pulls, idle, idle_pulls)]
    slowest = max(syncs, key=lambda one: one.wall)
    return DeltaTimes(rows, medians[0], medians[1], slowest, medians[2], medians[3], medians[4])
