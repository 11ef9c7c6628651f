"""The part of the catalog that several daemons share: who leads, and who runs."""

import threading
from typing import Any, Final

from sqlalchemy import Connection, Select, delete, func, select, update

from syncd.catalog.database import Tables, put, values_of
from syncd.catalog.fleet_records import DaemonRecord, Leader
from syncd.catalog.lead import database_time
from syncd.catalog.tables import audit, daemons, leader, publications
from syncd.errors import ConfigError

_ONLY: Final = 1
_FORGET_AFTER: Final = 24 * 3600 * 1000
"""Milliseconds after which a daemon that says nothing is no longer listed."""


class FleetTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def leader(self) -> Leader | None:
        """Return who leads, or led last; None if nobody ever did."""
        with self._database.reading() as connection:
            return _leader(connection, select(leader))

    def lead(self, owner: str, host: str, store: str, lease: float) -> Leader | None:
        """Become the leader for ``lease`` seconds, in a new epoch; return None if another daemon leads.

        Raises `ConfigError` if the lists of this catalog were published in another place than ``store``.
        """
        with self._database.writing() as connection:
            before = _leader(connection, select(leader).with_for_update())
            if before is not None and before.store != store:
                raise ConfigError(
                    f"the lists of {self._database.name} are published in {before.store}, and this daemon is "
                    f"configured for {store}",
                    hint="all daemons on one catalog need the same [store]; correct the configuration",
                )
            if before is not None and before.in_force and before.owner != owner:
                return None
            now = connection.execute(select(database_time())).scalar_one()
            values: dict[str, Any] = {
                "epoch": before.epoch + 1 if before else 1,
                "owner": owner,
                "host": host,
                "since": now,
                "until": now + int(lease * 1000),
                "store": store,
            }
            put(connection, leader, {"id": _ONLY}, values)
            return Leader(**values, now=now)

    def renew_lead(self, epoch: int, lease: float) -> bool:
        """Go on leading for ``lease`` seconds from now; return False if another daemon has taken over."""
        until = database_time() + int(lease * 1000)
        mine = (leader.c.epoch == epoch, leader.c.owner != "")
        with self._database.writing() as connection:
            return connection.execute(update(leader).where(*mine).values(until=until)).rowcount == 1

    def give_up_lead(self, epoch: int) -> None:
        """Let another daemon lead at once."""
        with self._database.writing() as connection:
            connection.execute(update(leader).where(leader.c.epoch == epoch).values(owner="", until=database_time()))

    def newest(self) -> tuple[int, int]:
        """Return the newest installed publication and the newest record of the audit log; 0 if there is none."""
        installed = select(func.max(publications.c.id)).where(publications.c.installed.is_(True)).scalar_subquery()
        acts = select(func.max(audit.c.number)).scalar_subquery()
        with self._database.reading() as connection:
            row = connection.execute(select(installed, acts)).one()
        return row[0] or 0, row[1] or 0

    def wait_for_notice(self, seconds: float, stop: threading.Event) -> None:
        """Wait until another daemon may have changed something, at most ``seconds``, or until ``stop`` is set."""
        stop.wait(seconds)

    def note_daemon(self, daemon: DaemonRecord) -> None:
        """Record that a daemon runs, and forget those that have said nothing for a day."""
        with self._database.writing() as connection:
            now = connection.execute(select(database_time())).scalar_one()
            values = {**values_of(daemon), "seen": now}
            put(connection, daemons, {"id": values.pop("id")}, values)
            connection.execute(delete(daemons).where(daemons.c.seen < now - _FORGET_AFTER))

    def forget_daemon(self, daemon: str) -> None:
        """Record that a daemon has stopped."""
        with self._database.writing() as connection:
            connection.execute(delete(daemons).where(daemons.c.id == daemon))

    def daemons(self) -> tuple[tuple[DaemonRecord, ...], int]:
        """Return the daemons that were seen in the last day, sorted by host, and the time in the database."""
        with self._database.reading() as connection:
            rows = connection.execute(select(daemons)).mappings().all()
            now = connection.execute(select(database_time())).scalar_one()
        found = sorted((DaemonRecord(**row) for row in rows), key=lambda daemon: (daemon.host, daemon.id))
        return tuple(found), now


def _leader(connection: Connection, statement: Select[Any]) -> Leader | None:
    row = connection.execute(statement).mappings().first()
    if row is None:
        return None
    now = connection.execute(select(database_time())).scalar_one()
    return Leader(**{name: value for name, value in row.items() if name != "id"}, now=now)
