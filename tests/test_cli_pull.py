import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bad_peer import answer, serve
from command_line import Ran, syncd, use_clock
from signing import publish_change
from syncd.matcher.pull import PullResult
from syncd.matcher.watch import PullAttempt
from syncd.publish.change import ListChange
from world import IMAGES, World, row, rows

VIDEOS = "videos"


@pytest.fixture
def published(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A partner's feed with one list, by the world's clock."""
    use_clock(world.clock, monkeypatch)
    world.publish(full=rows(0, 3))
    return world


def pull(world: World, *more: object) -> Ran:
    return syncd("pull", world.partner.root.as_uri(), "--root", world.root, "--dir", world.copy, *more)


def break_newest_segment(world: World, name: str) -> None:
    newest = max(world.partner.root.glob(f"v1/{name}/segments/*"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(bytes(newest.stat().st_size))


def test_json_tells_each_list(published: World) -> None:
    """Versions before and after, and the bytes that were fetched."""
    document = pull(published, "--json").json
    assert document["changed"] is True
    assert document["bytes"] > 0
    assert document["lists"] == [
        {"list": "images", "before": None, "after": 1, "forked": False, "retired": None, "error": None}
    ]


def test_a_refused_token_is_explained_without_keys_of_a_configuration(published: World) -> None:
    """The command has no configuration whose keys could be meant."""
    with serve(published.partner.root) as peer:
        peer.fault("*timestamp.json", answer(401))
        ran = syncd("pull", peer.url, "--root", published.root, "--dir", published.copy)
    assert ran.code == 5
    assert "and check whether they have expired\n" in ran.err
    ran = syncd("pull", "https://me:secret@feed.example.org/", "--root", published.root, "--dir", published.copy)
    assert (ran.code, ran.err.splitlines()[1]) == (2, "  to do: put the secret in the token file instead")


def test_only_the_named_lists_are_held(published: World) -> None:
    """--list may be repeated."""
    published.publish(full=rows(5, 7), name=IMAGES.__class__(VIDEOS))
    assert pull(published, "--list", VIDEOS).out == "videos version 1, new here\n"
    assert pull(published, "--list", VIDEOS, "--list", "images").out == (
        "videos is up to date: version 1\nimages version 1, new here\n"
    )


def test_a_rejected_list_keeps_its_version_and_the_others_go_on(published: World) -> None:
    """Exit code 4; the good list is updated."""
    published.publish(full=rows(5, 7), name=IMAGES.__class__(VIDEOS))
    pull(published)
    published.publish(add=[row(8)])
    published.publish(add=[row(9)], name=IMAGES.__class__(VIDEOS))
    break_newest_segment(published, "images")
    ran = pull(published)
    assert (ran.code, ran.out) == (4, "videos version 2, was 1\n")
    assert "\n  still served: images version 1\n" in ran.err
    document = pull(published, "--json").json
    assert [(one["list"], one["after"], bool(one["error"])) for one in document["lists"]] == [
        ("images", 1, True),
        ("videos", 2, False),
    ]
    assert document["lists"][0]["error"]["exit_code"] == 4


def test_a_wrong_root_is_not_kept(published: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever names the wrong root at first pulls with the right one into the same folder, and then with no other."""
    other = World(tmp_path_factory.mktemp("other")).root
    wrong = pull(published, "--root", str(other))
    assert (wrong.code, "is not signed by enough of the keys" in wrong.err) == (4, True)
    assert pull(published).code == 0
    wrong = pull(published, "--root", str(other))
    assert (wrong.code, "was pulled with another root" in wrong.err) == (2, True)


def test_an_emptied_root_is_told_and_pulled_anew(published: World) -> None:
    """By the root that is given; not as if another one had been."""
    assert pull(published).code == 0
    kept = published.copy / "root.json"
    kept.write_bytes(b"")
    ran = pull(published)
    assert (ran.code, ran.err.splitlines()[0].partition(", so ")[0]) == (2, f"error: {kept} is empty")
    kept.unlink()
    assert pull(published).code == 0
    assert kept.read_bytes() == published.root.read_bytes()


def test_an_unknown_list_is_rejected_by_name(published: World) -> None:
    """The error names the list with the closest name, or the lists that the feed has."""
    ran = pull(published, "--list", "image")
    assert ran == Ran(
        4,
        "",
        "error: the feed has no list 'image'\n  still served: nothing of image yet\n  to do: did you mean images?\n",
    )
    assert "  to do: it has: images; check the spelling" in pull(published, "--list", "videos").err


def fork(published: World, tmp_path: Path) -> None:
    """Let the copy hold version 3, and the feed's signer go back to version 2 and on to version 8."""
    backup = tmp_path / "backup"
    published.publish(add=[row(4)])
    shutil.copytree(published.partner.root, backup)
    published.publish(add=[row(5)])
    pull(published)
    shutil.rmtree(published.partner.root)
    shutil.copytree(backup, published.partner.root)
    for number in (6, 7):
        published.publish(add=[row(number)])
    for _ in range(2):
        published.publish(add=[row(8)], remove=[row(7)])
        published.publish(add=[row(7)], remove=[row(8)])


def test_a_fork_is_an_alarm(published: World, tmp_path: Path) -> None:
    """The feed's signer went back to a backup: the list is taken, and a person must ask why."""
    fork(published, tmp_path)
    ran = pull(published)
    assert ran.code == 0
    assert ran.err.startswith("ALARM: images version 8 does not descend from version 3: its signer restored a backup\n")
    assert "\n  to do: ask the feed's operator whether this was intended; " in ran.err


def test_a_fork_is_an_alarm_in_every_form(published: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --watch --json too: the document says `forked`, and standard error says ALARM."""

    def once(pull_once: Callable[[], PullResult], *, on_event: Callable[[PullAttempt], None], **_: object) -> None:
        on_event(PullAttempt(pull_once(), None, 1.0))

    fork(published, tmp_path)
    monkeypatch.setattr("syncd.cli.pull.follow", once)
    ran = pull(published, "--watch", "--json")
    assert (ran.code, ran.json["lists"][0]["forked"], ran.json["next_in"]) == (0, True, 1.0)
    assert ran.err.startswith("ALARM: images version 8 does not descend from version 3: ")
    assert pull(published, "--watch", "--json") == Ran(0, "", "")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--deadline", "soon"), "not a duration"),
        (("--interval", "soon"), "not a duration"),
        (("--list", "Images"), "'Images' is not a list name"),
        (("--token-file", "absent"), "the token: cannot read absent: No such file or directory"),
        (("--root", "absent"), "the trust root: cannot read absent: No such file or directory"),
        (("--client-key", "k"), "a client key is given without a client certificate"),
    ],
)
def test_a_wrong_argument_is_a_usage_error(published: World, more: tuple[str, ...], message: str) -> None:
    """Before anything is fetched."""
    ran = pull(published, *more)
    assert (ran.code, ran.out, ran.err.splitlines()[0]) == (2, "", f"error: {message}")
    assert not published.copy.exists()


def test_a_copy_is_a_folder(published: World) -> None:
    """A file of that name stays as it is."""
    published.copy.write_text("a list")
    ran = pull(published)
    assert (ran.code, ran.err.splitlines()[0]) == (2, f"error: {published.copy} is not a directory")
    assert published.copy.read_text() == "a list"


def test_an_empty_token_file_is_told(published: World, tmp_path: Path) -> None:
    """Rather than sent."""
    (tmp_path / "token").write_text("\n")
    ran = pull(published, "--token-file", tmp_path / "token")
    assert (ran.code, ran.err.splitlines()[0]) == (2, f"error: {tmp_path}/token holds no token")


def test_a_feed_without_lists_is_no_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to hold yet."""
    use_clock(world.clock, monkeypatch)
    assert pull(world) == Ran(0, "", "warning: the feed has no list yet\n")


def test_what_is_expired_is_rejected_and_the_copy_stays(published: World) -> None:
    """Exit code 4, naming the role and what is still served."""
    pull(published)
    published.clock.forward(days=3)
    ran = pull(published)
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.startswith(
        "error: the feed's timestamp metadata expired on 2026-01-03 12:00 UTC\n  still served: images version 1\n"
    )


def test_a_retired_list_is_told_of(published: World) -> None:
    """What came of the list, and for seven days a warning at each pull, changed or not."""
    pull(published)
    retired = published.clock()
    publish_change(published, ListChange(IMAGES, (), {}, {}, (), retired=retired))
    warning = "warning: images was retired on 2026-01-01: look-ups skip it\n"
    line = "images version 2, retired on 2026-01-01\n"
    assert pull(published) == Ran(0, line, warning)
    published.clock.forward(days=1)
    assert pull(published) == Ran(0, line, warning)
    published.clock.forward(days=7)
    publish_change(published, ListChange(IMAGES, (), {}, {}, (), retired=retired))
    assert pull(published) == Ran(0, line.replace("2,", "3,"), "")
    assert pull(published, "--json").json["lists"][0]["retired"] == "2026-01-01T12:00:00Z"
