"""The address of the runbook, from the configuration: in the rules that are printed, and in what a probe says."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from command_line import configure, operate, settings, syncd
from runbook import DOCS
from syncd.catalog.decisions import CanaryNote, HoldRecord, Suppression
from syncd.catalog.records import MatcherRecord, Pin
from syncd.certificates import CertificateView, ValidityPeriod
from syncd.cli.probe import judge
from syncd.clock import ClockFault, ClockReading
from syncd.feed.proof_record import FoundFault, HistoryFault
from syncd.model import Algorithm, ListName
from syncd.outcomes import HoldReason, Lane, Outcome
from syncd.report import runbook
from syncd.report.expiry import Expiry
from syncd.report.judged import ListView, Overview, SourceView, StorageFault
from syncd.report.lagging import views
from syncd.report.proof import ProofView
from syncd.report.status import status_document
from syncd.report.suppressions import SuppressionsView
from syncd.service.faults import section_of
from syncd.service.web.dashboard.overview import overview_page
from syncd.service.web.dashboard.tasks import PageData, tasks
from syncd.settings import Certificate
from syncd.trust.overlong import LateExpiry
from test_alerts import RULES
from test_dashboard import IWF, NOW, ended, instance, listed, source
from world import START, World, rows

PAGE = "https://wiki.example.org/syncd/operations"


def with_page(world: World, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure the address of the runbook."""
    operate(world, monkeypatch)
    configure(world.base / "syncd.toml", f"runbook = '{page}'\n{settings(world)}", monkeypatch)


def test_the_rules_are_printed_with_absolute_links(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else of them is changed."""
    operate(world, monkeypatch)
    plain = syncd("alerts")
    assert plain.code == 0
    assert plain.err.startswith("warning: the links to the runbook are relative paths\n  to do: set `runbook`")
    with_page(world, PAGE, monkeypatch)
    ran = syncd("alerts")
    assert (ran.code, ran.err) == (0, "")
    assert set(re.findall(r"runbook_url: (\S+)", ran.out)) == {f"{PAGE}#{rule['alert'].lower()}" for rule in RULES}
    assert plain.out == (DOCS.parent / "syncd" / "alerts.yml").read_text()
    assert ran.out.replace(f"{PAGE}#", "docs/operations.md#") == plain.out


def test_there_is_one_copy_of_the_rules() -> None:
    """That of the package; promtool's tests read it through a link."""
    project = DOCS.parent
    link = project / "monitoring" / "alerts.yml"
    assert link.is_symlink()
    assert link.resolve() == project / "syncd" / "alerts.yml"


@pytest.mark.parametrize(
    "page", ["docs/operations.md", "wiki.example.org", f"{PAGE}#top", "https://a b", 'https://x/"', "ftp://x/"]
)
def test_only_the_absolute_address_of_a_page_is_taken(world: World, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a fragment, and nothing that YAML or HTML would read otherwise."""
    with_page(world, page, monkeypatch)
    ran = syncd("alerts")
    assert (ran.code, ran.out) == (2, "")
    assert "runbook: not the absolute address of a page\n  to do: write it without #" in ran.err


def test_every_section_that_is_named_exists() -> None:
    """In docs/operations.md, under the name that a link has."""
    named = {one for key, one in vars(runbook).items() if key.isupper() and isinstance(one, str)}
    headings = {found.lower() for found in re.findall(r"^#+ (\w+)$", (DOCS / "operations.md").read_text(), re.M)}
    assert {one.lower() for one in (*named, *runbook.OF_OUTCOME.values())} <= headings


def test_a_probe_names_the_section_about_its_worst_fault(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Last, and only if the page is configured and there is a fault."""
    with_page(world, PAGE, monkeypatch)
    world.publish(full=rows(0, 130))
    assert syncd("sync").code == 0
    assert "runbook" not in syncd("status", "--check").out
    world.clock.forward(hours=-3)
    assert f"; runbook: {PAGE}#syncdstateahead" in syncd("status", "--check").out
    world.clock.forward(hours=3)
    world.publish(remove=rows(10, 130))
    assert syncd("sync").code == 3
    held = syncd("status", "--check").out
    assert held.partition(" | ")[0].rstrip().endswith(f"; runbook: {PAGE}#syncdheld")
    operate(world, monkeypatch)
    assert "runbook" not in syncd("status", "--check").out


DAY = timedelta(days=1)


def hold(*reasons: HoldReason, lane: Lane = Lane.ADDITIONS) -> HoldRecord:
    """An open hold of the list."""
    return HoldRecord(IWF, "iwf", lane, reasons, (), 40, NOW, id=7)


def everything(one: ListView | None = None, **more: object) -> Overview:
    """The state of one list and its source, which are well unless the test says otherwise."""
    one = one or listed(source(ended(Outcome.UP_TO_DATE)))
    return replace(Overview(NOW, (one,), (one.source,), (), ()), **more)  # type: ignore[arg-type]  # as a test gives them


def old(days: float) -> ListView:
    """A list that was last verified then; its source is synced every day."""
    view = listed(replace(source(ended(Outcome.UP_TO_DATE)), interval=DAY))
    assert view.origin
    return replace(view, origin=replace(view.origin, verified_at=NOW - timedelta(days=days)))


def after(outcome: Outcome, *reasons: str) -> ListView:
    """A list whose last sync ended so."""
    return listed(source(ended(outcome, "it broke", *reasons)))


def pinned() -> ListView:
    """A list that was rolled back."""
    view = listed(source(ended(Outcome.UP_TO_DATE)))
    assert view.origin
    pin = Pin(1, (), exact=False, by="olga", reason="bad labels", at=START)
    return replace(view, origin=replace(view.origin, pin=pin))


def canaries(missing: int = 0, fault: str = "") -> ListView:
    """A list with trouble in its canaries."""
    note = CanaryNote(IWF, must_have=3, missing=missing, fault=fault)
    return replace(listed(source(ended(Outcome.UP_TO_DATE))), canaries=note)


def certificate(begins: timedelta, ends: timedelta) -> Overview:
    """The server's certificate, valid from then until then."""
    period = ValidityPeriod(Path("/etc/syncd/server.pem"), NOW + begins, NOW + ends)
    return everything(certificates=(CertificateView(Certificate("server", "", period.path), period, NOW),))


def matchers(*names: str, minutes: float = 1) -> Overview:
    """Instances that have the version before the newest, and were last seen then; or one that is current."""
    late = tuple(instance(name, 1, minutes=minutes) for name in names)
    record = MatcherRecord("uploads", "0" * 64, None, START, "admin")
    return everything(matchers=views((record,), late, {IWF: 2}, NOW))


def storage(what: str) -> Overview:
    """A storage failure of a task of the daemon."""
    return everything(faults=(StorageFault(what, NOW, "the disk is full", "free space", section_of(what)),))


def suppression() -> Overview:
    """A suppression that expires tomorrow."""
    one = Suppression(3, Algorithm.MD5, "00" * 16, None, IWF, "an error", "olga", START, NOW + DAY, "00" * 16)
    return everything(suppressions=SuppressionsView({IWF: 1}, (one,), 1))


NEW = SourceView("new", timedelta(minutes=5), None)
MANIFEST = FoundFault(list=IWF, manifest="0" * 64, part="manifest", kind="FeedError", message="altered", to_do="look")
HISTORY = HistoryFault(list=IWF, path="/nowhere", identity=(1, 2, 3), message="damaged", to_do="restore it")
TROUBLE = {
    "SyncdHeld": everything(after(Outcome.HELD, "shrunk")),
    "SyncdHeld, of suppressions": everything(
        replace(after(Outcome.UP_TO_DATE), holds=(hold(HoldReason.SECOND_OPERATOR, lane=Lane.SUPPRESSIONS),))
    ),
    "SyncdHeld, of a list that was never published": everything(
        first_holds=(replace(hold(HoldReason.TOO_SMALL), list=ListName("iwf.videos")),)
    ),
    "SyncdHeld, of a source without lists": everything(
        sources=(NEW,), lists=(), first_holds=(replace(hold(HoldReason.TOO_SMALL), source="new"),)
    ),
    "SyncdKnownGoodHeld": everything(replace(after(Outcome.UP_TO_DATE), holds=(hold(HoldReason.KNOWN_GOOD),))),
    "SyncdRejected": everything(after(Outcome.REJECTED)),
    "SyncdRejected, of a source without lists": everything(
        sources=(replace(NEW, last=ended(Outcome.REJECTED, "a bad signature")),), lists=()
    ),
    "SyncdUnreachable": everything(after(Outcome.UNREACHABLE)),
    "SyncdSyncsFail": everything(after(Outcome.REFUSED)),
    "SyncdSyncsFail, on storage": everything(after(Outcome.FAILED)),
    "SyncdSyncsFail, without a record": storage("sync of iwf"),
    "alerts": everything(after(Outcome.INTERRUPTED)),
    "SyncdListStale": everything(old(3.1)),
    "SyncdListVeryStale": everything(old(30)),
    "SyncdSourceNotConfigured": everything(listed(SourceView("iwf", None, ended(Outcome.REJECTED, "it broke")))),
    "SyncdNothingPublished": everything(sources=(NEW,), lists=()),
    "SyncdListPinned": everything(pinned()),
    "SyncdCanaryMissing": everything(canaries(missing=2)),
    "SyncdKnownGoodUnusable": everything(canaries(fault="it has a bad row")),
    "SyncdStateAhead": everything(clock=ClockFault(NOW, (ClockReading("the signature of timestamp", NOW + DAY),))),
    "SyncdStateAhead, by a list": everything(old(-1)),
    "SyncdPartnerClockAhead": everything(
        sources=(replace(source(ended(Outcome.UP_TO_DATE)), late_expiry=LateExpiry(NOW + 90 * DAY, NOW + 30 * DAY)),)
    ),
    "SyncdListNotProved": everything(proof=ProofView(faults=(MANIFEST,))),
    "SyncdHistoryDamaged": everything(proof=ProofView(history=(HISTORY,))),
    "SyncdProofLate": everything(proof=ProofView(proved_at=NOW - 4 * DAY)),
    "SyncdMetadataExpiring": everything(roles=(Expiry("root", 1, NOW + 20 * DAY, 20 * DAY),)),
    "SyncdMetadataOverdue": everything(roles=(Expiry("snapshot", 1, NOW + DAY / 24, DAY / 24),)),
    "SyncdTimestampNotSigned": everything(roles=(Expiry("timestamp", 1, NOW, timedelta(0)),)),
    "SyncdTimestampNotSigned, for want of space": storage("timestamp"),
    "SyncdInternalErrors": storage("garbage"),
    "SyncdCertificateExpiring": certificate(-30 * DAY, 2 * DAY),
    "SyncdCertificateExpiring, long ago": certificate(-30 * DAY, -2 * DAY),
    "SyncdCertificateNotYetValid": certificate(2 * DAY, 30 * DAY),
    "SyncdMatcherBehind": matchers("web-1"),
    "SyncdMatcherSilent": matchers("web-1", "web-2", minutes=40),
    "SyncdSuppressionExpires": suppression(),
}
"""One state for each section that both views name, and how it comes about."""


@pytest.mark.parametrize("name", TROUBLE)
def test_the_dashboard_links_to_the_section_that_a_probe_names(name: str) -> None:
    """The same judgement in both, by the name that the alert rules link to."""
    seen, section = TROUBLE[name], name.partition(",")[0]
    assert {task.section for task in tasks(seen)} == {section}
    probe = judge(status_document(seen).model_dump(mode="json"), page=PAGE)
    assert probe.text.endswith(f"; runbook: {PAGE}#{section.lower()}")
    (link,) = set(re.findall(r'<a href="([^"/][^"]*)">', str(overview_page(PageData(seen, tasks(seen), PAGE), {}))))
    assert link == f"{PAGE}#{section.lower()}"
    if section != runbook.ALERTS:
        assert link in {f"{PAGE}#{rule['alert'].lower()}" for rule in RULES}


def test_instances_that_are_silent_beside_others_have_a_section_of_their_own() -> None:
    """It is no fault for a probe: the others go on."""
    late, well = instance("web-1", 2, minutes=40), instance("web-2", 2)
    record = MatcherRecord("uploads", "0" * 64, None, START, "admin")
    seen = everything(matchers=views((record,), (late, well), {IWF: 2}, NOW))
    assert [task.section for task in tasks(seen)] == ["SyncdInstancesSilent"]


def test_without_a_configured_runbook_the_dashboard_has_no_link_to_it() -> None:
    """A relative link would lead nowhere."""
    seen = everything(after(Outcome.REJECTED))
    assert "Runbook" not in str(overview_page(PageData(seen, tasks(seen)), {}))


def test_an_older_daemon_names_no_section() -> None:
    """Then the link leads to the head of the alerts."""
    document = status_document(everything(after(Outcome.REJECTED))).model_dump(mode="json")
    del document["lists"][0]["section"]
    assert judge(document, page=PAGE).text.endswith(f"; runbook: {PAGE}#alerts")
