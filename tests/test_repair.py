"""Backup and restore, recovery, and a partner that rebuilt its feed."""

import hashlib
import os
import shutil
import tarfile
from pathlib import Path
from signal import SIGKILL

import pytest

from syncd.acts import PublishedAbove, Retrusted
from syncd.errors import RefusedError, StaleMirrorError, StoreError, TrustError, UsageError
from syncd.feed.folder import TRUST
from syncd.feed.offer import is_offered
from syncd.feed.signed import load_repository
from syncd.model import Algorithm
from syncd.operate.backup import BackedUp, backup, remove_left_over
from syncd.operate.repair import HIGHEST, Recovered, recover, retrust
from syncd.outcomes import Outcome
from syncd.publish import author, installing, publication
from syncd.publish.change import metadata_files
from syncd.trust import keys
from syncd.trust.repository import create
from syncd.verify.state import prove_state
from world import HEAD, World, row, rows

REASON = "called the partner"


@pytest.fixture
def running(world: World) -> World:
    """A list that was published, synced and pulled, twice."""
    world.publish(full=rows(0, 30))
    assert world.sync().exit_code == 0
    world.publish(add=[row(30)])
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    return world


def back_up(world: World, name: str = "backup.tar", *, with_keys: bool = False, with_segments: bool = True) -> BackedUp:
    with world.publisher() as publisher:
        target = world.base / name
        return backup(publisher, target, world.clock(), with_keys=with_keys, with_segments=with_segments)


def restore(world: World, name: str = "backup.tar") -> None:
    """As docs/operations.md says."""
    kept = world.base / "lost"
    world.state.root.rename(kept)
    world.state.root.mkdir(mode=0o750)
    with tarfile.open(world.base / name) as tar:
        tar.extractall(world.state.root, filter="data")
    if not world.state.keys.exists():
        shutil.copytree(kept / "keys", world.state.keys)


def go_on_above(world: World, above: int) -> Recovered:
    with world.publisher() as publisher:
        return recover(publisher, above, world.clock(), "tester")


def retrust_partner(world: World, root: Path | None = None, reason: str = REASON) -> int:
    with world.publisher() as publisher:
        content = (root or world.root).read_bytes()
        return retrust(publisher, world.source(), content, reason, world.clock(), "tester")


def test_a_backup_is_private_whole_and_without_keys(running: World) -> None:
    """A backup holds catalog, metadata, root, manifests and segments of the heads, mode 0600, and no private key."""
    done = back_up(running)
    assert (done.lists, done.keys, done.file.stat().st_mode & 0o777) == (1, 0, 0o600)
    with tarfile.open(done.file) as tar:
        names = [member.name for member in tar if not member.isdir()]
        assert b"PRIVATE KEY" not in done.file.read_bytes()
    assert len(names) == len(set(names)) == done.files
    assert {"catalog.sqlite3", "feed/root.json", "feed/metadata/timestamp.json"} <= set(names)
    ours = sorted(name for name in names if name.startswith("feed/v1/iwf.images/segments/"))
    theirs = sorted(name for name in names if name.startswith("sources/iwf/v1/images/segments/"))
    assert (len(ours), len(theirs)) == (2, 2)
    assert sorted(path.name for path in running.base.iterdir() if path.name.startswith(".tmp")) == []
    assert not list(running.state.root.glob(".tmp*"))


def test_a_killed_backup_leaves_nothing_with_lists_behind(running: World) -> None:
    """Its file never had a name; the next run, or the daemon's start, removes its copy of the catalog."""
    for clean in (lambda: back_up(running, "next.tar"), lambda: remove_left_over(running.state)):
        killed_in_a_backup(running)
        assert [path.name for path in running.base.iterdir() if path.suffix == ".tar" or path.name[0] == "."] == []
        assert list(running.state.root.glob(".tmp-*"))
        clean()
        assert not list(running.state.root.glob(".tmp-*"))
        (running.base / "next.tar").unlink(missing_ok=True)


def killed_in_a_backup(world: World) -> None:
    """Begin a backup in a process that is killed at its first file."""
    child = os.fork()
    if not child:
        with world.publisher() as publisher:
            backup(publisher, world.base / "b.tar", world.clock(), progress=lambda *_: os.kill(os.getpid(), SIGKILL))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -SIGKILL


def test_a_backup_goes_where_no_file_is_without_a_name(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On some file systems it is written under a temporary name."""
    monkeypatch.setattr("syncd.files._OPEN_FILES", Path("/nowhere"))
    assert back_up(running).file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in running.base.iterdir() if path.name.startswith(".tmp")] == []


def test_a_backup_with_keys_holds_the_online_ones(running: World) -> None:
    """Private keys are in a backup only where that is asked for, and offline keys never."""
    done = back_up(running, with_keys=True)
    with tarfile.open(done.file) as tar:
        found = {entry.name: entry.mode for entry in tar.getmembers() if entry.name.startswith("keys/")}
    assert found == {"keys/lists.pem": 0o600, "keys/snapshot.pem": 0o600, "keys/timestamp.pem": 0o600}
    assert done.keys == 3


def test_a_backup_overwrites_nothing(running: World) -> None:
    """An existing file, a folder that is not there and the served feed are refused, and nothing is left behind."""
    back_up(running)
    before = sha256(running.base / "backup.tar")
    with pytest.raises(UsageError, match="exists already"):
        back_up(running)
    assert sha256(running.base / "backup.tar") == before
    with pytest.raises(UsageError, match="there is no folder"):
        back_up(running, "nowhere/backup.tar")
    with pytest.raises(UsageError, match="would be in the served feed"):
        back_up(running, "state/feed/backup.tar")


def test_a_backup_of_a_damaged_state_says_so(running: World) -> None:
    """A missing segment stops the backup, and no half of one is left."""
    next(running.state.feed.path("v1/iwf.images/segments").iterdir()).unlink()
    with pytest.raises(StoreError, match="is missing"):
        back_up(running)
    assert not (running.base / "backup.tar").exists()


def test_a_restored_backup_is_the_state_of_then(running: World) -> None:
    """Unpacked, a backup proves whole, and the next sync goes on from it."""
    back_up(running)
    restore(running)
    assert prove_state(running.state, None, running.clock()).faults == ()
    outcome = running.sync()
    assert (outcome.exit_code, outcome.outcome) == (0, Outcome.UP_TO_DATE)


def test_without_recovery_matchers_refuse_a_restored_backup(running: World) -> None:
    """Matchers that saw later versions take a restored feed for a mirror that lags behind."""
    back_up(running)
    lose_two_versions(running)
    restore(running)
    with pytest.raises(StaleMirrorError):
        running.pull()


def lose_two_versions(world: World) -> None:
    for number in (31, 32):
        world.publish(add=[row(number)])
        world.sync()
    assert not world.pull().errors
    assert len(world.hits(32)) == 1


def test_recovery_goes_on_above_what_matchers_saw(running: World) -> None:
    """After `recover --above N` matchers take N + 1 as a fork, with the content of the backup, and then go on."""
    back_up(running)
    lose_two_versions(running)
    restore(running)
    done = go_on_above(running, 100)
    assert done.lists == {HEAD: 101}
    assert {role: version for role, version in done.metadata.items() if role in {"lists", "snapshot"}} == {
        "lists": 101,
        "snapshot": 101,
    }
    assert (done.metadata["timestamp"], done.metadata["targets"]) == (101, 1)
    pulled = running.pull()
    assert [(one.before, one.after, one.forked, one.error) for one in pulled.lists] == [(4, 101, True, None)]
    assert [len(running.hits(number)) for number in (30, 31, 32)] == [1, 0, 0]
    assert running.sync().exit_code == 0
    assert not running.pull().lists[0].forked
    assert [len(running.hits(number)) for number in (30, 31, 32)] == [1, 1, 1]
    assert running.matcher().status()[0].version == 102
    assert prove_state(running.state, None, running.clock()).faults == ()


def test_recovery_is_no_fork_to_who_holds_the_version_of_the_backup(running: World) -> None:
    """A matcher that never saw the lost versions goes on without an alarm."""
    back_up(running)
    restore(running)
    go_on_above(running, 100)
    pulled = running.pull()
    assert [(one.before, one.after, one.forked, one.error) for one in pulled.lists] == [(2, 101, False, None)]


def test_what_the_highest_recovery_signs_is_served() -> None:
    """A matcher must be able to fetch it: there is no way back to a shorter number."""
    for version in (HIGHEST + 1, (1 << 53) - 1):
        assert is_offered(f"metadata/{version}.snapshot.json")


def test_recovery_refuses_a_number_that_is_used(running: World) -> None:
    """A number below what the catalog or the metadata has already is refused, and nothing is changed."""
    before = load_repository(running.state.feed).versions
    with pytest.raises(RefusedError, match="timestamp is at version 3 already, above 2"):
        go_on_above(running, 2)
    for above in (0, -1, (1 << 40) + 1):
        with pytest.raises(UsageError, match="is out of range"):
            go_on_above(running, above)
    assert load_repository(running.state.feed).versions == before


def test_recovery_with_offline_keys_raises_targets_too(running: World) -> None:
    """Where targets was signed anew in the lost time, the offline keys lift it above as well."""
    offline = keys.load_signers(running.offline, keys.OFFLINE_ROLES)
    with running.publisher() as publisher:
        done = recover(publisher, 50, running.clock(), "tester", offline)
    assert (done.metadata["targets"], done.metadata["root"]) == (51, 2)
    assert not running.pull().errors


def test_recovery_without_segments_publishes_nothing(running: World) -> None:
    """A backup without segments needs them copied back first."""
    back_up(running, with_segments=False)
    restore(running)
    with pytest.raises(RefusedError, match=r"/state/feed lacks 2 segments of iwf\.images$"):
        go_on_above(running, 100)
    shutil.copytree(running.base / "lost" / "feed" / "v1", running.state.feed.path("v1"), dirs_exist_ok=True)
    assert go_on_above(running, 100).lists == {HEAD: 101}
    assert not running.pull().errors


def test_an_audit_entry_tells_of_the_recovery(running: World) -> None:
    """Who recovered, and above what, is in the audit log."""
    go_on_above(running, 100)
    with running.publisher() as publisher:
        entry = publisher.catalog.audit_entries(1)[0]
    assert (entry.actor, entry.act) == ("tester", PublishedAbove(above=100, lists=1))


def rebuild_partner(world: World) -> None:
    """The partner lost everything, keys included, and starts anew at version 1 with other content."""
    shutil.rmtree(world.partner.root)
    shutil.rmtree(world.partner_keys)
    shutil.rmtree(world.partner_offline)
    author.init(world.partner.root, world.partner_offline, world.partner_keys, count=1, threshold=1, now=world.clock())
    world.publish(full=rows(1, 32))


def test_a_replaced_root_is_not_followed(running: World) -> None:
    """A root file other than the one a source was followed by stops the sync until somebody says why."""
    rebuild_partner(running)
    outcome = running.sync()
    assert outcome.exit_code == 6
    assert outcome.error is not None
    assert outcome.error.message == "the trust root configured for source iwf has changed"
    assert "syncd retrust iwf" in outcome.error.hint
    assert outcome.error.serving == "iwf.images version 2"


def test_a_rebuilt_feed_is_followed_after_retrust(running: World) -> None:
    """After a retrust the partner's first version arrives as a delta over what is held, whatever its number."""
    rebuild_partner(running)
    assert retrust_partner(running) == 1
    outcome = running.sync()
    assert (outcome.exit_code, outcome.lists[0].plan, outcome.lists[0].version) == (0, "full:retrusted", 3)
    total = outcome.lists[0].counts[Algorithm.SHA256]
    assert (total.added, total.removed) == (1, 1)
    assert not running.pull().lists[0].forked
    assert [len(running.hits(number)) for number in (0, 1, 31)] == [0, 1, 1]
    running.publish(add=[row(40)])
    assert running.sync().lists[0].plan == "deltas"
    assert prove_state(running.state, None, running.clock()).faults == ()


def rebuild_with_the_same_keys(world: World) -> None:
    """The partner kept its keys and lost its history."""
    root = world.root.read_bytes()
    shutil.rmtree(world.partner.root)
    offline = keys.load_signers(world.partner_offline, keys.OFFLINE_ROLES)
    update = create(offline, world.partner_signers(), 1, world.clock())
    installing.install(world.partner, (*metadata_files(update.files), ("root.json", dict(update.files)["1.root.json"])))
    assert world.root.read_bytes() == root
    world.clock.forward(minutes=10)
    world.publish(full=rows(0, 31))


def test_a_rebuilt_feed_with_the_same_keys(running: World) -> None:
    """It is refused as a rollback until it is retrusted."""
    rebuild_with_the_same_keys(running)
    assert running.sync().exit_code == 4
    retrust_partner(running)
    outcome = running.sync()
    assert (outcome.exit_code, outcome.outcome) == (0, Outcome.UP_TO_DATE)
    running.publish(add=[row(40)])
    assert running.sync().lists[0].plan == "deltas"


def test_another_machine_forgets_what_it_verified_before_the_retrust(running: World) -> None:
    """It leads next, with metadata of its own from before: newer than all that the rebuilt feed has."""
    trust = running.state.source("iwf").work / TRUST
    shutil.copytree(trust, elsewhere := running.base / "elsewhere")
    rebuild_with_the_same_keys(running)
    retrust_partner(running)
    assert running.sync().exit_code == 0
    shutil.rmtree(trust)
    elsewhere.rename(trust)
    running.publish(add=[row(40)])
    outcome = running.sync()
    assert (outcome.exit_code, outcome.lists[0].plan) == (0, "deltas")
    assert running.sync().outcome is Outcome.UP_TO_DATE


def test_an_emptied_rebuilt_feed_is_held(running: World) -> None:
    """The gate judges a rebuilt feed as any update: a list left without an entry waits for an operator."""
    rebuild_partner(running)
    running.publish(remove=rows(1, 32))
    retrust_partner(running)
    assert running.sync().exit_code == 3
    assert len(running.hits(30)) == 1


def test_retrust_survives_a_sync_that_failed(running: World) -> None:
    """The floors stay forgotten per list until the first list of the new feed is in."""
    rebuild_partner(running)
    retrust_partner(running)
    segments = running.partner.path("v1/images/segments")
    segments.rename(segments.with_name("away"))
    assert running.sync().exit_code == 5
    segments.with_name("away").rename(segments)
    assert running.sync().lists[0].plan == "full:retrusted"


def test_retrust_wants_a_root_a_reason_and_the_same_file(running: World) -> None:
    """What is no root, a root that the configuration does not name, and a missing reason are refused."""
    other = running.base / "other.json"
    shutil.copy(running.operator_root, other)
    with pytest.raises(UsageError, match="the configured root of iwf, differs from the given file"):
        retrust_partner(running, other)
    other.write_text("{}")
    with pytest.raises(TrustError):
        retrust_partner(running, other)
    forged = running.root.read_bytes().replace(b'"version":1', b'"version":2')
    other.write_bytes(forged)
    with pytest.raises(TrustError, match="the root is signed by 0 of its own keys but requires 1"):
        retrust_partner(running, other)
    with pytest.raises(UsageError, match="a reason is needed"):
        retrust_partner(running, reason="  ")
    assert running.sync().exit_code == 0


def test_retrust_is_audited(running: World) -> None:
    """Who changed the root and why is in the audit log."""
    rebuild_partner(running)
    retrust_partner(running)
    with running.publisher() as publisher:
        entry = publisher.catalog.audit_entries(1)[0]
    assert (entry.actor, entry.act) == ("tester", Retrusted("iwf", root_version=1, reason=REASON))


def test_a_killed_recovery_is_finished_by_the_next_command(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between commit and install a kill loses nothing: the stored bytes are installed, no number is signed twice."""

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(publication, "install", killed)
    with pytest.raises(Killed):
        go_on_above(running, 100)
    monkeypatch.undo()
    with running.publisher() as publisher:
        assert publisher.catalog.pending() == ()
    pulled = running.pull()
    assert [(one.before, one.after) for one in pulled.lists] == [(2, 101)]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
