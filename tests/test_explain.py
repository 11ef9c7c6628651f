"""Why a digest matched, as stories: every list and entry that ever supported it, and what was in force when."""

from datetime import datetime, timedelta

import pytest

from command_line import operate, syncd
from syncd.acts import AddedMatcher
from syncd.catalog.records import AuditEntry, MatcherRecord
from syncd.errors import UsageError
from syncd.history.files import HistoryFolder
from syncd.model import Digest, ListName
from syncd.operate import suppressions
from syncd.operate.explain import explain
from syncd.operate.explained import ExplainedList, Explanation
from syncd.operate.explanation import explanation_document
from syncd.operate.holds import end_hold
from syncd.operate.retire import retire
from syncd.operate.suppression_order import Correction, SuppressionOrder
from syncd.service.checkins import Checkins
from world import HEAD, START, World, row, rows

VIDEOS = ListName("videos")
TWO_YEARS = timedelta(days=730)


def asked(number: int, algorithm: str = "sha256") -> str:
    """The digest of a number as a user types it."""
    return ":".join(row(number, algorithm=algorithm)[:2])


def sync(world: World) -> datetime:
    """A sync an hour later; returns when."""
    world.clock.forward(hours=1)
    outcome = world.sync()
    assert outcome.error is None
    assert not [one.error for one in outcome.lists if one.error]
    return world.clock()


def why(world: World, number: int, at: datetime | None = None) -> Explanation:
    """The explanation of a number's digest."""
    with world.publisher() as publisher:
        digest = Digest.parse(asked(number))
        return explain(world.state, publisher.catalog, digest, world.clock(), at=at)


def of_list(found: Explanation, name: str = HEAD) -> ExplainedList:
    """What an explanation says of one list."""
    assert not found.gaps
    (one,) = (one for one in found.lists if one.list == name)
    return one


def told(found: Explanation, name: str = HEAD) -> list[tuple[str, str | None, int | None, int | None]]:
    """The events of all entries of one list: change, label, version and serial."""
    events = [event for entry in of_list(found, name).entries for event in entry.events]
    return [(str(event.change), event.label, event.version, event.serial) for event in events]


def keep(world: World, *, retention: timedelta = TWO_YEARS) -> None:
    """Bring the history up to date."""
    with world.publisher() as publisher:
        publisher.keep_history(world.clock(), retention)


def test_an_entry_that_came_went_and_came_back(world: World) -> None:
    """Each change has its version, the partner's serial, its time and the key that signed it."""
    world.publish(full=rows(0, 30))
    first = sync(world)
    world.publish(remove=[row(3)])
    gone = sync(world)
    world.publish(add=[row(3, "B")])
    back = sync(world)
    found = why(world, 3)
    assert told(found) == [("added", "A", 1, 1), ("removed", "A", 2, 2), ("added", "B", 3, 3)]
    assert found.in_force is True
    (entry,) = of_list(found).entries
    assert [event.at for event in entry.events] == [first, gone, back]
    keys = {key for event in entry.events if event.stated_by for key in event.stated_by.keys}
    assert keys == {signer.public_key.keyid for signer in world.partner_signers()["lists"]}
    second = timedelta(seconds=1)
    moments = (START, first, gone - second, gone, back - second, back)
    assert [why(world, 3, moment).in_force for moment in moments] == [False, True, True, False, False, True]
    assert [of_list(why(world, 3, moment)).version for moment in moments] == [None, 1, 1, 2, 2, 3]


def test_another_label(world: World) -> None:
    """A relabelled entry stays in force, and the label before is named."""
    world.publish(full=rows(0, 30))
    before = sync(world)
    world.publish(add=[row(3, "Z")])
    sync(world)
    (entry,) = of_list(why(world, 3)).entries
    assert [(str(event.change), event.before, event.label) for event in entry.events] == [
        ("added", None, "A"),
        ("relabelled", "A", "Z"),
    ]
    assert entry.label == "Z"
    assert of_list(why(world, 3, before)).entries[0].label == "A"


def test_two_lists_and_two_entries(world: World) -> None:
    """Every list and every entry that supports the digest is named; it is in force while any of them is."""
    other = ("sha256", row(3)[1], "other", "C")
    world.publish(full=[*rows(0, 30), other])
    world.publish(full=rows(0, 5), name=VIDEOS)
    sync(world)
    world.publish(remove=[row(3)])
    sync(world)
    found = why(world, 3)
    assert [(one.list, one.in_force) for one in found.lists] == [("iwf.images", True), ("iwf.videos", True)]
    assert [(one.entry, one.in_force) for one in of_list(found).entries] == [("e3", False), ("other", True)]


def test_held_and_released(world: World) -> None:
    """A removal that waits is the partner's alone; its release names who did it and why, and the serial behind it."""
    world.publish(full=rows(0, 30))
    sync(world)
    world.publish(remove=rows(0, 30))
    sync(world)
    held = why(world, 3)
    assert told(held) == [("added", "A", 1, 1), ("removed", "A", None, 2)]
    assert (held.in_force, [hold.id for hold in of_list(held).holds]) == (True, [1])
    world.clock.forward(hours=1)
    with world.publisher() as publisher:
        end_hold(publisher, 1, release=True, actor="alice", reason="they confirmed it", now=world.clock())
    released = why(world, 3)
    assert told(released) == [("added", "A", 1, 1), ("removed", "A", None, 2), ("removed", "A", 2, 2)]
    assert (released.in_force, of_list(released).holds) == (False, ())
    record = of_list(released).entries[0].events[-1].record
    assert record is not None
    assert (record.plan, record.actor, record.reason) == ("release", "alice", "they confirmed it")


def test_a_retired_list(world: World) -> None:
    """Retiring a list removes its entries, at that version and by that operator."""
    world.publish(full=rows(0, 30))
    before = sync(world)
    world.clock.forward(hours=1)
    with world.publisher() as publisher:
        retire(publisher, HEAD, (), actor="alice", reason="the partner ended it", now=world.clock())
    world.clock.forward(days=3)
    with world.publisher() as publisher:
        publisher.collect_garbage("iwf", world.clock())
    found = why(world, 3)
    assert [event[:3] for event in told(found)] == [("added", "A", 1), ("removed", "A", 2)]
    assert (found.in_force, why(world, 3, before).in_force) == (False, True)


def test_the_first_version_after_many_others(world: World) -> None:
    """Compaction and garbage collection leave the history alone."""
    world.publish(full=rows(0, 30))
    sync(world)
    for number in range(30, 42):
        world.publish(add=[row(number)], remove=[row(number - 30)])
        sync(world)
    world.clock.forward(days=3)
    with world.publisher() as publisher:
        publisher.collect_garbage("iwf", world.clock())
        publisher.collect_garbage("iwf", world.clock() + timedelta(days=3))
    assert told(why(world, 3)) == [("added", "A", 1, 1), ("removed", "A", 5, 5)]
    assert told(why(world, 29)) == [("added", "C", 1, 1)]


def test_at_a_matcher_last_week(world: World) -> None:
    """Instances of a matcher may have different versions: each is told, with whether the digest was in it."""
    world.publish(full=rows(0, 30))
    first = sync(world)
    with world.publisher() as publisher:
        added = AuditEntry(first, "alice", AddedMatcher("web", None))
        publisher.catalog.add_matcher(MatcherRecord("web", "a" * 64, None, first, "alice"), added)
    check_in(world, "web-1", 1)
    check_in(world, "web-2", 1)
    world.publish(remove=[row(3)])
    sync(world)
    check_in(world, "web-1", 2)
    week_ago = world.clock()
    world.clock.forward(days=7)
    check_in(world, "web-2", 2)

    def matched(at: datetime | None) -> list[tuple[str, int, int, bool | None]]:
        matchers = of_list(why(world, 3, at)).matchers
        return [(one.matcher, one.version, one.instances, one.in_force) for one in matchers]

    assert matched(first) == [("web", 1, 2, True)]
    assert matched(week_ago) == [("web", 1, 1, True), ("web", 2, 1, False)]
    assert matched(None) == [("web", 2, 2, False)]


def check_in(world: World, instance: str, version: int) -> None:
    with world.publisher() as publisher:
        checkins = Checkins(publisher.catalog)
        checkins.note("web", instance, {HEAD: version}, world.clock())
        checkins.flush()


def test_before_the_retention(world: World) -> None:
    """What is older is unknown. What has been in force since then is known, but not when it began."""
    world.publish(full=rows(0, 30))
    first = sync(world)
    world.publish(remove=[row(3)])
    gone = sync(world)
    world.clock.forward(days=60)
    keep(world, retention=timedelta(days=20))
    found = why(world, 4)
    assert (found.in_force, of_list(found).complete) == (True, False)
    assert [(one.since_before, one.events) for one in of_list(found).entries] == [(True, ())]
    assert of_list(found).known_from is not None
    assert [why(world, 4, moment).in_force for moment in (first, gone, world.clock())] == [None, True, True]
    assert why(world, 3).lists == ()
    assert not list(world.state.history.glob("*/*.arrow"))
    assert not list(world.state.history.glob("*/segments/*.arrow"))


def test_a_removal_after_the_retention(world: World) -> None:
    """An entry whose addition is too old to be known was in force until it was removed."""
    world.publish(full=rows(0, 30))
    first = sync(world)
    world.clock.forward(days=100)
    world.publish(remove=[row(3)])
    gone = sync(world)
    world.clock.forward(days=30)
    keep(world, retention=timedelta(days=60))
    found = why(world, 3)
    assert told(found) == [("removed", None, 2, 2)]
    assert of_list(found).entries[0].since_before
    moments = (first - timedelta(days=1), first, gone - timedelta(days=1), gone)
    assert [why(world, 3, moment).in_force for moment in moments] == [None, True, True, False]


def test_a_clock_far_ahead_removes_nothing(world: World) -> None:
    """A clock that is wrong by decades must not end the history."""
    world.publish(full=rows(0, 30))
    sync(world)
    with world.publisher() as publisher:
        publisher.keep_history(world.clock() + timedelta(days=20_000), TWO_YEARS)
    assert told(why(world, 3)) == [("added", "A", 1, 1)]


def test_lost_rows_are_said_to_be_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history that was deleted costs answers: that is said, and no sync is held up."""
    monkeypatch.setattr("syncd.history.keep.FOLD_AT", 1)
    world.publish(full=rows(0, 30))
    sync(world)
    world.publish(remove=[row(3)])
    sync(world)
    keep(world)
    for path in world.state.history.glob("*/*.arrow"):
        path.unlink()
    (gap,) = why(world, 3).gaps
    assert (gap.list, gap.message) == (
        HEAD,
        "1 sha256 rows of 2026-01 were lost from the history of iwf.images",
    )
    assert why(world, 3, world.clock()).in_force is None
    world.publish(add=[row(40)])
    sync(world)
    (entry,) = why(world, 40).lists[0].entries
    assert [(str(event.change), event.version) for event in entry.events] == [("added", 3)]


def test_suppressed_by_whom_and_why(world: World) -> None:
    """A suppression is an event of ours, with author and reason; the partner still states the entry."""
    world.publish(full=rows(0, 30))
    first = sync(world)
    world.clock.forward(days=1)
    order = SuppressionOrder((Correction(Digest.parse(asked(3))),), "an innocent picture")
    with world.publisher() as publisher:
        suppressions.suppress(publisher, order, actor="alice", now=world.clock(), second_operator=False)
    found = why(world, 3)
    assert told(found) == [("added", "A", 1, 1), ("removed", "A", 2, 1)]
    record = of_list(found).entries[0].events[-1].record
    assert record is not None
    assert (record.actor, record.reason, found.in_force) == ("alice", "an innocent picture", False)
    (shown,) = explanation_document(found, asked(3), world.clock())["suppressions"]
    assert (shown["author"], shown["reason"], shown["in_force"]) == ("alice", "an innocent picture", True)
    before = explanation_document(why(world, 3, first), asked(3), world.clock())
    assert (before["in_force"], before["suppressions"][0]["in_force"]) == (True, False)


def test_a_whole_list_in_place_of_another(world: World) -> None:
    """If the files of a list were lost and it was fetched whole, the difference is told as that version's."""
    world.publish(full=rows(0, 30))
    sync(world)
    keep(world)
    for path in (*world.state.root.glob("feed/v1/*/segments/*"), *world.state.root.glob("sources/*/v1/*/segments/*")):
        path.unlink()
    world.publish(add=[row(40)], remove=[row(3)])
    sync(world)
    assert told(why(world, 3)) == [("added", "A", 1, 1), ("removed", "A", 2, 2)]
    assert told(why(world, 40)) == [("added", "A", 2, 2)]
    assert told(why(world, 4)) == [("added", "B", 1, 1)]


def test_no_list_ever(world: World) -> None:
    """A digest that no list ever supported has an explanation without lists."""
    world.publish(full=rows(0, 30))
    sync(world)
    found = why(world, 99)
    assert (found.lists, found.in_force, [one.list for one in found.others]) == ((), False, [HEAD])


def test_questions_without_an_answer(world: World) -> None:
    """A time to come, and an algorithm that no list has or had, are refused with what to do."""
    world.publish(full=rows(0, 30))
    sync(world)
    with pytest.raises(UsageError, match="2036-01-01 00:00 UTC is in the future"):
        why(world, 3, datetime.fromisoformat("2036-01-01T00:00:00+00:00"))
    with world.publisher() as publisher, pytest.raises(UsageError, match="no list has or had md5 digests"):
        explain(world.state, publisher.catalog, Digest.parse(asked(3, "md5")), world.clock())


# the command


@pytest.fixture
def running(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A list whose entry 3 was removed, and the operator's configuration."""
    operate(world, monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    world.publish(full=rows(0, 30))
    sync(world)
    world.publish(remove=[row(3)])
    sync(world)
    return world


def test_the_answer_on_a_terminal(running: World) -> None:
    """It fits 80 columns, and says since when the answer is known."""
    ran = syncd("explain", asked(4), "--at", "2026-01-01T13:30")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == "iwf.images: in force at 2026-01-01 13:30 UTC, version 1"
    assert lines[1] == "  entry e4, label B: in force"
    assert lines[3].split() == ["2026-01-01", "13:00", "added", "e4", "B", "1", "1", "full:first"]
    assert lines[4].startswith("serial 1 signed by key ")
    assert max(map(len, lines)) <= 80


def test_the_answer_as_a_document(running: World) -> None:
    """With --json one document, and the digest as it was typed."""
    ran = syncd("explain", asked(3).upper().replace("SHA256", "sha256"), "--json")
    assert ran.code == 0
    assert (ran.json["digest"], ran.json["in_force"]) == (asked(3).upper().replace("SHA256", "sha256"), False)
    (one,) = ran.json["lists"]
    assert [event["change"] for event in one["entries"][0]["events"]] == ["added", "removed"]
    assert (one["version"], one["known_from_version"], one["complete"]) == (2, 1, True)


def test_a_digest_on_standard_input(running: World) -> None:
    """- keeps it out of the process list."""
    ran = syncd("explain", "-", stdin=asked(3) + "\n")
    assert (ran.code, ran.out.splitlines()[0]) == (0, "iwf.images: not in force now, version 2")
    two = syncd("explain", "-", stdin=f"{asked(3)}\n{asked(4)}\n")
    assert (two.code, two.err.splitlines()[0]) == (2, "error: standard input has 2 lines instead of one digest")


def test_nothing_supported_it(running: World) -> None:
    """Exit code 10, as that of a look-up."""
    ran = syncd("explain", asked(99))
    assert (ran.code, ran.out) == (10, "no list ever supported this digest\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sha256:12"], "error: not a sha256 digest: 2 characters after the colon"),
        (["e3"], "error: a digest must have the form ALG:HEX"),
        ([asked(3), "--at", "yesterday"], "error: --at is neither a time nor a duration"),
        ([asked(3), "--at", "2036-01-01"], "error: 2036-01-01 00:00 UTC is in the future"),
        ([asked(3, "md5")], "error: no list has or had md5 digests"),
    ],
)
def test_wrong_questions(running: World, arguments: list[str], message: str) -> None:
    """Each is a usage error that does not repeat the digest."""
    ran = syncd("explain", *arguments)
    assert (ran.code, ran.err.splitlines()[0]) == (2, message)
    assert row(3)[1] not in ran.err


def test_an_incomplete_history(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that cannot be read is named, and the exit code is that of storage."""
    monkeypatch.setattr("syncd.history.keep.FOLD_AT", 1)
    keep(running)
    for path in running.state.history.glob("*/*.arrow"):
        path.unlink()
    ran = syncd("explain", asked(3))
    assert (ran.code, ran.err) == (
        1,
        "warning: iwf.images: 1 sha256 rows of 2026-01 were lost from the history of iwf.images\n",
    )


def test_before_the_history_begins(running: World) -> None:
    """It is said that older versions are unknown."""
    running.clock.forward(days=60)
    keep(running, retention=timedelta(days=20))
    ran = syncd("explain", asked(4))
    assert (ran.code, ran.out.splitlines()[1]) == (
        0,
        "  entry e4, label B: in force; it was there before the history begins",
    )
    assert ran.err == "note: iwf.images: before version 2 (2026-01-01): unknown\n"


def test_a_digest_of_before_the_history_is_not_said_to_be_of_no_list(running: World) -> None:
    """Entry 3 left in version 2. Once that is forgotten, "never" would be wrong; for a time before, it is unknown."""
    before = "2026-01-01T13:30"
    running.clock.forward(days=60)
    keep(running, retention=timedelta(days=20))
    ran, then = syncd("explain", asked(3)), syncd("explain", asked(3), "--at", before)
    assert (ran.code, ran.out) == (10, "not in force now: no list has supported this digest since the history begins\n")
    assert ran.err == then.err == "note: iwf.images: before version 2 (2026-01-01): unknown\n"
    assert (then.code, then.out.partition(" at ")[0]) == (10, "unknown")
    assert syncd("explain", asked(3), "--at", before, "--json").json["in_force"] is None


def test_the_history_is_private(running: World) -> None:
    """Nobody else may read it, and the feed does not contain it."""
    keep(running)
    assert running.state.history.stat().st_mode & 0o777 == 0o700
    assert not list(running.state.feed.root.rglob("history"))
    folder = HistoryFolder(running.state.history)
    assert folder.lists() == (HEAD,)
