"""Who holds which token, and what it opens."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn, cast

import pytest

from syncd.acts import AddedMatcher, RevokedMatcher
from syncd.catalog.catalog import Catalog
from syncd.catalog.records import AuditEntry
from syncd.errors import StoreError, UsageError
from syncd.event import Emit, Event
from syncd.events import InstancesForgotten, MatcherAdded, MatcherRevoked
from syncd.model import ListName
from syncd.operate import matchers
from syncd.report.judged import Overview
from syncd.service.access import Access, Kind, Visitor
from syncd.service.checkins import Checkins
from syncd.service.control import Order
from syncd.service.list_orders import ListOrders
from syncd.service.orders import Orders
from syncd.service.questions import Questions
from syncd.service.syncs import Syncs

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
IMAGES, VIDEOS = ListName("iwf.images"), ListName("iwf.videos")
WEB = Visitor("web", Kind.MATCHER, frozenset({IMAGES}))
OPERATOR = Visitor("operator", Kind.OPERATOR, None)
NO_SYNCS = cast(Syncs, None)
NO_LISTS = cast(ListOrders, None)
NO_QUESTIONS = cast(Questions, None)
NO_OVERVIEW = cast(Callable[[], Overview], None)
METRICS = Visitor("metrics", Kind.METRICS, frozenset())


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(tmp_path / "catalog.sqlite3") as opened:
        add(opened, "web", "token-of-web", IMAGES)
        yield opened


def add(catalog: Catalog, name: str, token: str, *lists: str) -> matchers.Added:
    return matchers.add(catalog, name, lists, asked_by="alice", now=NOON, token=token)


def revoke(catalog: Catalog, name: str) -> None:
    matchers.revoke(catalog, name, asked_by="bob", now=NOON)


def test_a_token_is_256_random_bits() -> None:
    """After a prefix that says what it opens, in characters that need no quoting."""
    assert matchers.new_token(lambda count: b"\xff" * count) == "syncd_" + 42 * "_" + "8"
    assert matchers.new_token(lambda count: bytes(range(count))) == "syncd_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert len({matchers.new_token() for _ in range(100)}) == 100


def test_the_catalog_keeps_the_hash_alone(catalog: Catalog, tmp_path: Path) -> None:
    """No file of it holds the token, and no repr shows token or hash."""
    added = add(catalog, "mail", "token-of-mail")
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"token-of-mail" not in stored
    sha256 = hashlib.sha256(b"token-of-mail").hexdigest()
    assert sha256.encode() in stored
    visitor = Access(catalog).admit(b"Bearer token-of-mail")
    assert visitor is not None
    for shown in (repr(added), repr(visitor), repr(catalog.matchers())):
        assert "token-of-mail" not in shown
        assert sha256 not in shown
        assert repr(visitor.key) not in shown


def test_who_added_and_revoked_is_in_the_audit_log(catalog: Catalog) -> None:
    """With the scope, and without the token."""
    add(catalog, "mail", "token-of-mail")
    revoke(catalog, "web")
    assert catalog.audit_entries() == (
        AuditEntry(NOON, "bob", RevokedMatcher("web")),
        AuditEntry(NOON, "alice", AddedMatcher("mail", None)),
        AuditEntry(NOON, "alice", AddedMatcher("web", ("iwf.images",))),
    )


@pytest.mark.parametrize("name", ["", "Web", ".web", "web/1", "web\n", "w" * 65, "ü"])
def test_a_name_is_plain(catalog: Catalog, name: str) -> None:
    """It goes into paths, logs and tables."""
    with pytest.raises(UsageError, match="not a matcher's name"):
        add(catalog, name, "token")
    with pytest.raises(UsageError, match="not a list name"):
        add(catalog, "mail", "token", "No List")


@pytest.mark.parametrize("name", ["operator", "metrics", "root"])
def test_a_matcher_is_not_named_as_somebody_else(catalog: Catalog, name: str) -> None:
    """Its pulls would read in the audit log as if the operator had made them."""
    with pytest.raises(UsageError) as refused:
        add(catalog, name, "token")
    assert (refused.value.message, refused.value.hint) == (
        f"no matcher can be named {name}: the audit log uses that name for another actor",
        f"take another name, such as {name}-web; nothing was changed",
    )
    assert name not in [one.name for one in catalog.matchers()]
    assert add(catalog, f"{name}-web", "token").name == f"{name}-web"


def test_a_list_need_not_be_published(catalog: Catalog) -> None:
    """It is said which are not; each is named once."""
    assert add(catalog, "mail", "token", VIDEOS, IMAGES, VIDEOS).not_published == (IMAGES, VIDEOS)
    assert catalog.matchers()[0].lists == (IMAGES, VIDEOS)


@pytest.mark.parametrize(
    "authorization",
    [b"Bearer token-of-web", b"bearer token-of-web", b"BEARER  token-of-web ", b"Bearer token-of-web\t"],
)
def test_a_token_is_admitted(catalog: Catalog, authorization: bytes) -> None:
    """The scheme's case does not matter (RFC 9110, section 11.1)."""
    assert Access(catalog).admit(authorization) == WEB


@pytest.mark.parametrize(
    "authorization",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"token-of-web",
        b"Basic token-of-web",
        b"Bearer token-of-we",
        b"Bearer token-of-web2",
        b"Bearer TOKEN-OF-WEB",
        b"Bearer \xff\x00",
        b"Bearer " + hashlib.sha256(b"token-of-web").hexdigest().encode(),
        b"Bearer " + b"x" * 1_000_000,
    ],
)
def test_anything_else_is_nobody(catalog: Catalog, authorization: bytes) -> None:
    """Also the hash of a token, and where no token of our own is set."""
    assert Access(catalog, "", "").admit(authorization) is None


def test_a_token_opens_its_lists_only(catalog: Catalog) -> None:
    """One without lists opens all, the operator's as well, and that for metrics none."""
    add(catalog, "all", "token-of-all")
    access = Access(catalog, "op", "met")
    seen = [
        (visitor.name, visitor.may_read(IMAGES), visitor.may_read(VIDEOS))
        for token in (b"token-of-web", b"token-of-all", b"op", b"met")
        if (visitor := access.admit(b"Bearer " + token))
    ]
    assert seen == [
        ("web", True, False),
        ("all", True, True),
        ("operator", True, True),
        ("metrics", False, False),
    ]


def test_the_operators_token_is_the_operators(catalog: Catalog) -> None:
    """No matcher's, and not that for metrics, opens the dashboard."""
    access = Access(catalog, "op", "met")
    assert access.admit_person("op") == OPERATOR
    assert [access.admit_person(token) for token in ("met", "token-of-web", "", "\udcff")] == [None] * 4
    assert (access.admit(b"Bearer op"), access.admit(b"Bearer met")) == (OPERATOR, METRICS)


def test_a_revoked_token_is_nobodys_at_once(catalog: Catalog) -> None:
    """Also for who was admitted before; others are not disturbed, and who listens is told."""
    access, told = Access(catalog, "op"), threading.Event()
    web, operator = access.admit(b"Bearer token-of-web"), access.admit(b"Bearer op")
    assert web is not None
    assert operator is not None
    access.on_change(told.set)
    assert access.is_in_force(web)
    revoke(catalog, "web")
    access.reload()
    assert told.is_set()
    assert access.admit(b"Bearer token-of-web") is None
    assert (access.is_in_force(web), access.is_in_force(operator)) == (False, True)


def orders(catalog: Catalog, access: Access, emit: Emit, checkins: Checkins | None = None) -> Orders:
    """Orders about matchers, and no others."""
    return Orders(
        state_dir="state",
        syncs=NO_SYNCS,
        catalog=catalog,
        sources=lambda _: (),
        overview=NO_OVERVIEW,
        access=access,
        checkins=checkins or Checkins(catalog),
        clock=lambda: NOON,
        emit=emit,
        lists=NO_LISTS,
        questions=NO_QUESTIONS,
    )


def test_an_order_is_in_force_at_once(catalog: Catalog) -> None:
    """Whoever the operator lets in is admitted by the next request, and whoever is revoked is not; both are logged."""
    access, log = Access(catalog), list[Event]()
    give = orders(catalog, access, log.append)
    (answer,) = give(Order(do="matchers_add", state_dir="state", name="mail", lists=(IMAGES,)), "alice")
    token = answer["added"].pop("token")
    assert answer == {
        "added": {"name": "mail", "lists": (IMAGES,), "not_published": (IMAGES,), "mirror": False},
        "end": 0,
    }
    mail = access.admit(f"Bearer {token}".encode())
    assert mail == Visitor("mail", Kind.MATCHER, frozenset({IMAGES}))
    assert list(give(Order(do="matchers_revoke", state_dir="state", name="mail"), "bob")) == [
        {"revoked": {"name": "mail"}, "end": 0}
    ]
    assert access.admit(f"Bearer {token}".encode()) is None
    assert log == [MatcherAdded("mail", (IMAGES,), "alice"), MatcherRevoked("mail", "bob")]


FailingCatalog = tuple[Access, threading.Event, Orders]


@pytest.fixture
def failing_catalog(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> FailingCatalog:
    """Who may come in, what is set when that changes, and orders; the catalog no longer tells who there is."""

    def fail() -> NoReturn:
        raise StoreError("disk I/O error")

    access, told = Access(catalog, "op"), threading.Event()
    access.on_change(told.set)
    monkeypatch.setattr(catalog, "matchers", fail)
    return access, told, orders(catalog, access, lambda _: None)


def test_a_revoked_token_is_nobodys_also_where_the_catalog_fails_then(failing_catalog: FailingCatalog) -> None:
    """What was revoked is put out of force before anything else can go wrong: asking again would find no such name."""
    access, told, give = failing_catalog
    assert list(give(Order(do="matchers_revoke", state_dir="state", name="web"), "bob"))[-1]["end"] == 0
    assert told.is_set()
    assert access.admit(b"Bearer token-of-web") is None
    assert access.admit(b"Bearer op") == OPERATOR


def test_a_token_is_handed_over_also_where_the_catalog_fails_then(
    failing_catalog: FailingCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stored by then, and shown this once: it is in force, and who asked gets it."""
    access, told, give = failing_catalog
    (answer,) = give(Order(do="matchers_add", state_dir="state", name="mail"), "alice")
    assert told.is_set()
    mail = access.admit(f"Bearer {answer['added']['token']}".encode())
    assert (mail, answer["end"]) == (Visitor("mail", Kind.MATCHER, None), 0)
    assert mail is not None
    assert access.is_in_force(mail)
    assert access.admit(b"Bearer token-of-web") == WEB
    monkeypatch.undo()
    access.reload()
    assert access.is_in_force(mail)


def test_a_name_given_again_does_not_revive_the_old_token(catalog: Catalog) -> None:
    """Who was admitted by the old one is not in force, though name and lists are the same."""
    access = Access(catalog)
    before = access.admit(b"Bearer token-of-web")
    assert before is not None
    revoke(catalog, "web")
    add(catalog, "web", "second-token", IMAGES)
    access.reload()
    assert access.admit(b"Bearer token-of-web") is None
    assert access.admit(b"Bearer second-token") == WEB
    assert not access.is_in_force(before)


def test_our_own_tokens_can_be_replaced(catalog: Catalog) -> None:
    """After a reload of the configuration; matchers stay, and a reload of theirs keeps ours."""
    access, told = Access(catalog, "old"), threading.Event()
    operator = access.admit(b"Bearer old")
    assert operator is not None
    access.on_change(told.set)
    access.set_tokens("new", None)
    access.reload()
    assert told.is_set()
    assert (access.admit(b"Bearer old"), access.is_in_force(operator)) == (None, False)
    assert (access.admit(b"Bearer new"), access.admit(b"Bearer token-of-web")) == (OPERATOR, WEB)


def test_a_catalog_that_cannot_be_read_changes_nothing(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was let in stays in until it can be."""
    access = Access(catalog)

    def fail() -> tuple[()]:
        raise StoreError("disk")

    monkeypatch.setattr(catalog, "matchers", fail)
    with pytest.raises(StoreError):
        access.reload()
    assert access.admit(b"Bearer token-of-web") == WEB


def test_instances_are_forgotten_for_whoever_asks(catalog: Catalog) -> None:
    """At the control socket: the answer names them, the log counts them."""
    log: list[Event] = []
    checkins = Checkins(catalog)
    checkins.note("web", "web-1", {}, NOON - timedelta(hours=1))
    give = orders(catalog, Access(catalog), log.append, checkins)
    assert list(give(Order(do="matchers_forget", state_dir="state", name="web"), "bob")) == [
        {"forgotten": {"name": "web", "instances": ("web-1",)}, "end": 0}
    ]
    assert log == [InstancesForgotten("web", 1, "bob")]
