import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from command_line import Ran, syncd, use_clock
from disks import mounted
from syncd.report.expiry import Expiry, Urgency
from syncd.units import span
from world import World, row, rows


@pytest.fixture
def partner(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The partner's commands, by the world's clock."""
    use_clock(world.clock, monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    return world


def csv(world: World, *content: tuple[str, ...]) -> Path:
    path = world.base / "rows.csv"
    path.write_text("\n".join(["algorithm,digest,entry,label", *(",".join(one) for one in content), ""]))
    return path


def publish(world: World, *more: object) -> Ran:
    return syncd("feed", "publish", world.partner.root, "--list", "images", *more)


def test_a_second_init_changes_nothing(partner: World) -> None:
    """It says what to run instead."""
    feed = partner.partner.root
    ran = syncd("feed", "init", feed, "--offline-keys", partner.partner_offline)
    assert ran == Ran(
        2,
        "",
        f"error: {feed} is a feed already\n  to do: `syncd feed status {feed}` shows it; nothing was changed\n",
    )


def test_a_slip_in_a_name_makes_no_list(partner: World) -> None:
    """A feed with lists makes one more only if told so; nothing is read or published, and the nearest name is given."""
    feed, before = partner.partner.root, csv(partner, *rows(0, 2))
    assert publish(partner, "--full", before).code == 0  # the first list of a feed needs no --new
    signed = (feed / "metadata" / "timestamp.json").read_bytes()
    slip = ("feed", "publish", feed, "--list", "image", "--full", "/nowhere/to/be/read.csv")
    assert syncd(*slip) == Ran(
        2,
        "",
        f"error: {feed} has no list image\n"
        "  still served: nothing of image yet\n"
        "  to do: did you mean images? if not, give --new to create a list\n",
    )
    assert "to do: known lists: images; give --new" in syncd(*slip[:4], "zzz", *slip[5:]).err
    assert (feed / "metadata" / "timestamp.json").read_bytes() == signed
    assert not (feed / "v1" / "image").exists()


def test_a_pipe_is_published_under_a_stated_algorithm(partner: World) -> None:
    """Digests from another program come in by standard input; the option says what they are."""
    digests = "".join(f"{content[1]}\n" for content in rows(0, 3))
    held, (ours, theirs) = os.dup(0), os.pipe()
    try:
        os.dup2(ours, 0)
        os.write(theirs, digests.encode())
        os.close(theirs)
        ran = publish(partner, "--full", "-", "--algorithm", "SHA-256")
    finally:
        os.dup2(held, 0)
        os.close(held)
        os.close(ours)
    assert (ran.code, ran.err) == (0, "")
    assert "images version 1" in ran.out


def test_a_file_in_columns_of_its_own_is_published(partner: World) -> None:
    """By a map; a signature beside the file is mentioned, because only its signer's key could prove it."""
    path = partner.base / "export.csv"
    path.write_text("ID;Hash\n" + "".join(f"{content[2]};{content[1]}\n" for content in rows(0, 3)))
    path.with_name("export.csv.sig").write_bytes(b"signature")
    ran = publish(partner, "--full", path, "--map", "sha256=Hash,entry=ID")
    assert (ran.code, ran.err) == (
        0,
        "warning: export.csv.sig was not checked: name the key with --signer\n",
    )
    path.write_text("ID;Hash\n1;12\n")
    refused = publish(partner, "--full", path, "--map", "sha256=Hash,entry=ID")
    assert (refused.code, refused.err.splitlines()[0]) == (
        2,
        "error: export.csv, line 2, column digest: 2 hexadecimal digits; sha256 has 64",
    )


def test_the_command_says_how_many_rows_a_profile_leaves_out(partner: World) -> None:
    """Addresses and other attributes of MISP are no rows of a list, and revoked ones are not in force."""
    path = partner.base / "event.json"
    attribute = {"type": "sha256", "category": "Payload delivery", "value": rows(0, 1)[0][1], "uuid": "u1"}
    others = [{**attribute, "type": "ip-dst", "value": "192.0.2.1"}, {**attribute, "uuid": "u2", "deleted": True}]
    path.write_text(json.dumps({"response": [{"Event": {"Attribute": [attribute, *others]}}]}))
    ran = publish(partner, "--full", path, "--profile", "misp")
    assert (ran.code, ran.err) == (
        0,
        "note: 2 rows of event.json left out by the profile: of a type that is not a digest, or revoked\n",
    )
    path.write_text(json.dumps({"response": [{"Event": {"Attribute": others}}]}))
    refused = publish(partner, "--full", path, "--profile", "misp")
    assert (refused.code, refused.err.splitlines()[0]) == (
        2,
        "error: event.json contains no rows, only 2 rows that the profile leaves out",
    )


def test_one_more_list_is_made_with_new(partner: World) -> None:
    """For its first version alone: a script that kept it could make a list by a slip."""
    feed = partner.partner.root
    assert publish(partner, "--new", "--full", csv(partner, *rows(0, 2))).code == 0
    more = ("feed", "publish", feed, "--list", "videos", "--full", csv(partner, *rows(0, 3)))
    assert syncd(*more).code == 2
    assert syncd(*more, "--new").out.startswith("videos version 1 published: 3 rows")
    again = syncd(*more, "--new")
    assert (again.code, again.err.splitlines()[::2]) == (
        2,
        [
            f"error: {feed} has a list videos already",
            "  to do: leave out --new: it is only for a list's first version",
        ],
    )
    assert syncd(*more).out == "videos is up to date: version 1, 3 rows\n"


def killed(name: str, monkeypatch: pytest.MonkeyPatch, *command: object) -> None:
    """Run a command that is killed where it would call ``name``."""

    def die(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as around:
        around.setattr(name, die)
        assert syncd(*command).code == 130


def test_an_init_that_was_killed_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the keys that it had made; the keys of another feed are named, and nothing is overwritten."""
    feed, off = tmp_path / "f", tmp_path / "off"
    command = ("feed", "init", feed, "--offline-keys", off)
    killed("syncd.publish.author.installing.install", monkeypatch, *command)
    made = {path: path.read_bytes() for path in [*off.iterdir(), *(tmp_path / "f.keys").iterdir()]}
    ran = syncd("feed", "init", tmp_path / "g", "--offline-keys", off, "--online-keys", tmp_path / "f.keys")
    assert (ran.code, ran.err) == (
        6,
        f"error: {tmp_path}/f.keys/timestamp.pem exists already and is not overwritten\n"
        "  to do: name another folder, or move the key away\n",
    )
    killed("syncd.feed.folder.FeedFolder.metadata", monkeypatch, *command)
    assert not (feed / "root.json").exists()
    assert syncd(*command).code == 0
    assert (feed / "root.json").read_bytes() == (feed / "metadata/1.root.json").read_bytes()
    assert syncd("feed", "status", feed).code == 0
    assert {path: path.read_bytes() for path in made} == made


def test_a_feed_that_was_used_is_not_made_anew(partner: World) -> None:
    """Though its root.json was taken away, since it is handed out by another way."""
    feed = partner.partner.root
    publish(partner, "--full", csv(partner, *rows(0, 2)))
    (feed / "root.json").unlink()
    ran = syncd("feed", "init", feed, "--offline-keys", partner.partner_offline)
    assert (ran.code, ran.err.splitlines()[0]) == (2, f"error: {feed} is a feed already")
    assert not (feed / "root.json").exists()


def test_keys_never_lie_in_the_feed(tmp_path: Path) -> None:
    """What is served holds no key."""
    ran = syncd("feed", "init", tmp_path / "f", "--offline-keys", tmp_path / "f" / "off")
    told = f"error: {tmp_path}/f/off is inside the feed folder, which is public"
    assert (ran.code, ran.err.splitlines()[0]) == (2, told)


def test_offline_keys_are_not_online_keys(tmp_path: Path) -> None:
    """One folder for both would leave root's keys on the machine that they are to be kept from."""
    ran = syncd("feed", "init", tmp_path / "f", "--offline-keys", tmp_path / "k", "--online-keys", tmp_path / "k")
    assert (ran.code, ran.err.splitlines()[0]) == (
        2,
        f"error: {tmp_path}/k is given for both the offline and the online keys",
    )
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize("command", [("publish", "--list", "p.images", "--add"), ("compact", "--list", "p.images")])
def test_nobody_publishes_beside_an_operators_catalog(partner: World, command: tuple[str, ...]) -> None:
    """The catalog would not know that version, and refuse every sync after it."""
    partner.publish(full=rows(0, 3))
    assert partner.sync().exit_code == 0
    file = [csv(partner, row(9))] if "--add" in command else []
    name, *more = command
    ran = syncd("feed", name, partner.state.feed.root, "--online-keys", partner.state.keys, *more, *file)
    assert (ran.code, ran.out) == (6, "")
    assert ran.err == (
        f"error: {partner.state.feed.root} is the feed of an operator's state folder\n"
        "  to do: only `syncd sync` publishes there; publish your own rows in a feed of their own, "
        "added as a source\n"
    )


def test_publishing_the_same_again_publishes_nothing(partner: World) -> None:
    """And says which version is in force."""
    file = csv(partner, *rows(0, 2))
    publish(partner, "--full", file)
    assert publish(partner, "--full", file) == Ran(0, "images is up to date: version 1, 2 rows\n", "")
    assert publish(partner, "--full", file, "--json").json == {
        "list": "images",
        "version": 1,
        "changed": False,
        "rows": 2,
        "counts": {},
        "skipped": 0,
        "needless": 0,
        "judged": None,
    }


def test_rows_that_ask_for_nothing_are_counted(partner: World) -> None:
    """An add of what is there is no fault, and no news."""
    publish(partner, "--full", csv(partner, *rows(0, 2)))
    ran = publish(partner, "--add", csv(partner, *rows(1, 3)))
    assert ran == Ran(
        0,
        "images version 2 published: 3 rows\n"
        "algorithm  now  added  removed  relabelled  after\n"
        "sha256       2      1        0           0      3\n"
        "1 row had no effect: added but already present, or removed but absent\n",
        "",
    )


def test_a_bad_row_stops_everything_and_is_named_by_place(partner: World) -> None:
    """File, line, column and reason; the value never."""
    file = csv(partner, row(0), ("sha256", "00ff", "e", "A"))
    ran = publish(partner, "--full", file)
    assert (ran.code, ran.out) == (2, "")
    assert "rows.csv, line 3, column digest: 4 hexadecimal digits; sha256 has 64\n" in ran.err
    assert "00ff" not in ran.err


def test_bad_rows_can_be_set_aside(partner: World) -> None:
    """They are counted, and the good ones are published."""
    file = csv(partner, row(0), ("sha256", "00ff", "e", "A"))
    aside = partner.base / "bad.csv"
    ran = publish(partner, "--full", file, "--skip-bad", aside)
    assert (ran.code, ran.out.splitlines()[0]) == (0, "images version 1 published: 1 row")
    assert ran.err == f"warning: 1 bad row left out: see {aside}\n"
    assert aside.exists()


def test_bad_rows_of_both_files_are_set_aside(partner: World) -> None:
    """Additions and removals: none is dropped in silence, and each says where it was."""
    publish(partner, "--full", csv(partner, row(0)))
    added, removed = partner.base / "added.csv", partner.base / "removed.csv"
    csv(partner, row(1), ("sha256", "00ff", "e", "A")).rename(added)
    csv(partner, ("md5", "11", "", ""), row(0)).rename(removed)
    aside = partner.base / "bad.csv"
    ran = publish(partner, "--add", added, "--remove", removed, "--skip-bad", aside)
    assert (ran.code, ran.err) == (0, f"warning: 2 bad rows left out: see {aside}\n")
    assert [line.split(",")[:3] for line in aside.read_text().splitlines()[1:]] == [
        ['"added.csv"', "3", "digest"],
        ['"removed.csv"', "2", "digest"],
    ]


def test_no_list_file_is_taken_for_bad_rows(partner: World) -> None:
    """Whichever of them it is: its rows stay."""
    publish(partner, "--full", csv(partner, row(0)))
    added, removed = partner.base / "added.csv", partner.base / "removed.csv"
    csv(partner, row(1), ("sha256", "00ff", "e", "A")).rename(added)
    csv(partner, row(0)).rename(removed)
    before = removed.read_bytes()
    ran = publish(partner, "--add", added, "--remove", removed, "--skip-bad", removed)
    assert (ran.code, removed.read_bytes()) == (2, before)
    assert f"{removed} exists, and is not a file of bad rows" in ran.err


@pytest.mark.parametrize("more", [(), ("--full", "a", "--add", "b")])
def test_what_to_publish_must_be_said_once(partner: World, more: tuple[str, ...]) -> None:
    """The whole, or what changed."""
    assert publish(partner, *more) == Ran(
        2,
        "",
        "error: give the whole list, or rows to add or remove\n"
        "  to do: either --full FILE, or --add FILE and/or --remove FILE\n",
    )


def test_a_folder_that_is_no_feed_is_told(tmp_path: Path) -> None:
    """By every command that takes one."""
    expected = Ran(
        2,
        "",
        f"error: {tmp_path} is not a feed\n  to do: check the path, or make a feed there with `syncd feed init`\n",
    )
    assert syncd("feed", "status", tmp_path) == expected
    assert syncd("feed", "publish", tmp_path, "--list", "images", "--full", "x") == expected
    assert syncd("feed", "serve", tmp_path, "--listen", "127.0.0.1:0") == expected


def test_status_shows_lists_and_expiry(partner: World) -> None:
    """Everything on one screen."""
    publish(partner, "--full", csv(partner, *rows(0, 1200)))
    ran = syncd("feed", "status", partner.partner.root)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "list    version   rows  algorithms  verified (UTC)  \n"
        "images        1  1,200  sha256      2026-01-01 12:00\n"
        "\n"
        "role       version  expires (UTC)                  state\n"
        "timestamp        2  2026-01-03 12:00  in 2 days    ok   \n"
        "snapshot         2  2026-01-08 12:00  in 7 days    ok   \n"
        "lists            2  2026-01-31 12:00  in 30 days   ok   \n"
        "targets          1  2026-06-30 12:00  in 180 days  ok   \n"
        "root             1  2027-01-01 12:00  in 365 days  ok   \n"
    )


def test_status_tells_the_same_as_json(partner: World) -> None:
    """Times in ISO 8601, seconds to count with."""
    publish(partner, "--full", csv(partner, *rows(0, 3)))
    document = syncd("feed", "status", partner.partner.root, "--json").json
    assert document["lists"] == [
        {
            "list": "images",
            "version": 1,
            "rows": 3,
            "algorithms": {"sha256": 3},
            "created": "2026-01-01T12:00:00Z",
            "verified_at": "2026-01-01T12:00:00Z",
            "retired_at": None,
        }
    ]
    assert document["metadata"][0] == {
        "role": "timestamp",
        "version": 2,
        "expires": "2026-01-03T12:00:00Z",
        "seconds_left": 172800,
        "state": "ok",
    }
    assert document["interrupted_publication"] is False


def test_status_tells_of_an_interrupted_publication(partner: World) -> None:
    """A crash after the commit is finished by the next publish."""
    (partner.partner.work / "journal.json").write_text("[]")
    ran = syncd("feed", "status", partner.partner.root)
    assert ran.err == "warning: publishing was interrupted; the next `syncd feed publish` finishes it\n"


@pytest.mark.parametrize(
    ("role", "left", "urgency", "red", "warning"),
    [
        ("root", timedelta(days=61), Urgency.FINE, False, None),
        (
            "root",
            timedelta(days=60),
            Urgency.SOON,
            False,
            "root expires in 60 days: sign it again with the offline keys",
        ),
        (
            "targets",
            timedelta(days=30),
            Urgency.NEXT,
            False,
            "targets expires in 30 days: sign it again with the offline keys",
        ),
        (
            "root",
            timedelta(days=7),
            Urgency.URGENT,
            True,
            "root expires in 7 days: sign it again with the offline keys",
        ),
        (
            "root",
            timedelta(days=-2),
            Urgency.EXPIRED,
            True,
            "root expired 2 days ago: sign it again with the offline keys",
        ),
        ("timestamp", timedelta(hours=12), Urgency.FINE, False, None),
        (
            "timestamp",
            timedelta(hours=11),
            Urgency.OVERDUE,
            True,
            "timestamp expires in 11 hours: sign it again with the online keys",
        ),
        ("lists", timedelta(days=8), Urgency.FINE, False, None),
        (
            "lists",
            timedelta(0),
            Urgency.EXPIRED,
            True,
            "lists expired 0 seconds ago: sign it again with the online keys",
        ),
    ],
)
def test_expiry_warns_in_time(role: str, left: timedelta, urgency: Urgency, red: bool, warning: str | None) -> None:
    """60, 30 and 7 days for what needs the offline keys; a quarter of its life for what is signed automatically."""
    one = Expiry(role, 1, datetime(2026, 1, 1, tzinfo=UTC), left)
    assert (one.urgency, one.red, one.warning) == (urgency, red, warning)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (7199, "1 hour"),
        (7200, "2 hours"),
        (86400, "1 day"),
        (10**7, "115 days"),
        (-5, "0 seconds"),
    ],
)
def test_lengths_of_time_are_shown_in_their_largest_unit(seconds: int, shown: str) -> None:
    """Rounded down."""
    assert span(timedelta(seconds=seconds)) == shown


@pytest.mark.parametrize("listen", ["8470", ":8470", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1"])
def test_an_address_to_listen_on_is_host_and_port(partner: World, listen: str) -> None:
    """With an example of each kind."""
    ran = syncd("feed", "serve", partner.partner.root, "--listen", listen)
    assert ran == Ran(2, "", "error: --listen is not HOST:PORT\n  to do: for example 127.0.0.1:8470 or [::1]:8470\n")


@pytest.mark.parametrize("more", [(), ("--token-file", "token")])
def test_serving_beyond_this_machine_needs_tls_and_a_token(
    partner: World, more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list must never leak by a wrong option."""
    monkeypatch.chdir(partner.base)
    Path("token").write_text("t0ken")
    ran = syncd("feed", "serve", partner.partner.root, "--listen", "0.0.0.0:0", *more)
    assert ran == Ran(
        2,
        "",
        "error: 0.0.0.0 can be reached from other machines: without TLS and a token anybody could read the feed\n"
        "  to do: give --tls-cert, --tls-key, and --tokens or --token-file, or listen on 127.0.0.1\n",
    )


def test_each_custodian_has_a_folder_of_keys(tmp_path: Path) -> None:
    """One root key each, so that nobody is ever handed another's; a threshold of the folders signs."""
    folders = [tmp_path / name for name in ("ann", "bob", "eve")]
    given = [word for folder in folders for word in ("--offline-keys", folder)]
    assert syncd("feed", "init", tmp_path / "f", *given, "--threshold", "2").code == 0
    assert [sorted(path.name for path in folder.iterdir()) for folder in folders] == [
        ["root-1.pem", "targets.pem"],
        ["root-2.pem"],
        ["root-3.pem"],
    ]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700] * 3
    two = ("--offline-keys", folders[0], "--offline-keys", folders[2])
    assert syncd("feed", "renew", tmp_path / "f", *two).code == 0
    assert syncd("feed", "renew", tmp_path / "f", *two[:2]).code == 6
    assert syncd("init", "--state-dir", tmp_path / "s", *given).code == 0
    for wrong in ((*given, "--keys", "2"), (*given, *given[:2])):
        assert syncd("feed", "init", tmp_path / "g", *wrong).code == 2
    assert not (tmp_path / "g").exists()


def test_offline_keys_on_the_system_disk_cause_a_warning(tmp_path: Path) -> None:
    """They are there to be safe from whoever takes this machine over; on another file system nothing is said."""
    ran = syncd("feed", "init", tmp_path / "f", "--offline-keys", tmp_path / "off")
    assert ran.err.startswith(f"warning: the offline keys in {tmp_path}/off are on a disk of this machine: ")
    (tmp_path / "stick").mkdir()
    with mounted(tmp_path / "stick", "-t", "tmpfs", "tmpfs"):
        assert syncd("feed", "init", tmp_path / "g", "--offline-keys", tmp_path / "stick" / "keys").err == ""
