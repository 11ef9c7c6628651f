"""Modes of what syncd writes: the documented ones whatever the umask, and named where they keep a reader out."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from command_line import configure, operate, settings, syncd
from disks import root_only
from syncd.files import install_bytes, link_file, make_folder
from test_bad_disk import as_nobody
from world import World, row, rows


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(world: World) -> dict[str, set[str]]:
    """The modes of everything below a world, by kind of file; not those of what tests write themselves."""
    found: dict[str, set[str]] = {}
    for path in world.base.rglob("*"):
        if path.suffix in {".csv", ".toml"}:
            continue
        name = re.sub(r"[0-9a-f]{64}|[0-9a-f]{16}", "HASH", str(path.relative_to(world.base)))
        found.setdefault(name, set()).add(stat.filemode(path.stat().st_mode))
    return found


def all_there_is(base: Path, mask: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The modes of a partner, an operator, two copies and a backup, made under a umask and still open."""
    base.mkdir()
    with umask(mask):
        world = World(base)
        operate(world, monkeypatch)
        world.publish(full=rows(0, 20))
        assert syncd("sync").code == 0
        world.publish(add=[row(30)], remove=[row(1)])
        assert syncd("sync").code == 0
        assert syncd("backup", base / "backup.tar").code == 0
        world.pull()
        world.follow()
        with world.publisher() as publisher:  # with SQLite's own files beside the catalog
            publisher.keep_history(world.clock(), timedelta(days=30))
            return modes(world)


def test_modes_do_not_depend_on_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Feeds and copies are open to their group; keys, catalog and work are private; nothing is open to everybody."""
    usual = all_there_is(tmp_path / "usual", 0o022, monkeypatch)
    for mask in (0o000, 0o027, 0o077):
        assert all_there_is(tmp_path / f"{mask:o}", mask, monkeypatch) == usual
    for name in ("state/feed", "state/feed/v1", "state/feed/metadata", "partner", "copy", "copy/v1", "mirror"):
        assert usual[name] == {"drwxr-x---"}
    for name in ("state/feed/metadata/timestamp.json", "state/feed/root.json", "copy/current.json"):
        assert usual[name] == {"-rw-r-----"}
    for name in ("state/catalog.sqlite3", "state/catalog.sqlite3-wal", "state/catalog.sqlite3-shm", "backup.tar"):
        assert usual[name] == {"-rw-------"}
    for name in ("state/keys", "operator-offline", "partner.keys", "partner-offline"):
        assert usual[name] == {"drwx------"}
    assert [name for name, kinds in usual.items() for kind in kinds if not kind.endswith("---")] == []


def test_a_folder_keeps_the_group_that_it_inherits(tmp_path: Path) -> None:
    """A set-group-ID folder hands its group on (docs/install.md), whatever the umask."""
    root_only()
    os.chown(tmp_path, -1, 7100)
    tmp_path.chmod(0o2750)
    with umask(0o077):
        install_bytes(make_folder(tmp_path / "a" / "b") / "file", b"x")
        link_file(tmp_path / "a" / "b" / "file", tmp_path / "c" / "file")
    for folder in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "c"):
        assert (stat.S_IMODE(folder.stat().st_mode), folder.stat().st_gid) == (0o2750, 7100)
    assert stat.S_IMODE((tmp_path / "a" / "b" / "file").stat().st_mode) == 0o640


def test_a_mode_that_keeps_readers_out_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `verify` of a feed, a copy and a state, and by `run --check`; the command in it opens the feed and no more."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    syncd("sync")
    world.pull()
    closed = world.state.feed.path("metadata")
    before = modes(world)
    for command in (("verify",), ("verify", world.state.feed.root), ("verify", world.copy), ("run", "--check")):
        assert "closed to the group" not in syncd(*command).err
    closed.chmod(0o700)
    (world.copy / "current.json").chmod(0o600)
    for command in (("verify",), ("verify", world.state.root), ("run", "--check")):
        ran = syncd(*command)
        assert (ran.code, f": {closed} is closed to the group of {world.state.feed.root}" in ran.err) == (0, True)
    told = syncd("verify", world.copy).err
    assert f": {world.copy}/current.json is closed to the group of {world.copy}" in told
    for folder in (world.state.feed.root, world.copy):
        told = syncd("verify", folder).err
        assert os.system(told.partition("run `")[2].partition("`")[0]) == 0
    assert modes(world) == before


def test_a_folder_that_is_closed_on_purpose_is_not_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but its owner is to read it."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    world.follow()
    world.mirror.chmod(0o700)
    (world.mirror / "current.json").chmod(0o600)
    assert syncd("verify", world.mirror).err == ""


def test_a_check_looks_at_the_folder_of_the_control_socket(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that this user cannot write is a fault; one that is missing may be made by systemd."""
    root_only()
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    assert syncd("run", "--check").code == 0
    closed = world.base / "run"
    closed.mkdir(mode=0o755)
    world.base.chmod(0o755)
    for path in world.state.root.rglob("*"):
        os.chown(path, 65534, 65534)
    os.chown(world.state.root, 65534, 65534)
    world.base.parent.chmod(0o755)
    configure(world.base / "syncd.toml", settings(world).replace("/c.sock", "/run/c.sock"), monkeypatch)
    with readable(world), as_nobody():
        ran = syncd("run", "--check")
    assert (ran.code, ran.out) == (2, "")
    assert f" cannot create {closed}/c.sock, because its folder is not writable\n" in ran.err
    closed.rmdir()
    with readable(world), as_nobody():
        ran = syncd("run", "--check")
    assert ran.code == 0
    assert f"note: control_socket: {closed} does not exist, and " in ran.err
    assert "RuntimeDirectory=" in ran.err


@contextmanager
def readable(world: World) -> Iterator[None]:
    """Let everybody enter the folders above a world, and read what is in it."""
    above = [path for path in world.base.parents if path.stat().st_mode & 0o001 == 0]
    before = [path.stat().st_mode for path in above]
    for path in above:
        path.chmod(0o755)
    for path in world.partner.root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    world.partner.root.chmod(0o755)
    try:
        yield
    finally:
        for path, mode in zip(above, before, strict=True):
            path.chmod(mode)


LAYOUT = """
[serve]
listen = "127.0.0.1:8470"
operator_token_file = "$CREDENTIALS_DIRECTORY/secrets_operator.token"

[operators.alice]
token_file = "$CREDENTIALS_DIRECTORY/secrets_alice.token"
role = "viewer"
"""


def test_a_check_by_hand_names_the_credentials_that_only_the_service_has(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The layout of docs/install.md is no fault; with the credentials at hand they are checked like any file."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    token = 'token_file = "$CREDENTIALS_DIRECTORY/secrets_iwf.token"\n'
    configure(world.base / "syncd.toml", settings(world, token) + LAYOUT, monkeypatch)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    ran = syncd("run", "--check")
    assert (ran.code, "iwf" in ran.out) == (0, True)
    assert ran.err.startswith(
        "warning: not checked, since only the service has these credentials: sources.iwf.token_file, "
        "serve.operator_token_file, "
        "operators.alice.token_file\n  to do: to check them too: systemd-run "
    )
    given = tmp_path / "credentials"
    given.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(given))
    assert syncd("run", "--check").code == 2
    for name in ("iwf", "operator", "alice"):
        install_bytes(given / f"secrets_{name}.token", f"{name:*<32}".encode(), 0o600)
    assert syncd("run", "--check").err == ""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    world.root.unlink()
    assert syncd("run", "--check").code == 2
