"""Damage on the operator's own disk that a sync meets: it is repaired in the same sync, and no partner is blamed."""

from pathlib import Path

import pytest

from command_line import operate, syncd
from standing import prove_feed, served
from syncd.files import DamagedError
from syncd.outcomes import Outcome
from syncd.pipeline.outcome import SyncOutcome
from test_file_proof import damage_everywhere
from test_reproof import damage, segments
from world import HEAD, World, row


def rejected(world: World) -> list[Path]:
    return list(world.state.source("iwf").work.glob("rejected/*"))


def met(world: World) -> SyncOutcome:
    """A sync whose delta removes a row that the disk has damaged."""
    world.publish(add=[row(30)], remove=[row(4)])
    world.clock.forward(minutes=5)
    return world.sync()


def test_a_segment_that_is_damaged_everywhere_is_fetched_again_by_the_sync_that_meets_it(standing: World) -> None:
    """The list is published from the partner's bytes, and the outcome says what was repaired."""
    path = damage_everywhere(standing, 4)
    outcome = met(standing)
    assert (outcome.outcome, outcome.error, [one.error for one in outcome.lists]) == (Outcome.PUBLISHED, None, [None])
    (mended,) = outcome.mended
    assert (mended.list, mended.error.message) == (HEAD, f"{HEAD} was damaged on this disk: {path.name}")
    assert "fetched from the partner again" in mended.error.hint
    assert served(standing) == frozenset({*range(31)} - {4})
    prove_feed(standing)
    assert rejected(standing) == []


def test_a_segment_with_a_sound_copy_is_replaced_by_it(standing: World) -> None:
    """Nothing but the delta is fetched then."""
    (origin,) = segments(standing.state.source("iwf").root)
    content = origin.read_bytes()
    damage(origin, 4)
    outcome = met(standing)
    assert (outcome.outcome, len(outcome.mended)) == (Outcome.PUBLISHED, 1)
    assert origin.read_bytes() == content
    assert served(standing) == frozenset({*range(31)} - {4})


def test_damage_is_no_rejection_if_the_partner_cannot_be_reached_meanwhile(standing: World) -> None:
    """It stays a fault of this host until the file is back; what was published is served."""
    damage_everywhere(standing, 4)
    standing.publish(add=[row(30)], remove=[row(4)])
    for path in standing.partner.root.glob("v1/*/segments/*.arrow"):
        if path.name in {one.name for one in segments(standing.state.feed.root)}:
            path.unlink()
    standing.clock.forward(minutes=5)
    outcome = standing.sync()
    (listed,) = outcome.lists
    assert (listed.outcome, len(outcome.mended)) == (Outcome.UNREACHABLE, 1)
    assert rejected(standing) == []


def test_a_dry_run_names_the_damage_and_repairs_nothing(standing: World) -> None:
    """It is not the partner's, so the exit code is that of storage."""
    path = damage_everywhere(standing, 4)
    standing.publish(add=[row(30)], remove=[row(4)])
    standing.clock.forward(minutes=5)
    outcome = standing.sync(dry_run=True)
    (listed,) = outcome.lists
    assert isinstance(listed.error, DamagedError)
    assert (outcome.exit_code, listed.error.message) == (1, f"{HEAD} was damaged on this disk: {path.name}")
    assert "run `syncd sync`, which fetches it again; the partner is not to blame" in listed.error.hint
    assert path.exists()
    assert standing.sync().exit_code == 0
    prove_feed(standing)


def test_the_command_says_what_was_repaired(standing: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a warning: the sync itself ended well."""
    operate(standing, monkeypatch)
    damage_everywhere(standing, 4)
    standing.publish(add=[row(30)], remove=[row(4)])
    ran = syncd("sync")
    assert ran.code == 0, ran
    assert f"{HEAD} was damaged on this disk" in ran.err
    assert syncd("verify").code == 0
