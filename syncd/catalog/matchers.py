"""The part of the catalog that keeps permitted matchers, and the version that each has loaded."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import Connection, insert, select, tuple_, update
from sqlalchemy import delete as delete_from

from syncd.catalog.audit import append
from syncd.catalog.database import Tables, put, values_of
from syncd.catalog.history import put_loads
from syncd.catalog.history_records import Load
from syncd.catalog.records import AuditEntry, LoadedVersion, MatcherRecord
from syncd.catalog.tables import heads, loaded, matchers, versions
from syncd.errors import UsageError, did_you_mean
from syncd.model import ListName

Instance = tuple[str, str]
"""A matcher's name, and the name of one of its processes or hosts."""

_CHUNK = 500
"""Keys in one statement: SQLite accepts some 32,000 variables (https://sqlite.org/limits.html, 9)."""


class MatcherTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def matchers(self) -> tuple[MatcherRecord, ...]:
        """Return the matchers whose token is valid, sorted by name."""
        statement = select(matchers).where(matchers.c.revoked_at.is_(None)).order_by(matchers.c.name)
        return tuple(MatcherRecord(**row) for row in self._rows(statement))

    def add_matcher(self, record: MatcherRecord, entry: AuditEntry) -> None:
        """Permit a matcher to pull, in one transaction with the audit entry.

        Raises `UsageError` if a permitted matcher has this name; the name of a revoked one may be used again.
        """
        others = {name: value for name, value in values_of(record).items() if name != "name"}
        with self._database.writing() as connection:
            if _is_permitted(connection, record.name):
                raise UsageError(
                    f"a matcher named {record.name} exists already",
                    hint=f"`syncd matchers revoke {record.name}` first, or use another name; nothing was changed",
                )
            put(connection, matchers, {"name": record.name}, others)
            append(connection, entry)

    def revoke_matcher(self, name: str, entry: AuditEntry) -> None:
        """Revoke a matcher's permission from ``entry.at`` on, and forget the versions it has loaded.

        Raises `UsageError` if no permitted matcher has this name.
        """
        with self._database.writing() as connection:
            if not _is_permitted(connection, name):
                permitted = connection.execute(select(matchers.c.name).where(matchers.c.revoked_at.is_(None))).scalars()
                hint = did_you_mean(name, permitted) or "`syncd matchers` lists them"
                raise UsageError("there is no matcher of that name", hint=hint)
            connection.execute(update(matchers).where(matchers.c.name == name).values(revoked_at=entry.at))
            held = connection.execute(select(loaded).where(loaded.c.matcher == name)).mappings().all()
            ended = [Load(row["list"], name, row["instance"], entry.at, 0) for row in held]
            put_loads(connection, ended)
            connection.execute(delete_from(loaded).where(loaded.c.matcher == name))
            append(connection, entry)

    def loaded(self) -> tuple[LoadedVersion, ...]:
        """Return the versions that all instances have loaded, sorted by matcher, instance and list."""
        statement = select(loaded).order_by(loaded.c.matcher, loaded.c.instance, loaded.c.list)
        return tuple(LoadedVersion(**row) for row in self._rows(statement))

    def replace_loaded(
        self, instances: Iterable[Instance], now: Iterable[LoadedVersion], changes: Iterable[Load] = ()
    ) -> None:
        """Replace the loaded versions of these instances by ``now``; those of matchers not permitted are dropped.

        ``changes``: every change of a loaded version since the last call, for the history.
        """
        keys = list(instances)
        with self._database.writing() as connection:
            for start in range(0, len(keys), _CHUNK):
                some = tuple_(loaded.c.matcher, loaded.c.instance).in_(keys[start : start + _CHUNK])
                connection.execute(delete_from(loaded).where(some))
            known = set(connection.execute(select(matchers.c.name).where(matchers.c.revoked_at.is_(None))).scalars())
            rows = [values_of(record) for record in now if record.matcher in known]
            if rows:
                connection.execute(insert(loaded), rows)
            put_loads(connection, changes)

    def due_versions(self, published_by: datetime) -> Mapping[ListName, int]:
        """Return the newest version of every list that was published by then."""
        # A look-up for each list, from its newest version back: what was published long ago is never read.
        by_then = (versions.c.list == heads.c.list, versions.c.created_at <= published_by)
        newest = select(versions.c.version).where(*by_then).order_by(versions.c.version.desc()).limit(1)
        rows = self._rows(select(heads.c.list, newest.scalar_subquery().label("version")))
        return {ListName(row["list"]): int(row["version"]) for row in rows if row["version"] is not None}


def _is_permitted(connection: Connection, name: str) -> bool:
    permitted = select(matchers.c.name).where(matchers.c.name == name, matchers.c.revoked_at.is_(None))
    return connection.execute(permitted).first() is not None
