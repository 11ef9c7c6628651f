"""What stands whatever happens: what was served before, byte for byte, and what a reader proves of a feed."""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from syncd.catalog.decisions import HoldRecord, HoldState
from syncd.errors import SyncdError
from syncd.limits import ListLimits
from syncd.matcher import Matcher
from syncd.pipeline.outcome import ListOutcome, SyncOutcome
from syncd.verify import feed as prove
from syncd.verify.copy import prove_copy
from syncd.verify.state import prove_state
from syncd.verify.tally import Proof
from world import IMAGES, World, row, rows

OLD = frozenset(range(30))
"""Numbers on the list that stands."""
NEW = frozenset({*range(5), *range(6, 31)})
"""Numbers on the list once the partner's news have arrived: 30 was added, 5 removed."""


def make_standing(base: Path) -> None:
    """A world in which a list is published, synced, and pulled by a matcher and by a mirror of the partner."""
    world = World(base)
    world.publish(full=rows(0, 30))
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    assert not world.follow().errors


def sync_list(world: World, limits: ListLimits | None = None, /, **change: Any) -> ListOutcome:
    """The partner publishes ``change``, if any; a sync some minutes later, and what came of its one list."""
    if change:
        world.publish(**change)
    world.clock.forward(minutes=5)
    usual = world.limits
    world.limits = limits or usual
    outcome = world.sync()
    world.limits = usual
    assert outcome.error is None
    (listed,) = outcome.lists
    assert listed.error is None
    return listed


def served(world: World) -> frozenset[int]:
    """The numbers below 100 that a matcher answers after a pull."""
    assert not world.pull().errors
    matcher = Matcher.open(world.copy, clock=world.clock)
    return frozenset(number for number in range(100) if world.hits(number, matcher))


def open_holds(world: World) -> tuple[HoldRecord, ...]:
    """The holds that are open."""
    with world.publisher() as publisher:
        return tuple(one for one in publisher.catalog.holds() if one.state is HoldState.OPEN)


def publish_news(world: World) -> None:
    """The partner publishes version 2."""
    assert world.publish(add=[row(30)], remove=[row(5)]).version == 2


def tree(folder: Path) -> dict[str, str]:
    """Every file that readers of a feed or a copy see, and the hash of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".work" not in path.relative_to(folder).parts
    }


def matched(world: World, copy: Path | None = None) -> frozenset[int]:
    """Which of the numbers 0 to 39 a matcher that opens the copy now answers."""
    matcher = Matcher.open(copy or world.copy, clock=world.clock)
    return frozenset(number for number in range(40) if world.hits(number, matcher))


@dataclass
class Standing:
    """The feed, the matcher's copy and the mirror as they were."""

    world: World
    feed: dict[str, str]
    copy: dict[str, str]
    mirror: dict[str, str]
    at: datetime

    @classmethod
    def of(cls, world: World) -> "Standing":
        """What is there now."""
        return cls(world, tree(world.state.feed.root), tree(world.copy), tree(world.mirror), world.clock())

    def check(self) -> None:
        """The feed's bytes are as before, verify, and are answered from as before."""
        assert self._lasting(tree(self.world.state.feed.root)) == self._lasting(self.feed)
        assert tree(self.world.copy) == self.copy
        prove_feed(self.world)
        assert matched(self.world) == OLD

    def _lasting(self, files: dict[str, str]) -> dict[str, str]:
        """What a sync that came to nothing leaves alone: the timestamp is signed anew each hour in any case."""
        if abs(self.world.clock() - self.at) < timedelta(hours=1):
            return files
        return {name: sha256 for name, sha256 in files.items() if not name.startswith("metadata/")}

    def check_mirror(self) -> None:
        """The mirror answers as before from the same version; newer metadata may lie beside it."""
        after = tree(self.world.mirror)
        kept = {name: sha256 for name, sha256 in self.mirror.items() if name != "current.json"}
        assert kept.items() <= after.items()
        assert _held(self.world.mirror) == 1
        assert matched(self.world, self.world.mirror) == OLD


def _held(mirror: Path) -> int:
    return int(json.loads((mirror / "current.json").read_text())["lists"][IMAGES]["version"])


def prove_feed(world: World) -> None:
    """Prove the operator's state and the matcher's copy as `syncd verify` does."""
    _sound(prove_state(world.state, None, world.clock()))
    _sound(prove_copy(world.copy, world.operator_root.read_bytes(), world.clock()))


def prove_partner(world: World) -> None:
    """Prove the partner's feed as `syncd verify` does."""
    _sound(prove.prove_feed(world.partner.root, world.root.read_bytes(), world.clock()))


def _sound(proof: Proof) -> None:
    assert [(fault.file, fault.error.message) for fault in proof.faults] == []


def fault_of(outcome: SyncOutcome) -> SyncdError:
    """The one error of a sync, once it is seen to say what is served and what to do."""
    faults = [error for error in (outcome.error, *(one.error for one in outcome.lists)) if error]
    assert len(faults) == 1
    return checked(faults[0])


def checked(error: SyncdError) -> SyncdError:
    """The error, once it is seen to say what happened, what is served and what to do."""
    assert error.message
    assert re.search(r"version \d|nothing|as last published", error.serving)
    assert error.hint
    return error


def followed(world: World, url: str = "", *, deadline: float = 20.0) -> SyncdError:
    """The one error of a pull from the partner."""
    try:
        pulled = world.follow(url, deadline=deadline)
    except SyncdError as error:
        return checked(error)
    assert [one.after for one in pulled.lists] == [1]
    (found,) = pulled.errors
    return checked(found)
