"""``syncd store copy``: the published files of a state that is in use move to a bucket, and back."""

import shutil

import pytest

import test_bucket
from command_line import configure, operate, settings, syncd
from engines.postgres import PostgresServer
from syncd.catalog.catalog import Catalog
from syncd.catalog.place import RECORD
from syncd.locks import lock
from syncd.model import ListName
from syncd.store.settings import BucketSettings
from world import World, row, rows

VIDEOS = ListName("videos")


def store_section(bucket: BucketSettings) -> str:
    return (
        f'[store]\ntype = "s3"\nbucket = "{bucket.bucket}"\nprefix = "{bucket.prefix}"\n'
        f'endpoint = "{bucket.endpoint}"\naccess_key_file = "{bucket.access_key_file}"\n'
        f'secret_key_file = "{bucket.secret_key_file}"\n'
    )


@pytest.fixture
def running(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An operator with two lists in its folder, one suppressed row and a matcher that holds both lists."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 30))
    world.publish(full=rows(100, 110), name=VIDEOS)
    assert syncd("sync").code == 0
    world.publish(add=[row(30)], remove=[row(5)])
    assert syncd("sync").code == 0
    assert syncd("suppress", f"sha256:{row(3)[1]}", "--reason", "R").code == 0
    assert not world.pull().errors
    return world


@pytest.fixture
def moving(running: World, bucket: BucketSettings, monkeypatch: pytest.MonkeyPatch) -> World:
    """Its configuration names an empty place in a bucket now."""
    moved = World(running.base, running.clock, bucket=bucket)
    configure(running.base / "syncd.toml", settings(moved) + store_section(bucket), monkeypatch)
    return moved


def check_goes_on(world: World, number: int) -> None:
    """Everything is proved, and the next news arrive at the matcher, with no alarm and no list that went back."""
    for command in (("verify", "--deep"), ("audit", "verify"), ("run", "--check")):
        ran = syncd(*command)
        assert ran.code == 0, ran
    world.clock.forward(minutes=10)
    world.publish(add=[row(number)])
    assert syncd("sync").code == 0
    pulled = world.pull()
    assert not pulled.errors
    assert not any(one.forked for one in pulled.lists)
    assert world.hits(number)
    assert world.hits(29)
    assert world.hits(105)
    assert not world.hits(3)


def test_a_folder_with_two_lists_moves_to_a_bucket(moving: World) -> None:
    """All its files are there afterwards: `verify` proves them on a machine without the folder, and work goes on."""
    assert "run `syncd store copy` to move its files there" in syncd("sync").err
    ran = syncd("store", "copy", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["store"] == moving.bucket.place if moving.bucket else ""
    assert ran.json["files"] > 10
    assert "moved_store" in syncd("audit", "--json").out
    for cached in ("feed", "sources", "history"):
        shutil.rmtree(moving.state.root / cached)
    check_goes_on(moving, 40)


def test_it_moves_back(moving: World, running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that was published in the bucket, from a folder that has none of it."""
    assert syncd("store", "copy").code == 0
    check_goes_on(moving, 40)
    for cached in ("feed", "sources", "history"):
        shutil.rmtree(moving.state.root / cached)
    assert syncd("store", "copy", "--to-folder").code == 0
    assert not (moving.state.root / RECORD).exists()
    configure(running.base / "syncd.toml", settings(running), monkeypatch)
    check_goes_on(running, 41)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_move_that_was_killed_at_any_write_is_continued(
    moving: World, running: World, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """After each request that writes, every third in turn. Until it has ended, the folder is used as before."""
    number, killed = first, True
    alone = settings(running)
    with_store = (running.base / "syncd.toml").read_text()
    while killed:
        with monkeypatch.context() as patched:
            test_bucket.kill_at(patched, number, after=True)
            try:
                killed = bool(syncd("store", "copy").code)
            except test_bucket.Killed:
                killed = True
        if killed and number == first + 6:
            configure(running.base / "syncd.toml", alone, monkeypatch)
            running.publish(add=[row(200)])
            assert syncd("sync").code == 0
            configure(running.base / "syncd.toml", with_store, monkeypatch)
        number += 3
    assert number > 12
    shutil.rmtree(moving.state.root / "feed")
    shutil.rmtree(moving.state.root / "sources")
    check_goes_on(moving, 40)
    assert moving.hits(200)


def test_a_bucket_of_another_state_is_left_alone(moving: World, bucket: BucketSettings) -> None:
    """And so is one that the same state has published into since: a folder does not replace what is newer."""
    other = World(moving.base / "other", moving.clock, bucket=bucket)
    before = other.state.feed.store.lengths()
    ran = syncd("store", "copy")
    assert (ran.code, "has the files of another state" in ran.err) == (6, True)
    assert other.state.feed.store.lengths() == before


def test_an_older_folder_does_not_replace_what_was_published_in_the_bucket(moving: World) -> None:
    """As after the restore of a machine that had been moved."""
    kept = moving.base / "kept"
    shutil.copytree(moving.state.root, kept)
    assert syncd("store", "copy").code == 0
    check_goes_on(moving, 40)
    shutil.rmtree(moving.state.root)
    kept.rename(moving.state.root)
    ran = syncd("store", "copy")
    assert (ran.code, "has a newer publication than this folder" in ran.err) == (6, True)
    assert not (moving.state.root / RECORD).exists()


def test_a_damaged_state_is_not_moved(moving: World) -> None:
    """`verify` names what to mend."""
    segment = next(moving.state.feed.root.glob("v1/iwf.images/segments/*.arrow"))
    segment.unlink()
    ran = syncd("store", "copy")
    assert (ran.code, "`syncd verify` names each" in ran.err) == (1, True)
    assert moving.state.feed.store.lengths() == {}
    assert syncd("verify").code == 4


def test_there_must_be_something_to_move(moving: World, running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bucket in the configuration, with the files there already, or beside a daemon, nothing happens."""
    assert syncd("store", "copy", "--to-folder").code == 2
    with lock(moving.state.root / "lock", "a test"):
        assert syncd("store", "copy").code == 6
    assert syncd("store", "copy").code == 0
    assert syncd("store", "copy").code == 2
    assert moving.bucket is not None
    assert syncd("store").out == f"the published files are in {moving.bucket.place}\n"
    other = moving.bucket.model_copy(update={"prefix": "elsewhere"})
    configure(running.base / "syncd.toml", settings(moving) + store_section(other), monkeypatch)
    assert syncd("store", "copy").code == 2
    configure(running.base / "syncd.toml", settings(running), monkeypatch)
    assert syncd("store", "copy").code == 2


def test_a_state_with_a_database_moves_too(
    moving: World, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog knows the new place: a daemon that still names the old one is refused."""
    with postgres.database(empty=True) as address:
        both = World(moving.base, moving.clock, bucket=moving.bucket, database=address)
        alone = World(moving.base, moving.clock, database=address)
        assert moving.bucket is not None
        configure(moving.base / "syncd.toml", settings(alone), monkeypatch)
        assert syncd("catalog", "copy").code == 0
        assert syncd("sync").code == 0
        configure(moving.base / "syncd.toml", settings(both) + store_section(moving.bucket), monkeypatch)
        assert syncd("store", "copy").code == 0
        with Catalog.open(address) as catalog:
            catalog.check_store(both.state.store_place)
        check_goes_on(both, 40)
        assert syncd("store", "copy", "--to-folder").code == 0
        configure(moving.base / "syncd.toml", settings(alone), monkeypatch)
        check_goes_on(alone, 41)
