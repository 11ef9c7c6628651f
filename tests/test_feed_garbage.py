"""Garbage collection: never what a reader may still need."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from syncd.feed import garbage, layout
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.fetch import Endpoint
from syncd.matcher import Matcher
from syncd.matcher.pull import pull
from syncd.model import ListName
from syncd.publish import author
from world import IMAGES, World, row, rows


def files(folder: FeedFolder) -> set[str]:
    return {str(path.relative_to(folder.root)) for path in folder.root.rglob("*") if path.is_file()}


def manifests(folder: FeedFolder) -> int:
    return sum(1 for path in files(folder) if path.endswith(".manifest.json"))


def churn(world: World, start: int, count: int) -> None:
    """Versions enough that folding leaves files behind."""
    for number in range(start, start + count):
        world.publish(add=[row(number)])
        world.sync()
        world.pull()


def test_what_is_no_longer_named_stays_for_a_day_and_then_goes(world: World) -> None:
    """Files folded away are kept for those who are about to open them, and removed the day after."""
    world.publish(full=rows(0, 40))
    churn(world, 100, 9)
    copy = FeedFolder(world.copy)
    before = manifests(copy)
    world.clock.forward(hours=23)
    churn(world, 200, 1)
    assert manifests(copy) == before + 1
    world.clock.forward(hours=2)
    churn(world, 201, 1)
    assert manifests(copy) == 3, "the one in force, the one of two hours ago, and the one before that"
    assert all(world.hits(number) for number in (0, 39, 100, 108, 200, 201))


def test_a_mapped_reader_goes_on_answering(world: World) -> None:
    """Removing a file takes nothing from a matcher that has it open."""
    world.publish(full=rows(0, 40))
    churn(world, 100, 9)
    matcher = world.matcher()
    for _ in range(3):
        world.clock.forward(hours=25)
        churn(world, 300, 9)
    assert [len(world.hits(number, matcher)) for number in (0, 100, 108, 999)] == [1, 1, 1, 0]


@pytest.mark.parametrize("age", [0, 1])
@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"{}")], ids=["missing", "damaged"])
def test_a_list_whose_manifest_is_spoilt_loses_nothing(world: World, spoil: Callable[[Path], object], age: int) -> None:
    """A manifest that the disk lost can be restored; its segments too, had they been removed for lack of it."""
    world.publish(full=rows(0, 40))
    world.publish(add=[row(40)])
    held = load_repository(world.partner).targets()[layout.target_name(IMAGES)].sha256
    path = world.partner.path(layout.manifest_path(IMAGES, held))
    if age:
        previous = world.partner.manifest(IMAGES, held).previous
        path = world.partner.path(layout.manifest_path(IMAGES, previous.sha256 if previous else ""))
    before, content = files(world.partner), path.read_bytes()
    spoil(path)
    garbage._version.cache_clear()  # as for another process
    for number in range(4):
        world.clock.forward(hours=20)
        world.publish(add=[row(number)], name=ListName("videos"))
    path.write_bytes(content)
    assert {one for one in before - files(world.partner) if one.startswith("v1/")} == set()
    world.follow()
    assert len(Matcher.open(world.mirror).lookup("sha256", row(40)[1])) == 1


def test_a_list_that_a_copy_lost_keeps_no_other_back(world: World) -> None:
    """A pull of one list tells what came of it, and removes old files, though the manifest of another is damaged."""
    world.publish(full=rows(0, 40))
    world.publish(full=rows(0, 4), name=ListName("videos"))
    world.follow()
    for path in world.mirror.glob("v1/videos/*.manifest.json"):
        path.write_bytes(b"{}")
    before = files(FeedFolder(world.mirror))
    world.publish(add=[row(40)])
    endpoint, root = Endpoint(world.url), world.root.read_bytes()
    pulled = pull(endpoint, root, world.mirror, now=world.clock(), lists=[IMAGES])
    assert [(one.list, one.after, one.error) for one in pulled.lists] == [(IMAGES, 2, None)]
    world.clock.forward(hours=25)
    pull(endpoint, root, world.mirror, now=world.clock(), lists=[IMAGES])
    gone = {path.partition("/")[0] for path in before - files(FeedFolder(world.mirror))}
    assert "v1" in gone
    assert not any("videos" in path for path in before - files(FeedFolder(world.mirror)))


def test_recent_deltas_and_versions_stay(world: World) -> None:
    """A follower that is some versions behind still finds the deltas, however old they are."""
    world.publish(full=rows(0, 40))
    world.sync()
    for number in range(20):
        world.clock.forward(days=2)
        world.publish(add=[row(100 + number)])
    assert world.sync().lists[0].plan == "deltas"
    repository = load_repository(world.partner)
    target = repository.targets()["v1/images/manifest.json"]
    named: set[str] = set()
    sha256 = target.sha256
    for _ in range(garbage.KEPT_VERSIONS):
        manifest = world.partner.manifest(IMAGES, sha256)
        named |= set(garbage.named_by_manifest(manifest, sha256))
        assert manifest.previous
        sha256 = manifest.previous.sha256
    assert named - files(world.partner) == set()


@pytest.mark.parametrize("path", ["segments/{}.arrow", "bloom-2/{}.bin", "{}.index.json"])
def test_a_damaged_ledger_costs_a_day_and_nothing_else(world: World, path: str) -> None:
    """When nobody knows since when a file is unnamed, it counts from now; of whatever kind it is."""
    world.publish(full=rows(0, 5))
    stray = world.partner.path(f"v1/images/{path.format('0' * 64)}")
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")
    author.collect_garbage(world.partner, world.clock())
    (world.partner.work / "unnamed.json").write_text("{")
    world.clock.forward(hours=25)
    assert author.collect_garbage(world.partner, world.clock()).files == 0
    world.clock.forward(hours=25)
    assert author.collect_garbage(world.partner, world.clock()).files > 0
    assert not stray.exists()
    world.publish(full=rows(0, 5))
    assert world.sync().exit_code == 0


def test_parts_of_downloads_that_nobody_continues_go_after_a_week(world: World) -> None:
    """A part is worth keeping for the next attempt, not for ever."""
    folder = world.base / "download"
    folder.mkdir()
    (folder / "part").write_bytes(b"part")
    now = world.clock.now.fromtimestamp((folder / "part").stat().st_mtime, world.clock.now.tzinfo)
    garbage.remove_old_parts(folder, now + timedelta(days=6))
    assert list(folder.iterdir()) != []
    garbage.remove_old_parts(folder, now + timedelta(days=8))
    assert list(folder.iterdir()) == []


def test_syncs_remove_old_files_at_most_once_an_hour(world: World) -> None:
    """Listing every file of a feed costs more than publishing a small delta."""
    world.publish(full=rows(0, 40))
    world.sync()
    stray = world.state.feed.path(layout.segment_path(ListName("iwf.images"), "0" * 64))
    stray.write_bytes(b"stray")
    world.clock.forward(minutes=59)
    world.publish(add=[row(40)])
    world.sync()
    ledger = world.state.feed.work / "unnamed.json"
    assert str(stray.name) not in ledger.read_text()
    world.clock.forward(minutes=1)
    world.publish(add=[row(41)])
    world.sync()
    assert str(stray.name) in ledger.read_text()


def test_a_sync_after_the_clock_went_back_removes_old_files(world: World) -> None:
    """A collection dated in the future says nothing about how long ago it was."""
    world.publish(full=rows(0, 5))
    world.sync()
    source = world.state.source("iwf")
    assert not garbage.is_due(garbage.FileLedger(source), world.clock())
    assert garbage.is_due(garbage.FileLedger(source), world.clock() - timedelta(minutes=1))
