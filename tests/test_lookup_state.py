"""Look-ups in what the operator itself publishes, now and in older versions."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from command_line import Ran, operate, syncd
from syncd.cli.lookup import _MOST
from syncd.errors import UsageError
from syncd.feed.snapshot import Snapshot
from syncd.format.manifest import Manifest
from syncd.format.stack import Stack
from syncd.model import Algorithm, Digest, Hit, ListName
from syncd.operate.retire import retire
from syncd.report.lookup import find
from test_open_algorithms import NEW as TLSH2
from test_open_algorithms import segment_of
from world import HEAD, World, row, rows

ONE = f"sha256:{row(1)[1]}"
NEW = f"sha256:{row(7)[1]}"
UNKNOWN = f"sha256:{row(99)[1]}"
NO_MATCH = 10


@pytest.fixture
def published(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Three versions, an hour apart: rows 0 to 4; row 7 added; row 1 removed."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 5))
    world.sync()
    world.clock.forward(hours=1)
    world.publish(add=[row(7, "Z")])
    world.sync()
    world.clock.forward(hours=1)
    world.publish(remove=[row(1, "B")])
    world.sync()
    return world


def test_it_answers_from_what_is_published_now(published: World) -> None:
    """As from a copy: a line for each entry, with list and version, the digest as it was typed."""
    typed = f"SHA256:{row(7)[1].upper()}"
    assert syncd("lookup", typed, ONE) == Ran(
        0, f"{typed}  MATCH iwf.images version 3  label Z  entry e7\n{ONE}  no match\n", ""
    )
    assert syncd("lookup", UNKNOWN).code == NO_MATCH
    assert syncd("lookup", f"md5:{'0' * 32}") == Ran(
        2,
        f"md5:{'0' * 32}  not checked\n",
        "warning: md5 digests were not checked, because no published list holds any\n"
        "  to do: look up one of the algorithms held: sha256\n",
    )


def test_a_digest_from_standard_input_is_not_in_the_process_list(published: World) -> None:
    """Also a single one."""
    assert syncd("lookup", "-", stdin=f"{NEW}\n").out == f"{NEW}  MATCH iwf.images version 3  label Z  entry e7\n"
    ran = syncd("lookup", "-", stdin="\n")
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error: no digest was given: standard input is empty")


def test_it_answers_from_a_version(published: World) -> None:
    """That is still kept."""
    assert syncd("lookup", ONE, "--version", "1").out == f"{ONE}  MATCH iwf.images version 1  label B  entry e1\n"
    assert syncd("lookup", NEW, "--version", "1").code == NO_MATCH
    assert syncd("lookup", NEW, ONE, "--version", "2").out.count("MATCH iwf.images version 2") == 2
    document = syncd("lookup", ONE, "--version", "2", "--json").json
    assert [(one["list"], one["version"], one["rows"], one["verified_at"]) for one in document["lists"]] == [
        ("iwf.images", 2, 6, None)
    ]


def test_it_answers_for_a_time(published: World) -> None:
    """From the versions that were published then; a duration is that long ago."""
    now = published.clock()

    def versions(at: str) -> list[int]:
        return [one["version"] for one in syncd("lookup", ONE, "--at", at, "--json").json["lists"]]

    assert versions(now.isoformat()) == [3]
    assert versions((now - timedelta(seconds=1)).isoformat()) == [2]
    assert versions("90m") == [1]
    assert versions("2h") == [1]
    assert syncd("lookup", ONE, "--at", "90m").code == 0
    assert syncd("lookup", ONE, "--at", "0m").code == 2


def test_every_version_answers_for_exactly_its_rows(published: World) -> None:
    """Each digest that ever was on the list, against a list kept by hand."""
    expected = {1: {0, 1, 2, 3, 4}, 2: {0, 1, 2, 3, 4, 7}, 3: {0, 2, 3, 4, 7}}
    for version, numbers in expected.items():
        asked = [f"sha256:{row(number)[1]}" for number in range(9)]
        digests = syncd("lookup", *asked, "--version", version, "--json").json["digests"]
        assert {number for number, one in enumerate(digests) if one["matched"]} == numbers


def test_before_its_first_version_a_list_was_not_published(published: World) -> None:
    """Nothing was checked, which is not the same as no match."""
    assert syncd("lookup", ONE, "--at", "3h") == Ran(
        2,
        f"{ONE}  not checked\n",
        "warning: sha256 digests were not checked, because no list that was published then holds any\n"
        "  to do: `syncd status` shows the published lists\n",
    )


def test_a_version_that_is_not_kept_names_those_that_are(published: World) -> None:
    """By number and by time; and what is not known is not answered."""
    with published.publisher() as publisher:
        publisher.catalog.prune_versions(HEAD, 2)
    ran = syncd("lookup", ONE, "--version", "1")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "error: iwf.images has no version 1\n  to do: versions of iwf.images that can be asked: 2 to 3\n"
    )
    ran = syncd("lookup", ONE, "--at", "90m")
    assert (ran.code, ran.out) == (2, "")
    assert "error: nothing is kept of iwf.images before version 2 (2026-01-01 13:00 UTC)" in ran.err
    assert "that can be asked: 2 to 3" in ran.err


def test_a_version_whose_files_are_gone_names_those_that_are_here(published: World) -> None:
    """The catalog keeps manifests longer than the feed keeps segments."""
    with published.publisher() as publisher:
        version = publisher.catalog.version(HEAD, 2)
        first = publisher.catalog.version(HEAD, 1)
    assert version
    assert first
    for path in published.state.feed.path(f"v1/{HEAD}").rglob("*.arrow"):
        if (
            path.name.split(".")[0] in version.manifest.decode()
            and path.name.split(".")[0] not in first.manifest.decode()
        ):
            path.unlink()
    ran = syncd("lookup", ONE, "--version", "2")
    assert (ran.code, ran.out) == (2, "")
    assert "of 2 files of iwf.images version 2 are no longer kept" in ran.err
    assert ran.err.endswith("that can be asked: 1\n")
    assert syncd("lookup", ONE, "--version", "1").code == 0


def test_a_retired_list_is_skipped_unless_it_is_named(published: World) -> None:
    """Its older versions can still be asked."""
    with published.publisher() as publisher:
        retire(publisher, HEAD, (), actor="alice", reason="moved", now=published.clock())
    assert syncd("lookup", NEW).code == 2
    ran = syncd("lookup", NEW, "--list", "iwf.images")
    assert (ran.code, ran.err.splitlines()[0]) == (
        2,
        "error: the list iwf.images was retired on 2026-01-01: it is now empty",
    )
    assert syncd("lookup", NEW, "--version", "3").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ONE, "--list", "iwf.image"), "there is no list iwf.image"),
        ((ONE, "--list", "IWF"), "'IWF' is not a list name"),
        ((ONE, "--version", "9"), "iwf.images has no version 9"),
        ((ONE, "--at", "soon"), "--at is neither a time nor a duration"),
        ((ONE, "--at", "2027-01-01"), "the time to answer for lies in the future"),
        ((ONE, "--root", "root.json"), "--root is for a pulled copy"),
        (("0" * 64,), "digest 1: a digest must have the form ALG:HEX"),
        (("/",), "no digest was given"),
        ((f"tlsh:{'00' * 3}", "sha256:00"), "digest 2: not a sha256 digest: 2 characters after the colon"),
    ],
)
def test_a_wrong_question_is_named(published: World, arguments: tuple[str, ...], message: str) -> None:
    """Exit code 2; digests by their place, never by their value."""
    ran = syncd("lookup", *arguments)
    assert (ran.code, ran.out, ran.err.splitlines()[0]) == (2, "", f"error: {message}")
    assert row(1)[1] not in ran.err


def test_a_version_needs_one_list(published: World) -> None:
    """Each list counts its own."""
    published.publish(full=[("md5", "1" * 32, "m", "A")], name=ListName("videos"))
    published.sync()
    ran = syncd("lookup", ONE, "--version", "1")
    assert (ran.code, ran.err) == (
        2,
        "error: --version needs one list: each list counts its own versions\n"
        "  to do: --list, one of iwf.images, iwf.videos\n",
    )
    assert syncd("lookup", ONE, "--version", "1", "--list", "iwf.images").code == 0
    assert syncd("lookup", f"md5:{'1' * 32}", ONE, "--list", "iwf.videos").code == 0


def test_a_digest_of_another_width_is_named_by_its_place(tmp_path: Path) -> None:
    """Only the segments say how wide the digests of an unknown algorithm are."""
    stack = Stack(TLSH2, [segment_of(tmp_path, 0, {(b"\x00\xff" * 4, "t"): "A"})])
    manifest = cast(Manifest, SimpleNamespace(list=HEAD, version=3))
    snapshots = [Snapshot(manifest, "0" * 64, {TLSH2: stack})]
    good, short, other = (Digest(TLSH2, b"\x00\xff" * 4), Digest(TLSH2, b"\0"), Digest(Algorithm.MD5, bytes(16)))
    assert find(snapshots, [good, other]) == [(Hit(HEAD, 3, "t", "A"),), None]
    with pytest.raises(UsageError, match="digest 2: a tlsh2 digest has 8 bytes, not 1"):
        find(snapshots, [good, short])


def test_a_copy_has_no_older_versions(published: World) -> None:
    """The message says where to ask."""
    published.follow()
    assert syncd("lookup", published.mirror, ONE, "--version", "1").code == 2
    assert syncd("lookup", published.mirror, ONE, "--at", "1h") == Ran(
        2,
        "",
        "error: a pulled copy has one version of each list\n  to do: leave DIR out to ask the operator's state\n",
    )
    assert syncd("lookup", published.mirror, f"sha256:{row(0)[1]}", "--list", "images").code == 0


def test_a_long_look_up_belongs_on_a_copy(published: World) -> None:
    """The state answers an operator's questions, it does not scan uploads."""
    ran = syncd("lookup", "-", stdin=f"{UNKNOWN}\n" * (_MOST + 1))
    assert (ran.code, ran.err.splitlines()[0]) == (
        2,
        "error: 1,001 digests: at most 1,000 at a time can be looked up in the state",
    )


def test_an_old_verification_is_said(published: World) -> None:
    """The answer stands, but somebody must look."""
    published.clock.forward(days=3)
    ran = syncd("lookup", NEW)
    assert (ran.code, ran.err) == (0, "warning: iwf.images is stale: it was last verified 3 days ago\n")


def test_without_a_state_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how to make one."""
    monkeypatch.setenv("SYNCD_CONFIG", str(tmp_path / "c.toml"))
    (tmp_path / "c.toml").write_text(f'state_dir = "{tmp_path}/none"\n')
    ran = syncd("lookup", ONE)
    assert (ran.code, ran.err.splitlines()[0]) == (2, f"error: {tmp_path}/none is not set up")
