"""The tables of a catalog: made, or migrated with Alembic to the schema that this code knows, in one transaction."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection

from syncd.catalog.database import Database
from syncd.catalog.tables import REVISION, metadata
from syncd.errors import UsageError

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS: Final = Path(__file__).parent / "migrations"


def bring_up(database: Database, *, revision: str = REVISION, scripts: Path = MIGRATIONS) -> None:
    """Create the tables or migrate them to ``revision``; do nothing if they have it already.

    An existing catalog in a file is first copied to ``<name>.before-<its revision>``. Raises `UsageError` if the schema
    is unknown (a newer syncd wrote it) or the database is another program's, `StoreError` if it fails.
    """
    with database.reading() as connection:
        current = _revision(connection, database)
    if current != revision:
        _migrate(database, revision, scripts)


def _migrate(database: Database, revision: str, scripts: Path) -> None:
    with database.migrating() as connection:
        current = _revision(connection, database)
        if current == revision:  # another process has migrated it in the meantime
            return
        if current is None:
            create(database, connection, revision=revision, scripts=scripts)
            return
        _refuse_unknown(current, database, scripts)
        database.keep_before(current)
        _upgrade(connection, revision, scripts)


def create(database: Database, connection: Connection, *, revision: str = REVISION, scripts: Path = MIGRATIONS) -> None:
    """Create the tables in a `Database.migrating` transaction of a database that has none."""
    if database.created_whole:
        metadata.create_all(connection)
        _stamp(connection, revision, scripts)
    else:
        _upgrade(connection, revision, scripts)


def _revision(connection: Connection, database: Database) -> str | None:
    """Return the revision of the stored schema; None if there are no tables."""
    tables = database.tables(connection)
    if not tables:
        return None
    if "alembic_version" not in tables or not {"syncs", "publications"} <= tables:
        raise UsageError(f"{database.name} is not a syncd catalog", hint=database.where)
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none())


def _refuse_unknown(current: str, database: Database, scripts: Path) -> None:
    from alembic.script import ScriptDirectory  # slow to import; only needed to migrate

    if current not in {script.revision for script in ScriptDirectory(str(scripts)).walk_revisions()}:
        raise UsageError(
            f"{database.name} has schema {current}, which this syncd does not know",
            hint=f"a newer syncd wrote it: run that version, or restore {database.before_migration}",
        )


def _upgrade(connection: Connection, revision: str, scripts: Path) -> None:
    from alembic import command  # slow to import; only needed to migrate

    command.upgrade(_config(connection, scripts), revision)


def _stamp(connection: Connection, revision: str, scripts: Path) -> None:
    from alembic import command  # as above

    command.stamp(_config(connection, scripts), revision)


def _config(connection: Connection, scripts: Path) -> "Config":
    from alembic.config import Config  # as above

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    return config
