"""A token for each member of a partner, and the log of requests."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from command_line import syncd, use_clock
from syncd.errors import UsageError
from syncd.feed.signed import load_repository
from syncd.publish import author
from syncd.service.attempts import FAILURES
from syncd.service.web.members import Members
from syncd.units import stamp
from world import World, rows

LONG = "ab" * 32
OTHER = "cd" * 32


def give(folder: Path, member: str, *tokens: str) -> Path:
    """Write a member's token file."""
    folder.mkdir(exist_ok=True)
    path = folder / member
    path.touch(0o600)
    path.write_text("".join(f"{token}\n" for token in tokens))
    return path


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def name_of(members: Members, token: str) -> str | None:
    return members.name_of(f"Bearer {token}".encode())


def test_a_token_names_its_member(tmp_path: Path) -> None:
    """And while a token is being replaced, the old and the new one both do."""
    give(tmp_path / "members", "alpha", LONG, OTHER)
    give(tmp_path / "members", "beta", "third" * 8)
    members = Members(folder=tmp_path / "members")
    found = [name_of(members, token) for token in (LONG, OTHER, "third" * 8, LONG[:-1], "")]
    assert found == ["alpha", "alpha", "beta", None, None]


def test_changes_of_the_folder_take_effect(tmp_path: Path) -> None:
    """A new file lets a member in, and a removed one shuts a member out."""
    folder = tmp_path / "members"
    old = give(folder, "alpha", LONG)
    members = Members(folder=folder)
    old.unlink()
    give(folder, "beta", OTHER)
    assert members.reload() == ()
    assert (name_of(members, LONG), name_of(members, OTHER)) == (None, "beta")


def test_a_bad_file_is_reported_once_and_shuts_nobody_out(tmp_path: Path) -> None:
    """A token that is half written, or open to everybody, leaves the last good one in force."""
    folder = tmp_path / "members"
    path = give(folder, "alpha", LONG)
    members = Members(folder=folder)
    path.write_text("")
    (error,) = members.reload()
    assert (error.message, error.serving) == (f"{path} holds no token", "the previous tokens of alpha")
    assert members.reload() == ()
    assert name_of(members, LONG) == "alpha"
    path.write_text(OTHER)
    path.chmod(0o644)
    (error,) = members.reload()
    assert "is open to every user of this machine (mode 0644)" in error.message
    assert name_of(members, LONG) == "alpha"


@pytest.mark.parametrize(
    ("name", "content", "said"), [("Alpha!", LONG, "is not a valid member name"), ("a", "", "no token")]
)
def test_a_bad_file_stops_the_start(tmp_path: Path, name: str, content: str, said: str) -> None:
    """Before anything listens."""
    give(tmp_path / "members", name, content)
    with pytest.raises(UsageError, match=said):
        Members(folder=tmp_path / "members")


def test_an_empty_folder_stops_the_start(tmp_path: Path) -> None:
    """Else a wrong path would shut all members out, or an unmounted disk. The hint makes a file that is accepted."""
    (tmp_path / "members").mkdir()
    with pytest.raises(UsageError, match="has no token file") as empty:
        Members(folder=tmp_path / "members")
    assert (
        empty.value.hint == f"make one for each member: (umask 077; openssl rand -hex 32 > {tmp_path}/members/member)"
    )
    with pytest.raises(UsageError, match=f"there is no folder {tmp_path}/other") as missing:
        Members(folder=tmp_path / "other")
    assert missing.value.hint.startswith(f"run `mkdir -m 700 {tmp_path}/other`, then (umask 077; ")


def test_one_token_for_all_and_one_for_each_exclude_each_other(tmp_path: Path) -> None:
    """It is never unclear which of them counts."""
    token = give(tmp_path / "members", "alpha", LONG)
    both = ("--tokens", token.parent, "--token-file", token)
    ran = syncd("feed", "serve", tmp_path, "--listen", "127.0.0.1:0", *both)
    assert ran.code == 2
    assert "--token-file and --tokens exclude each other" in ran.err


@contextmanager
def serving(feed: Path, *options: str | Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`syncd feed serve` as a process of its own, and its address."""
    command = [sys.executable, "-m", "syncd.cli", "feed", "serve", feed, "--listen", "127.0.0.1:0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1], process
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGTERM)


def test_requests_are_logged_by_member(world: World, tmp_path: Path) -> None:
    """Time, member, address, method, path, status and bytes; never a token, and nothing that a terminal obeys."""
    world.publish(full=rows(0, 3))
    folder = tmp_path / "members"
    give(folder, "alpha", LONG)
    with serving(world.partner.root, "--tokens", folder, "--log") as (url, process):
        length = len(httpx.get(f"{url}root.json", headers=bearer(LONG)).content)
        httpx.get(f"{url}root.json", headers=bearer(OTHER))
        httpx.get(f"{url}no%1b[31mthing", headers=bearer(LONG))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    lines = [re.sub(r"^\S+Z ", "", line) for line in out.splitlines()]
    assert lines == [
        f"alpha 127.0.0.1 GET /root.json 200 {length}",
        "- 127.0.0.1 GET /root.json 401 13",
        "alpha 127.0.0.1 GET /no%1B%5B31mthing 404 10",
    ]
    assert err == "warning: 127.0.0.1 sent a wrong token; after 10 in a minute it has to wait\n"
    assert LONG not in out + err
    assert OTHER not in out + err


def test_guessing_is_slowed_down_and_members_are_not(world: World, tmp_path: Path) -> None:
    """A member behind the same address is answered: nobody can guess so long a token."""
    world.publish(full=rows(0, 3))
    give(tmp_path / "members", "alpha", LONG)
    give(tmp_path / "members", "short", "guess-me")
    with serving(world.partner.root, "--tokens", tmp_path / "members") as (url, _):
        wrong = [httpx.get(f"{url}root.json", headers=bearer(f"wrong-{number}")) for number in range(FAILURES + 2)]
        assert [one.status_code for one in wrong] == [401] * FAILURES + [429] * 2
        assert int(wrong[-1].headers["retry-after"]) > 0
        assert httpx.get(f"{url}root.json", headers=bearer("guess-me")).status_code == 429
        assert httpx.get(f"{url}root.json", headers=bearer(LONG)).status_code == 200


def test_a_partner_signs_again_without_a_change(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the timestamp and its key are needed: followers see a current feed, and no new version."""
    use_clock(world.clock, monkeypatch)
    world.publish(full=rows(0, 3))
    keys, alone = author.keys_folder(world.partner.root), tmp_path / "alone"
    alone.mkdir(0o700)
    shutil.copy2(keys / "timestamp.pem", alone)
    before = load_repository(world.partner)
    world.clock.forward(hours=40)
    ran = syncd("feed", "sign", world.partner.root, "--online-keys", alone)
    after = load_repository(world.partner)
    assert (ran.code, ran.out) == (0, f"signed: valid until {stamp(world.clock() + timedelta(hours=48))}\n")
    assert after.versions["timestamp"] == before.versions["timestamp"] + 1
    assert after.targets() == before.targets()


def test_a_refusal_to_sign_gives_the_reason(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No list, a missing key, a clock that was set back, the folder of an operator, or not a feed."""
    use_clock(world.clock, monkeypatch)
    sign = ("feed", "sign", world.partner.root)
    empty = syncd(*sign)
    assert (empty.code, "has no list yet" in empty.err) == (2, True)
    world.publish(full=rows(0, 3))
    missing = syncd(*sign, "--online-keys", tmp_path / "none")
    assert (missing.code, "there are no keys in" in missing.err) == (6, True)
    world.clock.forward(hours=-49)
    behind = syncd(*sign)
    assert (behind.code, "clock" in behind.err) == (6, True)
    none = syncd("feed", "sign", tmp_path)
    assert (none.code, "is not a feed" in none.err) == (2, True)
