"""``syncd rollback`` and ``unpin``, by hand and through the daemon's orders."""

from typing import Any

import pytest

from command_line import operate, syncd
from syncd.catalog.records import Pin
from syncd.model import ListName
from world import World, row, rows


@pytest.fixture
def moved(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Version 1 has 0 to 29, version 2 is without 0 and 1, and has 40."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 30))
    world.sync()
    world.clock.forward(minutes=5)
    world.publish(add=[row(40)], remove=rows(0, 2))
    world.sync()
    return world


def pin(world: World) -> Pin | None:
    """Where the list is pinned."""
    with world.publisher() as publisher:
        origin = publisher.catalog.origin("iwf", ListName("images"))
        return origin.pin if origin else None


def test_a_rollback_says_what_it_published_and_how_to_end_it(moved: World) -> None:
    """And the end of it, what came back."""
    ran = syncd("rollback", "iwf.images", 1, "--reason", "wrong list")
    assert (ran.code, ran.out) == (
        0,
        "iwf.images version 3 published: 1 row removed\n"
        "2 rows of that version left out, which the partner removed since\n",
    )
    assert "until `syncd unpin iwf.images --reason R`" in ran.err
    held = pin(moved)
    assert held is not None
    assert (held.version, held.exact, held.reason) == (1, False, "wrong list")
    ran = syncd("unpin", "iwf.images", "--reason", "corrected")
    assert (ran.code, ran.out) == (0, "iwf.images version 4 published: 1 row added\n")
    assert pin(moved) is None


def test_an_exact_rollback_asks_for_a_code(moved: World) -> None:
    """Exit code 3 and a code; with it, it is done; with another it is asked again."""
    asked = syncd("rollback", "iwf.images", 1, "--reason", "r", "--exact")
    assert asked.code == 3
    assert pin(moved) is None
    code = asked.err.partition("--accept ")[2].partition(";")[0]
    assert syncd("rollback", "iwf.images", 1, "--reason", "r", "--exact", "--accept", "0000").code == 3
    done: dict[str, Any] = syncd(
        "rollback", "iwf.images", 1, "--reason", "r", "--exact", "--accept", code, "--json"
    ).json
    assert done == {
        "list": "iwf.images",
        "pinned": 1,
        "version": 3,
        "added": 2,
        "removed": 1,
        "relabelled": 0,
        "removed_since": 0,
        "suppressed": 0,
        "left_out": [],
        "held": [],
        "clock": None,
    }


def test_a_rollback_that_changes_no_row_says_why(moved: World) -> None:
    """All that the older version has more was removed by the partner since, or is suppressed."""
    moved.publish(remove=[row(3)])
    moved.sync()
    assert syncd("suppress", f"sha256:{row(4)[1]}", "--reason", "wrong").code == 0
    ran = syncd("rollback", "iwf.images", 2, "--reason", "r")
    assert (ran.code, ran.out) == (
        0,
        "iwf.images version 5 published: the same rows\n"
        "1 row of that version left out, which the partner removed since\n"
        "1 row of that version left out, suppressed or known to be good\n",
    )
    syncd("unpin", "iwf.images", "--reason", "r")
    done = syncd("rollback", "iwf.images", 2, "--reason", "r", "--json").json
    assert (done["added"], done["removed"], done["removed_since"], done["suppressed"]) == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("rollback", "iwf.image", 1, "--reason", "r"), 2, "there is no list iwf.image"),
        (("rollback", "iwf.images", 9, "--reason", "r"), 2, "version 9 of iwf.images is not kept"),
        (("rollback", "iwf.images", 1, "--reason", " "), 2, "a reason is needed"),
        (("unpin", "iwf.images", "--reason", "r"), 6, "iwf.images is not pinned"),
    ],
)
def test_what_cannot_be_done_is_said(moved: World, arguments: tuple[Any, ...], code: int, words: str) -> None:
    """And nothing changes."""
    ran = syncd(*arguments)
    assert (ran.code, words in ran.err) == (code, True)
    assert pin(moved) is None
