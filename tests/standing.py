"""What stands whatever happens: what was served before, byte for byte, and what a reader proves of a feed."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from syncd.errors import SyncdError
from syncd.feed import author
from syncd.feed.folder import FeedFolder
from syncd.format.delta import drop_empty, whole_state
from syncd.format.segment import Segment
from syncd.matcher import Matcher
from syncd.model import ListName
from syncd.pipeline.sync import SyncOutcome
from syncd.trust.strict import verify_exactly
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

    @classmethod
    def of(cls, world: World) -> "Standing":
        """What is there now."""
        return cls(world, tree(world.state.feed.root), tree(world.copy), tree(world.mirror))

    def check(self) -> None:
        """The feed's bytes are as before, verify, and are answered from as before."""
        assert tree(self.world.state.feed.root) == self.feed
        assert tree(self.world.copy) == self.copy
        prove_feed(self.world.state.feed)
        assert matched(self.world) == OLD

    def check_mirror(self) -> None:
        """The mirror answers as before from the same version; newer metadata may lie beside it."""
        after = tree(self.world.mirror)
        kept = {name: sha256 for name, sha256 in self.mirror.items() if name != "current.json"}
        assert kept.items() <= after.items()
        assert _held(self.world.mirror) == 1
        assert matched(self.world, self.world.mirror) == OLD


def _held(mirror: Path) -> int:
    return int(json.loads((mirror / "current.json").read_text())["lists"][IMAGES]["version"])


def prove_feed(folder: FeedFolder) -> None:
    """Prove a feed as `syncd verify` does: signatures, every segment, every end state."""
    versions = author.load_repository(folder).versions
    first = folder.metadata("1.root.json")
    newest = f"{versions['timestamp']}.timestamp.json"
    assert first is not None
    trusted = verify_exactly(
        lambda name: folder.metadata("timestamp.json" if name == newest else name), versions, first
    )
    for target in trusted.targets.values():
        manifest = folder.manifest(ListName(target.name.split("/")[1]), target.sha256)
        assert manifest.version == target.version
        for ref in manifest.named_segments():
            Segment.check(folder.segment_path(manifest.list, ref), ref)
        stacks = folder.open_stacks(manifest.list, manifest.stack)
        states = {algorithm: whole_state(stack)[0] for algorithm, stack in stacks.items()}
        assert drop_empty(states) == manifest.end_state


def fault_of(outcome: SyncOutcome) -> SyncdError:
    """The one error of a sync, once it is seen to say what is served and what to do."""
    faults = [error for error in (outcome.error, *(one.error for one in outcome.lists)) if error]
    assert len(faults) == 1
    return checked(faults[0])


def checked(error: SyncdError) -> SyncdError:
    """The error, once it is seen to say what happened, what is served and what to do."""
    assert error.message
    assert "version 1" in error.serving or "nothing" in error.serving
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
