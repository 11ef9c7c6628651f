"""The part of the catalog that keeps the audit log: a hash chain, in which each record vouches for all before it."""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Text, and_, insert, or_, select, type_coerce

from syncd.acts import Act, act_named
from syncd.catalog.chain import START, AuditCheck, RawRecord, StatedHead, check, link
from syncd.catalog.database import Tables
from syncd.catalog.records import EVERY_RECORD, AuditEntry, AuditFilter, AuditRecord
from syncd.catalog.tables import audit, canonical, time_text
from syncd.errors import StoreError
from syncd.model import AuditHead

_PAGE: Final = 500
"""Records read at a time: a long log neither fills the memory nor keeps a transaction open."""


def append(connection: Connection, *entries: AuditEntry) -> AuditHead:
    """Append to the chain; return its new head. The caller's transaction must own the write lock."""
    last = head_of(connection)
    number, head = last.records, last.head
    for entry in entries:
        number, fields = number + 1, entry.act.document()
        head = link(head, number, time_text(entry.at), entry.actor, entry.act.name(), fields)
        values = {"number": number, "at": entry.at, "actor": entry.actor, "act": entry.act.name()}
        connection.execute(insert(audit).values(**values, fields=fields, sha256=head))
    return AuditHead(number, head)


def check_chain(connection: Connection, stated: Collection[StatedHead] = ()) -> AuditCheck:
    """Recompute the whole chain; see `AuditTables.check_audit`."""
    columns = (type_coerce(audit.c[name], Text) for name in RawRecord._fields[1:])
    statement = select(audit.c.number, *columns).order_by(audit.c.number)
    with connection.execute(statement, execution_options={"yield_per": _PAGE}) as rows:
        return check(map(RawRecord._make, rows), stated)


def head_of(connection: Connection) -> AuditHead:
    """Return the number of records in the chain and the hash of the last."""
    last = select(audit.c.number, audit.c.sha256).order_by(audit.c.number.desc()).limit(1)
    row = connection.execute(last).first()
    return AuditHead(row.number, row.sha256) if row else AuditHead(0, START)


class AuditTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def append(self, actor: str, act: Act, now: datetime) -> AuditHead:
        """Record one act; return the new head of the chain."""
        return self.append_all([AuditEntry(now, actor, act)])

    def append_all(self, entries: Iterable[AuditEntry]) -> AuditHead:
        """Record several acts, all or nothing; return the new head of the chain."""
        with self._database.writing() as connection:
            return append(connection, *entries)

    def audit_head(self) -> AuditHead:
        """Return the number of records in the chain and the hash of the last."""
        with self._database.reading() as connection:
            return head_of(connection)

    def audit_entries(self, limit: int = 100) -> tuple[AuditEntry, ...]:
        """Return the latest acts, newest first."""
        return tuple(record.entry for record in reversed(self.audit_records(limit=limit)))

    def audit_records(
        self,
        wanted: AuditFilter = EVERY_RECORD,
        limit: int | None = None,
    ) -> tuple[AuditRecord, ...]:
        """Return the newest ``limit`` records of those ``wanted``, oldest first.

        Raises `StoreError` if a record cannot be read.
        """
        statement = select(audit).where(*_conditions(wanted)).order_by(audit.c.number.desc()).limit(limit)
        return tuple(_record(row) for row in reversed(self._rows(statement)))

    def audit_pages(self, wanted: AuditFilter, limit: int | None = None) -> Iterator[tuple[AuditRecord, ...]]:
        """Yield the same records in pages, each read in a transaction of its own."""
        after = 0 if limit is None else self._number_before_newest(wanted, limit)
        chosen = select(audit).where(*_conditions(wanted)).order_by(audit.c.number).limit(_PAGE)
        while rows := self._rows(chosen.where(audit.c.number > after)):
            after = int(rows[-1]["number"])
            yield tuple(map(_record, rows))

    def _number_before_newest(self, wanted: AuditFilter, limit: int) -> int:
        """Return the number after which there are ``limit`` wanted records; 0 if there are fewer."""
        newest = select(audit.c.number).where(*_conditions(wanted)).order_by(audit.c.number.desc())
        rows = self._rows(newest.limit(1).offset(limit))
        return int(rows[0]["number"]) if rows else 0

    def check_audit(self, stated: Collection[StatedHead] = ()) -> AuditCheck:
        """Recompute the whole chain and compare it with the heads stated in the published feed.

        Collect ``stated`` before calling: the chain may grow in the meantime, but never loses a stated head.
        """
        with self._database.reading() as connection:
            return check_chain(connection, stated)


def _record(row: dict[str, Any]) -> AuditRecord:
    try:
        act = act_named(row["act"], row["fields"])
    except ValueError as error:
        raise StoreError(
            f"record {row['number']} of the audit log cannot be read: {error}", hint="run `syncd audit verify`"
        ) from None
    return AuditRecord(row["number"], AuditEntry(row["at"], row["actor"], act), row["sha256"])


def _conditions(wanted: AuditFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.since is not None:
        yield audit.c.at >= wanted.since
    if wanted.until is not None:
        yield audit.c.at <= wanted.until
    if wanted.actor is not None:
        yield audit.c.actor == wanted.actor
    if wanted.act is not None:
        yield audit.c.act == wanted.act
    if wanted.list is not None:
        yield _names_list(wanted.list)


def _names_list(name: str) -> ColumnElement[bool]:
    """Match acts with a field ``list`` of that value, or ``lists`` with that member.

    ``fields`` is canonical JSON, in which text of others cannot contain an unescaped quote.
    """
    fields, text = type_coerce(audit.c.fields, Text), canonical(name)
    of_one = fields.contains(f'"list":{text}', autoescape=True)
    of_several = and_(fields.contains('"lists":[', autoescape=True), fields.contains(text, autoescape=True))
    return or_(of_one, of_several)
