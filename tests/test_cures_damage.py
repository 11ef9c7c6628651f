"""Cures of damaged or lost files, carried out word for word."""

import json
import re
import shutil
from pathlib import Path

import pytest

from command_line import Ran, settings, syncd
from runbook import Cure, rows_of, what_to_do
from syncd.history.files import HistoryFolder
from syncd.history.keep import keep
from syncd.service.file_proof import FileProof
from two_versions import running
from world import HEAD, World, row

__all__ = ["running"]  # a fixture


def lost(what: str) -> str:
    """The cure in a row of the table of losses."""
    return rows_of("When things were lost or reset")[what]


def named(folder: Path, *arguments: object) -> list[Path]:
    """The files that `syncd verify` names as faults."""
    ran = syncd("verify", *arguments, "--json")
    assert ran.code == 4
    return [folder / fault["file"] for fault in ran.json["faults"]]


def spoil(path: Path) -> None:
    """Flip a bit in the middle, under every name of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as stream:
        stream.write(content)


def pull(world: World, *more: object) -> Ran:
    """The matcher's host pulls, by command."""
    return syncd("pull", world.state.feed.root.as_uri(), "--root", world.operator_root, "--dir", world.copy, *more)


def test_a_pulled_copy_is_damaged(running: World) -> None:
    """The files that `verify` names are removed; the next pull fetches them and no other."""
    Cure(lost("a pulled copy is damaged"))
    spoil(next(running.copy.rglob("*.arrow")))
    (damaged,) = named(running.copy, running.copy)
    others = {path: path.stat().st_mtime_ns for path in running.copy.rglob("*.arrow") if path != damaged}
    damaged.unlink()
    assert pull(running).code == 0
    assert syncd("verify", running.copy).code == 0
    assert {path: path.stat().st_mtime_ns for path in others} == others


def test_current_json_of_a_copy_is_damaged(running: World) -> None:
    """It is removed, and the copy is whole after a pull."""
    assert "Remove this file and pull again" in lost("`current.json` of a copy is damaged")
    current = running.copy / "current.json"
    current.write_text("{")
    refused = pull(running)
    assert (refused.code in {1, 4}, "remove" in refused.err) == (True, True), refused
    current.unlink()
    assert pull(running).code == 0
    assert running.hits(1)


@pytest.fixture
def history(running: World) -> Path:
    """The history file of a month that is over, damaged and found by the daily proof; `FILE`: a backup from before."""
    file_proof(running)
    running.clock.forward(days=31)
    with running.publisher() as publisher:
        keep(publisher.folder, publisher.catalog, running.clock())
    assert syncd("backup", running.base / "FILE").code == 0
    (month,) = HistoryFolder(running.state.history).all_months(HEAD)
    spoil(month.path)
    file_proof(running)
    assert f"the history file {month.path} is damaged, which holds the sha256 changes" in syncd("status").err
    return month.path


def file_proof(world: World) -> None:
    """The daemon looks whether a proof of the files is due, and makes it."""
    with world.publisher() as publisher:
        FileProof(publisher.folder, publisher.catalog, world.clock, lambda _: None, lambda _: None)._look()


def cure_history(world: World, path: Path) -> Cure:
    places = {"LIST/NAME": f"{path.parent.name}/{path.name}", "/var/lib/syncd": world.state.root}
    return Cure(what_to_do("SyncdHistoryDamaged"), {**places, "FILE": world.base / "FILE", "DIR": world.base / "DIR"})


def test_a_file_of_the_history_is_restored_from_a_backup(running: World, history: Path) -> None:
    """Unpacked beside the state, and moved into its place."""
    cure = cure_history(running, history)
    (running.base / "DIR").mkdir()
    assert cure.run("tar -x -p -f FILE -C DIR").code == 0
    assert cure.run("mv DIR/history/LIST/NAME /var/lib/syncd/history/LIST/NAME").code == 0
    assert "history" not in syncd("status").err
    assert not [one for one in syncd("verify", "--json").json["faults"] if "history" in one["file"]]


def test_a_file_of_the_history_that_no_backup_has_is_removed(running: World, history: Path) -> None:
    """Then `explain` and `verify` say what is missing, and nothing else complains."""
    cure = cure_history(running, history)
    assert cure.run("rm /var/lib/syncd/history/LIST/NAME").code == 0
    assert "history" not in syncd("status").err
    verified = syncd("verify")
    assert (verified.code, "2 sha256 rows of 2026-01 were lost from the history" in verified.err) == (4, True)
    assert "2 sha256 rows of 2026-01 were lost" in syncd("explain", f"sha256:{row(5)[1]}").err
    assert running.hits(1)


def test_a_segment_is_damaged_everywhere(running: World) -> None:
    """Every file that `verify` names is removed, under both of its names; the next sync brings them back."""
    what = "a segment is damaged or gone"
    assert "Remove every file that it names" in lost(what)
    (segment, *_) = sorted(running.state.feed.path("v1/iwf.images/segments").iterdir())
    spoil(segment)
    damaged = named(running.state.root)
    assert {path.relative_to(running.state.root).parts[0] for path in damaged} >= {"feed", "sources"}
    for path in damaged:
        path.unlink(missing_ok=True)
    assert syncd("sync").code == 0
    verified = syncd("verify")
    assert verified.code == 0, verified
    assert not running.pull().errors
    assert running.hits(1)


def test_a_segment_that_a_sync_finds_damaged_is_fetched_by_it(running: World) -> None:
    """Nobody has to remove a file then; the sync says which one it was."""
    assert "repairs it by itself" in lost("a segment is damaged or gone")
    (segment, *_) = sorted(running.state.feed.path("v1/iwf.images/segments").iterdir())
    spoil(segment)
    running.publish(add=[row(40)])
    synced = syncd("sync")
    assert (synced.code, f"iwf.images was damaged on this disk: {segment.name}" in synced.err) == (0, True), synced
    assert syncd("verify").code == 0
    assert not running.pull().errors
    assert (bool(running.hits(40)), bool(running.hits(1))) == (True, True)


@pytest.mark.parametrize("file", ["root.json", "root", "targets", "lists", "snapshot", "timestamp"])
def test_another_file_of_the_feed_is_damaged(running: World, file: str) -> None:
    """Restored from a mirror: a pulled copy has each of them. Nothing is published meanwhile."""
    assert "from a backup or a mirror" in lost("another file of the feed is damaged")
    metadata = running.copy / "metadata"
    numbered = max(metadata.glob(f"*.{file}.json"), key=lambda path: int(path.name.split(".")[0]), default=None)
    source = running.copy / "root.json" if file == "root.json" else numbered
    assert source is not None
    at = {"root.json": "root.json", "timestamp": "metadata/timestamp.json"}.get(file, f"metadata/{source.name}")
    path = running.state.feed.path(at)
    spoil(path)
    verified = syncd("verify")
    assert verified.code == 4
    assert re.search(rf"error: feed/.*{re.escape(path.name)}", verified.err), verified.err
    running.clock.forward(minutes=10)
    running.publish(add=[row(40)])
    syncd("sync")
    shutil.copy(source, path)
    assert syncd("verify").code == 0
    assert syncd("sync").code == 0
    assert not running.pull().errors
    assert running.hits(40)


def test_the_manifest_in_force_is_damaged(running: World) -> None:
    """The next sync writes it again by itself."""
    assert lost("the manifest in force of a list is damaged or gone").startswith("Nothing")
    current = json.loads((running.copy / "current.json").read_text())["lists"]["iwf.images"]
    manifests = running.state.feed.path("v1/iwf.images").glob("*.manifest.json")
    (path,) = (one for one in manifests if json.loads(one.read_text())["version"] == current["version"])
    spoil(path)
    assert path in named(running.state.root)
    assert syncd("sync").code == 0
    assert syncd("verify").code == 0


def test_nothing_of_a_source_was_ever_published(running: World) -> None:
    """The message of a dry run names the wrong list; once it is right, the list is published."""
    cure = Cure(what_to_do("SyncdNothingPublished"))
    assert cure.named == set()
    config = running.base / "syncd.toml"
    other = settings(running).replace("[sources.iwf]", "[sources.new]")
    config.write_text(settings(running) + other[other.index("[sources.new]") :] + 'lists = ["image"]\n')
    ran = syncd("sync", "new", "--dry-run")
    assert (ran.code, "did you mean images?" in ran.err) == (4, True)
    config.write_text(config.read_text().replace('["image"]', '["images"]'))
    assert syncd("sync", "new").code == 0
    assert "new.images" in syncd("status").out


def test_a_pinned_version_lost_its_files(running: World) -> None:
    """As the error says: a matcher's copy has them; unpinning needs them too."""
    assert syncd("rollback", "iwf.images", 1, "--reason", "wrong").code == 0
    assert pull(running).code == 0
    for path in running.state.root.rglob("*.arrow"):
        path.unlink()
    running.clock.forward(minutes=10)
    running.publish(add=[row(40)])
    refused = syncd("sync")
    assert refused.code == 6, refused
    assert "whose files were lost on this disk" in refused.err
    assert "bring its segments back from a matcher's copy, a mirror or a backup" in refused.err
    shutil.copytree(running.copy / "v1", running.state.feed.path("v1"), dirs_exist_ok=True)
    synced = syncd("sync")
    assert synced.code == 0, synced
    unpinned = syncd("unpin", "iwf.images", "--reason", "corrected")
    assert unpinned.code == 0, unpinned
    assert not running.pull().errors
    assert running.hits(40)
    verified = syncd("verify")
    assert verified.code == 0, verified


def test_a_suppression_expires_soon(running: World) -> None:
    """It is extended, or ended, by its number."""
    digest = f"sha256:{row(1)[1]}"
    assert syncd("suppress", digest, "--reason", "case 1", "--expires", "48h").code == 0
    assert syncd("status").err != ""
    cure = Cure(what_to_do("SyncdSuppressionExpires"), {"ID": 1, "R": "still-wrong"})
    extended = cure.run("syncd suppress --extend ID --reason R")
    assert extended.code == 0, extended
    assert "expires" not in syncd("status").err
    assert not running.pull().errors
    assert not running.hits(1)
    assert cure.run("syncd unsuppress ID --reason R").code == 0
    cure.end()
    assert not running.pull().errors
    assert running.hits(1)
