"""The road's own tests once more, with a bucket as the operator's store: publishing, holding, rolling back, mending."""

from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from _pytest.fixtures import FixtureFunctionDefinition

import test_holds
import test_publication
import test_road
import test_rollback
from syncd.store.settings import BucketSettings
from world import World, rows

MODULES: Final = (test_publication, test_road, test_holds, test_rollback)
OF_A_LOST_DISK: Final = {
    "test_a_whole_update_that_was_discarded_after_a_loss_is_not_held_again",
    "test_losing_everything_of_a_list_opens_no_lane",
    "test_losing_what_was_refused_lets_nothing_of_it_pass",
    "test_lost_private_files_open_no_lane",
}
"""Tests that remove private files: with a bucket nothing is lost by that."""


@pytest.fixture
def world(tmp_path: Path, bucket: BucketSettings) -> World:
    """A world whose operator publishes into a bucket."""
    return World(tmp_path, bucket=bucket)


@pytest.fixture
def standing(world: World) -> World:
    """A world with one list, published, synced and pulled: numbers 0 to 29."""
    world.publish(full=rows(0, 30))
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    assert not world.follow().errors
    return world


def _stories_of(module: ModuleType) -> dict[str, Any]:
    """Return the tests of a module with its own fixtures."""
    return {
        name: value
        for name, value in vars(module).items()
        if (name.startswith("test_") and name not in OF_A_LOST_DISK) or isinstance(value, FixtureFunctionDefinition)
    }


for _module in MODULES:
    globals().update(_stories_of(_module))
