"""Lists that end: an operator's, a partner's, and one that comes back."""

import getpass
import signal
from typing import Any

import pytest

from command_line import configure, operate, settings, syncd
from signing import publish_change
from standing import prove_feed
from syncd.acts import Retired
from syncd.catalog.decisions import HoldState
from syncd.errors import AlgorithmNotHeld, RefusedError, RetiredList, UsageError
from syncd.feed.layout import target_name
from syncd.feed.signed import load_repository
from syncd.format.manifest import Manifest
from syncd.model import Algorithm, Counts, ListName
from syncd.operate.holds import end_hold
from syncd.operate.repair import recover
from syncd.operate.retire import Retirement, retire
from syncd.outcomes import HoldReason, Outcome
from syncd.publish import author
from syncd.report import overview
from syncd.report.judged import Overview
from syncd.service.web.dashboard.details import list_page, source_page
from syncd.service.web.dashboard.overview import overview_page
from syncd.service.web.dashboard.tasks import PageData, tasks
from syncd.service.web.health import readiness
from test_daemon import daemon, today
from test_judged import text
from test_metrics import now as scraped
from test_repair import back_up, restore
from world import HEAD, IMAGES, World, row, rows

__all__ = ["today"]  # a fixture

VIDEOS = ListName("videos")
REASON = "the contract ended"


@pytest.fixture
def published(world: World) -> World:
    """A list that was published, synced and pulled."""
    world.publish(full=rows(0, 9))
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    return world


def end(world: World, name: str = HEAD, reason: str = REASON, *, sources: Any = ()) -> Retirement:
    """The operator retires a list."""
    with world.publisher() as publisher:
        return retire(publisher, ListName(name), sources, actor="alice", reason=reason, now=world.clock())


def end_at_partner(world: World, name: ListName = IMAGES) -> Manifest:
    """The partner retires a list."""
    return author.retire(world.partner, name, world.partner_signers(), world.clock())


def release(world: World, number: int = 1, *, release: bool = True) -> None:
    """The operator ends a hold."""
    with world.publisher() as publisher:
        end_hold(publisher, number, release=release, actor="alice", reason="asked them", now=world.clock())


def head(world: World, name: ListName = HEAD) -> Manifest:
    """The version that is published."""
    target = load_repository(world.state.feed).targets()[target_name(name)]
    return world.state.feed.manifest(name, target.sha256)


def look(world: World, **intervals: float) -> Overview:
    """How everything stands; no source is configured unless its interval is given."""
    with world.publisher() as publisher:
        return overview.read(world.state, publisher.catalog, intervals, world.clock())


def holds(world: World) -> list[tuple[HoldState, tuple[HoldReason, ...], int]]:
    """The holds that are open or discarded."""
    with world.publisher() as publisher:
        return [(one.state, one.reasons, one.rows) for one in publisher.catalog.holds()]


# the operator's own


def test_a_retired_list_is_empty_and_says_since_when(published: World) -> None:
    """One version higher, it states nothing any more; its origin, its past holds and its age are gone with it."""
    published.clock.forward(hours=1)
    done = end(published)
    assert (done.version, done.ended) == (2, ())
    manifest = head(published)
    assert (manifest.version, manifest.stack, manifest.rows, manifest.recent) == (2, (), 0, ())
    assert manifest.retired is not None
    assert manifest.retired.since == published.clock()
    assert load_repository(published.state.feed).freshness() == {}
    with published.publisher() as publisher:
        catalog = publisher.catalog
        assert catalog.origins() == ()
        record = catalog.head(HEAD)
        assert record is not None
        assert (record.retired_at, record.origin_serial) == (published.clock(), None)
        version = catalog.version(HEAD, 2)
        assert version is not None
        assert (version.plan, version.counts) == ("retired", {Algorithm.SHA256: Counts(removed=9)})
        (entry, *_) = catalog.audit_entries()
        assert (entry.actor, entry.act) == ("alice", Retired(HEAD, REASON))
    prove_feed(published)


def test_matchers_go_on_without_a_retired_list(published: World) -> None:
    """The next pull takes it, and a look-up that names it is told."""
    end(published)
    (pulled,) = published.pull().lists
    assert (pulled.after, pulled.retired) == (2, published.clock())
    matcher = published.matcher()
    with pytest.raises(AlgorithmNotHeld):  # neither "not listed" nor a stop: nothing is left to check against
        published.hits(3, matcher)
    with pytest.raises(RetiredList):
        matcher.lookup("sha256", row(3)[1], lists=[HEAD])


def test_a_list_that_a_source_follows_is_not_retired(published: World) -> None:
    """The next sync would publish it again: the message says what to take out of the configuration."""
    for lists, told in (
        ((), "in the configuration name its other lists in `lists`, without images, or remove [sources.iwf]"),
        ((IMAGES, VIDEOS), "in the configuration take images out of its `lists`, or remove [sources.iwf]"),
    ):
        with pytest.raises(RefusedError, match="source iwf follows images") as caught:
            end(published, sources=[published.source(lists=lists)])
        assert caught.value.hint.startswith(told)
    assert head(published).retired is None
    others = [published.source(lists=(VIDEOS,)), published.source(name="other")]
    assert end(published, sources=others).version == 2


def test_what_cannot_be_retired_is_refused(published: World) -> None:
    """An unknown list names the nearest, a reason is needed, and nothing is retired twice."""
    with pytest.raises(UsageError, match="there is no list iwf") as caught:
        end(published, "iwf.image")
    assert caught.value.hint == "did you mean iwf.images?"
    with pytest.raises(UsageError, match="a reason is needed"):
        end(published, reason=" ")
    end(published)
    with pytest.raises(RefusedError, match="was already retired on 2026-01-01"):
        end(published, sources=[published.source()])
    assert head(published).version == 2


@pytest.mark.on_both
def test_a_later_sync_undoes_a_retirement(published: World) -> None:
    """A sync that follows the list again is a first one, and publishes a higher version that is not retired."""
    end(published)
    published.clock.forward(hours=1)
    (outcome,) = published.sync().lists
    assert (outcome.outcome, outcome.plan, outcome.version) == (Outcome.PUBLISHED, "full:first", 3)
    assert (head(published).retired, head(published).rows) == (None, 9)
    with published.publisher() as publisher:
        record, version = publisher.catalog.head(HEAD), publisher.catalog.version(HEAD, 3)
        assert record is not None
        assert version is not None
        assert (record.retired_at, version.labels) == (None, {"sha256": {"A": 3, "B": 3, "C": 3}})
    assert not published.pull().errors
    assert published.hits(3) != []
    published.publish(add=[row(20)])
    assert published.sync().exit_code == 0
    prove_feed(published)


@pytest.mark.on_both
def test_an_update_prepared_before_a_retirement_is_refused(published: World) -> None:
    """A sync under way must not bring back what ends meanwhile."""
    from syncd.pipeline.prepare import prepare
    from syncd.pipeline.sync import sync_source

    published.publish(add=[row(20)])
    with published.publisher() as publisher:

        def slow(*given: Any) -> Any:
            yield from prepare(*given)

        def progress(stage: str, done: int, total: int) -> None:
            del done, total
            if stage == "publish":
                retire(publisher, HEAD, (), actor="alice", reason=REASON, now=published.clock())

        source = published.source()
        outcome = sync_source(publisher, source, published.clock, progress, prepared_by=slow)
    assert outcome.exit_code == 6
    assert head(published).retired is not None


@pytest.mark.on_both
def test_holds_end_with_their_list(published: World) -> None:
    """Open and discarded ones: nobody is asked to judge what has ended."""
    published.publish(remove=rows(0, 9))
    assert published.sync().exit_code == 3
    release(published, release=False)
    published.publish(full=rows(0, 5))
    published.publish(remove=rows(0, 5))
    published.sync()
    open_before = holds(published)
    assert open_before != []
    assert len(end(published).ended) == len(open_before)
    assert holds(published) == []
    with published.publisher() as publisher:
        first = publisher.catalog.hold(1)
        assert first is not None
        assert (first.state, first.ended_by, first.ended_reason) == (HoldState.WITHDRAWN, "alice", REASON)
    prove_feed(published)


def test_the_files_of_a_retired_list_go_a_day_later(published: World) -> None:
    """Also if its source is never synced again; the feed keeps what its newest versions name."""
    end(published)
    segments = published.state.source("iwf").path("v1/images/segments")
    assert len(list(segments.iterdir())) == 1
    published.clock.forward(hours=25)
    with published.publisher() as publisher:
        publisher.collector.leftovers(published.clock())
    assert list(segments.glob("*")) == []
    prove_feed(published)


def test_a_source_that_is_synced_for_the_first_time_loses_no_file(published: World) -> None:
    """It has no origin yet, and holds its lock."""
    from syncd.locks import lock

    folder = published.state.source("new")
    path = folder.path("v1/x/segments/a.arrow")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    with published.publisher() as publisher, lock(folder.lock, "a sync"):
        for _ in range(2):
            publisher.collector.leftovers(published.clock())
            published.clock.forward(hours=25)
    assert path.exists()


def test_a_sync_waits_while_old_files_of_its_source_are_removed(
    published: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes moments; a sync that somebody asked for is not refused for it."""
    from contextlib import ExitStack

    from syncd.locks import lock

    with ExitStack() as removal:
        removal.enter_context(lock(published.state.source("iwf").lock, "removing old files of iwf"))
        monkeypatch.setattr("syncd.locks.time.sleep", lambda _: removal.close())
        assert published.sync().error is None


@pytest.mark.catalog_in_a_file
def test_a_backup_of_a_retired_list_is_recovered_as_retired(published: World) -> None:
    """It proves whole, and goes on above as what it was."""
    end(published)
    since = published.clock()
    published.clock.forward(days=3)
    back_up(published)
    restore(published)
    prove_feed_alone(published)
    with published.publisher() as publisher:
        recover(publisher, 50, published.clock(), "tester")
        record = publisher.catalog.head(HEAD)
    manifest = head(published)
    assert (manifest.version, manifest.stack) == (51, ())
    assert manifest.retired is not None
    assert (manifest.retired.since, record and record.retired_at) == (since, since)
    prove_feed_alone(published)


def prove_feed_alone(world: World) -> None:
    from syncd.verify.state import prove_state

    assert prove_state(world.state, None, world.clock()).faults == ()


# the partner's


def test_a_partners_retirement_waits_for_an_operator(published: World) -> None:
    """As an emptied list does, under a reason of its own; what is served stays."""
    published.clock.forward(hours=1)
    end_at_partner(published)
    for _ in range(2):
        (outcome,) = published.sync().lists
        assert (outcome.outcome, outcome.reasons) == (Outcome.HELD, (HoldReason.RETIRED,))
    assert holds(published) == [(HoldState.OPEN, (HoldReason.RETIRED,), 9)]
    assert (head(published).retired, head(published).rows) == (None, 9)


@pytest.mark.on_both
def test_a_released_retirement_retires_our_list(published: World) -> None:
    """Since the release, so that matchers warn for seven days from then; nothing is owed any more."""
    end_at_partner(published)
    published.sync()
    published.clock.forward(hours=30)
    release(published)
    manifest = head(published)
    assert (manifest.rows, manifest.stack, dict(manifest.withheld)) == (0, (), {})
    assert manifest.retired is not None
    assert manifest.retired.since == published.clock()
    assert manifest.origin is not None
    assert (manifest.origin.serial, manifest.origin.whole) == (2, None)
    with published.publisher() as publisher:
        (origin,) = publisher.catalog.origins()
        assert (origin.owed, origin.rows) == ((), 0)
        assert publisher.catalog.holds() == ()
    assert not published.pull().errors
    assert published.sync().outcome is Outcome.UP_TO_DATE
    prove_feed(published)


def test_a_discarded_retirement_leaves_the_list_as_it_is(published: World) -> None:
    """What was refused stays; nothing says that the list has ended."""
    end_at_partner(published)
    published.sync()
    release(published, release=False)
    assert (head(published).retired, head(published).rows) == (None, 9)
    assert published.sync().exit_code == 0


@pytest.mark.on_both
def test_a_partners_list_comes_back(published: World) -> None:
    """After a release its next version is ours too, by its delta, and the list is published again."""
    end_at_partner(published)
    published.sync()
    release(published)
    published.publish(full=rows(0, 4))
    (outcome,) = published.sync().lists
    assert (outcome.outcome, outcome.plan) == (Outcome.PUBLISHED, "deltas")
    assert (head(published).retired, head(published).rows) == (None, 4)
    assert look(published, iwf=600.0).lists[0].retired is False
    assert not published.pull().errors
    assert published.hits(3) != []
    prove_feed(published)


def test_a_retirement_that_was_taken_back_holds_no_more(published: World) -> None:
    """Additions flow; removals that still wait are judged by a person, and release makes no retired list of it."""
    end_at_partner(published)
    published.sync()
    published.publish(full=rows(0, 12))
    assert published.sync().outcome is Outcome.PUBLISHED
    assert (head(published).rows, holds(published)) == (12, [])
    end_at_partner(published)
    published.sync()
    published.publish(full=rows(10, 15))
    assert published.sync().outcome is Outcome.HELD
    assert head(published).rows == 15
    release(published, 2)
    assert (head(published).retired, head(published).rows) == (None, 5)
    prove_feed(published)


def test_an_empty_list_is_retired_at_once(published: World) -> None:
    """There is nothing that could wait."""
    published.publish(remove=rows(0, 9))
    published.sync()
    release(published)
    assert head(published).retired is None
    end_at_partner(published)
    (outcome,) = published.sync().lists
    assert outcome.outcome is Outcome.PUBLISHED
    assert head(published).retired is not None
    end_again = publish_change(published, retired_again(published))
    assert end_again.version == 4
    assert published.sync().outcome is Outcome.UP_TO_DATE
    prove_feed(published)


def retired_again(world: World) -> Any:
    from syncd.publish.change import ListChange

    return ListChange(IMAGES, (), {}, {}, (), retired=world.clock())


def test_a_list_that_had_ended_before_it_was_followed_warns_nobody(world: World) -> None:
    """It is published as retired, since when the partner retired it."""
    world.publish(full=rows(0, 3))
    end_at_partner(world)
    since = world.clock()
    world.clock.forward(hours=30)
    assert world.sync().exit_code == 0
    manifest = head(world)
    assert manifest.retired is not None
    assert (manifest.version, manifest.retired.since) == (1, since)
    prove_feed_alone(world)


def test_a_retirement_holds_after_a_loss_too(published: World) -> None:
    """With the segments gone, the whole of it waits, and its release retires the list."""
    end_at_partner(published)
    for folder in (published.state.feed.path("v1/iwf.images"), published.state.source("iwf").path("v1/images")):
        for path in folder.glob("segments/*"):
            path.unlink()
    (outcome,) = published.sync().lists
    assert outcome.error is None
    assert (outcome.outcome, outcome.reasons) == (Outcome.HELD, (HoldReason.RETIRED,))
    release(published)
    manifest = head(published)
    assert manifest.retired is not None
    assert (manifest.version, manifest.rows) == (2, 0)
    prove_feed(published)


def test_a_partner_publishes_to_a_retired_list_again(world: World) -> None:
    """It counts as a list that exists: `--new` is refused, and without it the list goes on."""
    world.publish(full=rows(0, 3))
    retired = end_at_partner(world)
    with pytest.raises(RefusedError, match="was already retired on 2026-01-01"):
        end_at_partner(world)
    with pytest.raises(UsageError, match="no list imagse") as caught:
        end_at_partner(world, ListName("imagse"))
    assert caught.value.hint == "did you mean images?"
    path = world.base / "all.csv"
    path.write_text("algorithm,digest,entry,label\n" + ",".join(row(1)) + "\n")
    given = ("--list", "images", "--full", path)
    refused = syncd("feed", "publish", world.partner.root, *given, "--new")
    assert (refused.code, "has a list images already" in refused.err) == (2, True)
    done = syncd("feed", "publish", world.partner.root, *given, "--json").json
    assert (done["version"], done["rows"]) == (retired.version + 1, 1)
    assert syncd("verify", world.partner.root).code == 0


# the daemon


def test_the_daemon_retires_a_list(today: World) -> None:
    """For whoever may give it orders: named in the audit log and in its own; a configured source stands in the way."""
    assert today.sync().exit_code == 0
    with daemon(today) as process:
        refused = syncd("retire", HEAD, "--reason", REASON)
        assert (refused.code, "if a daemon runs, reload it" in refused.err) == (6, True)
        alone = settings(today).partition("[sources")[0]
        (today.base / "syncd.toml").write_text(alone)
        process.send(signal.SIGHUP)
        process.until("config_reloaded")
        assert syncd("retire", HEAD, "--reason", REASON).out == "iwf.images version 2 published: retired\n"
        event = process.until("list_retired")
        assert (event["list"], event["version"], event["reason"]) == ("iwf.images", 2, REASON)
        assert event["asked_by"] == getpass.getuser()
        assert syncd("status", "--check").code == 0
    assert head(today).retired is not None


# commands and views


@pytest.fixture
def operated(published: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The operator's commands work by the world's clock; the source is configured."""
    operate(published, monkeypatch)
    return published


def let_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source is taken out of the configuration."""
    alone = settings(world).partition("[sources")[0]
    configure(world.base / "syncd.toml", alone, monkeypatch)


def test_the_command_retires_a_list(operated: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once no source follows it; the audit log says who and why."""
    refused = syncd("retire", HEAD, "--reason", REASON)
    assert refused.code == 6
    assert "error: source iwf follows images: the next sync would publish it again" in refused.err
    assert "still served: iwf.images version 1" in refused.err
    let_go(operated, monkeypatch)
    assert syncd("retire", "iwf.image", "--reason", REASON).code == 2
    done = syncd("retire", HEAD, "--reason", REASON)
    assert (done.code, done.out) == (0, "iwf.images version 2 published: retired\n")
    assert syncd("retire", HEAD, "--reason", REASON).code == 6
    assert syncd("audit").out.splitlines()[-1].rstrip().endswith(f"retired iwf.images: {REASON}")
    assert syncd("audit", "verify").code == 0
    assert syncd("verify").code == 0


def test_the_commands_answer_is_json_too(operated: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was committed."""
    let_go(operated, monkeypatch)
    assert syncd("retire", HEAD, "--reason", REASON, "--json").json == {
        "list": "iwf.images",
        "source": "iwf",
        "version": 2,
        "retired_at": "2026-01-01T12:00:00Z",
        "holds_ended": 0,
        "clock": None,
    }


def test_no_view_asks_for_a_retired_list(operated: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However old it grows: status, probe, dashboard, readiness and metrics say "retired", and no more."""
    let_go(operated, monkeypatch)
    operated.clock.forward(hours=30)
    assert syncd("status", "--check").code == 1
    syncd("retire", HEAD, "--reason", REASON)
    operated.clock.forward(hours=30)
    ran = syncd("status")
    assert ran.err == ""
    assert ran.out.splitlines()[1].split(maxsplit=3) == ["iwf.images", "2", "0", "retired on 2026-01-02"]
    (one,) = syncd("status", "--json").json["lists"]
    assert (one["retired_at"], one["act"], one["stale"]) == ("2026-01-02T18:00:00Z", None, False)
    assert (one["age_seconds"], one["last_sync"]) == (None, None)
    assert (syncd("status", "--check").code, syncd("status", "--check").out) == (0, "SYNCD OK - 1 list, retired\n")
    found = look(operated)
    assert (tasks(found), found.waiting, found.source_faults, found.sources) == ((), (), (), ())
    shown = PageData(found, ())
    assert "iwf.images retired 2 0" in text(overview_page(shown, {}))
    (view,) = found.lists
    assert "A list of iwf" in text(list_page(shown, view, ()))
    assert "Retired 1 day ago" in text(list_page(shown, view, ()))
    assert readiness({}, found, named=True)[1] == (
        "ready: 1 list, 0 not proved, 0 stale\niwf.images version 2: retired on 2026-01-02\n"
    )


def test_metrics_of_a_retired_list_fire_no_alert(published: World) -> None:
    """Its age and rows are absent; its version, and since when it is retired, are told."""
    end(published)
    found = scraped(published)
    labels = {"source": "iwf", "list": "iwf.images"}
    assert found("syncd_list_retired_timestamp_seconds", **labels) == published.clock().timestamp()
    assert found("syncd_list_version", **labels) == 2
    for name in ("verified_timestamp_seconds", "rows", "serial", "published_timestamp_seconds"):
        assert found(f"syncd_list_{name}", **labels) is None


def test_a_source_whose_lists_all_ended_has_nothing_published(published: World) -> None:
    """While it is configured: it is waited for, as a new one is."""
    end(published)
    assert [one.name for one in look(published, iwf=600.0).waiting] == ["iwf"]
    assert look(published).waiting == ()


def test_a_retired_list_that_is_followed_tells_its_own_faults_alone(published: World) -> None:
    """That the source cannot be reached is told with the source."""
    end_at_partner(published)
    published.sync()
    release(published)
    (partner, away) = (published.partner.root, published.base / "away")
    partner.rename(away)
    assert published.sync(root=away / "root.json").exit_code == 5
    found = look(published, iwf=600.0)
    assert (found.lists[0].why, found.lists[0].stale) == ("", False)
    assert [(one.list, one.fault.outcome) for one in found.source_faults] == [("", Outcome.UNREACHABLE)]
    assert text(source_page(PageData(found, ()), found.sources[0], ())).count("retired") == 1


def test_feed_retire_ends_a_partners_list(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is repeated, and published nowhere; status shows it."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    feed = world.partner.root
    assert syncd("feed", "retire", feed, "--list", "images", "--reason", " ").code == 2
    assert syncd("feed", "retire", feed, "--list", "imagse", "--reason", REASON).code == 2
    done = syncd("feed", "retire", feed, "--list", "images", "--reason", REASON)
    assert (done.code, done.out) == (0, f"images version 2 published: retired ({REASON})\n")
    assert [path for path in feed.rglob("*") if path.is_file() and REASON.encode() in path.read_bytes()] == []
    assert syncd("feed", "retire", feed, "--list", "images", "--reason", REASON, "--json").code == 6
    assert "retired on 2026-01-01" in syncd("feed", "status", feed).out
    assert syncd("feed", "status", feed, "--json").json["lists"][0]["retired_at"] == "2026-01-01T12:00:00Z"
    assert syncd("feed", "compact", feed, "--all").out == "images: nothing to fold\n"


def test_an_operators_feed_is_retired_by_its_own_command(published: World) -> None:
    """The catalog would know nothing of what `feed retire` did there."""
    refused = syncd("feed", "retire", published.state.feed.root, "--list", HEAD, "--reason", REASON)
    assert (refused.code, "`syncd retire LIST --reason R`" in refused.err) == (6, True)
