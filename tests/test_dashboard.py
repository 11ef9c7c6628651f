"""What the dashboard's pages say, without a server."""

import asyncio
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path

import pytest
from starlette.requests import Request

from dashboard_site import HOSTILE
from syncd.catalog.records import HeadRecord, LoadedVersion, MatcherRecord, OriginRecord, SyncRecord, VersionSummary
from syncd.certificates import CertificateView, ValidityPeriod
from syncd.event import Event
from syncd.events import ConfigRejected, CoolDown
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import Outcome
from syncd.report.expiry import Expiry
from syncd.report.judged import ListView, Overview, SourceView, StorageFault
from syncd.report.lagging import views
from syncd.service.access import Kind, Visitor
from syncd.service.attempts import Attempts, peer_of
from syncd.service.log import LoggedEvent, RecentEvents
from syncd.service.news import Announcements
from syncd.service.web.dashboard import assets, guard, live
from syncd.service.web.dashboard.chart import chart, spark
from syncd.service.web.dashboard.details import list_page, source_page
from syncd.service.web.dashboard.fleet import matchers_page
from syncd.service.web.dashboard.frame import page
from syncd.service.web.dashboard.html import Html, clean, h, join
from syncd.service.web.dashboard.logged import events_page
from syncd.service.web.dashboard.overview import list_state, overview_page
from syncd.service.web.dashboard.parts import due, lasted, next_sync, size
from syncd.service.web.dashboard.plot import Point, plot, round_marks, time_words
from syncd.service.web.dashboard.sessions import Sessions
from syncd.service.web.dashboard.tasks import PageData, Task, tasks
from syncd.settings import Certificate
from world import START, Clock

NOW = START + timedelta(days=9)
MINUTE = timedelta(minutes=1)
IWF = ListName("iwf.images")
OPERATOR = Visitor("operator", Kind.OPERATOR, None)


def text(markup: Html) -> str:
    """What a reader sees, on one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", str(markup)).split())


def ended(outcome: Outcome, message: str = "", *reasons: str) -> SyncRecord:
    """A sync of iwf that ended a minute ago."""
    return SyncRecord(
        "s1", "iwf", NOW - timedelta(minutes=2), NOW - timedelta(minutes=1), outcome, reasons, message, 812
    )


def source(last: SyncRecord | None, **more: object) -> SourceView:
    """A source that is synced every ten minutes."""
    return SourceView("iwf", timedelta(minutes=10), last, **more)  # type: ignore[arg-type]  # as a test gives them


def listed(view: SourceView, name: ListName = IWF, now: datetime = NOW) -> ListView:
    """A list of it."""
    head = HeadRecord(name, view.name, 2, "0" * 64, 2, START)
    own_name = ListName(name.partition(".")[2])
    origin = OriginRecord(view.name, own_name, 2, "0" * 64, b"", {}, verified_at=now - 3 * MINUTE)
    return ListView(head, 1205, origin, view, now)


def instance(name: str, version: int, *, minutes: float = 1) -> LoadedVersion:
    """An instance of uploads that has that version, of which 2 is due, and was heard of so long ago."""
    return LoadedVersion("uploads", name, IWF, version, START, NOW - timedelta(minutes=minutes))


def found(*lists: ListView, loaded: tuple[LoadedVersion, ...] = ()) -> PageData:
    """What was read."""
    sources = tuple({one.source.name: one.source for one in lists}.values())
    matchers = views((MatcherRecord("uploads", "0" * 64, None, START, "admin"),), loaded, {IWF: 2}, NOW)
    seen = Overview(NOW, lists, sources, (), matchers)
    return PageData(seen, tasks(seen))


def matters(*lists: ListView, loaded: tuple[LoadedVersion, ...] = ()) -> tuple[Task, ...]:
    """What needs a person."""
    return tuple(found(*lists, loaded=loaded).tasks)


HISTORY = (
    VersionSummary(1, START, "full:first", {}, 1200),
    VersionSummary(2, START + timedelta(days=4), "deltas", {Algorithm.MD5: Counts(added=8, removed=3)}, 1205),
)


def every_page(message: str) -> Iterator[str]:
    """All pages, after a sync that failed with that message."""
    last = ended(Outcome.REJECTED, message, message)
    shown = found(listed(source(last)), loaded=(instance(message, 1),))
    contents = (
        overview_page(shown, {IWF: HISTORY}),
        list_page(shown, shown.overview.lists[0], HISTORY),
        source_page(shown, shown.overview.sources[0], [last]),
        matchers_page(shown.overview),
    )
    return (str(page("T", "/", NOW, "proof", one)) for one in contents)


def test_text_is_escaped_and_markup_is_not() -> None:
    """Only what was built is markup."""
    assert str(h("p", "<b> & ", h("b", 'x"'), 1234, None, ["a", "b"])) == "<p>&lt;b&gt; &amp; <b>x&quot;</b>1,234ab</p>"
    assert str(h("a", class_='"><i>', data_label="x", hidden=True, title=None)) == (
        '<a class="&quot;&gt;&lt;i&gt;" data-label="x" hidden></a>'
    )


def test_what_the_policy_forbids_is_never_built() -> None:
    """A style or a handler in an attribute is a bug that shows at once."""
    for name in ("style", "onclick"):
        with pytest.raises(ValueError, match="content security policy"):
            h("p", **{name: "x"})


def test_words_cannot_turn_the_line_round() -> None:
    """Control characters and marks of direction are shown, not obeyed."""
    assert clean("a\u202eb\x00\n") == "a\\x202eb\\x00\\x0a"


def test_hostile_words_stay_words_on_every_page() -> None:
    """A partner's message, wherever it is shown, is text; no page has a style or a handler of its own."""
    for shown in every_page(HOSTILE):
        assert "<script>alert" not in shown
        assert "<img src=x" not in shown
        assert "\u202e" not in shown
        assert "&lt;script&gt;alert(1)" in shown
        assert not re.search(r"<[^>]* (style|on[a-z]+)=", shown)


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (0, 0, (0, 1)),
        (29, 38, (25, 30, 35, 40)),
        (30, 30, (29, 30, 31)),
        (1_200_000, 1_200_431, (1_200_000, 1_200_200, 1_200_400, 1_200_600)),
        (5, 5_000_000, (0, 2_000_000, 4_000_000, 6_000_000)),
    ],
)
def test_marks_are_round_and_evenly_spread(low: int, high: int, marks: tuple[int, ...]) -> None:
    """Whole numbers around what is shown, from the lowest."""
    assert round_marks(low, high) == marks


def test_values_are_drawn_as_steps() -> None:
    """Each holds until the next, and the last until now."""
    laid = plot([Point(START, 10), Point(START + timedelta(hours=1), 20)], START + timedelta(hours=4))
    assert laid is not None
    assert laid.marks == (10, 15, 20)
    assert laid.path() == "M0 240H250V0H1000"
    assert list(time_words(laid.times)) == ["12:00", "13:00", "14:00", "15:00", "16:00"]


def test_a_clock_that_was_set_back_does_not_turn_the_axis() -> None:
    """Time goes to the right."""
    laid = plot([Point(START, 10)], START - timedelta(days=1))
    assert laid is not None
    assert laid.times[0] < laid.times[-1]
    laid = plot([Point(START, 10), Point(START + timedelta(hours=1), 20)], START)
    assert laid is not None
    assert laid.times[-1] == START + timedelta(hours=1)
    assert plot([], START) is None


def test_marks_of_long_times_are_days() -> None:
    """As short as tells them apart."""
    times = [START, START + timedelta(days=40)]
    assert list(time_words(times)) == ["1 Jan", "10 Feb"]
    assert list(time_words([START, START + timedelta(days=400)])) == ["1 Jan 2026", "5 Feb 2027"]


def test_a_picture_is_said_in_words_and_as_a_table() -> None:
    """For whoever does not see it: what it shows, least and most, and every number."""
    points = [Point(one.created_at, one.rows, f"Version {one.version}") for one in HISTORY]
    told = (
        "1,205 rows now, +5 since 2026-01-01 12:00 UTC. "
        "Lowest: 1,200 (2026-01-01 12:00 UTC). Highest: 1,205 (2026-01-05 12:00 UTC). "
        "The axis begins at 1,200, not at 0."
    )
    shown = str(chart(points, NOW))
    assert f"<title>{told}</title>" in shown
    assert f"<figcaption>{told}</figcaption>" in shown
    assert "Version 2 2026-01-05 12:00 1,205 Version 1 2026-01-01 12:00 1,200" in text(chart(points, NOW))
    assert spark(points[:1], NOW) is None
    assert "The axis begins" not in text(chart([Point(START, 0), Point(NOW, 9)], NOW))


@pytest.mark.parametrize(
    ("outcome", "urgent", "to_do"),
    [
        (Outcome.HELD, True, "Ask the partner whether this was intended."),
        (Outcome.REJECTED, True, "Ask the partner: the same data will be rejected again."),
        (Outcome.UNREACHABLE, False, "Wait: syncd tries again."),
        (Outcome.REFUSED, True, "Do what the reason says, then `syncd sync iwf`."),
        (Outcome.FAILED, True, "Look at the storage of this host"),
        (Outcome.INTERRUPTED, False, "Nothing: the next sync goes on from there."),
    ],
)
def test_every_bad_outcome_says_what_to_do(outcome: Outcome, urgent: bool, to_do: str) -> None:
    """What happened, and the next step."""
    (matter,) = matters(listed(source(ended(outcome, "it broke"))))
    assert (matter.urgent, matter.why, matter.source) == (urgent, "it broke", "iwf")
    assert matter.to_do.startswith(to_do)


@pytest.mark.parametrize("outcome", [Outcome.PUBLISHED, Outcome.UP_TO_DATE, Outcome.RUNNING])
def test_nobody_is_called_where_all_is_well(outcome: Outcome) -> None:
    """And the page says so first."""
    shown = found(listed(source(ended(outcome))))
    assert shown.tasks == ()
    assert text(overview_page(shown, {})).startswith("Nothing to do 1 list, verified and current.")


def test_a_hold_is_explained_in_words() -> None:
    """Its reason is a code in the catalog."""
    (matter,) = matters(listed(source(ended(Outcome.HELD, "", "emptied", "forked"))))
    assert matter.why == (
        "the update would leave the list without any entry, the update does not descend from the version held"
    )


def test_one_cause_is_one_matter_and_the_urgent_come_first() -> None:
    """However many lists a source has."""
    away = source(ended(Outcome.UNREACHABLE, "no answer"))
    broken = SourceView("ncmec", timedelta(minutes=5), ended(Outcome.REJECTED, "bad signature"))
    found_matters = matters(listed(away), listed(away, ListName("iwf.videos")), listed(broken, ListName("ncmec.all")))
    assert [(text(one.subject), one.urgent) for one in found_matters] == [
        ("ncmec.all", True),
        ("iwf.images , iwf.videos", False),
    ]


@pytest.mark.parametrize("last", [None, ended(Outcome.REJECTED, "bad signature")])
def test_a_source_that_is_no_longer_configured_is_watched(last: SyncRecord | None) -> None:
    """Its lists grow old; whatever its last sync came to, it cannot get better, and the cure is named."""
    (matter,) = matters(one := listed(SourceView("iwf", None, last)))
    assert (matter.urgent, matter.why) == (False, "source iwf is no longer configured, so the list is stale")
    assert matter.to_do == (
        "Add [sources.iwf] to the configuration again, or run `syncd retire LIST --reason R`. "
        "The last verified version stays served."
    )
    assert text(list_state(one)) == "no longer followed"


def test_what_was_never_published_is_told_by_its_source() -> None:
    """A source that came to nothing yet, and one that was not synced yet."""
    new = SourceView("new", timedelta(minutes=5), None)
    bad = SourceView("bad", timedelta(minutes=5), ended(Outcome.REFUSED, "the root is another one"))
    seen = Overview(NOW, (), (new, bad), (), ())
    assert [(one.urgent, one.why, one.source) for one in tasks(seen)] == [
        (True, "nothing published yet: the root is another one", "bad"),
        (False, "nothing published yet: no sync has run", "new"),
    ]


def test_metadata_that_expires_says_who_signs_it() -> None:
    """Root and targets: a person; the others: the daemon."""
    roles = (
        Expiry("timestamp", 3, NOW, timedelta(0)),
        Expiry("root", 1, NOW + timedelta(days=40), timedelta(days=40)),
    )
    seen = Overview(NOW, (), (), roles, ())
    assert [(one.urgent, one.why, one.to_do.partition(":")[0]) for one in tasks(seen)] == [
        (True, "timestamp expired 0 seconds ago", "The daemon should have signed it long ago"),
        (False, "root expires in 40 days", "Sign it again with the offline keys"),
    ]


def test_a_certificate_that_ends_is_urgent() -> None:
    """And says where the new one goes."""
    path = Path("/etc/syncd/server.pem")
    period = ValidityPeriod(path, NOW - timedelta(days=80), NOW + timedelta(days=5))
    seen = Overview(NOW, (), (), (), (), (CertificateView(Certificate("server", "", path), period, NOW),))
    assert [(one.urgent, one.why, one.to_do) for one in tasks(seen)] == [
        (
            True,
            "the server's certificate expires in 5 days",
            "Put a valid certificate at /etc/syncd/server.pem. The last verified version stays served.",
        )
    ]


def test_what_storage_keeps_the_daemon_from_doing_is_urgent() -> None:
    """Status may be green beside it: what cannot be recorded is not in the catalog."""
    fault = StorageFault("sync of iwf", NOW - timedelta(minutes=3), "the disk is full", "free space")
    assert tasks(Overview(NOW, (), (), (), (), faults=(fault,))) == (
        Task(
            True,
            join("Storage: sync of iwf"),
            "for 3 minutes: the disk is full",
            "Free space. The last verified version stays served.",
            "SyncdInternalErrors",
        ),
    )


def test_instances_that_lag_are_named_up_to_three() -> None:
    """One matter for each matcher and way of lagging, whatever is cut off with it."""
    late = tuple(instance(f"web-{number}", 1) for number in range(1, 6))
    silent = (instance("job-1", 2, minutes=16), instance("job-2", 1, minutes=30))
    assert [(text(one.subject), one.urgent, one.why) for one in matters(loaded=late + silent)] == [
        (
            "Matcher uploads",
            True,
            "5 instances (web-1, web-2, web-3 and 2 more) lack a version published over 5 minutes ago",
        ),
        ("Matcher uploads", False, "2 instances (job-1, job-2) have not checked in for over 15 minutes"),
    ]


def test_a_single_instance_that_lags_is_told_with_its_versions() -> None:
    """As everywhere else."""
    assert [one.why for one in matters(loaded=(instance("web-1", 1),))] == ["web-1 has iwf.images 1 and should have 2"]
    assert [one.why for one in matters(loaded=(instance("web-1", 2, minutes=31),))] == [
        "web-1 has not checked in for 31 minutes"
    ]


def test_an_instance_shows_what_it_has_and_what_is_due() -> None:
    """On one line, those that lag first."""
    shown = text(matchers_page(found(loaded=(instance("web-1", 2), instance("web-2", 1))).overview))
    assert "2 instances of 1 matcher: 1 behind, 0 silent." in shown
    assert shown.index("web-2 uploads behind iwf.images version 1 : 2 is due") < shown.index("web-1 uploads current")
    assert "uploads all 2 2026-01-01 12:00 admin" in shown


def test_a_silent_matcher_is_urgent() -> None:
    """As its alert says; a part of it is to be watched."""
    silent = (instance("job-1", 2, minutes=16), instance("job-2", 1, minutes=30))
    assert [(one.urgent, one.to_do) for one in matters(loaded=silent)] == [
        (
            True,
            "Check that it runs, and that it can reach this host. If it is gone: `syncd matchers forget uploads`.",
        )
    ]
    assert [one.urgent for one in matters(loaded=(*silent, instance("job-3", 2)))] == [False]


def test_processes_of_a_host_are_one_row() -> None:
    """With those that lag by name; single processes, and hosts that are named by address, have rows of their own."""
    processes = [instance(f"web-1.{pid}", 2) for pid in (7, 8, 9)] + [instance("web-1.10", 1), instance("web-2.7", 2)]
    hosts = [instance("10.0.0.1", 2), instance("10.0.0.2", 2)]
    shown = text(matchers_page(found(loaded=(*processes, *hosts)).overview))
    row = "web-1 4 processes web-1.10 has iwf.images 1 and should have 2 uploads behind iwf.images version 1-2"
    for part in (row, "web-2.7 uploads current", "10.0.0.1 uploads current", "10.0.0.2 uploads current"):
        assert part in shown
    assert "web-1.7" not in shown
    assert "7 instances of 1 matcher: 1 behind, 0 silent." in shown


def test_versions_show_what_changed() -> None:
    """Added and removed with their sign; nothing for the first one."""
    one = listed(source(ended(Outcome.UP_TO_DATE)))
    shown = text(list_page(found(one), one, HISTORY))
    assert "2 2026-01-05 12:00 1,205 +8 \N{MINUS SIGN}3 0 deltas 1 2026-01-01 12:00 1,200 full: first" in shown


def test_syncs_show_outcome_reason_length_and_size() -> None:
    """And how often each outcome was."""
    last = ended(Outcome.REJECTED, "bad signature", "TrustError")
    view = source(last)
    shown = text(source_page(found(listed(view)), view, [last, last, ended(Outcome.PUBLISHED)]))
    assert "The last 3: 2 rejected, 1 published" in shown
    assert "2026-01-10 11:58 rejected bad signature TrustError 1 minute 812 B" in shown


@pytest.mark.parametrize(
    ("left", "told"),
    [(90, "in 1 minute"), (0, "now"), (-300, "now"), (-301, "overdue"), (7200, "in 2 hours")],
)
def test_what_is_due_is_told_in_words(left: int, told: str) -> None:
    """A time that has just passed is now; minutes later, nobody does it."""
    assert due(timedelta(seconds=left)) == told


def test_the_next_sync_says_why_it_waits() -> None:
    """Cooling down, not planned, not configured."""
    at = NOW + timedelta(minutes=4)
    assert text(next_sync(source(None, next_run_at=at), NOW)) == "in 4 minutes"
    cooling = source(None, next_run_at=at, cool_down_until=at, failures=3)
    assert text(next_sync(cooling, NOW)) == "in 4 minutes paused after 3 failures in a row"
    assert text(next_sync(source(None), NOW)) == "not planned"
    assert text(next_sync(SourceView("iwf", None, None), NOW)) == "none: no longer configured"


def test_sizes_and_lengths_are_short() -> None:
    """In units that people compare."""
    assert [size(one) for one in (0, 999, 25_000, 3_400_000, 1_500_000_000)] == [
        "0 B",
        "999 B",
        "25.0 kB",
        "3.4 MB",
        "1.5 GB",
    ]
    running = SyncRecord("s", "iwf", NOW)
    assert (lasted(running), lasted(ended(Outcome.PUBLISHED))) == ("", "1 minute")


# colours

PAIRS = [
    (ink, ground)
    for ink in ("ink", "soft", "accent", "good", "watch", "act")
    for ground in ("page", "raised", "watch-tint", "act-tint")
]


def _light(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    full = colour if len(colour) == 6 else "".join(one * 2 for one in colour)
    parts = [int(full[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_words_stand_out_from_their_ground(scheme: int) -> None:
    """WCAG 2.2, 1.4.3 (AA): at least 4.5 to 1, in both schemes, for every colour of words on every ground."""
    style = assets.content("dashboard.css").decode()
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z-]+): #([0-9a-f]{3,6});", block))
    for ink, ground in PAIRS:
        bright, dark = sorted((_light(colours[ink]), _light(colours[ground])), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_script_and_style_stay_small_and_at_home() -> None:
    """No framework, and nothing from elsewhere."""
    for name in assets.KINDS:
        content = assets.content(name).decode()
        assert not re.search(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[a-z]", content.replace("// ", ""))
    assert len(assets.content("dashboard.js").splitlines()) < 150
    names = {Path(str(one)).name for one in resources.files("syncd.service.web.dashboard").joinpath("static").iterdir()}
    assert names == set(assets.KINDS)


# sessions


def sessions(clock: Clock, *, in_force: bool = True) -> Sessions:
    """With ids that are counted."""
    made = iter(range(1000))
    return Sessions(clock, lambda _: in_force, lambda size: f"{size}-{next(made)}")


def test_a_session_lasts_twelve_hours() -> None:
    """Of which no use of it makes more."""
    clock = Clock()
    known = sessions(clock)
    session = known.open(OPERATOR)
    assert session == "32-0"
    clock.forward(hours=11, minutes=59)
    assert known.is_open(session)
    clock.forward(minutes=1)
    assert not known.is_open(session)


def test_a_session_ends_with_its_token_and_by_signing_out() -> None:
    """At the next look."""
    gone = sessions(Clock(), in_force=False)
    assert not gone.is_open(gone.open(OPERATOR))
    known = sessions(Clock())
    session = known.open(OPERATOR)
    known.close(session)
    assert not known.is_open(session)
    assert not known.is_open("")


def test_sessions_are_bounded() -> None:
    """One too many ends the oldest."""
    known = sessions(Clock())
    made = [known.open(OPERATOR) for _ in range(257)]
    assert [known.is_open(one) for one in (made[0], made[1], made[256])] == [False, True, True]


def test_wrong_tokens_are_slowed() -> None:
    """Ten within a minute from one address; then the tenth last has to be a minute ago."""
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(10):
        assert attempts.wait("192.0.2.1") == 0
        attempts.failed("192.0.2.1")
        clock.forward(seconds=3)
    assert attempts.wait("192.0.2.1") == 30
    clock.forward(seconds=29.5)
    assert attempts.wait("192.0.2.1") == 1
    clock.forward(seconds=0.5)
    assert attempts.wait("192.0.2.1") == 0
    clock.forward(minutes=1)
    for _ in range(10):  # those of before do not count, and do not hide these
        attempts.failed("192.0.2.1")
    assert attempts.wait("192.0.2.1") == 60


@pytest.mark.parametrize(
    ("guesser", "other", "wait"),
    [
        ("192.0.2.1", "192.0.2.2", 0),
        ("192.0.2.1", "", 0),
        ("2001:db8::1", "2001:db8:0:1::1", 0),
        ("2001:db8::1", "2001:db8::2", 60),  # whoever has one has them all
        ("2001:db8::1", "2001:db8::8000:0:0:1", 60),
        ("", "", 60),  # a unix socket without a proxy that tells
    ],
)
def test_one_who_guesses_keeps_nobody_else_out(guesser: str, other: str, wait: int) -> None:
    """Addresses that one client has at will are one."""
    attempts = Attempts(Clock())
    for _ in range(10):
        attempts.failed(guesser)
    assert attempts.wait(other) == wait


@pytest.mark.parametrize(
    ("told", "peer"),
    [
        ((b"203.0.113.9", b"192.0.2.7"), "192.0.2.7"),
        ((b"203.0.113.9, 198.51.100.1", b"2001:db8::7"), "2001:db8::7"),
        ((b"192.0.2.7", b""), "127.0.0.1"),
        ((), "127.0.0.1"),
    ],
)
def test_a_proxy_that_adds_a_header_of_its_own_is_heard(told: tuple[bytes, ...], peer: str) -> None:
    """Of several X-Forwarded-For they are one list, in their order (RFC 9110, section 5.3): the last is the proxy's."""
    headers = [(b"x-forwarded-for", one) for one in told]
    assert peer_of({"client": ("127.0.0.1", 1), "headers": headers}, behind_proxy=True) == peer


def test_many_who_guess_are_slowed_together() -> None:
    """A hundred within a minute, from anywhere; and that is all that is remembered."""
    clock = Clock()
    attempts = Attempts(clock)
    for number in range(100):
        assert attempts.wait("198.51.100.1") == 0
        attempts.failed(f"192.0.2.{number}")
    assert attempts.wait("198.51.100.1") == 60
    clock.forward(minutes=1)
    assert attempts.wait("198.51.100.1") == 0


def test_a_clock_that_was_set_back_keeps_nobody_out() -> None:
    """Ten wrong tokens of a time that is yet to come count no more."""
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(10):
        attempts.failed("192.0.2.1")
    clock.forward(hours=-24)
    assert attempts.wait("192.0.2.1") == 0


# guard


@pytest.mark.parametrize(
    ("path", "after"),
    [
        ("/", "/"),
        ("/lists/iwf.images", "/lists/iwf.images"),
        ("/sources/iwf", "/sources/iwf"),
        ("/matchers", "/matchers"),
        ("//evil.example", "/"),
        ("https://evil.example/", "/"),
        ("/logout", "/"),
        ("/lists/../logout", "/"),
        ("/matchers\n", "/"),
    ],
)
def test_signing_in_leads_to_our_pages_only(path: str, after: str) -> None:
    """Whatever the form says."""
    assert guard.inside(path) == after


def request(**headers: str) -> Request:
    """A request with these headers."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in {"host": "ops:1", **headers}.items()]
    return Request({"type": "http", "method": "POST", "path": "/login", "headers": raw})


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({"sec_fetch_site": "same-origin", "origin": "null"}, True),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site", "origin": "http://ops:1"}, False),
        ({"sec_fetch_site": "none"}, False),
        ({"origin": "http://ops:1"}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://ops:2"}, False),
        ({"origin": "null"}, False),
        ({}, False),
    ],
)
def test_a_form_is_taken_from_our_own_page_only(headers: dict[str, str], ours: bool) -> None:
    """As the browser says: a page cannot change these headers."""
    assert guard.from_our_page(request(**headers)) is ours


def test_a_form_belongs_to_one_browser_and_one_purpose() -> None:
    """A proof for another cookie, or another form, is none."""
    forms = guard.Forms(b"k" * 32)
    proof = forms.proof("login", "cookie")
    assert forms.proves(proof, "login", "cookie")
    assert not forms.proves(proof, "logout", "cookie")
    assert not forms.proves(proof, "login", "other")
    assert not forms.proves(forms.proof("login", ""), "login", "")
    assert not forms.proves("é", "login", "cookie")
    assert "k" * 32 not in repr(forms)


# the stream


def test_a_stream_tells_what_changed_and_ends_with_its_session() -> None:
    """A beat while nothing happens; the lists that moved; that nobody is signed in any more."""
    news, line = Announcements("e1"), [live.Line.OPEN]
    news.announce(IWF, 7)

    async def read() -> list[bytes]:
        ticks = live.stream(news, lambda: line[0], beat=0.05, gap=0.0)
        read = [await anext(ticks), await anext(ticks)]
        news.announce(IWF, 8)
        read.append(await anext(ticks))
        news.changed()
        read.append(await anext(ticks))
        line[0] = live.Line.ENDED
        news.changed()
        return read + [one async for one in ticks]

    assert asyncio.run(read()) == [
        b"retry: 2000\n\n",
        b": beat\n\n",
        b'event: tick\ndata: {"lists": {"iwf.images": 8}}\n\n',
        b'event: tick\ndata: {"lists": {}}\n\n',
        b"event: ended\ndata: {}\n\n",
    ]


def test_a_stream_that_the_server_ends_may_come_again() -> None:
    """It says nothing of the session."""

    async def read() -> list[bytes]:
        return [one async for one in live.stream(Announcements("e1"), lambda: live.Line.CLOSED, beat=10)]

    assert asyncio.run(read()) == [b"retry: 2000\n\n"]


def test_events_are_shown_with_their_fields_and_level() -> None:
    """The newest first; what is empty is left out, and hostile words stay words."""
    logged = (
        LoggedEvent(NOW, ConfigRejected(HOSTILE, "correct the file")),
        LoggedEvent(NOW - MINUTE, CoolDown("5afe", "iwf", NOW, 2)),
    )
    page = events_page(logged, NOW)
    assert "<script>" not in str(page)
    assert "error config_rejected message" in text(page)
    row = "warning cool_down sync_id 5afe, source iwf, until 2026-01-10T12:00:00Z, failures 2 1 minute ago"
    assert row in text(page)
    assert "The daemon has logged nothing yet." in text(events_page((), NOW))


def test_the_newest_events_are_kept_and_passed_on() -> None:
    """The number of kept events is limited."""
    passed: list[Event] = []
    recent = RecentEvents(passed.append, lambda: NOW, most=2)
    told = [CoolDown(f"{number}", "iwf", NOW, number) for number in range(3)]
    for event in told:
        recent(event)
    assert passed == told
    assert [one.event for one in recent.newest()] == [told[2], told[1]]
