"""The part of the catalog that keeps the audit log: a hash chain, in which each record vouches for all before it.

A record's hash is the SHA-256 of the canonical JSON of ``[previous hash, number, at, actor, act, fields]``: keys
sorted, no white space, ASCII. The first record's previous hash is 64 zeros. ``at`` is the text in the column.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Text, insert, select, type_coerce

from syncd.acts import Act, Restored, act_named
from syncd.catalog.database import Tables, reading, writing
from syncd.catalog.records import AuditEntry, AuditRecord
from syncd.catalog.tables import audit, canonical, time_text
from syncd.errors import StoreError
from syncd.model import AuditHead
from syncd.units import count

START: Final = "0" * 64
"""The previous hash of the first record."""


@dataclass(frozen=True)
class StatedHead:
    """A head of the chain that a signed document of the published feed states."""

    where: str
    """the document, for messages"""
    head: AuditHead


@dataclass(frozen=True)
class ChainFault:
    """A place where the chain is broken."""

    number: int
    message: str


@dataclass(frozen=True)
class ChainGap:
    """Records lost when the catalog was restored from a backup, as recorded in the chain itself."""

    number: int
    """of the record of the restore"""
    message: str


@dataclass(frozen=True)
class AuditCheck:
    """The result of recomputing the chain."""

    head: AuditHead
    faults: tuple[ChainFault, ...] = ()
    gaps: tuple[ChainGap, ...] = ()


class RawRecord(NamedTuple):
    """One row as stored, not yet validated: it may have been tampered with."""

    number: Any
    at: Any
    actor: Any
    act: Any
    fields: Any
    sha256: Any


def link(previous: str, number: int, at: str, actor: str, act: str, fields: Any) -> str:
    """Return the hash of a record; ``previous`` is the hash of the record before it."""
    return hashlib.sha256(canonical([previous, number, at, actor, act, fields]).encode()).hexdigest()


def append(connection: Connection, *entries: AuditEntry) -> AuditHead:
    """Append to the chain; return its new head. The caller's transaction must own the write lock."""
    last = _head(connection)
    number, head = last.records, last.head
    for entry in entries:
        number, fields = number + 1, entry.act.document()
        head = link(head, number, time_text(entry.at), entry.actor, entry.act.name(), fields)
        values = {"number": number, "at": entry.at, "actor": entry.actor, "act": entry.act.name()}
        connection.execute(insert(audit).values(**values, fields=fields, sha256=head))
    return AuditHead(number, head)


def _head(connection: Connection) -> AuditHead:
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
        with writing(self._engine, self.path) as connection:
            return append(connection, *entries)

    def audit_head(self) -> AuditHead:
        """Return the number of records in the chain and the hash of the last."""
        with reading(self._engine, self.path) as connection:
            return _head(connection)

    def audit_entries(self, limit: int = 100) -> tuple[AuditEntry, ...]:
        """Return the latest acts, newest first."""
        return tuple(record.entry for record in reversed(self.audit_records(limit=limit)))

    def audit_records(
        self, *, since: datetime | None = None, actor: str | None = None, limit: int | None = None
    ) -> tuple[AuditRecord, ...]:
        """Return the newest ``limit`` records, oldest first; only those of ``actor`` and since ``since``, if given.

        Raises `StoreError` if a record cannot be read.
        """
        statement = select(audit).order_by(audit.c.number.desc()).limit(limit)
        if since is not None:
            statement = statement.where(audit.c.at >= since)
        if actor is not None:
            statement = statement.where(audit.c.actor == actor)
        return tuple(_record(row) for row in reversed(self._rows(statement)))

    def check_audit(self, stated: Collection[StatedHead] = ()) -> AuditCheck:
        """Recompute the whole chain and compare it with the heads stated in the published feed.

        Collect ``stated`` before calling: the chain may grow in the meantime, but never loses a stated head.
        """
        columns = (type_coerce(audit.c[name], Text) for name in RawRecord._fields[1:])
        statement = select(audit.c.number, *columns).order_by(audit.c.number)
        with reading(self._engine, self.path) as connection:
            return check(map(RawRecord._make, connection.execute(statement)), stated)


def _record(row: dict[str, Any]) -> AuditRecord:
    try:
        act = act_named(row["act"], row["fields"])
    except ValueError as error:
        raise StoreError(
            f"record {row['number']} of the audit log cannot be read: {error}", hint="run `syncd audit verify`"
        ) from None
    return AuditRecord(row["number"], AuditEntry(row["at"], row["actor"], act), row["sha256"])


def check(records: Iterable[RawRecord], stated: Collection[StatedHead] = ()) -> AuditCheck:
    """Recompute a chain from its rows, given in order of number. Pure."""
    wanted = {claim.head.records for claim in stated}
    hashes: dict[int, Any] = {0: START} if 0 in wanted else {}
    faults: list[ChainFault] = []
    restored: list[tuple[RawRecord, AuditHead]] = []
    last = AuditHead(0, START)
    for record in records:
        faults += _faults(record, last)
        last = AuditHead(record.number, record.sha256 if isinstance(record.sha256, str) else "")
        if record.number in wanted:
            hashes[record.number] = record.sha256
        if record.act == Restored.name():
            restored += [(record, head) for head in _lost(record)]
    unmatched = [claim for claim in stated if hashes.get(claim.head.records) != claim.head.head]
    unexplained = [claim for claim in unmatched if not any(claim.head.records <= head.records for _, head in restored)]
    faults += [_stated_fault(claim, last) for claim in unexplained]
    return AuditCheck(last, tuple(faults), tuple(_gaps(restored, unmatched)))


def _faults(record: RawRecord, last: AuditHead) -> Iterator[ChainFault]:
    """Check that a record's number and hash follow from the record before it."""
    expected = last.records + 1
    if record.number != expected:
        missing = f"record {expected} is" if record.number == expected + 1 else f"records {expected} and on are"
        yield ChainFault(expected, f"{missing} missing before record {record.number}")
    elif not _follows(record, last.head):
        yield ChainFault(
            record.number,
            f"record {record.number} does not match its hash: the record, or the hash before it, was changed",
        )


def _follows(record: RawRecord, previous: str) -> bool:
    if not all(isinstance(value, str) for value in record[1:]):
        return False
    try:
        fields = json.loads(record.fields)
    except (ValueError, RecursionError):
        return False
    if canonical(fields) != record.fields:
        return False
    return bool(link(previous, record.number, record.at, record.actor, record.act, fields) == record.sha256)


def _lost(record: RawRecord) -> Iterator[AuditHead]:
    """Yield the head of the chain that was replaced, as the record of a restore states it."""
    try:
        act = act_named(record.act, json.loads(record.fields))
    except (TypeError, ValueError, RecursionError):
        return
    if isinstance(act, Restored):
        yield AuditHead(act.records, act.head)


def _stated_fault(claim: StatedHead, last: AuditHead) -> ChainFault:
    stated = claim.head.records
    if stated > last.records:
        message = (
            f"{claim.where} states {count(stated, 'record')}, but the log has {last.records}: the newest are missing"
        )
    else:
        message = f"record {stated} of the log differs from the one that {claim.where} states: the log was rewritten"
    return ChainFault(stated, message)


def _gaps(restored: Collection[tuple[RawRecord, AuditHead]], unmatched: Collection[StatedHead]) -> Iterator[ChainGap]:
    """Yield one gap for each restore that lost records, however many documents still state them."""
    for record, head in restored:
        lost = head.records >= record.number
        if lost or any(claim.head.records <= head.records for claim in unmatched):
            yield ChainGap(
                record.number,
                f"record {record.number}: {record.actor} restored a backup at {record.at}; records of the replaced log,"
                f" up to record {head.records}, are missing",
            )
