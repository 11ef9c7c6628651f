"""The commands that look after a feed, a state and a copy, as a shell sees them."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from command_line import operate, syncd
from syncd.errors import StoreError
from syncd.trust import keys
from world import World, row, rows


@pytest.fixture
def running(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A list that was published, synced and pulled, and the operator's configuration."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 30))
    assert world.sync().exit_code == 0
    world.publish(add=[row(30, "B")], remove=[row(5)])
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    return world


def secrets(world: World) -> list[str]:
    return [row(number)[1] for number in range(40)] + [path.read_text() for path in world.partner_keys.iterdir()]


def test_verify_of_all_three(running: World) -> None:
    """A copy, a feed and the own state are proved, with exit code 0 and a table."""
    copy = syncd("verify", running.copy, "--root", running.operator_root)
    assert (copy.code, copy.err) == (0, "")
    assert copy.out.splitlines()[-1].startswith("everything is verified: ")
    assert "iwf.images" in copy.out
    assert syncd("verify", running.partner.root).code == 0
    state = syncd("verify", "--json").json
    assert (state["proved"], state["faults"], state["lists"][0]["version"]) == (True, [], 2)
    assert syncd("verify", running.state.root).code == 0


def test_verify_names_faults(running: World) -> None:
    """A fault is named with its file and what to do; exit code 4, in tables and in JSON, and no digest in either."""
    path = next(running.copy.rglob("*.arrow"))
    file = path.relative_to(running.copy)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    shown = syncd("verify", running.copy)
    assert shown.code == 4
    assert "FAULT" in shown.out
    assert shown.out.splitlines()[-1].startswith("1 fault: ")
    assert shown.err.splitlines() == [
        f"error: {file}: segment {path.name}: its content does not match the SHA-256 in its name",
        "  to do: it was damaged or altered on this disk: in a copy, run the same `syncd pull` with `--check`; in a "
        "state, remove all files that `syncd verify` names below feed/ and sources/, then sync; elsewhere restore it "
        "from a backup or a mirror",
    ]
    document = syncd("verify", running.copy, "--json")
    assert document.code == 4
    (fault,) = document.json["faults"]
    assert (fault["file"], fault["kind"]) == (str(path.relative_to(running.copy)), "SegmentHashError")
    assert not any(secret in shown.out + shown.err + document.out for secret in secrets(running))


def test_verify_of_nothing(tmp_path: Path) -> None:
    """A folder that is no copy, feed or state is a usage error."""
    ran = syncd("verify", tmp_path)
    assert (ran.code, ran.err.splitlines()[0]) == (
        2,
        f"error: {tmp_path} is not a feed, a pulled copy or a state folder",
    )


def test_diff(running: World) -> None:
    """Counts by algorithm and label, never digests."""
    ran = syncd("diff", "iwf.images", 1, 2)
    assert ran.code == 0
    assert ran.out.splitlines()[0] == "iwf.images: version 1 (30 rows) to 2 (30 rows)"
    assert [line.split() for line in ran.out.splitlines()[2:]] == [
        ["sha256", "B", "1", "0", "0"],
        ["sha256", "C", "0", "1", "0"],
    ]
    document = syncd("diff", "iwf.images", 1, 2, "--json").json
    assert document["counts"] == {"sha256": {"added": 1, "relabelled": 0, "removed": 1}}
    assert syncd("diff", "iwf.images", 1, 1).out.splitlines()[1] == "nothing differs"
    assert syncd("diff", "iwf.images", 1, 9).code == 2


def test_the_rows_of_a_difference_are_written_to_a_private_file_and_recorded(running: World) -> None:
    """Mode 0600, nothing of them on the terminal; the audit log says who wrote which rows where."""
    out = running.base / "changes.csv"
    ran = syncd("diff", "iwf.images", 1, 2, "--out", out)
    assert (ran.code, ran.out.splitlines()[-1], ran.err) == (0, f"2 rows written to {out}", "")
    assert out.stat().st_mode & 0o777 == 0o600
    header, *lines = out.read_text().splitlines()
    assert header == "change,algorithm,digest,entry,label,old_label"
    assert sorted(line.split(",")[0] for line in lines) == ["added", "removed"]
    digests = {line.split(",")[2] for line in lines}
    assert digests <= set(secrets(running))
    (record,) = syncd("audit", "--act", "wrote_rows", "--json").out.splitlines()
    assert json.loads(record)["fields"] == {
        "list": "iwf.images",
        "what": "version 1 to 2",
        "rows": 2,
        "file": str(out),
    }
    document = syncd("diff", "iwf.images", 2, 1, "--out", running.base / "back.csv", "--json")
    assert (document.json["out"], document.json["counts"]["sha256"]["added"]) == (str(running.base / "back.csv"), 1)
    assert not [digest for digest in digests if digest in ran.out + record + document.out]


def test_rows_are_written_to_new_files_outside_of_the_state_only(running: World) -> None:
    """Never over a file, through a link, or where files are served; nothing is written or recorded."""
    taken, link, target = running.base / "taken.csv", running.base / "link.csv", running.base / "target.csv"
    taken.write_text("mine")
    link.symlink_to(target)
    inside, nowhere = running.state.feed.root / "rows.csv", running.base / "no" / "rows.csv"
    for out, code in ((taken, 2), (link, 2), (inside, 2), (nowhere, 1), (running.base, 2)):
        ran = syncd("diff", "iwf.images", 1, 2, "--out", out)
        assert (ran.code, "to do: " in ran.err) == (code, True), out
        assert not [secret for secret in secrets(running) if secret in ran.out + ran.err]
    assert syncd("diff", "iwf.images", 1, 9, "--out", target).code == 2
    assert taken.read_text() == "mine"
    assert not [path for path in (target, inside, nowhere) if path.exists()]
    assert syncd("audit", "--act", "wrote_rows", "--json").out == ""


def test_rows_that_cannot_be_recorded_are_not_left_on_disk(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disclosure without a record is none."""

    def full(*_arguments: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr("syncd.catalog.catalog.Catalog.append", full)
    out = running.base / "changes.csv"
    assert syncd("diff", "iwf.images", 1, 2, "--out", out).code == 1
    assert not out.exists()


def test_backup_restore_recover(running: World) -> None:
    """The steps of docs/operations.md bring a lost state back, above what matchers saw."""
    file = running.base / "backup.tar"
    done = syncd("backup", file, "--json").json
    assert (done["lists"], done["keys"]) == (1, 0)
    again = syncd("backup", file)
    assert (again.code, again.err.splitlines()[0]) == (2, f"error: {file} exists already")
    running.publish(add=[row(31)])
    assert syncd("sync").code == 0
    assert not running.pull().errors
    lost = running.state.root.rename(running.base / "lost")
    running.state.root.mkdir(mode=0o750)
    with tarfile.open(file) as tar:
        tar.extractall(running.state.root, filter="data")
    shutil.copytree(lost / "keys", running.state.keys)
    assert syncd("verify").code == 0
    refused = syncd("recover", "--above", 2)
    assert refused.code == 6
    assert "is at version" in refused.err
    ran = syncd("recover", "--above", 1000)
    assert (ran.code, ran.out.splitlines()[0]) == (0, "iwf.images version 1001 published")
    url = running.state.feed.root.as_uri()
    pulled = syncd("pull", url, "--root", running.operator_root, "--dir", running.copy)
    assert (pulled.code, pulled.err.splitlines()[0]) == (
        0,
        "ALARM: iwf.images version 1001 does not descend from version 3: its signer restored a backup",
    )
    assert syncd("sync").code == 0
    assert not running.pull().errors
    assert len(running.hits(31)) == 1


def test_retrust(running: World) -> None:
    """A rebuilt partner is refused until retrust says why."""
    shutil.rmtree(running.partner.root)
    shutil.rmtree(running.partner_keys)
    shutil.rmtree(running.partner_offline)
    assert syncd("feed", "init", running.partner.root, "--offline-keys", running.partner_offline).code == 0
    running.publish(full=rows(0, 31))
    refused = syncd("sync")
    assert refused.code == 6
    assert "error: the trust root configured for source iwf has changed" in refused.err
    assert "still served: iwf.images version 2" in refused.err
    ran = syncd("retrust", "iwf", "--root", running.root, "--reason", "called them")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "next: syncd sync iwf")
    assert syncd("sync", "iwf", "--json").json["syncs"][0]["lists"][0]["plan"] == "full:retrusted"


def test_rotate_a_partners_key(running: World) -> None:
    """A rotation names the new key file and never shows a key; publishing and syncing go on."""
    ran = syncd("feed", "rotate", running.partner.root, "timestamp", "--offline-keys", running.partner_offline)
    assert (ran.code, ran.out.splitlines()) == (
        0,
        [
            "timestamp now has 1 key; 1 must sign",
            f"created   {running.partner_keys / 'timestamp-1.pem'}",
        ],
    )
    more = running.base / "more.csv"
    more.write_text("algorithm,digest,entry,label\n" + ",".join(row(32)) + "\n")
    assert syncd("feed", "publish", running.partner.root, "--list", "images", "--add", more).code == 0
    assert syncd("sync").code == 0
    assert not any(secret in ran.out + ran.err for secret in secrets(running))


def test_rotate_the_operators_key(running: World) -> None:
    """The operator's own feed is rotated through its state folder; beside the catalog it is refused."""
    refused = syncd("feed", "rotate", running.state.feed.root, "timestamp", "--offline-keys", running.offline)
    assert refused.code == 6
    assert "--state" in refused.err
    arguments = ("feed", "rotate", running.state.root, "root", "--state", "--reason", "yearly")
    assert syncd(*arguments, "--offline-keys", running.offline).code == 0
    assert syncd("feed", "renew", running.state.root, "--state", "--offline-keys", running.offline).code == 0
    assert not running.pull().errors
    assert syncd("verify").code == 0


def test_a_list_with_its_own_keys(running: World) -> None:
    """Two of two keys must sign: one alone is refused, both publish."""
    made = [str(path) for path, _ in keys.make_role_keys(running.base / "bodies", "list-images", 2)]
    given = [part for path in made for part in ("--keys", path)]
    feed = running.partner.root
    offline = ("--offline-keys", running.partner_offline)
    ran = syncd("feed", "add-role", feed, "--list", "images", *given, "--threshold", 2, *offline)
    assert (ran.code, ran.out) == (0, "images now has 2 keys of its own; 2 must sign\n")
    more = running.base / "more.csv"
    more.write_text("algorithm,digest,entry,label\n" + ",".join(row(32)) + "\n")
    publish = ("feed", "publish", feed, "--list", "images", "--add", more)
    refused = syncd(*publish, "--sign-with", made[0])
    assert refused.code == 6
    assert refused.err.splitlines()[0] == "error: list-images needs 2 of its keys to sign, but has 1 at hand"
    done = syncd(*publish, "--sign-with", made[0], "--sign-with", made[1], "--json")
    assert json.loads(done.out)["version"] == 3
    assert syncd("sync").code == 0


def test_a_key_file_that_is_not_there_is_a_usage_error(running: World) -> None:
    """A slip on the command line says nothing about the disk."""
    feed, offline = running.partner.root, ("--offline-keys", running.partner_offline)
    ran = syncd("feed", "add-role", feed, "--list", "images", "--keys", "gone.pem", "--threshold", 1, *offline)
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error: there is no key file gone.pem")


def test_a_list_with_its_own_keys_is_folded_with_them(running: World) -> None:
    """`feed compact` takes them as `feed publish` does."""
    path = str(keys.make_role_keys(running.base / "body", "list-images", 1)[0][0])
    feed, offline = running.partner.root, ("--offline-keys", running.partner_offline)
    ran = syncd("feed", "add-role", feed, "--list", "images", "--keys", path, "--threshold", 1, *offline)
    assert ran.out == "images now has 1 key of its own; 1 must sign\n"
    assert syncd("feed", "compact", feed, "--all").code == 6
    ran = syncd("feed", "compact", feed, "--all", "--sign-with", path, "--json")
    assert ran.json == {"lists": [{"list": "images", "folded": 3}]}


def test_renew_says_until_when(running: World) -> None:
    """A renewal tells the new expiry of root and targets."""
    ran = syncd("feed", "renew", running.partner.root, "--offline-keys", running.partner_offline)
    assert ran.out.splitlines() == ["root expires 2027-01-01 12:00 UTC", "targets expires 2026-06-30 12:00 UTC"]


def test_a_damaged_origin_heals_with_the_next_sync(running: World) -> None:
    """What docs/operations.md says of a damaged origin: remove the file, and the next sync brings it back."""
    next(running.state.source("iwf").path("v1/images/segments").iterdir()).unlink()
    assert syncd("verify").code == 4
    running.publish(add=[row(33)])
    ran = syncd("sync", "--json").json["syncs"][0]["lists"][0]
    assert (ran["outcome"], ran["counts"]["sha256"]["added"]) == ("published", 1)
    assert syncd("verify").code == 0
