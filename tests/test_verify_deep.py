"""`syncd verify --deep`: the kept history of every list, from its oldest version."""

import json
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from command_line import operate, syncd
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.format import manifest as manifests
from syncd.format.canonical import canonical
from syncd.format.manifest import Manifest
from syncd.model import ListName
from syncd.publish import installing
from syncd.publish.change import head_move, sign
from syncd.trust.values import Freshness
from syncd.verify.copy import prove_copy
from syncd.verify.feed import prove_feed
from syncd.verify.state import prove_state
from syncd.verify.tally import Fault, Proof
from world import HEAD, IMAGES, World, row, rows

VERSIONS = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A list whose stacks were folded, at partner, operator and two copies; for tests that leave it as it was."""
    world = World(tmp_path_factory.mktemp("deep"))
    world.publish(full=rows(0, 30))
    for number in range(VERSIONS - 1):
        assert world.sync().exit_code == 0
        if number % 3 == 0:
            assert not world.pull().errors
        world.publish(add=[row(100 + number), row(number, "Z")], remove=[row(20 + number)])
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    assert not world.follow().errors
    return world


@pytest.fixture
def own(made: World, tmp_path: Path) -> World:
    """A world to spoil."""
    shutil.copytree(made.base, tmp_path / "own")
    return World(tmp_path / "own")


def partner_of(world: World) -> Proof:
    return prove_feed(world.partner.root, None, world.clock(), deep=True)


def state_of(world: World) -> Proof:
    return prove_state(world.state, None, world.clock(), deep=True)


def chain(folder: FeedFolder, name: ListName) -> list[tuple[str, Manifest]]:
    """The versions of a list, newest first: path of the manifest, and its content."""
    sha256 = load_repository(folder).targets()[layout.target_name(name)].sha256
    found = []
    while sha256 and folder.path(layout.manifest_path(name, sha256)).exists():
        manifest = folder.manifest(name, sha256)
        found.append((layout.manifest_path(name, sha256), manifest))
        sha256 = manifest.previous.sha256 if manifest.previous else ""
    return found


def named(fault: Fault) -> tuple[str, int, str]:
    return fault.list, fault.version, fault.file


def test_a_sound_history_has_no_finding(made: World) -> None:
    """At the partner, at the operator and in copies; every kept version is replayed."""
    for proof in (partner_of(made), state_of(made)):
        assert [fault.error.message for fault in proof.faults] == []
        (one,) = proof.lists
        assert one.kept == len(chain(made.partner if one.list == IMAGES else made.state.feed, ListName(one.list)))
        assert one.recomputed == one.kept
        assert one.replayed >= VERSIONS - 1
    for copy in (made.copy, made.mirror):
        proof = prove_copy(copy, None, made.clock(), deep=True)
        assert [fault.error.message for fault in proof.faults] == []
    assert prove_copy(made.copy, None, made.clock(), deep=True).lists[0].kept > 1


def test_progress_rises_and_ends_at_the_whole(made: World) -> None:
    """What is read again counts too."""
    told: list[tuple[int, int]] = []
    prove_state(made.state, None, made.clock(), lambda done, total: told.append((done, total)), deep=True)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]


@pytest.mark.parametrize("prove", [partner_of, state_of])
def test_an_altered_row_in_an_old_delta_is_found(own: World, prove: Any) -> None:
    """With its list, the version that it led to, its file, and what to do."""
    folder, name, prefix = (own.partner, IMAGES, "") if prove is partner_of else (own.state.feed, HEAD, "feed/")
    _, old = next((path, one) for path, one in chain(folder, name) if one.version == 3)
    path = folder.segment_path(name, old.recent[-1].segments[0])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # the origin has the same file under another name
    path.write_bytes(content)
    (fault,) = prove(own).faults
    file = f"{prefix}{layout.segment_path(name, path.stem)}"
    assert named(fault) == (name, 3, file)
    assert "damaged or altered on this disk" in fault.error.hint


@pytest.mark.parametrize("prove", [partner_of, state_of])
def test_a_manifest_that_is_missing_in_the_middle_is_found(own: World, prove: Any) -> None:
    """A feed publishes every version, and garbage collection begins with the oldest."""
    folder, name, prefix = (own.partner, IMAGES, "") if prove is partner_of else (own.state.feed, HEAD, "feed/")
    path, lost = chain(folder, name)[4]
    folder.path(path).unlink()
    (fault,) = prove(own).faults
    assert named(fault) == (name, lost.version, f"{prefix}{path}")
    message = f"the manifest of {name} version {lost.version} is missing, but older versions are here"
    assert fault.error.message == message
    assert fault.error.hint == "restore the file from a backup, or from a mirror of this feed"


def test_a_manifest_that_is_missing_at_the_end_is_not(own: World) -> None:
    """It was removed because it was old."""
    path, _ = chain(own.partner, IMAGES)[-1]
    own.partner.path(path).unlink()
    assert partner_of(own).faults == ()


def test_a_copy_may_skip_versions(own: World) -> None:
    """It pulls when it pulls."""
    paths = sorted(
        own.copy.glob(f"v1/{HEAD}/*.manifest.json"), key=lambda path: json.loads(path.read_bytes())["version"]
    )
    for path in paths[1:-1]:
        path.unlink()
    proof = prove_copy(own.copy, None, own.clock(), deep=True)
    assert (proof.faults, proof.lists[0].kept) == ((), 2)


def test_an_altered_manifest_is_found(own: World) -> None:
    """By the hash in its name; the chain goes on below it."""
    versions = chain(own.partner, IMAGES)
    path, old = versions[4]
    own.partner.path(path).write_bytes(b"{}")
    proof = partner_of(own)
    assert [named(fault) for fault in proof.faults] == [(IMAGES, old.version, path)]
    assert proof.lists[0].kept == len(versions) - 1


def drift(world: World, changed: Mapping[str, Any]) -> None:
    """The partner signs a next version that is as its newest, except for the end state of SHA-256."""
    repository = load_repository(world.partner)
    newest = chain(world.partner, IMAGES)[0]
    document = json.loads(manifests.encode(newest[1]))
    sha256 = newest[0].rpartition("/")[2].partition(".")[0]
    previous = {"version": document["version"], "sha256": sha256}
    version, end_state = document["version"] + 1, {**document["end_state"], "sha256": changed}
    step = {"version": version, "previous": previous, "segments": [], "counts": {}, "end_state": end_state}
    document |= {"version": version, "previous": previous, "end_state": end_state}
    document["recent"] = [*document["recent"], step]
    drifted = manifests.parse(canonical(document))
    fresh = {str(IMAGES): Freshness(world.clock(), version)}
    moves = [head_move(None, drifted)]
    installing.install(world.partner, sign(repository, moves, fresh, world.partner_signers(), world.clock()))


def test_an_end_state_that_does_not_fit_is_found(own: World) -> None:
    """At the version in which it went wrong, though later ones inherit it."""
    wrong = chain(own.partner, IMAGES)[0][1].version + 1
    drift(own, {"rows": 7, "checksum": "0" * 32})
    own.publish(add=[row(900)])
    own.publish(add=[row(901)])
    found = {named(fault)[:2]: fault.error.message for fault in partner_of(own).faults}
    assert found[IMAGES, wrong] == f"the delta of images version {wrong} does not give the signed end state"
    assert (IMAGES, wrong + 1) not in found


def test_manifests_that_contradict_each_other_are_found(own: World) -> None:
    """A newer manifest repeats the end states of older versions."""
    repository = load_repository(own.partner)
    document = json.loads(manifests.encode(chain(own.partner, IMAGES)[0][1]))
    document["recent"][-3]["end_state"]["sha256"]["rows"] += 1
    document["version"] += 1
    document["recent"][-1]["version"] += 1
    moves = [head_move(None, manifests.parse(canonical(document)))]
    fresh = {str(IMAGES): Freshness(own.clock(), document["version"])}
    installing.install(own.partner, sign(repository, moves, fresh, own.partner_signers(), own.clock()))
    assert any("state different end states of version" in fault.error.message for fault in partner_of(own).faults)


def test_a_version_that_is_missing_from_the_catalog_is_found(own: World) -> None:
    """With its number."""
    with closing(sqlite3.connect(own.state.catalog_file)) as connection, connection:
        connection.execute("DELETE FROM versions WHERE version = 5")
    assert [fault.error.message for fault in state_of(own).faults] == [
        "iwf.images version 5 is missing from the catalog"
    ]


def test_owed_rows_that_do_not_lead_to_the_origin_are_found(own: World) -> None:
    """Head and owed rows together give the end state that the partner signed."""
    with closing(sqlite3.connect(own.state.catalog_file)) as connection, connection:
        connection.execute("UPDATE origins SET end_state = replace(end_state, '\"rows\":', '\"rows\":1')")
    assert state_of(own).exit_code == 4


def test_the_command_names_list_version_file_and_cure(own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words, and as JSON; no digest of the list is in either."""
    operate(own, monkeypatch)
    assert syncd("verify", "--deep").code == 0
    path, lost = chain(own.state.feed, HEAD)[4]
    own.state.feed.path(path).unlink()
    ran = syncd("verify", "--deep")
    assert ran.code == 4
    assert f"error: feed/{path}: the manifest of {HEAD} version {lost.version} is missing" in ran.err
    (fault,) = syncd("verify", "--deep", "--json").json["faults"]
    assert (fault["list"], fault["version"], fault["file"]) == (HEAD, lost.version, f"feed/{path}")
    assert fault["to_do"]
    assert syncd("verify", own.partner.root, "--deep").code == 0
    assert syncd("verify", own.copy, "--deep").code == 0
