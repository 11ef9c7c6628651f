"""The part of the catalog that keeps since when files of a shared store are unnamed, for the next leader."""

from sqlalchemy import select

from syncd.catalog.database import Tables, put
from syncd.catalog.tables import unnamed_files


class UnnamedTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def unnamed_files(self, place: str) -> str:
        """Return the record of one folder's unnamed files, as `syncd.feed.garbage` wrote it; '' if there is none."""
        rows = self._rows(select(unnamed_files.c.record).where(unnamed_files.c.place == place))
        return str(rows[0]["record"]) if rows else ""

    def note_unnamed_files(self, place: str, record: str) -> None:
        """Replace the record. Raises `NotLeadingError` if this process no longer leads."""
        with self._leading() as connection:
            put(connection, unnamed_files, {"place": place}, {"record": record})
