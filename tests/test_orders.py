"""What the daemon does for whoever asks: several sources at once, and what goes wrong with some of them."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from command_line import configure, syncd
from syncd.errors import RefusedError, StoreError, SyncdError
from syncd.event import Event
from syncd.events import ControlRefused
from syncd.outcomes import Outcome
from syncd.pipeline.outcome import SyncOutcome
from syncd.pipeline.publisher import Publisher
from syncd.service.access import Access
from syncd.service.checkins import Checkins
from syncd.service.control import Order
from syncd.service.orders import Orders
from syncd.service.questions import Questions
from syncd.service.syncs import RunningSync, Syncs
from syncd.service.worker import Worker
from syncd.sources.signed_feed import SignedFeed
from world import World

FEEDS = tuple(SignedFeed(name, "file:///nowhere", Path("/root.json")) for name in ("a", "b", "c"))
REFUSED = RefusedError("a dry run of b is under way", hint="ask again")


class Started:
    """In place of the syncs: each has ended well at once, but for those that are refused."""

    def __init__(self, refused: dict[str, SyncdError], running: RunningSync | None = None) -> None:
        self.refused, self.running = refused, running

    def start(self, feed: SignedFeed, asked_by: str, *, dry_run: bool, reason: str = "") -> tuple[RunningSync, bool]:
        del asked_by, reason
        if feed.name in self.refused:
            raise self.refused[feed.name]
        done = RunningSync(f"id-{feed.name}", feed.name, dry_run, cast(Worker, None))
        done.end(SyncOutcome(done.sync_id, feed.name))
        return done, False

    def find(self, sync_id: str) -> RunningSync | None:
        del sync_id
        return self.running


@pytest.fixture
def give(world: World) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Give the order to sync all three sources, of which some are refused."""
    with world.publisher() as publisher:

        def answers(refused: dict[str, SyncdError], log: list[Event], *, wait: bool = True) -> list[dict[str, Any]]:
            syncs = cast(Syncs, Started(refused))
            access = Access(publisher.catalog)
            catalog = publisher.catalog
            orders = Orders(
                state_dir="s",
                syncs=syncs,
                catalog=catalog,
                sources=lambda _: FEEDS,
                overview=nothing,
                access=access,
                checkins=Checkins(catalog),
                clock=world.clock,
                emit=log.append,
                lists=cast(Any, None),
                questions=Questions(world.state, catalog, world.clock),
            )
            return list(orders(Order(do="sync", state_dir="s", wait=wait), "alice"))

        yield answers


def nothing(*_: str) -> NoReturn:
    """No overview is asked for, and no list is ended."""
    raise AssertionError


def ended(answers: list[dict[str, Any]]) -> list[tuple[str, int, str | None]]:
    """Source, exit code and message of each sync."""
    syncs = [one["sync"] for one in answers if "sync" in one]
    return [(one["source"], one["exit_code"], one["error"] and one["error"]["message"]) for one in syncs]


def test_a_source_that_is_refused_does_not_keep_others_from_going_on(give: Any) -> None:
    """The others are synced, and told; so is the refusal, as the outcome of that source and in the log."""
    log: list[Event] = []
    answers = give({"b": REFUSED}, log)
    assert [one["accepted"]["source"] for one in answers if "accepted" in one] == ["a", "c"]
    assert ended(answers) == [("b", 6, "a dry run of b is under way"), ("a", 0, None), ("c", 0, None)]
    assert answers[-1] == {"end": 6}
    assert log == [ControlRefused("alice", "a dry run of b is under way")]


def test_nobody_who_does_not_wait_misses_a_refusal(give: Any) -> None:
    """What was started is told by its ID, what was not by its error."""
    answers = give({"b": REFUSED}, [], wait=False)
    assert [one["accepted"]["sync_id"] for one in answers if "accepted" in one] == ["id-a", "id-c"]
    assert ended(answers) == [("b", 6, "a dry run of b is under way")]
    assert answers[-1] == {"end": 6}


def test_where_nothing_is_started_the_order_is_refused(give: Any) -> None:
    """With the first error."""
    with pytest.raises(StoreError, match="disk"):
        give({"a": StoreError("disk"), "b": REFUSED, "c": REFUSED}, [])


def test_a_sync_for_which_there_is_no_thread_can_be_started_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or its source would be under way for ever, and whoever asks would wait for that."""

    def fail(_: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    with world.publisher() as publisher:
        syncs = Syncs(publisher, world.clock, lambda _: None, lambda _: None)
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", fail)
            with pytest.raises(StoreError, match="the sync of a could not be started: can't start new thread"):
                syncs.start(FEEDS[0])
        assert syncs.running() == ()
        running, joined = syncs.start(FEEDS[0])
        assert joined is False
        assert running.wait(60) is not None


def test_a_command_that_does_not_wait_shows_what_was_refused(
    give: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was started on standard output, the rest as an error, with its exit code."""
    configure(tmp_path / "syncd.toml", 'state_dir = "/s"', monkeypatch)
    answers = give({"b": REFUSED}, [], wait=False)
    monkeypatch.setattr("syncd.cli.sync.send_order", lambda *_: answers)
    ran = syncd("sync", "--no-wait")
    assert (ran.code, ran.out) == (6, "id-a  a\nid-c  c\n")
    assert ran.err == "error: a dry run of b is under way\n  to do: ask again\n"
    told = syncd("sync", "--no-wait", "--json").json
    assert ([one["source"] for one in told["started"]], told["refused"][0]["exit_code"]) == (["a", "c"], 6)


def told(world: World, publisher: Publisher, running: RunningSync | None) -> tuple[str, int]:
    """What is told of a sync, and the exit code."""
    syncs, state, catalog = cast(Syncs, Started({}, running)), str(world.state.root), publisher.catalog
    access = Access(catalog)
    orders = Orders(
        state_dir=state,
        syncs=syncs,
        catalog=catalog,
        sources=lambda _: (),
        overview=nothing,
        access=access,
        checkins=Checkins(catalog),
        clock=world.clock,
        emit=lambda _: None,
        lists=cast(Any, None),
        questions=Questions(world.state, catalog, world.clock),
    )
    (answer,) = orders(Order(do="sync_status", state_dir=state, sync_id="5afe"), "alice")
    return answer["status"]["outcome"], answer["end"]


def test_a_sync_that_nobody_makes_any_more_is_not_running(world: World) -> None:
    """Its end could not be recorded, say: it holds no lock."""
    with world.publisher() as publisher:
        publisher.catalog.begin_sync("5afe", "iwf", world.clock())
        assert told(world, publisher, None) == ("interrupted", 6)


def test_a_sync_is_told_as_it_ended_once_that_is_recorded(world: World) -> None:
    """Though the daemon still tells others of it."""
    under_way = RunningSync("5afe", "iwf", dry_run=False, worker=cast(Worker, None))
    with world.publisher() as publisher:
        publisher.catalog.begin_sync("5afe", "iwf", world.clock())
        assert told(world, publisher, under_way) == ("running", 0)
        publisher.catalog.finish_sync("5afe", Outcome.HELD, now=world.clock())
        assert told(world, publisher, under_way) == ("held", 3)
