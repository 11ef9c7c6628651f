"""A bucket that lies, fails, answers too late, or whose answers are lost."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engines import s3 as buckets
from s3_fronts import breaking, liar
from syncd.catalog.folder import StateFolder
from syncd.config_file import load
from syncd.errors import ConfigError, LostRaceError, StoreError
from syncd.feed.folder import FeedFolder
from syncd.feed.layout import TIMESTAMP
from syncd.outcomes import Outcome
from syncd.publish.installing import advance
from syncd.publish.ledger import SignedFiles
from syncd.store import s3
from syncd.store.proof import prove_now
from syncd.store.s3 import S3Bucket
from syncd.store.settings import BucketSettings
from world import World, row, rows


def bucket_at(folder: Path, endpoint: str, prefix: str = "", **changes: object) -> S3Bucket:
    return S3Bucket(buckets.settings(folder, endpoint, prefix, **changes), "feed", public=True)


@pytest.mark.parametrize(
    ("ignored", "said"),
    [("create", "concurrent requests to create one key"), ("tag", "an older content"), ("absent", "created a file")],
)
def test_a_server_that_ignores_conditions_is_refused(tmp_path: Path, ignored: str, said: str) -> None:
    """Two machines on it would overwrite each other's publications unseen; the error names what it ignored."""
    with liar(ignored) as endpoint, pytest.raises(ConfigError, match=said):
        prove_now(bucket_at(tmp_path, endpoint))


def test_a_server_that_honours_them_is_proved_and_left_clean(tmp_path: Path, bucket: BucketSettings) -> None:
    """The fake that lies about nothing passes as the real server does, and no key stays."""
    with liar() as endpoint:
        prove_now(bucket_at(tmp_path, endpoint))
    real = S3Bucket(bucket, "probe", public=False)
    prove_now(real)
    assert real.names("") == {}


def test_an_operator_is_not_set_up_on_a_server_that_lies(tmp_path: Path) -> None:
    """Nothing is published, not even the first metadata."""
    with liar("create") as endpoint, pytest.raises(ConfigError, match="ignores conditions"):
        World(tmp_path / "world", bucket=buckets.settings(tmp_path, endpoint))
    assert not (tmp_path / "world" / "state" / "feed" / "metadata").exists()


@pytest.mark.parametrize("wrong", ["lost", "after 500", "after 503", "after 409", "after 412"])
def test_a_write_whose_answer_is_lost_is_read_back(
    tmp_path: Path, s3_endpoint: str, bucket: BucketSettings, wrong: str
) -> None:
    """It was carried out: a create finds its own content, and the timestamp is in place."""
    once = ["metadata/2.snapshot.json", TIMESTAMP]

    def fault(method: str, path: str, conditional: bool) -> str:
        named = next((one for one in once if path.endswith(one)), None) if method == "PUT" else None
        if named is None:
            return ""
        once.remove(named)
        return wrong

    with breaking(s3_endpoint, fault) as endpoint:
        ours = bucket.model_copy(update={"endpoint": endpoint})
        _install(_feed(tmp_path, ours), (("metadata/2.snapshot.json", b"two"), (TIMESTAMP, _timestamp(2))))
    assert once == []
    real = S3Bucket(bucket, "feed", public=True)
    held = [real.get(path, 100) for path in ("metadata/2.snapshot.json", TIMESTAMP)]
    assert [one and one.content for one in held] == [b"two", _timestamp(2)]


@pytest.mark.parametrize("wrong", ["cut", "answer 503", "answer 409"])
def test_a_write_that_never_arrives_is_repeated(
    tmp_path: Path, s3_endpoint: str, bucket: BucketSettings, wrong: str
) -> None:
    """Its outcome is unknown at first: what was read back is not ours."""
    left = [2]

    def fault(method: str, path: str, conditional: bool) -> str:
        if method == "PUT" and conditional and left[0]:
            left[0] -= 1
            return wrong
        return ""

    with breaking(s3_endpoint, fault) as endpoint:
        _install(_feed(tmp_path, bucket.model_copy(update={"endpoint": endpoint})), ((TIMESTAMP, _timestamp(2)),))
    held = S3Bucket(bucket, "feed", public=True).get(TIMESTAMP, 100)
    assert held is not None
    assert (held.content, left) == (_timestamp(2), [0])


def test_an_outcome_that_stays_unknown_is_an_error_and_nothing_is_taken_back(
    tmp_path: Path, s3_endpoint: str, bucket: BucketSettings
) -> None:
    """After some attempts the publication is left for the next publisher, who installs the same bytes."""
    files = (("metadata/2.snapshot.json", b"two"), (TIMESTAMP, _timestamp(2)))

    def fault(method: str, path: str, conditional: bool) -> str:
        return "answer 503" if method == "PUT" and path.endswith(TIMESTAMP) else ""

    with breaking(s3_endpoint, fault) as endpoint, pytest.raises(StoreError, match="503"):
        _install(_feed(tmp_path, bucket.model_copy(update={"endpoint": endpoint})), files)
    real = S3Bucket(bucket, "feed", public=True)
    assert list(real.names("metadata")) == ["metadata/2.snapshot.json"]
    _install(_feed(tmp_path / "other", bucket), files)
    assert list(real.names("metadata")) == ["metadata/2.snapshot.json", TIMESTAMP]


def test_of_two_publishers_the_later_version_stays(tmp_path: Path, bucket: BucketSettings) -> None:
    """Whoever swaps against an old tag is refused, reads again, and finds the newer one."""
    ours, theirs = _feed(tmp_path / "a", bucket), _feed(tmp_path / "b", bucket)
    advance(ours, _timestamp(1))
    before = ours.store.current(TIMESTAMP, 100)
    advance(theirs, _timestamp(3))
    with pytest.raises(LostRaceError):
        ours.store.replace(TIMESTAMP, _timestamp(2), before.tag if before else None)
    advance(ours, _timestamp(2))
    held = theirs.store.current(TIMESTAMP, 100)
    assert held is not None
    assert held.content == _timestamp(3)
    with pytest.raises(StoreError, match="another timestamp of version 3") as refused:
        advance(ours, _timestamp(3, "another"))
    assert "syncd recover --above N" in refused.value.hint


@pytest.mark.parametrize(
    ("changes", "said", "to_do"),
    [
        ({"bucket": "no-such-bucket"}, "the bucket no-such-bucket does not exist", "bucket, endpoint and region"),
        ({"secret": "wrong"}, "refuses to write", "the key's policy permits"),
        ({"access": "reader", "secret": "of-a-reader"}, "refuses to write", "PutObject"),
        ({"endpoint": "http://127.0.0.1:9"}, "no answer", "runs and can be reached"),
    ],
)
def test_what_is_wrong_with_a_bucket_is_said(
    tmp_path: Path, s3_endpoint: str, changes: dict[str, str], said: str, to_do: str
) -> None:
    """Each error names the cause and the cure, and never a key."""
    settings = buckets.settings(tmp_path, changes.pop("endpoint", s3_endpoint))
    for name in ("access", "secret"):
        if name in changes:
            (tmp_path / f"{name}-key").write_text(changes.pop(name))
    settings = settings.model_copy(update=changes)
    with pytest.raises(StoreError, match=said) as refused:
        S3Bucket(settings, "feed", public=True).create("metadata/1.root.json", b"root")
    assert to_do in refused.value.hint
    assert "of-a-reader" not in str(refused.value)


@pytest.mark.parametrize(("status", "said"), [("507", "the bucket is full"), ("403", "refuses to write")])
def test_a_full_bucket_and_a_refusal_are_not_repeated(
    tmp_path: Path, s3_endpoint: str, bucket: BucketSettings, status: str, said: str
) -> None:
    """They do not pass by themselves."""
    asked: list[str] = []

    def fault(method: str, path: str, conditional: bool) -> str:
        asked.append(method)
        return f"answer {status}"

    with breaking(s3_endpoint, fault) as endpoint, pytest.raises(StoreError, match=said):
        S3Bucket(bucket.model_copy(update={"endpoint": endpoint}), "feed", public=True).create("metadata/x.json", b"x")
    assert asked == ["PUT"]


def test_a_slow_server_is_given_up(
    tmp_path: Path, s3_endpoint: str, bucket: BucketSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request has ten seconds (here a tenth of one), and its outcome is then unknown."""
    monkeypatch.setattr(s3, "_QUICK", s3._QUICK / 100)
    with (
        breaking(s3_endpoint, lambda *_: "silent") as endpoint,
        pytest.raises(StoreError, match="no answer, or it came too late"),
    ):
        S3Bucket(bucket.model_copy(update={"endpoint": endpoint}), "feed", public=True).get("metadata/x.json", 100)


def test_a_bucket_that_fails_in_a_sync_leaves_the_last_version_served(
    tmp_path: Path, s3_endpoint: str, bucket: BucketSettings
) -> None:
    """The sync fails and names what is still served; the copy on this machine answers; the next sync goes on."""
    down = threading.Event()

    def fault(method: str, path: str, conditional: bool) -> str:
        return "answer 503" if down.is_set() else ""

    with breaking(s3_endpoint, fault) as endpoint:
        world = World(tmp_path / "world", bucket=bucket.model_copy(update={"endpoint": endpoint}))
        world.publish(full=rows(0, 30))
        assert world.sync().outcome is Outcome.PUBLISHED
        world.publish(add=[row(30)])
        down.set()
        outcome = world.sync()
        assert outcome.outcome is Outcome.FAILED
        (error,) = [result.error for result in outcome.lists]
        assert error is not None
        assert error.serving == "iwf.images version 1"
        assert "503" in error.message
        world.pull()
        assert len(world.hits(29)) == 1
        down.clear()
        assert world.sync().outcome is Outcome.PUBLISHED
        world.pull()
        assert len(world.hits(30)) == 1


def _feed(folder: Path, settings: BucketSettings) -> FeedFolder:
    return StateFolder(folder, settings).feed


def _install(feed: FeedFolder, files: SignedFiles) -> None:
    """Install files that are no feed: the timestamp last."""
    for path, content in files:
        if path == TIMESTAMP:
            advance(feed, content)
        else:
            feed.store.put(path, content)


def _timestamp(version: int, more: str = "") -> bytes:
    return f'{{"signed": {{"version": {version}, "more": "{more}"}}}}'.encode()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('endpoint = "http://s3.example.org"', "store.endpoint"),
        ('endpoint = "file:///srv/lists"', "not the address of an S3 server"),
        ('prefix = "/lists/"', "not a valid prefix"),
        ('access_key_file = "/etc/syncd/key"', "store.secret_key_file: missing"),
        ("cache_bytes = 1000", "store.cache_bytes"),
    ],
)
def test_a_store_that_cannot_work_is_refused_with_its_key(tmp_path: Path, line: str, said: str) -> None:
    """Before anything is tried: plain HTTP to another machine would show every list."""
    file = tmp_path / "syncd.toml"
    file.write_text(f'state_dir = "{tmp_path}"\n[store]\ntype = "s3"\nbucket = "lists"\n{line}\n')
    with pytest.raises(ConfigError, match=said):
        load(file)


def test_the_bucket_of_a_configuration(tmp_path: Path) -> None:
    """Its defaults are those of AWS, and the table crosses to other processes as a plain value."""
    file = tmp_path / "syncd.toml"
    file.write_text(f'state_dir = "{tmp_path}"\n[store]\ntype = "s3"\nbucket = "lists"\nprefix = "a/b"\n')
    settings = load(file).bucket
    assert settings is not None
    assert (settings.place, settings.endpoint, settings.cache_bytes) == ("s3://lists/a/b", "", 64 << 30)
    assert BucketSettings.model_validate_json(settings.model_dump_json()) == settings


@contextmanager
def _forbidding() -> Iterator[str]:
    """A server that answers 403 to everything, as the metadata service of a cloud may, or a proxy in its place."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        do_PUT = do_GET  # noqa: N815 - the names that the library calls

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_without_keys_a_dead_address_is_named_before_missing_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client asks the cloud for keys first, so its own error is about that."""
    with _forbidding() as cloud, socket.create_server(("127.0.0.1", 0)) as dead:
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", cloud)
        there = BucketSettings(bucket="lists", endpoint=cloud)
        with pytest.raises(StoreError, match="there are no credentials") as refused:
            S3Bucket(there, "feed", public=True).get(TIMESTAMP, 10)
        assert "access_key_file" in refused.value.hint
        nowhere = there.model_copy(update={"endpoint": f"http://127.0.0.1:{dead.getsockname()[1]}"})
        dead.close()
        with pytest.raises(StoreError, match=f"nothing answers at {nowhere.endpoint}") as refused:
            S3Bucket(nowhere, "feed", public=True).create("metadata/1.root.json", b"root")
        assert "check endpoint in [store]" in refused.value.hint
