"""A partner that signs what is wrong: rejected or held, for a sync and for a pull, and the old snapshot goes on."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from securesystemslib.signer import CryptoSigner

from standing import NEW, Standing, fault_of, followed, matched, prove_feed, publish_news, tree
from syncd.errors import (
    EquivocationError,
    ManifestError,
    MismatchError,
    RollbackError,
    SegmentFault,
    StoreError,
    SyncdError,
    TrustError,
    kind_of,
)
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.proof_record import ProofRecord, RecordInMemory
from syncd.feed.reproof import ProofPass
from syncd.feed.signed import load_repository
from syncd.fetch import Endpoint
from syncd.format import manifest as manifests
from syncd.format.manifest import EndState, Fold, Manifest, ManifestRef, SegmentRef
from syncd.format.rows import Rows
from syncd.format.writer import write_segment
from syncd.matcher.pull import pull
from syncd.matcher.reproof import held_versions
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import Outcome
from syncd.pipeline import signed
from syncd.publish import author, installing
from syncd.publish.change import metadata_files
from syncd.trust import keys, repository
from syncd.trust.values import SignedTarget
from world import IMAGES, Row, World, row, rows

NEXT_ROOT = "metadata/2.root.json"


@pytest.fixture
def before(standing: World) -> Standing:
    """What is served before anything bad comes in."""
    return Standing.of(standing)


def _rotate(world: World, count: int, threshold: int) -> dict[str, bytes]:
    """The partner replaces its root keys; returns the files, which are not installed."""
    fresh = tuple(CryptoSigner.generate_ed25519() for _ in range(count))
    offline = keys.load_signers(world.partner_offline, keys.OFFLINE_ROLES)
    update = load_repository(world.partner).rotate(
        "root", fresh, threshold, offline=offline, online=world.partner_signers(), now=world.clock()
    )
    return dict(update.files)


def _install(world: World, files: Mapping[str, bytes]) -> None:
    installing.install(world.partner, metadata_files(tuple(files.items())))


def test_a_wrong_end_state_is_found_by_the_background_and_refused_by_a_check(standing: World) -> None:
    """A pull takes the publisher's word for it; a reader recomputes it, later or when it is asked to."""
    world = standing
    draft = _draft(world)
    _sign(world, _with_step(draft, end_state={Algorithm.SHA256: EndState(rows=draft.rows, checksum="0" * 32)}))
    refused = pull(Endpoint(world.url), world.root.read_bytes(), world.mirror, now=world.clock(), check=lambda _: None)
    assert [(type(one.error), one.before == one.after) for one in refused.lists] == [(MismatchError, True)]
    assert world.follow().errors == []
    records, copy = RecordInMemory(ProofRecord()), FeedFolder(world.mirror)
    found = list(ProofPass(copy, records, lambda _: None, world.clock).run(lambda: held_versions(copy)))
    ((fault,),) = found
    assert (fault.part, type(fault.error)) == ("end state", MismatchError)
    assert "do not give the signed end state" in fault.message


def test_a_rotation_skipped(before: Standing) -> None:
    """A root two versions on, served in place of the next, is refused."""
    world = before.world
    files = _rotate(world, 1, 1)
    root = json.loads(files["2.root.json"])
    root["signed"]["version"] = 3
    _install(world, {"2.root.json": json.dumps(root).encode()})
    outcome = world.sync()
    assert isinstance(fault_of(outcome), TrustError)
    assert outcome.exit_code == 4
    assert isinstance(followed(world), TrustError)
    before.check()


def test_a_rotation_withheld(before: Standing) -> None:
    """Whoever holds back a key rotation is found out by the next manifest, which names the root it needs."""
    world = before.world
    _install(world, _rotate(world, 1, 1))
    publish_news(world)
    world.partner.path(NEXT_ROOT).rename(world.base / "withheld.json")
    errors = [fault_of(world.sync()), followed(world)]
    assert [type(error) for error in errors] == [TrustError, TrustError]
    assert ["needs root version 2" in error.message for error in errors] == [True, True]
    before.check()
    before.check_mirror()
    (world.base / "withheld.json").rename(world.partner.path(NEXT_ROOT))
    assert world.sync().outcome is Outcome.PUBLISHED


def test_a_threshold_missed(before: Standing) -> None:
    """A root that asks for two signatures and carries one is refused."""
    world = before.world
    files = _rotate(world, 2, 2)
    root = json.loads(files["2.root.json"])
    assert len(root["signatures"]) == 3
    root["signatures"] = root["signatures"][:2]
    _install(world, {"2.root.json": json.dumps(root).encode()})
    outcome = world.sync()
    assert isinstance(fault_of(outcome), TrustError)
    assert outcome.exit_code == 4
    assert isinstance(followed(world), TrustError)
    before.check()
    before.check_mirror()
    _install(world, files)
    assert world.sync().exit_code == 0


def _current(world: World) -> Manifest:
    found = author.open_list(world.partner, load_repository(world.partner), IMAGES)
    assert found is not None
    return found.manifest


def _draft(world: World) -> Manifest:
    """The partner's honest next version: its segments are in place, it is not signed yet."""
    real = world.partner
    world.partner = FeedFolder(Path(shutil.copytree(real.root, world.base / "draft")))
    world.publish(add=[row(30)], remove=[row(5)])
    found = _current(world)
    shutil.copytree(world.partner.path("v1/images/segments"), real.path("v1/images/segments"), dirs_exist_ok=True)
    world.partner = real
    return found


def _sign(world: World, manifest: Manifest, content: bytes | None = None) -> None:
    """The partner signs a manifest, whatever it says; ``model_copy`` did not check it."""
    found = manifests.encode(manifest) if content is None else content
    target = SignedTarget(layout.target_name(IMAGES), manifest.version, hashlib.sha256(found).hexdigest(), len(found))
    repo = load_repository(world.partner)
    update = repo.publish({target.name: target}, repo.freshness(), world.partner_signers(), world.clock())
    document = (layout.manifest_path(IMAGES, target.sha256), found)
    installing.install(world.partner, (document, *metadata_files(update.files)))


def _with_step(manifest: Manifest, **changes: Any) -> Manifest:
    """The manifest with another newest delta, and the end state that this states."""
    step = manifest.recent[-1].model_copy(update=changes)
    changed = {"recent": (*manifest.recent[:-1], step), "end_state": step.end_state}
    return manifest.model_copy(update=changed)


def _add_segment(world: World, content: bytes, like: SegmentRef) -> SegmentRef:
    """Put any bytes where a segment belongs."""
    ref = like.model_copy(update={"sha256": hashlib.sha256(content).hexdigest(), "length": len(content)})
    world.partner.segment_path(IMAGES, ref).write_bytes(content)
    return ref


def _with_delta(manifest: Manifest, ref: SegmentRef) -> Manifest:
    changed = _with_step(manifest, segments=(ref,))
    return changed.model_copy(update={"stack": (*manifest.stack[:-1], ref)})


def _refused(before: Standing, kind: type[SyncdError] | SegmentFault, *, pull_too: bool = True) -> None:
    """A sync, and a pull, reject what was signed; what is served stays."""
    outcome, name = before.world.sync(), kind if isinstance(kind, SegmentFault) else kind.__name__
    assert kind_of(fault_of(outcome)) == name
    assert (outcome.exit_code, outcome.outcome) == (4, Outcome.REJECTED)
    before.check()
    if pull_too:
        assert kind_of(followed(before.world)) == name
        before.check_mirror()


SHA256 = Algorithm.SHA256
WRONG_COUNTS = [
    Counts(added=2, removed=1),
    Counts(added=1),
    Counts(added=1, absent=1),
    Counts(unchanged=1, removed=1),
    Counts(added=1, removed=1, absent=1),
]


@pytest.mark.parametrize("counts", WRONG_COUNTS)
def test_counts_that_are_not_what_the_delta_does(before: Standing, counts: Counts) -> None:
    """The signed counts of a delta are recomputed, each of them."""
    _sign(before.world, _with_step(_draft(before.world), counts={SHA256: counts}))
    _refused(before, MismatchError, pull_too=False)


@pytest.mark.parametrize("state", [EndState(rows=30, checksum="0" * 32), EndState(rows=31, checksum="1" * 32)])
def test_an_end_state_that_the_delta_does_not_give(before: Standing, state: EndState) -> None:
    """The signed end state is recomputed."""
    _sign(before.world, _with_step(_draft(before.world), end_state={SHA256: state}))
    _refused(before, MismatchError, pull_too=False)


def test_needless_rows_are_counted_apart(standing: World) -> None:
    """Removals of what is not there and adds of what is: accepted where the signed counts say so, and so told."""
    manifest = _draft(standing)
    numbers = sorted([row(3, "A"), row(5), row(30), row(77)], key=lambda one: one[1])
    ref = _write(standing, numbers, removed=[one[2] in {"e5", "e77"} for one in numbers])
    counts = {SHA256: Counts(added=1, unchanged=1, removed=1, absent=1)}
    changed = _with_step(_with_delta(manifest, ref), counts=counts)
    _sign(standing, changed)
    outcome = standing.sync()
    assert outcome.exit_code == 0
    assert outcome.lists[0].counts == counts
    standing.pull()
    assert matched(standing) == NEW
    prove_feed(standing)


def test_needless_rows_that_the_signed_counts_pass_over(before: Standing) -> None:
    """The same delta is rejected where its counts do not say so."""
    manifest = _draft(before.world)
    numbers = sorted([row(3, "A"), row(5), row(30), row(77)], key=lambda one: one[1])
    ref = _write(before.world, numbers, removed=[one[2] in {"e5", "e77"} for one in numbers])
    _sign(before.world, _with_delta(manifest, ref))
    _refused(before, MismatchError, pull_too=False)


def _write(world: World, content: list[Row], removed: list[bool]) -> SegmentRef:
    """Write a delta of these rows, in this order, into the partner's feed."""
    labels = tuple(sorted({"" if gone else one[3] for one, gone in zip(content, removed, strict=True)}))
    found = Rows(
        SHA256,
        np.array([bytes.fromhex(one[1]) for one in content], "S32"),
        pa.array([one[2] for one in content], pa.large_utf8()),
        np.array([labels.index("" if gone else one[3]) for one, gone in zip(content, removed, strict=True)], np.int32),
        labels,
        np.array(removed),
    )
    path = world.base / "delta"
    ref = write_segment(path, SHA256, "delta", [found])
    assert ref is not None
    shutil.copy(path, world.partner.segment_path(IMAGES, ref))
    return ref


def test_a_segment_out_of_order(before: Standing) -> None:
    """A segment whose hash is signed is still held to the format."""
    manifest = _draft(before.world)
    unsorted = sorted([row(5), row(30)], key=lambda one: one[1], reverse=True)
    ref = _write(before.world, unsorted, removed=[one[2] == "e5" for one in unsorted])
    _sign(before.world, _with_delta(manifest, ref))
    _refused(before, SegmentFault.UNSORTED)


def test_a_segment_that_is_no_segment(before: Standing) -> None:
    """Any bytes under a signed hash."""
    manifest = _draft(before.world)
    ref = _add_segment(before.world, b"not Arrow at all" * 40, manifest.stack[-1])
    _sign(before.world, _with_delta(manifest, ref))
    _refused(before, SegmentFault.NOT_ARROW)


def test_more_rows_than_are_there(before: Standing) -> None:
    """The rows that a manifest states of a segment are counted."""
    manifest = _draft(before.world)
    ref = manifest.stack[-1].model_copy(update={"rows": 3})
    _sign(before.world, _with_delta(manifest, ref))
    _refused(before, SegmentFault.ROW_COUNT)


def test_a_stack_that_is_not_the_list_at_first(tmp_path: Path) -> None:
    """A whole list is proved against its signed end state before anything of it is published."""
    world = World(tmp_path)
    world.publish(full=rows(0, 30))
    state = {SHA256: EndState(rows=31, checksum="0" * 32)}
    found = author.open_list(world.partner, load_repository(world.partner), IMAGES)
    assert found is not None
    _sign(world, found.manifest.model_copy(update={"version": 2, "end_state": state}))
    outcome = world.sync()
    error = fault_of(outcome)
    assert type(error) is MismatchError
    assert error.serving == "nothing of this source yet"
    assert outcome.exit_code == 4
    assert not world.state.feed.path("v1").exists()


def test_a_forged_stack_is_not_believed(standing: World) -> None:
    """A follower of deltas publishes what the deltas give, whatever stack the manifest names."""
    manifest = _draft(standing)
    _sign(standing, manifest.model_copy(update={"stack": manifest.stack[:1]}))
    assert standing.sync().outcome is Outcome.PUBLISHED
    standing.pull()
    assert matched(standing) == NEW
    prove_feed(standing)


def test_folds_in_a_circle(before: Standing) -> None:
    """Folds that are made of one another are refused, not followed for ever."""
    manifest = _draft(before.world)
    a, b = (ref.sha256 for ref in manifest.stack)
    circle = (Fold(output=a, inputs=(b,)), Fold(output=b, inputs=(a,)))
    _sign(before.world, manifest.model_copy(update={"folds": circle}))
    _refused(before, ManifestError)


@pytest.mark.parametrize("inputs", ["md5", "other rows", "nobody's"])
def test_a_fold_that_lies(standing: World, inputs: str) -> None:
    """A fold that does not give the signed bytes, whatever it is made of, is passed over for the signed file."""
    standing.publish(add=[row(200, algorithm="md5")])
    standing.follow()
    manifest = _draft(standing)
    made_of = {
        "md5": next(ref.sha256 for ref in manifest.stack if ref.algorithm == "md5"),
        "other rows": manifest.stack[0].sha256,
        "nobody's": "7" * 64,
    }
    fold = Fold(output=manifest.stack[-1].sha256, inputs=(made_of["md5"], made_of[inputs]))
    _sign(standing, manifest.model_copy(update={"folds": (fold,)}))
    assert standing.follow().errors == []
    assert matched(standing, standing.mirror) == NEW
    assert standing.sync().exit_code == 0


def test_a_manifest_of_another_list(before: Standing) -> None:
    """A manifest signed for one list and written for another is refused."""
    _sign(before.world, _draft(before.world).model_copy(update={"list": ListName("videos")}))
    _refused(before, ManifestError)


def test_a_root_that_nobody_has(before: Standing) -> None:
    """A manifest that needs a newer root than the peer serves: a rotation is being withheld."""
    _sign(before.world, _draft(before.world).model_copy(update={"min_root": 9}))
    _refused(before, TrustError)


def test_a_manifest_that_is_none(before: Standing) -> None:
    """Signed bytes that are no manifest of this format."""
    _sign(before.world, _draft(before.world), b'{"format":2}')
    _refused(before, ManifestError)


def test_the_same_version_with_other_content(before: Standing, monkeypatch: pytest.MonkeyPatch) -> None:
    """One serial signed twice is equivocation: refused, with an alarm to call the partner."""
    monkeypatch.setattr(repository, "_check_rises", lambda *_: None)
    current = _draft(before.world)
    _sign(before.world, current.model_copy(update={"version": 1, "previous": None, "recent": ()}))
    _refused(before, EquivocationError)


def test_what_was_refused_is_told_though_it_cannot_be_kept(before: Standing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is too full for the evidence hides no equivocation."""

    def full(*_: object, **__: object) -> None:
        raise StoreError("cannot write: No space left on device")

    monkeypatch.setattr(repository, "_check_rises", lambda *_: None)
    monkeypatch.setattr(signed, "install_bytes", full)
    _sign(before.world, _draft(before.world).model_copy(update={"version": 1, "previous": None, "recent": ()}))
    assert type(fault_of(before.world.sync())) is EquivocationError


def test_a_lower_version(standing: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A serial that goes back is a rollback, however newly it is signed."""
    first = author.open_list(standing.partner, load_repository(standing.partner), IMAGES)
    publish_news(standing)
    standing.sync()
    standing.pull()
    standing.follow()
    assert first is not None
    served = tree(standing.state.feed.root)
    monkeypatch.setattr(repository, "_check_rises", lambda *_: None)
    _sign(standing, first.manifest)
    outcome = standing.sync()
    assert outcome.exit_code == 4
    assert type(outcome.lists[0].error) is RollbackError
    assert outcome.lists[0].error.serving == "iwf.images version 2"
    assert type(standing.follow().errors[0]) is RollbackError
    assert tree(standing.state.feed.root) == served
    assert matched(standing) == matched(standing, standing.mirror) == NEW


def test_deltas_that_do_not_follow_one_another(before: Standing) -> None:
    """A manifest whose chain of deltas is broken is refused."""
    manifest = _draft(before.world)
    broken = manifest.recent[-1].model_copy(update={"previous": ManifestRef(version=1, sha256="0" * 64)})
    _sign(before.world, manifest.model_copy(update={"recent": (broken,)}))
    _refused(before, ManifestError)


def test_a_fork_is_held(before: Standing) -> None:
    """A newer version that does not descend from ours waits for an operator; a matcher takes it, and is told."""
    manifest = _draft(before.world)
    other = ManifestRef(version=1, sha256="0" * 64)
    forked = _with_step(manifest, previous=other).model_copy(update={"previous": other})
    _sign(before.world, forked)
    outcome = before.world.sync()
    assert (outcome.outcome, outcome.exit_code, outcome.lists[0].reasons) == (Outcome.HELD, 3, ("forked",))
    assert outcome.lists[0].version == 1
    before.check()
    assert [(one.forked, one.after) for one in before.world.follow().lists] == [(True, 2)]
    assert matched(before.world, before.world.mirror) == NEW


def test_a_fork_is_held_where_segments_were_lost_as_well(before: Standing) -> None:
    """What the disk lost does not open the gate to a history that is not ours."""
    world, manifest = before.world, _draft(before.world)
    other = ManifestRef(version=1, sha256="0" * 64)
    _sign(world, _with_step(manifest, previous=other).model_copy(update={"previous": other}))
    served = world.operator_root.parent.joinpath("metadata/timestamp.json").read_bytes()
    for folder in (world.state.feed, world.state.source("iwf")):
        for path in folder.root.glob("v1/*/segments/*"):
            path.unlink()
    outcome = world.sync()
    assert (outcome.outcome, outcome.lists[0].reasons, outcome.lists[0].version) == (Outcome.HELD, ("forked",), 1)
    assert world.operator_root.parent.joinpath("metadata/timestamp.json").read_bytes() == served


def test_a_fold_of_another_algorithms_segments_is_downloaded(world: World) -> None:
    """A recipe that mixes algorithms is none; the other lists of the feed are not kept back."""
    world.publish(full=rows(0, 500))
    world.publish(full=rows(0, 4), name=ListName("videos"))
    world.publish(add=[row(number, algorithm="md5") for number in range(3)])
    world.follow()
    before = _current(world).stack
    author.compact(world.partner, IMAGES, world.partner_signers(), world.clock(), everything=True)
    world.publish(full=rows(0, 1000))
    author.compact(world.partner, IMAGES, world.partner_signers(), world.clock(), everything=True)
    found = _current(world)
    mixed = Fold(output=found.stack[0].sha256, inputs=tuple(ref.sha256 for ref in before))
    changed = {"version": found.version + 1, "folds": (mixed,), "recent": (), "previous": None}
    _sign(world, found.model_copy(update=changed))
    assert [one.after for one in world.follow().lists] == [found.version + 1, 1]


@pytest.mark.parametrize(("version", "length"), [(2, (1 << 20) + 1), (1 << 53, 1000)])
def test_a_manifest_that_cannot_be_is_not_fetched(before: Standing, version: int, length: int) -> None:
    """A signed length beyond format 1's is not read into memory, nor a version taken that none can have."""
    world, repo = before.world, load_repository(before.world.partner)
    found = repo.targets()[layout.target_name(IMAGES)]
    target = replace(found, version=version, length=length)
    update = repo.publish({target.name: target}, repo.freshness(), world.partner_signers(), world.clock())
    installing.install(world.partner, metadata_files(update.files))
    _refused(before, ManifestError)


def test_a_list_emptied_is_held(before: Standing) -> None:
    """A list that would be left without an entry waits for an operator, however properly it is signed."""
    before.world.publish(remove=rows(0, 30))
    outcome = before.world.sync()
    assert (outcome.outcome, outcome.exit_code, outcome.lists[0].reasons) == (Outcome.HELD, 3, ("emptied",))
    before.check()
    before.world.publish(add=rows(0, 31))
    assert before.world.sync().outcome is Outcome.PUBLISHED  # a hold never blocks what comes after it


def test_a_publisher_whose_state_drifted_heals_by_publishing_the_list_whole(standing: World) -> None:
    """`--full` checks the end state against the list itself, and begins anew where the one signed before is wrong."""
    wrong = EndState(rows=31, checksum="0" * 32)
    _sign(standing, _with_step(_draft(standing), end_state={SHA256: wrong}))
    assert standing.sync().exit_code == 4
    standing.publish(full=rows(0, 40))
    outcome = standing.sync()
    assert (outcome.exit_code, outcome.lists[0].plan, outcome.lists[0].rows) == (0, "full:chain_gap", 40)
    standing.pull()
    assert [bool(standing.hits(number)) for number in (0, 39, 40)] == [True, True, False]
