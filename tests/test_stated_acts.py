"""Operators' acts on lists that nobody signed: they are as on any other."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from scripted import IMAGES, ScriptedSource, fingerprint, record
from syncd.catalog.decisions import HoldState
from syncd.errors import StoreError
from syncd.fetch import Meter
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest, ManifestRef
from syncd.limits import DEFAULT_LIMITS
from syncd.model import Counts, Digest
from syncd.operate import rollback as operate
from syncd.operate import suppressions
from syncd.operate.explain import explain
from syncd.operate.holds import end_hold
from syncd.operate.suppression_order import Correction, SuppressionOrder
from syncd.outcomes import Lane, Outcome
from syncd.pipeline.preparation import Prepared, Preparing, Progress, Request, VerifiedSource
from syncd.pipeline.prepare import prepare
from syncd.pipeline.sync import sync_source
from syncd.pipeline.values import Candidate, Staged
from syncd.sources.feed_memory import FeedMemory
from syncd.verify.state import prove_state
from test_stated import HEAD, StatedWorld
from world import IMAGES as SIGNED
from world import rows

COUNT = 100
FEW = DEFAULT_LIMITS.model_copy(update={"max_added_rows": 10, "max_added_percent": 5.0, "max_removed_rows": 5})


@pytest.fixture
def stated(tmp_path: Path) -> StatedWorld:
    """A published list of entries 1 to 100, and the usual limits."""
    world = StatedWorld(tmp_path)
    world.partner.page = 1000
    world.partner.state(*(record(f"m/{number}", number) for number in range(1, COUNT + 1)))
    assert world.sync().outcome is Outcome.PUBLISHED
    world.limits = FEW
    return world


def entries(stated: StatedWorld) -> set[str]:
    """The entries of the published list."""
    return {entry for _, _, entry in stated.content()}


def end(stated: StatedWorld, *, release: bool) -> None:
    """Release or discard the only open hold."""
    with stated.publisher() as publisher:
        (hold,) = (one for one in publisher.catalog.holds() if one.state is HoldState.OPEN)
        end_hold(publisher, hold.id, release=release, actor="alice", reason="seen", now=stated.clock())


def sound(stated: StatedWorld) -> None:
    """The state can be proved to the last byte."""
    assert prove_state(stated.state, None, stated.clock()).faults == ()


@pytest.mark.parametrize("release", [True, False])
def test_a_held_lane(stated: StatedWorld, release: bool) -> None:
    """A mass removal waits while the origin and its checkpoint go on; additions pass; then an operator decides."""
    stated.partner.state(*(record(f"m/{number}") for number in range(1, 51)), record("m/new", 200))
    outcome = stated.sync()
    assert outcome.outcome is Outcome.HELD
    (hold,) = outcome.lists[0].holds
    assert (hold.lane, hold.rows) == (Lane.REMOVALS, 50)
    assert entries(stated) == {f"m/{number}" for number in range(1, COUNT + 1)} | {"m/new"}
    assert stated.sync().outcome is Outcome.HELD
    assert stated.partner.asked[-1] == {"at": 151}
    stated.partner.state(record("m/7", 7))
    stated.sync()
    end(stated, release=release)
    assert len(entries(stated)) == (52 if release else 101)
    stated.partner.state(record("m/99"))
    assert stated.sync().outcome is Outcome.PUBLISHED
    assert "m/99" not in entries(stated)
    sound(stated)


def test_a_first_version_is_released(tmp_path: Path) -> None:
    """Whole, with the deltas that came while it waited; its age is that of the last poll, not of the release."""
    stated = StatedWorld(tmp_path, limits=DEFAULT_LIMITS.model_copy(update={"max_rows": 1}))
    stated.partner.state(record("m/1", 1), record("m/2", 2))
    stated.sync()
    stated.partner.state(record("m/2"), record("m/3", 3, 4))
    stated.sync()
    stated.sync()
    polled = stated.clock()
    stated.clock.forward(hours=5)
    end(stated, release=True)
    assert stated.content() == stated.partner.content()
    with stated.publisher() as publisher:
        origin = publisher.catalog.origin("ncp", IMAGES)
    assert origin
    assert origin.verified_at == polled
    stated.partner.state(record("m/1"))
    stated.sync()
    assert stated.content() == stated.partner.content()
    assert stated.partner.asked == [None, {"at": 2}, {"at": 4}, {"at": 4}]
    sound(stated)


def test_a_discarded_first_version_stays_out_until_it_changes(tmp_path: Path) -> None:
    """The same content is not held again, and not read again either."""
    stated = StatedWorld(tmp_path, limits=DEFAULT_LIMITS.model_copy(update={"max_rows": 1}))
    stated.partner.state(record("m/1", 1), record("m/2", 2))
    stated.sync()
    end(stated, release=False)
    assert stated.sync().outcome is Outcome.UP_TO_DATE
    stated.partner.state(record("m/2"))
    assert stated.sync().outcome is Outcome.PUBLISHED
    assert stated.content() == stated.partner.content()
    assert stated.partner.asked == [None, {"at": 2}, {"at": 2}]


def test_a_suppression_wins_over_what_the_partner_states(stated: StatedWorld) -> None:
    """Also when the entry is stated again, and when the list is read from the beginning."""
    digest = Digest(*fingerprint(3))
    with stated.publisher() as publisher:
        order = SuppressionOrder((Correction(digest, None),), "not ours")
        suppressions.suppress(publisher, order, actor="alice", now=stated.clock(), second_operator=True)
    assert "m/3" not in entries(stated)
    stated.partner.state(record("m/3", 3, label="B"), record("m/4"))
    stated.sync()
    assert not entries(stated) & {"m/3", "m/4"}
    stated.partner.forget()
    stated.partner.state(record("m/5"))
    stated.partner.forget()
    stated.sync()
    assert not entries(stated) & {"m/3", "m/4", "m/5"}
    sound(stated)


def test_rolled_back_and_followed_again(stated: StatedWorld) -> None:
    """While it is pinned only removals flow; then everything the partner has stated since."""
    stated.partner.state(record("m/new", 200))
    stated.sync()
    with stated.publisher() as publisher:
        operate.rollback(publisher, HEAD, 1, reason="bad", actor="alice", now=stated.clock())
    assert "m/new" not in entries(stated)
    stated.partner.state(record("m/newer", 201), record("m/1"))
    stated.sync()
    assert not entries(stated) & {"m/new", "m/newer", "m/1"}
    with stated.publisher() as publisher:
        operate.unpin(publisher, HEAD, reason="mended", actor="alice", now=stated.clock())
    assert stated.content() == stated.partner.content()
    sound(stated)


def test_it_is_explained(stated: StatedWorld) -> None:
    """Entry, version and serial of each change; nobody signed it, so there is no key."""
    stated.partner.state(record("m/3"))
    stated.sync()
    stated.partner.state(record("m/3", 3, label="B"))
    stated.sync()
    with stated.publisher() as publisher:
        publisher.keep_history(stated.clock(), timedelta(days=700))
        found = explain(stated.state, publisher.catalog, Digest(*fingerprint(3)), stated.clock())
    events = [event for one in found.lists for entry in one.entries for event in entry.events]
    assert [(str(event.change), event.label, event.version, event.serial) for event in events] == [
        ("added", "A", 1, 1),
        ("removed", "A", 2, 2),
        ("added", "B", 3, 3),
    ]


def test_a_dry_run_moves_nothing(stated: StatedWorld) -> None:
    """It reads and judges, and the next sync asks for the same again."""
    stated.partner.state(record("m/new", 200))
    outcome = stated.sync(dry_run=True)
    assert (outcome.outcome, outcome.lists[0].rows) == (Outcome.STAGED, COUNT + 1)
    assert "m/new" not in entries(stated)
    stated.partner.state(*(record(f"m/{number}") for number in range(1, 51)))
    assert stated.sync(dry_run=True).outcome is Outcome.HELD
    assert stated.sync().outcome is Outcome.HELD
    assert stated.partner.asked == [None, *[{"at": COUNT}] * 3]


def test_lost_files_are_read_again(stated: StatedWorld) -> None:
    """Without its own rows, a list is read from the beginning and compared with what is published."""
    stated.partner.state(*(record(f"m/{number}") for number in range(1, 51)))
    stated.sync()
    with stated.publisher() as publisher:
        origin = publisher.catalog.origin("ncp", IMAGES)
    assert origin
    for ref in origin.owed:
        (stated.state.source("ncp").root / f"v1/{IMAGES}/segments/{ref.sha256}.arrow").unlink()
    outcome = stated.sync()
    assert (outcome.outcome, outcome.lists[0].plan) == (Outcome.HELD, "full:local_loss")
    assert stated.partner.asked[-1] is None
    assert len(entries(stated)) == COUNT
    sound(stated)


def test_a_worker_cannot_state_what_a_partner_must_sign(stated: StatedWorld) -> None:
    """A compromised worker of a signed feed that hands over unsigned rows is refused."""
    world = stated.world
    world.publish(full=rows(0, 3), name=SIGNED)
    pretended = ScriptedSource(stated.partner, name="iwf")

    def lying(request: Request, progress: Progress, meter: Meter) -> Preparing:
        for step in prepare(replace(request, source=pretended, memory={}), progress, meter):
            yield VerifiedSource(FeedMemory().as_json()) if isinstance(step, VerifiedSource) else step

    with stated.publisher() as publisher:
        outcome = sync_source(publisher, world.source(), stated.clock, prepared_by=lying)
    assert isinstance(outcome.lists[0].error, StoreError)
    assert "as another kind of source would" in outcome.lists[0].error.message
    assert outcome.lists[0].version is None


def stating(**changed: object) -> Callable[[Candidate], Candidate]:
    """A lie in the manifest, whose hash fits."""

    def lie(candidate: Candidate) -> Candidate:
        made: Manifest = candidate.manifest.model_copy(update=changed)
        return replace(candidate, manifest=made, sha256=hashlib.sha256(manifests.encode(made)).hexdigest())

    return lie


def one_more_row(candidate: Candidate) -> Candidate:
    """A lie in the end state, in manifest and candidate alike."""
    ((algorithm, state),) = candidate.end_state.items()
    states = {algorithm: state.model_copy(update={"rows": state.rows + 1})}
    counts = candidate.counts if candidate.delta else {algorithm: Counts(added=state.rows + 1)}
    return replace(stating(end_state=states)(candidate), end_state=states, counts=counts)


LIES: dict[str, Callable[[Candidate], Candidate]] = {
    "serial": stating(version=7),
    "previous": stating(previous=ManifestRef(version=1, sha256="0" * 64)),
    "list": stating(list="videos"),
    "counts": lambda made: replace(made, counts={algorithm: Counts(added=9) for algorithm in made.counts}),
    "end state": one_more_row,
    "end state of the manifest": lambda made: stating(end_state=one_more_row(made).end_state)(made),
    "labels": lambda made: replace(made, labels={algorithm: {} for algorithm in made.labels}),
    "stack": lambda made: stating(stack=made.manifest.stack[:-1])(made),
    "fork": lambda made: replace(made, forked=True),
}


@pytest.mark.parametrize("first", [True, False], ids=["first version", "update"])
@pytest.mark.parametrize("lie", LIES)
def test_what_a_worker_states_is_counted_again(tmp_path: Path, lie: str, first: bool) -> None:
    """A serial, a chain or a count that does not follow from the rows is refused, and the list stays as it was."""
    stated = StatedWorld(tmp_path)
    stated.partner.state(record("m/1", 1), record("m/2", 2))
    if not first:
        stated.sync()
        stated.partner.state(record("m/3", 3))
        before = stated.content()

    def lying(request: Request, progress: Progress, meter: Meter) -> Preparing:
        for step in prepare(request, progress, meter):
            if isinstance(step, Prepared):
                assert isinstance(step.result, Staged)
                yield replace(step, result=replace(step.result, candidate=LIES[lie](step.result.candidate)))
            else:
                yield step

    stated.clock.forward(minutes=10)
    with stated.publisher() as publisher:
        outcome = sync_source(publisher, stated.source, stated.clock, prepared_by=lying)
        published = publisher.catalog.head(HEAD)
    assert isinstance(outcome.lists[0].error, StoreError)
    assert "counting it again gives another result" in outcome.lists[0].error.message
    assert published is None if first else stated.content() == before
