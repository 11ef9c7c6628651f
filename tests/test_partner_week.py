"""A simulated week of an operator with a source of every type, whose partners and line are as bad as they can be.

After each sync a list is what its partner states, or it is as before and its age says so: never a ghost, never a hole.
With the environment variable SYNCD_FUZZ there are more weeks, with more syncs each.
"""

import contextlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from partner_faults import Trouble, happening, have_quirks, trouble
from partner_world import KINDS, Kind, PartnerWorld, Row, Source, partner_world, published
from partners.model import Model
from signed_partner import FakeFeed
from syncd.errors import SyncdError
from syncd.feed import garbage
from syncd.limits import NO_LIMITS
from syncd.model import ListName
from syncd.pipeline.outcome import SyncOutcome
from syncd.pipeline.publisher import Publisher, open_publisher
from syncd.pipeline.sync import sync_source
from syncd.pipeline.timestamp import sign_if_due
from syncd.verify.state import prove_state

LONG = "SYNCD_FUZZ" in os.environ
FIRST = int(os.environ.get("SYNCD_FUZZ_SEED", "0"))
SEEDS = range(FIRST, FIRST + 4) if LONG else [4]
EVERY = 4 if LONG else 12
"""hours between two syncs of a source, about"""
DAYS = 7
KEPT = (1, 3, 9)
"""Records that stay, so that no list is ever empty, whatever the filters: an emptied list would be held."""
LIVELY = (2, *range(4, 9), *range(10, 24))
"""Records that come and go."""

FEED = Kind(
    "feed",
    NotImplemented,  # made with the world whose partner signs
    'url = "{url}"\nroot = "{folder}/partner/root.json"\nlists = ["images"]\n',
    {},
    lambda fake: {Row("images", *row) for row in fake.rows},
    {"images": "any"},
)


@dataclass
class Life:
    """The story of one source so far."""

    source: Source
    rng: random.Random
    verified: dict[ListName, datetime] = field(default_factory=dict)
    """by list: when its partner was last read to the end"""
    seen: list[set[Row]] = field(default_factory=list)
    """all that it stated during the present sync"""
    ever: set[Row] = field(default_factory=set)
    rows: set[Row] = field(default_factory=set)
    """published"""
    successes: int = 0
    failures: int = 0
    kills: int = 0


@dataclass
class Week:
    """Everybody in it."""

    road: PartnerWorld
    rng: random.Random
    lives: dict[str, Life]
    process: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _publisher: Publisher | None = None

    @property
    def publisher(self) -> Publisher:
        """The operator's process, which holds its state open until it is killed or started again."""
        if self._publisher is None:
            opened = open_publisher(self.road.world.state, limits=lambda _source, _list: NO_LIMITS)
            self._publisher = self.process.enter_context(opened)
        return self._publisher

    def restart(self) -> None:
        self.process.close()
        self._publisher = None

    def change(self, life: Life) -> None:
        """A second in which a record is added, changed, deleted or created again."""
        self.road.tick(1)
        model, number = life.source.fake.model, life.rng.choice(LIVELY)
        model.delete(number) if life.rng.random() < 0.4 else model.put(number)
        life.seen.append(life.source.rows)
        life.ever |= life.source.rows

    def round(self) -> None:
        """Sync every source once, in any order; then time passes. Now and then filters change, or it starts again."""
        for name in self.rng.sample(sorted(self.lives), len(self.lives)):
            life = self.lives[name]
            if self.rng.random() < 0.05 and life.source.kind.narrow:
                life.source.narrowed = not life.source.narrowed
                self.road.configure()
            if self.rng.random() < 0.1:
                self.restart()
            have_quirks(name, life.source.fake, life.rng)
            self.turn(life, trouble(life.rng))
        self.road.tick(EVERY * 3600)

    def turn(self, life: Life, what: Trouble) -> SyncOutcome | None:
        """Sync one source while something happens; None: the process was killed."""
        for _ in range(life.rng.randrange(6)):
            self.change(life)
        self.road.tick(30)
        life.seen, before = [life.source.rows], life.rows
        configured = self.road.config().source(life.source.name)
        if what.lasting == "out of time":
            configured = replace(configured, deadline=1e-6)  # type: ignore[type-var]  # every kind has one
        outcome = None
        with happening(life.source.fake, what, lambda: self.change(life)):
            outcome = sync_source(self.publisher, configured, self.road.clock)
        self.judge(life, what, outcome, before)
        return outcome

    def judge(self, life: Life, what: Trouble, outcome: SyncOutcome | None, before: set[Row]) -> None:
        """Compare what is published with what the partner stated meanwhile, and the age with the last success."""
        if outcome is None:
            life.kills += 1
            self.restart()
        life.rows = published(self.publisher, life.source)
        always, sometimes = set.intersection(*life.seen), set.union(*life.seen)
        if len(life.seen) > 1:  # a record that changes meanwhile may be read later
            sometimes |= before
        for own in life.source.lists:
            rows, old = of(own, life.rows), of(own, before)
            holes, ghosts = of(own, always) - rows, rows - of(own, sometimes)
            told = (own, what, outcome, f"holes: {holes}", f"ghosts: {ghosts}")
            if outcome is None:
                assert rows == old or not holes | ghosts, told
            elif error_of(outcome) is None:
                assert not holes | ghosts, told
            else:
                assert rows == old, told
            self.judge_age(life, own, outcome)
        if outcome is not None and error_of(outcome) is None:
            life.successes += 1
        elif outcome is not None:
            assert not what.harmless, (what, outcome)
            life.failures += 1

    def judge_age(self, life: Life, own: ListName, outcome: SyncOutcome | None) -> None:
        """A list is as old as the last poll that was read to its end; a kill comes before that, or after."""
        origin, now = self.publisher.catalog.origin(life.source.name, own), self.road.clock()
        found = origin.verified_at if origin else None
        if outcome is None:
            assert found in {life.verified.get(own), now}
        else:
            assert found == (life.verified.get(own) if error_of(outcome) else now)
        if found is not None:
            life.verified[own] = found

    def look(self) -> None:
        """A matcher's host pulls, after the hourly signature: it answers as published, and knows each list's age."""
        assert sign_if_due(self.publisher, self.road.clock(), ())
        self.restart()
        matcher = self.road.pull()
        ages = {one.list: one.verified_at for one in matcher.status()}
        for name, life in self.lives.items():
            assert self.road.matched(name, matcher, life.ever) == life.rows
            for own, verified in life.verified.items():
                assert ages[ListName(f"{name}.{own}")] == verified


def error_of(outcome: SyncOutcome) -> SyncdError | None:
    """The error of a sync, or of one of its lists."""
    return outcome.error or next((one.error for one in outcome.lists if one.error), None)


def of(own: ListName, rows: set[Row]) -> set[Row]:
    return {row for row in rows if row.list == own}


@contextlib.contextmanager
def week(base: Path, seed: int) -> Iterator[Week]:
    """A source of every type, and nothing synced yet."""
    with contextlib.ExitStack() as stack:
        road = stack.enter_context(partner_world(base, *KINDS, fill=0))
        feed = stack.enter_context(FakeFeed(Model(road.model.now), road.world).running())
        road.sources["feed"] = Source(FEED, feed)
        road.configure()
        lives = {name: Life(source, random.Random(f"{seed} {name}")) for name, source in road.sources.items()}
        made = Week(road, random.Random(f"{seed}"), lives)
        stack.callback(made.restart)
        for life in lives.values():
            for number in KEPT:
                life.source.fake.model.put(number)
            life.ever |= life.source.rows
        yield made


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is written for good, since no power fails here; and the short week is tidied less often."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for variable in [name for name in os.environ if name.startswith("SYNCD_")]:  # a configuration has other ones
        monkeypatch.delenv(variable)
    if not LONG:
        monkeypatch.setattr(garbage, "is_due", partial(garbage.is_due, every=timedelta(days=2)))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_week_with_every_type_of_source(tmp_path: Path, seed: int) -> None:
    """Adds, changes, deletions, re-creations, other filters, faults of every kind; in the end every list is exact."""
    with week(tmp_path, seed) as going:
        for hour in range(0, DAYS * 24, EVERY):
            going.round()
            if hour % 24 == 0:
                going.look()
        for life in going.lives.values():
            for _ in range(2):
                outcome = going.turn(life, Trouble())
                assert outcome is not None
                assert error_of(outcome) is None
            assert life.rows == life.source.rows
            assert life.successes > 2
        for kind in ("failures", "kills"):
            assert sum(getattr(life, kind) for life in going.lives.values()) > 0
        going.road.tick(3600)
        going.look()
        assert prove_state(going.road.world.state, None, going.road.clock()).faults == ()
        assert going.publisher.catalog.holds() == ()
