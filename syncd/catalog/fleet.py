"""The part of the catalog that several daemons share: who leads, and who runs."""

import threading
from typing import Any, Final

from sqlalchemy import Connection, Select, delete, func, select, update

from syncd.catalog.database import Tables, put, values_of
from syncd.catalog.fleet_records import DaemonRecord, FleetState, Leader
from syncd.catalog.lead import database_time
from syncd.catalog.next_keys import announced
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

    def check_store(self, store: str) -> None:
        """Raise `ConfigError` if the lists of this catalog were published in another place than ``store``."""
        before = self.leader()
        if before is not None and before.store != store:
            raise ConfigError(
                f"the lists of the catalog {self._database.name} are published in {before.store}, and this "
                f"configuration names {store}",
                hint="all daemons on one catalog need the same [store]: correct the configuration",
            )

    def lead(self, owner: str, host: str, store: str, lease: float, *, take_over: bool = False) -> Leader | None:
        """Become the leader for ``lease`` seconds, in a new epoch; return None if another daemon leads.

        ``store``: the place of the published files; see `check_store`. ``take_over``: also if a daemon leads, which
        then publishes nothing more. Nobody takes over from a command.
        """
        with self._database.writing() as connection:
            before = _leader(connection, select(leader).with_for_update())
            if before is not None and before.in_force and before.owner != owner:
                if not take_over or not _is_daemon(connection, before.owner):
                    return None
                self._database.notify(connection)
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

    def move_store(self, store: str) -> None:
        """Record that the published files were moved to another place; see `check_store`."""
        with self._database.writing() as connection:
            connection.execute(update(leader).values(store=store))

    def renew_lead(self, epoch: int, lease: float) -> bool:
        """Go on leading for ``lease`` seconds from now; return False if another daemon has taken over."""
        until = database_time() + int(lease * 1000)
        mine = (leader.c.epoch == epoch, leader.c.owner != "")
        with self._database.writing() as connection:
            return connection.execute(update(leader).where(*mine).values(until=until)).rowcount == 1

    def give_up_lead(self, epoch: int) -> None:
        """Let another daemon lead at once."""
        with self._database.writing() as connection:
            self._database.notify(connection)
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
        self._database.wait_for_notice(seconds, stop)

    def note_daemon(self, daemon: DaemonRecord) -> None:
        """Record that a daemon runs, and forget those that have said nothing for a day."""
        with self._database.writing() as connection:
            now = connection.execute(select(database_time())).scalar_one()
            values = {**values_of(daemon), "seen": now}
            put(connection, daemons, {"id": values.pop("id")}, values)
            connection.execute(delete(daemons).where(daemons.c.seen < now - _FORGET_AFTER))

    def forget_daemon(self, daemon: str) -> None:
        """Record that a daemon has stopped: if it led, another one leads at once."""
        with self._database.writing() as connection:
            self._database.notify(connection)
            connection.execute(delete(daemons).where(daemons.c.id == daemon))
            led = update(leader).where(leader.c.owner == daemon)
            connection.execute(led.values(owner="", until=database_time()))

    def daemons(self) -> tuple[tuple[DaemonRecord, ...], int]:
        """Return the daemons that were seen in the last day, sorted by host, and the time in the database."""
        with self._database.reading() as connection:
            found = _daemons(connection)
            now = connection.execute(select(database_time())).scalar_one()
        return found, now

    def fleet(self) -> FleetState | None:
        """Return all daemons at one time; None if none ever led, which is so on one machine."""
        with self._database.reading() as connection:
            led = _leader(connection, select(leader))
            if led is None:
                return None
            found = _daemons(connection)
            overdue = {serves: _installed_after(connection, serves) for serves in {daemon.serves for daemon in found}}
            new_keys = announced(connection)
        return FleetState(led, found, {serves: at for serves, at in overdue.items() if at is not None}, new_keys)


def _leader(connection: Connection, statement: Select[Any]) -> Leader | None:
    row = connection.execute(statement).mappings().first()
    if row is None:
        return None
    now = connection.execute(select(database_time())).scalar_one()
    return Leader(**{name: value for name, value in row.items() if name != "id"}, now=now)


def _daemons(connection: Connection) -> tuple[DaemonRecord, ...]:
    rows = connection.execute(select(daemons)).mappings().all()
    return tuple(sorted((DaemonRecord(**row) for row in rows), key=lambda daemon: (daemon.host, daemon.id)))


def _is_daemon(connection: Connection, owner: str) -> bool:
    return connection.execute(select(daemons.c.id).where(daemons.c.id == owner)).first() is not None


def _installed_after(connection: Connection, publication: int) -> int | None:
    """Return when the first publication after this one was installed; None if there is none, or an older syncd did."""
    later = (publications.c.id > publication, publications.c.installed_at.is_not(None))
    first = select(publications.c.installed_at).where(*later).order_by(publications.c.id).limit(1)
    return connection.execute(first).scalar_one_or_none()
