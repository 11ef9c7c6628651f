"""What each instance of a matcher has loaded, who does not follow, and who pulled what."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from databases import file_of
from syncd.acts import AddedMatcher, ForgotInstances, Pulled, RevokedMatcher
from syncd.catalog.catalog import Catalog
from syncd.catalog.changes import HeadNote, Records
from syncd.catalog.history_records import Load
from syncd.catalog.records import AuditEntry, HeadRecord, LoadedVersion, MatcherRecord
from syncd.errors import StoreError, UsageError
from syncd.format.manifest import Manifest
from syncd.model import ListName
from syncd.publish.ledger import Commit, HeadMove
from syncd.report.lagging import BEHIND_AFTER, InstanceList, standings, views
from syncd.service import checkins, pulls
from syncd.service.checkins import Checkins, forget_instances, never_published
from syncd.service.pulls import Pulls
from test_alerts import RULES

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
IMAGES, VIDEOS = ListName("iwf.images"), ListName("iwf.videos")


def after(**kinds: float) -> datetime:
    """So long after noon."""
    return NOON + timedelta(**kinds)


def publish(catalog: Catalog, name: ListName, version: int, at: datetime) -> None:
    before = catalog.head(name)
    manifest = Manifest(list=name, version=version, previous=None, created=at, end_state={}, stack=())
    move = HeadMove(manifest, "b" * 64, b"{}", before.version if before else None)
    catalog.commit(Commit("publish", (), at, (move,), Records(notes={name: HeadNote("iwf", 7, "deltas")})))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """Images at version 7, published at noon; the matchers web, mail and chat."""
    with Catalog.open(tmp_path / "catalog.sqlite3") as opened:
        for name in ("web", "mail", "chat"):
            opened.add_matcher(
                MatcherRecord(name, name * 16, None, NOON, "alice"), AuditEntry(NOON, "alice", AddedMatcher(name, None))
            )
        publish(opened, IMAGES, 7, NOON)
        yield opened


class Told(list[tuple[ListName, float]]):
    """Publish-to-loaded times as they were told."""

    def __call__(self, name: ListName, seconds: float) -> None:
        self.append((name, seconds))


# check-ins


def test_a_check_in_is_the_whole_truth(catalog: Catalog) -> None:
    """A list left out is not loaded any more; the time of loading stays while the version does."""
    publish(catalog, VIDEOS, 1, NOON)
    found = Checkins(catalog)
    found.note("web", "web-1", {IMAGES: 7, VIDEOS: 1}, after(seconds=2))
    found.note("web", "web-1", {IMAGES: 7}, after(minutes=5))
    assert found.snapshot() == (LoadedVersion("web", "web-1", IMAGES, 7, after(seconds=2), after(minutes=5)),)
    found.note("web", "web-1", {}, after(minutes=6))
    assert (found.snapshot(), found.instances) == ((), 1)


def test_the_time_from_publishing_to_loading_is_told_once(catalog: Catalog) -> None:
    """For each instance, list and current version, by the daemon's clock; never below zero."""
    told = Told()
    found = Checkins(catalog, told)
    found.note("web", "web-1", {IMAGES: 7}, after(seconds=2.5))
    found.note("web", "web-1", {IMAGES: 7}, after(minutes=5))
    found.note("web", "web-2", {IMAGES: 7}, after(seconds=-1))
    found.note("mail", "web-1", {IMAGES: 6}, after(seconds=3))
    found.note("web", "web-1", {}, after(minutes=5))
    found.note("web", "web-1", {IMAGES: 7}, after(minutes=5))
    assert told == [(IMAGES, 2.5), (IMAGES, 0.0)]
    publish(catalog, IMAGES, 8, after(minutes=10))
    found.note("web", "web-1", {IMAGES: 7}, after(minutes=11))
    found.note("web", "web-1", {IMAGES: 8}, after(minutes=40))
    assert told[2:] == [(IMAGES, 1800.0)]


def test_who_begins_late_does_not_load_late(catalog: Catalog) -> None:
    """An instance that had nothing of a list is not counted for what was published long before it began."""
    told = Told()
    found = Checkins(catalog, told)
    found.note("web", "web-1", {IMAGES: 7}, after(hours=3))
    found.note("web", "web-2", {}, after(hours=3))
    found.note("web", "web-2", {IMAGES: 7}, after(hours=3))
    publish(catalog, IMAGES, 8, after(hours=4))
    found.note("web", "web-1", {IMAGES: 8}, after(hours=4, seconds=9))
    assert told == [(IMAGES, 9.0)]


def test_a_version_that_was_never_published_is_known(catalog: Catalog) -> None:
    """What was published meanwhile is looked up; older versions, pruned or not, were published."""
    heads = {IMAGES: HeadRecord(IMAGES, "iwf", 7, "b" * 64, 7, NOON)}
    assert never_published({IMAGES: 7}, heads) == ()
    assert never_published({IMAGES: 8, VIDEOS: 1}, heads) == (IMAGES, VIDEOS)
    assert never_published({IMAGES: 0}, heads) == (IMAGES,)
    found = Checkins(catalog)
    assert found.never_published({IMAGES: 8}) == (IMAGES,)
    publish(catalog, IMAGES, 8, after(minutes=1))
    assert found.never_published({IMAGES: 8}) == ()


def test_the_catalog_is_not_asked_about_what_is_known(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands check in with the current version: it is looked up once."""
    found, heads = Checkins(catalog), catalog.heads
    asked: list[int] = []

    def ask() -> tuple[HeadRecord, ...]:
        asked.append(1)
        return heads()

    monkeypatch.setattr(catalog, "heads", ask)
    publish(catalog, IMAGES, 8, NOON)
    for number in range(100):
        found.note("web", f"web-{number}", {IMAGES: 8 - number % 2}, NOON)
    assert len(asked) == 1


def test_a_restart_knows_who_has_what(catalog: Catalog) -> None:
    """What was flushed is read back; a time that was told before is not told again."""
    told = Told()
    found = Checkins(catalog, told)
    found.note("web", "web-1", {IMAGES: 7}, after(seconds=2))
    found.note("web", "web-2", {IMAGES: 6}, after(seconds=3))
    found.flush()
    again = Checkins(catalog, told)
    assert again.snapshot() == catalog.loaded() == found.snapshot()
    again.note("web", "web-1", {IMAGES: 7}, after(minutes=5))
    assert told == [(IMAGES, 2.0)]
    assert again.snapshot()[0] == LoadedVersion("web", "web-1", IMAGES, 7, after(seconds=2), after(minutes=5))


def test_a_restart_knows_who_was_silent_longest(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its name: it makes room first."""
    found = Checkins(catalog)
    found.note("web", "b-old", {IMAGES: 7}, NOON)
    found.note("web", "a-new", {IMAGES: 7}, after(seconds=1))
    found.flush()
    monkeypatch.setattr(checkins, "MAX_INSTANCES_OF_ONE", 2)
    again = Checkins(catalog)
    again.note("web", "c", {IMAGES: 7}, after(seconds=2))
    assert sorted(one.instance for one in again.snapshot()) == ["a-new", "c"]


def test_one_that_comes_back_and_goes_again_is_gone(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two flushes: the catalog forgets it as well, and keeps it where it only came back."""
    monkeypatch.setattr(checkins, "MAX_INSTANCES_OF_ONE", 1)
    found = Checkins(catalog)
    for instances, left in ((["1"], "1"), (["2", "1", "3"], "3"), (["4", "3"], "3")):
        for instance in instances:
            found.note("web", instance, {IMAGES: 7}, NOON)
        found.flush()
        assert [one.instance for one in catalog.loaded()] == [left]


def test_a_flush_writes_what_has_changed_only(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one transaction, and none where nothing has."""
    found, replace = Checkins(catalog), catalog.replace_loaded
    written: list[tuple[set[tuple[str, str]], int]] = []

    def write(keys: set[tuple[str, str]], rows: list[LoadedVersion], loads: list[Load]) -> None:
        written.append((set(keys), len(rows)))
        replace(keys, rows, loads)

    monkeypatch.setattr(catalog, "replace_loaded", write)
    found.note("web", "web-1", {IMAGES: 7}, NOON)
    found.note("web", "web-2", {IMAGES: 7}, NOON)
    found.flush()
    found.flush()
    found.note("web", "web-2", {}, after(minutes=1))
    found.flush()
    assert written == [({("web", "web-1"), ("web", "web-2")}, 2), ({("web", "web-2")}, 0)]
    assert [one.instance for one in catalog.loaded()] == ["web-1"]


def test_what_could_not_be_written_is_written_by_the_next(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk loses nothing, neither what came nor what went, nor what came meanwhile."""
    monkeypatch.setattr(checkins, "MAX_INSTANCES_OF_ONE", 2)
    found = Checkins(catalog)
    found.note("web", "web-1", {IMAGES: 7}, NOON)
    found.flush()
    found.note("web", "web-2", {IMAGES: 7}, after(minutes=1))
    found.note("web", "web-3", {IMAGES: 7}, after(minutes=2))  # web-1 makes room

    def fail(*_: object) -> None:
        found.note("web", "web-4", {IMAGES: 7}, after(minutes=3))  # web-2 does, while it is written
        raise StoreError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(catalog, "replace_loaded", fail)
        with pytest.raises(StoreError, match="disk full"):
            found.flush()
    found.flush()
    assert [one.instance for one in catalog.loaded()] == ["web-3", "web-4"]


def test_one_dropped_while_it_is_written_does_not_stay_in_the_catalog(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next flush removes it; one that comes back meanwhile stays."""
    monkeypatch.setattr(checkins, "MAX_INSTANCES_OF_ONE", 1)
    found, replace = Checkins(catalog), catalog.replace_loaded
    found.note("web", "web-1", {IMAGES: 7}, NOON)

    def slow(*written: object) -> None:
        replace(*written)  # type: ignore[arg-type]  # as it was called
        found.note("web", "web-2", {IMAGES: 7}, after(minutes=1))

    with monkeypatch.context() as patched:
        patched.setattr(catalog, "replace_loaded", slow)
        found.flush()
    found.flush()
    assert catalog.loaded() == found.snapshot() == (LoadedVersion("web", "web-2", IMAGES, 7, *(after(minutes=1),) * 2),)
    found.note("web", "web-1", {IMAGES: 7}, after(minutes=2))
    found.note("web", "web-2", {IMAGES: 7}, after(minutes=3))
    found.flush()
    assert [one.instance for one in catalog.loaded()] == ["web-2"]


def test_made_up_names_grow_nothing(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one matcher a thousand instances are kept; who makes them up pushes out its own only, the silent first."""
    monkeypatch.setattr(checkins, "MAX_INSTANCES_OF_ONE", 1000)
    found = Checkins(catalog)
    found.note("mail", "mail-1", {IMAGES: 7}, NOON)
    found.note("web", "real", {IMAGES: 7}, NOON)
    for number in range(2500):
        found.note("web", f"x{number}", {IMAGES: 7}, after(seconds=number))
        if number % 500 == 0:
            found.note("web", "real", {IMAGES: 7}, after(seconds=number))
            found.flush()
            assert len(catalog.loaded()) <= 1001
    found.flush()
    names = {one.instance for one in found.snapshot()}
    assert (found.instances, len(names)) == (1001, 1001)
    assert {"real", "mail-1", "x2499", "x1501"} <= names
    assert "x1500" not in names
    assert {one.instance for one in catalog.loaded()} == names
    assert (len(found._changed), len(found._gone)) == (0, 0)


def test_of_all_matchers_the_longest_silent_makes_room(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """At ten thousand in all, here four."""
    monkeypatch.setattr(checkins, "MAX_INSTANCES", 4)
    found = Checkins(catalog)
    for number, matcher in enumerate(("mail", "web", "web", "chat")):
        found.note(matcher, f"{number}", {IMAGES: 7}, after(seconds=number))
    found.note("mail", "0", {IMAGES: 7}, after(seconds=4))
    found.note("chat", "5", {IMAGES: 7}, after(seconds=5))
    assert sorted((one.matcher, one.instance) for one in found.snapshot()) == [
        ("chat", "3"),
        ("chat", "5"),
        ("mail", "0"),
        ("web", "2"),
    ]


def test_an_instance_that_is_silent_for_a_week_is_forgotten(catalog: Catalog) -> None:
    """In memory and in the catalog, at the next check-in of anybody."""
    found = Checkins(catalog)
    found.note("mail", "old", {IMAGES: 7}, NOON)
    found.note("web", "new", {IMAGES: 7}, after(days=1))
    found.flush()
    found.note("web", "new", {IMAGES: 7}, after(days=7))
    assert found.instances == 2
    found.note("web", "new", {IMAGES: 7}, after(days=7, hours=1))
    assert found.instances == 1
    found.flush()
    assert [one.instance for one in catalog.loaded()] == ["new"]


def test_a_revoked_matcher_is_no_laggard(catalog: Catalog) -> None:
    """What it had loaded is forgotten with the next flush."""
    found = Checkins(catalog)
    found.note("web", "web-1", {IMAGES: 6}, NOON)
    found.note("mail", "mail-1", {IMAGES: 6}, NOON)
    found.flush()
    catalog.revoke_matcher("web", AuditEntry(NOON, "bob", RevokedMatcher("web")))
    found.note("web", "web-1", {IMAGES: 6}, NOON)  # was under way
    found.flush()
    found.flush()
    assert [one.matcher for one in found.snapshot()] == ["mail"]
    assert catalog.loaded() == found.snapshot()


def test_check_ins_of_many_threads_are_all_kept(catalog: Catalog) -> None:
    """While the catalog is written."""
    told = Told()
    found, start = Checkins(catalog, told), threading.Barrier(5)

    def check_in(matcher: str) -> None:
        start.wait()
        for number in range(300):
            found.note(matcher, f"{number}", {IMAGES: 7}, after(seconds=1))

    def flush() -> None:
        start.wait()
        for _ in range(5):
            found.flush()

    threads = [threading.Thread(target=check_in, args=(name,)) for name in ("web", "mail", "chat")]
    threads += [threading.Thread(target=flush) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.flush()
    assert (found.instances, len(told), len(catalog.loaded())) == (900, 900, 900)


# what was loaded when


def loaded_at(catalog: Catalog, at: datetime) -> list[tuple[str, ListName, int]]:
    return [(load.instance, load.list, load.version) for load in catalog.loads_at([IMAGES, VIDEOS], at)]


def test_every_change_of_a_loaded_version_is_kept(catalog: Catalog) -> None:
    """Also of versions that were loaded between two flushes; a list left out is not loaded any more."""
    publish(catalog, VIDEOS, 1, NOON)
    found = Checkins(catalog)
    found.note("web", "1", {IMAGES: 5}, NOON)
    found.note("web", "1", {IMAGES: 6}, after(seconds=1))
    found.note("web", "1", {IMAGES: 6, VIDEOS: 1}, after(seconds=2))
    found.flush()
    found.note("web", "1", {VIDEOS: 1}, after(minutes=1))
    found.flush()
    assert loaded_at(catalog, after(seconds=-1)) == []
    assert loaded_at(catalog, NOON) == [("1", IMAGES, 5)]
    assert loaded_at(catalog, after(seconds=1)) == [("1", IMAGES, 6)]
    assert loaded_at(catalog, after(seconds=59)) == [("1", IMAGES, 6), ("1", VIDEOS, 1)]
    assert loaded_at(catalog, after(hours=1)) == [("1", VIDEOS, 1)]
    assert catalog.first_load() == NOON


def test_an_instance_that_was_forgotten_or_revoked_has_nothing(catalog: Catalog) -> None:
    """From then on; until then it counts as having what it reported last."""
    found = Checkins(catalog)
    found.note("mail", "old", {IMAGES: 7}, NOON)
    for days in (0, 6, 8):
        found.note("web", "new", {IMAGES: 7}, after(days=days))
    found.flush()
    assert loaded_at(catalog, after(days=7)) == [("old", IMAGES, 7), ("new", IMAGES, 7)]
    assert loaded_at(catalog, after(days=8)) == [("new", IMAGES, 7)]
    catalog.revoke_matcher("web", AuditEntry(after(days=9), "bob", RevokedMatcher("web")))
    assert loaded_at(catalog, after(days=9)) == []


def test_loads_that_could_not_be_written_are_written_by_the_next_flush(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk loses none."""
    found = Checkins(catalog)
    found.note("web", "1", {IMAGES: 6}, NOON)
    with monkeypatch.context() as patched:
        patched.setattr(catalog, "replace_loaded", lambda *_: (_ for _ in ()).throw(StoreError("disk full")))
        with pytest.raises(StoreError):
            found.flush()
    found.note("web", "1", {IMAGES: 7}, after(minutes=1))
    found.flush()
    assert loaded_at(catalog, NOON) == [("1", IMAGES, 6)]
    assert loaded_at(catalog, after(minutes=1)) == [("1", IMAGES, 7)]


def test_invented_instances_do_not_fill_the_disk(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an hour only so many loads of one matcher are kept; others are not affected."""
    monkeypatch.setattr(checkins, "MAX_LOADS_OF_ONE", 3)
    found = Checkins(catalog)
    for number in range(9):
        found.note("web", f"{number}", {IMAGES: 7}, after(seconds=number))
    found.note("mail", "real", {IMAGES: 7}, NOON)
    found.flush()
    assert len(loaded_at(catalog, after(minutes=1))) == 4


def test_old_loads_are_forgotten(catalog: Catalog) -> None:
    """Those before a time, and beyond a number for each matcher; never the last one of a list that is still loaded."""
    found = Checkins(catalog)
    for version in range(1, 8):
        found.note("web", "1", {IMAGES: version}, after(days=version))
    found.note("mail", "1", {IMAGES: 3}, NOON)
    found.flush()
    assert catalog.prune_loads(after(days=3), 100) == 2
    assert catalog.prune_loads(after(days=3), 2) == 3
    assert loaded_at(catalog, after(days=5)) == [("1", IMAGES, 3)]
    assert loaded_at(catalog, after(days=6)) == [("1", IMAGES, 3), ("1", IMAGES, 6)]
    assert catalog.prune_loads(after(days=99), 100) == 1
    assert loaded_at(catalog, after(days=99)) == [("1", IMAGES, 3), ("1", IMAGES, 7)]


# laggards


@pytest.mark.parametrize(
    ("version", "seen_at", "behind", "silent"),
    [
        (7, after(), False, False),
        (8, after(), False, False),
        (6, after(), True, False),
        (7, after(minutes=-15), False, False),
        (7, after(minutes=-15, seconds=-1), False, True),
        (6, after(days=-7), True, True),
        (7, after(hours=1), False, False),
    ],
)
def test_a_laggard_is_behind_or_silent(version: int, seen_at: datetime, behind: bool, silent: bool) -> None:
    """Without the version that is due, or without three check-ins; a clock that was set back makes nobody silent."""
    one = LoadedVersion("web", "web-1", IMAGES, version, seen_at, seen_at)
    assert standings([one], {IMAGES: 7}, NOON) == (InstanceList(one, 7, behind, silent),)


def test_of_a_list_of_which_nothing_is_due_nobody_is_behind() -> None:
    """It was published just now, or is not any more."""
    one = LoadedVersion("web", "web-1", IMAGES, 1, NOON, NOON)
    assert standings([one], {VIDEOS: 7}, NOON) == (InstanceList(one, None, False, False),)


def test_who_is_gone_for_a_week_is_no_laggard() -> None:
    """It is gone for good."""
    one = LoadedVersion("web", "web-1", IMAGES, 1, NOON, NOON)
    assert len(standings([one], {}, after(days=7))) == 1
    assert standings([one], {}, after(days=7, seconds=1)) == ()


def test_a_version_is_due_after_five_minutes(catalog: Catalog) -> None:
    """Also of a list that gets another version before: whoever misses the one before that is behind."""
    publish(catalog, IMAGES, 8, after(minutes=4))
    now = after(minutes=5)
    due = catalog.due_versions(now - BEHIND_AFTER)
    found = standings([LoadedVersion("web", f"{n}", IMAGES, n, now, now) for n in (6, 7, 8)], due, now)
    assert [(one.loaded.version, one.behind) for one in found] == [(6, True), (7, False), (8, False)]


def test_a_matcher_stands_as_its_instances_do() -> None:
    """Each with all its lists; one without any is shown as well."""
    late, fine = after(minutes=-20), NOON
    found = [
        LoadedVersion("web", "web-1", IMAGES, 6, fine, fine),
        LoadedVersion("web", "web-1", VIDEOS, 2, fine, fine),
        LoadedVersion("web", "web-2", IMAGES, 6, late, late),
        LoadedVersion("web", "web-3", IMAGES, 7, fine, fine),
        LoadedVersion("gone", "gone-1", IMAGES, 7, fine, fine),
    ]
    records = [MatcherRecord(name, "", None, NOON, "alice") for name in ("mail", "web")]
    mail, web = views(records, found, {IMAGES: 7, VIDEOS: 3}, NOON)
    assert (mail.instances, mail.laggards, mail.seen_at) == ((), (), None)
    assert [(one.name, one.behind, one.silent, one.why(NOON)) for one in web.instances] == [
        ("web-1", True, False, "has iwf.images 6 and should have 7, iwf.videos 2 and should have 3"),
        ("web-2", True, True, "has not checked in for 20 minutes"),
        ("web-3", False, False, ""),
    ]
    assert [one.name for one in web.laggards] == ["web-1", "web-2"]
    assert web.seen_at == NOON


# instances that are gone


def test_an_instance_that_checked_out_is_not_waited_for(catalog: Catalog) -> None:
    """It is neither silent nor behind, and its end is part of the history."""
    found = Checkins(catalog)
    found.note("web", "web-1", {IMAGES: 7}, NOON)
    found.note("web", "web-2", {IMAGES: 7}, NOON)
    found.note("web", "web-1", {}, after(minutes=1))
    found.flush()
    for loaded in (found.snapshot(), catalog.loaded()):
        (web,) = (one for one in views(catalog.matchers(), loaded, {IMAGES: 8}, after(hours=1)) if one.instances)
        assert [one.name for one in web.instances] == ["web-2"]
    assert [one.instance for one in catalog.loads_at((IMAGES,), after(hours=1))] == ["web-2"]


def test_silent_instances_are_forgotten_by_name_or_all(catalog: Catalog) -> None:
    """Those that check in stay, unless they are named; the audit log says who did it. One that comes back is known."""
    found = Checkins(catalog)
    for name in ("web-1", "web-2", "web-3"):
        found.note("web", name, {IMAGES: 7}, NOON)
    found.note("web", "web-3", {IMAGES: 7}, after(minutes=16))
    found.flush()
    now = after(minutes=16)
    assert forget_instances(found, catalog, "web", (), asked_by="bob", now=now) == ("web-1", "web-2")
    assert [one.instance for one in catalog.loaded()] == ["web-3"]
    assert catalog.audit_entries(1)[0] == AuditEntry(now, "bob", ForgotInstances("web", 2))
    with pytest.raises(UsageError, match="web has no silent instance: nothing was forgotten"):
        found.forget("web", (), now)
    with pytest.raises(UsageError, match="web has no instance web-9: nothing was forgotten"):
        found.forget("web", ("web-3", "web-9"), now)
    with pytest.raises(UsageError, match="there is no matcher of that name"):
        found.forget("wep", (), now)
    assert found.forget("web", ("web-3", "web-3"), now) == ("web-3",)
    found.note("web", "web-1", {IMAGES: 7}, now)
    found.flush()
    assert [one.instance for one in catalog.loaded()] == ["web-1"]


def test_a_lag_is_as_serious_as_its_alert(catalog: Catalog) -> None:
    """Everybody silent: critical; somebody behind: warning; somebody silent: info, even if that one is behind too."""
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in RULES if "alert" in rule}
    fine, late = after(minutes=0), after(minutes=-16)
    cases = {
        "SyncdMatcherSilent": [(7, late), (7, late)],
        "SyncdMatcherBehind": [(6, fine), (7, late)],
        "SyncdInstancesSilent": [(7, fine), (6, late)],
    }
    for alert, instances in cases.items():
        loaded = [LoadedVersion("web", f"web-{n}", IMAGES, *one, one[1]) for n, one in enumerate(instances)]
        (web,) = (one for one in views(catalog.matchers(), loaded, {IMAGES: 7}, NOON) if one.instances)
        assert (web.level, bool(web.why(NOON))) == (severities[alert], True)
    loaded = [LoadedVersion("web", "web-1", IMAGES, 7, fine, fine)]
    (web,) = (one for one in views(catalog.matchers(), loaded, {IMAGES: 7}, NOON) if one.instances)
    assert (web.level, web.why(NOON)) == ("none", "")


# pulls


def pulled(catalog: Catalog) -> list[tuple[datetime, str, Pulled]]:
    """What the audit log says of pulls, the oldest first."""
    return [(one.at, one.actor, one.act) for one in reversed(catalog.audit_entries()) if isinstance(one.act, Pulled)]


def test_pulls_are_summed_up_by_the_hour(catalog: Catalog) -> None:
    """An entry for each matcher and list, once the hour has ended, and nothing for an hour without."""
    found = Pulls(catalog)
    found.flush(NOON)
    found.note("web", "v1/iwf.images/0a.manifest.json", 100)
    found.note("web", "/v1/iwf.images/segments/0a.arrow", 1000)
    found.note("web", "v1/iwf.images/segments/0b.arrow", 2000)
    found.note("web", "v1/iwf.images/evidence/0a.json", 10)
    found.note("web", "v1/iwf.videos/segments/0a.arrow", 5)
    found.note("mail", "v1/iwf.images/segments/0a.arrow", 7)
    found.flush(after(minutes=59))
    assert pulled(catalog) == []
    found.flush(after(minutes=60))
    assert pulled(catalog) == [
        (after(hours=1), "mail", Pulled("iwf.images", 0, 1, 7)),
        (after(hours=1), "web", Pulled("iwf.images", 1, 2, 3110)),
        (after(hours=1), "web", Pulled("iwf.videos", 0, 1, 5)),
    ]
    found.flush(after(hours=2))
    assert len(pulled(catalog)) == 3
    found.note("mail", "v1/iwf.images/segments/0a.arrow", 7)
    found.flush(after(hours=2, minutes=1))
    assert len(pulled(catalog)) == 3


@pytest.mark.parametrize(
    "path",
    ["metadata/timestamp.json", "root.json", "v1/iwf.images", "v1/../segments/0a.arrow", "v1/A/segments/0a.arrow", ""],
)
def test_what_is_not_of_a_list_is_not_counted(catalog: Catalog, path: str) -> None:
    """Nor is an answer without a body."""
    found = Pulls(catalog)
    found.note("web", path, 100)
    found.note("web", "v1/iwf.images/segments/0a.arrow", 0)
    found.flush(NOON, final=True)
    assert pulled(catalog) == []


def test_at_the_end_what_there_is_is_written(catalog: Catalog) -> None:
    """Though the hour has not ended; what was written is not written again."""
    found = Pulls(catalog)
    found.note("web", "v1/iwf.images/segments/0a.arrow", 7)
    found.flush(after(minutes=1), final=True)
    found.flush(after(minutes=2), final=True)
    assert pulled(catalog) == [(after(minutes=1), "web", Pulled("iwf.images", 0, 1, 7))]


def test_pulls_that_could_not_be_written_are_by_the_next(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """With those that came meanwhile."""
    found = Pulls(catalog)
    found.flush(NOON)
    found.note("web", "v1/iwf.images/segments/0a.arrow", 7)

    def fail(*_: object) -> None:
        found.note("web", "v1/iwf.images/segments/0b.arrow", 3)
        raise StoreError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(catalog, "append_all", fail)
        with pytest.raises(StoreError, match="disk full"):
            found.flush(after(hours=1))
    found.flush(after(hours=1, minutes=1))
    assert [act for *_, act in pulled(catalog)] == [Pulled("iwf.images", 0, 2, 10)]


def test_made_up_lists_are_counted_together(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond ten thousand, here two; nothing grows and nothing is lost."""
    monkeypatch.setattr(pulls, "_MAX_COUNTS", 2)
    found = Pulls(catalog)
    for number in range(5):
        found.note("web", f"v1/list{number}/segments/0a.arrow", 1)
    found.flush(NOON, final=True)
    assert [act for *_, act in pulled(catalog)] == [
        Pulled("*", 0, 3, 3),
        Pulled("list0", 0, 1, 1),
        Pulled("list1", 0, 1, 1),
    ]


def test_a_matcher_that_is_added_while_others_are_written_is_not_forgotten(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is in force was read before it was; what it said since then stays."""
    found, before = Checkins(catalog), catalog.matchers()

    def added() -> tuple[MatcherRecord, ...]:
        found.note("new", "host", {IMAGES: 1}, NOON)
        return before

    monkeypatch.setattr(catalog, "matchers", added)
    found.flush()
    assert [one.matcher for one in found.snapshot()] == ["new"]


# several daemons


@pytest.fixture
def second(catalog: Catalog) -> Iterator[Catalog]:
    """The same catalog, opened by another daemon."""
    with Catalog.open(file_of(catalog)) as opened:
        yield opened


def test_a_check_in_at_one_daemon_is_seen_by_all(catalog: Catalog, second: Catalog) -> None:
    """The newest one wins, wherever it was; the time of loading is the earlier one."""
    here, there = Checkins(catalog, shared=True), Checkins(second, shared=True)
    here.note("web", "web-1", {IMAGES: 7}, after(seconds=1))
    here.flush()
    there.flush()
    assert there.snapshot() == here.snapshot()
    there.note("web", "web-1", {IMAGES: 7}, after(minutes=5))
    there.note("mail", "mail-1", {}, after(minutes=5))
    here.note("web", "web-2", {IMAGES: 6}, after(minutes=4))
    here.flush()
    there.flush()
    here.flush()
    expected = (
        LoadedVersion("web", "web-1", IMAGES, 7, after(seconds=1), after(minutes=5)),
        LoadedVersion("web", "web-2", IMAGES, 6, after(minutes=4), after(minutes=4)),
    )
    assert here.snapshot() == there.snapshot() == catalog.loaded() == expected


def test_an_instance_that_moves_to_another_daemon_loaded_its_version_once(catalog: Catalog, second: Catalog) -> None:
    """Also if it checks in there before that daemon has heard of it: neither writes what the other one knows better."""
    here, there = Checkins(catalog, shared=True), Checkins(second, shared=True)
    here.note("web", "web-1", {IMAGES: 7}, after(seconds=1))
    there.note("web", "web-1", {IMAGES: 7}, after(seconds=2))
    here.flush()
    there.flush()
    here.flush()
    assert catalog.loaded() == (LoadedVersion("web", "web-1", IMAGES, 7, after(seconds=1), after(seconds=2)),)
    here.note("web", "web-2", {IMAGES: 7}, after(seconds=1))
    there.note("web", "web-2", {IMAGES: 7}, after(seconds=2))
    there.flush()
    here.flush()
    assert catalog.loaded()[1:] == (LoadedVersion("web", "web-2", IMAGES, 7, after(seconds=1), after(seconds=2)),)
    there.note("web", "web-1", {IMAGES: 6}, after(seconds=3))
    here.note("web", "web-1", {IMAGES: 7}, after(seconds=4))
    here.flush()
    there.flush()
    assert (catalog.loaded()[0].version, catalog.loaded()[0].seen_at) == (7, after(seconds=4))


def test_a_daemon_writes_only_what_checked_in_with_it(
    catalog: Catalog, second: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much it takes in."""
    here, there = Checkins(catalog, shared=True), Checkins(second, shared=True)
    for number in range(20):
        here.note("web", f"web-{number}", {IMAGES: 7}, NOON)
    here.flush()
    there.note("mail", "mail-1", {IMAGES: 7}, NOON)
    written: list[set[tuple[str, str]]] = []
    store = second.replace_loaded

    def watch(instances: set[tuple[str, str]], *more: object) -> None:
        written.append(set(instances))
        store(instances, *more)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(second, "replace_loaded", watch)
    there.flush()
    there.flush()
    assert written == [{("mail", "mail-1")}]
    assert there.instances == 21


def test_an_instance_that_was_forgotten_at_one_daemon_is_forgotten_at_all(catalog: Catalog, second: Catalog) -> None:
    """Unless it checked in there since."""
    here, there = Checkins(catalog, shared=True), Checkins(second, shared=True)
    for name in ("web-1", "web-2"):
        there.note("web", name, {IMAGES: 7}, NOON)
    there.flush()
    here.flush()
    forget_instances(here, catalog, "web", ["web-1", "web-2"], asked_by="alice", now=after(minutes=1))
    there.note("web", "web-2", {IMAGES: 7}, after(minutes=1))
    there.note_acts()
    there.flush()
    assert [one.instance for one in there.snapshot()] == ["web-2"]
    here.flush()
    assert here.snapshot() == catalog.loaded() == there.snapshot()


def test_limits_hold_for_what_others_write(catalog: Catalog, second: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was silent longest makes room."""
    monkeypatch.setattr(checkins, "MAX_INSTANCES_OF_ONE", 3)
    here, there = Checkins(catalog, shared=True), Checkins(second, shared=True)
    for number in (1, 2):
        here.note("web", f"here-{number}", {IMAGES: 7}, after(seconds=2 * number))
        there.note("web", f"there-{number}", {IMAGES: 7}, after(seconds=2 * number - 1))
    here.flush()
    there.flush()
    here.flush()
    assert {one.instance for one in there.snapshot()} == {"here-1", "here-2", "there-2"}
    assert here.snapshot() == there.snapshot() == catalog.loaded()
    monkeypatch.setattr(checkins, "MAX_INSTANCES", 3)
    there.note("mail", "mail-1", {IMAGES: 7}, after(seconds=9))
    there.flush()
    here.flush()
    assert here.instances == 3


def test_a_daemon_alone_reads_nothing_more(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """One machine works as before there were several."""
    monkeypatch.setattr(catalog, "loaded_since", None)
    found = Checkins(catalog)
    found.note("web", "web-1", {IMAGES: 7}, NOON)
    found.flush()
    assert catalog.loaded() == found.snapshot()
