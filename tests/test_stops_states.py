"""The crash harness checks each state once: so whatever a later command could read must make another state."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from stops.points import in_order, points_of, states_after
from stops.processes import Call, How, Point
from stops.states import States

NAME = "state/catalog.sqlite3"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with a list, a link to it, a temporary file, a lock and a catalog."""
    base = tmp_path / "base"
    (base / "state/feed").mkdir(parents=True)
    for name in ("state/feed/list.arrow", "state/feed/.tmp-1", "state/lock"):
        (base / name).write_text("rows")
    os.link(base / "state/feed/list.arrow", base / "state/linked.arrow")
    with closing(sqlite3.connect(base / NAME)) as catalog:
        catalog.executescript("PRAGMA journal_mode=WAL; CREATE TABLE holds (id INTEGER); INSERT INTO holds VALUES (1)")
    return base


def _run_sql(base: Path, sql: str) -> None:
    with closing(sqlite3.connect(base / NAME)) as catalog:
        catalog.executescript(sql)


def _unlink_copy(base: Path) -> None:
    """Replace a hard link by a copy of its file."""
    (base / "state/linked.arrow").unlink()
    (base / "state/linked.arrow").write_text("rows")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda base: (base / "state/feed/list.arrow").write_text("row2"), id="bytes"),
        pytest.param(lambda base: (base / "state/feed/list.arrow").chmod(0o600), id="mode"),
        pytest.param(lambda base: (base / "state/feed/new").mkdir(), id="an empty folder"),
        pytest.param(lambda base: (base / "state/feed/.tmp-1").unlink(), id="a temporary file removed"),
        pytest.param(lambda base: (base / "state/feed").rename(base / "state/fed"), id="a name"),
        pytest.param(_unlink_copy, id="a link"),
        pytest.param(lambda base: (base / "state/soft").symlink_to("feed"), id="a symbolic link"),
        pytest.param(lambda base: _run_sql(base, "INSERT INTO holds VALUES (2)"), id="a row"),
        pytest.param(lambda base: (base / NAME).write_bytes(b"not a database"), id="a damaged catalog"),
    ],
)
def test_a_change_that_can_be_read_is_another_state(
    base: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    """Names, kinds, modes, links and bytes count."""
    states = States(tmp_path / "scratch")
    before = states.of(base)
    assert states.of(base) == before
    change(base)
    assert states.of(base) != before


def test_uncommitted_writes_to_a_catalog_are_the_same_state(base: Path, tmp_path: Path) -> None:
    """SQLite ignores them after the process is dead; what was committed counts at once, wherever it lies."""
    states = States(tmp_path / "scratch")
    with closing(sqlite3.connect(base / NAME, isolation_level=None)) as catalog:
        catalog.execute("PRAGMA wal_autocheckpoint=0")
        catalog.execute("PRAGMA cache_size=1")
        catalog.execute("INSERT INTO holds VALUES (2)")
        committed = states.of(base)
        length = (base / f"{NAME}-wal").stat().st_size
        catalog.execute("BEGIN")
        catalog.execute("CREATE TABLE rows (id INTEGER, text TEXT)")
        catalog.executemany("INSERT INTO rows VALUES (?, ?)", [(number, "x" * 900) for number in range(400)])
        assert (base / f"{NAME}-wal").stat().st_size > length
        assert states.of(base) == committed
        catalog.execute("COMMIT")
        assert states.of(base) != committed


def test_garbage_that_nobody_reads_is_the_same_state(base: Path, tmp_path: Path) -> None:
    """The bytes of temporary files, which are removed unread, and the name of the dead holder of a lock."""
    states = States(tmp_path / "scratch")
    before = states.of(base)
    (base / "state/feed/.tmp-1").write_text("half")
    (base / "state/lock").write_text("another process")
    assert states.of(base) == before


CALLS = (
    Call("create", True, 0, "feed/.tmp-0123456789abcdef"),
    Call("write", True, 10, "feed/.tmp-0123456789abcdef"),
    Call("sync", True, 0, "feed/.tmp-0123456789abcdef"),
    Call("create", True, 0, "feed/.tmp-fedcba9876543210"),
)


def test_points_that_kill_are_paired_with_their_states() -> None:
    """A command waits before each call, and in the middle of each write."""
    assert list(states_after(CALLS, ["a", "b", "c", "d", "e"])) == [
        (Point(1, How.BEFORE), "a"),
        (Point(2, How.BEFORE), "b"),
        (Point(2, How.TORN), "c"),
        (Point(4, How.BEFORE), "e"),
    ]
    assert [one for one in points_of(CALLS) if one.how.kills][-1] == Point(4, How.AFTER)


@pytest.mark.parametrize("seed", range(10))
def test_every_site_comes_before_any_site_again(seed: int) -> None:
    """The two files differ only in random names, so one of the two calls that create them comes last of its kind."""
    order = in_order(CALLS, str(seed))
    assert sorted(order, key=str) == sorted(points_of(CALLS), key=str)
    kills = [point.at for point in order if point.how is How.BEFORE]
    assert set(kills[:2]) in ({1, 2}, {2, 4})
