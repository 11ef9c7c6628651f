"""What every kind of source promises to the rest of syncd, shown on the one kind there is."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncd.errors import RefusedError, StoreError, UsageError
from syncd.fetch import Meter
from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.format.freshness import SourceAges
from syncd.model import ListName
from syncd.operate.repair import retrust
from syncd.pipeline.preparation import Request
from syncd.pipeline.prepare import prepare
from syncd.sources.feed_memory import FeedMemory
from syncd.sources.source import Memory, Source
from syncd.trust.values import Floors
from world import World, rows

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Drop:
    """A source of a kind that signs nothing."""

    name: str = "drop"
    type: str = "drop"
    lists: tuple[ListName, ...] = ()
    deadline: float = 20.0
    caps: Caps = DEFAULT_CAPS
    ages: SourceAges | None = None

    def check(self) -> None:
        """Nothing is named."""

    def check_trust(self, memory: Memory) -> None:
        """There is none."""


def test_what_a_feed_remembers_is_the_same_when_it_is_read_again() -> None:
    """Floors, clock and pinned root, as plain JSON."""
    memory = FeedMemory(Floors(1, 41, 12, {"lists": 9}, NOON), "f" * 64)
    assert memory.as_json() == {
        "floors": {"root": 1, "timestamp": 41, "snapshot": 12, "roles": {"lists": 9}, "clock": "2026-03-01T12:00:00Z"},
        "root_sha256": "f" * 64,
        "type": "feed",
    }
    assert FeedMemory.of(memory.as_json()) == memory
    assert FeedMemory.of({}) == FeedMemory(Floors(), None)


@pytest.mark.parametrize("memory", [{"floors": 7}, {"floor": {}}, {"floors": {"timestamp": "x"}}])
def test_a_memory_that_cannot_be_read_is_a_store_error(world: World, memory: Memory) -> None:
    """Floors that were lost must not be taken for none."""
    with pytest.raises(StoreError, match="state of a signed feed in the catalog cannot be read"):
        world.source().check_trust(memory)


def test_a_source_of_another_type_needs_another_name(world: World) -> None:
    """What one kind remembers says nothing to another, and its lists would change hands without a word."""
    with pytest.raises(RefusedError, match="the type of source iwf has changed") as refused:
        world.source().check_trust({"type": "ncmec", "checkpoint": "2026-01-01"})
    assert "another name than iwf" in refused.value.hint


def test_a_source_that_remembers_nothing_is_followed_by_the_root_that_is_configured(world: World) -> None:
    """Until a sync has verified something, the configuration alone says whom to trust."""
    world.source().check_trust({})
    world.publish(full=rows(0, 3))
    world.sync()
    with world.publisher() as publisher:
        world.source().check_trust(publisher.catalog.source("iwf").memory)


def test_a_source_without_a_root_is_not_retrusted(world: World) -> None:
    """There is nothing to pin."""
    source: Source = Drop()
    with world.publisher() as publisher, pytest.raises(UsageError, match="source drop has no trust root"):
        retrust(publisher, source, world.root.read_bytes(), "called them", world.clock(), "tester")


def test_a_kind_that_no_road_is_built_for_is_a_bug(world: World) -> None:
    """It is not passed over as if it had nothing new."""
    request = Request(Drop(), Path("/nowhere"), {}, {}, world.clock())
    with pytest.raises(TypeError, match="a source of type 'drop'"):
        next(prepare(request, lambda *_: None, Meter()))
