"""The road by commands alone: a partner publishes and serves, a matcher pulls and asks, an operator syncs."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from command_line import ALONE, HERE, Ran, configure, syncd
from syncd.service.web.partner import running_server

TOKEN = "tok-4f9a1c"
COUNTED = "algorithm  now  added  removed  relabelled  after\n"
HEADER = "algorithm,digest,entry,label"


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def sha256(number: int) -> str:
    return hashlib.sha256(f"data {number}".encode()).hexdigest()


def write_rows(name: str, *numbers: int) -> str:
    lines = [HEADER, *(f"sha256,{sha256(number)},secret-entry-{number},A" for number in numbers)]
    Path(name).write_text("\n".join([*lines, ""]))
    return name


def make_files() -> None:
    for number in range(1, 6):
        Path(f"file{number}").write_text(f"data {number}")


def test_partner_to_matcher() -> None:
    """feed init -> publish -> serve -> pull -> lookup and match, with every word they say."""
    make_files()
    Path("token").write_text(TOKEN)
    made = syncd("feed", "init", "feed", "--offline-keys", "off", "--keys", "3", "--threshold", "2")
    assert made.err.startswith("warning: the offline keys in off are on a disk of this machine")
    assert (made.code, made.out) == (
        0,
        "feed          feed\n"
        "trust root    feed/root.json  (hand it out, not through the feed)\n"
        "offline keys  off  (take them off this machine)\n"
        "online keys   feed.keys  (publishing needs them here)\n"
        "next: syncd feed publish feed --list NAME --full FILE\n",
    )
    assert syncd("feed", "publish", "feed", "--list", "images", "--full", write_rows("full.csv", 1, 2)) == Ran(
        0, f"images version 1 published: 2 rows\n{COUNTED}sha256       0      2        0           0      2\n", ""
    )
    with running_server(Path("feed"), TOKEN) as url:
        pull = ("pull", url, "--root", "feed/root.json", "--dir", "copy", "--token-file", "token")
        assert syncd(*pull) == Ran(0, "images version 1, new here\n", "")
        assert syncd(*pull) == Ran(0, "images is up to date: version 1\n", "")
        Path("gone.csv").write_text("entry\nsecret-entry-1\n")
        changed = syncd(
            "feed", "publish", "feed", "--list", "images", "--add", write_rows("add.csv", 3), "--remove", "gone.csv"
        )
        assert changed == Ran(
            0, f"images version 2 published: 2 rows\n{COUNTED}sha256       2      1        1           0      2\n", ""
        )
        assert syncd(*pull) == Ran(0, "images version 2, was 1\n", "")
        refused = syncd(*pull[:-2])
    assert refused.code == 5
    assert refused.err.splitlines()[1] == "  still served: images version 2"
    hit, miss = f"sha256:{sha256(2)}", f"SHA256:{sha256(1).upper()}"
    assert syncd("lookup", "copy", hit, miss) == Ran(
        0, f"{hit}  MATCH images version 2  label A  entry secret-entry-2\n{miss}  no match\n", ""
    )
    assert syncd("lookup", "copy", "-", stdin=f"\n{miss}\n") == Ran(10, f"{miss}  no match\n", "")
    assert syncd("match", "copy", "file1", "file3") == Ran(
        0, "file1  no match\nfile3  MATCH images version 2  sha256  label A  entry secret-entry-3\n", ""
    )
    assert syncd("match", "copy", "file1") == Ran(10, "file1  no match\n", "")


@dataclass
class Partner:
    url: str


@pytest.fixture
def partner() -> Iterator[Partner]:
    """A partner's feed with one list of two entries, served."""
    syncd("feed", "init", "feed", "--offline-keys", "off")
    syncd("feed", "publish", "feed", "--list", "images", "--full", write_rows("full.csv", 1, 2))
    with running_server(Path("feed")) as url:
        yield Partner(url)


def test_operator(partner: Partner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """init -> sync -> status -> snapshots, then the partner falls silent."""
    configure(
        tmp_path / "syncd.toml",
        f'state_dir = "{tmp_path}/state"\n[sources.iwf]\ntype = "feed"\n'
        f'url = "{partner.url}"\nroot = "{tmp_path}/feed/root.json"\n',
        monkeypatch,
    )
    made = syncd("init", "--offline-keys", "own-off")
    assert made.err.startswith("warning: the offline keys in own-off are on a disk of this machine")
    assert (made.code, made.out) == (
        0,
        f"state folder  {tmp_path}/state\n"
        f"feed          {tmp_path}/state/feed  (serve this folder to matchers)\n"
        f"trust root    {tmp_path}/state/feed/root.json  (hand it to matchers, not through the feed)\n"
        "offline keys  own-off  (take them off this machine)\n"
        "next: name your sources in the configuration, then run `syncd sync`\n",
    )
    assert syncd("status") == Ran(0, f"iwf: nothing published yet; run `syncd sync`\n{ALONE}", "")
    dry = syncd("sync", "--dry-run")
    assert (dry.code, dry.err) == (0, f"note: a dry run: nothing was published\n{HERE}")
    assert cells(dry) == ["iwf.images", "would be published", "2", "2", "0", "0"]
    first = syncd("sync")
    assert (first.code, first.err, cells(first)) == (0, HERE, ["iwf.images", "published", "1", "2", "2", "0", "0"])
    second = syncd("sync", "iwf", "--json")
    assert (second.code, second.json["syncs"][0]["lists"][0]["outcome"]) == (0, "up_to_date")
    assert cells(syncd("status"))[:3] == ["iwf.images", "1", "2"]
    assert [one["version"] for one in syncd("snapshots", "iwf.images", "--json").json["snapshots"]] == [1]
    followed = syncd("pull", f"file://{tmp_path}/state/feed", "--root", "state/feed/root.json", "--dir", "copy")
    assert followed == Ran(0, "iwf.images version 1, new here\n", "")
    monkeypatch.setenv("SYNCD_SOURCES__IWF__URL", f"file://{tmp_path}/nowhere")
    silent = syncd("sync")
    assert (silent.code, silent.out, silent.err) == (
        5,
        "",
        f"error: there is no folder {tmp_path}/nowhere\n"
        "  still served: iwf.images version 1\n"
        f"  to do: mount it, or correct the address\n{HERE}",
    )
    shown = syncd("status")
    assert cells(shown)[-1] == "unreachable"
    assert shown.err == f"warning: iwf.images: there is no folder {tmp_path}/nowhere\n"


def cells(ran: Ran) -> list[str]:
    """The first row of the table that was printed."""
    return re.split(r" {2,}", ran.out.splitlines()[1].strip())


def test_no_digest_entry_or_token_is_ever_printed(
    partner: Partner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the user typed comes back, and an entry only as the answer to a look-up that matched."""
    make_files()
    Path("token").touch(0o600)
    Path("token").write_text(TOKEN)
    Path("bad.csv").write_text(f"{HEADER}\nsha256,{sha256(4)[:-1]},secret-entry-4,A\n")
    configure(
        tmp_path / "syncd.toml",
        f'state_dir = "{tmp_path}/state"\n[sources.iwf]\ntype = "feed"\ntoken_file = "{tmp_path}/token"\n'
        f'url = "{partner.url}"\nroot = "{tmp_path}/feed/root.json"\n',
        monkeypatch,
    )
    pull = ("pull", partner.url, "--root", "feed/root.json", "--dir", "copy", "--token-file", "token")
    commands: list[tuple[str, ...]] = [
        ("feed", "publish", "feed", "--list", "images", "--add", write_rows("add.csv", 3)),
        ("feed", "publish", "feed", "--list", "images", "--add", "bad.csv"),
        ("feed", "publish", "feed", "--list", "images", "--full", "bad.csv", "--skip-bad", "out.csv"),
        ("feed", "status", "feed"),
        pull,
        ("init", "--offline-keys", "own-off"),
        ("sync",),
        ("status",),
        ("snapshots", "iwf.images"),
        ("match", "copy", "file4", "file5"),
        ("lookup", "copy", "sha256:12"),
    ]
    secrets = [TOKEN, "secret-entry", *(sha256(number)[:20] for number in range(1, 6))]
    for command in commands:
        for ran in (syncd(*command), syncd(*command, "--json") if command[0] != "init" else Ran(0, "", "")):
            assert [secret for secret in secrets if secret in ran.out + ran.err] == [], command
    ran = syncd("match", "copy", "file1", "--json")
    assert sha256(1) not in ran.out + ran.err


def test_the_program_itself(tmp_path: Path) -> None:
    """The same by real processes, down to exit codes and the one JSON document."""
    make_files()
    write_rows("full.csv", 1, 2)

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "syncd.cli", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ}, check=False)
        assert ran.stderr == "" or arguments[1] == "init"
        return ran.returncode, ran.stdout

    assert run("feed", "init", "feed", "--offline-keys", "off")[0] == 0
    assert run("feed", "publish", "feed", "--list", "images", "--full", "full.csv")[0] == 0
    code, out = run("pull", f"file://{tmp_path}/feed", "--root", "feed/root.json", "--dir", "copy", "--json")
    assert (code, json.loads(out)["changed"]) == (0, True)
    assert run("match", "copy", "file2")[0] == 0
    assert run("match", "copy", "file3")[0] == 10
