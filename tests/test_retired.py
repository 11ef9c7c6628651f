"""Lists that are no longer published, and what a copy says of its lists: ``current.json``."""

import hashlib
import json
from typing import Any

import pytest

from command_line import syncd
from signing import publish_change
from straight import pulled, world
from syncd.errors import RetiredList, StoreError, UsageError
from syncd.feed.folder import FeedFolder
from syncd.format.canonical import canonical
from syncd.format.freshness import MaxAge
from syncd.format.manifest import Manifest, Origin
from syncd.matcher import Hit, Matcher
from syncd.matcher.copy import read_current
from syncd.matcher.status import retirement_warning
from syncd.model import ListName
from syncd.publish.change import ListChange
from world import IMAGES, World, row, rows

__all__ = ["pulled", "world"]  # fixtures

OTHER = ListName("videos")


def retire(world: World, name: ListName = IMAGES) -> Manifest:
    """The partner retires a list."""
    return publish_change(world, ListChange(name, (), {}, {}, (), retired=world.clock()))


def opened(world: World) -> Matcher:
    return Matcher.open(world.mirror, clock=world.clock)


def current(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world.mirror / "current.json").read_bytes())
    return found


def put(world: World, document: dict[str, Any]) -> None:
    (world.mirror / "current.json").write_bytes(canonical(document))


def seal(document: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in document.items() if name != "checksum"}
    return {**rest, "checksum": hashlib.sha256(canonical(rest)).hexdigest()}


def digest(number: int) -> bytes:
    return bytes.fromhex(row(number)[1])


def test_a_look_up_over_all_lists_skips_a_retired_one(world: World) -> None:
    """The other lists go on answering; who names the retired list is told, instead of "no match"."""
    world.publish(full=[row(4, "X")], name=OTHER)
    world.follow()
    matcher = opened(world)
    assert [hit.list for hit in matcher.lookup("sha256", digest(4))] == [IMAGES, OTHER]
    assert [hit.list for hit in matcher.lookup("sha256", digest(4), lists=["images"])] == [IMAGES]
    assert matcher.lookup_many("sha256", [digest(4), digest(5)], lists=["videos"]).tolist() == [True, False]
    world.clock.forward(hours=1)
    retire(world)
    assert world.follow().errors == []
    assert matcher.reload()
    assert matcher.lookup("sha256", digest(4)) == [Hit(OTHER, 1, "e4", "X")]
    assert matcher.lookup("sha256", digest(4), lists=["videos"]) == [Hit(OTHER, 1, "e4", "X")]
    with pytest.raises(RetiredList, match="the list images was retired on 2026-01-0") as caught:
        matcher.lookup("sha256", digest(4), lists=["images", "videos"])
    assert caught.value.exit_code == 2
    with pytest.raises(RetiredList):
        matcher.lookup_many("sha256", [digest(4)], lists=["images"])


def test_a_look_up_may_name_its_lists(world: World) -> None:
    """One that the copy does not have is an error, and named as such: an empty answer would be a lie."""
    with pytest.raises(UsageError, match="no list of that name") as caught:
        opened(world).lookup("sha256", digest(4), lists=["imagse"])
    assert caught.value.hint == "did you mean images?"
    assert opened(world).lookup("sha256", digest(99), lists=["images"]) == []


def test_a_later_version_undoes_a_retirement(world: World) -> None:
    """Versions go on rising; the list is whole again."""
    retired = retire(world)
    world.follow()
    assert opened(world).status()[0].retired is not None
    world.clock.forward(minutes=5)
    world.publish(full=rows(0, 9))
    (pulled,) = world.follow().lists
    assert (pulled.after, pulled.retired) == (retired.version + 1, None)
    assert opened(world).lookup("sha256", digest(4)) != []


def test_a_retirement_is_told_of_for_seven_days(world: World) -> None:
    """By pull, by look-ups and by a matcher's status; then it is only stated."""
    world.publish(full=[row(4, "X")], name=OTHER)
    retire(world)
    world.follow()
    (status, other) = opened(world).status()
    assert (status.rows, status.retired, other.retired) == (0, world.clock(), None)
    warning = "images was retired on 2026-01-01: look-ups skip it"
    assert retirement_warning(IMAGES, status.retired, world.clock()) == warning
    assert retirement_warning(OTHER, None, world.clock()) == ""
    since = world.clock()
    world.clock.forward(days=6)
    assert retirement_warning(IMAGES, since, world.clock()) == warning
    world.clock.forward(days=2)
    assert retirement_warning(IMAGES, since, world.clock()) == ""


def test_the_commands_show_a_retirement(world: World) -> None:
    """A list that is retired is not stale: its age is of no matter any more."""
    retire(world)
    world.follow()
    ran = syncd("lookup", world.mirror, f"sha256:{row(4)[1]}", "--json")
    assert ran.json["lists"][0]["retired"] == "2026-01-01T12:00:00Z"
    assert "images was last verified" not in ran.err
    assert syncd("verify", world.partner.root).code == 0


def test_current_json_says_how_each_list_stands(world: World) -> None:
    """Generations count up, the first root names the feed, and each list says when it was verified."""
    before = current(world)
    retire(world)
    world.follow()
    after = current(world)
    assert after["generation"] == before["generation"] + 1
    assert after["feed"] == hashlib.sha256(world.root.read_bytes()).hexdigest()
    assert before["lists"]["images"]["retired"] is None
    assert after["lists"]["images"]["retired"] == {"since": "2026-01-01T12:00:00Z"}
    assert after["lists"]["images"]["verified_at"] == "2026-01-01T12:00:00Z"
    assert seal(after) == after


def test_todays_current_json_is_read_once_and_rewritten(world: World) -> None:
    """A copy of a syncd before this one is opened, with or without a checksum; the next pull writes its own form."""
    old = current(world)
    del old["generation"], old["feed"]
    for held in old["lists"].values():
        del held["verified_at"], held["retired"]
    for written in (
        {name: value for name, value in old.items() if name != "checksum"},
        {**old, "checksum": None},
        seal(old),
    ):
        put(world, written)
        assert opened(world).lookup("sha256", digest(4)) != []
        world.follow()
        again = current(world)
        assert again["generation"] == 1
        assert again == seal(again)


@pytest.mark.parametrize(
    "fault", ["no checksum", "null checksum", "another checksum", "not canonical", "a field changed"]
)
def test_an_altered_current_json_is_refused(world: World, fault: str) -> None:
    """The checksum is required, and covers every member."""
    document = current(world)
    if fault == "no checksum":
        del document["checksum"]
    elif fault == "null checksum":
        document["checksum"] = None
    elif fault == "another checksum":
        document["checksum"] = "0" * 64
    elif fault == "a field changed":
        document["generation"] += 1
    put(world, document)
    path = world.mirror / "current.json"
    if fault == "not canonical":
        path.write_bytes(json.dumps(document).encode())
    with pytest.raises(StoreError, match="it does not match its checksum"):
        opened(world)


def test_unknown_members_of_current_json_are_ignored(world: World) -> None:
    """A later syncd may say more there; the checksum covers it."""
    document = current(world)
    document["more"] = {"x": 1}
    document["lists"]["images"]["more"] = "é"
    put(world, seal(document))
    assert read_current(FeedFolder(world.mirror)) is not None
    assert opened(world).lookup("sha256", digest(4)) != []


def test_what_a_publisher_says_of_a_list_reaches_the_copy(world: World) -> None:
    """Media, purpose, ages and the state of a list travel in its manifest."""
    before = opened(world).generation.snapshots[IMAGES].manifest
    said: dict[str, Any] = {"pinned": True, "media": "image", "purpose": "review"}
    change = ListChange(IMAGES, (), {}, before.end_state, before.stack, max_age=MaxAge(warn=60, critical=90), **said)
    publish_change(world, change)
    world.follow()
    manifest = opened(world).generation.snapshots[IMAGES].manifest
    assert (manifest.pinned, manifest.media, manifest.purpose) == (True, "image", "review")
    assert manifest.max_age == MaxAge(warn=60, critical=90)
    world.publish(add=[row(20)])
    world.follow()
    later = opened(world).generation.snapshots[IMAGES].manifest
    assert (later.version, later.purpose, later.max_age) == (manifest.version + 1, "review", manifest.max_age)
    assert world.sync().exit_code == 0
    world.pull()
    (operators,) = world.matcher().generation.snapshots.values()
    assert (operators.manifest.media, operators.manifest.purpose) == ("image", "review")
    assert (operators.manifest.pinned, operators.manifest.max_age) == (False, None)


def test_a_stated_list_stays_stated(world: World) -> None:
    """A syncd that follows another does not make signed what nobody signed."""
    before = opened(world).generation.snapshots[IMAGES].manifest
    origin = Origin(serial=7, manifest="a" * 64, kind="stated", answers="b" * 64)
    publish_change(world, ListChange(IMAGES, (), {}, before.end_state, before.stack, origin=origin))
    assert world.sync().exit_code == 0
    world.pull()
    (snapshot,) = world.matcher().generation.snapshots.values()
    assert snapshot.manifest.origin is not None
    assert (snapshot.manifest.origin.kind, snapshot.manifest.origin.answers) == ("stated", None)
