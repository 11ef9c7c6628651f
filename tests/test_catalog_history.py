"""The history in the catalog: what a commit records, and how a catalog without one begins."""

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from syncd.catalog.catalog import Catalog
from syncd.catalog.changes import HeadNote, Records
from syncd.catalog.database import open_database
from syncd.catalog.history_records import HistoryKind
from syncd.catalog.schema import bring_up
from syncd.format import manifest as manifests
from syncd.format.manifest import EndState, Manifest, ManifestRef, SegmentRef, Step
from syncd.model import Algorithm, ListName
from syncd.publish.ledger import Commit, HeadMove

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAME = ListName("iwf.images")
STATE = {Algorithm.MD5: EndState(rows=3, checksum="0" * 32)}


def segment(number: int, kind: Any = "delta") -> SegmentRef:
    return SegmentRef(sha256=f"{number:064x}", length=9, algorithm=Algorithm.MD5, kind=kind, rows=3, removals=0)


def publish(catalog: Catalog, version: int, at: datetime, *delta: SegmentRef, plan: str = "deltas") -> None:
    """Commit a version with a delta; the first has a base."""
    head = catalog.head(NAME)
    previous = ManifestRef(version=head.version, sha256="b" * 64) if head else None
    steps = (Step(version=version, previous=previous, segments=delta, counts={}, end_state=STATE),) if previous else ()
    manifest = Manifest(
        list=NAME, version=version, previous=previous, created=at, end_state=STATE, stack=(segment(0, "base"), *delta),
        recent=steps,
    )  # fmt: skip
    move = HeadMove(manifest, "b" * 64, manifests.encode(manifest), head.version if head else None)
    catalog.commit(Commit("publish", (), at, (move,), Records(notes={NAME: HeadNote("iwf", version, plan, "5afe")})))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(tmp_path / "catalog.sqlite3") as opened:
        yield opened


def test_a_publication_is_recorded_in_its_own_transaction(catalog: Catalog) -> None:
    """The first version with its stack, later ones with their delta; no record if no row changed (compaction)."""
    publish(catalog, 1, NOON)
    publish(catalog, 2, NOON + timedelta(hours=1), segment(1))
    publish(catalog, 3, NOON + timedelta(hours=2), plan="compact")
    first, second = catalog.unfolded_history(NAME)
    assert (first.kind, first.version, first.head) == (HistoryKind.FIRST, 1, (segment(0, "base"),))
    assert (second.kind, second.version, second.head) == (HistoryKind.DELTA, 2, (segment(1),))
    assert (second.serial, second.plan, second.sync_id, second.at) == (2, "deltas", "5afe", NOON + timedelta(hours=1))


def test_numbers_rise_even_if_the_clock_goes_back(catalog: Catalog) -> None:
    """They are microseconds, unless the record before has more: a restored catalog does not use one again."""
    publish(catalog, 1, NOON)
    publish(catalog, 2, NOON - timedelta(days=9), segment(1))
    publish(catalog, 3, NOON + timedelta(days=9), segment(2))
    numbers = [record.number for record in catalog.unfolded_history(NAME)]
    at = int(NOON.timestamp() * 1_000_000)
    assert numbers == [at, at + 1, at + 9 * 86_400_000_000]


def test_the_version_in_force_at_a_time(catalog: Catalog) -> None:
    """The newest that was published by then."""
    for number in range(1, 4):
        publish(catalog, number, NOON + timedelta(hours=number), segment(number))
    for hours, version in ((0, None), (1, 1), (2.5, 2), (99, 3)):
        record = catalog.history_at(NAME, NOON + timedelta(hours=hours))
        assert (record.version if record else None) == version


def test_pruning_keeps_which_version_was_in_force(catalog: Catalog) -> None:
    """The newest record before the limit stays, without its rows."""
    for number in range(1, 4):
        publish(catalog, number, NOON + timedelta(days=number), segment(number))
    assert catalog.prune_history(NOON + timedelta(days=2, hours=1)) == 1
    first = catalog.first_history(NAME)
    assert first is not None
    assert (first.version, first.kind, first.head, first.folded) == (2, HistoryKind.DELTA, (), True)
    assert [record.version for record in catalog.unfolded_history(NAME)] == [3]


def test_no_question_reads_the_whole_history(catalog: Catalog) -> None:
    """With 100,000 versions behind it a sync costs what it costs with ten: every statement walks an index."""
    publish(catalog, 1, NOON)
    plans: list[str] = []

    def explain(connection: Any, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if "history" in statement and not statement.startswith("INSERT"):
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in cursor.fetchall())

    event.listen(catalog._database.engine, "before_cursor_execute", explain)
    publish(catalog, 2, NOON + timedelta(hours=1), segment(1))
    catalog.unfolded_history(NAME)
    catalog.history_states(NAME)
    catalog.history_records([1, 2, 3])
    catalog.first_history(NAME)
    catalog.history_at(NAME, NOON)
    catalog.newest_history()
    catalog.oldest_history()
    assert plans
    searched = [plan for plan in plans if plan.startswith("SEARCH")]
    assert "SEARCH history USING INDEX ix_history_list_kind (list=? AND kind=?)" in searched
    assert "SEARCH history USING INDEX ix_history_folded_list (folded=? AND list=?)" in searched
    assert "SEARCH history USING INDEX ix_history_list_number (list=?)" in searched
    # The newest and the oldest record: a scan in the order of the key, which ends at its first row.
    assert {plan for plan in plans if plan.startswith("SCAN")} <= {"SCAN history"}


def test_a_catalog_without_a_history_begins_one(tmp_path: Path) -> None:
    """Migrated, it knows which version of each list is in force, and what matchers have loaded; no rows."""
    path = tmp_path / "catalog.sqlite3"
    database = open_database(path, 1.0)
    bring_up(database, revision="0008")
    database.engine.dispose()
    at = "2026-03-01T12:00:00.000000+00:00"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO versions (list, version, manifest_sha256, manifest, created_at, plan, counts, rows)"
            " VALUES ('iwf.images', 7, ?, '{}', ?, 'deltas', '{}', 30)",
            ("b" * 64, at),
        )
        connection.execute(
            "INSERT INTO heads (list, source, version, manifest_sha256, origin_serial, published_at)"
            " VALUES ('iwf.images', 'iwf', 7, ?, 9, ?)",
            ("b" * 64, at),
        )
        connection.execute(
            "INSERT INTO matchers (name, token_sha256, created_at, created_by) VALUES ('web', 'a', ?, 'alice')", (at,)
        )
        connection.execute(
            "INSERT INTO loaded (matcher, instance, list, version, loaded_at, seen_at)"
            " VALUES ('web', 'web-1', 'iwf.images', 7, ?, ?)",
            (at, at),
        )
    with Catalog.open(path) as catalog:
        first = catalog.first_history(NAME)
        assert first is not None
        assert (first.version, first.serial, first.at, first.kind) == (7, 9, NOON, HistoryKind.DELTA)
        assert catalog.unfolded_history(NAME) == catalog.history_states(NAME) == ()
        (load,) = catalog.loads_at([NAME], NOON)
        assert (load.instance, load.version) == ("web-1", 7)
