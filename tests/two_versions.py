"""An operator whose one list is at version 2, for tests that type the commands which errors and pages advise."""

import pytest

from command_line import operate, syncd
from world import World, row, rows


@pytest.fixture
def running(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A list that is at version 2 at its operator, and pulled by a matcher; the lines of commands are not folded."""
    operate(world, monkeypatch)
    monkeypatch.setenv("COLUMNS", "2000")
    world.publish(full=rows(0, 30))
    assert syncd("sync").code == 0
    world.publish(add=[row(30)], remove=[row(5)])
    assert syncd("sync").code == 0
    assert not world.pull().errors
    return world
