"""``syncd audit`` and ``syncd audit verify``, as operators use them."""

import contextlib
import getpass
import json
import sqlite3
from datetime import timedelta
from typing import Any

import pytest

from command_line import operate, syncd
from syncd.acts import Released, RevokedMatcher
from syncd.model import AuditHead
from syncd.operate.repair import recover
from syncd.publish.publication import Proposal
from syncd.trust.repository import Repository
from syncd.trust.values import MetadataUpdate
from world import World, rows


@pytest.fixture
def configured(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An operator with one list, by the world's clock."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    world.sync()
    return world


def state_head(world: World, head: AuditHead) -> None:
    """Publish a timestamp that states the head of the chain, as the feed does."""
    with world.publisher() as publisher:

        def resign(repository: Repository) -> MetadataUpdate:
            stated = {"records": head.records, "head": head.head}
            repository._verified.timestamp.unrecognized_fields["audit"] = stated
            return repository.resign(repository.freshness(), publisher.signers, world.clock())

        publisher.core.publish_fixed("a test", Proposal("resign", resign=resign), world.clock())


def records(*filters: object) -> list[dict[str, Any]]:
    """What `syncd audit --json` prints: one document a line."""
    ran = syncd("audit", *filters, "--json")
    assert ran.code == 0
    return [json.loads(line) for line in ran.out.splitlines()]


def append(world: World, count: int = 1) -> AuditHead:
    with world.publisher() as publisher:
        for number in range(count):
            head = publisher.catalog.append("alice", RevokedMatcher(f"web-{number}"), world.clock())
        return head


def execute(world: World, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(world.state.catalog_file)) as connection, connection:
        connection.execute(statement)


def test_the_log_is_a_table_of_80_columns_the_newest_last(configured: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who, when and what, in plain words."""
    with configured.publisher() as publisher:
        act = Released("5" * 64, "iwf.images", "removals", 1200, "the partner confirmed it by telephone this morning")
        publisher.catalog.append("alice", act, configured.clock())
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = syncd("audit").out.splitlines()
    assert lines[0].split() == ["number", "time", "(UTC)", "who", "what"]
    assert lines[-1].split(maxsplit=4)[3:] == ["alice", act.words]
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, syncd("audit").out.splitlines())) <= 80


def test_records_are_chosen_by_time_and_actor(configured: World) -> None:
    """A time, or a duration ago."""
    append(configured)
    configured.clock.forward(days=2)
    head = append(configured)
    found = records("--since", "24h")
    assert [(one["number"], one["actor"], one["act"], one["fields"]) for one in found] == [
        (head.records, "alice", "revoked_matcher", {"matcher": "web-0"})
    ]
    assert found[0]["sha256"] == head.head
    since = (configured.clock() - timedelta(days=3)).strftime("%Y-%m-%d")
    assert len(records("--since", since, "--actor", "alice")) == 2
    assert [one["number"] for one in records("--since", since, "--until", "24h", "--actor", "alice")] == [
        head.records - 1
    ]
    assert [one["act"] for one in records("--act", "published_version")] == ["published_version"]
    assert [one["act"] for one in records("--list", "iwf.images", "--limit", "1")] == ["published_version"]
    assert syncd("audit", "--actor", "nobody").out == "no such record\n"


@pytest.mark.parametrize(
    "since", ["yesterday", "", "24", "-1h", "2026-13-01", "0001-01-01T00:00+14:00", "99999999999d"]
)
def test_a_bad_time_ends_in_2_with_help(configured: World, since: str) -> None:
    """Of which kinds there are."""
    ran = syncd("audit", "--since", since)
    assert ran.code == 2
    assert ran.err.splitlines()[0] == "error: --since is neither a time nor a duration"
    assert "24h" in ran.err


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (("--act", "release"), "there is no act of that name", "did you mean released?"),
        (("--list", "IWF"), "'IWF' is not a list name", ""),
        (("--since", "1h", "--until", "2h"), "--since is after --until", "exchange the two times"),
        (("--until", "soon"), "--until is neither a time nor a duration", ""),
        (("--limit", "0"), "", ""),
    ],
)
def test_a_filter_that_is_not_valid_is_named(configured: World, options: Any, message: str, hint: str) -> None:
    """Else it would choose nothing, which reads like an answer."""
    ran = syncd("audit", *options)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert hint in ran.err


def test_options_before_verify_are_not_passed_over(configured: World) -> None:
    """Another log would be verified than was meant."""
    assert syncd("audit", "--json", "verify").code == 2


def test_an_unbroken_log_is_proved(configured: World) -> None:
    """By itself, and by what the feed states of it."""
    head = append(configured, 3)
    ran = syncd("audit", "verify")
    assert (ran.code, ran.out) == (0, f"unbroken: {head.records} records, compared with 2 signed documents\n")
    assert ran.err == ""
    state_head(configured, head)
    append(configured)
    ran = syncd("audit", "verify")
    assert (ran.code, ran.out, ran.err) == (
        0,
        f"unbroken: {head.records + 1} records, compared with 2 signed documents\n",
        "",
    )


def test_a_changed_record_is_named(configured: World) -> None:
    """Exit code 4."""
    head = append(configured, 3)
    execute(configured, f"UPDATE audit SET actor = 'eve' WHERE number = {head.records - 1}")
    ran = syncd("audit", "verify")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.splitlines()[0] == (
        f"broken: record {head.records - 1} does not match its hash: the record, or the hash before it, was changed"
    )
    document = syncd("audit", "verify", "--json").json
    assert (document["unbroken"], [one["number"] for one in document["faults"]]) == (False, [head.records - 1])


def test_records_cut_off_the_end_are_missed(configured: World) -> None:
    """Since the feed states how many there were."""
    head = append(configured, 3)
    state_head(configured, head)
    execute(configured, f"DELETE FROM audit WHERE number > {head.records - 2}")
    ran = syncd("audit", "verify")
    assert (ran.code, ran.err.splitlines()[0]) == (
        4,
        f"broken: the timestamp states {head.records} records, but the log has {head.records - 2}:"
        " the newest are missing",
    )


def test_a_restored_catalog_says_so_once(configured: World) -> None:
    """What the backup lacks is a gap, not a crime; the recovery itself is on record."""
    kept = configured.base / "kept.sqlite3"
    with configured.publisher() as publisher:
        publisher.catalog.backup(kept)
        before = publisher.catalog.audit_head()
    head = append(configured, 3)
    state_head(configured, head)
    for path in configured.state.root.glob("catalog.sqlite3*"):
        path.unlink()
    kept.rename(configured.state.catalog_file)
    assert syncd("audit", "verify").code == 4
    with configured.publisher() as publisher:
        recover(publisher, 100, configured.clock(), getpass.getuser())
    ran = syncd("audit", "verify")
    assert ran.code == 0
    assert ran.err.count("restored a backup") == 1
    acts = [(one["actor"], one["act"], one["fields"]) for one in records()[before.records :]]
    assert [one[:2] for one in acts] == [
        (getpass.getuser(), "published_version"),
        (getpass.getuser(), "restored"),
        (getpass.getuser(), "published_above"),
    ]
    assert acts[1][2] == {"records": head.records, "head": head.head}
