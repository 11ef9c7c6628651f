"""A partner's feed with a damaged, lost or foreign file: a plain message, nothing signed, and a cure that works."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import Ran, operate, syncd
from syncd.feed.signed import load_repository
from world import IMAGES, World, row, rows

BRING_BACK = (
    "  to do: bring the file back from a mirror, a follower's copy or a backup, then run `syncd verify FEED`: "
    'see "Files are damaged or lost" in docs/partner.md'
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A partner with two versions, and a follower that has a copy of both."""
    made = World(tmp_path / "world")
    operate(made, monkeypatch)
    made.publish(full=rows(0, 30))
    made.follow()
    made.publish(add=[row(40)])
    made.follow()
    return made


def metadata(role: str) -> Callable[[World], str]:
    """Find a file of metadata in force."""
    return lambda world: f"metadata/{load_repository(world.partner).versions[role]}.{role}.json"


def manifest(world: World) -> str:
    """Find the manifest in force."""
    return f"v1/images/{load_repository(world.partner).targets()['v1/images/manifest.json'].sha256}.manifest.json"


def segment(kind: str) -> Callable[[World], str]:
    """Find a segment of the stack."""

    def find(world: World) -> str:
        sha256 = load_repository(world.partner).targets()["v1/images/manifest.json"].sha256
        (ref,) = (ref for ref in world.partner.manifest(IMAGES, sha256).stack if ref.kind == kind)
        return f"v1/images/segments/{ref.sha256}.arrow"

    return find


def lose(path: Path) -> None:
    """Remove it."""
    path.unlink()


def tear(path: Path) -> None:
    """Keep the first half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace(path: Path) -> None:
    """Put another program's file there."""
    path.write_bytes(b'{"a": 1}\n')


FILES: dict[str, Callable[[World], str]] = {
    "root": metadata("root"),
    "targets": metadata("targets"),
    "lists": metadata("lists"),
    "snapshot": metadata("snapshot"),
    "timestamp": lambda _: "metadata/timestamp.json",
    "manifest": manifest,
    "base": segment("base"),
    "delta": segment("delta"),
}


def publish(world: World, number: int, *more: object) -> Ran:
    """Publish one row through the command line."""
    path = world.base / "more.csv"
    path.write_text("algorithm,digest,entry,label\n" + ",".join(row(number)) + "\n")
    return syncd("feed", "publish", world.partner.root, "--list", "images", "--add", path, *more)


@pytest.mark.parametrize("harm", [lose, tear, replace])
@pytest.mark.parametrize("file", FILES)
def test_a_file_is_brought_back_from_a_followers_copy(world: World, file: str, harm: Callable[[Path], None]) -> None:
    """Publishing names the fault and where the file may still be, signs nothing, and goes on once it is back."""
    relative = FILES[file](world)
    path = world.partner.path(relative)
    harm(path)
    before = {known: known.stat().st_mtime_ns for known in world.partner.root.glob("*/**/*.json")}
    ran = publish(world, 41)
    assert (ran.code, ran.err.splitlines()[-1]) == (1, BRING_BACK)
    assert {known: known.stat().st_mtime_ns for known in world.partner.root.glob("*/**/*.json")} == before
    assert syncd("verify", world.partner.root).code == 4
    copied = relative if file != "timestamp" else "metadata/3.timestamp.json"
    shutil.copy(world.mirror / copied, path)
    assert syncd("verify", world.partner.root).code == 0
    assert publish(world, 41).code == 0
    assert world.follow().errors == []


def test_a_list_whose_base_nobody_has_is_retired_and_published_whole(world: World) -> None:
    """The version after has all rows again, and followers load it."""
    world.partner.path(segment("base")(world)).unlink()
    assert publish(world, 41).code == 1
    assert syncd("feed", "retire", world.partner.root, "--list", "images", "--reason", "disk").code == 0
    world.publish(full=rows(0, 30))
    assert syncd("verify", world.partner.root).code == 0
    pulled = world.follow()
    assert (pulled.errors, pulled.lists[0].after) == ([], 4)


@pytest.mark.parametrize("content", [b"", b'{"a": 1}', b"[[1, 2"])
def test_a_damaged_journal_names_itself(world: World, content: bytes) -> None:
    """Once it is removed, publishing goes on."""
    journal = world.partner.work / "journal.json"
    journal.write_bytes(content)
    ran = publish(world, 41)
    assert (ran.code, ran.err) == (
        1,
        f"error: the journal {journal} is damaged: a publication was interrupted\n"
        f"  to do: remove this file, run `syncd verify {world.partner.root}`, then publish again\n",
    )
    journal.unlink()
    assert publish(world, 41).code == 0
    assert world.follow().errors == []


def test_a_newest_version_without_its_files_is_called_damaged(world: World) -> None:
    """Not one that was never published, as `feed diff` said."""
    world.partner.path(segment("delta")(world)).unlink()
    ran = syncd("feed", "diff", world.partner.root, "images", "1", "2")
    assert (ran.code, ran.err) == (1, f"error: files of images version 2 are missing\n{BRING_BACK}\n")


def test_verify_reports_a_root_that_cannot_be_read(world: World) -> None:
    """As a fault with what to do, also if it is a folder."""
    (world.partner.root / "root.json").unlink()
    (world.partner.root / "root.json").mkdir()
    ran = syncd("verify", world.partner.root)
    assert (ran.code, ran.err.splitlines()[-2]) == (
        1,
        f"error: cannot read {world.partner.root}/root.json: Is a directory",
    )
