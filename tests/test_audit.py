"""The audit log: typed acts in a chain in which every change is found."""

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from databases import alter
from syncd import acts
from syncd.acts import (
    ACTS,
    Act,
    AddedMatcher,
    AskedForSync,
    AuditShortened,
    Earlier,
    OfHold,
    Restored,
    Retired,
    RevokedMatcher,
    act_named,
)
from syncd.catalog.catalog import Catalog
from syncd.catalog.chain import START, AuditCheck, RawRecord, StatedHead, check, link
from syncd.catalog.changes import OriginMove, Records
from syncd.catalog.records import AuditEntry, AuditFilter
from syncd.catalog.tables import canonical, time_text
from syncd.database_address import DatabaseAddress
from syncd.errors import LostRaceError, StoreError
from syncd.model import AuditHead, ListName
from syncd.publish.ledger import Commit
from syncd.units import count

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DOCUMENT = (
    ((Path(__file__).parents[1] / "docs" / "operations.md").read_text())
    .partition("\n## The audit log\n")[2]
    .partition("\n## ")[0]
)
FOURTH_FIXTURE = Path(__file__).parent / "fixtures" / "catalog_v4.sqlite3.sql"
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one, max_size=3))
FIELDS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(0, 1 << 53),
    str: st.text(),
    bool: st.booleans(),
    tuple[str, ...]: st.lists(st.text()).map(tuple),
    tuple[int, ...]: st.lists(st.integers(1, 1 << 53)).map(tuple),
    tuple[str, ...] | None: st.none() | st.lists(st.text()).map(tuple),
}


def an_act(kind: type[Act]) -> st.SearchStrategy[Act]:
    """Any act of that class."""
    if kind is Earlier:
        return st.builds(Earlier, st.text(), st.text(), st.dictionaries(st.text(), JSON))
    return st.builds(kind, **{one.name: FIELDS[one.type] for one in fields(kind)})


ANY_ACT = st.sampled_from(ACTS).flatmap(an_act)


@pytest.fixture
def catalog(tmp_path: Path, database: DatabaseAddress | None) -> Iterator[Catalog]:
    with Catalog.open(database or tmp_path / "catalog.sqlite3") as opened:
        yield opened


# acts


@given(ANY_ACT)
def test_an_act_is_read_as_it_was_written(act: Act) -> None:
    """By its name and its fields, through JSON; and it can be said in words."""
    assert act_named(act.name(), json.loads(canonical(act.document()))) == act
    assert isinstance(act.words, str)


def test_the_set_of_acts_is_closed() -> None:
    """Each class is listed, once."""
    defined = {one for one in vars(acts).values() if isinstance(one, type) and issubclass(one, Act)}
    assert set(ACTS) == defined - {Act, OfHold}
    assert len({one.name() for one in ACTS}) == len(ACTS)


@pytest.mark.parametrize("kind", ACTS, ids=lambda kind: kind.name())
def test_every_act_and_field_is_documented(kind: type[Act]) -> None:
    """A row for each, which names its fields and no other."""
    (row,) = [line for line in DOCUMENT.splitlines() if line.startswith(f"| `{kind.name()}` |")]
    stated = row.split("|")[3]
    assert [one.strip(" `").partition("`")[0] for one in stated.split(", ")] == [one.name for one in fields(kind)]


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("flew_away", {}),
        ("revoked_matcher", {}),
        ("revoked_matcher", {"matcher": 3}),
        ("act", {}),
        ("revoked_matcher", 17),
        ("revoked_matcher", ["web"]),
    ],
)
def test_what_is_not_an_act_is_refused(name: str, stated: object) -> None:
    """A name or fields that no act has."""
    with pytest.raises(ValueError, match="an act"):
        act_named(name, stated)


# the chain


def test_a_record_vouches_for_itself_and_all_before(catalog: Catalog) -> None:
    """The hash is what the documentation says, computed here without our code."""
    catalog.append("alice", RevokedMatcher("wéb"), NOON)
    catalog.append("bob", AskedForSync("iwf", "5afe", dry_run=False, joined=True), NOON + timedelta(seconds=1))
    first = hashlib.sha256(
        b'["' + b"0" * 64 + b'",1,"2026-03-01T12:00:00.000000+00:00","alice","revoked_matcher",'
        rb'{"matcher":"w\u00e9b"}]'
    ).hexdigest()
    second = hashlib.sha256(
        b'["' + first.encode() + b'",2,"2026-03-01T12:00:01.000000+00:00","bob","asked_for_sync",'
        b'{"dry_run":false,"joined":true,"reason":"","source":"iwf","sync_id":"5afe"}]'
    ).hexdigest()
    assert [one.sha256 for one in catalog.audit_records()] == [first, second]
    assert catalog.audit_head() == AuditHead(2, second)
    assert catalog.check_audit() == AuditCheck(AuditHead(2, second))


def test_an_empty_log_has_a_head(catalog: Catalog) -> None:
    """What a first publication states."""
    assert catalog.audit_head() == AuditHead(0, START)
    stated = [StatedHead("the timestamp", AuditHead(0, START))]
    catalog.append("alice", RevokedMatcher("web"), NOON)
    assert catalog.check_audit(stated).faults == ()


def test_records_are_found_by_time_and_actor(catalog: Catalog) -> None:
    """The newest are returned, the newest last."""
    for number in range(6):
        catalog.append("ab"[number % 2], RevokedMatcher(str(number)), NOON + timedelta(hours=number))
    found = catalog.audit_records
    assert [one.number for one in found()] == [1, 2, 3, 4, 5, 6]
    assert [one.number for one in found(limit=2)] == [5, 6]
    assert numbers(catalog, AuditFilter(since=NOON + timedelta(hours=3))) == [4, 5, 6]
    assert numbers(catalog, AuditFilter(until=NOON + timedelta(hours=3))) == [1, 2, 3, 4]
    assert numbers(catalog, AuditFilter(actor="a", since=NOON + timedelta(hours=1))) == [3, 5]
    assert numbers(catalog, AuditFilter(actor="a"), 2) == [3, 5]
    assert [one.act for one in catalog.audit_entries(1)] == [RevokedMatcher("5")]


def test_records_are_found_by_act_and_list(catalog: Catalog) -> None:
    """A list is named by an act on it or by the scope of a matcher, never by a reason."""
    acts_done = (
        Retired("iwf.images", "moved"),
        Retired("iwf.video", 'not "list":"iwf.images", nor iwf.images'),
        AddedMatcher("web", (ListName("iwf.video"), ListName("iwf.images"))),
        AddedMatcher("iwf.images", None),
        Retired("iwf.image_", "an underscore is no wildcard"),
        Retired("iwf.imageX".lower(), "nor is the beginning of a name a name"),
    )
    for act in acts_done:
        catalog.append("alice", act, NOON)
    assert numbers(catalog, AuditFilter(list="iwf.images")) == [1, 3]
    assert numbers(catalog, AuditFilter(list="iwf.image_")) == [5]
    assert numbers(catalog, AuditFilter(act="added_matcher", list="iwf.images")) == [3]


def numbers(catalog: Catalog, wanted: AuditFilter, limit: int | None = None) -> list[int]:
    """The numbers of the chosen records: the same read at once and in pages."""
    chosen = [one.number for one in catalog.audit_records(wanted, limit)]
    assert [one.number for page in catalog.audit_pages(wanted, limit) for one in page] == chosen
    return chosen


def test_a_long_log_is_read_in_pages(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the memory nor a transaction holds all of it."""
    monkeypatch.setattr("syncd.catalog.audit._PAGE", 2)
    for number in range(5):
        catalog.append("alice", RevokedMatcher(str(number)), NOON)
    pages = [[one.number for one in page] for page in catalog.audit_pages(AuditFilter())]
    assert pages == [[1, 2], [3, 4], [5]]
    assert [[one.number for one in page] for page in catalog.audit_pages(AuditFilter(), 3)] == [[3, 4], [5]]


def test_a_refused_commit_leaves_no_record(catalog: Catalog) -> None:
    """The record is part of the transaction."""
    from test_catalog import ORIGIN

    audit = (AuditEntry(NOON, "alice", Restored(3, "0" * 64)), AuditEntry(NOON, "alice", RevokedMatcher("web")))
    catalog.commit(Commit("metadata", (), NOON, records=Records(audit=audit)))
    head = catalog.audit_head()
    assert head.records == 2
    stale = Records((OriginMove(ORIGIN, 9),), audit=audit)
    with pytest.raises(LostRaceError):
        catalog.commit(Commit("origin", (), NOON, records=stale))
    assert catalog.audit_head() == head


def chain(entries: list[AuditEntry]) -> list[RawRecord]:
    """Rows as they are stored."""
    found, head = [], START
    for number, one in enumerate(entries, 1):
        at, name, stated = time_text(one.at), one.act.name(), one.act.document()
        head = link(head, number, at, one.actor, name, stated)
        found.append(RawRecord(number, at, one.actor, name, canonical(stated), head))
    return found


def head_of(rows: list[RawRecord]) -> AuditHead:
    return AuditHead(rows[-1].number, rows[-1].sha256)


LOGS = st.lists(
    st.builds(
        AuditEntry,
        st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis
        st.text(max_size=8),
        ANY_ACT.filter(lambda act: not isinstance(act, Restored | AuditShortened)),
    ),
    min_size=1,
    max_size=6,
).map(chain)
VALUES = st.none() | st.integers() | st.text() | st.binary()


@given(LOGS, st.data())
def test_a_change_of_any_field_of_any_row_is_found(rows: list[RawRecord], data: st.DataObject) -> None:
    """Whatever it is changed to; and a log that nobody changed is unbroken."""
    assert check(rows, [StatedHead("the timestamp", head_of(rows))]).faults == ()
    at = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.sampled_from(RawRecord._fields[1:]))
    value = data.draw(VALUES.filter(lambda one: one != getattr(rows[at], column)))
    changed = [*rows[:at], rows[at]._replace(**{column: value}), *rows[at + 1 :]]
    assert rows[at].number in [one.number for one in check(changed).faults]


@given(LOGS, st.data())
def test_a_row_that_was_removed_or_moved_is_found(rows: list[RawRecord], data: st.DataObject) -> None:
    """But for the end of the log, which says nothing of itself."""
    at = data.draw(st.integers(0, len(rows) - 1))
    removed = [*rows[:at], *rows[at + 1 :]]
    assert bool(check(removed).faults) == (at < len(rows) - 1)
    other = data.draw(st.integers(0, len(rows) - 1))
    moved = list(rows)
    moved[at], moved[other] = (
        rows[other]._replace(number=rows[at].number),
        rows[at]._replace(number=rows[other].number),
    )
    assert bool(check(moved).faults) == (at != other)


def test_each_kind_of_tampering_is_named() -> None:
    """Edited, missing in the middle, removed at the end, put in, exchanged: each by the number of the record."""
    rows = chain([AuditEntry(NOON, "alice", RevokedMatcher(str(number))) for number in range(1, 7)])
    stated = [StatedHead("the timestamp", head_of(rows))]

    def messages(tampered: list[RawRecord]) -> list[str]:
        return [fault.message for fault in check(tampered, stated).faults]

    edited = [*rows[:2], rows[2]._replace(actor="eve"), *rows[3:]]
    assert messages(edited) == [
        "record 3 does not match its hash: the record, or the hash before it, was changed",
    ]
    assert messages([*rows[:2], *rows[3:]]) == ["record 3 is missing before record 4"]
    assert messages([*rows[:1], *rows[3:]]) == ["records 2 to 3 are missing before record 4"]
    assert messages(rows[:4]) == ["the timestamp states 6 records, but the log has 4: the newest are missing"]
    assert messages([]) == ["the timestamp states 6 records, but the log has 0: the newest are missing"]
    exchanged = [rows[0], rows[2]._replace(number=2), rows[1]._replace(number=3), *rows[3:]]
    assert messages(exchanged)[:2] == [
        "record 2 was moved: it was record 3",
        "record 3 was moved: it was record 2",
    ]
    far = [rows[4]._replace(number=1), *rows[1:4], rows[0]._replace(number=5), rows[5]]
    assert messages(far)[0] == "record 1 was moved: it was record 5"


@given(LOGS, st.data())
def test_an_end_that_was_cut_off_is_found_by_what_the_feed_states(rows: list[RawRecord], data: st.DataObject) -> None:
    """A signed document that states the head vouches for all records up to it."""
    kept = data.draw(st.integers(0, len(rows) - 1))
    (fault,) = check(rows[:kept], [StatedHead("the timestamp", head_of(rows))]).faults
    assert fault.message == (
        f"the timestamp states {count(len(rows), 'record')}, but the log has {kept}: the newest are missing"
    )


@given(LOGS, st.data())
def test_a_log_that_was_computed_anew_is_found_by_what_the_feed_states(
    rows: list[RawRecord], data: st.DataObject
) -> None:
    """Whoever can write to the catalog can compute a chain, and not the signature."""
    at = data.draw(st.integers(0, len(rows) - 1))
    entries = [AuditEntry(NOON, one.actor, act_named(one.act, json.loads(one.fields))) for one in rows]
    entries[at] = replace(entries[at], actor=entries[at].actor + "x")
    forged = chain(entries)
    assert check(forged).faults == ()
    (fault,) = check(forged, [StatedHead("the timestamp", head_of(rows))]).faults
    assert (
        fault.message
        == f"record {len(rows)} of the log differs from the one that the timestamp states: the log was rewritten"
    )


def test_the_records_of_a_restored_backup_are_missed_once() -> None:
    """However many signed documents still state what was lost; a change is found all the same."""
    acts_done = [AuditEntry(NOON, "alice", RevokedMatcher(str(number))) for number in range(6)]
    lost = chain(acts_done)
    stated = [StatedHead(f"iwf.images version {one.number}", head_of(lost[: one.number])) for one in lost]
    assert len(check(lost[:3], stated).faults) == 3
    restored = AuditEntry(NOON, "bob", Restored(head_of(lost).records, head_of(lost).head))
    rows = chain([*acts_done[:3], restored, AuditEntry(NOON, "bob", RevokedMatcher("new"))])
    found = check(rows, stated)
    assert found.faults == ()
    assert [one.message for one in found.gaps] == [
        "record 4: bob restored a backup at 2026-03-01T12:00:00.000000+00:00;"
        " records of the replaced log, up to record 6, are missing"
    ]
    assert [one.number for one in check([rows[0]._replace(actor="eve"), *rows[1:]], stated).faults] == [1]


def test_a_recovery_that_lost_no_record_has_no_gap() -> None:
    """The feed stated nothing beyond the catalog."""
    before = chain([AuditEntry(NOON, "alice", RevokedMatcher("web"))])
    rows = chain(
        [AuditEntry(NOON, "alice", RevokedMatcher("web")), AuditEntry(NOON, "bob", Restored(1, head_of(before).head))]
    )
    assert check(rows, [StatedHead("the timestamp", head_of(before))]).gaps == ()


# as it is stored


# a log whose start was removed

DAYS = 200


def yearly(catalog: Catalog, *, days: int = DAYS) -> datetime:
    """A record a day; returns the time of the last."""
    for number in range(days):
        catalog.append("alice", RevokedMatcher(f"m{number + 1}"), NOON + timedelta(days=number))
    return NOON + timedelta(days=days - 1)


def test_a_log_is_shortened_at_its_start_and_still_proves_itself(catalog: Catalog) -> None:
    """A record of the removal states the hash from which the rest follows; its numbers go on."""
    last = yearly(catalog)
    removed = catalog.audit_records()[49]
    assert catalog.old_audit(NOON + timedelta(days=50)).records == 50
    assert catalog.shorten_audit(NOON + timedelta(days=50), "syncd", last) == 50
    assert [one.number for one in catalog.audit_records()] == list(range(51, DAYS + 2))
    assert catalog.audit_entries(1)[0].act == AuditShortened(50, removed.sha256, 0, 50)
    found = catalog.check_audit()
    assert (found.faults, found.gaps, found.head.records, found.removed) == ((), (), DAYS + 1, 50)
    assert found.since == time_text(NOON + timedelta(days=50))


def test_a_log_may_be_shortened_again(catalog: Catalog) -> None:
    """Also past the record of an earlier removal."""
    last = yearly(catalog)
    catalog.shorten_audit(NOON + timedelta(days=50), "syncd", last)
    for number in range(3):
        catalog.append("bob", RevokedMatcher("x"), last + timedelta(days=number))
    assert catalog.shorten_audit(last + timedelta(days=2), "syncd", last + timedelta(days=9)) == DAYS - 50 + 3
    assert (catalog.check_audit().faults, catalog.check_audit().removed) == ((), DAYS + 3)


def test_the_last_record_is_never_removed(catalog: Catalog) -> None:
    """The next one follows from it, and signed documents state it."""
    last = yearly(catalog, days=3)
    assert catalog.shorten_audit(last + timedelta(days=900), "syncd", last + timedelta(days=900)) == 2
    assert catalog.check_audit().faults == ()


def test_a_log_is_not_shortened_for_a_few_records(catalog: Catalog) -> None:
    """Each removal adds a record: it waits until the oldest is a week beyond the limit."""
    last = yearly(catalog)
    assert catalog.shorten_audit(NOON + timedelta(days=6), "syncd", last) == 0
    assert catalog.shorten_audit(NOON - timedelta(days=1), "syncd", last) == 0
    assert catalog.audit_head().records == DAYS


def test_a_start_that_was_cut_off_is_found(catalog: Catalog) -> None:
    """Without the record of it, or with one of another place."""
    last = yearly(catalog)
    catalog.shorten_audit(NOON + timedelta(days=50), "syncd", last)
    alter(catalog, "DELETE FROM audit WHERE number <= 60")
    (fault,) = catalog.check_audit().faults
    assert (fault.number, fault.message) == (1, "records 1 to 60 are missing before record 61")


def test_a_changed_first_record_is_found(catalog: Catalog) -> None:
    """The record of the removal vouches for the first one that is kept."""
    last = yearly(catalog)
    catalog.shorten_audit(NOON + timedelta(days=50), "syncd", last)
    alter(catalog, "UPDATE audit SET actor = 'bob' WHERE number = 51")
    assert [fault.number for fault in catalog.check_audit().faults] == [51]


def test_documents_that_state_a_removed_record_are_no_fault(catalog: Catalog) -> None:
    """The manifest of a list that has not changed for years states a head of then."""
    last = yearly(catalog)
    old = catalog.audit_records()
    catalog.shorten_audit(NOON + timedelta(days=50), "syncd", last)
    stated = [StatedHead(f"manifest {number}", AuditHead(number, old[number - 1].sha256)) for number in (1, 49, 50, 51)]
    assert catalog.check_audit(stated).faults == ()
    forged = [StatedHead("the manifest", AuditHead(number, "f" * 64)) for number in (50, 51)]
    assert [fault.number for fault in catalog.check_audit(forged).faults] == [50, 51]


def test_a_restore_among_the_removed_records_still_explains_what_is_missing(catalog: Catalog) -> None:
    """A document may state a head of the log that the restore replaced."""
    catalog.append("alice", Restored(120, "a" * 64), NOON)
    last = yearly(catalog)
    catalog.shorten_audit(NOON + timedelta(days=50), "syncd", last)
    stated = [StatedHead("the manifest of iwf.images", AuditHead(110, "b" * 64))]
    assert catalog.check_audit(stated).faults == ()
    catalog.shorten_audit(NOON + timedelta(days=100), "syncd", last)
    assert catalog.check_audit(stated).faults == ()


def test_a_record_that_cannot_be_read_says_where_to_look(catalog: Catalog) -> None:
    """Reading stops; verifying names it."""
    catalog.append("alice", RevokedMatcher("web"), NOON)
    alter(catalog, "UPDATE audit SET act = 'flew_away'")
    with pytest.raises(StoreError, match="record 1 of the audit log cannot be read") as caught:
        catalog.audit_records()
    assert caught.value.hint == "run `syncd audit verify`"
    assert [one.number for one in catalog.check_audit().faults] == [1]


@pytest.mark.parametrize("value", ["x'00ff'", "'{'", "17", "'{ }'", """'{"lists": null, "matcher": "web"}'"""])
@pytest.mark.parametrize("column", ["at", "actor", "act", "fields", "sha256"])
def test_whatever_was_put_into_a_column_is_found(catalog: Catalog, column: str, value: str) -> None:
    """Values that no code of ours writes as well."""
    for name in ("web", "mail"):
        catalog.append("alice", AddedMatcher(name, None), NOON)
    alter(catalog, f"UPDATE audit SET {column} = {value} WHERE number = 1")
    assert 1 in [one.number for one in catalog.check_audit().faults]


def test_entries_of_before_are_carried_into_the_chain(tmp_path: Path) -> None:
    """As they were, in their order; what is recorded next follows them."""
    path = tmp_path / "catalog.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(FOURTH_FIXTURE.read_text())
    with Catalog.open(path) as catalog:
        kept = catalog.audit_records()
        assert [(one.number, one.entry.actor) for one in kept] == [
            (1, "operator"),
            (2, "alice"),
            (3, "bob"),
            (4, "web"),
        ]
        assert kept[2].entry.act == Earlier(
            "retrust", "iwf", {"reason": "call with the IWF, «1 März»", "root_version": 2}
        )
        assert kept[3].entry.act.words == "pulled iwf.images: bytes 5000000000, manifests 3, segments 2"
        catalog.append("alice", RevokedMatcher("web"), NOON)
        assert catalog.check_audit([StatedHead("the timestamp", AuditHead(4, kept[3].sha256))]).faults == ()
        assert catalog.audit_head().records == 5
