"""The epoch of the leader: which daemon may publish, if several share a catalog.

A lease by the database's clock decides who works. It does not decide who may publish: a leader that was stopped for an
hour does not know that its lease has ended. So each transaction that publishes compares the epoch.
"""

from typing import Any

from sqlalchemy import BigInteger, Connection, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from syncd.catalog.tables import leader
from syncd.errors import not_leading


class database_time(GenericFunction[int]):  # noqa: N801 - the name of an SQL function
    """The database's clock, in milliseconds since 1970: the same for all daemons, and going on in a transaction."""

    type = BigInteger()
    inherit_cache = True


@compiles(database_time, "sqlite")
def _sqlite_time(element: Any, compiler: Any, **named: Any) -> str:
    del element, compiler, named
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(database_time, "postgresql")
def _postgresql_time(element: Any, compiler: Any, **named: Any) -> str:
    del element, compiler, named
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


def check_lead(connection: Connection, epoch: int | None) -> None:
    """Compare the epoch of a writer with the one in force, and keep it until the transaction ends.

    ``epoch``: None for a writer that does not lead. It may write as long as no daemon has ever led, which is so on one
    machine. Raises `NotLeadingError`.
    """
    row = connection.execute(select(leader).with_for_update()).mappings().first()
    if row is not None and (row["epoch"] != epoch or not row["owner"]):
        raise not_leading(row["host"] if row["owner"] else "")
