"""The publication core: one act for whatever becomes visible, computed from the state that it finds."""

import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from syncd.catalog.catalog import Catalog
from syncd.errors import LostRaceError, StoreError
from syncd.feed import layout
from syncd.feed.signed import load_repository
from syncd.format.writer import fold as fold_segments
from syncd.model import ListName
from syncd.outcomes import Outcome
from syncd.pipeline import publisher as publisher_module
from syncd.pipeline.settle import update
from syncd.publish import author, publication
from syncd.publish.change import ListChange
from syncd.publish.journal import Journal
from syncd.publish.ledger import Commit
from syncd.publish.publication import Proposal
from syncd.store.folder import FolderStore
from world import HEAD, IMAGES, START, World, row, rows


def test_a_sync_that_lost_the_race_composes_again_and_fetches_nothing_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process published first: the same update is judged and composed from the new state."""
    world.publish(full=rows(0, 30))
    world.sync()
    world.publish(add=[row(99)])
    real, tries = Catalog.commit, []

    def commit(self: Catalog, asked: Any) -> int:
        tries.append(asked.kind)
        if tries == ["publish"]:
            for path in world.partner.path("v1").rglob("*.arrow"):
                path.unlink()  # what was fetched must do
            raise LostRaceError("another process published first")
        return real(self, asked)

    monkeypatch.setattr(Catalog, "commit", commit)
    outcome = world.sync()
    assert (outcome.outcome, outcome.lists[0].version) == (Outcome.PUBLISHED, 2)
    assert tries[:2] == ["publish", "publish"]
    world.pull()
    assert len(world.hits(99)) == 1


def test_a_delta_takes_the_steps_of_the_documents_and_the_core_calls_nothing_back(world: World) -> None:
    """docs/architecture.md names them in order; the core is given a finished proposal."""
    world.publish(full=rows(0, 30))
    world.sync()
    world.publish(add=[row(99)])
    steps = _documented_steps()
    entered: list[tuple[str, str]] = []
    inside: list[str] = []

    def trace(frame: FrameType, event: str, _: object) -> None:
        place = frame.f_code.co_filename.partition("/syncd/")[2], frame.f_code.co_name
        if event == "call" and place in steps and place not in entered:
            entered.append(place)
        if event in {"call", "return"} and place == ("publish/publication.py", "publish"):
            inside[:] = ["publish"] if event == "call" else []
        assert not (inside and place[0].startswith("pipeline/")), f"the core called {place} back"

    sys.setprofile(trace)
    try:
        outcome = world.sync()
    finally:
        sys.setprofile(None)
    assert outcome.outcome is Outcome.PUBLISHED
    assert entered == steps


def _documented_steps() -> list[tuple[str, str]]:
    """(module below syncd/, function) of each step of a delta."""
    text = Path("docs/architecture.md").read_text().partition("## A delta followed by hand")[2].partition("## ")[0]
    text = " ".join(text.partition("1. ")[2].partition("If the commit finds")[0].split())
    steps = []
    for functions, module in re.findall(r"((?:`\w+`(?: and )?)+)[^`]*? in `syncd/([\w/]+\.py)`", text):
        steps += [(module, function) for function in re.findall(r"`(\w+)`", functions)]
    return steps


def test_what_was_judged_before_another_commit_is_judged_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that shares the catalog does not have our lock: its commit while we judge is noticed."""
    world.publish(full=rows(0, 30))
    world.sync()
    world.publish(add=[row(99)])
    real, judged = update.settle_update, []

    def settle(*given: Any) -> Any:
        judged.append(given[0].head.version)
        settled = real(*given)
        if len(judged) == 1:
            with Catalog.open(world.state.catalog) as other:
                other.commit(Commit("resign", (), world.clock()))
        return settled

    monkeypatch.setattr(publisher_module, "settle_update", settle)
    outcome = world.sync()
    assert (outcome.outcome, outcome.lists[0].version) == (Outcome.PUBLISHED, 2)
    assert judged == [1, 1]


def test_who_always_loses_the_race_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused in the end, and what is published stays."""
    world.publish(full=rows(0, 3))
    world.sync()
    world.publish(add=[row(99)])

    def commit(self: Catalog, asked: Any) -> int:
        del self, asked
        raise LostRaceError("another process published iwf.images in the meantime")

    monkeypatch.setattr(Catalog, "commit", commit)
    outcome = world.sync()
    assert (outcome.outcome, outcome.lists[0].version) == (Outcome.REFUSED, 1)


def test_others_publish_while_a_stack_is_folded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folding holds no lock: a version that came meanwhile stays on top of what was folded."""
    world.publish(full=rows(0, 30))
    for number in range(100, 106):
        world.publish(add=[row(number)])
    real = fold_segments
    meanwhile: list[int] = []

    def fold(*given: Any) -> Any:
        if not meanwhile:
            meanwhile.append(1)
            meanwhile.append(world.publish(add=[row(200)]).version)
        return real(*given)

    monkeypatch.setattr("syncd.publish.compact.fold", fold)
    manifest = author.compact(world.partner, IMAGES, world.partner_signers(), world.clock(), everything=True)
    assert meanwhile == [1, 8]
    assert manifest is not None
    assert (manifest.version, [ref.kind for ref in manifest.stack]) == (9, ["base", "delta"])
    world.sync()
    world.pull()
    assert [len(world.hits(number)) for number in (5, 105, 200)] == [1, 1, 1]


def test_a_fold_whose_run_is_gone_is_not_published(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that fold the same run: the second finds nothing to do."""
    world.publish(full=rows(0, 30))
    world.publish(add=[row(99)])
    real = fold_segments
    nested: list[Any] = []

    def fold(*given: Any) -> Any:
        if not nested:
            nested.append(None)
            signers, now = world.partner_signers(), world.clock()
            nested.append(author.compact(world.partner, IMAGES, signers, now, everything=True))
        return real(*given)

    monkeypatch.setattr("syncd.publish.compact.fold", fold)
    assert author.compact(world.partner, IMAGES, world.partner_signers(), world.clock(), everything=True) is None
    assert nested[1].version == 3


def test_one_publication_moves_several_lists(world: World) -> None:
    """They are one signed state: one timestamp, one version a list."""
    videos = ListName("videos")
    world.publish(full=rows(0, 3))
    world.publish(full=rows(5, 9), name=videos)
    before = load_repository(world.partner)
    journal = Journal(world.partner)
    press = author.publisher(world.partner, world.partner_signers())
    changes = []
    for name in (IMAGES, videos):
        current = journal.current(before, name)
        assert current
        manifest = current.manifest
        changes.append(ListChange(name, (), {}, manifest.end_state, manifest.stack))
    published = press.publish_fixed("test", Proposal("publish", tuple(changes)), world.clock())
    assert [(one.list, one.version) for one in published] == [(IMAGES, 2), (videos, 2)]
    assert load_repository(world.partner).versions["timestamp"] == before.versions["timestamp"] + 1


def test_a_publication_that_died_is_installed_by_whoever_is_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """For partner and operator alike: a signing, a compaction or a backup finishes it with the very bytes."""
    world.publish(full=rows(0, 3))
    world.sync()
    world.publish(add=[row(99)])

    def die(*_: object) -> None:
        raise StoreError("power cut")

    with monkeypatch.context() as around:
        around.setattr(publication, "install", die)
        assert world.sync().exit_code == 1
    with world.publisher() as publisher:  # opening the state has installed it
        assert publisher.catalog.pending() == ()
        head = publisher.catalog.head(HEAD)
        assert head is not None
        target = load_repository(world.state.feed).targets()[layout.target_name(HEAD)]
        assert (target.version, target.sha256) == (head.version, head.manifest_sha256) == (2, head.manifest_sha256)


def test_a_store_replaces_only_what_it_was_told_of(world: World) -> None:
    """The timestamp of another process is not overwritten unseen."""
    store = FolderStore(world.base / "store")
    store.replace("metadata/timestamp.json", b"one", None)
    held = store.current("metadata/timestamp.json", 100)
    assert held is not None
    store.replace("metadata/timestamp.json", b"two", held.tag)
    with pytest.raises(LostRaceError):
        store.replace("metadata/timestamp.json", b"three", held.tag)
    with pytest.raises(LostRaceError):
        store.replace("metadata/timestamp.json", b"three", None)
    assert store.read("metadata/timestamp.json", 9) == b"two"
    assert store.current("metadata/none.json", 9) is None


def test_only_a_root_may_follow_the_timestamp() -> None:
    """What a new timestamp names is there before it; a root that ends a rotation is installed after it."""
    files = [(f"metadata/{name}", b"") for name in ("2.root.json", "2.snapshot.json", "timestamp.json", "3.root.json")]
    assert Commit("metadata", tuple(files), START).files[-1][0] == "metadata/3.root.json"
    with pytest.raises(ValueError, match="only a root may be installed after the timestamp"):
        Commit("metadata", (*files, ("metadata/3.snapshot.json", b"")), START)
