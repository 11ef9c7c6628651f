"""The part of the catalog in which an order to any daemon waits for the leader, and its answers for whoever asked."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import delete, func, insert, select, update

from syncd.catalog.database import Tables
from syncd.catalog.fleet_records import PlacedOrder
from syncd.catalog.lead import check_lead, database_time
from syncd.catalog.tables import order_answers, orders

_KEPT: Final = 3600 * 1000
"""Milliseconds that an order and its answers are kept once it has ended."""


class OrderTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def place_order(self, daemon: str, user: str, body: str) -> int:
        """Leave an order for the leader; return its number."""
        values = {"daemon": daemon, "user": user, "body": body, "placed": database_time(), "epoch": 0, "ended": 0}
        with self._database.writing() as connection:
            key = connection.execute(insert(orders).values(values)).inserted_primary_key
        number: int = key[0]  # type: ignore[index]  # None only after an insert of several rows
        return number

    def take_orders(self, epoch: int) -> tuple[PlacedOrder, ...]:
        """Return the orders that wait, oldest first, and mark them as taken in this epoch. Raises `NotLeadingError`."""
        waiting = (orders.c.ended == 0, orders.c.epoch == 0)
        if not self._rows(select(orders.c.id).where(*waiting).limit(1)):
            return ()  # called every second: a write transaction each time would block other writers
        with self._database.writing() as connection:
            check_lead(connection, epoch)
            rows = connection.execute(select(orders).where(*waiting).order_by(orders.c.id)).mappings().all()
            connection.execute(update(orders).where(*waiting).values(epoch=epoch))
        return tuple(PlacedOrder(row["id"], row["user"], row["body"]) for row in rows)

    def abandoned_orders(self, epoch: int) -> tuple[int, ...]:
        """Return the orders that a leader of an earlier epoch took and did not finish. Changes nothing."""
        rows = self._rows(select(orders.c.id).where(orders.c.ended == 0, orders.c.epoch > 0, orders.c.epoch < epoch))
        return tuple(row["id"] for row in rows)

    def drop_order(self, number: int) -> bool:
        """Take an order back; return False if the leader has taken it."""
        with self._database.writing() as connection:
            gone = delete(orders).where(orders.c.id == number, orders.c.epoch == 0)
            return connection.execute(gone).rowcount == 1

    def answer_order(self, number: int, contents: Sequence[str], *, ended: bool) -> None:
        """Add answers of the leader; with the last one the order has ended, and its text is removed."""
        with self._database.writing() as connection:
            mine = order_answers.c.order_id == number
            last = connection.execute(select(func.max(order_answers.c.position)).where(mine)).scalar_one() or 0
            for position, content in enumerate(contents, last + 1):
                row = {"order_id": number, "position": position, "content": content}
                connection.execute(insert(order_answers).values(row))
            if ended:
                over = update(orders).where(orders.c.id == number)
                connection.execute(over.values(ended=database_time(), body=""))
                connection.execute(delete(orders).where(orders.c.ended > 0, orders.c.ended < database_time() - _KEPT))

    def order_answers(self, number: int, after: int) -> tuple[tuple[int, str], ...]:
        """Return the answers to an order after a position, in order, each with its position."""
        mine = (order_answers.c.order_id == number, order_answers.c.position > after)
        with self._database.reading() as connection:
            found = select(order_answers.c.position, order_answers.c.content).where(*mine)
            rows = connection.execute(found.order_by(order_answers.c.position)).all()
        return tuple((row.position, row.content) for row in rows)

    def order_epoch(self, number: int) -> int | None:
        """Return the epoch in which an order was taken; 0 if it waits, None if it has ended or is not known."""
        rows = self._rows(select(orders.c.epoch).where(orders.c.id == number, orders.c.ended == 0))
        return rows[0]["epoch"] if rows else None
