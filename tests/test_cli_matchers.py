"""`syncd matchers`: who may pull, as the operator sees it."""

import getpass
import os
import re
import stat
from pathlib import Path

import pytest

from command_line import ALONE, Ran, operate, syncd
from syncd.acts import AddedMatcher
from syncd.catalog.records import LoadedVersion
from syncd.locks import lock
from syncd.service.access import Access
from syncd.service.checkins import Checkins
from world import HEAD, START, World, row, rows

TOKEN = re.compile(r"syncd_[A-Za-z0-9_-]{43}\n")


@pytest.fixture
def configured(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An operator with one list, by the world's clock."""
    operate(world, monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    world.publish(full=rows(0, 3))
    world.sync()
    return world


def admitted(world: World, token: str) -> str | None:
    """Whom a token belongs to."""
    with world.publisher() as publisher:
        visitor = Access(publisher.catalog).admit(f"Bearer {token}".encode())
    return visitor.name if visitor else None


def check_in(world: World, *said: tuple[str, str, int]) -> None:
    """Instances tell which version they have."""
    with world.publisher() as publisher:
        checkins = Checkins(publisher.catalog)
        for matcher, instance, version in said:
            checkins.note(matcher, instance, {HEAD: version}, world.clock())
        checkins.flush()


def test_add_prints_the_token_alone(configured: World) -> None:
    """So that it can be sent to a file; the rest is said beside it, once."""
    ran = syncd("matchers", "add", "web", "--list", HEAD)
    assert ran.code == 0
    assert TOKEN.fullmatch(ran.out)
    assert ran.err == ("note: web may pull iwf.images; this token is shown only once: keep it in a file of mode 0600\n")
    assert admitted(configured, ran.out.strip()) == "web"
    with configured.publisher() as publisher:
        entry = publisher.catalog.audit_entries()[0]
    assert (entry.actor, entry.act) == (getpass.getuser(), AddedMatcher("web", ("iwf.images",)))


def test_add_writes_the_token_to_a_file(configured: World, tmp_path: Path) -> None:
    """Of mode 0600, and prints nothing that is secret."""
    path = tmp_path / "web.token"
    ran = syncd("matchers", "add", "web", "--token-file", path)
    assert (ran.code, ran.out, ran.err) == (0, f"web may pull all lists; its token is in {path}\n", "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert TOKEN.fullmatch(path.read_text())
    assert admitted(configured, path.read_text().strip()) == "web"
    quiet = syncd("matchers", "add", "mail", "--token-file", tmp_path / "mail.token", "--json")
    assert quiet.json == {"matcher": {"name": "mail", "lists": None, "not_published": [], "mirror": False}}


def test_a_file_is_not_overwritten(configured: World, tmp_path: Path) -> None:
    """Nor is a link followed, or a folder made; nobody is added then."""
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("mine", "link", "no/folder"):
        assert syncd("matchers", "add", "web", "--token-file", tmp_path / name).code == 2
    assert (tmp_path / "mine").read_text() == "mine"
    assert syncd("matchers", "--json").json == {"matchers": [], "daemon": "not running"}


def test_a_token_that_cannot_be_written_is_told_as_lost(
    configured: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The matcher is added by then: what to do is said."""
    folder = tmp_path / "locked"
    folder.mkdir()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "link", refuse)
    ran = syncd("matchers", "add", "web", "--token-file", folder / "web.token")
    assert ran.code == 1
    assert "; web was added\n  to do: its token is lost: `syncd matchers revoke web`, then add it again" in ran.err
    assert list(folder.iterdir()) == []


def test_add_as_json(configured: World) -> None:
    """With the token; a list that there is not is remarked on."""
    ran = syncd("matchers", "add", "web", "--list", "iwf.image", "--list", HEAD, "--json")
    token = ran.json["matcher"].pop("token")
    assert TOKEN.fullmatch(token + "\n")
    assert ran.json["matcher"] | {"token": 0} == {
        "name": "web",
        "lists": ["iwf.image", "iwf.images"],
        "not_published": ["iwf.image"],
        "mirror": False,
        "token": 0,
    }
    assert ran.err == "warning: iwf.image is not published yet\n"


def test_a_name_in_force_is_not_given_twice(configured: World) -> None:
    """Its token goes on; a revoked name is given again, with another token."""
    first = syncd("matchers", "add", "web").out.strip()
    again = syncd("matchers", "add", "web")
    assert (again.code, again.out, again.err) == (
        2,
        "",
        "error: a matcher named web exists already\n"
        "  to do: `syncd matchers revoke web` first, or use another name; nothing was changed\n",
    )
    assert admitted(configured, first) == "web"
    assert syncd("matchers", "revoke", "web").out == "web may no longer pull\n"
    assert admitted(configured, first) is None
    second = syncd("matchers", "add", "web").out.strip()
    assert (admitted(configured, first), admitted(configured, second)) == (None, "web")


@pytest.mark.parametrize("order", ["add", "revoke"])
def test_a_token_given_as_a_name_is_not_repeated(configured: World, order: str) -> None:
    """Neither at the terminal nor, by way of the daemon, in its log."""
    ran = syncd("matchers", order, "syncd_Rk9MaV-secret")
    assert (ran.code, "Rk9MaV" in ran.err) == (2, False)


def test_an_unknown_matcher_is_not_revoked(configured: World) -> None:
    """A usage error."""
    ran = syncd("matchers", "revoke", "web", "--json")
    assert (ran.code, ran.json["error"]["message"]) == (2, "there is no matcher of that name")
    assert ran.json["error"]["to_do"] == "`syncd matchers` lists them"
    syncd("matchers", "add", "web")
    assert syncd("matchers", "revoke", "wed").err.endswith("  to do: did you mean web?\n")
    assert syncd("matchers", "revoke", "web", "--json").json == {"revoked": {"name": "web"}}


def test_nobody_may_pull_at_first(configured: World) -> None:
    """What to do is said."""
    ran = syncd("matchers")
    assert ran == Ran(0, f"no matcher is permitted to pull: `syncd matchers add NAME` permits one\n{ALONE}", "")


def test_the_table_names_laggards(configured: World) -> None:
    """80 columns; who is behind or silent is named below."""
    syncd("matchers", "add", "web", "--list", HEAD)
    syncd("matchers", "add", "mail")
    check_in(configured, ("web", "web-1", 1), ("web", "web-2", 1), ("web", "web-3", 1))
    configured.publish(add=[row(5)])
    configured.clock.forward(minutes=10)
    configured.sync()
    configured.clock.forward(minutes=6)
    check_in(configured, ("web", "web-1", 1), ("web", "web-2", 2))
    ran = syncd("matchers")
    assert ran.out == (
        "name  lists       created     instances  loaded          behind  last seen    \n"
        "mail  all         2026-01-01          0                       0  never        \n"
        "web   iwf.images  2026-01-01          3  iwf.images 1-2       2  0 seconds ago\n" + ALONE
    )
    assert ran.err == (
        "warning: web: web-1 has iwf.images 1 and should have 2\n"
        "warning: web: web-3 has not checked in for 16 minutes\n"
    )


def test_many_laggards_are_counted(configured: World) -> None:
    """Five are named."""
    syncd("matchers", "add", "web")
    check_in(configured, *(("web", f"web-{number}", 1) for number in range(9)))
    configured.clock.forward(minutes=16)
    lines = syncd("matchers").err.splitlines()
    assert lines[4:] == [
        "warning: web: web-4 has not checked in for 16 minutes",
        "warning: web: and 4 more; --json names all",
    ]


def test_the_same_as_json(configured: World) -> None:
    """Of each matcher every instance; no token, and no hash of one."""
    syncd("matchers", "add", "web", "--list", HEAD)
    configured.clock.forward(minutes=6)
    check_in(configured, ("web", "web-1", 1))
    configured.clock.forward(minutes=1)
    assert syncd("matchers", "--json").json == {
        "matchers": [
            {
                "name": "web",
                "mirror": False,
                "lists": ["iwf.images"],
                "created_at": "2026-01-01T12:00:00Z",
                "created_by": getpass.getuser(),
                "seen_at": "2026-01-01T12:06:00Z",
                "behind": 0,
                "silent": 0,
                "instances": [
                    {
                        "instance": "web-1",
                        "via": None,
                        "seen_at": "2026-01-01T12:06:00Z",
                        "silent": False,
                        "act": None,
                        "lists": [
                            {
                                "list": "iwf.images",
                                "version": 1,
                                "loaded_at": "2026-01-01T12:06:00Z",
                                "due": 1,
                                "behind": False,
                            }
                        ],
                    }
                ],
            }
        ],
        "daemon": "not running",
    }


def test_options_before_the_word_are_refused(configured: World, tmp_path: Path) -> None:
    """Or another state would be changed than was meant."""
    ran = syncd("matchers", "--config", tmp_path / "other.toml", "add", "web")
    assert (ran.code, ran.err.splitlines()[0]) == (
        2,
        "error: --config and --json come after the word `add`, `revoke` or `forget`",
    )
    assert syncd("matchers", "--json").json == {"matchers": [], "daemon": "not running"}


def test_a_state_in_use_is_not_changed(configured: World) -> None:
    """As where a sync is running; the list is shown all the same."""
    with lock(configured.state.root / "lock", "syncd sync"):
        added, revoked = syncd("matchers", "add", "web"), syncd("matchers", "revoke", "web")
        shown = syncd("matchers")
    assert (added.code, added.out, revoked.code, shown.code) == (6, "", 6, 0)


def test_another_users_state_is_not_changed(configured: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a daemon, only its owner may."""
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    for command in (("add", "web"), ("revoke", "web"), ()):
        assert syncd("matchers", *command).code == 6


def test_what_others_say_cannot_forge_lines(configured: World) -> None:
    """Names of instances come from matchers."""
    syncd("matchers", "add", "web")
    with configured.publisher() as publisher:
        publisher.catalog.replace_loaded((), [LoadedVersion("web", "x\n\x1b[2J", HEAD, 1, START, START)])
    configured.clock.forward(minutes=16)
    assert syncd("matchers").err == "warning: web: x\\x0a\\x1b[2J has not checked in for 16 minutes\n"


def test_instances_that_are_gone_are_forgotten(configured: World) -> None:
    """The silent ones, or those that are named; with nothing to forget it is an error that says where to look."""
    syncd("matchers", "add", "web")
    check_in(configured, ("web", "web-1", 1), ("web", "web-2", 1))
    configured.clock.forward(minutes=16)
    check_in(configured, ("web", "web-2", 1))
    assert syncd("matchers", "forget", "web") == Ran(0, "web-1 of web is forgotten\n", "")
    assert [one["instance"] for one in syncd("matchers", "--json").json["matchers"][0]["instances"]] == ["web-2"]
    ran = syncd("matchers", "forget", "web")
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error: web has no silent instance: nothing was forgotten")
    assert syncd("matchers", "forget", "web", "web-2", "--json").json == {
        "forgotten": {"name": "web", "instances": ["web-2"]}
    }
    assert syncd("matchers", "forget", "web").err.endswith("  to do: no instance of web has checked in\n")
    assert "forgot 1 instance of matcher web" in syncd("audit").out
