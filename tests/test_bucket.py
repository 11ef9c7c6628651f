"""The operator's state on a bucket of a real S3 server: publishing, an empty disk, a bucket that is ahead."""

import asyncio
import hashlib
import json
import secrets
import shutil
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from starlette.types import Message

from engines import s3 as buckets
from syncd.catalog.folder import StateFolder
from syncd.catalog.place import state_at
from syncd.errors import ConfigError, NotLeadingError, StoreError
from syncd.feed.folder import FeedFolder
from syncd.feed.layout import TIMESTAMP, segment_path
from syncd.feed.shared import catch_up
from syncd.feed.signed import load_repository
from syncd.history.search import find
from syncd.model import Digest
from syncd.operate.backup import backup
from syncd.operate.repair import in_state, recover
from syncd.outcomes import Outcome
from syncd.pipeline.cache import trim_cache
from syncd.pipeline.mend import damaged_segments, mend
from syncd.pipeline.publisher import open_publisher
from syncd.publish.installing import install
from syncd.publish.rotate import KeyFolders, NewKeys, rotate
from syncd.service.folding import fold_apart
from syncd.service.web.files import FeedFiles
from syncd.store.s3 import S3Bucket
from syncd.store.settings import BucketSettings
from syncd.verify.state import prove_state
from world import HEAD, IMAGES, World, row, rows


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
    return S3Bucket(world.bucket, part, public=True)


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


class Killed(BaseException):
    """The process is killed here."""


def kill_at(monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool) -> list[str]:
    """Kill the process before or after its nth write to the bucket; return the list of its writes."""
    written: list[str] = []

    def killing(act: Callable[..., object]) -> Callable[..., object]:
        def write(bucket: S3Bucket, path: str, *arguments: object, **named: object) -> object:
            written.append(path)
            if len(written) == number and not after:
                raise Killed
            done = act(bucket, path, *arguments, **named)
            if len(written) == number:
                raise Killed
            return done

        return write

    for name in ("_put", "remove"):
        monkeypatch.setattr(S3Bucket, name, killing(getattr(S3Bucket, name)))
    copy = S3Bucket.copy

    def copied(bucket: S3Bucket, other: S3Bucket, existing: str, path: str) -> object:
        return killing(lambda _bucket, _path: copy(bucket, other, existing, path))(bucket, path)

    monkeypatch.setattr(S3Bucket, "copy", copied)
    return written


@pytest.mark.parametrize("after", [False, True])
def test_whoever_publishes_next_finishes_after_a_kill_at_any_write(
    running: World, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Before and after each request that writes: the next sync, here of a machine without files, goes on from there."""
    number, killed = 1, True
    while killed:
        running.publish(add=[row(100 + number)])
        with monkeypatch.context() as patched:
            written = kill_at(patched, number, after=after)
            killed = False
            try:
                running.sync()
            except Killed:
                killed = True
        if number % 3 == 0:
            lose_the_disk(running)
        assert running.sync().exit_code == 0
        with running.publisher() as publisher:
            assert publisher.catalog.pending() == ()
            stack = publisher.list_state("iwf", IMAGES).stack
        assert sum(ref.rows for ref in stack if ref.algorithm == "sha256") == 31 + number
        number += 1
    assert written[-1] == TIMESTAMP
    assert number > 8
    running.pull()
    assert all(running.hits(100 + one) for one in range(1, number))


def test_a_copy_stays_whole_until_new_keys_and_all_that_they_signed_are_here(
    running: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers of another machine get the old state until then: a new root makes its timestamp invalid."""
    other = StateFolder(tmp_path / "other", running.bucket).feed
    catch_up(other)
    shutil.copy(running.state.feed.path("root.json"), other.root)
    at = KeyFolders(running.state.keys, (running.offline,))
    with running.publisher() as publisher:
        rotate(running.state.feed, in_state(publisher, "tester", ""), "timestamp", NewKeys(), at, running.clock())
    running.publish(add=[row(31)])
    assert running.sync().outcome is Outcome.PUBLISHED
    before = load_repository(other).versions
    with monkeypatch.context() as patched:
        patched.setattr(FeedFolder, "bring_here", lambda *_: (_ for _ in ()).throw(StoreError("cut off")))
        with pytest.raises(StoreError, match="cut off"):
            catch_up(other)
    assert load_repository(other).versions == before
    catch_up(other)
    assert load_repository(other).versions == load_repository(running.state.feed).versions


def test_matchers_pull_from_the_bucket_itself(tmp_path: Path, s3_endpoint: str) -> None:
    """Its plain address serves a whole feed, with headers by which browsers, proxies and CDNs keep the right files."""
    prefix = f"public/{secrets.token_hex(8)}"
    world = World(tmp_path / "world", bucket=buckets.settings(tmp_path, s3_endpoint, prefix))
    world.publish(full=rows(0, 30))
    world.sync()
    address = f"{s3_endpoint}/{buckets.BUCKET}/{prefix}"
    world.pull(f"{address}/feed/")
    assert len(world.hits(29)) == 1
    world.publish(add=[row(30)])
    world.sync()
    world.pull(f"{address}/feed/")
    assert len(world.hits(30)) == 1
    names = sorted(world.state.feed.store.names())
    kinds = {}
    for path in names:
        headers = httpx.head(f"{address}/feed/{path}").headers
        kinds[path.rpartition(".")[2], path == TIMESTAMP] = headers["content-type"], headers["cache-control"]
    immutable = "public, max-age=31536000, immutable"
    assert kinds == {
        ("arrow", False): ("application/vnd.apache.arrow.file", immutable),
        ("json", False): ("application/json", immutable),
        ("json", True): ("application/json", "no-cache"),
    }


def test_the_cache_keeps_its_size_and_every_current_stack(running: World) -> None:
    """Old segments go, those unused for longest first; current stacks stay, and what went comes back when needed."""
    with running.publisher() as publisher:
        for _ in range(3):
            running.publish(add=[row(40)], remove=[row(1)])
            running.sync()
            running.publish(add=[row(1)], remove=[row(40)])
            running.sync()
        publisher.compact(HEAD, running.clock(), everything=True)
        feed = running.state.feed
        segments = {path for path in feed.store.names() if path.endswith(".arrow")}
        state = publisher.list_state("iwf", IMAGES)
        current = {segment_path(HEAD, ref.sha256) for ref in (state.head.stack if state.head else ())}
        old = segments - current
        assert len(old) > 2
        linked = {path for path in old if feed.path(path).stat().st_nlink > 2}  # the history has it as well
        assert len(linked) == 1
        small = running.bucket.model_copy(update={"cache_bytes": 1}) if running.bucket else None
        removed = trim_cache(StateFolder(running.state.root, small), publisher.catalog)
        here = {path for path in segments if feed.path(path).exists()}
        assert (removed.files, here) == (len(old - linked), current | linked)
        back = min(old - linked)
        assert not feed.path(back).exists()
        assert hashlib.sha256(feed.store.present(back).read_bytes()).hexdigest() in back


def test_nothing_leaves_the_cache_that_the_bucket_does_not_have(running: World) -> None:
    """A file that only this machine has is not a copy."""
    with running.publisher() as publisher:
        publisher.compact(HEAD, running.clock(), everything=True)
        bucket = published(running)
        for path in bucket.names("v1"):
            if path.endswith(".arrow"):
                bucket.remove(path)
        small = running.bucket.model_copy(update={"cache_bytes": 1}) if running.bucket else None
        assert trim_cache(StateFolder(running.state.root, small), publisher.catalog).files == 0


def test_a_damaged_copy_is_fetched_again(running: World) -> None:
    """A sync that meets damage in its cache repairs it from the bucket, and asks no partner."""
    for path in running.state.root.rglob("segments/*.arrow"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.unlink()
        path.write_bytes(content)
    with running.publisher() as publisher:
        damaged = [ref.sha256 for ref in damaged_segments(publisher.list_state("iwf", IMAGES))]
    assert len(damaged) == 2
    assert mend(running.state, "iwf", HEAD, damaged) is False
    running.publish(add=[row(31)])
    assert running.sync().outcome is Outcome.PUBLISHED
    running.pull()
    assert len(running.hits(31)) == 1


def test_old_files_leave_the_bucket_by_the_record_in_the_catalog(running: World) -> None:
    """Another machine goes on with the record: a file unnamed for a day goes, whoever noticed it first."""
    with running.publisher() as publisher:
        publisher.compact(HEAD, running.clock(), everything=True)
        for _ in range(20):  # beyond the versions whose files are kept
            running.clock.forward(minutes=1)
            publisher.resign(running.clock())
        publisher.collector.everything(running.clock())
        record = json.loads(publisher.catalog.unnamed_files("feed"))
        waiting = set(record["unnamed"])
        assert any(path.startswith("metadata/") for path in waiting)
        lose_the_disk(running)
        running.clock.forward(hours=25)
        collected = publisher.collector.everything(running.clock())
    assert collected.feed.files == len(waiting)
    assert not waiting & {*published(running).names("metadata"), *published(running).names("v1")}
    running.publish(add=[row(31)])
    assert running.sync().exit_code == 0


def test_whoever_no_longer_leads_removes_nothing(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is replaced before the first file goes, and the catalog refuses that to a former leader."""
    with running.publisher() as publisher:
        for _ in range(3):
            running.clock.forward(minutes=1)
            publisher.resign(running.clock())
        publisher.collector.everything(running.clock())
        running.clock.forward(hours=25)
        before = published(running).names("metadata")

        def refused(*_: object) -> None:
            raise NotLeadingError("another daemon leads")

        monkeypatch.setattr(type(publisher.catalog), "note_unnamed_files", refused)
        with pytest.raises(NotLeadingError):
            publisher.collector.everything(running.clock())
        assert published(running).names("metadata") == before


def test_the_history_survives_the_disk(running: World) -> None:
    """The private history is in the bucket too: another machine explains what this one published."""
    with running.publisher() as publisher:
        publisher.keep_history(running.clock(), timedelta(days=730))
        shutil.rmtree(running.state.history)
        lose_the_disk(running)
        running.state.bring_private(running.state.history)
        digest = Digest.parse(f"sha256:{row(30)[1]}")
        found = find(running.state, publisher.catalog, HEAD, digest)
    assert (len(found.rows), found.gaps) == (1, ())


def test_a_folder_that_published_elsewhere_is_not_mixed(running: World, tmp_path: Path) -> None:
    """A changed or missing [store] moves nothing: the state knows where it publishes."""
    assert running.bucket is not None
    for other in (None, running.bucket.model_copy(update={"prefix": "another"})):
        with (
            pytest.raises(ConfigError, match="publishes into s3://lists/private/"),
            open_publisher(StateFolder(running.state.root, other)),
        ):
            pass
    own = World(tmp_path / "own")
    with (
        pytest.raises(ConfigError, match="has published into its own folder"),
        open_publisher(StateFolder(own.state.root, running.bucket)),
    ):
        pass
    assert state_at(running.state.root).bucket == running.bucket


def test_a_restored_backup_knows_its_bucket(running: World) -> None:
    """Unpacked elsewhere it is behind the bucket, says so, and goes on above it."""
    target = running.base / "backup.tar"
    with running.publisher() as publisher:
        backup(publisher, target, running.clock())
    running.publish(add=[row(31)])
    running.sync()
    keys = shutil.move(running.state.keys, running.base / "keys")
    shutil.rmtree(running.state.root)
    running.state.root.mkdir(mode=0o750)
    with tarfile.open(target) as tar:
        tar.extractall(running.state.root, filter="data")
    shutil.move(keys, running.state.keys)
    assert state_at(running.state.root).bucket == running.bucket
    error = running.sync().error or running.sync().lists[0].error
    assert error is not None
    assert "syncd recover --above N" in error.hint
    with running.publisher() as publisher:
        recover(publisher, 100, running.clock(), "tester")
    assert running.sync().outcome is Outcome.PUBLISHED
    assert not running.pull().errors
    assert len(running.hits(31)) == 1


def test_a_state_moves_into_a_bucket_by_hand(tmp_path: Path, bucket: BucketSettings) -> None:
    """As docs/object-store.md says: copy the files, move them out of the way, name the bucket."""
    own = World(tmp_path / "world")
    own.publish(full=rows(0, 30))
    own.sync()
    for folder, part in ((own.state.feed.root, "feed"), (own.state.root / "sources" / "iwf", "origins/iwf")):
        there = S3Bucket(bucket, part, public=True)
        for path in folder.rglob("*"):
            if path.is_file() and ".work" not in path.parts:
                there.upload(path, str(path.relative_to(folder)))
    for name in ("feed", "sources"):
        shutil.move(own.state.root / name, tmp_path / f"old-{name}")
    moved = World(tmp_path / "world", bucket=bucket)
    moved.publish(add=[row(30)])
    outcome = moved.sync()
    assert (outcome.outcome, outcome.lists[0].plan, outcome.lists[0].version) == (Outcome.PUBLISHED, "deltas", 2)
    with moved.publisher():
        proof = prove_state(moved.state, None, moved.clock())
    assert proof.faults == ()


def ask(files: FeedFiles, path: str) -> tuple[int, bytes]:
    """Ask the daemon's HTTP side for a file; return status and body."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(files(path, {"type": "http", "method": "GET", "path": path, "headers": []}, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_the_daemon_serves_what_left_its_cache(running: World) -> None:
    """A file that a matcher asks for comes from the bucket; what is nowhere is 404, and a silent bucket is 503."""
    feed = running.state.feed
    path = next(path for path in feed.store.names() if path.endswith(".arrow"))
    feed.path(path).unlink()
    status, body = ask(FeedFiles(feed.root, 0.0, feed.store), path)
    assert (status, hashlib.sha256(body).hexdigest() in path) == (200, True)
    nowhere = segment_path(HEAD, "0" * 64)
    assert ask(FeedFiles(feed.root, 0.0, feed.store), nowhere)[0] == 404
    assert running.bucket is not None
    silent = StateFolder(running.state.root, running.bucket.model_copy(update={"endpoint": "http://127.0.0.1:9"})).feed
    assert ask(FeedFiles(silent.root, 0.0, silent.store), nowhere)[0] == 503
    assert ask(FeedFiles(silent.root, 0.0, silent.store), path)[0] == 200


def test_a_large_fold_needs_no_access_to_the_bucket(running: World) -> None:
    """Its process gets files only: the daemon brings the inputs, and takes the output to the bucket."""
    for path in running.state.root.rglob("segments/*.arrow"):
        path.unlink()
    with running.publisher() as publisher:
        head = publisher.list_state("iwf", IMAGES).head
        assert head is not None
        folds = fold_apart(running.state.feed, head, everything=True, large=0)
    (folded,) = folds.folded
    assert folded.output is not None
    assert published(running).length(segment_path(HEAD, folded.output.sha256)) == folded.output.length
