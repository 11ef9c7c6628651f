"""Every partner that signs nothing on the whole road: from its server, by a configuration file, to a matcher's copy."""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from command_line import syncd, use_clock
from partner_world import KINDS, PAGE, PartnerWorld, Row, Source, partner_world
from partners import ncmec
from scrapes import scrape_site
from syncd.database_address import DatabaseAddress
from syncd.outcomes import Outcome
from syncd.pipeline.answers import read_answers
from syncd.store.settings import BucketSettings
from syncd.verify.state import prove_state
from test_dashboard_web import OURS, sign_in
from web_site import OPERATOR, bearer, running

FILTERED = [word for word, kind in KINDS.items() if kind.narrow]
BASIC = base64.b64encode(f"{ncmec.USERNAME}:{ncmec.PASSWORD}".encode()).decode()


@pytest.fixture
def road(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PartnerWorld]:
    """A partner of one type with twelve records, and an operator that has not synced yet."""
    with partner_world(tmp_path, request.param) as made:
        use_clock(made.clock, monkeypatch)
        monkeypatch.setenv("SYNCD_CONFIG", str(made.config_file))
        yield made


def on_every(*words: str) -> pytest.MarkDecorator:
    """Run a test for these types of partner."""
    return pytest.mark.parametrize("road", words, indirect=True)


def change(road: PartnerWorld, word: str) -> None:
    """The partner withdraws two records, changes one, creates a withdrawn one again and adds one."""
    model = road.sources[word].fake.model
    for number in (1, 2, 6):
        model.delete(number)
    road.tick(5)
    for number in (2, 3, 13):
        model.put(number)
    road.tick(60)


@on_every(*KINDS)
def test_a_withdrawal_reaches_the_matcher(road: PartnerWorld) -> None:
    """Lists, entries and labels are the partner's, the manifest says stated, the raw answers are kept, and a withdrawn
    record leaves the head and, by a pull, the matcher's copy."""
    (source,) = road.sources.values()
    word, first = source.name, source.rows
    assert road.sync().outcome is Outcome.PUBLISHED
    assert road.published(word) == first
    matcher = road.pull()
    assert road.matched(word, matcher, first) == first
    for own, media in source.kind.media.items():
        made = road.manifest(word, source.lists[list(source.kind.media).index(own)])
        assert made.origin
        assert (made.list, made.origin.kind, made.origin.serial) == (f"{word}.{own}", "stated", 1)
        assert (made.media, made.purpose) == (media, source.kind.purpose)
    change(road, word)
    second = source.rows
    assert len(first - second) >= 3
    assert road.sync().outcome is Outcome.PUBLISHED
    assert road.published(word) == second
    assert matcher.reload() is False
    road.pull()
    assert matcher.reload() is True
    assert road.matched(word, matcher, first | second) == second
    answers = [answer for own in source.lists for answer in road.answers(word, own)]
    assert answers
    assert evidence(road.world.state.feed.root) + evidence(road.world.copy) == []
    assert {redacted(answer) for answer in answers} <= {redacted(sent) for sent in source.fake.sent}
    assert road.sync().outcome is Outcome.UP_TO_DATE
    assert prove_state(road.world.state, None, road.clock()).faults == ()
    shown = syncd("verify", "--json")
    assert (shown.code, shown.json["faults"]) == (0, [])
    copy = syncd("verify", road.world.copy, "--root", road.world.operator_root)
    assert (copy.code, copy.err) == (0, "")


def evidence(folder: Path) -> list[Path]:
    """Raw answers where matchers can fetch; they are kept below the source's own folder."""
    return [path for path in folder.rglob("*") if path.name == "answers" or path.suffix == ".zst"]


def redacted(answer: bytes) -> bytes:
    """The answer without the links that repeat a token."""
    return re.sub(rb'"next": "[^"]*"', b"", answer)


@on_every(*KINDS)
def test_it_is_reported_like_any_other_source(road: PartnerWorld) -> None:
    """By a first look, sync, status, its check, explain, metrics and dashboard; none of them has a digest, a credential
    or an address with one, and no file of the state or the copy has a credential."""
    (source,) = road.sources.values()
    word, before = source.name, source.rows
    look = syncd("source", "try", word, "--json")
    assert sum(one["records"] for one in look.json["lists"]) == (12 if word == "drop" else PAGE)
    assert not (road.world.state.root / "sources" / word).exists()
    ran = [
        look,
        syncd("source", "try", word),
        syncd("source"),
        syncd("source", "--json"),
        syncd("sync", word, "--json"),
    ]
    change(road, word)
    ran += [syncd("sync", word, "--dry-run"), syncd("sync", word), syncd("sync", word)]
    road.pull()
    names = {f"{word}.{own}" for own in source.kind.media}
    status, check = syncd("status", "--json"), syncd("status", "--check")
    assert {one["list"] for one in status.json["lists"]} == names
    assert check.out.startswith("SYNCD OK")
    ran += [status, check, syncd("status"), syncd("audit"), syncd("holds"), syncd("status", road.world.copy)]
    assert [one.code for one in ran] == [0] * len(ran)
    check_explained(before, source)
    served = on_the_site(road, word, names)
    texts = [*(one.out + one.err for one in ran), *served]
    digests = {row.digest for row in before | source.rows}
    assert [text for text in texts for bad in {*road.secrets, BASIC, "access_token", *digests} if bad in text] == []
    found = [path for folder in (road.world.state.root, road.world.copy) for path in folder.rglob("*")]
    content = [(path, path.read_bytes()) for path in found if path.is_file()]
    content += [(path, answer) for path in found if path.suffix == ".zst" for answer in read_answers(path)]
    assert [path for path, text in content for bad in {*road.secrets, BASIC} if bad.encode() in text] == []


def check_explained(before: set[Row], source: Source) -> None:
    """A withdrawn digest is explained by list, entry and label, and the versions in which it came and went."""
    left = {row.digest for row in source.rows}
    gone = min(row for row in before if row.digest not in left)
    ((found,), in_force) = (
        syncd("explain", f"{gone.algorithm}:{gone.digest}", "--json").json[key] for key in ("lists", "in_force")
    )
    ((entry, label, events),) = ([one["entry"], one["label"], one["events"]] for one in found["entries"])
    assert (found["list"], entry, label, in_force) == (f"{source.name}.{gone.list}", gone.entry, gone.label, False)
    assert [(one["change"], one["label"], one["version"], one["serial"], one["keys"]) for one in events] == [
        ("added", gone.label, 1, 1, []),
        ("removed", gone.label, 2, 2, []),
    ]


def on_the_site(road: PartnerWorld, word: str, names: set[str]) -> list[str]:
    """Look at pages, the document and the metrics of the operator's site; return all of them, and its events."""
    with running(road.world, intervals={word: 600.0}) as run, httpx.Client(base_url=run.url, headers=OURS) as browser:
        sign_in(browser)
        pages = [browser.get(path) for path in ("/", f"/sources/{word}", *(f"/lists/{name}" for name in names))]
        pages += [browser.get("/events"), browser.get("/audit")]
        assert [page.status_code for page in pages] == [200] * len(pages)
        assert [word in page.text for page in pages[: 2 + len(names)]] == [True] * (2 + len(names))
        document = httpx.get(f"{run.url}/api/v1/status", headers=bearer(OPERATOR))
        assert {one["list"] for one in document.json()["lists"]} == names
        scraped = scrape_site(run)
        rows = sum(scraped("syncd_list_rows", source=word, list=name) or 0 for name in names)
        assert rows == len(road.sources[word].rows)
        assert scraped("syncd_source_success_timestamp_seconds", source=word) == road.clock().timestamp()
        events = json.dumps([one.document() for one in run.events], default=str)
    return [*(page.text for page in pages), document.text, scraped.text, events]


@on_every(*FILTERED)
def test_other_filters_replace_the_lists(road: PartnerWorld) -> None:
    """The next sync reads everything again, and takes away what is not taken any more; then it goes on from there."""
    (source,) = road.sources.values()
    word, every = source.name, source.rows
    road.sync()
    for narrowed in (True, False):
        source.narrowed = narrowed
        road.configure()
        road.tick(60)
        assert (source.rows < every) is narrowed
        outcome = road.sync()
        assert {one.plan for one in outcome.lists} == {"full:reshaped"}
        assert road.published(word) == source.rows
    change(road, word)
    assert {one.plan for one in road.sync().lists} == {"deltas"}
    assert road.published(word) == source.rows


@on_every("stopncii", "threatexchange")
def test_a_partner_that_has_forgotten_deletions_is_read_again(road: PartnerWorld) -> None:
    """After a gap for which it does not promise them any more: what it does not state is removed, so no ghost stays."""
    (source,) = road.sources.values()
    road.sync()
    change(road, source.name)
    road.tick(86 * 86400)
    source.fake.model.forget(source.fake.model.now)
    outcome = road.sync()
    assert {one.plan for one in outcome.lists} == {"full:restated"}
    assert road.published(source.name) == source.rows


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_on_postgresql_and_a_bucket(tmp_path: Path, database: DatabaseAddress, bucket: BucketSettings) -> None:
    """A withdrawal reaches the matcher, also if the daemon that sees it starts on another, empty disk; the evidence is
    in the bucket."""
    with partner_world(tmp_path / "world", "stopncii", database=database, bucket=bucket) as road:
        (source,) = road.sources.values()
        first = source.rows
        assert road.sync().outcome is Outcome.PUBLISHED
        assert road.matched("stopncii", road.pull(), first) == first
        shutil.rmtree(road.world.state.feed.root)
        shutil.rmtree(road.world.state.root / "sources")
        change(road, "stopncii")
        outcome = road.sync()
        assert {one.plan for one in outcome.lists} == {"deltas"}
        assert road.matched("stopncii", road.pull(), first | source.rows) == source.rows
        shutil.rmtree(road.world.state.root / "sources")
        kept = road.answers("stopncii", source.lists[0])
        assert kept
        assert set(kept) <= set(source.fake.sent)
        assert prove_state(road.world.state, None, road.clock()).faults == ()
