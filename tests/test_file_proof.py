"""The daily proof of an operator's files: what is published, what is not, and the private history."""

from pathlib import Path

import pytest

from command_line import operate
from runbook import Cure, what_to_do
from standing import prove_feed
from syncd import events
from syncd.cli.probe import ProbeLevel, _of_files
from syncd.errors import StoreError
from syncd.event import Event
from syncd.feed.proof_record import ProofRecord, RecordInMemory
from syncd.history.files import HistoryFolder
from syncd.history.keep import keep
from syncd.history.reproof import HistoryProof
from syncd.report import overview
from syncd.report.judged import Overview
from syncd.report.proof import read_proof
from syncd.report.status import status_document
from syncd.report.status_types import StatusDocument
from syncd.service.file_proof import FileProof
from syncd.service.metrics.state import GAUGES, StateSample
from syncd.service.web.dashboard.tasks import tasks
from syncd.verify.state import prove_state
from test_reproof import damage, segments
from world import HEAD, World, row


def damage_everywhere(world: World, number: int) -> Path:
    """Damage the file of head, origin and history: one file with three names, if a file system has hard links."""
    (published,), (origin,) = segments(world.state.feed.root), segments(world.state.source("iwf").root)
    origin.unlink()
    origin.hardlink_to(published)
    for link in HistoryFolder(world.state.history).segments(HEAD).values():
        link.unlink()
        link.hardlink_to(published)
    damage(published, number)
    return published


class Prover:
    """The proof of the published files, run by hand, and its reports."""

    def __init__(self, world: World) -> None:
        self.events: list[Event] = []
        self.fetch: list[str | None] = []
        self._world = world

    def look(self) -> None:
        with self._world.publisher() as publisher:
            proof = FileProof(
                publisher.folder, publisher.catalog, self._world.clock, self.events.append, self.fetch.append
            )
            proof._look()

    def proved_at(self) -> object:
        with self._world.publisher() as publisher:
            return read_proof(publisher.folder, publisher.catalog.heads()).proved_at


def look(world: World) -> Overview:
    with world.publisher() as publisher:
        return overview.read(world.state, publisher.catalog, {"iwf": 600.0}, world.clock())


def status_of(world: World) -> StatusDocument:
    return status_document(look(world))


def samples(seen: Overview, name: str) -> list[tuple[tuple[str, ...], float]]:
    return [sample for gauge in GAUGES if gauge.name == name for sample in gauge.samples(StateSample(seen))]


@pytest.fixture
def prover(standing: World) -> Prover:
    """The files are watched from now on."""
    found = Prover(standing)
    found.look()
    return found


def test_the_daemon_proves_what_it_publishes_once_a_day(standing: World, prover: Prover) -> None:
    """The first proof begins a day after the files were first seen."""
    prover.look()
    assert prover.proved_at() is None
    standing.clock.forward(hours=25)
    prover.look()
    assert (prover.proved_at(), prover.events, prover.fetch) == (standing.clock(), [], [])


def test_a_segment_damaged_everywhere_is_moved_aside_and_fetched_from_the_partner(
    standing: World, prover: Prover
) -> None:
    """Head and origin share one file: its only sound copy is the partner's, and the next sync brings it."""
    path = damage_everywhere(standing, 4)
    standing.clock.forward(hours=25)
    prover.look()
    (told,) = prover.events
    assert isinstance(told, events.StateNotProved)
    assert (told.list, told.message) == (
        HEAD,
        f"{HEAD}: segment {path.name}: its content no longer matches the SHA-256 in its name",
    )
    assert prover.fetch == ["iwf"]
    assert not path.exists()
    assert standing.sync().exit_code == 0
    prove_feed(standing)
    with standing.publisher() as publisher:
        assert read_proof(publisher.folder, publisher.catalog.heads()).faults == ()


def test_a_segment_damaged_in_one_place_is_replaced_by_the_other(standing: World, prover: Prover) -> None:
    """On a file system without hard links both are copies; nothing has to be fetched."""
    (path,) = segments(standing.state.feed.root)
    content = path.read_bytes()
    damage(path, 4)
    standing.clock.forward(hours=25)
    prover.look()
    assert prover.fetch == [None]
    assert path.read_bytes() == content
    prove_feed(standing)


def test_a_damaged_origin_is_found_although_it_is_not_published(standing: World, prover: Prover) -> None:
    """The next delta would be applied to it."""
    (path,) = segments(standing.state.source("iwf").root)
    content = path.read_bytes()
    damage(path, 4)
    standing.clock.forward(hours=25)
    prover.look()
    assert (path.read_bytes(), prover.fetch) == (content, [None])


def test_damaged_files_are_removed_once_everything_is_sound(standing: World, prover: Prover) -> None:
    """Until then they are kept as evidence, in a folder that is not served."""
    damage_everywhere(standing, 4)
    standing.clock.forward(hours=25)
    prover.look()
    (moved,) = (standing.state.feed.work / "damaged").iterdir()
    standing.sync()
    standing.clock.forward(hours=25)
    prover.look()
    assert not moved.exists()


def test_the_status_of_the_operator_says_when_the_files_were_proved(standing: World, prover: Prover) -> None:
    """It also names damage until it is repaired."""
    assert status_of(standing).files.proved_at is None
    damage_everywhere(standing, 4)
    standing.clock.forward(hours=25)
    prover.look()
    found = status_of(standing).files
    (fault,) = found.faults
    assert (found.proved_at, fault.list) == (standing.clock(), HEAD)
    assert fault.to_do.startswith("it was damaged on this disk")
    assert standing.sync().exit_code == 0
    assert status_of(standing).files.faults == ()


def test_a_pass_that_the_disk_stops_is_late_in_every_view(
    standing: World, prover: Prover, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the third day on, judged once: status, monitoring, dashboard and metrics say the same."""
    cure = Cure(what_to_do("SyncdProofLate"))

    def stops(*_: object) -> None:
        raise StoreError("cannot read a file: input/output error")

    standing.clock.forward(hours=25)
    with monkeypatch.context() as patched:
        patched.setattr("syncd.service.file_proof.read_state", stops)
        prover.look()
    (told,) = prover.events
    assert isinstance(told, events.InternalError)
    assert (told.kind, told.where) == ("StoreError", "file proof")
    standing.clock.forward(hours=47)
    assert late_in(standing) == {None}
    standing.clock.forward(hours=1, seconds=1)
    why = "the files of the state were never all proved in 3 days, and the pass that began 2 days ago has not ended"
    assert late_in(standing) == {why}
    operate(standing, monkeypatch)
    assert cure.run("syncd verify").code == 0
    prover.look()
    cure.stand_for("systemctl restart syncd")
    cure.end()
    assert late_in(standing) == {None}
    assert status_of(standing).files.running_since is None
    standing.clock.forward(days=3, seconds=1)
    assert late_in(standing) == {"the files of the state were last all proved 3 days ago"}


def test_a_state_that_no_daemon_watches_is_notlate_in(standing: World) -> None:
    """Whoever syncs by a timer has no daily pass, and proves with `syncd verify`."""
    standing.clock.forward(days=30)
    assert late_in(standing) == {None}


def late_in(world: World) -> set[str | None]:
    """Why the pass is late, in the words of each view; one if they agree."""
    seen = look(world)
    document = status_document(seen).model_dump(mode="json")
    probed = [fault.text for fault in _of_files(document)]
    pages = [one.why for one in tasks(seen) if "Proof of files" in str(one.subject)]
    ((_, late),) = samples(seen, "syncd_files_proof_late")
    act = document["files"]["act"]
    assert (len(probed), len(pages), late) == (bool(act), bool(act), bool(act))
    return {text.partition(":")[0] for text in [act, *probed, *pages]} if act else {None}


# --- the private history


@pytest.fixture
def kept(standing: World) -> Path:
    """The file of a month that is over."""
    for number in (31, 32):
        standing.publish(add=[row(number)])
        assert standing.sync().exit_code == 0
    standing.clock.forward(days=31)
    with standing.publisher() as publisher:
        keep(publisher.folder, publisher.catalog, standing.clock())
    (month,) = HistoryFolder(standing.state.history).all_months(HEAD)
    return month.path


def test_a_damaged_file_of_the_history_is_reported_with_what_is_lost(
    standing: World, kept: Path, prover: Prover
) -> None:
    """It cannot be fetched again; the lists are served and nothing is synced for it."""
    damage(kept, 31)
    standing.clock.forward(hours=25)
    prover.look()
    message = (
        f"the history file {kept} is damaged, which holds the sha256 changes of {HEAD} in 2026-01, versions 2 to 3"
    )
    (told,) = prover.events
    assert isinstance(told, events.HistoryDamaged)
    assert (told.list, told.message, prover.fetch) == (HEAD, message, [])
    assert "restore this file from a backup" in told.to_do
    found = status_of(standing).files
    assert (found.proved_at, found.faults, [fault.message for fault in found.history]) == (
        standing.clock(),
        (),
        [message],
    )


def test_a_damaged_file_of_the_history_is_a_warning_in_every_view(standing: World, kept: Path, prover: Prover) -> None:
    """No more than that: what is served does not depend on it."""
    damage(kept, 31)
    standing.clock.forward(hours=25)
    prover.look()
    seen = look(standing)
    (probed,) = _of_files(status_document(seen).model_dump(mode="json"))
    assert (probed[0], kept.name in probed[1]) == (ProbeLevel.WARNING, True)
    assert [one.urgent for one in tasks(seen) if kept.name in one.why] == [False]
    assert samples(seen, "syncd_history_files_damaged") == [((HEAD,), 1)]


def test_a_file_of_the_history_that_was_replaced_or_removed_is_no_longer_reported(
    standing: World, kept: Path, prover: Prover
) -> None:
    """At once, without waiting for the next pass."""
    content = kept.read_bytes()
    damage(kept, 31)
    standing.clock.forward(hours=25)
    prover.look()
    kept.unlink()
    assert status_of(standing).files.history == ()
    kept.write_bytes(content)
    standing.clock.forward(hours=25)
    prover.look()
    assert (status_of(standing).files.history, len(prover.events)) == ((), 1)


def test_a_segment_of_the_history_is_replaced_by_the_published_copy(
    standing: World, kept: Path, prover: Prover
) -> None:
    """Where both are copies, only one of them is damaged."""
    (link,) = [path for path in HistoryFolder(standing.state.history).segments(HEAD).values() if has(path, 4)]
    content = link.read_bytes()
    link.unlink()
    link.write_bytes(content)
    damage(link, 4)
    standing.clock.forward(hours=25)
    prover.look()
    assert (link.read_bytes(), prover.events) == (content, [])


def test_a_segment_that_only_the_history_has_is_reported_by_its_version(standing: World, kept: Path) -> None:
    """Its version and day are what cannot be explained any more."""
    del kept
    (link,) = [path for path in HistoryFolder(standing.state.history).segments(HEAD).values() if has(path, 4)]
    for place in (standing.state.feed.root, standing.state.source("iwf").root):
        for other in place.rglob(link.name):
            other.unlink()
    damage(link, 4)
    with standing.publisher() as publisher:
        records = RecordInMemory(ProofRecord())
        (fault,) = HistoryProof(publisher.folder, publisher.catalog, records, lambda _: None).run()
    assert fault.message == (
        f"the history file {link} is damaged, which holds the rows of {HEAD} at version 1, of 2026-01-01"
    )
    assert records.record.history == (fault,)


def test_the_history_links_the_segment_that_is_fetched_again(standing: World, prover: Prover) -> None:
    """A damaged file with three names is no loss: the partner still has it."""
    with standing.publisher() as publisher:
        keep(publisher.folder, publisher.catalog, standing.clock())
    damage_everywhere(standing, 4)
    standing.clock.forward(hours=25)
    prover.look()
    assert [type(one) for one in prover.events] == [events.StateNotProved]
    assert standing.sync().exit_code == 0
    with standing.publisher() as publisher:
        keep(publisher.folder, publisher.catalog, standing.clock())
    assert prove_state(standing.state, None, standing.clock()).faults == ()


def test_the_copy_of_the_history_mends_what_is_published(standing: World, prover: Prover) -> None:
    """On a file system without hard links it is one more copy, so nothing has to be fetched."""
    with standing.publisher() as publisher:
        keep(publisher.folder, publisher.catalog, standing.clock())
    (link,) = HistoryFolder(standing.state.history).segments(HEAD).values()
    content = link.read_bytes()
    path = damage_everywhere(standing, 4)
    link.unlink()
    link.write_bytes(content)
    standing.clock.forward(hours=25)
    prover.look()
    assert (path.read_bytes(), prover.fetch) == (content, [None])


def has(path: Path, number: int) -> bool:
    return bytes.fromhex(row(number)[1]) in path.read_bytes()
