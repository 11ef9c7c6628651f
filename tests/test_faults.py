"""What storage keeps the daemon from doing: told by status, check, dashboard and log until the same thing succeeds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from syncd import events
from syncd.catalog.catalog import Catalog
from syncd.errors import RefusedError, SourceError, StoreError
from syncd.event import Event
from syncd.outcomes import Level, Outcome
from syncd.pipeline.outcome import SyncOutcome
from syncd.report.judged import StorageFault
from syncd.service.faults import Faults
from world import START, Clock

FULL = StoreError("the disk is full", hint="free space")


@dataclass
class Told:
    """The faults of a daemon, and what it was told of them."""

    catalog: Catalog
    clock: Clock = field(default_factory=Clock)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.faults = Faults(self.catalog, self.clock, self.events.append)

    def take(self) -> list[Event]:
        """The events since the last look."""
        found, self.events[:] = list(self.events), []
        return found


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    with Catalog.open(tmp_path / "catalog.sqlite3") as catalog:
        yield Told(catalog)


def test_a_sync_that_could_not_be_begun_is_a_fault_until_one_is_recorded(told: Told) -> None:
    """Since it came first, with the words of the last time; an event at once, every ten minutes, and at its end."""
    told.faults.job_failed("source:iwf", FULL)
    assert told.take() == [events.StorageFailed("the disk is full", "free space", "sync of iwf")]
    assert told.events == []
    told.clock.forward(minutes=9)
    told.faults.sync_failed("iwf", StoreError("still full", hint="free more"))
    told.faults.job_done("source:iwf")  # begun, that is
    assert told.take() == []
    assert told.faults.current() == (StorageFault("sync of iwf", START, "still full", "free more", "SyncdSyncsFail"),)
    told.clock.forward(minutes=1)
    told.faults.job_failed("source:iwf", FULL)
    assert told.take() == [events.StorageFailed("the disk is full", "free space", "sync of iwf")]
    told.catalog.begin_sync("5afe", "iwf", told.clock())
    told.catalog.finish_sync("5afe", Outcome.UP_TO_DATE, now=told.clock())
    told.faults.sync_ended(SyncOutcome("5afe", "iwf"))
    assert told.take() == [events.StorageRecovered("sync of iwf")]
    assert told.faults.current() == ()


def test_a_sync_that_is_recorded_is_told_by_its_record(told: Told) -> None:
    """Once: status has the outcome, the message, and who must act."""
    told.catalog.begin_sync("5afe", "iwf", told.clock())
    told.catalog.finish_sync("5afe", Outcome.FAILED, now=told.clock())
    told.faults.sync_ended(SyncOutcome("5afe", "iwf", error=FULL))
    assert told.faults.current() == ()


@pytest.mark.parametrize(("error", "count"), [(FULL, 1), (RefusedError("busy"), 0), (SourceError("away"), 0)])
def test_a_sync_whose_end_is_not_recorded_is_a_fault_of_storage_alone(
    told: Told, error: StoreError | RefusedError | SourceError, count: int
) -> None:
    """The catalog has it as running still, or not at all."""
    told.catalog.begin_sync("5afe", "iwf", told.clock())
    told.faults.sync_ended(SyncOutcome("5afe", "iwf", error=error))
    assert len(told.faults.current()) == count


def test_a_catalog_that_cannot_be_read_is_a_fault(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the record says."""
    monkeypatch.setattr(told.catalog, "sync", lambda _: (_ for _ in ()).throw(FULL))
    told.faults.sync_ended(SyncOutcome("5afe", "iwf", error=FULL))
    assert [one.what for one in told.faults.current()] == ["sync of iwf"]


def test_a_chore_is_a_fault_until_it_runs(told: Told) -> None:
    """What is no fault of storage is a bug, and not remembered."""
    told.faults.job_failed("check-ins", FULL)
    told.faults.job_failed("proof", KeyError("x"))
    assert [one.what for one in told.faults.current()] == ["check-ins"]
    assert told.take()[1:] == [events.InternalError("KeyError", "proof")]
    told.faults.job_done("check-ins")
    told.faults.job_done("proof")
    assert told.take() == [events.StorageRecovered("check-ins")]


def test_a_timestamp_that_is_not_signed_is_told_by_its_own_event(told: Told) -> None:
    """And remembered until it is signed, though the chore that tries has run."""
    told.faults.not_signed(FULL)
    told.faults.job_done("timestamp")
    assert [one.name() for one in told.take()] == ["timestamp_not_signed"]
    assert [one.what for one in told.faults.current()] == ["timestamp"]
    told.faults.worked("timestamp")
    assert told.faults.current() == ()
    told.faults.not_signed(RefusedError("the feed is in use"))
    assert told.faults.current() == ()


def test_a_fault_is_an_error_in_the_log() -> None:
    """A person must act."""
    assert events.StorageFailed("m", "t", "w").importance is Level.ERROR
