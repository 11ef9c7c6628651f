"""A disk without room for one list: that one is not fetched, nothing of it stays, and all others go on."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from standing import checked, fault_of
from syncd.errors import StoreError
from syncd.feed.folder import FeedFolder
from syncd.fetch.folder import FilePeer
from syncd.files import FreeSpace, is_full, storage
from syncd.outcomes import Outcome
from syncd.pipeline.values import Full, FullReason
from syncd.publish import author
from syncd.service.ballast import Ballast
from world import IMAGES, World, row, rows

MB = 1 << 20
BLOCK = 4096


def disk_of(size: int, free: int) -> Callable[[object], os.statvfs_result]:
    """What `os.statvfs` says of a file system, in bytes."""
    told = (BLOCK, BLOCK, size // BLOCK, free // BLOCK, free // BLOCK, 1000, 1000, 1000, 0, 255, 1)
    return lambda _: os.statvfs_result(told)


@pytest.mark.parametrize(
    ("size", "free", "reserve"),
    [(12 * MB, 8 * MB, 768 << 10), (4096 * MB, 80 * MB, 64 * MB), (1 << 42, 1 << 40, 64 * MB)],
)
def test_what_others_need_is_left_to_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int, free: int, reserve: int
) -> None:
    """64 MiB, and of a small file system a sixteenth."""
    monkeypatch.setattr(os, "statvfs", disk_of(size, free))
    space = FreeSpace.at(tmp_path)
    assert space == FreeSpace(free, reserve)
    assert space.fits(free - reserve)
    assert not space.fits(free - reserve + 1)


def test_a_file_system_that_does_not_know_its_size_is_taken_as_it_comes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As some network file systems do."""
    monkeypatch.setattr(os, "statvfs", disk_of(0, 0))
    assert FreeSpace.at(tmp_path) is None


def test_a_list_that_does_not_fit_is_not_fetched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sync says how much is needed and free and what to do; parts of earlier tries go too; it heals."""
    world.publish(full=rows(0, 2000))
    folder = world.state.source("iwf")
    folder.downloads.mkdir(parents=True)
    (folder.downloads / "part").write_bytes(b"what came once")
    with monkeypatch.context() as patched:
        patched.setattr(os, "statvfs", disk_of(16 * MB, MB))
        patched.setattr(FilePeer, "open_tail", lambda *_: pytest.fail("it was asked for"))
        outcome = world.sync()
    error = checked(fault_of(outcome))
    (segment,) = world.partner.root.glob("v1/images/segments/*")
    length = segment.stat().st_size
    assert type(error) is StoreError
    assert error.message == (
        f"not enough space at {folder.downloads}: {length:,} bytes to fetch, 1,048,576 bytes free, 1,048,576 of them "
        "reserved"
    )
    assert error.hint == f"free {length:,} bytes there, or move the folder to a larger disk"
    assert (outcome.outcome, outcome.exit_code) == (Outcome.FAILED, 1)
    assert not folder.downloads.exists()
    assert world.sync().outcome is Outcome.PUBLISHED


def test_what_came_already_need_not_fit_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that is gone on with takes the rest of its length only."""
    world.publish(full=rows(0, 2000))
    folder = world.state.source("iwf")
    folder.downloads.mkdir(parents=True)
    (segment,) = world.partner.root.glob("v1/images/segments/*")
    content = segment.read_bytes()
    (folder.downloads / segment.stem).write_bytes(content[:-BLOCK])
    monkeypatch.setattr(os, "statvfs", disk_of(16 * MB, MB + BLOCK))
    assert world.sync().outcome is Outcome.PUBLISHED


def test_nothing_to_fetch_needs_no_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk without any, a source without news is up to date, as are matchers."""
    world.publish(full=rows(0, 3))
    world.sync()
    world.pull()
    monkeypatch.setattr(os, "statvfs", disk_of(16 * MB, 0))
    assert world.sync().outcome is Outcome.UP_TO_DATE
    assert world.pull().errors == []


def test_a_pull_that_does_not_fit_keeps_what_is_in_force(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A matcher's host is told the same, and answers from the version that it has."""
    world.publish(full=rows(0, 3))
    world.follow()
    world.publish(add=[row(9)])
    with monkeypatch.context() as patched:
        patched.setattr(os, "statvfs", disk_of(16 * MB, 0))
        (error,) = world.follow().errors
    assert "not enough space at" in error.message
    assert not FeedFolder(world.mirror).downloads.exists()
    assert world.follow().errors == []


def test_a_disk_that_fills_up_meanwhile_keeps_no_part(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched until then goes, so that the other sources can write."""
    world.publish(full=rows(0, 2000))
    real = os.write
    written: list[int] = []

    def write(descriptor: int, content: bytes) -> int:
        if "download" not in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            return real(descriptor, content)
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(real(descriptor, content[:100]))
        return written[0]

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        error = checked(fault_of(world.sync()))
    assert (written, type(error)) == ([100], StoreError)
    assert not world.state.source("iwf").downloads.exists()
    assert world.sync().outcome is Outcome.PUBLISHED


@pytest.mark.parametrize(("number", "kept"), [(errno.ENOSPC, False), (errno.EDQUOT, False), (errno.EIO, True)])
def test_work_gives_way_where_space_is_what_it_lacks(tmp_path: Path, number: int, kept: bool) -> None:
    """Staged segments and downloads go where the disk is full; after any other fault the next run goes on from them."""
    folder = FeedFolder(tmp_path)
    for scratch in (folder.make_staging(), folder.downloads):
        scratch.mkdir(exist_ok=True)
        (scratch / "file").touch()
    with pytest.raises(StoreError) as caught, folder.discard_scratch_if_full(), storage(tmp_path, "write"):
        raise OSError(number, os.strerror(number))
    assert is_full(caught.value) is not kept
    assert [(scratch / "file").exists() for scratch in (folder.staging, folder.downloads)] == [kept, kept]


def fill(path: Path) -> None:
    """Write until the disk is full."""
    path.write_bytes(b"as much as went in")
    with storage(path, "write"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_difference_that_does_not_fit_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was staged of a list that came whole goes with the sync that it filled the disk for."""
    world.publish(full=rows(0, 3))
    world.sync()
    world.publish(full=rows(1, 4))
    folder = world.state.source("iwf")
    with monkeypatch.context() as patched:
        patched.setattr("syncd.pipeline.signed.plan.plan", lambda *_, **__: Full(FullReason.CHAIN_GAP))
        patched.setattr("syncd.pipeline.stage.write_segment", lambda path, *_: fill(path))
        outcome = world.sync()
    assert outcome.outcome is Outcome.FAILED
    assert not folder.staging.exists()
    assert world.sync().outcome is Outcome.PUBLISHED


def test_a_fold_that_does_not_fit_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list stays as it is published; folding is for later."""
    world.publish(full=rows(0, 3))
    world.publish(add=[row(9)])
    monkeypatch.setattr("syncd.publish.compact.fold", lambda inputs, kind, path: fill(path))
    with pytest.raises(StoreError):
        author.compact(world.partner, IMAGES, world.partner_signers(), world.clock(), everything=True)
    assert not world.partner.staging.exists()


def test_ballast_is_kept_where_there_is_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight megabytes, for nobody else's eyes; of a small disk less; where the size is not known none."""
    ballast, path = Ballast(world.state), world.state.root / "ballast"
    monkeypatch.setattr(os, "statvfs", disk_of(0, 0))
    ballast.keep()
    ballast.release_if_full()
    assert not path.exists()
    for size, length in ((1 << 40, 8 * MB), (32 * MB, MB)):
        monkeypatch.setattr(os, "statvfs", disk_of(size, size // 2))
        ballast.keep()
        assert (path.stat().st_size, path.stat().st_mode & 0o777) == (length, 0o600)
        path.unlink()


def test_a_disk_without_room_for_ballast_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not what fills the disk up; one that is there is not asked for room."""
    monkeypatch.setattr(os, "statvfs", disk_of(32 * MB, 2 * MB - BLOCK))
    with pytest.raises(StoreError, match="is full: 2,093,056 bytes free"):
        Ballast(world.state).keep()
    assert not (world.state.root / "ballast").exists()
    (world.state.root / "ballast").touch()
    Ballast(world.state).keep()


def test_ballast_gives_way_to_a_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what was begun of lists; where there is space both stay."""
    ballast, path = Ballast(world.state), world.state.root / "ballast"
    part = world.state.source("iwf").downloads / "part"
    part.parent.mkdir(parents=True)
    for file in (part, path):
        file.touch()
    for free, stay in ((MB, True), (MB - BLOCK, False)):
        monkeypatch.setattr(os, "statvfs", disk_of(32 * MB, free))
        ballast.release_if_full()
        assert (path.exists(), part.exists()) == (stay, stay)
