"""RetentionLimits: the limits of the past that is kept, and what is needed in spite of them."""

import getpass
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from command_line import configure, operate, settings, syncd
from syncd.acts import AuditShortened, RemovedOldFiles
from syncd.catalog import pruning
from syncd.catalog.catalog import Catalog
from syncd.catalog.records import AuditEntry, LoadedVersion, MatcherRecord, SyncFault
from syncd.config import RetentionTable
from syncd.feed import layout
from syncd.feed.garbage import kind_of
from syncd.format import manifest as manifests
from syncd.locks import lock
from syncd.operate.holds import end_hold
from syncd.outcomes import Outcome
from syncd.pipeline.collector import Cleanup
from syncd.retention import DEFAULTS, RetentionLimits
from syncd.verify.state import prove_state
from test_catalog import ENTRY, NOON
from test_daemon import daemon, today
from world import HEAD, World, row, rows

__all__ = ["today"]  # a fixture

FEW = RetentionLimits(versions=64, published_versions=2, evidence=1, matchers=timedelta(days=30))


def files(world: World) -> set[str]:
    """The files of the operator's feed below v1."""
    root = world.state.feed.root
    return {str(path.relative_to(root)) for path in (root / "v1").rglob("*") if path.is_file()}


def versions(world: World, count: int, start: int = 100) -> None:
    """Publish and sync a number of versions."""
    for number in range(start, start + count):
        world.publish(add=[row(number)])
        assert world.sync().exit_code == 0


def clean(world: World, limits: RetentionLimits = DEFAULTS, *, dry_run: bool = False) -> Cleanup:
    """Remove what is old now."""
    with world.publisher() as publisher:
        limited = replace(publisher, retention=lambda: limits)
        return limited.collector.everything(world.clock(), dry_run=dry_run)


def clean_twice(world: World, limits: RetentionLimits) -> Cleanup:
    """Remove what is old now and a day later."""
    clean(world, limits)
    world.clock.forward(hours=25)
    return clean(world, limits)


def load(world: World, version: int) -> None:
    """Let a matcher report that it has loaded a version."""
    with Catalog.open(world.state.catalog) as catalog:
        if not catalog.matchers():
            catalog.add_matcher(MatcherRecord("web", "0" * 64, None, world.clock(), "alice"), ENTRY)
        now = world.clock()
        catalog.replace_loaded([("web", "web-1")], [LoadedVersion("web", "web-1", HEAD, version, now, now)])


def prove(world: World) -> None:
    """Everything that is kept is whole, and fits together."""
    assert prove_state(world.state, None, world.clock(), deep=True, kept=1).faults == ()


def manifest_of(world: World, version: int) -> str:
    """The path of a version's manifest in the feed."""
    with Catalog.open(world.state.catalog) as catalog:
        record = catalog.version(HEAD, version)
    assert record is not None
    return layout.manifest_path(HEAD, record.manifest_sha256)


@pytest.fixture
def many(world: World) -> World:
    """A list with 12 versions, folded once."""
    world.publish(full=rows(0, 40))
    assert world.sync().exit_code == 0
    versions(world, 10)
    return world


def test_only_the_newest_versions_stay_in_the_feed(many: World) -> None:
    """With a smaller limit the files of older ones go, a day after they were first found unnamed."""
    before = files(many)
    oldest, newest = manifest_of(many, 1), manifest_of(many, 11)
    assert clean(many, FEW).feed.files == 0
    assert files(many) == before
    many.clock.forward(hours=25)
    done = clean(many, FEW)
    assert done.feed.removed["manifests"].files == len([path for path in before if kind_of(path) == "manifests"]) - 2
    assert oldest not in files(many)
    assert newest in files(many)
    prove(many)


def test_a_version_that_a_matcher_reported_lately_stays(many: World) -> None:
    """Manifest and stack, and its record in the catalog, until the matcher was silent for the time set."""
    load(many, 3)
    kept = manifest_of(many, 3)
    clean_twice(many, FEW)
    with Catalog.open(many.state.catalog) as catalog:
        record = catalog.version(HEAD, 3)
        assert record is not None
    assert kept in files(many)
    assert manifest_of(many, 4) not in files(many)
    many.clock.forward(days=31)
    clean_twice(many, FEW)
    assert kept not in files(many)


def test_a_matcher_that_is_many_versions_behind_still_follows_by_deltas(many: World) -> None:
    """The deltas that the current manifest names stay, whatever the limits."""
    assert not many.pull().errors
    versions(many, 20, start=300)
    clean_twice(many, FEW)
    many.publish(add=[row(999)])
    assert many.sync().exit_code == 0
    before = {path.name for path in many.copy.rglob("*.arrow")}
    assert not many.pull().errors
    assert many.hits(999)
    gained = {path.name for path in many.copy.rglob("*.arrow")} - before
    bases = {path.rpartition("/")[2] for path in files(many)} & gained
    assert gained == bases


def test_deltas_and_evidence_have_limits_of_their_own(many: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond those of the versions whose files stay, and of the deltas that the current manifest names."""
    monkeypatch.setattr("syncd.publish.change.RECENT", 3)
    versions(many, 12, start=300)
    clean_twice(many, RetentionLimits(published_versions=1, deltas=8, evidence=4))
    with Catalog.open(many.state.catalog) as catalog:
        newest = [manifests.parse(record.manifest) for record in catalog.versions(HEAD, 12)]
    stack = {ref.sha256 for ref in newest[0].stack}
    deltas = [{ref.sha256 for ref in one.recent[-1].segments} if one.recent else set() for one in newest]
    left = {path.rpartition("/")[2].partition(".")[0] for path in files(many)}
    assert set().union(*deltas[:8]) <= left
    assert not (set().union(*deltas[9:]) - set().union(*deltas[:9]) - stack) & left
    evidence = [one.origin.evidence.sha256 for one in newest if one.origin and one.origin.evidence]
    assert set(evidence[:4]) <= left
    assert not (set(evidence[5:]) - set(evidence[:5])) & left
    prove(many)


def test_the_rows_of_a_hold_stay(world: World) -> None:
    """An open hold can be released after any time, with the smallest limits."""
    world.publish(full=rows(0, 2))
    world.sync()
    world.publish(remove=rows(0, 2))
    assert world.sync().exit_code == 3
    clean_twice(world, FEW)
    with world.publisher() as publisher:
        (hold,) = publisher.catalog.holds()
        settled = end_hold(publisher, hold.id, release=True, actor="alice", reason="asked", now=world.clock())
    assert settled.changes_head


def test_a_dry_run_changes_nothing_and_counts_what_would_go(many: World) -> None:
    """Its counts are those of the run that follows."""
    clean(many, FEW)
    many.clock.forward(hours=25)
    before, ledger = files(many), (many.state.feed.work / "unnamed.json").read_bytes()
    would = clean(many, FEW, dry_run=True)
    assert would.feed.files > 0
    assert (files(many), (many.state.feed.work / "unnamed.json").read_bytes()) == (before, ledger)
    did = clean(many, FEW)
    assert (did.feed.removed, did.records) == (would.feed.removed, would.records)


def test_a_source_that_is_being_synced_is_left_alone(many: World) -> None:
    """Its files are on their way; the report says so."""
    with lock(many.state.source("iwf").lock, "a sync"):
        assert clean(many).skipped == ("iwf",)


def test_the_origin_keeps_what_it_needs(many: World) -> None:
    """After everything else has gone, a delta still applies to it."""
    for _ in range(3):
        clean_twice(many, FEW)
    assert prove_state(many.state, None, many.clock(), deep=True, kept=2).faults == ()
    versions(many, 1, start=700)


# records of the catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(tmp_path / "catalog.sqlite3") as opened:
        yield opened


def forget(catalog: Catalog, limits: RetentionLimits) -> dict[str, int]:
    """Forget all that is old."""
    found: dict[str, int] = {}
    for old in catalog.old_records(limits, NOON):
        counted = catalog.count_old(old)
        assert catalog.forget(old) == counted
        found[old.kind] = found.get(old.kind, 0) + counted.records
    return found


def test_old_syncs_go_but_the_last_good_one_stays(catalog: Catalog) -> None:
    """`syncd status` says since when a source was not verified, however many syncs have failed since."""
    for source in ("iwf", "other"):
        catalog.note_attempt(source, NOON)
    catalog.begin_sync("good", "iwf", NOON)
    catalog.finish_sync("good", Outcome.UP_TO_DATE, now=NOON)
    for number in range(1200):
        catalog.begin_sync(f"bad-{number}", "iwf", NOON)
        catalog.finish_sync(f"bad-{number}", Outcome.UNREACHABLE, now=NOON + timedelta(hours=1))
    catalog.begin_sync("dry", "other", NOON, dry_run=True)
    assert forget(catalog, RetentionLimits(syncs=100))["syncs"] == 1100
    assert catalog.last_success("iwf") == NOON
    assert len(catalog.recent_syncs("iwf", 5000)) == 101
    assert len(catalog.recent_syncs("other", 5000)) == 1
    assert forget(catalog, RetentionLimits(syncs=100))["syncs"] == 0


def test_the_last_sync_that_only_held_rows_stays(catalog: Catalog) -> None:
    """It verified its source, which `syncd status` says however many syncs have failed since."""
    catalog.note_attempt("iwf", NOON)
    held = SyncFault(Outcome.HELD, ("emptied",))
    for number, outcome in enumerate([Outcome.UP_TO_DATE, Outcome.HELD, *[Outcome.UNREACHABLE] * 120]):
        catalog.begin_sync(f"sync-{number}", "iwf", NOON)
        faults = {str(HEAD): held} if outcome is Outcome.HELD else {}
        catalog.finish_sync(f"sync-{number}", outcome, now=NOON + timedelta(hours=number), faults=faults)
    assert forget(catalog, RetentionLimits(syncs=100))["syncs"] == 20
    assert catalog.last_success("iwf") == NOON + timedelta(hours=1)


def test_the_last_real_sync_stays_below_any_number_of_dry_runs(catalog: Catalog) -> None:
    """Everything is judged by it."""
    catalog.note_attempt("iwf", NOON)
    catalog.begin_sync("real", "iwf", NOON)
    catalog.finish_sync("real", Outcome.REJECTED, now=NOON)
    for number in range(150):
        catalog.begin_sync(f"dry-{number}", "iwf", NOON, dry_run=True)
        catalog.finish_sync(f"dry-{number}", Outcome.STAGED, now=NOON)
    assert forget(catalog, RetentionLimits(syncs=100))["syncs"] == 50
    last = catalog.last_ended("iwf")
    assert last is not None
    assert last.id == "real"


def test_it_is_known_since_which_version_all_are_kept(many: World) -> None:
    """So that one that is missing is found, and one that only a matcher needed is not taken for a gap."""
    load(many, 2)
    with Catalog.open(many.state.catalog) as catalog:
        assert catalog.first_kept(HEAD) == 0
        total = len(catalog.versions(HEAD))
        (old, *_) = catalog.old_records(RetentionLimits(versions=5), many.clock())
        assert catalog.forget(old).records == total - 6
        assert [one.version for one in catalog.versions(HEAD)] == [*range(total, total - 5, -1), 2]
        assert catalog.first_kept(HEAD) == total - 4
    assert prove_state(many.state, None, many.clock(), deep=True).faults == ()
    with closing(sqlite3.connect(many.state.catalog_file)) as connection, connection:
        connection.execute("DELETE FROM versions WHERE version = ?", (total - 2,))
    (fault,) = prove_state(many.state, None, many.clock()).faults
    assert fault.error.message == f"iwf.images version {total - 2} is missing from the catalog"
    assert (fault.file, fault.list, fault.version) == ("catalog.sqlite3", HEAD, total - 1)


def test_the_versions_of_a_list_are_forgotten_some_at_a_time(many: World) -> None:
    """A process that is killed in between leaves a catalog that knows since when it has all versions."""
    with pytest.MonkeyPatch.context() as patched, Catalog.open(many.state.catalog) as catalog:
        patched.setattr(pruning, "_AT_ONCE", 2)
        (old, *_) = catalog.old_records(RetentionLimits(versions=3), many.clock())
        real, calls = pruning._forget_some, []

        def killed(*arguments: object) -> int:
            calls.append(0)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return real(*arguments)  # type: ignore[arg-type]  # as it was called

        patched.setattr(pruning, "_forget_some", killed)
        with pytest.raises(KeyboardInterrupt):
            catalog.forget(old)
        assert catalog.first_kept(HEAD) == 5
        assert min(one.version for one in catalog.versions(HEAD)) == 5
    assert prove_state(many.state, None, many.clock()).faults == ()


# the command


@pytest.fixture
def configured(many: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The operator's commands, with small limits."""
    operate(many, monkeypatch)
    more = "[retention]\nversions = 64\npublished_versions = 2\nevidence = 1\n"
    configure(many.base / "syncd.toml", settings(many, more), monkeypatch)
    return many


def test_gc_shows_what_would_go_and_then_removes_it(configured: World) -> None:
    """By place and kind, with counts and bytes; who did it is in the audit log."""
    waits = syncd("gc", "--dry-run", "--json").json
    assert (waits["dry_run"], waits["files"]) == (True, 0)
    assert {(one["where"], one["kind"]) for one in waits["waiting"]} >= {("feed", "manifests"), ("feed", "segments")}
    assert syncd("gc").code == 0
    configured.clock.forward(hours=25)
    would = syncd("gc", "--dry-run")
    assert would.code == 0
    assert would.out.splitlines()[-1].startswith("would go: ")
    done = syncd("gc", "--json").json
    assert done["files"] > 0
    assert done["bytes"] == sum(one["bytes"] for one in done["removed"] if one["where"] != "catalog")
    assert f"would go: {done['files']} files" in would.out
    with Catalog.open(configured.state.catalog) as catalog:
        last = catalog.audit_entries(1)[0]
    assert last.act == RemovedOldFiles(done["files"], done["bytes"], done["records"])
    prove(configured)


def test_a_sync_keeps_to_the_limits_of_the_configuration(configured: World) -> None:
    """Without `syncd gc`."""
    oldest = manifest_of(configured, 1)
    for hours in (2, 26):
        configured.clock.forward(hours=hours)
        configured.publish(add=[row(800 + hours)])
        assert syncd("sync").code == 0
    assert oldest not in files(configured)


@pytest.mark.parametrize("days", [None, 180])
def test_what_follows_a_sync_shortens_the_audit_log_if_that_is_configured(
    many: World, monkeypatch: pytest.MonkeyPatch, days: int | None
) -> None:
    """The audit log still proves itself, and `syncd audit verify` says how much was removed."""
    operate(many, monkeypatch)
    with Catalog.open(many.state.catalog) as catalog:
        catalog.append_all([AuditEntry(many.clock(), "alice", ENTRY.act)] * 3)
        before = catalog.audit_head().records
        many.clock.forward(days=200)
        catalog.append("bob", ENTRY.act, many.clock())
    limits = RetentionTable(audit_days=days).limits()
    with many.publisher() as publisher:
        replace(publisher, retention=lambda: limits).collect_garbage("iwf", many.clock())
    found = syncd("audit", "verify", "--json").json
    assert (found["unbroken"], found["removed"]) == (True, before if days else 0)
    with Catalog.open(many.state.catalog) as catalog:
        acts = [one.entry.act for one in catalog.audit_records()]
    assert len([act for act in acts if isinstance(act, AuditShortened)]) == (1 if days else 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("versions = 10", "retention.versions: input should be greater than or equal to 64"),
        ("published_versions = 2000", "retention.published_versions: more than versions"),
        ("evidence = 1001", "retention.evidence: more than versions"),
        ('grace = "10m"', "retention.grace: shorter than an hour"),
        ("audit_days = 30", "retention.audit_days: input should be greater than or equal to 180"),
        ("audits = 3", "retention.audits: unknown key"),
        ("syncs = true", "retention.syncs: "),
    ],
)
def test_a_limit_that_cannot_be_met_is_refused(
    many: World, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    """With the key, and exit code 2."""
    operate(many, monkeypatch)
    configure(many.base / "syncd.toml", settings(many, f"[retention]\n{text}\n"), monkeypatch)
    ran = syncd("gc")
    assert (ran.code, message in ran.err) == (2, True), ran.err


def test_every_kind_of_file_is_counted() -> None:
    """By its place in the feed."""
    digest = "0" * 64
    assert [
        kind_of(path)
        for path in (
            f"v1/a/{digest}.manifest.json",
            f"v1/a/segments/{digest}.arrow",
            f"v1/a/evidence/{digest}.json",
            f"v1/a/bloom-2/{digest}.bin",
            "metadata/1.root.json",
            "v1/a/segments/.tmp-01",
        )
    ] == ["manifests", "segments", "evidence", "other", "metadata", "temporary"]


def test_the_daemon_removes_old_files(today: World) -> None:
    """For whoever may give it orders: named in the audit log and in its own; new limits are in force after a reload."""
    assert today.sync().exit_code == 0
    today.publish(add=[row(9)])
    assert today.sync().exit_code == 0
    with daemon(today) as process:
        assert syncd("gc", "--dry-run", "--json").json["records"] == 0
        content = (today.base / "syncd.toml").read_text()
        (today.base / "syncd.toml").write_text(content + "[retention]\npublications = 1\n")
        process.send(signal.SIGHUP)
        assert process.until("config_reloaded")["changed"] == ["retention.publications"]
        done = syncd("gc", "--json").json
        assert [(one["kind"], one["where"]) for one in done["removed"]] == [("publications", "catalog")]
        event = process.until("old_files_removed")
        assert (event["records"], event["asked_by"]) == (done["records"], getpass.getuser())
    with Catalog.open(today.state.catalog) as catalog:
        assert catalog.audit_entries(1)[0].actor == getpass.getuser()
