"""The road of a partner that signs nothing, from its records to what matchers get."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from scripted import IMAGES, MD5, SHA256, VIDEOS, ScriptedPartner, ScriptedSource, record
from syncd.catalog.records import head_name
from syncd.errors import SourceError
from syncd.feed import layout
from syncd.format.derived import FOLDER
from syncd.format.entry_index import write_entry_index
from syncd.format.manifest import Manifest
from syncd.limits import DEFAULT_LIMITS, NO_LIMITS, ListLimits
from syncd.model import ListName
from syncd.operate.backup import backup
from syncd.outcomes import Outcome
from syncd.pipeline.answers import read_answers
from syncd.pipeline.outcome import SyncOutcome
from syncd.pipeline.publisher import Publisher, open_publisher
from syncd.pipeline.sync import sync_source
from syncd.sources.statements import ListKind
from syncd.verify.state import prove_state
from world import Clock, World

HEAD = head_name("ncp", IMAGES)


@dataclass
class StatedWorld:
    """An operator that follows a scripted partner."""

    base: Path
    partner: ScriptedPartner = field(default_factory=ScriptedPartner)
    limits: ListLimits = NO_LIMITS
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.world = World(self.base, self.clock)
        self.state = self.world.state
        self.source = ScriptedSource(self.partner)

    @contextmanager
    def publisher(self) -> Iterator[Publisher]:
        """The operator's state, open."""
        with open_publisher(self.state, limits=lambda _source, _name: self.limits) as publisher:
            yield publisher

    def sync(self, source: ScriptedSource | None = None, *, dry_run: bool = False) -> SyncOutcome:
        """The operator syncs."""
        self.clock.forward(minutes=10)
        with self.publisher() as publisher:
            return sync_source(publisher, source or self.source, self.clock, dry_run=dry_run)

    def content(self, name: ListName = IMAGES) -> dict[tuple[str, bytes, str], str]:
        """What is published of a list."""
        with self.publisher() as publisher:
            stacks = publisher.list_state("ncp", name).head_basis.stacks
        return {
            (algorithm, bytes(digest).ljust(rows.width, b"\0"), entry): rows.labels[code]
            for algorithm, stack in stacks.items()
            for rows in stack.effective()
            for digest, entry, code in zip(rows.digests, rows.entries.to_pylist(), rows.codes, strict=True)
        }

    def manifest(self, name: ListName = IMAGES) -> Manifest:
        """The manifest of a list's head."""
        with self.publisher() as publisher:
            current = publisher.catalog.in_force(head_name("ncp", name))
        assert current
        return current.manifest


@pytest.fixture
def stated(tmp_path: Path) -> StatedWorld:
    """A partner that has stated nothing yet, and an operator without limits."""
    return StatedWorld(tmp_path)


def test_records_reach_the_head(stated: StatedWorld) -> None:
    """A list that nobody signed is published, and its manifest says that it is stated, and by which answers."""
    stated.partner.state(record("m/1", 1, 2), record("m/2", 2, label="B"), record("m/3", 3, algorithm=MD5))
    outcome = stated.sync()
    assert (outcome.outcome, outcome.lists[0].plan) == (Outcome.PUBLISHED, "full:first")
    assert stated.content() == stated.partner.content()
    made = stated.manifest()
    assert made.origin
    assert (made.origin.kind, made.origin.serial, made.media) == ("stated", 1, "image")
    assert made.origin.answers
    assert (stated.state.source("ncp").root / layout.answers_path(IMAGES, made.origin.answers)).exists()


def test_a_record_replaces_its_predecessor_whole(stated: StatedWorld) -> None:
    """What an update no longer carries is removed; a digest stays while another entry supports it."""
    stated.partner.state(record("m/1", 1, 2, 3), record("m/2", 2))
    stated.sync()
    stated.partner.state(record("m/1", 3, 4, label="B"), record("m/9"))
    outcome = stated.sync()
    assert outcome.lists[0].plan == "deltas"
    assert stated.content() == stated.partner.content()
    assert {entry for _, digest, entry in stated.content() if digest[3] == 2} == {"m/2"}
    stated.partner.state(record("m/1"), record("m/2"), record("m/2", 7))
    stated.sync()
    assert stated.content() == stated.partner.content() == {("sha256", b"\0\0\0\7" * 8, "m/2"): "A"}
    assert stated.partner.asked == [None, {"at": 2}, {"at": 4}]


def test_nothing_new_moves_checkpoint_and_time(stated: StatedWorld) -> None:
    """A poll that changes nothing is still a verification, and the next one goes on from its end."""
    stated.partner.state(record("m/1", 1))
    stated.sync()
    first = stated.manifest()
    stated.partner.state(record("m/1", 1))
    outcome = stated.sync()
    assert outcome.outcome is Outcome.UP_TO_DATE
    assert stated.manifest() == first
    with stated.publisher() as publisher:
        origin = publisher.catalog.origin("ncp", IMAGES)
    assert origin
    assert origin.position
    assert (origin.position.checkpoint, origin.position.poll) == ({"at": 2}, 2)
    assert origin.verified_at == stated.clock()


def test_a_poll_that_is_cut_changes_nothing(stated: StatedWorld) -> None:
    """Nothing of a poll that was not read to its end is used; the next one starts from the same checkpoint."""
    stated.partner.state(record("m/1", 1))
    stated.sync()
    stated.partner.state(*(record(f"m/{n}", n) for n in range(2, 9)))
    stated.partner.cut_after = 5
    outcome = stated.sync()
    assert isinstance(outcome.error, SourceError)
    assert set(stated.content()) == {("sha256", b"\0\0\0\1" * 8, "m/1")}
    with stated.publisher() as publisher:
        origin = publisher.catalog.origin("ncp", IMAGES)
    assert origin
    assert origin.verified_at < stated.clock()
    stated.sync()
    assert stated.content() == stated.partner.content()
    assert stated.partner.asked == [None, {"at": 1}, {"at": 1}]


def test_a_stale_checkpoint_replaces_the_list(stated: StatedWorld) -> None:
    """If the partner has forgotten deletions, what it does not state any more is removed: no ghosts."""
    stated.partner.state(record("m/1", 1), record("m/2", 2))
    stated.sync()
    stated.partner.log[:] = [record("m/2", 2), record("m/3", 3)]
    stated.partner.forgotten = 100
    outcome = stated.sync()
    assert outcome.lists[0].plan == "full:restated"
    assert stated.content() == stated.partner.content()


def test_another_shape_reads_everything_again(stated: StatedWorld) -> None:
    """A filter that changed decides about rows that were stated long ago, so the checkpoint is not used."""
    stated.partner.state(record("m/1", 1), record("m/2", 2))
    stated.sync()
    stated.partner.log[:] = [record("m/2", 2)]
    narrow = replace(stated.source, shape={"include": ["m/2"]})
    outcome = stated.sync(narrow)
    assert outcome.lists[0].plan == "full:reshaped"
    assert stated.content() == stated.partner.content()
    stated.sync(narrow)
    assert stated.partner.asked == [None, None, {"at": 1}]


def test_two_lists_of_one_source(stated: StatedWorld) -> None:
    """Lists that are polled together keep their own checkpoints; one without entries publishes nothing, and costs no
    poll from the start."""
    both = replace(stated.source, kinds={IMAGES: ListKind("image"), VIDEOS: ListKind("video")})
    stated.partner.state(record("m/1", 1))
    stated.sync(both)
    stated.partner.state(record("m/2", 2))
    assert [one.list for one in stated.sync(both).lists] == [HEAD]
    stated.partner.state(record("m/v", 3, name=VIDEOS, algorithm=MD5))
    outcome = stated.sync(both)
    assert {one.list: one.outcome for one in outcome.lists} == {
        HEAD: Outcome.UP_TO_DATE,
        "ncp.videos": Outcome.PUBLISHED,
    }
    assert stated.content(VIDEOS) == stated.partner.content(VIDEOS)
    assert stated.manifest(VIDEOS).media == "video"
    stated.partner.state(record("m/v", name=VIDEOS), record("m/w", 4, name=VIDEOS))
    stated.sync(both)
    assert stated.content(VIDEOS) == stated.partner.content(VIDEOS)
    assert stated.partner.asked == [None, {"at": 1}, {"at": 2}, {"at": 3}]


def test_a_first_version_that_waits_is_not_read_again(stated: StatedWorld) -> None:
    """While a first version waits for an operator, polls go on from where it was read to."""
    stated.limits = DEFAULT_LIMITS.model_copy(update={"max_rows": 1})
    stated.partner.state(record("m/1", 1), record("m/2", 2))
    assert stated.sync().outcome is Outcome.HELD
    assert stated.sync().outcome is Outcome.HELD
    stated.partner.state(record("m/1", 1))
    assert stated.sync().outcome is Outcome.HELD
    stated.partner.state(record("m/1"), record("m/3", 3), record("m/4", 4))
    assert stated.sync().outcome is Outcome.HELD
    stated.partner.state(record("m/3"), record("m/4"))
    assert stated.sync().outcome is Outcome.PUBLISHED
    assert stated.content() == stated.partner.content()
    assert stated.partner.asked == [None, {"at": 2}, {"at": 2}, {"at": 3}, {"at": 6}]
    with stated.publisher() as publisher:
        assert not publisher.catalog.holds()


def test_answers_are_kept_as_evidence_for_a_while(stated: StatedWorld) -> None:
    """The raw answers behind each change are kept for ``evidence_retention``; those of the present state stay."""
    stated.partner.state(record("m/1", 1))
    stated.sync()
    folder = stated.state.source("ncp").root / "v1" / IMAGES / "answers"
    first = next(folder.iterdir())
    assert list(read_answers(first)) == [b"['m/1']"]
    assert first.stat().st_mode & 0o077 == 0
    stated.sync()
    assert list(folder.iterdir()) == [first]  # nothing new, nothing kept
    stated.partner.state(record("m/2", 2))
    stated.sync()
    assert len(list(folder.iterdir())) == 2
    with stated.publisher() as publisher:
        stated.clock.forward(days=91)
        publisher.collector.everything(stated.clock())
        stated.clock.forward(days=2)
        publisher.collector.everything(stated.clock())
    assert len(list(folder.iterdir())) == 1
    assert not first.exists()
    assert prove_state(stated.state, None, stated.clock()).faults == ()
    left = next(folder.iterdir())
    left.write_bytes(b"altered")
    assert stated.manifest().origin
    (fault,) = prove_state(stated.state, None, stated.clock()).faults
    assert "was altered" in str(fault.error)


def test_the_backup_has_the_answers(stated: StatedWorld, tmp_path: Path) -> None:
    """Evidence is part of a backup, and private in it."""
    stated.partner.state(record("m/1", 1))
    stated.sync()
    with stated.publisher() as publisher:
        backup(publisher, tmp_path / "backup.tar", stated.clock())
    with tarfile.open(tmp_path / "backup.tar") as tar:
        (member,) = (one for one in tar if one.name.endswith(".zst"))
    assert member.name.startswith("sources/ncp/v1/images/answers/")
    assert member.mode == 0o600


def test_indexes_of_old_bases_are_removed(stated: StatedWorld) -> None:
    """An index lies beside the segment it was made from, and goes with it."""
    stated.partner.state(record("m/1", 1), record("m/2", 2))
    stated.sync()
    root = stated.state.source("ncp").root
    with stated.publisher() as publisher:
        (base,) = publisher.list_state("ncp", IMAGES).head_basis.stacks[SHA256].segments
        write_entry_index(base, root)
        (root / FOLDER / f"{'0' * 64}.entries").write_bytes(b"old")
        assert len(prove_state(stated.state, None, stated.clock()).faults) == 1
        publisher.collector.everything(stated.clock())
    assert [path.name for path in (root / FOLDER).iterdir()] == [f"{base.ref.sha256}.entries"]
    assert prove_state(stated.state, None, stated.clock()).faults == ()
