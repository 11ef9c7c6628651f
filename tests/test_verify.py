"""`syncd verify`: every byte is proved, and every fault is named."""

import hashlib
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.acts import SetUp
from syncd.catalog.catalog import Catalog
from syncd.errors import MismatchError, StoreError, UsageError
from syncd.feed.folder import FeedFolder
from syncd.feed.proof import SignedManifest, evidence
from syncd.feed.signed import load_repository
from syncd.files import TEMPORARY_PREFIX
from syncd.format import manifest as manifests
from syncd.format.canonical import canonical
from syncd.matcher.copy import CurrentFile, write_current
from syncd.model import ListName
from syncd.pipeline import signed
from syncd.publish import author, installing
from syncd.publish.change import head_move, sign
from syncd.publish.rotate import KeyFolders, NewKeys, in_feed, rotate
from syncd.trust.offline import Read
from syncd.trust.strict import verify_published
from syncd.trust.values import Freshness, TrustedFeed
from syncd.verify import feed as prove
from syncd.verify import prover
from syncd.verify.copy import prove_copy
from syncd.verify.feed import prove_feed
from syncd.verify.state import prove_state
from syncd.verify.tally import Fault, Proof
from world import HEAD, IMAGES, START, World, row, rows

NOW = START


def make_world(base: Path) -> World:
    """A feed with a rotated root and timestamp, several deltas, two algorithms; synced; pulled twice."""
    world = World(base)
    at = KeyFolders(world.state.keys, (world.offline,))
    world.publish(full=rows(0, 30))
    assert world.sync().exit_code == 0
    rotate(world.state.feed, in_feed(world.state.feed), "root", NewKeys(), at, NOW)
    assert not world.pull().errors
    world.publish(add=[row(30), row(7, "C"), row(9, "Z", "md5")], remove=[row(5)])
    assert world.sync().exit_code == 0
    world.publish(add=[row(31)])
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    return world


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One world for tests that leave it as it was."""
    return make_world(tmp_path_factory.mktemp("made"))


@pytest.fixture
def own(made: World, tmp_path: Path) -> World:
    """A world to spoil."""
    shutil.copytree(made.base, tmp_path / "own")
    return World(tmp_path / "own")


def files_of(folder: Path) -> list[Path]:
    """All files except private ones and the record of the daily proof, which is not signed."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".work" not in path.parts)
    return sorted(path for path in found if path.name != "proof.json")


def copy_of(world: World) -> Proof:
    return prove_copy(world.copy, world.operator_root.read_bytes(), NOW)


def state_of(world: World) -> Proof:
    return prove_state(world.state, None, NOW)


def messages(proof: Proof) -> list[str]:
    return [f"{fault.file}: {fault.error.message}" for fault in proof.faults]


def flipped(path: Path, position: int, mask: int) -> Iterator[None]:
    """Flip bits of one byte while the generator is open."""
    content = path.read_bytes()
    altered = bytearray(content)
    altered[position] ^= mask
    try:
        path.write_bytes(altered)
        yield
    finally:
        path.write_bytes(content)


def test_a_sound_copy_is_proved_to_the_last_file(made: World) -> None:
    """Every file of a pulled copy is proved, and the recent deltas are applied again."""
    proof = copy_of(made)
    assert (proof.exit_code, proof.faults, proof.notes) == (0, (), ())
    assert proof.files == len(files_of(made.copy)) == 17
    assert proof.bytes == sum(path.stat().st_size for path in files_of(made.copy))
    (one,) = proof.lists
    assert (one.list, one.version, one.rows, one.segments, one.replayed, one.sound) == (HEAD, 3, 32, 4, 2, True)


def test_a_sound_feed_is_proved_to_the_last_file(made: World) -> None:
    """Every file of a published feed is proved, superseded metadata and older manifests among them."""
    for folder in (made.state.feed.root, made.partner.root):
        proof = prove_feed(folder, None, NOW)
        assert (proof.exit_code, proof.faults, proof.notes) == (0, (), ())
        assert proof.files == len(files_of(folder))


def test_a_sound_state_is_proved(made: World) -> None:
    """The operator's state is proved: catalog, feed, origins."""
    proof = state_of(made)
    assert (proof.exit_code, proof.faults, proof.notes) == (0, (), ())


def test_progress_ends_at_the_whole(made: World) -> None:
    """Progress only rises, and ends at its total."""
    told: list[tuple[int, int]] = []
    prove_copy(made.copy, None, NOW, lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


@pytest.mark.parametrize("kind", ["root.json", "current.json", "metadata", "manifest.json", ".arrow"])
def test_any_flipped_byte_of_a_copy_is_refused(own: World, kind: str) -> None:
    """One altered byte anywhere in a pulled copy is a fault, with the root given out of band."""
    paths = [path for path in files_of(own.copy) if kind in str(path.relative_to(own.copy))]
    assert paths
    chosen = random.Random(1)
    for path in paths:
        size = path.stat().st_size
        for position in {0, size - 1, *(chosen.randrange(size) for _ in range(16))}:
            for _ in flipped(path, position, 1 << chosen.randrange(8)):
                assert copy_of(own).exit_code == 4, (path.name, position)
    assert copy_of(own).exit_code == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_of_a_state_is_refused(made: World, data: st.DataObject) -> None:
    """One altered byte anywhere in the published feed is a fault of the operator's state."""
    path = data.draw(st.sampled_from(files_of(made.state.feed.root)))
    position = data.draw(st.integers(0, path.stat().st_size - 1))
    for _ in flipped(path, position, data.draw(st.integers(1, 255))):
        assert state_of(made).exit_code == 4


@pytest.mark.parametrize("position", range(0, 12))
def test_every_signature_counts(own: World, position: int) -> None:
    """Bytes that verification alone would pass over are faults too: capitals in a date or a signature, white space."""
    names = ("3.root.json", "2.root.json", "4.timestamp.json")
    paths = [own.copy / "metadata" / name for name in names if (own.copy / "metadata" / name).exists()]
    assert paths
    for path in paths:
        content = path.read_bytes()
        spots = [number for number, byte in enumerate(content) if chr(byte) in "TZabcdef"]
        for _ in flipped(path, spots[position * len(spots) // 12], 0x20):
            assert copy_of(own).exit_code == 4


def test_white_space_counts(own: World) -> None:
    """Bytes that no signature covers are faults too."""
    for path in (own.copy / "metadata").iterdir():
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        assert copy_of(own).exit_code == 4, path.name
        path.write_bytes(content)


def test_every_missing_file_is_refused(own: World) -> None:
    """A file that what is current relies on is a fault where it is missing; what was superseded may go."""
    needless = []
    for path in files_of(own.copy):
        if path.name in {"root.json", "current.json"}:
            continue
        away = path.rename(own.base / "away")
        proof = copy_of(own)
        assert proof.exit_code in {0, 4}
        if not proof.faults:
            needless.append(path.name.split(".", 1)[1])
        away.rename(path)
    assert sorted(needless) == ["lists.json", "manifest.json", "snapshot.json", "timestamp.json"]


def test_another_root_is_refused(made: World) -> None:
    """A copy of another feed does not pass, whatever root lies in it."""
    proof = prove_copy(made.copy, made.root.read_bytes(), NOW)
    assert proof.exit_code == 4
    assert messages(proof)[0] == "root.json: root.json is not the trust root that was given"


def test_a_replaced_copy_does_not_pass_with_the_root_given(own: World, tmp_path: Path) -> None:
    """Whoever replaces a whole copy, root included, is found out by the root given out of band only."""
    root = own.operator_root.read_bytes()
    forger = make_world(tmp_path / "forger")
    shutil.rmtree(own.copy)
    shutil.copytree(forger.copy, own.copy)
    assert prove_copy(own.copy, None, NOW).exit_code == 0
    assert prove_copy(own.copy, root, NOW).exit_code == 4


def test_faults_name_file_and_remedy(own: World) -> None:
    """A fault names its file, says what is wrong and what to do; no digest of the list is in it."""
    path = next(own.copy.rglob("*.arrow"))
    with path.open("ab") as stream:
        stream.write(b"x")
    (fault,) = copy_of(own).faults
    assert fault.file == str(path.relative_to(own.copy))
    assert "the manifest says" in fault.error.message
    assert not fault.storage
    text = " ".join(messages(copy_of(own)))
    assert not any(row(number)[1] in text for number in range(32))


def test_unknown_files_are_notes(own: World) -> None:
    """Files that are none of ours, and left-overs of a kill, are noted and do no harm."""
    (own.copy / "README").write_text("mine")
    (own.copy / "v1" / ".tmp-0011").write_text("half")
    proof = copy_of(own)
    assert proof.exit_code == 0
    assert proof.notes == ("README: unknown file", "v1/.tmp-0011: left over from an interrupted write")


@pytest.mark.parametrize("path", ["bloom-2/{}.bin", "{}.index.json"])
def test_a_file_of_a_later_kind_is_proved_by_its_name(own: World, path: str) -> None:
    """What it is for need not be known to see whether it is whole."""
    content = b"{}"
    file = own.copy / "v1" / HEAD / path.format(hashlib.sha256(content).hexdigest())
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    before = copy_of(own)
    assert (before.exit_code, before.notes) == (0, ())
    file.write_bytes(b"[]")
    assert [type(fault.error) for fault in copy_of(own).faults] == [MismatchError]


def test_a_damaged_left_over_is_a_fault(own: World) -> None:
    """A file that is named by its content must have it, also where nothing names it any more."""
    folder = own.copy / "v1" / HEAD / "segments"
    (folder / f"{'0' * 64}.arrow").write_text("x")
    file = f"v1/{HEAD}/segments/{'0' * 64}.arrow"
    assert messages(copy_of(own)) == [f"{file}: {file} does not have the SHA-256 in its name"]


def test_expired_metadata_is_a_note(made: World) -> None:
    """A copy that nobody vouches for any more is whole all the same, and the notes say what expired."""
    proof = prove_copy(made.copy, None, NOW.replace(month=2))
    assert proof.exit_code == 0
    assert "the timestamp metadata expired on 2026-01-03 12:00 UTC" in proof.notes


def test_a_copy_from_the_future_is_a_fault(made: World) -> None:
    """A copy that was brought up to date after now is refused."""
    proof = prove_copy(made.copy, None, NOW.replace(year=2025))
    assert messages(proof)[0] == "current.json: current.json was written 365 days in the future"


def test_a_copy_of_before_without_checksum_is_accepted(own: World) -> None:
    """The form of before, without a generation, may leave its checksum out; an altered one is refused."""
    content = json.loads((own.copy / "current.json").read_bytes())
    del content["checksum"], content["generation"]
    (own.copy / "current.json").write_bytes(canonical(content))
    assert copy_of(own).exit_code == 0
    content["checksum"] = "0" * 64
    (own.copy / "current.json").write_bytes(canonical(content))
    path = own.copy / "current.json"
    assert messages(copy_of(own)) == [f"current.json: {path} is damaged: it does not match its checksum"]


def test_a_version_that_is_not_the_manifests(own: World) -> None:
    """A current.json that gives a list another version than its manifest is refused."""
    from syncd.feed.folder import FeedFolder

    folder = FeedFolder(own.copy)
    current = CurrentFile.model_validate_json((own.copy / "current.json").read_bytes())
    held = current.lists[HEAD].model_copy(update={"version": 2})
    write_current(folder, current.model_copy(update={"lists": {HEAD: held}}))
    assert messages(copy_of(own)) == [
        "current.json: current.json states another version of iwf.images than its manifest"
    ]


def sign_drifted(world: World, field: str, value: object) -> None:
    """The partner signs a version 9 that is as its newest, but for what it says of SHA-256 in ``field``."""
    repository = load_repository(world.partner)
    snapshot = author.open_list(world.partner, repository, IMAGES)
    assert snapshot is not None
    document = json.loads(manifests.encode(snapshot.manifest))
    step = document["recent"][-1]
    document["version"] = step["version"] = 9
    step[field]["sha256"] = value
    document["end_state"] = step["end_state"]
    drifted = manifests.parse(canonical(document))
    fresh = {str(IMAGES): Freshness(NOW, 9)}
    installing.install(world.partner, sign(repository, [head_move(None, drifted)], fresh, world.partner_signers(), NOW))


def test_a_signed_end_state_that_is_not_true(own: World) -> None:
    """A validly signed manifest whose rows give another end state is a fault."""
    sign_drifted(own, "end_state", {"rows": 7, "checksum": "0" * 32})
    (fault,) = prove_feed(own.partner.root, None, NOW).faults
    assert fault.error.message == "the rows of images version 9 do not give the signed end state"


def test_signed_counts_that_are_not_true(own: World) -> None:
    """A validly signed delta that does something else than its counts say is a fault."""
    sign_drifted(own, "counts", {"added": 2, "removed": 0, "relabelled": 0, "unchanged": 0, "absent": 0})
    (fault,) = prove_feed(own.partner.root, None, NOW).faults
    assert fault.error.message == "the delta of images version 9 does not give the signed counts"


def test_a_folded_stack_is_replayed_as_far_as_it_goes(own: World) -> None:
    """After compaction the older deltas cannot be applied again; everything else is proved."""
    with own.publisher() as publisher:
        publisher.compact(HEAD, NOW, everything=True)
    proof = prove_feed(own.state.feed.root, None, NOW)
    assert proof.exit_code == 0
    assert (proof.lists[0].version, proof.lists[0].replayed) == (4, 1)
    assert state_of(own).exit_code == 0


def test_a_fold_with_the_bytes_of_a_delta_is_no_drift(own: World) -> None:
    """A row that comes and goes again and again: folded, its deltas may give the very file that one of them was."""
    name = ListName("canaries")
    own.publish(full=rows(0, 200), name=name)
    for _ in range(4):
        own.publish(add=[row(900)], name=name)
        own.publish(remove=[row(900)], name=name)
    proof = prove_feed(own.partner.root, None, NOW)
    assert [fault.error.message for fault in proof.faults] == []


def test_a_state_whose_manifest_is_not_the_catalogs(own: World) -> None:
    """A catalog that has other bytes of a manifest than the feed is a fault."""
    alter(own, "UPDATE versions SET manifest = X'7b7d' WHERE version = 3")
    assert "catalog.sqlite3: the manifest of iwf.images version 3 was altered" in messages(state_of(own))


def test_a_state_whose_catalog_fell_behind(own: World) -> None:
    """A catalog restored beside a newer feed is a fault, named by both versions."""
    older = own.base / "older"
    with Catalog.open(own.state.catalog) as catalog:
        catalog.backup(older)
    own.publish(add=[row(33)])
    assert own.sync().exit_code == 0
    for path in own.state.root.glob("catalog.sqlite3*"):
        path.unlink()
    shutil.copy(older, own.state.catalog_file)
    assert any(
        "the feed has iwf.images at version 4, the catalog at 3" in message for message in messages(state_of(own))
    )


def test_a_damaged_origin(own: World) -> None:
    """A segment of an origin that is damaged is a fault of the source, also where the feed's is a copy of its own."""
    path = next(own.state.source("iwf").path("v1/images/segments").iterdir())
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1])
    (fault,) = state_of(own).faults
    assert fault.file == f"sources/iwf/v1/images/segments/{path.name}"


def test_a_damaged_database(own: World) -> None:
    """What SQLite finds wrong is a fault."""
    with Catalog.open(own.state.catalog) as catalog:
        for number in range(300):
            catalog.append("tester", SetUp("x" * 200 + str(number)), NOW)
    size = own.state.catalog_file.stat().st_size
    with own.state.catalog_file.open("r+b") as stream:
        stream.seek(size - 3 * 4096)
        stream.write(os.urandom(4096))
    proof: Proof | None
    try:
        proof = state_of(own)
    except StoreError:
        proof = None
    assert proof is None or proof.exit_code in {1, 4}


def alter(world: World, statement: str) -> None:
    connection = sqlite3.connect(world.state.catalog_file)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_an_unreadable_disk_is_exit_code_1(own: World) -> None:
    """Where the disk fails nothing is known of the content: that is no fault of the feed."""
    fault = Fault("v1/x", StoreError("cannot read"))
    fault.error.__cause__ = OSError(5, "Input/output error")
    assert fault.storage
    assert Proof(own.copy, (), (fault,), (), 0, 0).exit_code == 1
    gone = Fault("v1/x", StoreError("cannot read"))
    gone.error.__cause__ = FileNotFoundError(2, "No such file")
    assert Proof(own.copy, (), (gone,), (), 0, 0).exit_code == 4


def test_publishing_meanwhile_makes_no_fault(own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read half before and half after a publication is read again."""
    calls = [0]

    def and_publish(read: Read, root: bytes) -> TrustedFeed:
        calls[0] += 1
        found = verify_published(read, root)
        if calls[0] == 1:
            own.publish(remove=[row(0)])
            newest = load_repository(own.partner).targets()["v1/images/manifest.json"].sha256
            for path in own.partner.path("v1/images").glob("*.manifest.json"):
                if newest not in path.name:
                    path.unlink()
        return found

    monkeypatch.setattr("syncd.verify.feed.verify_published", and_publish)
    assert prove_feed(own.partner.root, None, NOW).exit_code == 0
    assert calls[0] == 2


def test_a_file_that_goes_meanwhile_is_no_fault(own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publication renames its temporary files while folders are looked through."""
    seen = prover.files_of

    def and_more(folder: FeedFolder, part: str = "") -> Iterator[Path]:
        yield from seen(folder, part)
        yield folder.path(f"v1/{TEMPORARY_PREFIX}0")

    for module in (prove, prover):
        monkeypatch.setattr(module, "files_of", and_more)
    assert prove_feed(own.partner.root, None, NOW).faults == ()


def test_no_copy_no_feed_no_state(tmp_path: Path) -> None:
    """A folder that is none of these is a usage error."""
    with pytest.raises(UsageError, match="is not a pulled copy"):
        prove_copy(tmp_path, None, NOW)
    with pytest.raises(UsageError, match="is not a feed"):
        prove_feed(tmp_path, None, NOW)


def test_a_damaged_copy_heals(own: World) -> None:
    """What docs/operations.md says of a damaged copy: remove the files that are named, and pull again."""
    for path in (next(own.copy.rglob("*.arrow")), next(own.copy.rglob(f"{HEAD}/*.manifest.json"))):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    faults = copy_of(own).faults
    assert faults
    for fault in faults:
        (own.copy / fault.file).unlink()
    assert not own.pull().errors
    assert copy_of(own).exit_code == 0


def test_evidence_may_be_larger_than_metadata(own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partner may sign many roles: what vouches for a version is installed again after a crash, and proved."""
    vouching = evidence

    def long(trusted: TrustedFeed, signed: SignedManifest) -> bytes:
        return json.dumps({**json.loads(vouching(trusted, signed)), "more": "x" * (9 << 20)}).encode()

    def killed(_: Catalog, __: int) -> None:
        raise StoreError("killed")

    monkeypatch.setattr(signed, "evidence", long)
    own.publish(add=[row(500)])
    with monkeypatch.context() as crashing:
        crashing.setattr(Catalog, "installed", killed)
        assert own.sync().exit_code == 1
    with own.publisher() as publisher:
        assert not publisher.catalog.pending()
    assert messages(state_of(own)) == []
    assert len(own.hits(500)) == 0
    own.pull()
    assert len(own.hits(500)) == 1


@pytest.mark.parametrize("file", ["metadata/timestamp.json", "v1/iwf.images/*.manifest.json"])
def test_a_damaged_file_of_the_own_feed_is_restored_not_fetched(own: World, file: str) -> None:
    """Nobody fetches the published feed of a state: the hint names a backup, and no URL or copy."""
    for path in own.state.feed.root.glob(file):
        path.write_bytes(b"")
    hints = [fault.error.hint for fault in state_of(own).faults]
    assert any("restore it from a backup" in hint for hint in hints)
    assert not any("URL" in hint or "fetch the copy" in hint for hint in hints)


@pytest.mark.parametrize("role", ["snapshot", "targets", "lists", "timestamp"])
def test_damaged_metadata_is_not_blamed_on_a_mirror(own: World, role: str) -> None:
    """The files lie here: the hint says what mends them, and that does."""
    path = max(own.copy.glob(f"metadata/*.{role}.json"), key=lambda one: int(one.name.partition(".")[0]))
    path.write_bytes(path.read_bytes()[:-1])
    hint = "it was damaged or altered on this disk: pull or fetch it again, or restore it from a backup"
    assert hint in {fault.error.hint for fault in copy_of(own).faults}
    assert not any("mirror" in fault.error.hint or "URL" in fault.error.hint for fault in copy_of(own).faults)
    assert not own.pull().errors
    assert copy_of(own).exit_code == 0
