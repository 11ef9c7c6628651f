"""Shortening the audit log at its start, so that the rest of the chain still proves itself.

The removal and an `AuditShortened` record are one transaction. That record states the number and the hash of the last
record removed, from which the first one kept follows, and it is covered by the chain and by every head that the feed
states afterwards. Records missing at the start without such a record are a fault.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, func, select
from sqlalchemy import delete as delete_from

from syncd.acts import AuditShortened, Restored, act_named
from syncd.catalog.audit import append
from syncd.catalog.records import AuditEntry
from syncd.catalog.tables import audit

_AT_ONCE: Final = 50_000
"""Records removed in one transaction, which must leave a chain that proves itself: half a second."""
_EVERY: Final = timedelta(days=7)
"""Each removal adds a record: without this pause, a busy log would gain one for each that it loses."""
_CARRIED: Final = (Restored.name(), AuditShortened.name())


def count(connection: Connection, before: datetime) -> int:
    """Count the oldest records, up to the first since ``before``; the last record of all is always kept."""
    first, last = _range(connection, before)
    return max(0, last - first + 1)


def shorten(connection: Connection, before: datetime, actor: str, now: datetime) -> int:
    """Remove the oldest records before ``before`` and append the record that says so. Return how many."""
    first, last = _range(connection, before)
    oldest = connection.execute(select(func.min(audit.c.at)).where(audit.c.number == first)).scalar_one_or_none()
    if last < first or oldest is None or oldest > before - _EVERY:
        return 0
    last = min(last, first + _AT_ONCE - 1)
    old = audit.c.number <= last
    head = connection.execute(select(audit.c.sha256).where(audit.c.number == last)).scalar_one()
    act = AuditShortened(records=last, head=head, restored=_restored(connection, last), removed=last - first + 1)
    connection.execute(delete_from(audit).where(old))
    append(connection, AuditEntry(now, actor, act))
    return act.removed


def _range(connection: Connection, before: datetime) -> tuple[int, int]:
    """Return the first record, and the last one to remove; this is smaller if there is none to remove."""
    first, newest = connection.execute(select(func.min(audit.c.number), func.max(audit.c.number))).one()
    if first is None:
        return 1, 0
    kept = select(audit.c.number).where(audit.c.at >= before).order_by(audit.c.number).limit(1)
    return first, min(connection.execute(kept).scalar_one_or_none() or newest, newest) - 1


def _restored(connection: Connection, last: int) -> int:
    """Return the longest chain that a restore replaced, as far as records to be removed state it.

    Documents of the feed may still state heads of that chain: `syncd audit verify` must know why it lacks them.
    """
    statement = select(audit.c.act, audit.c.fields).where(audit.c.number <= last, audit.c.act.in_(_CARRIED))
    return max((_replaced(name, fields) for name, fields in connection.execute(statement)), default=0)


def _replaced(name: str, fields: Any) -> int:
    act = act_named(name, fields)
    if isinstance(act, Restored):
        return act.records
    return act.restored if isinstance(act, AuditShortened) else 0
