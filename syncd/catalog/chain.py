"""The hash chain of the audit log: its links, and the check that finds each broken one. Pure.

A record's hash is the SHA-256 of the canonical JSON of ``[previous hash, number, at, actor, act, fields]``: keys
sorted, no white space, ASCII. The first record's previous hash is 64 zeros. ``at`` is the text in the column.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from syncd.acts import Act, AuditShortened, Restored, act_named
from syncd.catalog.tables import canonical
from syncd.model import AuditHead
from syncd.units import count

START: Final = "0" * 64
"""The previous hash of the first record."""
_OF_THE_CHAIN: Final = frozenset({Restored.name(), AuditShortened.name()})
_MOST_MOVED: Final = 16
"""Faulty rows among which moved ones are recognised: the cost grows with the square."""


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
    removed: int = 0
    """records removed from the start (``[retention] audit_days``), as recorded in the chain itself"""
    since: str = ""
    """the time of the first record, if some before it were removed"""


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


def check(records: Iterable[RawRecord], stated: Collection[StatedHead] = ()) -> AuditCheck:
    """Recompute a chain from its rows, given in order of number. Pure."""
    wanted = {claim.head.records for claim in stated}
    hashes: dict[int, Any] = {0: START}
    faults: list[ChainFault] = []
    suspects: list[tuple[RawRecord, str]] = []
    restored: list[tuple[RawRecord, AuditHead]] = []
    shortened: dict[int, AuditShortened] = {}
    first: RawRecord | None = None
    last = AuditHead(0, START)
    for record in records:
        if first is None:  # what it follows from may be stated by a later record
            first = record
        else:
            _collect(record, last, faults, suspects)
        last = AuditHead(record.number, record.sha256 if isinstance(record.sha256, str) else "")
        if record.number in wanted:
            hashes[record.number] = record.sha256
        match _stated_act(record):
            case Restored() as act:
                restored.append((record, AuditHead(act.records, act.head)))
            case AuditShortened() as act:
                shortened[act.records] = act
    start = _start(first, shortened)
    hashes[start.records] = start.head
    before = [claim for claim in stated if claim.head.records < start.records]  # can no longer be compared
    unmatched = [claim for claim in stated if claim not in before and hashes.get(claim.head.records) != claim.head.head]
    replaced = [*(head.records for _, head in restored), *(act.restored for act in shortened.values())]
    unexplained = [claim for claim in unmatched if not any(claim.head.records <= records for records in replaced)]
    if first is not None:
        at_first: list[ChainFault] = []
        _collect(first, start, at_first, suspects)
        faults = [*at_first, *faults]
    faults = [_named(fault, suspects) for fault in faults]
    faults += [_stated_fault(claim, last) for claim in unexplained]
    since = str(first.at) if first is not None and start.records else ""
    return AuditCheck(last, tuple(faults), tuple(_gaps(restored, unmatched)), start.records, since)


def _collect(
    record: RawRecord, last: AuditHead, faults: list[ChainFault], suspects: list[tuple[RawRecord, str]]
) -> None:
    """Add the faults of a record, and the record as a suspect of having been moved."""
    found = tuple(_faults(record, last))
    faults += found
    if found and len(suspects) < _MOST_MOVED:
        suspects.append((record, last.head))


def _start(first: RawRecord | None, shortened: Mapping[int, AuditShortened]) -> AuditHead:
    """Return the head that the first record follows from: that of the removed records if it is stated, or none."""
    act = shortened.get(first.number - 1) if first is not None and first.number > 1 else None
    return AuditHead(act.records, act.head) if act else AuditHead(0, START)


def _faults(record: RawRecord, last: AuditHead) -> Iterator[ChainFault]:
    """Check that a record's number and hash follow from the record before it."""
    expected = last.records + 1
    if record.number != expected:
        last_missing = record.number - 1
        missing = f"record {expected} is" if expected == last_missing else f"records {expected} to {last_missing} are"
        yield ChainFault(expected, f"{missing} missing before record {record.number}")
    elif not _follows(record, last.head):
        yield ChainFault(
            record.number,
            f"record {record.number} does not match its hash: the record, or the hash before it, was changed",
        )


def _named(fault: ChainFault, suspects: Sequence[tuple[RawRecord, str]]) -> ChainFault:
    """Return the fault, with the place that its row was moved from if its hash shows that.

    ``suspects``: rows at faults, each with the hash before it. A row that was only moved has the right hash for its old
    number after one of these hashes, or after the hash of one of these rows.
    """
    record = next((row for row, _ in suspects if row.number == fault.number), None)
    if record is None:
        return fault
    near = {row.number + step for row, _ in suspects for step in (-1, 0, 1)} - {record.number}
    hashes = {previous for _, previous in suspects} | {row.sha256 for row, _ in suspects if isinstance(row.sha256, str)}
    for number in sorted(near):
        if any(_follows(record._replace(number=number), previous) for previous in hashes):
            return ChainFault(fault.number, f"record {fault.number} was moved: it was record {number}")
    return fault


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


def _stated_act(record: RawRecord) -> Act | None:
    """Return the act of a record that says how the chain itself changed; None for others, and if it is malformed."""
    if record.act not in _OF_THE_CHAIN:
        return None
    try:
        return act_named(record.act, json.loads(record.fields))
    except (TypeError, ValueError, RecursionError):
        return None


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
