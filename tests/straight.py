"""A partner whose one list of nine rows is pulled straight, with no operator between: made once a file, and copied."""

import shutil
from pathlib import Path

import pytest

from world import World, rows


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a partner with one list of nine rows, pulled straight: copied, not used."""
    world = World(tmp_path_factory.mktemp("pulled"))
    world.publish(full=rows(0, 9))
    world.follow()
    return world.base


@pytest.fixture
def world(pulled: Path, tmp_path: Path) -> World:
    """A partner with one list of nine rows, pulled straight."""
    return World(Path(shutil.copytree(pulled, tmp_path / "world")))
