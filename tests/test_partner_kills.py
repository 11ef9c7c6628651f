"""Processes that are killed between any two requests to a partner that signs nothing: kill -9 changes nothing."""

import os
import queue
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from partner_child import Children, children
from partner_world import KINDS, PartnerWorld, partner_world
from syncd.errors import StoreError
from syncd.model import ListName
from syncd.outcomes import Outcome
from syncd.service.worker import Process, Worker, start
from syncd.verify.state import prove_state

MOST = 8
"""requests of one sync"""


@pytest.fixture(scope="module")
def processes() -> Iterator[Children]:
    with children() as started:
        yield started


def killed(road: PartnerWorld, processes: Children, at: int) -> bool:
    """Sync in a process that is killed when its request of this number has arrived; False: it made fewer, and ended."""
    (source,) = road.sources.values()
    started: queue.Queue[int] = queue.Queue()
    source.fake.asked.clear()
    source.fake.before = {at: lambda: os.kill(started.get(timeout=60), signal.SIGKILL)}
    started.put(processes.start(road.base, source.name, road.model.now))
    status = processes.wait()
    source.fake.before = {}
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert (os.waitstatus_to_exitcode(status), len(source.fake.asked)) == (0, at)
    return False


def standing(road: PartnerWorld) -> Any:
    """All that a process could have changed: what is served, what is published, and how far the partner was read."""
    (source,) = road.sources.values()
    served = {path.relative_to(road.base): path.read_bytes() for path in files(road.world.state.feed.root)}
    with road.world.publisher() as publisher:
        origins = publisher.catalog.origins()
        heads = publisher.catalog.heads()
        memory = publisher.catalog.source(source.name).memory
    return served, origins, heads, memory, road.published(source.name)


def files(folder: Path) -> Iterator[Path]:
    """The files of a feed that matchers may ask for."""
    return (path for path in folder.rglob("*") if path.is_file() and ".work" not in path.parts)


@pytest.mark.parametrize("word", KINDS)
def test_a_kill_between_two_requests_changes_nothing(word: str, tmp_path: Path, processes: Children) -> None:
    """A first sync and a later one are killed at each request in turn; the one that is not killed is exact."""
    with partner_world(tmp_path, word) as road:
        (source,) = road.sources.values()
        for least in (4, 1):
            before = standing(road)
            kills = next(at for at in range(MOST) if not killed_as(road, processes, at, before))
            assert kills >= least
            assert road.published(word) == source.rows != before[-1]
            for number in (2, 5):
                source.fake.model.delete(number)
            source.fake.model.put(4)
            source.fake.model.put(14)
            road.tick(3600)
        assert {origin.list for origin in standing(road)[1]} == set(map(ListName, source.kind.media))
        assert prove_state(road.world.state, None, road.clock()).faults == ()


def killed_as(road: PartnerWorld, processes: Children, at: int, before: Any) -> bool:
    """As `killed`; a process that was killed has changed nothing."""
    if not killed(road, processes, at):
        return False
    assert standing(road) == before
    return True


def test_a_worker_that_is_killed_at_a_request_changes_nothing(tmp_path: Path) -> None:
    """The process that holds the keys reports it and serves what it had; the next sync is exact."""
    with partner_world(tmp_path, "ncmec") as road:
        (source,) = road.sources.values()
        road.sync()
        source.fake.model.delete(2)
        road.tick(60)
        workers: list[Process] = []

        def started() -> Process:
            workers.append(start())
            return workers[0]

        def kill() -> None:
            workers[0].kill()

        before = standing(road)
        source.fake.before = {len(source.fake.asked) + 1: kill}
        outcome = road.sync(by=Worker(start=started))
        assert isinstance(outcome.error, StoreError)
        assert "ended by signal 9" in outcome.error.message
        assert standing(road) == before
        assert road.sync().outcome is Outcome.PUBLISHED
        assert road.published("ncmec") == source.rows
