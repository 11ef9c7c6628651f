"""A disk that is full, read-only or another user's: a typed error, the old snapshot goes on, and the next run heals.

`test_stops.py` fails every call of every command; here errors are compared with what they say is served.
"""

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from disks import mounted, root_only
from standing import NEW, OLD, Standing, checked, fault_of, matched, prove_feed, prove_partner, publish_news
from syncd.errors import RefusedError, StoreError, SyncdError
from syncd.format.rows import Rows
from syncd.format.writer import write_segment
from syncd.locks import lock
from syncd.model import Algorithm
from syncd.outcomes import Outcome
from syncd.publish import author
from world import HEAD, IMAGES, World, row, rows

NOBODY = 65534
CHANGES = ("fsync", "replace", "rename", "link", "mkdir", "unlink", "rmdir", "write", "ftruncate")


class Disk:
    """Counts what changes the disk, and fails from the ``full_at``-th time on as a full disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.full_at = 0, 0
        for name in CHANGES:
            monkeypatch.setattr(os, name, self._counting(getattr(os, name), lambda _: True))
        monkeypatch.setattr(os, "open", self._counting(os.open, _writes))

    def _counting(self, real: Callable[..., Any], changes: Callable[[tuple[Any, ...]], bool]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if changes(arguments):
                self.count += 1
                if self.full_at and self.count >= self.full_at and real.__name__ not in {"unlink", "rmdir"}:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **options)

        return call

    @contextmanager
    def full(self, at: int) -> Iterator[None]:
        """The disk is full from the ``at``-th change on."""
        self.count, self.full_at = 0, at
        try:
            yield
        finally:
            self.full_at = 0


def _writes(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[1] if len(arguments) > 1 else 0
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk that can be full."""
    return Disk(monkeypatch)


@pytest.fixture(scope="module")
def with_news(standing_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The standing world, once the partner has published version 2."""
    folder = Path(shutil.copytree(standing_folder, tmp_path_factory.mktemp("news") / "world"))
    publish_news(World(folder))
    return folder


def _sync(world: World) -> SyncdError | None:
    try:
        outcome = world.sync()
    except SyncdError as error:  # the state could not even be opened
        return _told(error)
    faults = [_told(error) for error in (outcome.error, *(one.error for one in outcome.lists)) if error]
    assert outcome.exit_code == (faults[0].exit_code if faults else 0)
    return faults[0] if faults else None


def _pull(world: World) -> SyncdError | None:
    try:
        errors = world.follow().errors
    except SyncdError as error:
        return _told(error)
    return _told(errors[0]) if errors else None


def _publish(world: World) -> SyncdError | None:
    try:
        world.publish(add=[row(30)], remove=[row(5)])
    except SyncdError as error:
        return _told(error)
    return None


def _told(error: SyncdError) -> SyncdError:
    assert error.serving
    assert error.hint
    return error


def test_a_disk_full_at_any_change_of_a_sync(with_news: Path, tmp_path: Path, disk: Disk) -> None:
    """Wherever the disk fills up, a sync ends typed, readers see one whole version, and the next sync completes."""
    for at, world in _worlds(with_news, tmp_path):
        with disk.full(at):
            error = _sync(world)
        if error is None:
            break
        assert (type(error), error.exit_code) == (StoreError, 1)
        assert world.pull().errors == []
        assert matched(world) == _served(error)
        assert _sync(world) is None
        world.pull()
        assert matched(world) == NEW
        if at % 8 == 0:
            prove_feed(world)
    assert at > 30


def _served(error: SyncdError | None) -> frozenset[int]:
    """What readers find, by the error's own word."""
    return OLD if error and error.serving.endswith(("version 1", "last")) else NEW


def _worlds(template: Path, tmp_path: Path) -> Iterator[tuple[int, World]]:
    for at in range(1, 1000, 3):
        folder = tmp_path / "world"
        shutil.copytree(template, folder)
        yield at, World(folder)
        shutil.rmtree(folder)


def test_a_disk_full_at_any_change_of_a_pull(with_news: Path, tmp_path: Path, disk: Disk) -> None:
    """Wherever the disk fills up, a pull ends typed, the copy answers as one whole version, and the next one heals."""
    for at, world in _worlds(with_news, tmp_path):
        with disk.full(at):
            error = _pull(world)
        if error is None:
            break
        assert (type(error), error.exit_code) == (StoreError, 1)
        assert matched(world, world.mirror) in {OLD, NEW}
        assert _pull(world) is None
        assert matched(world, world.mirror) == NEW
    assert at > 20


def test_a_disk_full_at_any_change_of_a_publication(standing_folder: Path, tmp_path: Path, disk: Disk) -> None:
    """Wherever the disk fills up, the feed stays whole, and publishing the same again completes."""
    for at, world in _worlds(standing_folder, tmp_path):
        with disk.full(at):
            error = _publish(world)
        if error is None:
            break
        assert (type(error), error.exit_code) == (StoreError, 1)
        assert _pull(world) is None
        assert matched(world, world.mirror) in {OLD, NEW}
        assert _publish(world) is None
        if at % 8 == 0:
            prove_partner(world)
        assert _pull(world) is None
        assert matched(world, world.mirror) == NEW
    assert at > 20


@pytest.mark.parametrize(("part", "most"), [("state", 400), ("partner", 800)])
def test_a_real_disk_of_every_size(with_news: Path, tmp_path: Path, part: str, most: int) -> None:
    """On a real file system that fills up, the catalog's pages and the writer's columns included: typed, and it heals.

    ``most``: KiB free, with which the work succeeds.
    """
    run = {"state": _sync, "partner": _publish_many}[part]
    base = tmp_path / "world"
    shutil.copytree(with_news, base, ignore=shutil.ignore_patterns(part))
    (base / part).mkdir()
    errors = []
    with mounted(base / part, "-t", "tmpfs", "-o", "mode=0750", "tmpfs"):
        for free in range(0, most, 24):
            _refill(base / part, with_news / part, free)
            error = run(World(base))
            assert error is None or (type(error), error.exit_code) == (StoreError, 1)
            errors.append(error)
            _resize(base / part, "50%")
            assert run(World(base)) is None
            prove_partner(World(base))
    assert len([error for error in errors if error]) > 5
    assert errors[-1] is None


def test_columns_that_do_not_fit(tmp_path: Path) -> None:
    """A segment whose scratch columns fill the disk is typed, though closing them fails once more."""
    count = 100
    digests = np.array([bytes([number]) * 32 for number in range(count)], "S32")
    entries = pa.array([f"e{number}" for number in range(count)], pa.large_utf8())
    chunk = Rows(Algorithm.SHA256, digests, entries, np.zeros(count, np.int32), ("A",), np.zeros(count, bool))
    with mounted(tmp_path, "-t", "tmpfs", "-o", "size=64k", "tmpfs"), pytest.raises(StoreError, match="No space"):
        write_segment(tmp_path / "segment", Algorithm.SHA256, "delta", [chunk] * 50)


def _publish_many(world: World) -> SyncdError | None:
    try:
        world.publish(add=rows(1000, 4000))
    except SyncdError as error:
        return _told(error)
    return None


def _refill(folder: Path, template: Path, free: int) -> None:
    """The folder as at first, with ``free`` KiB left."""
    _resize(folder, "50%")
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(template, folder, dirs_exist_ok=True)
    used = os.statvfs(folder)
    _resize(folder, str((used.f_blocks - used.f_bfree + free // 4 + 1) * 4096))


def _resize(state: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(state)], check=True)


@pytest.fixture
def open_world(standing_folder: Path) -> Iterator[World]:
    """The standing world, with news, where every user may enter the folders above it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        world = World(Path(shutil.copytree(standing_folder, folder / "world")))
        publish_news(world)
        for path in [world.base, world.partner.root, *world.partner.root.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o055)
        yield world
    finally:
        shutil.rmtree(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Do it as a user that owns nothing."""
    root_only()
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def test_folders_of_another_user(open_world: World) -> None:
    """State, copy and feed of another user: nothing is touched, and the hint says whom to run as."""
    before = Standing.of(open_world)
    for path in open_world.base.glob("*.csv"):
        path.unlink()
    open_world.base.chmod(0o777)  # so that this user can write what it wants to publish
    open_world.signers = open_world.partner_signers()
    with as_nobody():
        errors = [_sync(open_world), _pull(open_world), _publish(open_world)]
    assert [type(error) for error in errors] == [StoreError, StoreError, StoreError]
    assert ["as the user that owns the folder" in error.hint for error in errors if error] == [True, True, True]
    before.check()
    before.check_mirror()
    assert [_sync(open_world), _pull(open_world)] == [None, None]


@pytest.mark.parametrize(
    "part", ["feed/metadata", "feed/v1/iwf.images", "feed/.work", "sources/iwf/.work/download", "sources/iwf", "."]
)
def test_a_folder_that_is_not_writable(open_world: World, part: str) -> None:
    """One folder of the state lost its write permission: typed or not needed, the feed stays whole, and it heals."""
    for path in [open_world.state.root, *open_world.state.root.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    folder = open_world.state.root / part
    mode = folder.stat().st_mode
    folder.chmod(0o555)
    with as_nobody():
        error = _sync(open_world)
    assert error is None or type(error) is StoreError
    assert error or part in {"feed/.work", "sources/iwf"}
    assert open_world.pull().errors == []
    assert matched(open_world) == _served(error)
    folder.chmod(mode)
    with as_nobody():
        assert _sync(open_world) is None
    open_world.pull()
    assert matched(open_world) == NEW


@pytest.mark.parametrize("part", ["state", "mirror", "partner"])
def test_a_file_system_that_is_read_only(standing: World, part: str) -> None:
    """A read-only mount: typed, the hint says so, and nothing changes."""
    before = Standing.of(standing)
    run = {"state": _sync, "mirror": _pull, "partner": _publish}[part]
    if part != "partner":
        publish_news(standing)
    folder = str(standing.base / part)
    with mounted(standing.base / part, "--bind", folder):
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        error = run(standing)
        assert type(error) is StoreError
        assert "read-only" in error.hint
        before.check_mirror() if part == "mirror" else None
        matched(standing)
    before.check()
    assert run(standing) is None


def test_segments_lost_from_the_origin_are_taken_from_the_feed(standing: World) -> None:
    """A file that an origin lost lies in the feed under the same name: nothing is fetched again."""
    publish_news(standing)
    for path in standing.state.source("iwf").path("v1/images/segments").iterdir():
        path.unlink()
    outcome = standing.sync()
    assert (outcome.outcome, outcome.lists[0].plan) == (Outcome.PUBLISHED, "deltas")
    standing.pull()
    assert matched(standing) == NEW
    prove_feed(standing)


def test_segments_lost_everywhere_are_fetched_and_published_whole(standing: World) -> None:
    """Where the feed lost them too, the list is fetched whole, and what is published is that."""
    publish_news(standing)
    for path in standing.state.root.glob("**/segments/*.arrow"):
        path.unlink()
    outcome = standing.sync()
    assert (outcome.outcome, outcome.lists[0].plan, outcome.lists[0].version) == (
        Outcome.PUBLISHED,
        "full:local_loss",
        2,
    )
    assert outcome.lists[0].counts == {}  # there was nothing left to compare with
    standing.pull()
    assert matched(standing) == NEW
    prove_feed(standing)


def test_segments_lost_from_the_feed_are_taken_from_the_origin(standing: World) -> None:
    """By the next sync, also where the partner has no news: whoever pulls anew needs them."""
    for path in standing.state.feed.path(f"v1/{HEAD}/segments").iterdir():
        path.unlink()
    assert standing.sync().outcome is Outcome.UP_TO_DATE
    prove_feed(standing)


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_a_manifest_that_the_feed_lost_is_written_again(standing: World, content: bytes | None) -> None:
    """By the next sync, even if the partner has no news: as it was signed, from the catalog."""
    (path,) = standing.state.feed.path(f"v1/{HEAD}").glob("*.manifest.json")
    signed = path.read_bytes()
    path.unlink() if content is None else path.write_bytes(content)
    assert standing.sync().outcome is Outcome.UP_TO_DATE
    assert path.read_bytes() == signed
    prove_feed(standing)


def test_a_segment_cut_short_is_replaced(standing: World) -> None:
    """In the feed too, by what was fetched in its place: a version is never published with less than it names."""
    for path in standing.state.root.glob("**/segments/*.arrow"):
        os.truncate(path, 100)
    outcome = standing.sync()
    assert (outcome.outcome, outcome.lists[0].plan) == (Outcome.PUBLISHED, "full:local_loss")
    with standing.publisher() as publisher:
        publisher.keep_history(standing.clock(), timedelta(days=730))  # as the daemon does each hour
    prove_feed(standing)


def test_a_damaged_segment_is_no_replacement(standing: World) -> None:
    """An origin that lost a file does not take the feed's where that is damaged, but the partner's, and gives it on."""
    for path in standing.state.feed.path(f"v1/{HEAD}/segments").iterdir():
        with path.open("r+b") as stream:
            stream.write(b"\0")
    for path in standing.state.source("iwf").path("v1/images/segments").iterdir():
        path.unlink()
    assert standing.sync().lists[0].plan == "full:local_loss"
    for path in standing.state.feed.path(f"v1/{HEAD}/segments").iterdir():
        path.unlink()
    standing.sync()
    prove_feed(standing)


def test_a_damaged_copy_heals_itself(standing: World) -> None:
    """A manifest or signed metadata that the disk damaged in a copy is replaced by the next pull."""
    for path in [*standing.copy.glob("v1/*/*.manifest.json"), *standing.copy.glob("metadata/*.json")]:
        path.write_bytes(b"\0" * 100)
    publish_news(standing)
    standing.sync()
    assert standing.pull().errors == []
    assert matched(standing) == NEW


def test_a_segment_that_the_disk_damaged_is_not_folded(standing: World) -> None:
    """What a pull could make of it is fetched instead, whatever the damage would lead to."""
    publish_news(standing)
    assert author.compact(standing.partner, IMAGES, standing.partner_signers(), standing.clock(), everything=True)
    (held,) = standing.mirror.glob("v1/*/segments/*.arrow")
    content = pa.py_buffer(held.read_bytes())
    codes = pa.ipc.open_file(content).get_batch(0).column(2).indices.buffers()[1]
    at = codes.address - content.address
    held.unlink()
    held.write_bytes(bytes(content[:at]) + b"\xff\xff\xff\x7f" + bytes(content[at + 4 :]))
    assert standing.follow().errors == []
    assert matched(standing, standing.mirror) == NEW


def test_a_source_that_is_being_synced(standing: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second sync of one source is refused, and says who is at it."""
    monkeypatch.setattr("syncd.pipeline.sync.PATIENCE", 0.0)
    before = Standing.of(standing)
    publish_news(standing)
    with lock(standing.state.source("iwf").lock, "a sync of iwf"):
        outcome = standing.sync()
    error = checked(fault_of(outcome))
    assert type(error) is RefusedError
    assert f"process {os.getpid()} (a sync of iwf)" in error.message
    assert (outcome.exit_code, outcome.outcome) == (6, Outcome.REFUSED)
    before.check()
