"""The part of the catalog that keeps the canaries of each published list."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, select

from syncd.catalog.database import Tables, put, values_of
from syncd.catalog.decisions import CanaryNote, KnownGoodMark
from syncd.catalog.tables import canaries
from syncd.model import ListName

_NOTE = [canaries.c[field.name] for field in fields(CanaryNote)]
_MARK = [canaries.c[field.name] for field in fields(KnownGoodMark)]


class CanaryTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def canary_notes(self) -> dict[ListName, CanaryNote]:
        """Return the canaries of every list, as the last sync found them."""
        return {ListName(row["list"]): CanaryNote(**row) for row in self._rows(select(*_NOTE))}

    def known_good_marks(self) -> tuple[KnownGoodMark, ...]:
        """Return what is never published on each list."""
        return tuple(KnownGoodMark(**row) for row in self._rows(select(*_MARK).order_by("list")))

    def note_canaries(self, note: CanaryNote) -> None:
        """Record the canaries of a list."""
        with self._leading() as connection:
            _put(connection, values_of(note))


def put_mark(connection: Connection, mark: KnownGoodMark) -> None:
    """Record what is never published on a list, from its next version on."""
    _put(connection, values_of(mark))


def mark_of(connection: Connection, name: ListName) -> KnownGoodMark:
    """Return what is never published on a list."""
    row = connection.execute(select(*_MARK).where(canaries.c.list == name)).mappings().first()
    return KnownGoodMark(**row) if row else KnownGoodMark(name)


def _put(connection: Connection, values: Mapping[str, Any]) -> None:
    put(connection, canaries, {"list": values["list"]}, {key: one for key, one in values.items() if key != "list"})
