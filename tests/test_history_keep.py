"""Keeping the history: folding by month, killed at any moment, with a full disk, restored, verified."""

import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.catalog.catalog import Catalog
from syncd.catalog.history_records import HistoryKind, HistoryRecord
from syncd.errors import StoreError
from syncd.format.rows import Rows, sort_order
from syncd.history import keep as keeping
from syncd.history.files import HistoryFolder
from syncd.history.rows import HEAD as OF_HEAD
from syncd.history.rows import ORIGIN, HistoryRow, HistoryRows, OpenMonth, merge, write
from syncd.history.search import Found
from syncd.history.timeline import EntryChange, Replay, in_force, label_in
from syncd.model import Algorithm, Digest
from syncd.operate.backup import backup
from syncd.operate.explain import explain
from syncd.outcomes import Outcome
from syncd.verify.state import prove_state
from test_explain import asked, keep, sync, told, why
from world import HEAD, World, row, rows

NUMBERS = (0, 1, 3, 4, 5, 30, 31, 33, 35)


class KilledError(BaseException):
    """The process ends here."""


@pytest.fixture
def busy(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A first version, four more in January and two in February, with several algorithms."""
    monkeypatch.setattr(keeping, "FOLD_AT", 3)
    world.publish(full=rows(0, 30))
    sync(world)
    for number in range(4):
        world.publish(add=[row(30 + number), row(number, "Z", "md5")], remove=[row(number)])
        sync(world)
    world.clock.forward(days=31)
    for number in range(4, 6):
        world.publish(add=[row(number - 4, "B")], remove=[row(30 + number - 4)])
        sync(world)
    return world


def everything(world: World) -> dict[int, list[tuple[str, str | None, int | None, int | None]]]:
    """What is told of every number of the list."""
    with world.publisher() as publisher:
        found = {
            number: explain(world.state, publisher.catalog, Digest.parse(asked(number)), world.clock())
            for number in NUMBERS
        }
    return {number: told(one) for number, one in found.items() if one.lists}


def months(world: World) -> list[tuple[str, str]]:
    """The files of the list: algorithm and month."""
    return [(file.of[0], file.month) for file in HistoryFolder(world.state.history).all_months(HEAD)]


def test_folded_by_month(busy: World) -> None:
    """Each month that is over is one sorted file for each algorithm, and all answers stay the same."""
    before = everything(busy)
    assert before[0] == [("added", "A", 1, 1), ("removed", "A", 2, 2), ("added", "B", 6, 6)]
    keep(busy)
    assert months(busy) == [("md5", "2026-01"), ("sha256", "2026-01")]
    assert everything(busy) == before
    busy.clock.forward(days=31)
    keep(busy)
    assert months(busy) == [("md5", "2026-01"), ("sha256", "2026-01"), ("sha256", "2026-02")]
    assert everything(busy) == before
    assert len(HistoryFolder(busy.state.history).segments(HEAD)) == 1  # the first version's base
    for file in HistoryFolder(busy.state.history).all_months(HEAD):
        OpenMonth(file).check()


def test_the_runs_of_a_month_become_one_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a month rows are folded in several runs; when it is over they are one file."""
    monkeypatch.setattr(keeping, "FOLD_AT", 2)
    monkeypatch.setattr(keeping, "LIKE", 0)
    world.publish(full=rows(0, 30))
    sync(world)
    for number in range(6):
        world.publish(add=[row(30 + number)])
        sync(world)
        keep(world)
    assert months(world) == [("sha256", "2026-01")] * 3
    before = everything(world)
    world.clock.forward(days=31)
    keep(world)
    assert months(world) == [("sha256", "2026-01")]
    assert everything(world) == before


STEPS = ("link_files", "write", "install_file", "_remove", "note_folded")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step(busy: World, monkeypatch: pytest.MonkeyPatch, step: str, after: bool) -> None:
    """No row is lost or told twice, whether the process dies before a step or after it; the next run ends the work."""
    before = everything(busy)
    busy.clock.forward(days=31)
    owner: Any = Catalog if step == "note_folded" else keeping
    whole: Callable[..., Any] = getattr(owner, step)

    def killed(*arguments: Any, **named: Any) -> None:
        if after:
            whole(*arguments, **named)
        raise KilledError

    deaths = 0
    for _ in range(2):  # the second time some steps have nothing left to do
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, killed)
            try:
                keep(busy)
            except KilledError:
                deaths += 1
        assert everything(busy) == before
    assert deaths >= 1
    keep(busy)
    assert everything(busy) == before
    assert months(busy) == [("md5", "2026-01"), ("sha256", "2026-01"), ("sha256", "2026-02")]
    assert prove_state(busy.state, None, busy.clock()).faults == ()


def test_a_full_disk_stops_no_sync(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the history cannot be written, lists are published; once there is space it catches up."""
    world.publish(full=rows(0, 30))
    sync(world)

    def full(*_: object) -> None:
        raise StoreError("cannot write: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "link_files", full)
        world.clock.forward(hours=2)
        world.publish(remove=[row(3)])
        assert world.sync().outcome is Outcome.PUBLISHED
    keep(world)
    assert told(why(world, 3)) == [("added", "A", 1, 1), ("removed", "A", 2, 2)]


def test_many_rows_are_not_copied(busy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The segments of a delta with very many rows stay as they are."""
    monkeypatch.setattr(keeping, "LARGE", 1)
    before = everything(busy)
    busy.clock.forward(days=31)
    keep(busy)
    assert months(busy) == [("md5", "2026-01"), ("sha256", "2026-01")]  # folded before; none of February
    assert everything(busy) == before


def test_a_superseded_file_is_not_counted(busy: World) -> None:
    """A file that was folded into another, and not removed, says nothing twice."""
    keep(busy)
    kept = {path: path.read_bytes() for path in busy.state.history.glob("*/*.arrow")}
    busy.clock.forward(days=1)
    busy.publish(add=[row(35)])
    sync(busy)
    busy.clock.forward(days=31)
    keep(busy)
    before = everything(busy)
    for path, content in kept.items():
        path.write_bytes(content)
    assert everything(busy) == before


def test_a_backup_has_the_history(busy: World, tmp_path: Path) -> None:
    """A restored state explains what the lost one did."""
    keep(busy)
    before = everything(busy)
    with busy.publisher() as publisher:
        backup(publisher, tmp_path / "backup.tar", busy.clock(), with_keys=True)
    busy.state.root.rename(tmp_path / "lost")
    busy.state.root.mkdir()
    with tarfile.open(tmp_path / "backup.tar") as tar:
        tar.extractall(busy.state.root, filter="fully_trusted")
    assert busy.state.history.stat().st_mode & 0o777 == 0o700
    assert everything(busy) == before
    assert prove_state(busy.state, None, busy.clock()).faults == ()


def test_verify_finds_a_damaged_history(busy: World) -> None:
    """A changed byte is a fault; a folder that others may read is a note, and the next run makes it private."""
    keep(busy)
    month = next(busy.state.history.glob("*/sha256.*.arrow"))
    content = bytearray(month.read_bytes())
    content[len(content) // 2] ^= 1
    month.write_bytes(content)
    busy.state.history.chmod(0o750)
    proof = prove_state(busy.state, None, busy.clock())
    faults = {fault.file: fault.error.message for fault in proof.faults}
    assert faults == {f"history/{HEAD}/{month.name}": f"the history file {month} is damaged"}
    assert "history/ may be read by others, until the next sync makes it private (0700)" in proof.notes
    keep(busy)
    assert busy.state.history.stat().st_mode & 0o777 == 0o700


# pure

ENTRIES = st.sampled_from(["a", "b"])
LABELS = st.sampled_from(["x", "y", None])
CHANGE = st.tuples(ENTRIES, LABELS, st.sampled_from([OF_HEAD, ORIGIN, OF_HEAD | ORIGIN]))


@given(st.lists(CHANGE, max_size=12), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_the_replay_is_what_happened(changes: list[tuple[str, str | None, int]], cut: int) -> None:
    """For every version, the events say what a dictionary says that applies the same rows."""
    published = [
        HistoryRow(n, n, n, n, entry, label or "", label is None, of) for n, (entry, label, of) in number(changes)
    ]
    first = HistoryRecord(1, HEAD, "iwf", datetime(2026, 1, 1, tzinfo=UTC), "", HistoryKind.FIRST, 1, 1)
    found = Found(tuple(published), (first,), {1: {"a": "x"}})
    replay = Replay(True).run(found)
    held: dict[str, str] = {"a": "x"}
    for version in range(1, len(changes) + 2):
        if version > 1:
            entry, label, of = changes[version - 2]
            if of & OF_HEAD and label is None:
                held.pop(entry, None)
            elif of & OF_HEAD and label is not None:
                held[entry] = label
        for name, entry_ in replay.entries.items():
            had = in_force(entry_.events, False, version, complete=True)
            assert had == (name in held)
            if had:
                assert label_in(entry_.events, None, version) == held[name]
    assert not replay.contradictions(held)
    later = [one for one in published if one.number > cut + 1]
    partial = Replay(False).run(Found(tuple(later)))
    for name, entry_ in partial.entries.items():
        shown = in_force(entry_.events, name in held, len(changes) + 1, complete=False)
        assert shown in {name in held, None}


def number(changes: list[tuple[str, str | None, int]]) -> enumerate[tuple[str, str | None, int]]:
    return enumerate(changes, 2)


def test_an_addition_that_is_uncertain() -> None:
    """If the state before is unknown, an added row may have been a new label."""
    added = HistoryRow(5, 5, 5, 5, "a", "x", False, OF_HEAD | ORIGIN)
    (event,) = Replay(False).run(Found((added,))).entries["a"].events
    assert (event.change, event.certain) == (EntryChange.ADDED, False)
    assert in_force((event,), True, 4, complete=False) is None


RECORD = st.dictionaries(st.tuples(st.integers(0, 5), ENTRIES), st.tuples(st.sampled_from(["x", "y"]), st.booleans()))


@given(st.lists(RECORD.filter(bool), min_size=1, max_size=6), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_merging_and_finding(tmp_path_factory: pytest.TempPathFactory, records: list[Any], split: int) -> None:
    """Rows that are written, read and merged again are found by digest, each once and oldest first."""
    folder = HistoryFolder(tmp_path_factory.mktemp("history"))
    (folder.root / HEAD).mkdir()
    parts = [as_rows(record, n) for n, record in enumerate(records, 1)]
    joined = [part for part in (parts[:split], parts[split:]) if part]
    files = []
    for some in joined:
        path = folder.root / HEAD / "staged"
        sha256 = write(path, merge(some))
        file = folder.month_file(HEAD, (Algorithm.MD5, 16), "2026-01", (some[0].first, some[-1].first, sha256))
        path.rename(file.path)
        files.append(file)
    whole = merge([OpenMonth(file).rows() for file in files])
    path = folder.root / HEAD / "staged"
    last = folder.month_file(HEAD, (Algorithm.MD5, 16), "2026-01", (1, len(records), write(path, whole)))
    path.rename(last.path)
    assert folder.months(HEAD) == (last,)
    OpenMonth(last).check()
    for digest in range(6):
        wanted = [
            (entry, n, label, removed)
            for n, record in enumerate(records, 1)
            for (number_, entry), (label, removed) in record.items()
            if number_ == digest
        ]
        got = [(one.entry, one.number, one.label, one.removed) for one in OpenMonth(last).find(as_digest(digest))]
        assert got == sorted(wanted)


def as_digest(number: int) -> bytes:
    """Digests that end in NUL bytes, which numpy strips."""
    return bytes([number]) + bytes(15)


def as_rows(record: dict[tuple[int, str], tuple[str, bool]], number: int) -> HistoryRows:
    keys = sorted(record)
    rows = Rows.build(
        Algorithm.MD5,
        [as_digest(digest) for digest, _ in keys],
        [entry for _, entry in keys],
        [record[key][0] for key in keys],
        [record[key][1] for key in keys],
    )
    assert (np.diff(sort_order(rows)) > 0).all()
    return HistoryRows.of_record(rows, (number, number, number, number), OF_HEAD)


def test_retention_keeps_whole_months(busy: World) -> None:
    """A month is forgotten once all of it is older than the retention."""
    busy.clock.forward(days=31)
    keep(busy)
    with busy.publisher() as publisher:
        publisher.keep_history(datetime(2026, 3, 20, tzinfo=UTC), timedelta(days=40))
    assert months(busy) == [("sha256", "2026-02")]
