"""How status, dashboard and metrics judge: each list by what became of it, in the last sync that ended."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from command_line import ALONE, configure, operate, settings, syncd, use_clock
from syncd.format.freshness import MaxAge
from syncd.locks import lock
from syncd.model import ListName
from syncd.outcomes import Outcome
from syncd.pipeline.sync import sync_source
from syncd.report import overview
from syncd.report.judged import Overview
from syncd.service.web.dashboard.details import list_page, source_page
from syncd.service.web.dashboard.html import Html
from syncd.service.web.dashboard.overview import list_state, overview_page
from syncd.service.web.dashboard.tasks import PageData, tasks
from syncd.service.web.health import readiness
from syncd.users import this_user
from test_metrics import now as scraped
from world import START, World, row, rows

VIDEOS = ListName("videos")
EMPTIED = "the update would leave the list without any entry"
HELD = (
    f"hold 1: 2 rows (removals): {EMPTIED}; `syncd release 1 --reason R` publishes it, "
    "`syncd discard 1 --reason R` drops it"
)


@pytest.fixture
def configured(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An operator of one source, of which two lists were published ten minutes ago."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    world.publish(full=rows(10, 12), name=VIDEOS)
    assert syncd("sync").code == 0
    world.clock.forward(minutes=10)
    return world


def hold_videos(world: World) -> None:
    """A sync in which the videos are held, the images being up to date."""
    world.publish(remove=rows(10, 12), name=VIDEOS)
    assert syncd("sync").code == 3


def reject(world: World, name: str) -> None:
    """The partner signs a version of a list whose newest segment is another one."""
    world.publish(add=[row(77)], name=ListName(name))
    newest = max(world.partner.root.glob(f"v1/{name}/segments/*"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(bytes(newest.stat().st_size))


def check() -> tuple[int, str]:
    """What monitoring is told, without the ages."""
    ran = syncd("status", "--check")
    return ran.code, ran.out.partition(" | ")[0].rstrip()


def look(world: World) -> Overview:
    """How everything stands."""
    with world.publisher() as publisher:
        return overview.read(world.state, publisher.catalog, {"iwf": 600.0}, world.clock())


def found(world: World) -> PageData:
    """What pages are made of."""
    seen = look(world)
    return PageData(seen, tasks(seen))


def text(markup: Html) -> str:
    """What a reader sees, on one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", str(markup)).split())


@contextmanager
def under_way(
    world: World, *, dry_run: bool = False, source: str = "iwf", sync_id: str = "under-way"
) -> Iterator[None]:
    """A sync that is running."""
    with lock(world.state.source(source).lock, "a sync"), world.publisher() as publisher:
        publisher.catalog.begin_sync(sync_id, source, world.clock(), dry_run=dry_run)
        yield


# each list by itself


def test_a_held_list_is_not_told_of_its_siblings(configured: World) -> None:
    """They are up to date, and say so."""
    hold_videos(configured)
    ran = syncd("status")
    assert ran.err == f"warning: iwf.videos: {HELD}\n"
    assert [line.split()[0] + ": " + line.split("ago")[-1].strip() for line in ran.out.splitlines()[1:3]] == [
        "iwf.images: up to date",
        "iwf.videos: held",
    ]
    assert check() == (1, f"SYNCD WARNING - iwf.videos: {HELD}")
    images, videos = syncd("status", "--json").json["lists"]
    assert (images["act"], images["last_sync"]["outcome"], images["last_sync"]["reason"]) == (None, "up_to_date", "")
    assert (videos["act"], videos["last_sync"]["outcome"], videos["last_sync"]["reason"]) == (
        HELD,
        "held",
        "emptied",
    )


def test_a_list_that_was_published_beside_a_held_one_says_so(configured: World) -> None:
    """Its news are served."""
    configured.publish(add=[row(5)])
    hold_videos(configured)
    assert [one["last_sync"]["outcome"] for one in syncd("status", "--json").json["lists"]] == ["published", "held"]


def test_each_list_has_a_fault_of_its_own(configured: World) -> None:
    """One rejected, one held: each in its own words, and as grave as it is."""
    reject(configured, "images")
    configured.publish(remove=rows(10, 12), name=VIDEOS)
    assert syncd("sync").code == 4
    code, line = check()
    rejected, _, held = line.removeprefix("SYNCD CRITICAL - ").partition("; ")
    assert (code, held) == (2, f"iwf.videos: {HELD}")
    assert rejected.startswith("iwf.images: ")
    assert "without any entry" not in rejected
    assert [one.urgent for one in found(configured).tasks] == [True, True]
    told = scraped(configured)
    assert told.ones("syncd_source_held", "reason") == ["emptied"]
    assert len(told.ones("syncd_source_rejected", "reason")) == 1


def test_what_was_never_published_is_told_at_its_source(configured: World) -> None:
    """Not of the lists beside it, which are well."""
    configured.publish(full=rows(20, 22), name=ListName("audio"))
    reject(configured, "audio")
    assert syncd("sync").code == 4
    assert [one["act"] for one in syncd("status", "--json").json["lists"]] == [None, None]
    (fault,) = syncd("status", "--json").json["sources"][0]["faults"]
    assert (fault["list"], fault["outcome"]) == ("iwf.audio", "rejected")
    assert fault["act"].startswith("iwf.audio was never published: ")
    assert syncd("status").err == f"warning: iwf: {fault['act']}\n"
    assert check() == (2, f"SYNCD CRITICAL - iwf: {fault['act']}")
    (task,) = found(configured).tasks
    assert (task.urgent, task.why, task.lists) == (True, fault["act"], ("iwf.audio",))


def test_a_fault_of_the_whole_sync_is_told_where_it_hit(configured: World) -> None:
    """Of lists that it did not verify; of the source, where it verified all."""
    catalog_id = "killed"
    with configured.publisher() as publisher:
        publisher.catalog.begin_sync(catalog_id, "iwf", configured.clock())
        configured.clock.forward(seconds=1)
        publisher.catalog.touch_verified("iwf", {ListName("images"): 1}, configured.clock())
    assert syncd("status").err == "warning: iwf.videos: the last sync was interrupted\n"
    with configured.publisher() as publisher:
        publisher.catalog.touch_verified("iwf", {VIDEOS: 1}, configured.clock())
    assert syncd("status").err == "warning: iwf: the last sync was interrupted\n"
    assert check() == (1, "SYNCD WARNING - iwf: the last sync was interrupted")
    (task,) = found(configured).tasks
    assert (task.why, task.source, task.lists) == ("the last sync was interrupted", "iwf", ())


def test_a_source_out_of_reach_is_told_of_each_list_and_once(configured: World) -> None:
    """No list was verified."""
    configured.partner.path("metadata/timestamp.json").unlink()
    assert syncd("sync").code == 5
    found_now = syncd("status", "--json").json
    assert [one["last_sync"]["outcome"] for one in found_now["lists"]] == ["unreachable", "unreachable"]
    assert found_now["sources"][0]["faults"] == []
    assert len(found(configured).tasks) == 1


# how old


@pytest.mark.parametrize(
    ("minutes", "freshness", "code", "state", "urgent", "ready"),
    [
        (59, "fresh", 0, "current", [], ""),
        (60, "warn", 1, "late", [False], ", late"),
        (7 * 60 - 1, "warn", 1, "late", [False], ", late"),
        (7 * 60, "stale", 2, "stale", [True], ", stale"),
    ],
)
def test_all_views_judge_an_age_by_the_same_limits(
    configured: World, minutes: int, freshness: str, code: int, state: str, urgent: list[bool], ready: str
) -> None:
    """Status, check, dashboard, readiness, metrics with their alert rules, and the matcher on its own copy."""
    configured.pull()
    configured.clock.forward(minutes=minutes - 10)
    listed = syncd("status", "--json").json["lists"]
    assert [(one["freshness"], one["stale"]) for one in listed] == [(freshness, freshness == "stale")] * 2
    assert [(one["warn_seconds"], one["limit_seconds"]) for one in listed] == [(3600, 25200)] * 2
    assert check()[0] == code
    shown = found(configured)
    assert [one.urgent for one in shown.tasks] == urgent
    assert [text(list_state(one)) for one in shown.overview.lists] == [state] * 2
    assert "Limits late after 1 hour stale after 7 hours" in text(list_page(shown, shown.overview.lists[0], ()))
    report = readiness({}, shown.overview, named=True)[1].splitlines()
    assert [line.partition(" ago")[2] for line in report[1:]] == [ready] * 2
    told, names = scraped(configured), {"source": "iwf", "list": "iwf.images"}
    age = configured.clock().timestamp() - (told("syncd_list_verified_timestamp_seconds", **names) or 0)
    limits = [told("syncd_list_age_limit_seconds", **names, level=level) or 0 for level in ("warn", "critical")]
    assert [age >= limit for limit in limits] == [code >= 1, code == 2]
    assert [(one.freshness, one.max_age) for one in configured.matcher().status()] == [
        (freshness, MaxAge(warn=3600, critical=25200))
    ] * 2
    assert syncd("status", configured.copy, "--check").code == code


def test_a_clock_that_was_set_back_is_judged_alike(configured: World) -> None:
    """Nobody knows how old the lists are."""
    configured.pull()
    configured.clock.forward(hours=-3)
    assert [one["freshness"] for one in syncd("status", "--json").json["lists"]] == ["stale", "stale"]
    assert (check()[0], syncd("status", configured.copy, "--check").code) == (2, 2)
    assert [one.urgent for one in found(configured).tasks] == [True, True]  # the clock, and the lists
    assert [one.freshness for one in configured.matcher().status()] == ["stale", "stale"]


def test_suppressions_that_wait_hold_no_update(configured: World, tmp_path: Path) -> None:
    """Syncs end as they did, with exit code 0; a second operator is asked for in every view."""
    many = tmp_path / "many"
    many.write_text("".join(f"sha256:{row(number)[1]}\n" for number in range(100, 115)))
    configured.publish(full=rows(0, 150))
    assert syncd("sync").code == 0
    assert syncd("suppress", "--file", many, "--reason", "r", "--list", "iwf.images").code == 3
    for change, outcome in ((None, "up_to_date"), ([row(200)], "published")):
        if change:
            configured.publish(add=change)
        assert syncd("sync", "--dry-run").code == 0
        ran = syncd("sync", "--json")
        assert (ran.code, [one["outcome"] for one in ran.json["syncs"][0]["lists"]]) == (0, [outcome, "up_to_date"])
        images, _ = syncd("status", "--json").json["lists"]
        assert (images["last_sync"]["outcome"], images["last_sync"]["reasons"]) == (outcome, [])
    assert images["act"].startswith("hold 1: 15 rows (suppressions): ")
    assert check()[0] == 1
    assert [one["lane"] for one in images["holds"]] == ["suppressions"]
    shown = found(configured)
    assert text(list_state(shown.overview.lists[0])) == "suppressions wait"
    assert [one.urgent for one in shown.tasks] == [True]
    told = scraped(configured)
    assert told("syncd_holds", source="iwf", list="iwf.images", lane="suppressions") == 1
    assert told.ones("syncd_source_held", "reason") == ["second_operator"]
    configured.publish(remove=[*rows(0, 150), row(200)])
    assert syncd("sync").code == 3
    assert syncd("status", "--json").json["lists"][0]["last_sync"]["reasons"] == ["emptied", "shrunk"]


# a list that was rolled back

PINNED = (
    "pinned to version 1 since 2026-01-01 12:10 UTC by {by} (IWF signed a wrong list): {effect}; "
    "`syncd unpin iwf.images --reason R` lets it follow its source again"
)


def roll_back(world: World, *, exact: bool = False) -> str:
    """Images are at version 1 again, ten minutes after it; returns why somebody must act."""
    world.publish(add=[row(5)])
    assert syncd("sync").code == 0
    order = ["rollback", "iwf.images", 1, "--reason", "IWF signed a wrong list", *(["--exact"] if exact else [])]
    ran = syncd(*order)
    if exact:
        code = ran.err.partition("--accept ")[2].partition(";")[0]
        ran = syncd(*order, "--accept", code)
    assert ran.code == 0
    effect = "no change of the partner reaches it" if exact else "only removals reach it"
    return PINNED.format(by=this_user(), effect=effect)


@pytest.mark.parametrize("exact", [False, True])
def test_all_views_warn_of_a_pinned_list(configured: World, monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    """It is not current, however fresh it is: to which version, since when, by whom, why, and what ends it."""
    why = roll_back(configured, exact=exact)
    configured.clock.forward(minutes=30)
    configured.publish(add=[row(6)])
    assert syncd("sync").code == 0
    monkeypatch.setenv("COLUMNS", "80")
    ran = syncd("status")
    assert ran.err == f"warning: iwf.images: {why}\n"
    assert [line.rpartition("ago")[2].strip() for line in ran.out.splitlines()[1:3]] == ["pinned to 1", "up to date"]
    assert max(map(len, ran.out.splitlines())) <= 80
    images, videos = syncd("status", "--json").json["lists"]
    assert (images["act"], videos["act"], videos["pinned"]) == (why, None, None)
    assert images["pinned"] == {
        "version": 1,
        "since": "2026-01-01T12:10:00Z",
        "by": this_user(),
        "reason": "IWF signed a wrong list",
        "exact": exact,
    }
    assert check() == (1, f"SYNCD WARNING - iwf.images: {why}")
    shown = found(configured)
    (task,) = shown.tasks
    assert (task.urgent, task.why, task.lists) == (False, why, ("iwf.images",))
    assert task.to_do == (
        "Ask the partner whether the list is right again. Then `syncd unpin iwf.images --reason R` lets it follow its "
        "source again."
    )
    assert [text(list_state(one)) for one in shown.overview.lists] == ["pinned to 1", "current"]
    page = text(list_page(shown, shown.overview.lists[0], ()))
    assert f"Pinned to version 1 30 minutes ago by {this_user()}: IWF signed a wrong list" in page
    told, names = scraped(configured), {"source": "iwf", "list": "iwf.images"}
    assert told("syncd_list_pinned_timestamp_seconds", **names) == START.timestamp() + 600
    assert told("syncd_list_pinned_version", **names) == 1
    assert told("syncd_list_pinned_version", source="iwf", list="iwf.videos") is None


def test_a_pinned_list_that_is_held_or_stale_says_both(configured: World) -> None:
    """A pin hides nothing that is worse."""
    why = roll_back(configured)
    configured.publish(remove=rows(0, 3))
    assert syncd("sync").code == 3
    images = syncd("status", "--json").json["lists"][0]
    assert images["act"].startswith("hold 1: ")
    assert images["act"].endswith(why)
    assert "held, pinned to 1" in syncd("status").out
    (task,) = found(configured).tasks
    assert task.urgent
    configured.clock.forward(hours=8)
    assert check()[0] == 2
    assert why in check()[1]


def test_nothing_is_said_of_a_pin_that_has_ended(configured: World) -> None:
    """In no view."""
    roll_back(configured)
    assert syncd("unpin", "iwf.images", "--reason", "corrected").code == 0
    assert check()[0] == 0
    assert syncd("status", "--json").json["lists"][0]["pinned"] is None
    roll_back(configured)
    (configured.base / "syncd.toml").write_text(settings(configured, 'lists = ["videos"]\n'))
    assert syncd("retire", "iwf.images", "--reason", "the partner ended it").code == 0
    assert syncd("status", "--json").json["lists"][0]["pinned"] is None


# only what has ended


@pytest.mark.parametrize("dry_run", [False, True])
def test_red_stays_while_the_next_sync_runs(configured: World, dry_run: bool) -> None:
    """Until that ends, the one before is what is known."""
    hold_videos(configured)
    before, tasks_before, told = check(), found(configured).tasks, syncd("status")
    with under_way(configured, dry_run=dry_run):
        assert check() == before == (1, f"SYNCD WARNING - iwf.videos: {HELD}")
        ran = syncd("status")
        kind = "a dry run" if dry_run else "a sync"
        out = told.out.replace(ALONE, f"iwf: {kind} is running, started 0 seconds ago\n{ALONE}")
        assert (ran.err, ran.out) == (told.err, out)
        assert [one.why for one in found(configured).tasks] == [one.why for one in tasks_before] == [HELD]
        assert "running" in text(overview_page(found(configured), {}))


def test_what_was_never_published_stays_critical_while_the_next_sync_runs(configured: World) -> None:
    """As lists do."""
    config = configured.base / "syncd.toml"
    text = config.read_text()
    config.write_text(f'{text}[sources.new]\ntype = "feed"\nurl = "{configured.url}"\nroot = "{configured.root}"\n')
    with under_way(configured, source="new"):
        assert check() == (1, "SYNCD WARNING - new: nothing published yet, the first sync is running")
        assert "\nnew: nothing published yet; the first sync is running\n" in syncd("status").out
    with configured.publisher() as publisher:
        publisher.catalog.finish_sync("under-way", Outcome.REJECTED, now=configured.clock())
        publisher.catalog.begin_sync("next", "new", configured.clock())
    with lock(configured.state.source("new").lock, "a sync"):
        assert check() == (2, "SYNCD CRITICAL - new: nothing published yet, the last sync was rejected")


def test_a_dry_run_is_not_the_first_sync(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes of it."""
    use_clock(world.clock, monkeypatch)
    source = f'[sources.iwf]\ntype = "feed"\nurl = "{world.url}"\nroot = "{world.root}"\n'
    configure(tmp_path / "syncd.toml", f'state_dir = "{world.state.root}"\n{source}', monkeypatch)
    for dry_run, told in ((True, "no sync has run"), (False, "the first sync is running")):
        with under_way(world, dry_run=dry_run, sync_id=told):
            assert [one.why for one in found(world).tasks] == [f"nothing published yet: {told}"]
            assert check()[1].endswith("yet, never synced" if dry_run else "yet, the first sync is running")
        with world.publisher() as publisher:
            publisher.catalog.mark_interrupted(world.clock())


def test_metrics_keep_the_outcome_while_the_next_sync_runs(configured: World) -> None:
    """An alert does not go out with each run."""
    hold_videos(configured)
    configured.clock.forward(minutes=1)
    with under_way(configured):
        told = scraped(configured)
    assert told.ones("syncd_source_last_sync_outcome", "outcome") == ["held"]
    assert told.ones("syncd_source_held", "reason") == ["emptied"]
    assert told("syncd_source_last_sync_timestamp_seconds", source="iwf") == configured.clock().timestamp()


# never a dry run


def test_a_dry_run_puts_no_red_out(configured: World) -> None:
    """Whether it would publish, finds nothing to do, or fails: it changes nothing."""
    hold_videos(configured)
    red = (1, f"SYNCD WARNING - iwf.videos: {HELD}")
    configured.publish(add=rows(10, 13), name=VIDEOS)
    configured.clock.forward(minutes=1)
    assert syncd("sync", "--dry-run").code == 0
    assert check() == red
    with configured.publisher() as publisher:
        sync_source(publisher, configured.source(lists=("images",)), configured.clock, dry_run=True)
    assert check() == red
    assert scraped(configured).ones("syncd_source_last_sync_outcome", "outcome") == ["held"]
    configured.clock.forward(minutes=1)
    assert syncd("sync").code == 0
    assert check()[0] == 0


def test_a_dry_run_that_fails_makes_nothing_red(configured: World) -> None:
    """Nor does one that was killed."""
    timestamp = configured.partner.path("metadata/timestamp.json")
    good = timestamp.read_bytes()
    timestamp.unlink()
    assert syncd("sync", "--dry-run").code == 5
    timestamp.write_bytes(good)
    assert check()[0] == 0
    with configured.publisher() as publisher:
        publisher.catalog.begin_sync("killed", "iwf", configured.clock(), dry_run=True)
    assert check()[0] == 0


def test_a_dry_run_that_would_publish_says_so(configured: World) -> None:
    """Also where the first of the lists is up to date."""
    configured.publish(add=[row(13)], name=VIDEOS)
    (sync,) = syncd("sync", "--dry-run", "--json").json["syncs"]
    assert (sync["outcome"], [one["outcome"] for one in sync["lists"]]) == ("staged", ["up_to_date", "staged"])
    assert syncd("sync", "--status", sync["sync_id"]).out == "iwf: would be published\n"


# what else is told


def test_a_source_is_verified_when_all_of_it_was(configured: World) -> None:
    """Metadata that was verified says nothing of lists that were not."""
    reject(configured, "images")
    assert syncd("sync").code == 4
    (source,) = syncd("status", "--json").json["sources"]
    assert source["verified_at"] == "2026-01-01T12:00:00Z"
    shown = found(configured)
    (view,) = shown.overview.sources
    assert "Verified 10 minutes ago 2026-01-01 12:00 UTC" in text(source_page(shown, view, []))
    assert "iwf rejected 0 seconds ago 10 minutes ago" in text(overview_page(shown, {}))


def test_a_source_of_which_nothing_was_verified_never_was(world: World) -> None:
    """Whatever of its metadata was."""
    world.publish(full=rows(0, 3))
    reject(world, "images")
    assert world.sync().exit_code == 4
    (view,) = look(world).sources
    assert view.last_success_at is None


def test_a_page_of_a_list_tells_no_fault_of_another(configured: World) -> None:
    """It is current."""
    hold_videos(configured)
    shown = found(configured)
    images, videos = (text(list_page(shown, one, ())) for one in shown.overview.lists)
    assert EMPTIED not in images
    assert "State current" in images
    assert "Last sync up to date" in images
    assert EMPTIED in videos
    assert "State held" in videos
    (view,) = shown.overview.sources
    assert EMPTIED in text(source_page(shown, view, []))


def test_readiness_does_not_go_by_syncs(configured: World) -> None:
    """But by what is stored, and how old that is."""
    hold_videos(configured)
    ready, told = readiness({}, look(configured), named=True)
    assert (ready, told.splitlines()[0]) == (True, "ready: 2 lists, 0 not proved, 0 stale")


def test_a_killed_sync_is_told_as_such_by_its_name(configured: World) -> None:
    """As by `syncd status`: it holds no lock."""
    with under_way(configured):
        ran = syncd("sync", "--status", "under-way")
        assert (ran.code, ran.out) == (0, "iwf: running\n")
    ran = syncd("sync", "--status", "under-way")
    assert (ran.code, ran.out) == (6, "iwf: interrupted\n")


# --- holds of lists that were never published

FIRST = (
    "hold 1: 2 rows (both): fewer rows would be left than `min_rows`: 2 rows, limit 50; "
    "`syncd release 1 --reason R` publishes it, `syncd discard 1 --reason R` drops it"
)


def too_small(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a list must have fifty rows."""
    configure(world.base / "syncd.toml", settings(world, "[sources.iwf.gate]\nmin_rows = 50\n"), monkeypatch)


def test_a_first_version_that_is_held_names_its_hold_and_the_commands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In status, monitoring, dashboard and metrics, although nothing of its source is published."""
    operate(world, monkeypatch)
    too_small(world, monkeypatch)
    world.publish(full=rows(0, 2))
    assert syncd("sync").code == 3
    (waiting,) = syncd("status", "--json").json["not_published"]
    assert (waiting["act"], [hold["hold"] for hold in waiting["holds"]]) == (f"iwf.images: {FIRST}", [1])
    assert f"warning: iwf: iwf.images: {FIRST}\n" in syncd("status").err
    code, line = check()
    assert (code, f"nothing published yet, the last sync was held; iwf.images: {FIRST}" in line) == (1, True)
    (task,) = found(world).tasks
    assert (task.urgent, task.why) == (True, f"nothing published yet: iwf.images: {FIRST}")
    assert "`syncd release 1 --reason R` publishes it" in task.to_do
    told = scraped(world)
    assert told("syncd_holds", source="iwf", list="iwf.images", lane="both") == 1
    assert told.ones("syncd_source_held", "reason") == ["too_small"]
    assert syncd("discard", 1, "--reason", "a test").code == 0
    assert syncd("status", "--json").json["not_published"][0]["act"] is None


def test_a_first_version_beside_published_lists_names_its_hold(
    configured: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its source, until the hold ends, whatever becomes of later syncs."""
    too_small(configured, monkeypatch)
    configured.publish(full=rows(20, 22), name=ListName("audio"))
    assert syncd("sync").code == 3
    (fault,) = syncd("status", "--json").json["sources"][0]["faults"]
    assert (fault["list"], fault["outcome"]) == ("iwf.audio", "held")
    assert fault["act"] == f"iwf.audio was never published: {FIRST}"
    assert f"iwf: {fault['act']}" in check()[1]
    (configured.partner.root / "metadata" / "timestamp.json").unlink()
    assert syncd("sync").code == 5
    assert fault["act"] in [one["act"] for one in syncd("status", "--json").json["sources"][0]["faults"]]
    (task,) = [task for task in found(configured).tasks if task.lists == ("iwf.audio",)]
    assert "`syncd release 1 --reason R` publishes it" in task.to_do
    assert syncd("discard", 1, "--reason", "a test").code == 0
    assert fault["act"] not in syncd("status").err
