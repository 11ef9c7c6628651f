"""The operator's state on a bucket of a real S3 server: publishing, an empty disk, a bucket that is ahead."""

import shutil
from pathlib import Path

import pytest

from syncd.errors import StoreError
from syncd.feed.layout import TIMESTAMP
from syncd.operate.repair import recover
from syncd.outcomes import Outcome
from syncd.publish.installing import install
from syncd.store.s3 import S3Bucket
from syncd.store.settings import BucketSettings
from world import HEAD, World, row, rows


@pytest.fixture
def world(tmp_path: Path, bucket: BucketSettings) -> World:
    """A world whose operator publishes into a bucket."""
    return World(tmp_path / "world", bucket=bucket)


@pytest.fixture
def running(world: World) -> World:
    """A list that was published, synced and pulled: numbers 0 to 30, version 2."""
    world.publish(full=rows(0, 30))
    assert world.sync().outcome is Outcome.PUBLISHED
    world.publish(add=[row(30)])
    assert world.sync().outcome is Outcome.PUBLISHED
    world.pull()
    return world


def published(world: World) -> S3Bucket:
    """The bucket's part that matchers read."""
    return part_of(world, "feed")


def part_of(world: World, part: str) -> S3Bucket:
    assert world.bucket is not None
    return S3Bucket(world.bucket, part, public=part == "feed")


def lose_the_disk(world: World) -> None:
    """Remove all that the bucket has too."""
    shutil.rmtree(world.state.feed.root)
    shutil.rmtree(world.state.root / "sources")


def test_a_sync_publishes_into_the_bucket(running: World) -> None:
    """The bucket has all that matchers and another machine need, and the folder is a copy of it."""
    bucket, folder = published(running), running.state.feed
    names = {**bucket.names("v1"), **bucket.names("metadata")}
    assert {path: folder.path(path).stat().st_size for path in folder.store.names()} == names
    segments = [path for path in names if path.endswith(".arrow")]
    assert len(segments) == 2
    assert len(part_of(running, "origins/iwf").names("v1")) == 2
    held = bucket.get(TIMESTAMP, 1 << 20)
    assert held is not None
    assert held.content == folder.here(TIMESTAMP)
    assert len(running.hits(30)) == 1


def test_an_empty_disk_goes_on_from_the_bucket(running: World) -> None:
    """Without its files a machine serves, syncs and judges as before: nothing is fetched from the partner again."""
    lose_the_disk(running)
    running.publish(add=[row(31)], remove=[row(0)])
    outcome = running.sync()
    assert (outcome.outcome, outcome.lists[0].plan, outcome.lists[0].version) == (Outcome.PUBLISHED, "deltas", 3)
    running.pull()
    assert (len(running.hits(30)), len(running.hits(31)), len(running.hits(0))) == (1, 1, 0)


def test_a_bucket_ahead_of_its_catalog_stops_until_recover(running: World) -> None:
    """A restored catalog does not sign numbers again that were published: nothing happens before `recover`."""
    kept = running.base / "kept.sqlite3"
    with running.publisher() as publisher:
        publisher.catalog.backup(kept)
    running.publish(add=[row(31)])
    running.sync()
    for path in running.state.root.glob("catalog.sqlite3*"):
        path.unlink()
    kept.rename(running.state.catalog_file)
    before = published(running).get(TIMESTAMP, 1 << 20)
    running.publish(add=[row(32)])
    outcome = running.sync()
    error = outcome.lists[0].error
    assert isinstance(error, StoreError)
    assert "syncd recover --above N" in error.hint
    assert published(running).get(TIMESTAMP, 1 << 20) == before
    with running.publisher() as publisher:
        recovered = recover(publisher, 100, running.clock(), "tester")
    assert recovered.lists == {HEAD: 101}
    assert running.sync().outcome is Outcome.PUBLISHED


def test_an_older_publication_never_takes_the_feed_back(running: World) -> None:
    """A process that wakes up late installs its publication again: the newer one stays."""
    with running.publisher() as publisher:
        first = publisher.catalog.last_published()
    assert first is not None
    running.publish(add=[row(31)])
    running.sync()
    newest = published(running).get(TIMESTAMP, 1 << 20)
    install(running.state.feed, first.files)
    assert published(running).get(TIMESTAMP, 1 << 20) == newest
    running.pull()
    assert len(running.hits(31)) == 1


def test_another_content_under_a_taken_name_is_refused(bucket: BucketSettings) -> None:
    """Two states that publish into one bucket do not mix their files."""
    ours = S3Bucket(bucket, "feed", public=True)
    ours.create("metadata/2.snapshot.json", b"ours")
    ours.create("metadata/2.snapshot.json", b"ours")
    with pytest.raises(StoreError, match="another content") as refused:
        ours.create("metadata/2.snapshot.json", b"theirs")
    assert "syncd recover --above N" in refused.value.hint
