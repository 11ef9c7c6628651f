"""``syncd holds``, ``release`` and ``discard``, and every view of a hold, with and without a daemon."""

import getpass
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from command_line import HERE, configure, operate, settings, syncd
from syncd.acts import Discarded, Released, WroteRows
from syncd.event import Event
from syncd.events import HoldEnded, HoldOpened
from syncd.model import ListName
from syncd.outcomes import Outcome
from syncd.report import overview
from syncd.report.judged import ListView
from syncd.service.holds import Holds
from syncd.service.list_events import emit_opened
from syncd.service.web.dashboard.details import list_page
from syncd.service.web.dashboard.tasks import PageData, tasks
from test_daemon import daemon, today  # noqa: F401 - a fixture
from test_judged import check, text
from test_metrics import now as scraped
from world import HEAD, World, row, rows

EMPTIED = "the update would leave the list without any entry"
COMMANDS = "`syncd release 1 --reason R` publishes it, `syncd discard 1 --reason R` drops it"
ME = getpass.getuser()


@pytest.fixture
def held(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An operator of one list with three entries, of which the removal of all is held as hold 1."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    assert syncd("sync").code == 0
    world.publish(remove=rows(0, 3))
    world.clock.forward(minutes=10)
    assert syncd("sync").code == 3
    world.clock.forward(minutes=10)
    return world


def acts(world: World) -> Sequence[tuple[str, object]]:
    """The newest two decisions in the audit log, the newest first."""
    with world.publisher() as publisher:
        entries = publisher.catalog.audit_entries()
    return [(one.actor, one.act) for one in entries if isinstance(one.act, Released | Discarded)][:2]


def listed(world: World) -> ListView:
    """The one list, as every view has it."""
    with world.publisher() as publisher:
        (one,) = overview.read(world.state, publisher.catalog, {"iwf": 600.0}, world.clock()).lists
        return one


# the commands, without a daemon


def test_nothing_held_is_said_in_words(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is an empty document."""
    operate(world, monkeypatch)
    assert (syncd("holds").code, syncd("holds").out) == (0, "nothing is held\n")
    assert syncd("holds", "--json").json == {"holds": []}


def test_holds_are_a_table_of_80_columns(held: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without a terminal: number, list, lane, rows, since, and why below; the refused ones apart, with who."""
    monkeypatch.delenv("COLUMNS", raising=False)
    ran = syncd("holds")
    head, line, reason = ran.out.splitlines()
    assert head.split() == ["hold", "list", "lane", "rows", "since"]
    assert re.split(r"  +", line.strip()) == ["1", "iwf.images", "removals", "3", "10 minutes ago"]
    assert reason == f"hold 1: {EMPTIED}"
    assert max(map(len, ran.out.splitlines())) <= 80
    assert ran.err.startswith("to do: `syncd release HOLD --reason R` publishes it")
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, syncd("holds").out.splitlines())) <= 80
    assert syncd("discard", 1, "--reason", "IWF told us on the telephone that it was a mistake of theirs").code == 0
    out = syncd("holds").out
    assert max(map(len, out.splitlines())) <= 80
    monkeypatch.delenv("COLUMNS")
    nothing, blank, refused, head, line, *why = syncd("holds").out.splitlines()
    assert (nothing, blank, refused) == ("nothing is held", "", "refused:")
    assert head.split("  ")[0] == "hold"
    assert why == ["hold 1: IWF told us on the telephone that it was a mistake of theirs"]
    assert re.split(r"  +", line.strip()) == [
        "1",
        "iwf.images",
        "removals",
        "3",
        ME,
        "2026-01-01 12:20",
    ]


def test_holds_are_a_document(held: World) -> None:
    """With the reasons, and what to do."""
    (hold,) = syncd("holds", "--json").json["holds"]
    assert len(hold.pop("sha256")) == 64
    assert [finding["reason"] for finding in hold.pop("findings")] == ["emptied"]
    assert hold == {
        "hold": 1,
        "list": "iwf.images",
        "source": "iwf",
        "lane": "removals",
        "rows": 3,
        "reasons": ["emptied"],
        "message": EMPTIED,
        "to_do": f"ask the partner whether this was intended; {COMMANDS}",
        "state": "open",
        "opened_at": "2026-01-01T12:10:00Z",
        "ended_at": None,
        "ended_by": "",
        "ended_reason": "",
    }


def test_one_hold_shows_what_would_change(held: World) -> None:
    """By algorithm and label; never a row."""
    ran = syncd("holds", 1)
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "hold 1 of iwf.images (removals): 3 rows",
        f"why: {EMPTIED}",
        "",
        "algorithm  label  added  removed  relabelled",
        "sha256     A          0        1           0",
        "sha256     B          0        1           0",
        "sha256     C          0        1           0",
    ]
    assert COMMANDS in ran.err
    document = syncd("holds", 1, "--json").json
    assert document["counts"] == {"sha256": {"added": 0, "relabelled": 0, "removed": 3}}
    assert (document["hold"], document["out"]) == (1, None)
    assert row(1)[1] not in ran.out + str(document)


def test_the_rows_of_a_hold_go_to_a_private_file_and_into_the_audit_log(held: World, tmp_path: Path) -> None:
    """Once; a file that exists is never written over, and none lies in the state."""
    path = tmp_path / "rows.csv"
    assert syncd("holds", 1, "--out", path).out.endswith(f"3 rows written to {path}\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(path.read_text().splitlines()[1:]) == sorted(
        f"removed,sha256,{digest},{entry},{label}," for _, digest, entry, label in rows(0, 3)
    )
    assert syncd("holds", 1, "--out", path).code == 2
    assert syncd("holds", 1, "--out", held.state.root / "rows.csv").code == 2
    assert syncd("holds", "--out", path).code == 2
    with held.publisher() as publisher:
        written = [one.act for one in publisher.catalog.audit_entries() if isinstance(one.act, WroteRows)]
    assert written == [WroteRows(HEAD, "hold 1", 3, str(path))]


def test_a_hold_that_is_not_there_is_said(held: World) -> None:
    """With the number, and by whom it was ended."""
    assert syncd("holds", 9).code == 2
    assert syncd("release", 1, "--reason", "r").code == 0
    assert (syncd("holds", 1).code, syncd("holds", 1).err.splitlines()[0]) == (
        6,
        f"error: hold 1 of iwf.images was released already by {ME}",
    )


def test_a_whole_update_shows_what_would_change(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first version without enough rows: all of it."""
    operate(world, monkeypatch)
    configure(world.base / "syncd.toml", settings(world, "[sources.iwf.gate]\nmin_rows = 50\n"), monkeypatch)
    world.publish(full=rows(0, 3))
    assert syncd("sync").code == 3
    assert syncd("holds", 1, "--json").json["counts"] == {"sha256": {"added": 3, "relabelled": 0, "removed": 0}}


def test_a_source_is_verified_while_a_list_is_held(held: World) -> None:
    """What is held was verified: monitoring of the source's age goes on, and the hold is reported by itself."""
    document = syncd("status", "--json").json
    assert document["sources"][0]["verified_at"] == "2026-01-01T12:10:00Z"
    assert syncd("sync").code == 3
    document = syncd("status", "--json").json
    assert document["sources"][0]["verified_at"] == document["lists"][0]["verified_at"] == "2026-01-01T12:20:00Z"
    assert document["lists"][0]["last_sync"]["outcome"] == "held"


@pytest.mark.parametrize(("command", "outcome"), [("release", "published"), ("discard", "up_to_date")])
def test_the_last_sync_of_a_list_is_shown_as_an_operator_left_it(held: World, command: str, outcome: str) -> None:
    """After a release its rows are published; after a discard there is nothing to publish."""
    assert syncd(command, 1, "--reason", "asked them").code == 0
    document = syncd("status", "--json").json
    assert document["lists"][0]["last_sync"]["outcome"] == outcome
    assert document["lists"][0]["act"] is None


def test_a_release_says_what_was_published(held: World) -> None:
    """List, version and rows; the audit log keeps who and why, and the list goes on."""
    ran = syncd("release", 1, "--reason", "asked them")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "hold 1 of iwf.images was released: 3 rows (removals) released\niwf.images version 2: published, 0 rows\n"
    )
    assert acts(held)[0] == (ME, Released("1", HEAD, "removals", 3, "asked them"))
    assert not held.pull().errors
    assert held.hits(1) == []
    assert syncd("sync").code == 0


def test_a_release_publishes_only_what_is_still_wanted(held: World) -> None:
    """The partner put two of the three back meanwhile."""
    held.publish(add=[row(number, "ABC"[number % 3]) for number in range(2)])
    assert syncd("sync").code == 3
    ended = syncd("release", 1, "--reason", "asked them", "--json").json["ended"]
    assert (ended["state"], ended["wanted_rows"], ended["published"], ended["rows_in_force"]) == (
        "released",
        1,
        True,
        2,
    )


def test_a_release_of_what_nobody_wants_any_more_says_so(held: World) -> None:
    """What joined its lane later is judged by itself, and here passes."""
    held.publish(add=rows(7, 9))
    assert syncd("sync").code == 3
    held.publish(remove=[row(7)])
    assert syncd("sync").code == 3
    held.publish(add=rows(0, 3))
    assert syncd("sync").code == 3
    assert syncd("release", 1, "--reason", "asked them").out == (
        "hold 1 of iwf.images was released: none of its rows is still wanted\n"
        "iwf.images version 3: published, 4 rows\n"
        "hold 2 ended with it: passed\n"
    )
    assert syncd("holds").out == "nothing is held\n"


def test_a_discard_stops_the_alarm(held: World) -> None:
    """The next sync ends with 0, and a release after all does what it says."""
    ran = syncd("discard", 1, "--reason", "a mistake of theirs")
    assert (ran.code, ran.out) == (
        0,
        "hold 1 of iwf.images was discarded: 3 rows (removals) stay out\n"
        "iwf.images version 1: served, as before, 3 rows\n",
    )
    assert acts(held)[0] == (ME, Discarded("1", HEAD, "removals", 3, "a mistake of theirs"))
    assert check()[0] == 0
    held.clock.forward(minutes=1)
    assert syncd("sync").code == 0
    assert check()[0] == 0
    assert syncd("release", 1, "--reason", "it was none").out.endswith("iwf.images version 2: published, 0 rows\n")


@pytest.mark.parametrize("command", ["release", "discard"])
def test_what_is_wrong_with_an_order_is_its_exit_code(held: World, command: str) -> None:
    """2: no such hold, no reason; 6: ended already, by whom; nothing is changed."""
    assert syncd(command, 1).code == 2
    none = syncd(command, 7, "--reason", "r")
    assert (none.code, none.err) == (2, "error: there is no hold 7\n  to do: `syncd holds` lists the open holds\n")
    assert syncd(command, 1, "--reason", " ").err.startswith("error: a reason is needed\n")
    assert syncd(command, 1, "--reason", " ").code == 2
    assert syncd(command, 0, "--reason", "r").code == 2
    assert len(syncd("holds", "--json").json["holds"]) == 1
    assert syncd(command, 1, "--reason", "r").code == 0
    again = syncd(command, 1, "--reason", "r")
    word = "released" if command == "release" else "discarded"
    assert (again.code, again.err.splitlines()[0]) == (6, f"error: hold 1 of iwf.images was {word} already by {ME}")
    assert [type(act) for _, act in acts(held)].count(Released if command == "release" else Discarded) == 1


def test_rows_of_a_hold_that_were_lost_are_held_again_by_the_next_sync(held: World) -> None:
    """As the error says; it says too what is served. Then the new hold can be released."""
    public = {path.name for path in held.state.feed.root.glob("v1/iwf.images/segments/*")}
    for path in held.state.source("iwf").root.glob("v1/images/segments/*"):
        if path.name not in public:
            path.unlink()
    lost = syncd("release", 1, "--reason", "r")
    assert (lost.code, lost.err) == (
        1,
        "error: files that hold 1 of iwf.images needs are missing on this disk\n"
        "  still served: iwf.images version 1\n"
        "  to do: run `syncd sync iwf`: it opens a new hold for the rows that still wait\n",
    )
    assert syncd("sync", "iwf").code == 3
    assert [one["hold"] for one in syncd("holds", "--json").json["holds"]] == [2]
    assert syncd("release", 2, "--reason", "r").code == 0


def test_what_a_held_sync_says_to_do_can_be_done(held: World) -> None:
    """The commands that it names, with the number of the hold."""
    ran = syncd("sync")
    assert ran.err == (
        f"held: iwf.images: {EMPTIED}\n"
        "  still served: iwf.images version 1\n"
        f"  to do: ask the partner whether this was intended; {COMMANDS}\n{HERE}"
    )
    command = re.search(r"`syncd (release .*?)`", ran.err)
    assert command
    assert syncd(*command[1].split()).code == 0


# one judgement, many views


def test_a_hold_is_told_until_it_is_ended(held: World) -> None:
    """By status, probe, dashboard and metrics, also when the last sync published the other lane; then by none."""
    held.publish(add=[row(7)])
    assert syncd("sync").code == 3
    told = f"hold 1: 3 rows (removals): {EMPTIED}; {COMMANDS}"
    assert syncd("status").err == f"warning: iwf.images: {told}\n"
    assert check() == (1, f"SYNCD WARNING - iwf.images: {told}")
    (one,) = syncd("status", "--json").json["lists"]
    assert (one["version"], one["act"], one["last_sync"]["outcome"]) == (2, told, "held")
    assert one["holds"] == [
        {
            "hold": 1,
            "lane": "removals",
            "rows": 3,
            "reasons": ["emptied"],
            "message": EMPTIED,
            "opened_at": "2026-01-01T12:10:00Z",
            "age_seconds": 600,
            "to_do": f"ask the partner whether this was intended; {COMMANDS}",
        }
    ]
    assert scraped(held)("syncd_holds", source="iwf", list=HEAD, lane="removals") == 1
    assert syncd("release", 1, "--reason", "r").code == 0
    assert syncd("status").err == ""
    assert check()[0] == 0
    (one,) = syncd("status", "--json").json["lists"]
    assert (one["holds"], one["act"], one["last_sync"]["outcome"]) == ([], None, "published")
    after = scraped(held)
    assert after("syncd_holds", source="iwf", list=HEAD, lane="removals") == 0
    assert after.ones("syncd_source_held", "reason") == []


def test_a_hold_is_told_beside_what_else_is_wrong(held: World) -> None:
    """A partner out of reach does not hide it, and it stays as urgent."""
    timestamp = held.partner.path("metadata/timestamp.json")
    timestamp.unlink()
    assert syncd("sync").code == 5
    view = listed(held)
    assert view.outcome is Outcome.UNREACHABLE
    assert view.why.endswith(f"; hold 1: 3 rows (removals): {EMPTIED}; {COMMANDS}")
    assert check()[0] == 1


def test_a_hold_is_told_though_the_last_sync_went_well(held: World) -> None:
    """That one followed other lists only: what waits still does."""
    held.publish(full=rows(20, 22), name=ListName("videos"))
    assert held.sync(lists=("videos",)).exit_code == 0
    told = f"hold 1: 3 rows (removals): {EMPTIED}; {COMMANDS}"
    assert check() == (1, f"SYNCD WARNING - iwf.images: {told}")
    images, videos = syncd("status", "--json").json["lists"]
    assert (images["last_sync"]["outcome"], images["last_sync"]["reasons"]) == ("held", ["emptied"])
    assert (videos["last_sync"]["outcome"], videos["act"]) == ("published", None)
    assert scraped(held).ones("syncd_source_held", "reason") == ["emptied"]


def test_the_dashboard_shows_holds_and_only_looks(held: World) -> None:
    """Age, rows, reasons and the commands; no form and no button."""
    with held.publisher() as publisher:
        seen = overview.read(held.state, publisher.catalog, {"iwf": 600.0}, held.clock())
    found = PageData(seen, tasks(seen))
    (task,) = found.tasks
    assert (task.urgent, task.to_do) == (
        True,
        f"Ask the partner whether this was intended; {COMMANDS}. The last verified version stays served.",
    )
    page = list_page(found, seen.lists[0], ())
    assert (
        f"1 removals 3 3 sha256 to remove {EMPTIED} 10 minutes ago syncd release 1 --reason R publishes it, "
        "syncd discard 1 --reason R drops it"
    ) in text(page)
    assert not re.search("<(form|button|input)", str(page))


def test_a_list_without_holds_has_no_such_section(held: World) -> None:
    """Once the hold is ended."""
    assert syncd("discard", 1, "--reason", "r").code == 0
    view = listed(held)
    with held.publisher() as publisher:
        seen = overview.read(held.state, publisher.catalog, {"iwf": 600.0}, held.clock())
    assert "Held" not in text(list_page(PageData(seen, ()), view, ()))


# by the daemon


def test_the_daemon_opens_lists_and_ends_holds(today: World) -> None:  # noqa: F811 - a fixture
    """Each is logged; who asked is in the audit log; a second release is refused."""
    with daemon(today) as running:
        assert syncd("sync").code == 0
        today.publish(remove=rows(0, 3))
        assert syncd("sync").code == 3
        opened = running.until("hold_opened")
        assert (opened["level"], opened["hold"], opened["list"], opened["lane"], opened["rows"]) == (
            "error",
            1,
            "iwf.images",
            "removals",
            3,
        )
        assert opened["to_do"].endswith(COMMANDS)
        assert [one["hold"] for one in syncd("holds", "--json").json["holds"]] == [1]
        assert syncd("status", "--json").json["lists"][0]["holds"][0]["hold"] == 1
        assert syncd("discard", 1, "--reason", "first").out.startswith("hold 1 of iwf.images was discarded: 3 rows")
        assert running.until("hold_ended")["ended"] == "discarded"
        ran = syncd("release", 1, "--reason", "asked them", "--json")
        assert (ran.code, ran.json["ended"]["published"], ran.json["ended"]["version"]) == (0, True, 2)
        ended = running.until("hold_ended")
        assert {key: ended[key] for key in ("level", "hold", "ended", "by", "reason")} == {
            "level": "info",
            "hold": 1,
            "ended": "released",
            "by": ME,
            "reason": "asked them",
        }
        again = syncd("release", 1, "--reason", "asked them")
        assert (again.code, again.err.splitlines()[0]) == (
            6,
            f"error: hold 1 of iwf.images was released already by {ME}",
        )
        assert syncd("release", 7, "--reason", "r").code == 2
        assert syncd("discard", 1, "--reason", " ").code == 2
        assert not today.pull().errors
        running.stop()
    assert acts(today) == [
        (ME, Released("1", HEAD, "removals", 3, "asked them")),
        (ME, Discarded("1", HEAD, "removals", 3, "first")),
    ]


@pytest.fixture
def told(held: World) -> Iterator[tuple[Holds, list[Event], list[tuple[ListName, int]], list[bool]]]:
    """The daemon's holds, and what they emit, announce and have looked at anew."""
    log, announced, changed = list[Event](), list[tuple[ListName, int]](), list[bool]()
    with held.publisher() as publisher:
        announcing = replace(publisher, announce=lambda name, version: announced.append((name, version)))
        emit_opened(log.append, publisher.catalog.holds())
        yield Holds(announcing, held.clock, log.append, lambda: changed.append(True)), log, announced, changed


def test_a_release_by_the_daemon_is_announced(told: tuple[Holds, list[Event], list[object], list[bool]]) -> None:
    """To matchers, to the log and to open pages."""
    holds, log, announced, changed = told
    holds.end(1, release=True, user="alice", reason="asked them")
    assert (announced, changed) == ([(HEAD, 2)], [True])
    opened, ended = log
    assert isinstance(opened, HoldOpened)
    assert ended == HoldEnded(1, "iwf", HEAD, "removals", 3, "released", "alice", "asked them")
