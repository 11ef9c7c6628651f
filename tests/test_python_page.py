"""The page on the Python interface: its examples run, and it names everything that is public."""

import dataclasses
import inspect
import re
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from event_peer import serve
from syncd import matcher as public
from syncd.errors import DeadlineExceeded, SourceError, TrustError, UnknownListError, UsageError
from syncd.feed.folder import FeedFolder
from syncd.locks import lock
from syncd.matcher import Feed, Hit, ListStatus, Matcher, NearHit, VideoHit, VideoRule
from syncd.matcher.first_pull import ensure_copy
from world import IMAGES, Clock, World, row, rows

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A partner with one list that nobody has pulled, by the real clock."""
    found = World(tmp_path, Clock(datetime.now(UTC)))
    found.publish(full=rows(0, 9))
    return found


def test_the_examples_run(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In their order, from the first pull to the end, with nothing replaced but the places."""
    (tmp_path / "token").write_text("t" * 32)
    (tmp_path / "token").chmod(0o600)
    with serve(world.partner.root) as peer:
        peer.versions = {IMAGES: 1}
        places = {
            "https://syncd.example.org/feed/": peer.url,
            "/etc/hashes/token": str(tmp_path / "token"),
            "/var/lib/hashes": str(tmp_path / "hashes"),
            "/etc/hashes/root.json": str(world.root),
            "iwf.images": str(IMAGES),
        }
        namespace: dict[str, object] = {}
        for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
            for place, here in places.items():
                block = block.replace(place, here)  # noqa: PLW2901 - the same block, here
            exec(block, namespace)
    out = capsys.readouterr().out
    assert "not checked; the lists hold only ('sha256',)\n" in out
    assert f"{IMAGES} 1 9 " in out
    assert f"('sha256',) {{'{IMAGES}': 1}} None\n" in out


def test_everything_public_is_on_the_page() -> None:
    """Each name, each method and property of a matcher, each argument, each field."""
    named = set(re.findall(r"\w+", "\n".join(re.findall(r"`([^`\n]+)`", PAGE))))
    names = set(public.__all__)
    members = {name for name in vars(Matcher) if not name.startswith("_")} - {"generation"}
    arguments = {
        name
        for method in ("open", "lookup", "lookup_many", "near", "near_many", "match_video", "watch")
        for name in inspect.signature(getattr(Matcher, method)).parameters
    } - {"self", "clock", "timer", "wait"}
    fields = {field.name for kind in (Feed, ListStatus, VideoRule) for field in dataclasses.fields(kind)}
    assert (names | members | arguments | fields) - named == set()
    assert set(VideoHit._fields) - set(Hit._fields) - named == set()
    assert set(NearHit._fields) - set(re.findall(r"hit\.(\w+)", PAGE)) == set()


def test_the_first_pull_makes_the_copy(world: World) -> None:
    """With the root that is given; afterwards the feed is not asked, and no root is needed."""
    feed = Feed(world.url)
    with pytest.raises(UsageError, match="the first pull needs the feed's trust root"):
        Matcher.open(world.mirror, feed=feed)
    assert Matcher.open(world.mirror, root=world.root, feed=feed).lookup("sha256", row(4)[1])
    gone = Feed((world.base / "gone").as_uri())
    assert Matcher.open(world.mirror, feed=gone).versions == {IMAGES: 1}


def test_a_first_pull_that_fails_is_an_error(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No matcher without a list that was asked for: it would answer "not listed"."""
    with pytest.raises(SourceError):
        Matcher.open(world.mirror, root=world.root, feed=Feed((world.base / "gone").as_uri()))
    stranger = World(tmp_path_factory.mktemp("stranger"))
    with pytest.raises(TrustError):
        Matcher.open(world.mirror, root=stranger.root, feed=Feed(world.url))
    Matcher.open(world.mirror, root=world.root, feed=Feed(world.url))
    with pytest.raises(UnknownListError):
        Matcher.open(world.mirror, root=world.root, feed=Feed(world.url, lists=["images", "videos"]))


def test_processes_that_begin_at_once_wait_for_the_first_pull(world: World) -> None:
    """One pulls, the others wait, as long as the feed's deadline."""
    root, held = world.root.read_bytes(), ExitStack()
    waits: list[float] = []

    def pull_meanwhile(seconds: float) -> None:
        waits.append(seconds)
        held.close()
        world.follow()

    world.mirror.mkdir(mode=0o750)
    held.enter_context(lock(FeedFolder(world.mirror).lock, "a pull"))
    with pytest.raises(DeadlineExceeded):
        ensure_copy(world.mirror, root, Feed(world.url, deadline=1e-9), world.clock)
    ensure_copy(world.mirror, root, Feed(world.url), world.clock, sleep=pull_meanwhile)
    assert waits == [0.1]
    assert Matcher.open(world.mirror).versions == {IMAGES: 1}
