"""Fixtures for stories."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina

import buckets
from standing import make_standing
from syncd.store.settings import BucketSettings
from world import World

os.umask(0o022)  # whoever runs the tests may have another; tests of other users read files that these make


@pytest.fixture(autouse=True)
def _no_waiting_between_attempts() -> Iterator[None]:
    """Retries happen, at once."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A partner, an operator and a matcher that know one another."""
    return World(tmp_path)


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a real S3 server, which all processes of this run share."""
    shared = os.environ.get("PYTEST_XDIST_WORKER") is not None
    base = tmp_path_factory.getbasetemp()
    return buckets.running((base.parent if shared else base) / "s3", os.getppid() if shared else os.getpid())


@pytest.fixture
def bucket(s3_endpoint: str, tmp_path: Path) -> BucketSettings:
    """A place in a bucket of a real S3 server, empty and only for this test."""
    return buckets.settings(tmp_path, s3_endpoint)


@pytest.fixture(scope="session")
def standing_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a world with one list that everybody holds: copied, not used."""
    folder = tmp_path_factory.mktemp("standing") / "world"
    folder.mkdir()
    make_standing(folder)
    return folder


@pytest.fixture
def standing(standing_folder: Path, tmp_path: Path) -> World:
    """A world with one list, published, synced and pulled: numbers 0 to 29."""
    return World(Path(shutil.copytree(standing_folder, tmp_path / "world")))
