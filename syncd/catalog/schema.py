"""Migration of a catalog to the schema that this code knows, with Alembic, in one transaction."""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine

from syncd.catalog.database import copy, make_engine, reading, writing
from syncd.catalog.tables import REVISION
from syncd.errors import RESTORE_CATALOG, StoreError, UsageError

MIGRATIONS: Final = Path(__file__).parent / "migrations"


def bring_up(path: Path, lock_wait: float, *, revision: str = REVISION, scripts: Path = MIGRATIONS) -> None:
    """Create the tables or migrate them to ``revision``; do nothing if they have it already.

    An existing catalog is first copied to ``<name>.before-<its revision>``. Raises `UsageError` if the schema is
    unknown (a newer syncd wrote it) or the file is another program's, `StoreError` if the disk or the file is bad.
    """
    # Foreign keys off: SQLite cannot switch them inside a transaction, and a migration that rebuilds a table would
    # drop its dependent rows as well (https://sqlite.org/lang_altertable.html, section 7).
    engine = make_engine(path, lock_wait, foreign_keys=False)
    try:
        with reading(engine, path) as connection:
            current = _revision(connection, path)
        if current != revision:
            _migrate(engine, path, revision, scripts)
    finally:
        engine.dispose()


def _migrate(engine: Engine, path: Path, revision: str, scripts: Path) -> None:
    with writing(engine, path) as connection:
        current = _revision(connection, path)
        if current == revision:  # another process has migrated it in the meantime
            return
        if current is not None:
            _refuse_unknown(current, path, scripts)
            copy(engine, path.with_name(f"{path.name}.before-{current}"))
        _upgrade(connection, revision, scripts)
        if connection.exec_driver_sql("PRAGMA foreign_key_check").first():
            raise StoreError(f"{path}: rows refer to missing rows", hint=RESTORE_CATALOG)


def _revision(connection: Connection, path: Path) -> str | None:
    """Return the revision of the stored schema; None if the file is empty."""
    tables = set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())
    if not tables:
        return None
    if "alembic_version" not in tables or not {"syncs", "publications"} <= tables:
        raise UsageError(f"{path} is not a syncd catalog", hint="check that state_dir names the right folder")
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none())


def _refuse_unknown(current: str, path: Path, scripts: Path) -> None:
    from alembic.script import ScriptDirectory  # slow to import; only needed to migrate

    if current not in {script.revision for script in ScriptDirectory(str(scripts)).walk_revisions()}:
        raise UsageError(
            f"{path} has schema {current}, which this syncd does not know",
            hint="a newer syncd wrote it: run that version, or restore the copy that it made before it migrated",
        )


def _upgrade(connection: Connection, revision: str, scripts: Path) -> None:
    from alembic import command  # slow to import; only needed to migrate
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    command.upgrade(config, revision)
