"""The part of the catalog that keeps the history: what each publication changed, and what matchers loaded when."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, func, insert, select, tuple_, update
from sqlalchemy import delete as delete_from

from syncd.catalog.changes import OriginMove, Records
from syncd.catalog.database import Tables, put_record, values_of
from syncd.catalog.history_records import HistoryKind, HistoryMonth, HistoryRecord, Load
from syncd.catalog.records import head_name
from syncd.catalog.tables import history, history_months, loads, versions
from syncd.feed.proof import signing_keys
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest, SegmentRef
from syncd.model import ListName
from syncd.publish.ledger import Commit, HeadMove

_CHUNK: Final = 500
"""Keys in one statement: SQLite accepts some 32,000 variables (https://sqlite.org/limits.html, 9)."""
_STATES: Final = tuple(kind for kind in HistoryKind if kind is not HistoryKind.DELTA)
_OLD_LOADS: Final = 50_000
"""The most loads that one transaction forgets, so that it does not block others for long."""


class HistoryTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def history_lists(self) -> tuple[ListName, ...]:
        """Return the published names of all lists with a history, sorted."""
        rows = self._rows(select(history.c.list).distinct().order_by(history.c.list))
        return tuple(ListName(row["list"]) for row in rows)

    def unfolded_history(self, name: ListName) -> tuple[HistoryRecord, ...]:
        """Return the records of a list whose rows lie in no month's file yet, oldest first."""
        mine = (history.c.folded.is_(False), history.c.list == name)
        return self._history(select(history).where(*mine).order_by(history.c.number))

    def history_states(self, name: ListName) -> tuple[HistoryRecord, ...]:
        """Return the records of a list that name a whole stack, or lost rows, oldest first."""
        # Neither `!=` nor an order, for which SQLite would read the whole history of the list.
        mine = (history.c.list == name, history.c.kind.in_(_STATES))
        return tuple(sorted(self._history(select(history).where(*mine)), key=lambda record: record.number))

    def history_records(self, numbers: Iterable[int]) -> dict[int, HistoryRecord]:
        """Return the records with these numbers, as far as they are still known."""
        wanted = sorted(set(numbers))
        found: list[HistoryRecord] = []
        for start in range(0, len(wanted), _CHUNK):
            some = history.c.number.in_(wanted[start : start + _CHUNK])
            found += self._history(select(history).where(some))
        return {record.number: record for record in found}

    def first_history(self, name: ListName) -> HistoryRecord | None:
        """Return the oldest known record of a list in which its head moved; None if there is none."""
        mine = (history.c.list == name, history.c.version.is_not(None))
        return next(iter(self._history(select(history).where(*mine).order_by(history.c.number).limit(1))), None)

    def history_at(self, name: ListName, at: datetime) -> HistoryRecord | None:
        """Return the newest record of a list, up to ``at``, in which its head moved; None if there is none."""
        mine = (history.c.list == name, history.c.at <= at, history.c.version.is_not(None))
        newest = select(history).where(*mine).order_by(history.c.at.desc(), history.c.number.desc()).limit(1)
        return next(iter(self._history(newest)), None)

    def newest_history(self) -> datetime | None:
        """Return the time of the newest record of all lists; None if there is none."""
        statement = select(history.c.at).order_by(history.c.number.desc()).limit(1)
        return next((row["at"] for row in self._rows(statement)), None)

    def oldest_history(self) -> datetime | None:
        """Return the time of the oldest record of all lists; None if there is none."""
        return next((row["at"] for row in self._rows(select(history.c.at).order_by(history.c.number).limit(1))), None)

    def history_months(self, name: ListName) -> tuple[HistoryMonth, ...]:
        """Return how many rows the month files of a list have."""
        statement = select(history_months).where(history_months.c.list == name)
        return tuple(HistoryMonth(**row) for row in self._rows(statement))

    def note_folded(
        self, numbers: Iterable[int], lost: Iterable[int] = (), months: Iterable[HistoryMonth] = ()
    ) -> None:
        """Record that the rows of records lie in month files; those of ``lost`` records are gone from the disk."""
        with self._leading() as connection:
            for month in months:
                put_record(connection, history_months, month)
            for chosen, values in ((numbers, {"folded": True}), (lost, {"folded": True, "kind": HistoryKind.LOST})):
                wanted = sorted(chosen)
                for start in range(0, len(wanted), _CHUNK):
                    some = history.c.number.in_(wanted[start : start + _CHUNK])
                    connection.execute(update(history).where(some).values(**values))

    def prune_history(self, before: datetime) -> int:
        """Forget the changes before a time, the beginning of a month; return how many.

        The newest of each list stays as a record without rows: it says which version was in force from then on.
        """
        old = history.c.at < before
        newest = select(func.max(history.c.number)).where(old, history.c.version.is_not(None)).group_by(history.c.list)
        bare = {"kind": HistoryKind.DELTA, "folded": True, "head": (), "origin": ()}
        with self._leading() as connection:
            count = connection.execute(delete_from(history).where(old, history.c.number.not_in(newest))).rowcount
            connection.execute(update(history).where(old).values(**bare))
            month = f"{before.astimezone(UTC):%Y-%m}"
            connection.execute(delete_from(history_months).where(history_months.c.month < month))
            return count

    def loads_at(self, lists: Iterable[ListName], at: datetime) -> tuple[Load, ...]:
        """Return the version of each list that every instance had at a time, sorted; without those that had none."""
        last = (
            select(loads.c.list, loads.c.matcher, loads.c.instance, func.max(loads.c.at).label("at"))
            .where(loads.c.list.in_(sorted(lists)), loads.c.at <= at)
            .group_by(loads.c.list, loads.c.matcher, loads.c.instance)
            .subquery()
        )
        same = [loads.c[name] == last.c[name] for name in ("list", "matcher", "instance", "at")]
        order = (loads.c.list, loads.c.matcher, loads.c.instance)
        statement = select(loads).join(last, same[0] & same[1] & same[2] & same[3])
        rows = self._rows(statement.where(loads.c.version > 0).order_by(*order))
        return tuple(Load(**row) for row in rows)

    def first_load(self) -> datetime | None:
        """Return the time of the oldest known load; None if there is none."""
        return next((row["at"] for row in self._rows(select(func.min(loads.c.at).label("at")))), None)

    def prune_loads(self, before: datetime, keep: int) -> int:
        """Forget loads before a time, and of each matcher those beyond the newest ``keep``; return how many.

        The newest load of each instance and list stays while it has the list.
        """
        count = 0
        for row in self._rows(select(loads.c.matcher).distinct()):
            count += self._prune_loads_of(row["matcher"], before, keep)
        return count

    def _prune_loads_of(self, matcher: str, before: datetime, keep: int) -> int:
        mine = loads.c.matcher == matcher
        edge = select(loads.c.at).where(mine).order_by(loads.c.at.desc()).offset(max(keep, 1) - 1).limit(1)
        later = loads.alias()
        superseded = select(later.c.at).where(
            later.c.list == loads.c.list,
            later.c.matcher == loads.c.matcher,
            later.c.instance == loads.c.instance,
            later.c.at > loads.c.at,
        )
        with self._leading() as connection:
            beyond = connection.execute(edge).scalar_one_or_none()
            until = before if beyond is None else max(before, beyond)
            old = (mine, loads.c.at < until, superseded.exists() | (loads.c.version == 0))
            chosen = select(*(loads.c[name] for name in _LOAD_KEY)).where(*old).limit(_OLD_LOADS)
            keys = connection.execute(chosen).all()
            for start in range(0, len(keys), _CHUNK):
                some = tuple_(*(loads.c[name] for name in _LOAD_KEY)).in_(keys[start : start + _CHUNK])
                connection.execute(delete_from(loads).where(some))
            return len(keys)

    def _history(self, statement: Select[Any]) -> tuple[HistoryRecord, ...]:
        return tuple(HistoryRecord(**row) for row in self._rows(statement))


_LOAD_KEY: Final = ("list", "matcher", "instance", "at")


def put_loads(connection: Connection, changes: Iterable[Load]) -> None:
    """Add loads. Two of one instance at the same moment are one: the later wins."""
    newest = {(load.list, load.matcher, load.instance, load.at): load for load in changes}
    for load in newest.values():
        connection.execute(delete_from(loads).where(*(loads.c[name] == getattr(load, name) for name in _LOAD_KEY)))
    if newest:
        connection.execute(insert(loads), [values_of(load) for load in newest.values()])


def put_history(connection: Connection, commit: Commit[Records]) -> None:
    """Add a record for each list whose head or origin a publication changes. Call before its heads are moved."""
    records = commit.records or Records()
    origins = {head_name(move.origin.source, move.origin.list): move for move in records.origins}
    heads = {move.manifest.list: move for move in commit.heads}
    number = 0
    for name in dict.fromkeys((*heads, *origins)):
        record = _record(connection, commit, name, heads.get(name), origins.get(name))
        if record is not None:
            number = number + 1 if number else _next_number(connection, commit.created_at)
            connection.execute(insert(history).values({**values_of(record), "number": number}))


def _next_number(connection: Connection, now: datetime) -> int:
    last = connection.execute(select(func.max(history.c.number))).scalar_one_or_none() or 0
    return max(int(last) + 1, int(now.timestamp() * 1_000_000))


def _record(
    connection: Connection, commit: Commit[Records], name: ListName, head: HeadMove | None, origin: OriginMove | None
) -> HistoryRecord | None:
    """Return the record of one list; None if no rows changed. Its number is not set yet."""
    records = commit.records or Records()
    kind, segments = _head_change(connection, head) if head else (HistoryKind.DELTA, ())
    delta = origin.delta if origin else ()
    if kind is HistoryKind.DELTA and not segments and not delta:
        return None
    note = records.notes.get(name)
    asked = records.audit[0] if records.audit else None
    return HistoryRecord(
        number=0,
        list=name,
        source=origin.origin.source if origin else note.source if note else "",
        at=commit.created_at,
        plan=note.plan if note else commit.kind,
        kind=kind,
        version=head.manifest.version if head else None,
        serial=origin.origin.serial if origin else note.origin_serial if note else None,
        head=segments,
        origin=delta,
        over_head=bool(origin and origin.over_head),
        keys=_keys(connection, name, origin),
        upstream=origin.origin.manifest_sha256 if origin else "",
        sync_id=note.sync_id if note else None,
        actor=asked.actor if asked else "",
        reason=str(getattr(asked.act, "reason", "")) if asked else "",
    )


def _head_change(connection: Connection, move: HeadMove) -> tuple[HistoryKind, tuple[SegmentRef, ...]]:
    """Return the kind of a head's move and the segments to keep; no segments if its rows stay the same."""
    manifest = move.manifest
    if move.before is None:
        return HistoryKind.FIRST, manifest.stack
    if manifest.retired is not None:
        before = _manifest(connection, manifest.list, move.before)
        ended = before is not None and before.retired is None
        return (HistoryKind.ENDED, before.stack) if before and ended else (HistoryKind.DELTA, ())
    step = manifest.recent[-1] if manifest.recent else None
    if step is None or step.version != manifest.version:
        return HistoryKind.WHOLE, manifest.stack
    return HistoryKind.DELTA, step.segments


def _manifest(connection: Connection, name: ListName, version: int) -> Manifest | None:
    of_version = select(versions.c.manifest).where(versions.c.list == name, versions.c.version == version)
    content = connection.execute(of_version).scalar_one_or_none()
    return manifests.parse(content) if content is not None else None


def _keys(connection: Connection, name: ListName, origin: OriginMove | None) -> tuple[str, ...]:
    """Return the keys that signed the partner's manifest; those known before if the evidence is that of the head."""
    if origin is None:
        return ()
    if origin.origin.evidence is not None:
        return signing_keys(origin.origin.evidence, origin.origin.list)
    newest = select(history.c["keys"], history.c.upstream).where(history.c.list == name)
    last = connection.execute(newest.order_by(history.c.number.desc()).limit(1)).first()
    return tuple(last[0]) if last is not None and last[1] == origin.origin.manifest_sha256 else ()
