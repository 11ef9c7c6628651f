"""What Prometheus is told: of the state at each scrape, of what happened, of what is asked for."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from certificates import Authority
from command_line import syncd
from scrapes import Scrape, scrape, scrape_site
from syncd import events
from syncd.acts import AddedMatcher
from syncd.catalog.fleet_records import DaemonRecord
from syncd.catalog.records import AuditEntry, MatcherRecord
from syncd.config import Config
from syncd.errors import StoreError
from syncd.event import Event
from syncd.feed.folder import FeedFolder
from syncd.fetch import Deadline, Endpoint
from syncd.mirror.metrics import MirrorCollector
from syncd.mirror.relay import CheckinRelay
from syncd.mirror.replica import Replica
from syncd.mirror.tokens import UpstreamTokens
from syncd.mirror.updates import Updates
from syncd.model import ListName
from syncd.operate.retire import retire
from syncd.operate.rollback import rollback
from syncd.outcomes import Outcome
from syncd.pipeline.publisher import Publisher
from syncd.report import overview
from syncd.report.fleet import Answering
from syncd.report.judged import Overview
from syncd.service.access import Access
from syncd.service.checkins import Checkins
from syncd.service.metrics.scrape import Metrics
from syncd.service.metrics.state import REFUSALS, refusal
from syncd.service.metrics.traffic import RequestKind, kind_of
from syncd.service.news import Announcements
from syncd.service.pulls import Pulls
from syncd.service.web.app import make_metrics
from syncd.service.web.context import Context
from syncd.service.web.health import Health
from syncd.sources.tables import FeedSource
from test_daemon import Process, daemon, text, today  # noqa: F401 - a fixture
from web_site import METRICS, OPERATOR, bearer, running, stream
from world import START, World, row, rows

DOCUMENT = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text()
NOW = START.timestamp()
ANSWERING = Answering("a", 1, 9)
"""The daemon that is scraped, if it is one of several."""
IWF, IMAGES = {"source": "iwf"}, {"source": "iwf", "list": "iwf.images"}


@contextmanager
def told(world: World, **settings: Any) -> Iterator[tuple[Context, Metrics, list[Event]]]:
    """The metrics of a world, with what the events are that they emit; ``settings`` are those of its source."""
    source = FeedSource(type="feed", url=world.url, root=world.root, interval="10m", **settings)  # type: ignore[arg-type]
    config, found = Config(state_dir=world.state.root, sources={"iwf": source}), list[Event]()
    with world.publisher() as publisher:
        context = make_context(world, publisher, config, found)
        yield context, make_metrics(context), found


def make_context(world: World, publisher: Publisher, config: Config, found: list[Event]) -> Context:
    """As the daemon does."""
    catalog = publisher.catalog
    return Context(
        catalog=catalog,
        folder=publisher.folder,
        access=Access(catalog),
        checkins=Checkins(catalog),
        pulls=Pulls(catalog),
        news=Announcements("e1"),
        health=Health(world.state, catalog, found.append),
        clock=world.clock,
        emit=found.append,
        overview=lambda: overview.read(
            world.state, catalog, config.intervals(), world.clock(), ages=config.max_ages(), answering=ANSWERING
        ),
        config=lambda: config,
        orders=lambda _order, _user: iter(()),
    )


def now(world: World, **settings: Any) -> Scrape:
    """One scrape of a daemon that was just started."""
    with told(world, **settings) as (_, metrics, _events):
        return scrape(metrics)


def test_what_stands_is_told_right_after_a_start(standing: World) -> None:
    """Versions, rows, times, of every list and source, from what is stored."""
    found = now(standing)
    assert found.ones("syncd_source_rejected", "reason") == []
    assert found("syncd_list_version", **IMAGES) == 1
    assert found("syncd_list_serial", **IMAGES) == 1
    assert found("syncd_list_rows", **IMAGES) == 30
    assert found("syncd_list_published_timestamp_seconds", **IMAGES) == NOW
    assert found("syncd_list_proved", **IMAGES) == 1
    assert found("syncd_source_configured", **IWF) == 1
    assert found("syncd_source_lists", **IWF) == 1
    assert found("syncd_source_interval_seconds", **IWF) == 600
    assert found("syncd_list_age_limit_seconds", **IMAGES, level="warn") == 3600
    assert found("syncd_list_age_limit_seconds", **IMAGES, level="critical") == 25200
    assert found("syncd_source_next_sync_timestamp_seconds", **IWF) == 0
    assert found("syncd_state_read_success") == 1
    assert found("syncd_metadata_expiry_timestamp_seconds", role="timestamp") == NOW + 48 * 3600
    assert found("syncd_metadata_expiry_timestamp_seconds", role="root") == NOW + 365 * 86400


def test_freshness_is_moved_by_success_only(standing: World) -> None:
    """By a sync that finds all verified, with or without news; not by one that is rejected, or does not get through."""
    timestamp = standing.partner.path("metadata/timestamp.json")
    good = timestamp.read_bytes()
    times = []
    for break_ in (None, lambda: timestamp.write_bytes(good[:-9]), timestamp.unlink, None):
        standing.clock.forward(minutes=10)
        timestamp.write_bytes(good)
        if break_:
            break_()
        standing.sync()
        found = now(standing)
        verified = found("syncd_list_verified_timestamp_seconds", **IMAGES) or 0
        success = found("syncd_source_success_timestamp_seconds", **IWF) or 0
        attempt = found("syncd_source_last_sync_timestamp_seconds", **IWF) or 0
        (outcome,) = found.ones("syncd_source_last_sync_outcome", "outcome", **IWF)
        times.append((outcome, *((at - NOW) / 60 for at in (attempt, success, verified))))
    assert times == [
        ("up_to_date", 10, 10, 10),
        ("rejected", 20, 10, 10),
        ("unreachable", 30, 10, 10),
        ("up_to_date", 40, 40, 40),
    ]


def test_a_rejected_list_moves_neither_its_time_nor_its_source_s(standing: World) -> None:
    """Though the metadata of the source was verified."""
    standing.publish(add=[row(77)])
    for manifest in standing.partner.root.glob("v1/images/*.manifest.json"):
        manifest.write_bytes(manifest.read_bytes()[:-1])
    standing.clock.forward(minutes=10)
    standing.sync()
    found = now(standing)
    assert found.ones("syncd_source_last_sync_outcome", "outcome") == ["rejected"]
    assert found.ones("syncd_source_rejected", "reason") == ["mismatch"]
    assert found("syncd_list_verified_timestamp_seconds", **IMAGES) == NOW
    assert found("syncd_source_success_timestamp_seconds", **IWF) == NOW


def test_what_was_never_is_zero(world: World) -> None:
    """A source that was never synced has every series, so that alerts see it."""
    found = now(world)
    assert found("syncd_source_success_timestamp_seconds", **IWF) == 0
    assert found("syncd_source_lists", **IWF) == 0
    assert found("syncd_syncs_total", **IWF, outcome="rejected") == 0
    assert found.ones("syncd_source_last_sync_outcome", "outcome") == []


def test_a_hold_is_told_with_its_reason(standing: World) -> None:
    """Until it is gone."""
    standing.publish(remove=rows(0, 30))
    standing.sync()
    found = now(standing)
    assert found.ones("syncd_source_last_sync_outcome", "outcome") == ["held"]
    assert found.ones("syncd_source_held", "reason") == ["emptied"]
    assert found("syncd_list_rows", **IMAGES) == 30
    assert found("syncd_holds", **IMAGES, lane="removals") == 1
    standing.publish(add=rows(0, 30))
    standing.sync()
    after = now(standing)
    assert after.ones("syncd_source_held", "reason") == after.ones("syncd_holds", "lane") == []


def test_two_reasons_to_hold_are_both_told(standing: World) -> None:
    """As the catalog keeps them."""
    with standing.publisher() as publisher:
        publisher.catalog.begin_sync("5afe", "iwf", standing.clock())
        publisher.catalog.finish_sync("5afe", Outcome.HELD, reasons=("emptied", "forked"), now=standing.clock())
    assert now(standing).ones("syncd_source_held", "reason") == ["emptied", "forked"]


@pytest.mark.parametrize(
    ("error", "word"),
    [
        ("EquivocationError", "equivocation"),
        ("RollbackError", "rollback"),
        ("ExpiredError", "expired"),
        ("TrustError", "trust"),
        ("MismatchError", "mismatch"),
        ("ManifestError", "manifest"),
        ("SegmentHashError", "segment"),
        ("UnknownListError", "unknown_list"),
        ("FeedError", "other"),
        ("a partner's words", "other"),
    ],
)
def test_every_rejection_has_a_word_of_a_closed_set(standing: World, error: str, word: str) -> None:
    """The one that alerts ask for, whatever the catalog holds."""
    assert refusal(error) == word
    assert word in REFUSALS
    with standing.publisher() as publisher:
        publisher.catalog.begin_sync("5afe", "iwf", standing.clock())
        publisher.catalog.finish_sync("5afe", Outcome.REJECTED, reasons=(error,), now=standing.clock())
    assert now(standing).ones("syncd_source_rejected", "reason") == [word]


SYNCED = events.ListSynced("1", "iwf", Outcome.PUBLISHED, "iwf.images", 2, 2, "deltas", 3, 2, 1, 31, "", (), "", "")
HAPPENED: tuple[tuple[Event, str, dict[str, str], float], ...] = (
    (events.SyncFinished("1", "iwf", Outcome.PUBLISHED, 2.0, 50, "", ""), "syncd_source_received_bytes_total", IWF, 50),
    (
        events.SyncFinished("1", "iwf", Outcome.HELD, 2.0, 50, "", ""),
        "syncd_syncs_total",
        {"source": "iwf", "outcome": "held"},
        1,
    ),
    (events.SyncFinished("1", "iwf", Outcome.HELD, 2.0, 50, "", ""), "syncd_sync_duration_seconds_sum", IWF, 2),
    (SYNCED, "syncd_list_syncs_total", {**IMAGES, "outcome": "published"}, 1),
    (SYNCED, "syncd_list_changed_entries_total", {**IMAGES, "change": "added"}, 3),
    (SYNCED, "syncd_list_changed_entries_total", {**IMAGES, "change": "removed"}, 2),
    (SYNCED, "syncd_list_changed_entries_total", {**IMAGES, "change": "relabelled"}, 1),
    (replace(SYNCED, outcome=Outcome.HELD), "syncd_list_syncs_total", {**IMAGES, "outcome": "held"}, 1),
    (
        events.HoldOpened(1, "iwf", "iwf.images", "removals", 3, ("emptied",), "m", "d", "1"),
        "syncd_holds_opened_total",
        {"source": "iwf", "lane": "removals"},
        1,
    ),
    (
        events.HoldEnded(1, "iwf", "iwf.images", "removals", 3, "withdrawn", "", ""),
        "syncd_holds_ended_total",
        {"source": "iwf", "end": "withdrawn"},
        1,
    ),
    (events.WorkerKilled("1", "iwf", 7, 9.0), "syncd_worker_kills_total", IWF, 1),
    (events.CoolDown("1", "iwf", START, 2), "syncd_source_cool_downs_total", IWF, 1),
    (events.ConfigReloaded((), (), ()), "syncd_config_reloads_total", {"result": "applied"}, 1),
    (events.ConfigRejected("m", "d"), "syncd_config_reloads_total", {"result": "refused"}, 1),
    (events.CertificateReloaded(), "syncd_certificate_reloads_total", {"result": "applied"}, 1),
    (events.CertificateRejected("m", "d"), "syncd_certificate_reloads_total", {"result": "refused"}, 1),
    (events.TimestampSigned(), "syncd_timestamp_signatures_total", {"result": "signed"}, 1),
    (events.TimestampNotSigned("m", "d"), "syncd_timestamp_signatures_total", {"result": "failed"}, 1),
    (events.ControlRefused("me", "m"), "syncd_control_refusals_total", {}, 1),
    (events.InternalError("KeyError", "w"), "syncd_internal_errors_total", {"kind": "KeyError"}, 1),
    (events.InternalError("StoreError", "w"), "syncd_internal_errors_total", {"kind": "StoreError"}, 1),
    (events.StorageFailed("m", "d", "w"), "syncd_internal_errors_total", {"kind": "StoreError"}, 1),
    (events.InternalError("OwnError", "w"), "syncd_internal_errors_total", {"kind": "other"}, 1),
)


@pytest.mark.parametrize(("event", "name", "labels", "value"), HAPPENED)
def test_an_event_is_counted_from_zero(
    standing: World, event: Event, name: str, labels: dict[str, str], value: float
) -> None:
    """Its series exists before, so that the first is an increase; what is only held changed no entries."""
    with told(standing) as (_, metrics, _events):
        assert scrape(metrics)(name, **labels) == 0
        metrics.activity.count(event)
        assert scrape(metrics)(name, **labels) == value
        changes = scrape(metrics)("syncd_list_changed_entries_total", **IMAGES, change="added")
        assert changes == (3 if event is SYNCED else 0)


def test_events_that_have_no_metric_are_passed_over(standing: World) -> None:
    """There are more kinds of events than counters."""
    with told(standing) as (_, metrics, _events):
        metrics.activity.count(events.DaemonReady("socket"))


def test_publish_to_loaded_is_a_histogram_by_list(standing: World) -> None:
    """In seconds; an instance that takes five minutes is in the buckets from there on."""
    with told(standing) as (_, metrics, _events):
        assert scrape(metrics)("syncd_publish_to_loaded_seconds_count", list="iwf.images") == 0
        for seconds in (0.4, 9.0, 299.0):
            metrics.activity.loaded(ListName("iwf.images"), seconds)
        found = scrape(metrics)
    buckets = {le: found("syncd_publish_to_loaded_seconds_bucket", list="iwf.images", le=le) for le in ("1.0", "10.0")}
    assert buckets == {"1.0": 1, "10.0": 2}
    assert found("syncd_publish_to_loaded_seconds_bucket", list="iwf.images", le="300.0") == 3
    assert found("syncd_publish_to_loaded_seconds_bucket", list="iwf.images", le="+Inf") == 3


def test_matchers_are_told_by_name_and_instances_by_number(standing: World) -> None:
    """The oldest version loaded, by how much it is behind, who is silent; whoever holds a token cannot add series."""
    with running(standing) as web:
        headers = web.add("upload")
        web.add("new")
        for version in (2, 3):
            standing.publish(add=[row(40 + version)])
            standing.sync()
            assert web.publisher.catalog.heads()[0].version == version
        standing.clock.forward(minutes=6)
        for instance, version in (("web-1", 3), ("web-2", 1), ("web-3", 2)):
            body = {"instance": instance, "lists": {"iwf.images": version}}
            assert httpx.post(f"{web.url}/api/v1/checkin", json=body, headers=headers).status_code == 204
        web.checkins.flush()
        loaded, checked_in = {"matcher": "upload", "list": "iwf.images"}, standing.clock().timestamp()
        found = scrape_site(web)
        assert found("syncd_matcher_instances", matcher="upload") == 3
        assert found("syncd_matcher_instances", matcher="new") == 0
        assert found("syncd_matcher_checkin_timestamp_seconds", matcher="upload") == checked_in
        assert found("syncd_matcher_checkin_timestamp_seconds", matcher="new") == 0
        assert found("syncd_matcher_loaded_version", **loaded) == 1
        assert found("syncd_matcher_versions_behind", **loaded) == 2
        assert found("syncd_matcher_instances_behind", **loaded) == 2
        assert found("syncd_matcher_instances_silent", matcher="upload") == 0
        assert "web-1" not in found.text
        standing.clock.forward(minutes=16)
        found = scrape_site(web)
        assert found("syncd_matcher_instances_silent", matcher="upload") == 3
        assert found("syncd_matcher_instances_behind", **loaded) == 0


def test_certificates_are_told_by_the_soonest_of_their_chain(standing: World, tmp_path: Path) -> None:
    """The new one's as soon as the file is replaced; 0 where it is none."""
    one, _ = Authority(tmp_path, "one").certificate("client")
    expires = x509.load_pem_x509_certificate(one.read_bytes()).not_valid_after_utc.timestamp()
    with told(standing, client_cert=one, client_key=one) as (_, metrics, _events):

        def told_now() -> float | None:
            return scrape(metrics)("syncd_certificate_expiry_timestamp_seconds", use="client", source="iwf")

        assert told_now() == expires
        later, _ = Authority(tmp_path, "two").certificate("later", hours=9 * 24)
        chain = later.read_bytes() + one.read_bytes()
        one.write_bytes(later.read_bytes())
        assert told_now() == x509.load_pem_x509_certificate(later.read_bytes()).not_valid_after_utc.timestamp()
        one.write_bytes(chain)
        assert told_now() == expires
        one.write_text("no certificate")
        assert told_now() == 0
        one.unlink()
        assert told_now() == 0


def test_a_certificate_that_is_not_valid_yet_is_told_by_the_last_of_its_chain(standing: World, tmp_path: Path) -> None:
    """When it begins; 0 where it is none."""
    later, _ = Authority(tmp_path, "one").certificate("later", hours=3)
    begins = x509.load_pem_x509_certificate(later.read_bytes()).not_valid_before_utc.timestamp()
    valid, _ = Authority(tmp_path, "two").certificate("valid")
    mine = tmp_path / "mine.pem"
    with told(standing, client_cert=mine, client_key=mine) as (_, metrics, _events):
        chains = ((valid, 1735689600), (later, begins), (valid, later, begins))  # 2025-01-01
        for *chain, expected in chains:
            mine.write_bytes(b"".join(one.read_bytes() for one in chain))
            found = scrape(metrics)
            assert found("syncd_certificate_start_timestamp_seconds", use="client", source="iwf") == expected
        mine.write_text("no certificate")
        assert scrape(metrics)("syncd_certificate_start_timestamp_seconds", use="client", source="iwf") == 0


def test_a_partner_s_metadata_is_told_as_it_was_verified_last(standing: World) -> None:
    """By role, those for lists as one, however many there are; nothing before the first sync."""
    with told(standing) as (_, metrics, _events):
        found = scrape(metrics)
        expiry = {
            role: found("syncd_source_metadata_expiry_timestamp_seconds", **IWF, role=role)
            for role in ("root", "targets", "snapshot", "timestamp", "lists")
        }
        days = {role: (value - NOW) / 86400 for role, value in expiry.items() if value is not None}
        assert days == {"root": 365, "targets": 180, "snapshot": 7, "timestamp": 2, "lists": 30}
        standing.clock.forward(days=1)
        standing.publish(add=[row(50)])
        standing.sync()
        lists = scrape(metrics)("syncd_source_metadata_expiry_timestamp_seconds", **IWF, role="lists")
        assert lists == NOW + 31 * 86400
        (standing.state.source("iwf").work / "trust" / "targets.json").write_text("{}")
        assert "syncd_source_metadata_expiry_timestamp_seconds{" not in scrape(metrics).text


def test_a_state_that_cannot_be_read_takes_the_counters_not_away(standing: World) -> None:
    """The scrape says so; a bug is told as an event by its kind, not by its words."""
    with told(standing) as (context, _, found):

        def unreadable() -> Overview:
            raise StoreError("the disk is gone")

        def bug() -> Overview:
            raise KeyError("a digest")

        for look, emitted in ((unreadable, []), (bug, [events.InternalError("KeyError", "metrics")])):
            metrics = make_metrics(replace(context, overview=look))
            metrics.activity.count(events.TimestampSigned())
            told_now = scrape(metrics)
            assert told_now("syncd_state_read_success") == 0
            assert told_now("syncd_list_version", **IMAGES) is None
            assert told_now("syncd_timestamp_signatures_total", result="signed") == 1
            assert found == emitted


def test_what_is_not_proved_is_told_by_list(standing: World) -> None:
    """As health finds it."""
    for manifest in standing.state.feed.root.glob("v1/iwf.images/*.manifest.json"):
        manifest.chmod(0o600)
        manifest.write_bytes(b"{}")
    with told(standing) as (context, metrics, _events):
        assert scrape(metrics)("syncd_list_proved", **IMAGES) == 1
        context.health.prove()
        assert scrape(metrics)("syncd_list_proved", **IMAGES) == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), (bearer("x" * 20), 401), (bearer(METRICS), 200), (bearer(OPERATOR), 200)],
)
def test_metrics_are_for_the_operator_and_for_who_collects_them(
    standing: World, headers: dict[str, str], status: int
) -> None:
    """Nobody else is told anything; never stored on the way."""
    with running(standing) as web:
        answer = httpx.get(f"{web.url}/metrics", headers=headers)
        assert (answer.status_code, answer.headers["cache-control"]) == (status, "no-store")
        assert ("syncd_list_version" in answer.text) == (status == 200)
        assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
        assert httpx.get(f"{web.url}/metrics", headers=web.add("upload")).status_code == 403


def test_openmetrics_is_given_to_who_asks_for_it(standing: World) -> None:
    """Otherwise the text format; both can be parsed."""
    with running(standing) as web:
        accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
        answer = httpx.get(f"{web.url}/metrics", headers={**bearer(METRICS), **accept})
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        names = {one.name for one in text_string_to_metric_families(answer.text)}  # type: ignore[no-untyped-call]
        assert {"syncd_list_version", "syncd_syncs", "syncd_publish_to_loaded_seconds"} <= names
        plain = httpx.get(f"{web.url}/metrics", headers=bearer(METRICS))
        assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_two_scrapes_at_once_are_both_answered(standing: World) -> None:
    """Each whole."""
    with running(standing) as web, ThreadPoolExecutor(4) as pool:
        found = [one.result() for one in [pool.submit(scrape_site, web) for _ in range(8)]]
    assert {one("syncd_list_version", **IMAGES) for one in found} == {1}


def test_requests_are_counted_by_kind_and_status(standing: World) -> None:
    """With the bytes sent, and what is open."""
    with running(standing) as web:
        headers = web.add("upload")
        before = scrape_site(web)
        assert before("syncd_http_requests_total", kind="feed", status="2xx") == 0
        with httpx.Client(headers=headers) as client:
            length = len(client.get(f"{web.url}/feed/metadata/timestamp.json").content)
            client.get(f"{web.url}/feed/metadata/none.json")
            httpx.get(f"{web.url}/feed/metadata/timestamp.json")
            with stream(web, headers) as reader:
                reader.event()
                found = scrape_site(web)
                assert found("syncd_http_event_streams") == 1
                assert found("syncd_http_connections") == 3
        assert found("syncd_http_event_streams_limit") == 2000
        assert found("syncd_http_connections_limit") == 4096
        assert found("syncd_http_requests_total", kind="feed", status="2xx") == 1
        assert found("syncd_http_requests_total", kind="feed", status="4xx") == 2
        assert found("syncd_http_requests_total", kind="events", status="2xx") == 1
        assert found("syncd_http_requests_total", kind="metrics", status="2xx") == 1
        sent = found("syncd_http_response_bytes_total", kind="feed") or 0
        assert length < sent < length + 100


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/feed/v1/iwf.images/x", RequestKind.FEED),
        ("/api/v1/checkin", RequestKind.CHECKIN),
        ("/api/v1/auth", RequestKind.AUTH),
        ("/api/v1/status", RequestKind.STATUS),
        ("/readyz", RequestKind.HEALTH),
        ("/", RequestKind.DASHBOARD),
        ("/dashboard/app.js", RequestKind.DASHBOARD),
        ("/openapi.json", RequestKind.OTHER),
        ("/feed", RequestKind.OTHER),
    ],
)
def test_any_path_is_of_a_kind(path: str, kind: RequestKind) -> None:
    """A closed set, whatever is asked for."""
    assert kind_of(path) is kind


def test_no_metric_holds_what_is_secret(standing: World) -> None:
    """Neither a digest, of lists or files, nor an entry, nor a token."""
    with running(standing) as web:
        token = web.add("upload")["Authorization"].removeprefix("Bearer ")
        text = scrape_site(web).text
    assert token not in text
    assert METRICS not in text
    assert re.search(r"[0-9a-f]{32}", text) is None
    assert not {one for number in range(30) for one in (row(number)[1], f'"{row(number)[2]}"') if one in text}


def test_a_list_costs_a_bounded_number_of_series(world: World) -> None:
    """Thirty-seven; each costs time at every scrape."""
    sizes = []
    for number in range(3):
        world.publish(full=rows(0, 2), name=ListName(f"list{number}"))
        world.sync()
        sizes.append(len(now(world)))
    assert sizes[1] - sizes[0] == sizes[2] - sizes[1] == 37


def documented(section: str) -> list[tuple[str, ...]]:
    """The rows of a table: name, type, labels, meaning."""
    found = re.findall(r"^\| `([a-z_]+)` \| ([a-z]+) \| (.*?) ?\| (.+) \|$", section, re.M)
    return [(name, kind, labels.replace("`", ""), text) for name, kind, labels, text in found]


def test_every_metric_is_documented_and_no_other(standing: World, tmp_path: Path) -> None:
    """Name, type, labels and meaning, in the order of the scrape."""
    certificate, _ = Authority(tmp_path, "one").certificate("client")
    standing.publish(full=rows(0, 2), name=ListName("old"))
    standing.publish(add=[row(40)])
    standing.sync()
    with standing.publisher() as publisher:
        rollback(publisher, ListName("iwf.images"), 1, reason="wrong", actor="me", now=START)
        retire(publisher, ListName("iwf.old"), (), actor="me", reason="it ended", now=START)
    with told(standing, client_cert=certificate) as (context, metrics, _events):
        matcher = MatcherRecord("upload", "0" * 64, None, START, "me")
        context.catalog.add_matcher(matcher, AuditEntry(START, "me", AddedMatcher("upload", None)))
        context.checkins.note("upload", "web-1", {ListName("iwf.images"): 1}, START)
        context.checkins.flush()
        context.catalog.lead(ANSWERING.daemon, "host", "folder", 15.0)
        context.catalog.note_daemon(DaemonRecord(ANSWERING.daemon, "host", 7, "1", START))
        families = list(metrics.collect())
    of_daemon = DOCUMENT.partition("## Mirrors")[0]
    assert documented(of_daemon) == [(_name(one), one.type, _labels(one), one.documentation) for one in families]


def test_every_metric_of_a_mirror_is_documented_and_no_other(standing: World) -> None:
    """In a section of their own."""
    replica = Replica(FeedFolder(standing.base / "edge"), standing.operator_root.read_bytes())
    replica.prepare()
    replica.update(Endpoint(standing.state.feed.root.as_uri()), None, standing.clock(), Deadline(30))
    upstream = Endpoint("https://upstream.example.org/feed/")
    tokens, relay = UpstreamTokens(upstream, standing.base / "access.json", standing.clock), CheckinRelay(upstream)
    updates = Updates(
        replica,
        upstream,
        tokens,
        interval=60,
        deadline=60,
        instance="eu-1",
        announce=lambda _name, _version: None,
        emit=lambda _event: None,
        clock=standing.clock,
    )
    families = list(MirrorCollector(replica, tokens, relay, updates).collect())
    of_mirror = DOCUMENT.partition("## Mirrors")[2]
    assert documented(of_mirror) == [(_name(one), one.type, _labels(one), one.documentation) for one in families]
    values = {one.name: one.samples[0].value for one in families}
    assert values["syncd_mirror_list_version"] == 1
    assert values["syncd_mirror_list_verified_timestamp_seconds"] == START.timestamp()


def _name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def _labels(family: Metric) -> str:
    return ", ".join(label for label in family.samples[0].labels if label != "le")


@contextmanager
def served(world: World) -> Iterator[tuple[Process, httpx.Client]]:
    """A daemon that answers at a unix socket."""
    tokens, socket = world.base / "metrics.token", world.base / "h.sock"
    tokens.touch(0o600)
    tokens.write_text(METRICS)
    serve = f'[serve]\nlisten = "unix:{socket}"\nmetrics_token_file = "{tokens}"\n'
    (world.base / "syncd.toml").write_text(text(world) + serve)
    transport = httpx.HTTPTransport(uds=str(socket))
    with daemon(world) as process, httpx.Client(transport=transport, base_url="http://x") as client:
        client.headers.update(bearer(METRICS))
        yield process, client


def test_a_running_daemon_can_be_scraped(today: World) -> None:  # noqa: F811 - the fixture
    """What it did, how it stands, whom it serves; after a restart the state is the same and the counters begin anew."""
    loaded = {"matcher": "upload", "list": "iwf.images"}
    with served(today) as (process, client):
        assert Scrape(client.get("/metrics").text)("syncd_syncs_total", **IWF, outcome="published") == 0
        assert syncd("sync").code == 0
        token = syncd("matchers", "add", "upload", "--json").json["matcher"]["token"]
        body = {"instance": "web-1", "lists": {"iwf.images": 1}}
        assert client.post("/api/v1/checkin", json=body, headers=bearer(token)).status_code == 204
        found = Scrape(client.get("/metrics").text)
        process.stop()
    assert found("syncd_syncs_total", **IWF, outcome="published") == 1
    assert found("syncd_list_syncs_total", **IMAGES, outcome="published") == 1
    assert (found("syncd_source_received_bytes_total", **IWF) or 0) > 1000
    assert found("syncd_list_rows", **IMAGES) == 3
    assert found("syncd_publish_to_loaded_seconds_count", list="iwf.images") == 1
    assert found("syncd_http_requests_total", kind="checkin", status="2xx") == 1
    assert found("syncd_list_age_limit_seconds", **IMAGES, level="warn") == 3 * 86400
    with served(today) as (_, client):
        again = Scrape(client.get("/metrics").text)
    for name in ("syncd_list_verified_timestamp_seconds", "syncd_list_version"):
        assert again(name, **IMAGES) == found(name, **IMAGES)
    assert again("syncd_matcher_loaded_version", **loaded) == 1
    assert again("syncd_syncs_total", **IWF, outcome="published") == 0
