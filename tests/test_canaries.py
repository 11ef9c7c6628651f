"""Canaries, as stories: digests that must be on a list, and digests that must never be."""

import csv
import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from standing import open_holds, prove_feed, served
from syncd.acts import KnownGoodChanged
from syncd.catalog.decisions import HoldRecord, HoldState
from syncd.errors import ConfigError, RefusedError, StoreError
from syncd.limits import ListLimits
from syncd.locks import lock
from syncd.model import Digest, ListName
from syncd.operate import known_good as operated
from syncd.operate.collect import collect
from syncd.operate.holds import end_hold
from syncd.operate.known_good import kept_out_rows, known_good, write_rows
from syncd.outcomes import HoldReason, Lane, Outcome
from syncd.pipeline.known_good import KnownGoodFolder
from syncd.pipeline.outcome import ListOutcome, SyncOutcome
from syncd.pipeline.sync import sync_source
from syncd.report.judged import ListView
from syncd.report.overview import read
from test_metrics import IMAGES
from test_metrics import now as scraped
from world import HEAD, World, row, rows

ALL = frozenset(range(30))
MISSING, KNOWN, FILE = HoldReason.CANARY_MISSING, HoldReason.KNOWN_GOOD, HoldReason.KNOWN_GOOD_FILE


def pair(number: int) -> str:
    """The digest of a number as a line of a file."""
    algorithm, digest, *_ = row(number)
    return f"{algorithm}:{digest}"


@dataclass
class Operator:
    """An operator with a must-have file and a known-good file."""

    world: World
    limits: ListLimits = field(default_factory=ListLimits)
    second_operator: bool = True

    def must_have(self, *numbers: int) -> None:
        """Write the must-have file."""
        path = self._write("must-have.txt", ["# the partner's test vectors", *map(pair, numbers)])
        self.limits = self.limits.model_copy(update={"must_have_file": path})

    def known_good(self, *numbers: int) -> Path:
        """Write the known-good file."""
        path = self._write("known-good.txt", [*map(pair, numbers), ""])
        self.limits = self.limits.model_copy(update={"known_good_file": path})
        return path

    def _write(self, name: str, lines: Iterable[str]) -> Path:
        path = self.world.base / name
        path.write_text("\n".join([*lines, ""]))
        return path

    def sync_all(self) -> SyncOutcome:
        """A sync some minutes later."""
        self.world.clock.forward(minutes=5)
        with self.world.publisher() as publisher:
            mine = replace(
                publisher, limits=lambda _source, _name: self.limits, second_operator=lambda: self.second_operator
            )
            return sync_source(mine, self.world.source(), self.world.clock)

    def sync(self) -> ListOutcome:
        """A sync of the one list, without fault or warning."""
        outcome = self.sync_all()
        assert (outcome.error, outcome.warnings) == (None, ())
        (listed,) = outcome.lists
        assert listed.error is None
        return listed

    def end(self, number: int, *, release: bool = True, actor: str = "bob", sha256: str = "") -> None:
        """Release or discard a hold."""
        with self.world.publisher() as publisher:
            mine = replace(
                publisher, limits=lambda _source, _name: self.limits, second_operator=lambda: self.second_operator
            )
            now = self.world.clock()
            end_hold(mine, number, release=release, actor=actor, reason="seen", now=now, sha256=sha256)

    def holds(self) -> tuple[HoldRecord, ...]:
        """The open holds."""
        return open_holds(self.world)

    def served(self) -> frozenset[int]:
        """The numbers below 100 that a matcher answers after a pull."""
        return served(self.world)

    def view(self) -> ListView:
        """The list as status shows it."""
        with self.world.publisher() as publisher:
            return read(self.world.state, publisher.catalog, {"iwf": 600.0}, self.world.clock()).lists[0]

    def why(self) -> str:
        """What status says a person must act on."""
        return self.view().why


@pytest.fixture
def operator(standing: World) -> Operator:
    """An operator who follows a list of 30 entries."""
    return Operator(standing)


# digests that must be present


@pytest.mark.on_both
def test_a_vanishing_canary_holds_the_removals_and_not_the_additions(operator: Operator) -> None:
    """The hold counts, and names no digest; later updates do not hold again; a release removes it."""
    operator.must_have(3, 4)
    operator.world.publish(remove=[row(3), row(7)], add=[row(40)])
    listed = operator.sync()
    assert (listed.outcome, listed.reasons) == (Outcome.HELD, (MISSING,))
    assert operator.served() == ALL | {40}
    (hold,) = operator.holds()
    assert (hold.lane, hold.rows, hold.findings[0].rows, hold.findings[0].of) == (Lane.REMOVALS, 2, 1, 2)
    assert "1 of 2" in hold.message
    operator.world.publish(add=[row(41)])
    operator.sync()
    assert len(operator.holds()) == 1
    operator.end(hold.id)
    assert operator.served() == (ALL | {40, 41}) - {3, 7}
    operator.world.publish(remove=[row(8)])
    assert operator.sync().outcome is Outcome.PUBLISHED, "it was missing before"
    assert "1 of 2 digests that must be present are missing" in operator.why()
    told = scraped(operator.world)
    assert (told("syncd_list_canaries", **IMAGES), told("syncd_list_canaries_missing", **IMAGES)) == (2, 1)
    prove_feed(operator.world)


def test_a_canary_that_the_partner_adds_again_ends_the_hold(operator: Operator) -> None:
    """The pending difference passes, and what waited beside it goes live."""
    operator.must_have(3)
    operator.world.publish(remove=[row(3), row(7)])
    operator.sync()
    operator.world.publish(add=[row(3)])
    listed = operator.sync()
    assert (listed.outcome, [one.state for one in listed.ended]) == (Outcome.PUBLISHED, [HoldState.PASSED])
    assert operator.served() == ALL - {7}
    assert operator.why() == ""


def test_a_discarded_removal_of_a_canary_is_settled(operator: Operator) -> None:
    """The digest stays on the list, and later removals pass."""
    operator.must_have(3)
    operator.world.publish(remove=[row(3)])
    operator.sync()
    operator.end(1, release=False)
    operator.world.publish(remove=[row(9)])
    assert operator.sync().outcome is Outcome.PUBLISHED
    assert operator.served() == ALL - {9}


def test_an_entry_beside_another_supports_a_canary(operator: Operator) -> None:
    """A digest is present while any entry supports it; a replaced one never vanishes."""
    operator.must_have(3)
    algorithm, digest, _, label = row(3)
    operator.world.publish(remove=[row(3)], add=[(algorithm, digest, "another", label)])
    assert operator.sync().outcome is Outcome.PUBLISHED
    operator.world.publish(remove=[(algorithm, digest, "another", label)])
    assert operator.sync().reasons == (MISSING,)


def test_a_first_version_without_a_canary_waits_whole(world: World) -> None:
    """A release accepts it, and status says that it is missing."""
    operator = Operator(world)
    operator.must_have(3, 50)
    world.publish(full=rows(0, 30))
    assert operator.sync().reasons == (MISSING,)
    (hold,) = operator.holds()
    assert hold.lane is Lane.BOTH
    operator.end(hold.id)
    assert operator.served() == ALL
    world.publish(add=[row(60)])
    assert operator.sync().outcome is Outcome.PUBLISHED
    assert "1 of 2 digests" in operator.why()
    world.publish(add=[row(50)])
    operator.sync()
    assert operator.why() == ""


@pytest.mark.on_both
def test_a_missing_canary_is_an_event_once(operator: Operator) -> None:
    """A must-have file that names what the list never had holds nothing; only the first sync announces it."""
    operator.must_have(3, 77)
    first = operator.sync_all()
    assert [(one.list, one.missing, one.must_have) for one in first.canaries] == [(HEAD, 1, 2)]
    assert operator.sync_all().canaries == ()
    assert operator.served() == ALL


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("sha256:12\n", "line 1: not a sha256 digest"),
        ("# nothing\n", "names no digest"),
        ("\n\nsha256\n", "line 3: a digest must have the form ALG:HEX"),
        ("pdq:" + "0" * 64, "is never published"),
        ("md5:" + "f" * 32, "is never published"),
        ("mine:12\nmine:1234\n", "differ in length"),
        (None, "No such file"),
    ],
)
def test_a_bad_must_have_file_stops_the_list_alone(operator: Operator, content: str | None, words: str) -> None:
    """Nothing is judged without its canaries: the list stays as it is, and the error names the line and no value."""
    path = operator.world.base / "bad.txt"
    if content is not None:
        path.write_text(content)
    operator.limits = ListLimits(must_have_file=path)
    operator.world.publish(add=[row(40)])
    (listed,) = operator.sync_all().lists
    assert isinstance(listed.error, ConfigError)
    assert words in listed.error.message
    assert listed.error.hint
    assert operator.served() == ALL


# digests that must never be present


def test_known_good_digests_stay_off_the_list_whatever_the_partner_does(operator: Operator) -> None:
    """Counted in the outcome of the sync, withheld in the manifest, and in the head in no version."""
    operator.known_good(*range(40, 45))
    operator.sync()
    operator.world.publish(add=rows(38, 47))
    listed = operator.sync()
    assert (listed.outcome, dict(listed.known_good)) == (Outcome.PUBLISHED, {"sha256": 5})
    assert operator.served() == ALL | {38, 39, 45, 46}
    algorithm, digest, entry, _ = row(41)
    for change in (
        {"add": [(algorithm, digest, entry, "other")]},
        {"remove": [row(42)]},
        {"add": [row(42), (algorithm, digest, "new", "A")]},
    ):
        operator.world.publish(**change)  # type: ignore[arg-type]  # rows
        operator.sync()
        assert operator.served() == ALL | {38, 39, 45, 46}
    with operator.world.publisher() as publisher:
        publisher.compact(HEAD, operator.world.clock(), everything=True)
        (note,) = publisher.catalog.canary_notes().values()
    assert dict(note.kept_out) == {"sha256": 6}
    assert operator.served() == ALL | {38, 39, 45, 46}
    prove_feed(operator.world)


def test_a_first_version_is_published_without_them(world: World) -> None:
    """Also entries that only a look at the whole list finds; the rows go to a file of mode 0600."""
    operator = Operator(world)
    operator.known_good(*range(3, 6), *range(200, 500))
    world.publish(full=rows(0, 30))
    listed = operator.sync()
    assert (listed.outcome, dict(listed.known_good)) == (Outcome.PUBLISHED, {"sha256": 3})
    assert operator.served() == ALL - {3, 4, 5}
    prove_feed(world)
    out = world.base / "out.csv"
    with world.publisher() as publisher:
        assert write_rows(out, kept_out_rows(world.state, publisher.catalog)) == 3
        why = known_good(world.state, publisher.catalog, Digest.parse(pair(3)))
        assert known_good(world.state, publisher.catalog, Digest.parse(pair(7))) == {}
        empty = Digest.parse(f"sha256:{hashlib.sha256(b'').hexdigest()}")
        assert known_good(world.state, publisher.catalog, empty) == {str(HEAD): "built in"}
    assert why == {str(HEAD): "known-good file"}
    assert out.stat().st_mode & 0o777 == 0o600
    with out.open() as stream:
        assert sorted(one["digest"] for one in csv.DictReader(stream)) == sorted(row(number)[1] for number in (3, 4, 5))


def test_digests_that_can_only_be_mistakes_are_kept_out_without_any_file(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the empty input, and constant PDQ: signed or not, no matcher gets them, and they are counted."""
    algorithms = ("md5", "sha1", "sha256")
    mistakes = [(one, hashlib.new(one).hexdigest(), f"empty-{one}") for one in algorithms]
    mistakes += [("pdq", "00" * 32, "black"), ("pdq", "ff" * 32, "white")]
    good = [row(40), row(41, algorithm="md5"), row(41, algorithm="sha1"), ("pdq", "5a" * 32, "e42", "A")]
    with monkeypatch.context() as patched:  # another partner's software may let them pass
        patched.setattr("syncd.listfile.values.is_meaningless", lambda _, digests: np.zeros(len(digests), bool))
        operator.world.publish(add=[*((*one, "A") for one in mistakes), *good])
    listed = operator.sync()
    assert listed.outcome is Outcome.PUBLISHED
    assert dict(listed.known_good) == {"md5": 1, "pdq": 2, "sha1": 1, "sha256": 1}
    assert operator.served() == ALL | {40}
    with operator.world.matcher() as matcher:
        for algorithm, digest, *_ in mistakes:
            assert matcher.lookup(algorithm, digest) == [], algorithm
        for algorithm, digest, entry, _ in good:
            assert [hit.entry for hit in matcher.lookup(algorithm, digest)] == [entry], algorithm
    prove_feed(operator.world)


def test_the_readings_of_the_file_are_private_and_made_once(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another sync does not read the file; another file replaces the reading."""
    operator.known_good(40)
    operator.sync()
    kept = [path for path in operator.world.state.known_good.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    assert operator.world.state.known_good.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("syncd.pipeline.known_good.sha256_file", lambda _: pytest.fail("it was read again"))
    operator.sync()
    monkeypatch.undo()
    operator.known_good(41)
    operator.sync()
    assert len([path for path in operator.world.state.known_good.iterdir() if path.is_dir()]) == 1


def test_more_of_them_than_the_bound_hold_the_additions(operator: Operator) -> None:
    """Whatever comes with them waits until an operator has looked; they themselves never go live."""
    operator.known_good(*range(40, 60))
    operator.sync()
    operator.world.publish(add=rows(40, 52), remove=[row(1)])
    listed = operator.sync()
    assert (listed.outcome, listed.reasons) == (Outcome.HELD, (KNOWN,))
    (hold,) = operator.holds()
    assert (hold.lane, hold.rows, hold.findings[0].rows, hold.findings[0].allowed) == (Lane.ADDITIONS, 12, 12, 10)
    told = scraped(operator.world)
    assert told.ones("syncd_source_held", "reason") == ["known_good"]
    assert told("syncd_list_known_good_entries", **IMAGES) == 12
    assert told("syncd_list_known_good_usable", **IMAGES) == 1
    operator.world.publish(add=[row(70)])
    operator.sync()
    assert operator.served() == ALL - {1}
    for waiting in operator.holds():
        operator.end(waiting.id)
    assert operator.served() == (ALL | {70}) - {1}
    operator.world.publish(add=[row(71)])
    assert operator.sync().outcome is Outcome.PUBLISHED
    assert operator.holds() == ()
    prove_feed(operator.world)


def test_a_first_version_with_many_of_them_waits_whole(world: World) -> None:
    """A release publishes it without them."""
    operator = Operator(world)
    operator.known_good(*range(15))
    world.publish(full=rows(0, 30))
    assert operator.sync().reasons == (KNOWN,)
    operator.end(1)
    assert operator.served() == ALL - frozenset(range(15))
    prove_feed(world)


# changes of the known-good file


def test_a_changed_file_takes_a_few_rows_off_and_others_come_back(operator: Operator) -> None:
    """In one version; the audit log has the counts, and nobody else has to confirm."""
    operator.known_good(3, 4)
    operator.sync()
    assert operator.served() == ALL - {3, 4}
    operator.known_good(4, 5)
    assert operator.sync().outcome is Outcome.PUBLISHED, "the partner has nothing new, but the list has a version more"
    assert operator.served() == ALL - {4, 5}
    assert operator.sync().outcome is Outcome.UP_TO_DATE
    with operator.world.publisher() as publisher:
        acts = [one.act for one in publisher.catalog.audit_entries() if isinstance(one.act, KnownGoodChanged)]
    assert [(act.rows, act.returned, act.second) for act in acts] == [(1, 1, "no need"), (2, 0, "no need")]
    operator.limits = ListLimits()
    operator.sync()
    assert operator.served() == ALL
    prove_feed(operator.world)


@pytest.mark.on_both
def test_a_changed_file_that_takes_many_rows_off_waits_for_a_second_operator(operator: Operator) -> None:
    """Once; the digests in force stay, and ordinary updates go on."""
    operator.known_good(3)
    operator.sync()
    operator.known_good(3, *range(10, 21))
    outcome = operator.sync_all()
    assert [(one.lane, one.reasons, one.rows) for one in outcome.opened] == [(Lane.SUPPRESSIONS, (FILE,), 11)]
    operator.world.publish(add=[row(40)])
    operator.sync()
    assert operator.served() == (ALL | {40}) - {3}
    (hold,) = operator.holds()
    operator.end(hold.id)
    assert operator.served() == (ALL | {40}) - {3, *range(10, 21)}
    assert operator.sync().outcome is Outcome.UP_TO_DATE
    assert operator.holds() == ()
    prove_feed(operator.world)


@pytest.mark.parametrize("release", [True, False])
def test_every_sync_says_that_a_changed_file_waits(operator: Operator, *, release: bool) -> None:
    """As for any hold: also if the partner has nothing new, if other rows are published, and beside another hold."""
    operator.known_good(*range(20))
    for added in ([], [], [row(40)]):
        if added:
            operator.world.publish(add=added)
        outcome = operator.sync_all()
        (listed,) = outcome.lists
        assert (outcome.outcome, outcome.exit_code, outcome.error) == (Outcome.HELD, 3, None)
        assert (listed.reasons, [hold.id for hold in listed.holds]) == ((FILE,), [1])
        assert "`syncd release 1 --reason R`" in listed.to_do
        assert operator.view().outcome is Outcome.HELD
        assert operator.why().count("hold 1: ") == 1
    assert 40 in operator.served()
    operator.world.publish(remove=[*rows(0, 30), row(40)])
    (listed,) = operator.sync_all().lists
    assert (listed.reasons, [hold.id for hold in listed.holds]) == ((HoldReason.EMPTIED, FILE), [2, 1])
    operator.end(2, release=False)
    operator.end(1, release=release)
    assert operator.view().outcome is (Outcome.PUBLISHED if release else Outcome.UP_TO_DATE)
    assert operator.sync().outcome is Outcome.UP_TO_DATE
    assert operator.served() == (ALL | {40}) - (frozenset(range(20)) if release else frozenset())


def test_the_hash_of_the_file_that_was_shown_is_compared(operator: Operator) -> None:
    """A release or discard of another file than the one that an operator saw does nothing."""
    operator.known_good(*range(20))
    operator.sync()
    (hold,) = operator.holds()
    for release in (True, False):
        with pytest.raises(RefusedError, match="changed since they were shown"):
            operator.end(hold.id, release=release, sha256="0" * 64)
    assert operator.holds() == (hold,)
    operator.end(hold.id, sha256=hold.sha256)
    assert operator.served() == ALL - frozenset(range(20))


@pytest.mark.on_both
def test_small_changes_of_one_day_add_up(operator: Operator) -> None:
    """Ten rows a day."""
    operator.known_good(*range(6))
    operator.sync()
    operator.known_good(*range(11))
    operator.sync()
    assert len(operator.holds()) == 1
    operator.world.clock.forward(days=1)
    operator.known_good(*range(10))
    operator.sync()
    assert operator.holds() == ()
    assert operator.served() == ALL - frozenset(range(10))


@pytest.mark.on_both
def test_a_refused_file_is_not_held_again(operator: Operator) -> None:
    """The next other one is judged."""
    operator.known_good(*range(20))
    operator.sync()
    operator.end(1, release=False)
    operator.sync()
    assert operator.holds() == ()
    assert operator.served() == ALL
    operator.known_good(1)
    operator.sync()
    assert operator.served() == ALL - {1}


def test_whoever_owns_the_file_cannot_confirm_its_change(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A team of one can switch that off."""
    operator.known_good(*range(20))
    operator.sync()
    monkeypatch.setattr(operated, "_owner", lambda _: "alice")
    with pytest.raises(RefusedError, match="belongs to alice"):
        operator.end(1, actor="alice")
    operator.known_good(*range(19))
    operator.second_operator = False
    operator.sync()
    assert operator.served() == ALL - frozenset(range(19))


def test_a_file_that_changed_since_cannot_be_confirmed(operator: Operator) -> None:
    """The next sync judges it; the old hold ends."""
    operator.known_good(*range(20))
    operator.sync()
    path = operator.known_good(*range(19))
    KnownGoodFolder(operator.world.state.known_good).read(path)
    with pytest.raises(RefusedError, match="changed after hold 1"):
        operator.end(1)
    operator.sync()
    assert [hold.id for hold in operator.holds()] == [2]


def test_rows_that_come_back_pass_the_gate(operator: Operator) -> None:
    """Too many wait, and a release lists them again."""
    operator.second_operator = False
    operator.limits = ListLimits(max_added_rows=5, max_added_percent=0)
    operator.known_good(*range(20))
    operator.sync()
    assert operator.served() == ALL - frozenset(range(20))
    operator.known_good(19)
    outcome = operator.sync_all()
    assert [(one.lane, one.reasons, one.rows) for one in outcome.opened] == [(Lane.ADDITIONS, (HoldReason.GROWN,), 19)]
    assert operator.served() == ALL - frozenset(range(20))
    operator.end(operator.holds()[0].id)
    assert operator.served() == ALL - {19}
    prove_feed(operator.world)


@pytest.mark.on_both
def test_a_state_of_an_older_syncd_gets_its_mark(world: World) -> None:
    """Nothing was kept out before; the next sync changes that, and nobody has to confirm what is built in."""
    operator = Operator(world)
    world.publish(full=rows(0, 30))
    operator.sync()
    with world.publisher() as publisher, publisher.catalog._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM canaries")
    with world.publisher() as publisher:
        assert publisher.list_state("iwf", ListName("images")).suppressed.known_good.name == ""
    operator.sync()
    with world.publisher() as publisher:
        assert {mark.known_good for mark in publisher.catalog.known_good_marks()} == {"1"}


@pytest.mark.parametrize("lost", ["readings", "everything"])
def test_a_lost_reading_is_found_again(operator: Operator, lost: str) -> None:
    """In the file, or else in what it kept out: what comes back is counted exactly."""
    operator.known_good(3, 4)
    operator.sync()
    for path in sorted(operator.world.state.known_good.rglob("*"), reverse=True):
        if path.is_file():
            path.unlink()
        else:
            path.rmdir()
    if lost == "everything":
        operator.known_good(4)
    else:
        operator.known_good(3, 4)
    operator.world.publish(add=[row(40)])
    operator.sync()
    assert operator.served() == (ALL | {40}) - ({4} if lost == "everything" else {3, 4})
    prove_feed(operator.world)


def _others_may_write(operator: Operator, path: Path) -> None:
    path.chmod(0o666)


def _another_owner(operator: Operator, path: Path) -> None:
    os.chown(path, 12345, 12345)


def _bad_row(operator: Operator, path: Path) -> None:
    path.write_text(f"{pair(3)}\nsha256:{'g' * 64}\n")


def _gone(operator: Operator, path: Path) -> None:
    path.unlink()


def _hits_a_canary(operator: Operator, path: Path) -> None:
    operator.must_have(9)
    path.write_text(f"{pair(3)}\n{pair(9)}\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_others_may_write, "can be changed by every user"),
        pytest.param(
            _another_owner,
            "belongs to another user",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away"),
        ),
        (_bad_row, "line 2, column digest: not hexadecimal"),
        (_gone, "No such file"),
        (_hits_a_canary, "1 of the digests that must be on a list"),
    ],
)
def test_a_file_that_cannot_be_used_stops_nothing(
    operator: Operator, spoil: Callable[[Operator, Path], None], words: str
) -> None:
    """Its last good reading stays in force, updates go on, and sync, status and log say what is wrong."""
    path = operator.known_good(3)
    operator.sync()
    spoil(operator, path)
    operator.world.publish(add=[row(3, "other"), row(40)])
    outcome = operator.sync_all()
    assert [one.outcome for one in outcome.lists] == [Outcome.PUBLISHED]
    (warning,) = outcome.warnings
    assert words in warning.message
    assert warning.hint
    assert not any(row(number)[1] in warning.message + warning.hint for number in range(50))
    assert words in operator.why()
    assert scraped(operator.world)("syncd_list_known_good_usable", **IMAGES) == 0
    assert operator.served() == (ALL | {40}) - {3}


def _disk_fails(path: Path, *_: object) -> None:
    raise StoreError(f"cannot write {path}: Input/output error")


@pytest.mark.parametrize("fault", ["bad row", "disk"])
def test_a_first_version_waits_until_the_file_was_read_once(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """There is no last good reading: the list is not published without it, and is as soon as it was read."""
    operator = Operator(world)
    path = operator.known_good(3)
    world.publish(full=rows(0, 30))
    with monkeypatch.context() as around:
        if fault == "disk":
            around.setattr("syncd.pipeline.known_good.install_file", _disk_fails)
        else:
            _bad_row(operator, path)
        outcome = operator.sync_all()
    (listed,) = outcome.lists
    assert listed.version is None
    assert isinstance(listed.error, StoreError if fault == "disk" else ConfigError)
    assert outcome.exit_code != 0
    operator.known_good(3)
    assert operator.sync().outcome is Outcome.PUBLISHED
    assert operator.served() == ALL - {3}


@pytest.mark.parametrize(
    "lines",
    [
        ["# comment", "", f"{pair(3)}  # an innocent file", pair(4).upper().replace("SHA256", "sha256"), pair(4)],
        ["algorithm,digest", *(pair(number).replace(":", ",") for number in (3, 4))],
        ["digest,entry,algorithm", *(f"{row(number)[1]},x,sha256" for number in (4, 3))],
        [f'{{"algorithm": "sha256", "digest": "{row(number)[1]}"}}' for number in (4, 3)],
        [f"md5:{hashlib.md5(b'').hexdigest()}", pair(3), pair(4)],
    ],
)
def test_the_file_has_pairs_or_is_a_list_file(tmp_path: Path, lines: list[str]) -> None:
    """CSV, NDJSON, or one ALG:HEX a line, with comments."""
    path = tmp_path / "known"
    path.write_text("\r\n".join(lines))
    known = KnownGoodFolder(tmp_path / "readings").read(path)
    assert {digest.hex() for digest in known.listed["sha256"]} == {row(3)[1], row(4)[1]}  # type: ignore[index]  # a name


def test_many_pairs_are_read_in_blocks(tmp_path: Path) -> None:
    """With comments between them, each row counts once, and a bad one is named by its line."""
    path = tmp_path / "known"
    lines = [pair(number) for number in range(60_000)]
    lines[30_000] = "# half"
    path.write_text("\n".join(lines))
    known = KnownGoodFolder(tmp_path / "readings").read(path)
    assert len(known.listed["sha256"]) == 59_999  # type: ignore[index]  # a name
    lines[59_998] = "sha256;no"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="line 59999, column -: not of the form ALG:HEX"):
        KnownGoodFolder(tmp_path / "readings").read(path)


def test_the_configuration_names_the_files(tmp_path: Path) -> None:
    """For all sources, one source or one list; a check reads them to the end."""
    from syncd.config_file import load

    for name, lines in (("all", [pair(1)]), ("own", [pair(2)]), ("must", [pair(2)])):
        (tmp_path / name).write_text("\n".join(lines))
    path = tmp_path / "config.toml"
    path.write_text(
        f"""
        state_dir = "{tmp_path}/state"
        [gate]
        known_good_file = "{tmp_path}/all"
        [sources.iwf]
        url = "https://a.example/"
        root = "/r.json"
        [sources.iwf.gate.lists.images]
        must_have_file = "{tmp_path}/must"
        [sources.iwf.gate.lists.videos]
        known_good_file = "{tmp_path}/own"
        max_known_good = 3
        """
    )
    config = load(path)
    images, videos = config.limits("iwf", "images"), config.limits("iwf", "videos")
    assert (images.known_good_file, images.must_have_file) == (tmp_path / "all", tmp_path / "must")
    assert (videos.known_good_file, videos.max_known_good) == (tmp_path / "own", 3)
    assert config.limits("gone", "images").known_good_file == tmp_path / "all"
    operated.check_canary_files(config, whole=True)
    (tmp_path / "all").write_text(pair(2))
    with pytest.raises(ConfigError, match="names 1 of the digests that must be on a list"):
        operated.check_canary_files(config, whole=True)
    (tmp_path / "own").chmod(0o646)
    (tmp_path / "all").write_text(pair(1))
    with pytest.raises(ConfigError, match="can be changed by every user"):
        operated.check_canary_files(config, whole=False)


def left_over(operator: Operator) -> list[Path]:
    """Files as a killed sync leaves them: beside the list of readings, and beside the index of one."""
    operator.known_good(*range(40, 45))
    operator.sync()
    root = operator.world.state.known_good
    (reading,) = root.glob("*/")
    files = [root / ".tmp-0123456789abcdef", reading / ".tmp-fedcba9876543210"]
    for path in files:
        path.write_bytes(b"{")
    return files


def test_what_a_killed_sync_left_among_known_good_files_goes_with_the_next(operator: Operator) -> None:
    """Whether it reads the file again or not."""
    files = left_over(operator)
    operator.sync()
    assert not any(path.exists() for path in files)


def test_what_a_killed_sync_left_among_known_good_files_goes_with_a_clean_up(operator: Operator) -> None:
    """So that it does not need a sync; a dry run leaves it."""
    files = left_over(operator)
    with operator.world.publisher() as publisher:
        collect(publisher, actor="alice", now=operator.world.clock(), dry_run=True)
        assert all(path.exists() for path in files)
        collect(publisher, actor="alice", now=operator.world.clock())
    assert not any(path.exists() for path in files)


def test_a_file_that_another_process_writes_is_left_alone(operator: Operator) -> None:
    """What it has not named yet looks like what a killed one left."""
    files = left_over(operator)
    with lock(operator.world.state.known_good / "lock", "reading a known-good file"):
        operator.sync()
        assert all(path.exists() for path in files)
    operator.sync()
    assert not any(path.exists() for path in files)
