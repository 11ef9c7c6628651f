"""The part of the catalog that knows who may pull, and which version each has loaded."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, tuple_, update
from sqlalchemy import delete as delete_from

from syncd.catalog.audit import append
from syncd.catalog.database import Tables, put, values_of, writing
from syncd.catalog.records import AuditEntry, LoadedVersion, MatcherRecord
from syncd.catalog.tables import loaded, matchers, versions
from syncd.errors import UsageError
from syncd.model import ListName

Instance = tuple[str, str]
"""A matcher's name, and which of its processes or hosts."""

_AT_ONCE = 500
"""Keys in one statement: SQLite takes some 32,000 variables (https://sqlite.org/limits.html, 9)."""


class MatcherTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: a method is one transaction, and raises `StoreError` as that does."""

    def matchers(self) -> tuple[MatcherRecord, ...]:
        """Those whose token is in force, by name."""
        statement = select(matchers).where(matchers.c.revoked_at.is_(None)).order_by(matchers.c.name)
        return tuple(MatcherRecord(**row) for row in self._rows(statement))

    def add_matcher(self, record: MatcherRecord, entry: AuditEntry) -> None:
        """Let a matcher pull, in one transaction with the audit entry.

        Raises `UsageError` where the name is in force; a revoked one may be given again.
        """
        others = {name: value for name, value in values_of(record).items() if name != "name"}
        with writing(self._engine, self.path) as connection:
            if _in_force(connection, record.name):
                raise UsageError(
                    f"there is a matcher {record.name} already",
                    hint=f"`syncd matchers revoke {record.name}` first, or take another name; nothing was changed",
                )
            put(connection, matchers, {"name": record.name}, others)
            append(connection, entry)

    def revoke_matcher(self, name: str, entry: AuditEntry) -> None:
        """Let a matcher pull no more from ``entry.at`` on, and forget what it has loaded.

        Raises `UsageError` where no matcher of that name is in force.
        """
        with writing(self._engine, self.path) as connection:
            if not _in_force(connection, name):
                raise UsageError("there is no matcher of that name", hint="`syncd matchers` lists them")
            connection.execute(update(matchers).where(matchers.c.name == name).values(revoked_at=entry.at))
            connection.execute(delete_from(loaded).where(loaded.c.matcher == name))
            append(connection, entry)

    def loaded(self) -> tuple[LoadedVersion, ...]:
        """What every instance has loaded, by matcher, instance and list."""
        statement = select(loaded).order_by(loaded.c.matcher, loaded.c.instance, loaded.c.list)
        return tuple(LoadedVersion(**row) for row in self._rows(statement))

    def replace_loaded(self, instances: Iterable[Instance], now: Iterable[LoadedVersion]) -> None:
        """Forget what these instances had loaded, and remember ``now`` instead.

        What is said of a matcher that is not in force is left out.
        """
        keys = list(instances)
        with writing(self._engine, self.path) as connection:
            for start in range(0, len(keys), _AT_ONCE):
                some = tuple_(loaded.c.matcher, loaded.c.instance).in_(keys[start : start + _AT_ONCE])
                connection.execute(delete_from(loaded).where(some))
            known = set(connection.execute(select(matchers.c.name).where(matchers.c.revoked_at.is_(None))).scalars())
            rows = [values_of(one) for one in now if one.matcher in known]
            if rows:
                connection.execute(insert(loaded), rows)

    def due_versions(self, published_by: datetime) -> Mapping[ListName, int]:
        """Of every list the newest version that was published by then."""
        newest = select(versions.c.list, func.max(versions.c.version).label("version")).group_by(versions.c.list)
        rows = self._rows(newest.where(versions.c.created_at <= published_by))
        return {ListName(row["list"]): int(row["version"]) for row in rows}


def _in_force(connection: Connection, name: str) -> bool:
    found = select(matchers.c.name).where(matchers.c.name == name, matchers.c.revoked_at.is_(None))
    return connection.execute(found).first() is not None
