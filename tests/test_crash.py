"""Killed at any moment, run twice at once, left behind for a month: nothing is torn, and the next run completes.

`test_stops.py` stops every command, at every call. Here are the stories that it cannot tell: of a clock that went on in
the meantime, of readers that have the copy open, and of two processes.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from crash_child import Children, run
from standing import prove_feed, prove_partner
from syncd.acts import SetUp
from syncd.catalog.folder import StateFolder
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.fetch import Endpoint
from syncd.listfile import ListFiles
from syncd.matcher import Matcher
from syncd.matcher.pull import pull
from syncd.pipeline import publisher as state
from syncd.pipeline.publisher import open_publisher
from syncd.publish import author
from syncd.trust import keys
from syncd.verify.state import prove_state
from world import IMAGES, START, Clock, World, row, rows

OLD = frozenset({*range(30), *range(31, 38)})
"""Numbers on the list: seven deltas have added some."""
NEW = OLD - {5} | {30}
"""After the eighth delta, which is folded with the others."""


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    """Processes that die when they are told to."""
    with Children() as found:
        yield found


@pytest.fixture(scope="module")
def ripe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world whose next delta makes partner and operator fold their stacks."""
    world = World(tmp_path_factory.mktemp("ripe"))
    world.publish(full=rows(0, 30))
    for number in range(31, 38):
        world.publish(add=[row(number)])
        assert world.sync().exit_code == 0
    world.pull()
    world.follow()
    return world.base


@pytest.fixture(scope="module")
def with_news(ripe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, once the partner has published."""
    world = World(Path(shutil.copytree(ripe, tmp_path_factory.mktemp("news") / "world")))
    world.publish(add=[row(30)], remove=[row(5)])
    return world.base


def matched(matcher: Matcher, world: World) -> frozenset[int]:
    """Which of the numbers 0 to 49 it answers."""
    return frozenset(number for number in range(50) if world.hits(number, matcher))


def later(base: Path) -> World:
    """The same world half an hour on, so that whatever is signed again has other content."""
    return World(base, Clock(START.replace(minute=30)))


def signed(base: Path) -> dict[str, bytes]:
    """Every signed document that a reader may have seen, by folder, name and version."""
    found = {}
    for path in [*base.glob("*/**/metadata/*.json"), *base.glob("*/**/*.manifest.json")]:
        version = json.loads(path.read_bytes())["signed"]["version"] if path.name == "timestamp.json" else ""
        found[f"{path.relative_to(base)} {version}"] = path.read_bytes()
    return found


def never_signed_twice(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """What was visible under a name and version has no other bytes now."""
    assert [name for name in before.keys() & after.keys() if before[name] != after[name]] == []


def temporaries(folder: Path) -> list[str]:
    """Left-overs of a kill."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".tmp-*")]


def moments(children: Children, what: str, template: Path, tmp_path: Path, runs: int) -> Iterator[Path]:
    """A world for each of about ``runs`` moments, spread over the whole operation, at which a child was killed."""
    whole = Path(shutil.copytree(template, tmp_path / "whole"))
    count = children.start(what, whole).answer()["count"]
    assert count > 30
    for at in range(1, count + 1, -(-count // runs)):
        base = Path(shutil.copytree(template, tmp_path / "world"))
        assert children.start(what, base, at=at).died(), f"moment {at} of {count}"
        yield base
        shutil.rmtree(base)


def test_a_sync_killed_at_any_moment(children: Children, with_news: Path, tmp_path: Path) -> None:
    """Readers of the feed find the old list or the new one whole; the next sync completes and signs nothing twice."""
    for base in moments(children, "sync", with_news, tmp_path, 10):
        seen = signed(base)
        world = later(base)
        before = world.matcher()
        assert world.pull().errors == []
        assert matched(before, world) == OLD
        assert matched(world.matcher(), world) in {OLD, NEW}
        assert world.sync().exit_code == 0
        assert world.pull().errors == []
        before.reload()
        assert matched(before, world) == NEW
        prove_feed(world)
        never_signed_twice(seen, signed(base))
        if temporaries(world.state.root):
            world.clock.forward(hours=1)  # a sync removes old files at most once an hour
            world.publish(add=[row(40)])
            assert world.sync().exit_code == 0
            assert temporaries(world.state.root) == []


def test_a_publication_killed_at_any_moment(children: Children, ripe: Path, tmp_path: Path) -> None:
    """The feed is the old list or the new one whole; publishing the same again completes and signs nothing twice."""
    for base in moments(children, "publish", ripe, tmp_path, 10):
        seen = signed(base)
        world = later(base)
        assert world.follow().errors == []
        assert matched(Matcher.open(world.mirror), world) in {OLD, NEW}
        world.publish(add=[row(30)], remove=[row(5)])
        prove_partner(world)
        assert world.follow().errors == []
        assert matched(Matcher.open(world.mirror), world) == NEW
        never_signed_twice(seen, signed(base))
        if temporaries(world.partner.root):
            world.publish(add=[row(40)])
            assert temporaries(world.partner.root) == []


def test_a_pull_killed_at_any_moment(children: Children, with_news: Path, tmp_path: Path) -> None:
    """A copy answers as the old list or the new one, to who has it open and to who opens it; the next pull heals."""
    for base in moments(children, "pull", with_news, tmp_path, 14):
        world = later(base)
        before = Matcher.open(world.mirror)
        assert matched(before, world) in {OLD, NEW}
        assert world.follow().errors == []
        before.reload()
        assert matched(before, world) == NEW
        assert temporaries(world.mirror) == []


def test_a_set_up_killed_at_any_moment(children: Children, ripe: Path, tmp_path: Path) -> None:
    """`syncd init` again finishes it, with the keys made so far, and records it once; then the state can be used."""
    for base in moments(children, "init", ripe, tmp_path, 10):
        fresh = StateFolder(base / "fresh")
        assert run("init", later(base))["message"] in {"", f"{fresh.root} is already set up"}
        assert run("init", later(base))["message"] == f"{fresh.root} is already set up"
        with open_publisher(fresh) as publisher:
            assert [entry.act for entry in publisher.catalog.audit_entries()] == [SetUp(str(fresh.root))]
            assert not (fresh.feed.work / "first-keys.json").exists()
            publisher.resign(later(base).clock())
            publisher.collector.leftovers(later(base).clock())


def test_a_new_feed_killed_at_any_moment(children: Children, ripe: Path, tmp_path: Path) -> None:
    """`syncd feed init` again finishes it, with the keys made so far; then a list can be published and followed."""
    for base in moments(children, "feed init", ripe, tmp_path, 10):
        fresh, world = FeedFolder(base / "fresh"), later(base)
        assert run("feed init", world)["message"] in {"", f"{fresh.root} is a feed already"}
        assert run("feed init", world)["message"] == f"{fresh.root} is a feed already"
        (base / "rows.csv").write_text(f"algorithm,digest\nsha256,{row(1)[1]}\n")
        signers = keys.load_signers(author.keys_folder(fresh.root), keys.ONLINE_ROLES)
        author.publish_batch(fresh, IMAGES, ListFiles(full=base / "rows.csv").read, signers, world.clock())
        pulled = pull(
            Endpoint(fresh.root.as_uri()),
            fresh.path(author.ROOT_FILE).read_bytes(),
            base / "pulled",
            now=world.clock(),
            deadline=20.0,
        )
        assert pulled.errors == []
        assert temporaries(fresh.root) == []
        assert not (fresh.work / "first-keys.json").exists()


@pytest.fixture(scope="module")
def full_of_old(ripe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with many files that nothing has named for long."""
    world = World(Path(shutil.copytree(ripe, tmp_path_factory.mktemp("old") / "world")))
    assert run("gc", world)["kind"] == ""
    for ledger in world.state.root.rglob("unnamed.json"):
        content = json.loads(ledger.read_bytes())
        ledger.write_text(json.dumps({**content, "unnamed": dict.fromkeys(content["unnamed"], 0.0)}))
    return world.base


def test_a_removal_of_old_files_killed_at_any_moment(children: Children, full_of_old: Path, tmp_path: Path) -> None:
    """Readers and syncs go on, everything that is kept is proved, and the next removal completes."""
    for base in moments(children, "gc", full_of_old, tmp_path, 5):
        world = later(base)
        state = prove_state(world.state, None, world.clock(), deep=True, kept=2)
        assert [fault.error.message for fault in state.faults] == []
        assert matched(world.matcher(), world) == OLD
        assert run("gc", world)["kind"] == ""
        assert files_of(base) == files_of(tmp_path / "whole")
        world.publish(add=[row(30)], remove=[row(5)])
        assert world.sync().exit_code == 0
        assert world.pull().errors == []
        assert matched(world.matcher(), world) == NEW


def files_of(base: Path) -> set[str]:
    """The files of the operator's feed and origins."""
    return {str(path.relative_to(base)) for path in (base / "state").rglob("v1/**/*") if path.is_file()}


@pytest.mark.parametrize("what", ["sync", "publish", "pull"])
def test_two_at_once(
    children: Children, ripe: Path, with_news: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one process publishes, another is refused with its name; beside folding it may publish. Both complete."""
    monkeypatch.setattr(state, "_PATIENCE", 0.1)
    monkeypatch.setattr(author, "_PATIENCE", 0.1)
    template = ripe if what == "publish" else with_news
    count = children.start(what, Path(shutil.copytree(template, tmp_path / "whole"))).answer()["count"]
    for tenth in (2, 4, 6, 8):
        base = Path(shutil.copytree(template, tmp_path / f"world-{tenth}"))
        first = children.start(what, base, at=count * tenth // 10, number="SIGSTOP")
        assert first.stands()
        folding = what == "publish" and any(base.glob("partner/.work/scratch/*"))
        second = run(what, World(base, Clock(START.replace(minute=1))))
        first.go_on()
        assert first.answer()["kind"] == ""
        if not (folding and second["kind"] == ""):
            assert (second["kind"], second["code"]) == ("RefusedError", 6)
            assert f"process {first.pid} (" in second["message"]
        _complete(later(base), what)


def _complete(world: World, what: str) -> None:
    """Everything is in place, and proved."""
    if what == "sync":
        world.pull()
        prove_feed(world)
        assert matched(world.matcher(), world) == NEW
        return
    prove_partner(world)
    world.follow()
    assert matched(Matcher.open(world.mirror), world) == NEW


@pytest.mark.parametrize("what", ["sync", "publish", "pull"])
def test_two_that_race(children: Children, ripe: Path, with_news: Path, tmp_path: Path, what: str) -> None:
    """Two that start together: each completes or is refused, at least one completes, and nothing is torn."""
    template = ripe if what == "publish" else with_news
    for number in range(3):
        base = Path(shutil.copytree(template, tmp_path / f"world-{number}"))
        racing = [children.start(what, base), children.start(what, base, minutes=5)]
        kinds = sorted(one.answer()["kind"] for one in racing)
        assert kinds in (["", ""], ["", "RefusedError"])
        _complete(later(base), what)


def test_a_reader_goes_on_while_its_files_are_removed(ripe: Path, tmp_path: Path) -> None:
    """What a matcher has mapped answers on while compaction and garbage collection remove its files."""
    world = World(Path(shutil.copytree(ripe, tmp_path / "world")))
    reader = world.matcher()
    upstream = Matcher.open(world.mirror)
    loaded = [*reader.generation.snapshots.values(), *upstream.generation.snapshots.values()]
    refs = [ref for snapshot in loaded for ref in snapshot.manifest.stack]
    bases = {f"{ref.sha256}.arrow" for ref in refs if ref.kind == "base"}
    assert bases
    for number in range(60, 72):
        world.publish(add=[row(number)])
        assert world.sync().exit_code == 0
        assert world.pull().errors == []
        assert world.follow().errors == []
        world.clock.forward(hours=13)
    left = {path.name for folder in (world.copy, world.mirror) for path in folder.glob("v1/*/segments/*")}
    assert not left.intersection(bases)
    assert matched(reader, world) == matched(upstream, world) == OLD
    assert reader.reload()
    assert matched(reader, world) == OLD
    assert world.hits(71, reader)


def test_a_matcher_from_last_month(ripe: Path, tmp_path: Path) -> None:
    """A copy left behind, also by more versions than a manifest keeps deltas of, is brought up to date by one pull."""
    world = World(Path(shutil.copytree(ripe, tmp_path / "world")))
    left_behind = shutil.copytree(world.mirror, tmp_path / "left-behind")
    for number in range(100, 170):
        world.publish(add=[row(number)], remove=[row(number - 100)] if number < 130 else [])
        if number == 135:
            _catches_up(world, 135)
    world.clock.forward(days=30)
    world.publish(add=[row(170)])
    shutil.rmtree(world.mirror)
    world.mirror = Path(left_behind)
    assert matched(Matcher.open(world.mirror), world) == OLD
    _catches_up(world, 170)
    assert world.sync().exit_code == 0
    assert world.pull().errors == []
    assert world.hits(170)


def _catches_up(world: World, newest: int) -> None:
    pulled = world.follow()
    assert (pulled.errors, pulled.lists[0].forked) == ([], False)
    assert pulled.lists[0].after == _newest(world)
    matcher = Matcher.open(world.mirror)
    assert matched(matcher, world) == frozenset(range(31, 38))
    assert (len(world.hits(newest, matcher)), len(world.hits(newest + 1, matcher))) == (1, 0)


def _newest(world: World) -> int:
    return max(target.version for target in load_repository(world.partner).targets().values())
