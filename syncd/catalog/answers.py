"""The part of the catalog that knows the raw answers of partners that sign nothing, which are kept as evidence."""

from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from syncd.catalog.database import Tables, values_of
from syncd.catalog.records import AnswersRecord, OriginRecord, Position
from syncd.catalog.tables import answers, origins, updates


class AnswersTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def answers(self, source: str) -> tuple[AnswersRecord, ...]:
        """Return the kept answers of a source, oldest first; bundles that several versions name more than once."""
        wanted = [answers.c[field.name] for field in fields(AnswersRecord)]
        rows = self._rows(select(*wanted).where(answers.c.source == source).order_by(answers.c.id))
        return tuple(AnswersRecord(**row) for row in rows)

    def note_polled(self, origin: OriginRecord, position: Position, now: datetime) -> None:
        """Record that a partner stated nothing new of a list, and how far it was read; skip it if it has moved."""
        same = (origins.c.source == origin.source, origins.c.list == origin.list)
        unmoved = origins.c.manifest_sha256 == origin.manifest_sha256
        with self._leading() as connection:
            connection.execute(update(origins).where(*same, unmoved).values(position=position, verified_at=now))

    def replace_staged(self, update_id: int, staged: bytes) -> None:
        """Replace a waiting update by the same one as it was last read: only its position and its time differ."""
        with self._leading() as connection:
            connection.execute(update(updates).where(updates.c.id == update_id).values(staged=staged))


def put_answers(connection: Connection, records: Iterable[AnswersRecord]) -> None:
    """Add bundles of raw answers."""
    for record in records:
        connection.execute(insert(answers).values(values_of(record)))
