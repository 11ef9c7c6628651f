"""Files and folders that are named to a command by mistake: a dash, a partner's feed, a feed without its segments."""

from pathlib import Path

import pytest

from command_line import syncd
from test_cli_docs import COMMANDS
from world import World, rows

WRITING = {
    "syncd backup": ["FILE"],
    "syncd diff": ["a", "1", "2", "--out", "FILE"],
    "syncd feed diff": ["feed", "a", "1", "2", "--out", "FILE"],
    "syncd feed publish": ["feed", "--list", "a", "--full", "x.csv", "--skip-bad", "FILE"],
    "syncd holds": ["1", "--out", "FILE"],
    "syncd known-good": ["iwf.images", "--out", "FILE"],
    "syncd matchers add": ["web", "--token-file", "FILE"],
}
"""The arguments of each command that writes a file of the caller's choice."""


def test_every_command_that_writes_a_file_is_known() -> None:
    """By what its help says of the file."""
    words = ("new file", "tar file to write", "write them with reasons", "copy of the catalog")
    writes = {
        name
        for name, command in COMMANDS.items()
        for one in command.params
        if any(word in (getattr(one, "help", None) or "") for word in words)
    }
    assert writes == WRITING.keys()


@pytest.mark.parametrize("name", WRITING)
def test_a_dash_is_not_the_name_of_a_new_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere it stands for a standard stream: nothing is written to a file of that name."""
    monkeypatch.chdir(tmp_path)
    arguments = [word if word != "FILE" else "-" for word in WRITING[name]]
    ran = syncd(*name.split()[1:], *arguments)
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error: the name of a file is needed, not -")
    assert list(tmp_path.iterdir()) == []


def test_a_feed_that_lost_its_segments_is_not_called_new(world: World) -> None:
    """The list is named, with what brings its files back; `--json` has no version of it."""
    feed = str(world.partner.root)
    assert syncd("feed", "snapshots", feed).out.startswith("no version yet: syncd feed publish")
    world.publish(full=rows(0, 9))
    assert syncd("feed", "snapshots", feed).err == ""
    world.publish(add=rows(20, 22))
    for path in world.partner.path("v1/images/segments").iterdir():
        path.unlink()
    ran = syncd("feed", "snapshots", feed)
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith(
        "warning: files of images version 2, the newest, are missing\n  to do: bring the file back"
    )
    assert "no version yet" not in ran.err
    assert syncd("feed", "snapshots", feed, "--json").json["lists"] == [{"list": "images", "snapshots": []}]


@pytest.mark.parametrize(
    "arguments",
    [
        ["renew", "FEED", "--offline-keys", "KEYS"],
        ["rotate", "FEED", "timestamp", "--offline-keys", "KEYS"],
    ],
)
def test_a_partners_feed_is_not_taken_for_an_operators_state(world: World, arguments: list[str]) -> None:
    """`syncd init` would be the wrong advice: the feed is set up, and needs no --state."""
    places = {"FEED": str(world.partner.root), "KEYS": str(world.partner_offline)}
    given = [places.get(word, word) for word in arguments]
    ran = syncd("feed", *given, "--state", "--reason", "it expires")
    assert (ran.code, ran.err.splitlines()) == (
        2,
        [
            f"error: {world.partner.root} is a feed, not an operator's state folder",
            "  to do: run the same command without --state and --reason; nothing was changed",
        ],
    )
