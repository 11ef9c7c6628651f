"""Who needs old files and records in spite of the limits, and what is said once they are gone."""

from dataclasses import replace
from typing import Any

import pytest

from command_line import operate, syncd
from scrapes import scrape
from syncd.catalog.catalog import Catalog
from syncd.errors import StoreError, UsageError
from syncd.history.keep import keep
from syncd.matcher import Matcher
from syncd.model import Digest, ListName
from syncd.operate import suppressions
from syncd.operate.holds import end_hold
from syncd.operate.rollback import rollback, unpin
from syncd.operate.suppression_ends import unsuppress
from syncd.operate.suppression_order import Correction, SuppressionOrder
from syncd.outcomes import Outcome
from syncd.report import overview, status
from syncd.retention import RetentionLimits
from test_explain import asked, of_list, why
from test_metrics import told
from test_retention import FEW, clean, clean_twice, files, load, many, prove, versions
from world import HEAD, IMAGES, World, row, rows

__all__ = ["many"]  # a fixture

SMALLEST = RetentionLimits(published_versions=1, deltas=1, evidence=1)
BASE = frozenset(range(40)) | frozenset(range(100, 110))
"""The numbers on the list of `many`: version 1 has 0 to 39, each later one adds another from 100 on."""


def served(world: World) -> frozenset[int]:
    """The numbers below 1000 that a matcher answers after a pull."""
    assert not world.pull().errors
    matcher = Matcher.open(world.copy, clock=world.clock)
    return frozenset(number for number in range(1000) if world.hits(number, matcher))


def sync(world: World, **change: Any) -> None:
    """The partner publishes a change, and the operator syncs."""
    world.publish(**change)
    assert world.sync().exit_code == 0


def test_the_version_that_a_list_is_pinned_to_stays(many: World) -> None:
    """Its rows are the wanted ones until the end of the pin, however old it becomes."""
    with many.publisher() as publisher:
        rollback(publisher, HEAD, 3, reason="bad", actor="alice", now=many.clock())
    pinned = frozenset(range(40)) | {100, 101}
    for number in range(3):
        many.clock.forward(days=20)
        sync(many, add=[row(300 + number)], remove=[row(number)])
        clean_twice(many, FEW)
        with many.publisher() as publisher:
            publisher.catalog.prune_versions(HEAD, 2)
    assert served(many) == pinned - {0, 1, 2}
    sync(many, add=[row(0)])
    assert served(many) == pinned - {1, 2}, "the pinned version has it, and the partner again"
    prove(many)
    with many.publisher() as publisher:
        unpin(publisher, HEAD, reason="mended", actor="bob", now=many.clock())
    assert served(many) == (BASE | {300, 301, 302}) - {1, 2}
    prove(many)


def test_a_rollback_names_the_versions_that_are_kept(many: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a matcher has loaded is among them; one whose files are gone is refused, and nothing changes."""
    monkeypatch.setattr("syncd.publish.change.RECENT", 2)
    versions(many, 5, start=300)
    load(many, 4)
    clean_twice(many, SMALLEST)
    with many.publisher() as publisher:
        with pytest.raises(UsageError) as refused:
            rollback(publisher, HEAD, 6, reason="bad", actor="alice", now=many.clock())
        assert refused.value.message == "version 6 of iwf.images is not kept"
        assert refused.value.hint.startswith("versions that can be used: 1 to 4, 10 to 16; ")
        rollback(publisher, HEAD, 4, reason="bad", actor="alice", now=many.clock())
    assert served(many) == frozenset(range(40)) | {100, 101, 102}
    prove(many)


def test_a_suppressed_row_can_return_after_any_time(many: World) -> None:
    """Its row stays in the origin, whose files stay."""
    algorithm, digest, *_ = row(5)
    with many.publisher() as publisher:
        order = SuppressionOrder((Correction(Digest.parse(f"{algorithm}:{digest}")),), "bad")
        (made,) = suppressions.suppress(publisher, order, actor="alice", now=many.clock()).suppressions
    for number in range(3):
        many.clock.forward(days=3)
        sync(many, add=[row(300 + number)])
        clean_twice(many, FEW)
    assert 5 not in served(many)
    with many.publisher() as publisher:
        unsuppress(publisher, [made.id], reason="good", actor="bob", now=many.clock())
    assert 5 in served(many)
    prove(many)


def test_explain_knows_what_versions_did_whose_files_and_records_are_gone(many: World) -> None:
    """The history has links of its own."""
    sync(many, remove=[row(7)])
    versions(many, 3, start=300)
    clean_twice(many, FEW)
    with many.publisher() as publisher:
        publisher.catalog.prune_versions(HEAD, 2)
    events = [(event.change, event.version) for event in of_list(why(many, 7)).entries[0].events]
    assert [version for _, version in events] == [1, 13]
    assert of_list(why(many, 7)).gaps == ()


def test_files_that_the_history_could_not_link_to_stay(many: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as its disk is full, say; afterwards it has all rows, and they go."""
    monkeypatch.setattr("syncd.publish.change.RECENT", 2)

    def full(*_: object) -> None:
        raise StoreError("no space left on device")

    with monkeypatch.context() as patched:
        for place in ("syncd.pipeline.publisher.keep", "syncd.pipeline.collector.keep"):
            patched.setattr(place, full)
        for number in range(8):
            sync(many, add=[row(500 + number)], remove=[row(number)])
        sync(many, full=rows(8, 40))
        for _ in range(2):
            clean_twice(many, SMALLEST)
        before = files(many)
    keep(many.state, Catalog.open(many.state.catalog), many.clock())
    for number in range(8):
        found = of_list(why(many, 500 + number))
        assert (found.gaps, found.complete, len(found.entries[0].events)) == ((), True, 2)
    clean_twice(many, SMALLEST)
    assert files(many) < before


def test_a_look_up_for_a_time_does_not_take_one_version_for_another(
    many: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A matcher keeps a version whose successors are gone: nobody knows how long it was in force."""
    operate(many, monkeypatch)
    many.clock.forward(hours=1)
    sync(many, add=[row(300)])
    many.clock.forward(hours=1)
    sync(many, add=[row(301)])
    many.clock.forward(hours=1)
    versions(many, 3, start=400)
    many.clock.forward(hours=1)
    load(many, 13)
    with many.publisher() as publisher:
        (old, *_) = publisher.catalog.old_records(RetentionLimits(versions=2), many.clock())
        publisher.catalog.forget(old)
        assert [one.version for one in publisher.catalog.versions(HEAD)] == [17, 16, 13]
    ran = syncd("lookup", asked(300), "--at", "150m")
    assert (ran.code, ran.out) == (2, "")
    assert "the version of iwf.images that was in force at 2026-01-01 13:30 UTC is no longer kept" in ran.err
    assert ran.err.endswith("versions of iwf.images that can be asked: 13, 16 to 17\n")
    assert syncd("lookup", asked(300), "--version", "13").code == 0
    assert syncd("lookup", asked(300), "--at", "30m").code == 0
    explained = syncd("explain", asked(301), "--at", "90m", "--json").json
    assert [one["version"] for one in explained["lists"]] == [14]


@pytest.fixture
def old(many: World) -> World:
    """A state with 400 syncs, of which the good one is the oldest, two failed holds and a matcher."""
    load(many, 3)
    with Catalog.open(many.state.catalog) as catalog:
        for number in range(400):
            catalog.begin_sync(f"bad-{number}", "iwf", many.clock())
            catalog.finish_sync(f"bad-{number}", Outcome.UNREACHABLE, now=many.clock())
    many.clock.forward(hours=2)
    return many


def test_status_and_metrics_say_the_same_before_and_after(old: World) -> None:
    """What they are judged by is never removed."""
    limits = replace(FEW, syncs=100, holds=1, publications=1)

    def document() -> dict[str, Any]:
        with old.publisher() as publisher:
            seen = overview.read(old.state, publisher.catalog, {"iwf": 600.0}, old.clock())
        return status.status_document(seen).model_dump(mode="json")

    def series() -> dict[Any, float]:
        with told(old) as (_, metrics, _):
            return {
                key: value
                for key, value in scrape(metrics)._samples.items()
                if not key[0].startswith(("python_", "process_", "syncd_state_read_duration"))
            }

    before = document(), series()
    done = clean(old, limits)
    assert done.records["syncs"].records == 400 + 11 - 100 - 1
    assert (document(), series()) == before


def test_the_hold_that_ended_last_is_remembered_for_each_list(world: World) -> None:
    """`syncd status` judges by it whether the hold that the last sync reported is over."""
    videos = ListName("videos")
    for name in (IMAGES, videos):
        world.publish(full=rows(0, 2), name=name)
    assert world.sync().exit_code == 0
    for name in (IMAGES, videos):
        world.publish(remove=rows(0, 2), name=name)
    assert world.sync().exit_code == 3
    with world.publisher() as publisher:
        for hold in publisher.catalog.holds():
            end_hold(publisher, hold.id, release=True, actor="alice", reason="asked", now=world.clock())
        ended = publisher.catalog.last_hold_ends()
        assert set(ended) == {HEAD, "iwf.videos"}
        publisher.catalog.prune_holds(1)
        assert publisher.catalog.last_hold_ends() == ended
