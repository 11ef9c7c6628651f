"""The part of the catalog that announces new keys to the daemons that share it, before they are in force."""

from collections.abc import Iterable

from sqlalchemy import Connection, delete, select

from syncd.catalog.audit import append
from syncd.catalog.database import Tables, put, values_of
from syncd.catalog.fleet_records import NextKeys
from syncd.catalog.lead import database_time
from syncd.catalog.records import AuditEntry
from syncd.catalog.tables import next_keys


class NextKeyTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def next_keys(self) -> tuple[NextKeys, ...]:
        """Return the keys that are announced and not yet in force, sorted by role."""
        with self._database.reading() as connection:
            return announced(connection)

    def announce_keys(self, announced: NextKeys, entry: AuditEntry) -> None:
        """Announce new keys of a role, in place of those that were announced before."""
        values = values_of(announced)
        with self._database.writing() as connection:
            values["announced"] = connection.execute(select(database_time())).scalar_one()
            put(connection, next_keys, {"role": values.pop("role")}, values)
            append(connection, entry)

    def withdraw_keys(self, role: str, entry: AuditEntry) -> None:
        """Forget the keys that were announced for a role."""
        with self._database.writing() as connection:
            end_announcements(connection, (role,))
            append(connection, entry)


def announced(connection: Connection) -> tuple[NextKeys, ...]:
    """Return the keys that are announced, sorted by role."""
    rows = connection.execute(select(next_keys).order_by(next_keys.c.role)).mappings().all()
    return tuple(NextKeys(**row) for row in rows)


def end_announcements(connection: Connection, roles: Iterable[str]) -> None:
    """Forget what was announced for these roles: it is in force now, or never will be."""
    connection.execute(delete(next_keys).where(next_keys.c.role.in_(tuple(roles))))
