"""The cures of docs/operations.md, carried out word for word, and where each other one is tried."""

import os
import re
import shutil
import stat
from pathlib import Path
from typing import Final

import pytest

from command_line import HERE, Ran, configure, operate, settings, syncd
from disks import root_only
from runbook import Cure, advised, code_lines, rows_of, section, what_to_do
from syncd.model import ListName
from world import World, row, rows

LOST: Final = "When things were lost or reset"
VIDEOS: Final = ListName("videos")


@pytest.fixture
def running(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A partner with one list of 30 entries, an operator who follows it, a matcher that holds it; one clock for all."""
    operate(world, monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    world.publish(full=rows(0, 30))
    assert syncd("sync").code == 0
    assert not world.pull().errors
    return world


def lost(what: str) -> str:
    """The cure in a row of the table of losses."""
    return rows_of(LOST)[what]


def publish(world: World, number: int) -> Ran:
    """The partner publishes one more row, by command."""
    path = world.base / "more.csv"
    path.write_text("algorithm,digest,entry,label\n" + ",".join(row(number)) + "\n")
    return syncd("feed", "publish", world.partner.root, "--list", "images", "--add", path)


def check_goes_on(world: World, number: int) -> None:
    """A row that the partner publishes now reaches the matcher."""
    world.clock.forward(minutes=10)
    published = publish(world, number)
    assert published.code == 0, published
    synced = syncd("sync")
    assert synced.code == 0, synced
    assert not world.pull().errors
    assert world.hits(number)


# keys


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "lists"])
def test_an_online_key_of_a_partner_may_have_been_copied(running: World, role: str) -> None:
    """The role gets another key; the old one is removed, and followers need not do anything."""
    cure = Cure(lost("an online key may have been copied"), {"FEED": running.partner.root, "ROLE": role})
    old = running.partner_keys / f"{role}.pem"
    done = cure.run("syncd feed rotate FEED ROLE --offline-keys DIR", DIR=running.partner_offline)
    assert done.code == 0, done
    old.unlink()
    check_goes_on(running, 40)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "lists"])
def test_an_online_key_of_an_operator_may_have_been_copied(running: World, role: str) -> None:
    """The same for the operator's own feed."""
    cure = Cure(lost("an online key may have been copied"), {"STATE": running.state.root, "ROLE": role})
    command = "syncd feed rotate STATE ROLE --state --offline-keys DIR --reason R"
    done = cure.run(command, DIR=running.offline, R="copied")
    assert done.code == 0, done
    (running.state.keys / f"{role}.pem").unlink()
    check_goes_on(running, 40)


@pytest.fixture
def custodians(running: World) -> tuple[Path, ...]:
    """The partner's root moves to three keys, of which two must sign, each in a folder of its own."""
    folders = tuple(running.base / f"custodian-{number}" for number in (1, 2, 3))
    new = running.base / "new"
    command = ("feed", "rotate", running.partner.root, "root", "--threshold", 2, "--new-keys", new)
    one = syncd("feed", "rotate", running.partner.root, "root", "--offline-keys", running.partner_offline)
    assert one.code == 0
    for folder in folders:
        folder.mkdir(mode=0o700)
    made = [str(path) for path in _root_keys(new)]
    given = [part for path in made for part in ("--new-key", path)]
    done = syncd(*command[:6], *given, "--offline-keys", running.partner_offline)
    assert done.code == 0, done
    for path, folder in zip(made, folders, strict=True):
        Path(path).rename(folder / Path(path).name)
    shutil.move(running.partner_offline / "targets.pem", folders[0])
    return folders


def _root_keys(folder: Path) -> list[Path]:
    from syncd.trust import keys

    return [path for path, _ in keys.make_role_keys(folder, "root", 3)]


def test_a_root_key_that_was_lost_is_replaced_with_the_others(running: World, custodians: tuple[Path, ...]) -> None:
    """Two custodians give the role new keys, which sign from then on; followers go on."""
    cure = Cure(lost("a root key was lost, or may have been copied"), {"FEED": running.partner.root})
    shutil.rmtree(custodians[2])
    new = running.base / "next"
    done = cure.run("syncd feed rotate FEED root --offline-keys DIR ... --new-keys DIR2", DIR=custodians[:2], DIR2=new)
    assert done.code == 0, done
    cure.end()
    assert len(list(new.glob("root-*.pem"))) == 3
    renewed = syncd("feed", "renew", running.partner.root, "--offline-keys", new, "--offline-keys", custodians[0])
    assert renewed.code == 0, renewed
    check_goes_on(running, 40)


def test_too_few_root_keys_are_left(running: World, custodians: tuple[Path, ...]) -> None:
    """The error says so instead of advising what cannot be done; a new feed is followed after a retrust."""
    what = "fewer root keys than the threshold are left"
    refused = syncd("feed", "renew", running.partner.root, "--offline-keys", custodians[0])
    assert refused.code == 6
    assert "root needs 2 of its keys to sign, but has 1 at hand" in refused.err
    assert what in refused.err
    assert "feed rotate" not in refused.err
    assert "Make a new feed" in lost(what)
    running.partner.root.rename(running.base / "old")
    made = syncd("feed", "init", running.partner.root, "--offline-keys", running.base / "off", "--online-keys",
                 running.base / "on")  # fmt: skip
    assert made.code == 0, made
    shutil.rmtree(running.partner_keys)
    (running.base / "on").rename(running.partner_keys)
    running.publish(full=rows(0, 30))
    refused = syncd("sync")
    assert (refused.code, advised(refused)) == (6, {"syncd retrust iwf --root F --reason R"})
    cure = Cure(lost("a partner rebuilt its feed"), {"SOURCE": "iwf", "F": running.root, "R": "new-root"})
    done = cure.run("syncd retrust SOURCE --root F --reason R")
    assert done.code == 0, done
    cure.end()
    check_goes_on(running, 40)


def test_too_few_root_keys_of_an_operator_are_left(running: World) -> None:
    """Matchers pull the new feed into an empty directory, as their error says."""
    other = World(running.base / "other", running.clock)
    refused = syncd("pull", other.state.feed.root.as_uri(), "--root", other.operator_root, "--dir", running.copy)
    assert (refused.code, "pull into an empty directory" in refused.err) == (2, True)
    fresh = running.base / "fresh"
    other.publish(full=rows(0, 3))
    assert other.sync().exit_code == 0
    pulled = syncd("pull", other.state.feed.root.as_uri(), "--root", other.operator_root, "--dir", fresh)
    assert pulled.code == 0


# metadata that expires


def renew(world: World) -> None:
    """Both halves of the row: first the partner, whose news then arrive, then the operator, whose matchers go on."""
    cure = Cure(lost("root or targets expired"), {"FEED": world.partner.root, "STATE": world.state.root, "R": "late"})
    done = cure.run("syncd feed renew FEED --offline-keys DIR", DIR=world.partner_offline)
    assert done.code == 0, done
    assert publish(world, 41).code == 0
    assert syncd("sync").code == 0
    url = world.state.feed.root.as_uri()
    pulled = syncd("pull", url, "--root", world.operator_root, "--dir", world.copy)
    assert (pulled.code, "expired on" in pulled.err) == (4, True)
    assert world.hits(1)
    done = cure.run("syncd feed renew STATE --state --offline-keys DIR --reason R", DIR=world.offline)
    assert done.code == 0, done
    cure.end()
    assert not world.pull().errors
    check_goes_on(world, 42)


@pytest.mark.parametrize("days", [200, 400])
def test_root_or_targets_expired(running: World, days: int) -> None:
    """Signed again, of the partner and of the operator; until then followers refuse, and keep answering."""
    for _ in range(days // 20):
        running.clock.forward(days=20)
        assert publish(running, 40).code == 0, "the partner goes on, and does not look at the warnings"
    refused = syncd("sync")
    assert (refused.code, "expired on" in refused.err) == (4, True)
    assert "still served: iwf.images version 1" in refused.err
    renew(running)


def test_everything_expired(running: World) -> None:
    """Also if nobody did anything for more than a year: the next publication signs what else has expired."""
    running.clock.forward(days=400)
    assert syncd("sync").code == 4
    renew(running)


def test_our_own_metadata_expires_soon(running: World) -> None:
    """Renewed with the keys of each custodian while the daemon is stopped; status has the new date."""
    for _ in range(8):
        running.clock.forward(days=20)
        assert publish(running, 40).code == 0
        assert syncd("sync").code == 0
    shown = syncd("status")
    assert re.search(r"targets expires in 2\d days: sign it again with the offline keys", shown.err), shown.err
    first, second = running.base / "first", running.base / "second"
    first.mkdir(mode=0o700)
    shutil.move(running.offline / "targets.pem", first)
    running.offline.rename(second)
    cure = Cure(what_to_do("SyncdMetadataExpiring"), {"STATE": running.state.root, "R": "yearly"})
    cure.stand_for("systemctl stop syncd")
    command = "syncd feed renew STATE --state --offline-keys DIR --reason R"
    assert cure.run(command, DIR=first).code == 6, "one of two custodians"
    assert "with `--offline-keys` once for each custodian" in re.sub(r"\s+", " ", what_to_do("SyncdMetadataExpiring"))
    done = syncd("feed", "renew", running.state.root, "--state", "--offline-keys", first, "--offline-keys", second)
    assert done.code == 0, done
    cure.stand_for("systemctl start syncd")
    cure.end()
    assert "targets expires" not in syncd("status").err
    check_goes_on(running, 41)


def test_a_role_whose_key_is_gone_is_overdue_until_the_key_is_back(running: World) -> None:
    """`status` names the role, and a sync with the key at hand signs it."""
    key, away = running.state.keys / "snapshot.pem", running.base / "away.pem"
    key.rename(away)
    running.clock.forward(days=6)
    assert "snapshot expires in 1 day: sign it again with the online keys" in syncd("status").err
    publish(running, 40)
    refused = syncd("sync")
    assert refused.code == 6
    assert "snapshot needs 1 of its keys to sign, but has 0 at hand" in refused.err
    assert "put its key back into the folder of online keys" in refused.err
    away.rename(key)
    assert syncd("sync").code == 0
    assert "snapshot expires" not in syncd("status").err


# partners


def test_a_partner_puts_its_newest_files_back(running: World) -> None:
    """As docs/partner.md says, from a follower's copy; then nothing of it was lost."""
    text = section("You restored a backup", "partner.md")
    assert not running.follow().errors
    shutil.copytree(running.partner.root, running.base / "backup")
    for number in (40, 41):
        check_goes_on(running, number)
    assert not running.follow().errors
    shutil.rmtree(running.partner.root)
    (running.base / "backup").rename(running.partner.root)
    assert syncd("sync").code == 5
    newest = max((running.mirror / "metadata").glob("*.timestamp.json"), key=lambda path: int(path.name.split(".")[0]))
    cure = Cure(text, {"/srv/feed": running.partner.root, "copy": running.mirror})
    for line in code_lines(text):
        ran = cure.run(line, **{"copy/metadata/1234.timestamp.json": newest})
        assert ran.code == 0, ran
    assert syncd("sync").code == 0
    check_goes_on(running, 42)


def test_a_root_file_that_nobody_knows_is_taken_back(running: World) -> None:
    """The sync refuses it; once the file is restored it goes on."""
    assert "Restore the file" in lost("the root file of a source was replaced, and nobody knows by whom")
    mine = running.base / "iwf-root.json"
    shutil.copy(running.root, mine)
    running.root = mine
    configure_again(running)
    shutil.copy(running.operator_root, mine)
    refused = syncd("sync")
    assert refused.code == 6
    assert "otherwise restore the root file" in refused.err
    shutil.copy(running.partner.path("root.json"), mine)
    assert syncd("sync").code == 0


def configure_again(world: World, more: str = "") -> None:
    """Write the configuration again; ``more`` is of the source."""
    (world.base / "syncd.toml").write_text(settings(world, more))


def test_a_partner_no_longer_has_a_list(running: World) -> None:
    """It stays served; the steps of "A list ends" end it here, and a matcher's host names the others."""
    what = "a partner no longer has a list that was followed"
    assert "a list ends" in lost(what)
    running.publish(full=rows(100, 110), name=VIDEOS)
    assert syncd("sync").code == 0
    assert not running.follow().errors
    shutil.rmtree(running.partner.root)
    shutil.rmtree(running.partner_keys)
    shutil.rmtree(running.partner_offline)
    assert syncd("feed", "init", running.partner.root, "--offline-keys", running.partner_offline).code == 0
    running.publish(full=rows(0, 30))
    assert syncd("retrust", "iwf", "--root", running.root, "--reason", "rebuilt").code == 0
    configure_again(running, 'lists = ["images", "videos"]\n')
    refused = syncd("sync")
    assert refused.code == 4
    assert "the feed has no list 'videos'" in refused.err
    assert "still served: iwf.videos version 1" in refused.err
    cure = Cure(section("A list ends"), {"LIST": "iwf.videos", "R": "ended"})
    configure_again(running, 'lists = ["images"]\n')
    cure.stand_for("systemctl reload syncd")
    done = cure.run("syncd retire LIST --reason R")
    assert done.code == 0, done
    assert syncd("sync").code == 0
    assert "iwf.videos" not in syncd("status").err
    pulled = syncd("pull", running.url, "--root", running.root, "--dir", running.base / "new", "--list", "images")
    assert pulled.code == 0


# alerts


def test_a_source_is_no_longer_configured(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status says so until it is put back, or until each of its lists has ended."""
    said = "is no longer configured"
    alone = settings(running).partition("[sources")[0]
    cure = Cure(what_to_do("SyncdSourceNotConfigured"), {"LIST": "iwf.images", "R": "contract ended"})
    configure(running.base / "syncd.toml", alone, monkeypatch)
    assert said in syncd("status").err
    configure_again(running)
    cure.stand_for("systemctl reload syncd")
    assert said not in syncd("status").err
    assert syncd("sync").code == 0
    configure(running.base / "syncd.toml", alone, monkeypatch)
    done = cure.run("syncd retire LIST --reason R")
    assert done.code == 0, done
    cure.end()
    assert said not in syncd("status").err


def test_a_list_is_late_until_its_source_is_synced(running: World) -> None:
    """`syncd sync SOURCE` is what both alerts of age say."""
    running.clock.forward(hours=10)
    assert syncd("status", "--check").code == 2
    running.publish(full=rows(0, 30))
    cure = Cure(what_to_do("SyncdListStale"), {"SOURCE": "iwf"})
    assert cure.run("syncd sync SOURCE").code == 0
    cure.end()
    assert syncd("status", "--check").code == 0
    assert "as there" in what_to_do("SyncdListVeryStale")


def test_a_pinned_list_follows_its_partner_again(running: World) -> None:
    """After `syncd unpin`; status no longer says that it is pinned."""
    check_goes_on(running, 40)
    assert syncd("rollback", "iwf.images", 1, "--reason", "wrong").code == 0
    shown = syncd("status")
    assert "pinned" in shown.out + shown.err
    cure = Cure(what_to_do("SyncdListPinned"), {"LIST": "iwf.images", "R": "corrected"})
    assert cure.run("syncd unpin LIST --reason R").code == 0
    cure.end()
    check_goes_on(running, 41)


def test_vectors_that_a_partner_replaced_are_corrected(running: World) -> None:
    """`must_have_file` is written again; the next sync finds them all."""
    vectors = running.base / "vectors.txt"
    vectors.write_text(f"sha256:{row(1)[1]}\nsha256:{row(77)[1]}\n")
    configure_again(running, f'[sources.iwf.gate]\nmust_have_file = "{vectors}"\n')
    assert syncd("sync").code == 0
    missing = syncd("status")
    assert "must be on" in missing.err or "must be present" in missing.err, missing
    vectors.write_text(f"sha256:{row(1)[1]}\n")
    assert "correct `must_have_file` and reload" in re.sub(r"\s+", " ", what_to_do("SyncdCanaryMissing"))
    assert syncd("sync").code == 0
    assert syncd("status").err == ""


def test_a_version_that_was_signed_twice(running: World) -> None:
    """Both timestamps are kept as evidence; once the partner has replaced the key that was copied, syncs go on."""
    do = re.sub(r"\s+", " ", what_to_do("SyncdEquivocation"))
    assert do.startswith("copy the evidence to another place. Call the partner")
    honest, forged = running.base / "honest", running.base / "forged"
    shutil.copytree(running.partner.root, forged)
    check_goes_on(running, 40)
    shutil.move(running.partner.root, honest)
    forged.rename(running.partner.root)
    assert publish(running, 666).code == 0
    refused = syncd("sync")
    assert (refused.code, "signed twice" in refused.err) == (4, True), refused
    assert "still served: iwf.images version 2" in refused.err
    named = re.search(r"keep (\S+) as evidence: (\S+) and (\S+) in it differ", refused.err)
    assert named, refused
    first, second = (Path(named[1]) / name for name in named.groups()[1:])
    assert second.read_bytes() == running.partner.path("metadata/timestamp.json").read_bytes()
    assert first.read_bytes() == (honest / "metadata" / "timestamp.json").read_bytes()
    assert not running.pull().errors
    assert (bool(running.hits(40)), bool(running.hits(666))) == (True, False)
    shutil.rmtree(running.partner.root)
    honest.rename(running.partner.root)
    for role in ("timestamp", "snapshot", "lists"):
        rotated = syncd("feed", "rotate", running.partner.root, role, "--offline-keys", running.partner_offline)
        assert rotated.code == 0, rotated
    check_goes_on(running, 41)


def test_a_list_that_shrank_by_mistake(running: World) -> None:
    """The commands under "Look" show what went; the partner publishes it again, and matchers have it."""
    configure_again(running, "[sources.iwf.gate]\nmax_removed_percent = 100\nmax_removed_rows = 100\n")
    running.publish(remove=rows(0, 25))
    assert syncd("sync").code == 0
    cure = Cure(section("SyncdListShrank"), {"LIST": "iwf.images", "V1": 1, "V2": 2})
    assert "they have to publish the entries again" in re.sub(r"\s+", " ", what_to_do("SyncdListShrank"))
    assert cure.run("syncd snapshots LIST").out.splitlines()[1].split()[0] == "2"
    shown = cure.run("syncd diff LIST V1 V2").out
    assert "version 1 (30 rows) to 2 (5 rows)" in shown
    cure.end()
    running.clock.forward(minutes=10)
    reverted = syncd("feed", "revert", running.partner.root, "images", 1)
    assert reverted.code == 0, reverted
    assert syncd("sync").code == 0
    assert not running.pull().errors
    assert running.hits(1)


# files that others could change or read


def guarded(world: World) -> Path:
    """A known-good file that was read well, in a folder of its own."""
    folder = world.base / "own"
    folder.mkdir(mode=0o755)
    path = folder / "known-good.txt"
    path.write_text(f"sha256:{row(3)[1]}\n")
    configure_again(world, f'[sources.iwf.gate]\nknown_good_file = "{path}"\n')
    world.clock.forward(minutes=10)
    assert syncd("sync").code == 0
    assert syncd("status").err == ""
    return path


def mend(ran: Ran) -> None:
    """Run each command that an error or a warning advises."""
    cure = Cure(" ".join(f"`{command}`" for command in advised(ran)))
    for command in cure.named:
        assert cure.run(command).code == 0


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_known_good_file_that_others_may_write(running: World, what: str) -> None:
    """`chmod o-w`, for the file or its folder, as the warning says; then it is in force again."""
    path = guarded(running)
    open_to_all = path if what == "file" else path.parent
    open_to_all.chmod(stat.S_IMODE(open_to_all.stat().st_mode) | stat.S_IWOTH)
    running.clock.forward(minutes=10)
    warned = syncd("sync")
    said = "can be changed by every user" if what == "file" else "can be replaced by every user"
    assert (warned.code, said in warned.err) == (0, True)
    mend(warned)
    assert open_to_all.stat().st_mode & stat.S_IWOTH == 0
    cure = Cure(what_to_do("SyncdKnownGoodUnusable"), {"SOURCE": "iwf"})
    assert cure.run("syncd sync SOURCE").err == HERE
    cure.end()
    assert syncd("status").err == ""


def test_a_known_good_file_of_another_user(running: World) -> None:
    """`chown root`, as the warning says."""
    root_only()
    path = guarded(running)
    os.chown(path, 12345, 12345)
    running.clock.forward(minutes=10)
    warned = syncd("sync")
    assert (warned.code, "belongs to another user" in warned.err) == (0, True)
    mend(warned)
    assert syncd("sync").err == HERE
    assert syncd("status").err == ""


def test_a_token_that_others_may_read(running: World) -> None:
    """Every command refuses the configuration until `chmod o=` was run."""
    token = running.base / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o644)
    configure_again(running, f'token_file = "{token}"\n')
    refused = syncd("status")
    assert (refused.code, "others may have read it" in refused.err) == (2, True)
    mend(refused)
    assert syncd("status").code == 0


def test_an_online_key_that_others_may_read(running: World) -> None:
    """Nothing is signed until `chmod 600` was run."""
    key = running.state.keys / "timestamp.pem"
    key.chmod(0o640)
    refused = syncd("sync")
    assert refused.code == 6
    assert f"other users can read the key {key}" in refused.err
    mend(refused)
    assert syncd("sync").code == 0


def test_a_copy_that_others_may_write(running: World) -> None:
    """Nothing is pulled into it, or answered from it, until `chmod go-w` was run."""
    pull = ("pull", running.state.feed.root.as_uri(), "--root", running.operator_root, "--dir", running.copy)
    running.copy.chmod(0o777)
    looked_up = syncd("lookup", running.copy, f"sha256:{row(1)[1]}")
    assert looked_up.code not in {0, 10}
    refused = syncd(*pull)
    assert refused.code == 6, refused
    mend(refused)
    assert syncd(*pull).code == 0
    assert syncd("lookup", running.copy, f"sha256:{row(1)[1]}").code == 0
