"""What `syncd status` says of what is to come, and the document that it prints."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from certificates import Authority
from command_line import ALONE, Ran, operate, syncd
from schemas import DOCS, SCHEMAS, schema
from syncd.catalog.records import LoadedVersion
from syncd.certificates import views
from syncd.errors import RefusedError, StoreError, SyncdError, UsageError
from syncd.operate.matchers import add
from syncd.outcomes import HoldReason, reasons_in_words
from syncd.report import overview
from syncd.report.judged import Overview, StorageFault
from syncd.report.status import status_document
from syncd.report.status_types import StatusDocument
from syncd.service.access import Access
from syncd.service.checkins import Checkins
from syncd.service.control import ControlSocket, Handle, Order
from syncd.service.list_orders import ListOrders
from syncd.service.orders import Orders
from syncd.service.questions import Questions
from syncd.service.syncs import Syncs
from syncd.settings import Certificate
from syncd.units import stamp
from test_daemon import daemon, text, today
from world import HEAD, START, World, rows

__all__ = ["today"]  # a fixture


@pytest.fixture
def configured(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An operator with one source, of which something is published."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    syncd("sync")
    return world


def plan(world: World, minutes: float, **more: object) -> None:
    """What a daemon would remember of its schedule."""
    with world.publisher() as publisher:
        at = world.clock.now + timedelta(minutes=minutes)
        publisher.catalog.note_schedule("iwf", at, **more)  # type: ignore[arg-type]  # as a test gives them


def test_status_shows_when_the_next_sync_is_due(configured: World) -> None:
    """As the daemon planned it; where none ever ran, nothing is said."""
    assert "next sync" not in syncd("status").out
    plan(configured, 7)
    assert syncd("status").out.endswith("\niwf: next sync in 7 minutes\n" + ALONE)
    source = syncd("status", "--json").json["sources"][0]
    assert (source["next_sync_at"], source["cool_down_until"], source["failures"]) == ("2026-01-01T12:07:00Z", None, 0)


def test_status_shows_a_cool_down(configured: World) -> None:
    """A source that could not be reached is left alone for a while: until when, and after how many failures."""
    plan(configured, 5, cool_down_until=configured.clock.now + timedelta(minutes=5), failures=3)
    assert syncd("status").out.endswith("\niwf: next sync in 5 minutes: paused after 3 failures in a row\n" + ALONE)
    assert syncd("status", "--json").json["sources"][0]["cool_down_until"] == "2026-01-01T12:05:00Z"


def test_status_says_when_the_next_sync_is_overdue(configured: World) -> None:
    """A planned time that has passed minutes ago: no daemon runs."""
    plan(configured, -6)
    assert syncd("status").out.endswith("\niwf: the next sync is overdue: check that the daemon is running\n" + ALONE)


def test_status_says_when_a_certificate_ends(configured: World, tmp_path: Path) -> None:
    """A week before, since those who renew by themselves have failed by then; and what to do."""
    ours, now = Authority(tmp_path, "ours"), configured.clock.now
    path, key = ours.certificate("client", until=now + timedelta(days=8))
    with (tmp_path / "syncd.toml").open("a") as config:
        config.write(f'client_cert = "{path}"\nclient_key = "{key}"\n')
    assert (syncd("status").err, syncd("status", "--check").code) == ("", 0)
    assert syncd("status", "--json").json["certificates"] == [
        {
            "use": "client",
            "source": "iwf",
            "expires": "2026-01-09T12:00:00Z",
            "seconds_left": 691200,
            "state": "ok",
            "act": None,
            "section": None,
        }
    ]
    ours.certificate("client", until=now + timedelta(days=6))
    told = f"the client certificate for iwf expires in 6 days: put a valid certificate at {path}"
    assert syncd("status").err == f"warning: {told}\n"
    probed = syncd("status", "--check")
    assert (probed.code, probed.out.partition(" | ")[0]) == (2, f"SYNCD CRITICAL - {told}")
    assert [one["act"] for one in syncd("status", "--json").json["certificates"]] == [told]


@pytest.mark.parametrize(
    ("after", "state", "why"),
    [
        (timedelta(days=-7, seconds=-1), "ok", ""),
        (timedelta(days=-7), "within 7 days", "the server's certificate expires in 7 days"),
        (timedelta(0), "expired", "the server's certificate expired 0 seconds ago"),
        (timedelta(hours=3), "expired", "the server's certificate expired 3 hours ago"),
    ],
)
def test_a_certificate_is_judged_by_its_end(tmp_path: Path, after: timedelta, state: str, why: str) -> None:
    """Expired: from the very second on."""
    end = datetime(2026, 3, 1, 12, tzinfo=UTC)
    path, _ = Authority(tmp_path, "ours").certificate("server", until=end)
    (seen,) = views([Certificate("server", "", path)], end + after)
    assert (seen.validity, seen.why) == (state, why)


def test_a_certificate_that_is_not_valid_yet_may_be_the_fault_of_the_clock(tmp_path: Path) -> None:
    """So that is to be checked as well."""
    path, _ = Authority(tmp_path, "ours").certificate("server", until=datetime(2026, 3, 1, tzinfo=UTC))
    (seen,) = views([Certificate("server", "", path)], datetime(2024, 12, 30, tzinfo=UTC))
    assert (seen.validity, seen.why) == ("not yet valid", "the server's certificate is not valid for another 2 days")
    assert seen.to_do == f"check the clock of this host, or put a valid certificate at {path}"


def test_a_certificate_that_cannot_be_read_is_left_to_the_daemon(tmp_path: Path) -> None:
    """It may be the daemon's alone."""
    tmp_path.joinpath("none.pem").write_text("no certificate")
    assert views([Certificate("server", "", tmp_path / name) for name in ("none.pem", "gone.pem")], START) == ()


def test_an_older_daemon_says_nothing_of_certificates_and_faults(configured: World) -> None:
    """What it tells is shown all the same."""
    alone = [apart(syncd(*look)) for look in (("status",), ("status", "--check"))]

    document = syncd("status", "--json").json
    del document["certificates"], document["storage_faults"]
    with listening(configured, lambda order, user: iter([{"document": document, "end": 0}])):
        assert [apart(syncd(*look)) for look in (("status",), ("status", "--check"))] == alone


def test_status_says_what_storage_keeps_a_daemon_from_doing(configured: World) -> None:
    """How long it has failed, why, and what to do; the check calls it critical, though no list is red yet."""
    document = syncd("status", "--json").json
    fault = {"what": "sync of iwf", "message": "the disk is full", "to_do": "free space"}
    document["storage_faults"] = [{**fault, "since": stamp(configured.clock() - timedelta(minutes=3))}]
    with listening(configured, lambda order, user: iter([{"document": document, "end": 0}])):
        assert syncd("status").err == "warning: sync of iwf: the disk is full (for 3 minutes): free space\n"
        check = syncd("status", "--check")
    assert (check.code, check.out.partition(" | ")[0]) == (2, "SYNCD CRITICAL - sync of iwf: the disk is full")


def test_faults_are_in_the_document(configured: World) -> None:
    """As the daemon found them."""
    fault = StorageFault("sync of iwf", configured.clock(), "the disk is full", "free space")
    with configured.publisher() as publisher:
        found = overview.read(publisher.folder, publisher.catalog, {"iwf": 600.0}, configured.clock())
    document = status_document(replace(found, faults=(fault,))).model_dump(mode="json")
    assert document["storage_faults"] == [
        {
            "what": "sync of iwf",
            "since": stamp(configured.clock()),
            "message": "the disk is full",
            "to_do": "free space",
            "section": "SyncdInternalErrors",
        }
    ]


def test_status_says_whether_a_list_is_stale(configured: World) -> None:
    """In the document, for machines."""
    assert [one["stale"] for one in syncd("status", "--json").json["lists"]] == [False]
    configured.clock.forward(hours=7)
    listed = syncd("status", "--json").json["lists"][0]
    assert (listed["list"], listed["stale"], listed["age_seconds"]) == (HEAD, True, 25200)
    assert (listed["freshness"], listed["warn_seconds"], listed["limit_seconds"]) == ("stale", 3600, 25200)


def test_status_names_matchers_that_do_not_follow(configured: World) -> None:
    """Who they are, and why somebody should look."""
    with configured.publisher() as publisher:
        add(publisher.catalog, "web", (), asked_by="test", now=configured.clock.now, token="secret")
        loaded = LoadedVersion("web", "web-3", HEAD, 1, configured.clock.now, configured.clock.now)
        publisher.catalog.replace_loaded((), [loaded])
    assert syncd("status").err == ""
    configured.clock.forward(minutes=16)
    assert syncd("status").err == "warning: matcher web: web-3 has not checked in for 16 minutes\n"
    probed = syncd("status", "--check")
    assert (probed.code, "matcher web" in probed.out) == (2, True)
    assert syncd("status", "--json").json["matchers"] == [
        {
            "matcher": "web",
            "lists": None,
            "created_at": "2026-01-01T12:00:00Z",
            "seen_at": "2026-01-01T12:00:00Z",
            "instances": 1,
            "behind": 0,
            "silent": 1,
            "lagging": 1,
            "level": "critical",
            "act": "web-3 has not checked in for 16 minutes",
            "section": "SyncdMatcherSilent",
            "laggards": [
                {
                    "instance": "web-3",
                    "seen_at": "2026-01-01T12:00:00Z",
                    "act": "has not checked in for 16 minutes",
                }
            ],
        }
    ]


def test_status_needs_nothing_of_what_reads_lists(configured: World) -> None:
    """It answers at once: loading numpy and pyarrow would take longer than all that it does."""
    assert loads("numpy", "pyarrow", "tuf.ngclient", by=("status",)) == []


def loads(*modules: str, by: tuple[str, ...]) -> list[str]:
    """Which of these a command loads."""
    code = f"import sys\nfrom syncd.cli.main import main\nmain({by!r})\nprint('', *sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = ran.stdout.splitlines()[-1].split()
    return [one for one in modules if one in loaded]


def test_beside_a_daemon_status_needs_next_to_nothing(today: World) -> None:
    """It answers at once: the daemon has read the catalog, and is asked."""
    assert loads("sqlalchemy", by=("status",)) == ["sqlalchemy"]
    (today.base / "syncd.toml").write_text(text(today, "https://feed.example.org/"))
    heavy = ("sqlalchemy", "httpx", "cryptography", "numpy", "pyarrow", "rich", "syncd.report.overview")
    with daemon(today):
        for command in (("status", "--json"), ("status", "--check"), ("matchers",)):
            assert loads(*heavy, by=command) == []


@contextmanager
def listening(world: World, handle: Handle | None = None) -> Iterator[None]:
    """A daemon's control socket, by the world's clock."""
    with world.publisher() as publisher:

        def look() -> Overview:
            return overview.read(publisher.folder, publisher.catalog, {"iwf": 600.0}, world.clock())

        catalog, nobody = publisher.catalog, cast(Syncs, None)
        orders = Orders(
            state_dir=str(world.state.root),
            syncs=nobody,
            catalog=catalog,
            sources=lambda _: (),
            overview=look,
            access=Access(catalog),
            checkins=Checkins(catalog),
            clock=world.clock,
            emit=lambda _: None,
            lists=ListOrders(publisher, world.clock, lambda _: None, lambda: None, cast(Any, None)),
            questions=Questions(world.state, catalog, world.clock),
        )
        socket = ControlSocket(world.base / "c.sock", handle or orders, lambda _: None)
        socket.open()
        with closing(socket):
            yield


def apart(ran: Ran) -> Ran:
    """The output of a command, without the line that says who answered."""
    said = r'^(no daemon is running|the daemon does not answer):.*\n|,\n  "daemon": "[a-z ]+"'
    probed = r"; no daemon is running, so no source is synced"
    return replace(ran, out=re.sub(probed, "", re.sub(said, "", ran.out, flags=re.M)))


LOOKS = (
    ("status",),
    ("status", "--json"),
    ("status", "--check"),
    ("matchers",),
    ("matchers", "--json"),
    ("holds",),
    ("holds", "--json"),
)


def troubled(world: World) -> None:
    """A world in which there is something to say of everything."""
    world.publish(remove=rows(0, 3))
    world.clock.forward(minutes=1)
    syncd("sync")
    with world.publisher() as publisher:
        for name, instances in (("web", 24), ("mail", 1)):
            add(publisher.catalog, name, (), asked_by="test", now=world.clock.now, token=name)
            for number in range(instances):
                loaded = LoadedVersion(name, f"{name}-{number:02}", HEAD, 1, world.clock.now, world.clock.now)
                publisher.catalog.replace_loaded((), [loaded])
    plan(world, 25, cool_down_until=world.clock.now + timedelta(minutes=25), failures=2)
    world.clock.forward(minutes=20)


def test_a_daemon_tells_the_same(configured: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the byte, on the screen and for machines; also to an operator who does not own the state."""
    troubled(configured)
    alone = [apart(syncd(*look)) for look in LOOKS]
    assert [ran.code for ran in alone] == [0, 0, 2, 0, 0, 0, 0]
    assert alone[0].err == (
        "warning: iwf.images: hold 1: 3 rows (removals): the update would leave the list without any entry; "
        "`syncd release 1 --reason R` publishes it, `syncd discard 1 --reason R` drops it\n"
        "warning: matcher mail: mail-00 has not checked in for 20 minutes\n"
        + "".join(f"warning: matcher web: web-0{number} has not checked in for 20 minutes\n" for number in range(4))
        + "warning: and 20 instances more: see `syncd matchers`\n"
    )
    with listening(configured):
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert [apart(syncd(*look)) for look in LOOKS] == alone


def test_who_is_not_let_in_hears_of_the_owner(configured: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As without a daemon."""
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    for look in LOOKS:
        ran = syncd(*look)
        assert (ran.code, "belongs to" in ran.out + ran.err) == (3 if "--check" in look else 6, True)


@pytest.mark.parametrize("error", [UsageError("no order"), RefusedError("not for this user"), StoreError("broke off")])
def test_a_daemon_that_cannot_tell_is_passed_by(configured: World, error: SyncdError) -> None:
    """It is older, busy, or refuses: the owner of the state looks for himself."""
    looks = [look for look in LOOKS if "--check" not in look]
    alone = [apart(syncd(*look)) for look in looks]

    def refuse(order: Order, user: str) -> Iterator[dict[str, Any]]:
        raise error

    with listening(configured, refuse):
        assert [apart(syncd(*look)) for look in looks] == alone
        assert syncd("status", "--json").json["daemon"] == "not answering"
        ran = syncd("status", "--check")
        assert (ran.code, "the daemon does not answer" in ran.out) == (1, True)


def test_a_daemon_that_is_stuck_is_not_waited_for(configured: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Monitoring is answered all the same."""
    monkeypatch.setattr("syncd.cli.operator._REPORT_WITHIN", 0.1)
    go_on = threading.Event()

    def wait(order: Order, user: str) -> Iterator[dict[str, Any]]:
        go_on.wait(60)
        yield {"end": 0}

    with listening(configured, wait):
        assert syncd("status", "--check").code == 1
        go_on.set()


@pytest.mark.parametrize("reason", HoldReason)
def test_every_reason_to_hold_is_told_in_words(reason: HoldReason) -> None:
    """Nobody is shown the bare code."""
    assert reasons_in_words([reason]) == reason.words
    assert " " in reason.words


def test_the_document_is_its_schema(configured: World) -> None:
    """What is printed is what its model, strictly read, accepts."""
    assert StatusDocument.model_validate(syncd("status", "--json").json).lists[0].list == HEAD


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_those_in_the_documentation(name: str) -> None:
    """``python tests/schemas.py`` writes them."""
    assert (DOCS / name).read_text() == schema(SCHEMAS[name])
