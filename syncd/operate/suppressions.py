"""Suppressions: the operator's own corrections of what is published.

A suppression takes a digest, or one entry of it, off one list or all, as a new version of each list. It survives
whatever the partner does, until it expires or `unsuppress` ends it. Many rows at once wait for a second operator.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from syncd.acts import AUTOMATIC, Confirmed, Suppressed, SuppressionsExpired, Unsuppressed
from syncd.catalog.catalog import Catalog
from syncd.catalog.records import (
    AuditEntry,
    HeadRecord,
    HoldEnd,
    HoldRecord,
    HoldState,
    Records,
    Suppression,
    SuppressionChange,
    SuppressionState,
    UpdateRecord,
)
from syncd.errors import RefusedError, UsageError, nearest
from syncd.format.rows import Digests, as_digests
from syncd.limits import allowed_alone
from syncd.model import Algorithm, Digest, ListName
from syncd.outcomes import Finding, HoldReason, Lane
from syncd.pipeline.heads import ListState
from syncd.pipeline.next_version import SettleContext
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.settle.correction import settle_correction
from syncd.pipeline.settle.result import Settled
from syncd.pipeline.wire import encode_staged
from syncd.units import stamp

DEFAULT_EXPIRY: Final = timedelta(days=30)
LONGEST_REASON: Final = 1000
MOST_AT_ONCE: Final = 100_000
_PERIOD: Final = timedelta(days=1)
_PERCEPTUAL: Final = frozenset({Algorithm.PDQ, Algorithm.PHOTODNA})


@dataclass(frozen=True)
class Correction:
    """A digest to suppress, or one entry of it."""

    digest: Digest
    entry: str | None = None
    line: int = 0
    """the line of the file that names it; 0: it was not read from a file"""

    @property
    def words(self) -> str:
        """The kind of digest, and its line, for messages."""
        line = f" on line {self.line}" if self.line else ""
        return f"this {self.digest.algorithm} digest{line}" + (" with that entry" if self.entry is not None else "")


@dataclass(frozen=True)
class SuppressionOrder:
    """Everything that an operator decides about new suppressions."""

    corrections: tuple[Correction, ...]
    reason: str
    list: ListName | None = None
    """the published list; None: all lists"""
    expires_at: datetime | None = None
    """None: never"""
    ahead: bool = False
    """true if digests that are not listed are meant"""


def expiry_of(expires_at: datetime | None, now: datetime, *, forever: bool) -> datetime | None:
    """Return when a new suppression expires: 30 days from now unless the operator says otherwise; None: never."""
    return None if forever else expires_at or now + DEFAULT_EXPIRY


@dataclass(frozen=True)
class Corrected:
    """The result of an act on suppressions."""

    suppressions: tuple[Suppression, ...]
    versions: Mapping[ListName, int]
    """the new version of each list that changed"""
    rows: int
    """entries that were taken off, or listed again"""
    hold: HoldRecord | None = None
    """set if a second operator has to confirm them: nothing has changed yet"""
    opened: tuple[HoldRecord, ...] = ()
    """holds of entries that would have returned, but did not pass the gate"""


def suppress(
    publisher: Publisher, order: SuppressionOrder, *, actor: str, now: datetime, second_operator: bool = True
) -> Corrected:
    """Suppress digests: publish a version without them of each list that has them.

    ``second_operator``: false if one operator may suppress any number of rows. Raises `UsageError` (no reason, an
    expiry in the past, no such list, a digest that is not listed and not ``ahead``), `RefusedError` (suppressed
    already), `StoreError`.
    """
    _check_order(order, now)
    heads = _heads(publisher.catalog, order.list)
    digests = _digests(correction.digest for correction in order.corrections)
    made: list[Suppression] = []
    opened: list[HoldRecord] = []

    def make() -> tuple[Sequence[Settled], Records]:
        made.clear()
        opened.clear()
        known = publisher.catalog.suppressions(SuppressionState.ACTIVE, SuppressionState.WAITING)
        _check_new(order, known)
        states = [_state(publisher, head) for head in heads]
        listed = [_Listed.of(state, digests) for state in states]
        number = publisher.catalog.last_suppression()
        for offset, correction in enumerate(order.corrections, start=1):
            rows = sum(some.count(correction) for some in listed)
            if not rows and not order.ahead:
                raise _unlisted(correction, order.list)
            made.append(_suppression(order, correction, number + offset, actor, now, rows))
        finding = _over_bound(publisher.catalog, states, listed, made, now)
        if finding is not None and second_operator:
            return (), _waiting_records(made, finding, heads, actor, now, opened)
        context = SettleContext(now, encode_staged, actor=actor, reason=order.reason)
        settled = [
            settle_correction(state, digests, state.suppressed.after(_covering(made, state.name)), context, "suppress")
            for state in states
        ]
        second = "switched off" if finding else "no need"
        audit = tuple(AuditEntry(now, actor, _act(one, second)) for one in made)
        return settled, Records(suppressed=tuple(made), audit=audit)

    settled = publisher.settle_lists("suppress", make, now)
    if opened:
        waiting = publisher.catalog.suppression(made[0].id)
        hold = publisher.catalog.hold(waiting.hold_id) if waiting and waiting.hold_id else None
        return Corrected(tuple(replace(one, state=SuppressionState.WAITING) for one in made), {}, 0, hold)
    _compact(publisher, settled, now)
    return Corrected(tuple(made), _versions(settled), sum(one.rows for one in made))


def unsuppress(publisher: Publisher, numbers: Sequence[int], *, actor: str, reason: str, now: datetime) -> Corrected:
    """End suppressions: entries that the partner still lists return if the gate passes them; if not, they are held.

    Raises `UsageError` if a number is unknown or no reason is given, `RefusedError` if one has ended already,
    `StoreError`.
    """
    check_reason(reason)

    def ended(one: Suppression) -> Suppression:
        return replace(
            one, state=SuppressionState.ENDED, ended_at=now, ended_by=actor, ended_reason=reason, announced_at=None
        )

    def chosen() -> tuple[Suppression, ...]:
        return tuple(active(publisher.catalog, number) for number in dict.fromkeys(numbers))

    def act(rows: int) -> AuditEntry:
        return AuditEntry(now, actor, Unsuppressed(tuple(dict.fromkeys(numbers)), rows, reason))

    return _end(publisher, "unsuppress", chosen, ended, act, now)


def expire(publisher: Publisher, now: datetime) -> Corrected | None:
    """End every suppression whose time has come, as one publication; None if there is none. Raises `StoreError`."""

    def due() -> tuple[Suppression, ...]:
        known = publisher.catalog.suppressions(SuppressionState.ACTIVE)
        return tuple(one for one in known if one.expires_at is not None and one.expires_at <= now)

    def ended(one: Suppression) -> Suppression:
        return replace(one, state=SuppressionState.EXPIRED, ended_at=now)

    def act(rows: int) -> AuditEntry:
        return AuditEntry(now, AUTOMATIC, SuppressionsExpired(tuple(one.id for one in due()), rows))

    return _end(publisher, "expiry of suppressions", due, ended, act, now) if due() else None


def announce(publisher: Publisher, now: datetime) -> tuple[Suppression, ...]:
    """Return the suppressions whose end is three days away and was not announced, and record that it is now."""
    known = publisher.catalog.suppressions(SuppressionState.ACTIVE)
    soon = tuple(one for one in known if one.expires_soon(now) and one.announced_at is None)
    if soon:
        publisher.catalog.note_suppressions([one.id for one in soon], "announced_at", now)
    return soon


def gained(publisher: Publisher, now: datetime) -> tuple[Suppression, ...]:
    """Return suppressions of one entry whose digest is listed with another entry, which were not noted yet."""
    known = publisher.catalog.suppressions(SuppressionState.ACTIVE)
    single = [one for one in known if one.entry is not None and one.others_at is None]
    if not single:
        return ()
    states = [_state(publisher, head) for head in _heads(publisher.catalog, None)]
    noted = tuple(one for one in single if any(_has_others(one, state) for state in states if one.covers(state.name)))
    if noted:
        publisher.catalog.note_suppressions([one.id for one in noted], "others_at", now)
    return noted


def confirm(
    publisher: Publisher, hold: HoldRecord, *, actor: str, reason: str, now: datetime, second_operator: bool = True
) -> Corrected:
    """Put suppressions in force that waited for a second operator.

    ``second_operator``: false if the configuration no longer asks for one.

    Raises `UsageError` if no reason is given, `RefusedError` if the hold has ended or ``actor`` asked for them,
    `StoreError`.
    """
    check_reason(reason)
    made: list[Suppression] = []

    def make() -> tuple[Sequence[Settled], Records]:
        made.clear()
        waiting = _waiting_in(publisher.catalog, hold.id)
        if second_operator and any(one.author == actor for one in waiting):
            raise RefusedError(
                f"{actor} asked for the suppressions of hold {hold.id}: another operator has to confirm them",
                hint="ask a colleague to run this; for a team of one, set second_operator = false in [corrections]; "
                "nothing was changed",
            )
        confirmed = [replace(one, state=SuppressionState.ACTIVE, second=actor) for one in waiting]
        made.extend(confirmed)
        digests = _digests(_digest(one) for one in confirmed)
        context = SettleContext(now, encode_staged, actor=actor, reason=reason)
        states = [_state(publisher, head) for head in _heads(publisher.catalog, None)]
        settled = [
            settle_correction(
                state, digests, state.suppressed.after(_covering(confirmed, state.name)), context, "suppress"
            )
            for state in states
            if _covering(confirmed, state.name)
        ]
        entry = AuditEntry(now, actor, Confirmed(str(hold.id), len(confirmed), confirmed[0].author, reason))
        changes = tuple(SuppressionChange(one, SuppressionState.WAITING) for one in confirmed)
        end = HoldEnd(hold.id, HoldState.OPEN, HoldState.RELEASED, actor, reason)
        return settled, Records(corrected=changes, ended=(end,), audit=(entry,))

    settled = publisher.settle_lists("suppress", make, now)
    _compact(publisher, settled, now)
    return Corrected(tuple(made), _versions(settled), sum(one.rows for one in made))


def refuse(publisher: Publisher, hold: HoldRecord, *, actor: str, reason: str, now: datetime) -> Corrected:
    """End suppressions that waited for a second operator, without effect. Raises as `confirm`."""
    check_reason(reason)
    ended: list[Suppression] = []

    def make() -> tuple[Sequence[Settled], Records]:
        ended[:] = [
            replace(one, state=SuppressionState.ENDED, ended_at=now, ended_by=actor, ended_reason=reason)
            for one in _waiting_in(publisher.catalog, hold.id)
        ]
        changes = tuple(SuppressionChange(one, SuppressionState.WAITING) for one in ended)
        entry = AuditEntry(now, actor, Unsuppressed(tuple(one.id for one in ended), 0, reason))
        end = HoldEnd(hold.id, HoldState.OPEN, HoldState.DISCARDED, actor, reason)
        return (), Records(corrected=changes, ended=(end,), audit=(entry,))

    publisher.settle_lists("suppress", make, now)
    return Corrected(tuple(ended), {}, 0)


def _end(
    publisher: Publisher,
    plan: str,
    chosen: Callable[[], tuple[Suppression, ...]],
    ended: Callable[[Suppression], Suppression],
    act: Callable[[int], AuditEntry],
    now: datetime,
) -> Corrected:
    """End active suppressions in one publication, and list their entries again if the partner still does."""
    gone: list[Suppression] = []
    rows = 0

    def make() -> tuple[Sequence[Settled], Records]:
        nonlocal rows
        gone[:] = chosen()
        numbers, digests = [one.id for one in gone], _digests(_digest(one) for one in gone)
        context = SettleContext(now, encode_staged)
        states = [_state(publisher, head) for head in _heads(publisher.catalog, None)]
        touched = [state for state in states if _covering(gone, state.name)]
        settled = [
            settle_correction(state, digests, state.suppressed.after(ended=numbers), context, plan) for state in touched
        ]
        changes = [change for one in settled if one.proposal for change in one.proposal.changes]
        rows = sum(counts.added for change in changes for counts in change.counts.values())
        corrected = tuple(SuppressionChange(ended(one), SuppressionState.ACTIVE) for one in gone)
        return settled, Records(corrected=corrected, audit=(act(rows),))

    settled = publisher.settle_lists(plan, make, now)
    _compact(publisher, settled, now)
    opened = tuple(hold for one in settled for hold in one.opened)
    return Corrected(tuple(ended(one) for one in gone), _versions(settled), rows, opened=opened)


@dataclass(frozen=True)
class _Listed:
    """The entries of some digests that one list has, in head or origin."""

    list: ListName
    entries: Mapping[tuple[Algorithm, bytes], frozenset[str]]

    @classmethod
    def of(cls, state: ListState, digests: Mapping[Algorithm, Digests]) -> "_Listed":
        entries: dict[tuple[Algorithm, bytes], set[str]] = {}
        for algorithm, some in digests.items():
            for basis in (state.head_basis, state.basis):
                stack = basis.stacks.get(algorithm)
                if stack is None or stack.width != some.dtype.itemsize:
                    continue
                rows = stack.rows_of(some)
                for digest, entry in zip(rows.digests, rows.entries.to_pylist(), strict=True):
                    entries.setdefault((algorithm, digest.ljust(rows.width, b"\0")), set()).add(entry)
        return cls(state.name, {key: frozenset(some) for key, some in entries.items()})

    def count(self, correction: Correction) -> int:
        """Count the entries that a correction takes off this list."""
        entries = self.entries.get((correction.digest.algorithm, correction.digest.value), frozenset())
        return len(entries) if correction.entry is None else int(correction.entry in entries)


def _check_order(order: SuppressionOrder, now: datetime) -> None:
    check_reason(order.reason)
    check_expiry(order.expires_at, now)
    _check_not_in(order.reason, order.corrections)
    if not order.corrections:
        raise UsageError("no digest was given", hint="give ALG:DIGEST, or a file with one a line")
    if len(order.corrections) > MOST_AT_ONCE:
        raise UsageError(
            f"more than {MOST_AT_ONCE:,} digests at once", hint="a whole list is stopped with `syncd rollback`"
        )


def check_expiry(expires_at: datetime | None, now: datetime) -> None:
    """Raise `UsageError` if the end of a suppression is in the past."""
    if expires_at is not None and expires_at <= now:
        raise UsageError(
            f"the suppression would expire at {expires_at:%Y-%m-%d %H:%M} UTC, which is in the past",
            hint="give a later time with --expires, or --forever",
        )


def check_reason(reason: str) -> None:
    """Raise `UsageError` if a reason is empty or too long."""
    if not reason.strip():
        raise UsageError("a reason is needed", hint="give it with --reason; the audit log records it")
    if len(reason) > LONGEST_REASON:
        raise UsageError(f"the reason is longer than {LONGEST_REASON:,} characters", hint="say it shorter")


def _check_not_in(reason: str, corrections: Iterable[Correction]) -> None:
    """Raise `UsageError` if a reason, which is logged, contains one of the digests."""
    if not re.search("[0-9a-f]{32}", text := reason.lower()):
        return
    if any(correction.digest.value.hex() in text for correction in corrections):
        raise UsageError("the reason contains the digest", hint="leave it out: reasons are logged")


def _check_new(order: SuppressionOrder, known: Iterable[Suppression]) -> None:
    """Raise `RefusedError` if a digest is suppressed already, as widely as the order asks for."""
    held: dict[tuple[str, str, str | None], Suppression] = {
        (one.algorithm, one.digest, one.entry): one for one in known if one.list in {None, order.list}
    }
    for correction in order.corrections:
        key = (correction.digest.algorithm, correction.digest.value.hex())
        one = held.get((*key, None)) or held.get((*key, correction.entry))
        if one is not None:
            waits = " and waits for a second operator" if one.state is SuppressionState.WAITING else ""
            raise RefusedError(
                f"suppression {one.id} covers {correction.words} already{waits}",
                hint=f"`syncd suppressions` shows it; `syncd suppress --extend {one.id} --reason R` lets it expire "
                "later; nothing was changed",
            )


def _unlisted(correction: Correction, name: ListName | None) -> UsageError:
    where = f"{name} does not list" if name else "no list has"
    hint = "check the digest; to suppress it before a list has it, add --ahead; nothing was changed"
    if correction.digest.algorithm in _PERCEPTUAL:
        hint = f"give the listed digest of the hit, not that of your image: {hint}"
    return UsageError(f"{where} {correction.words}", hint=hint)


def _heads(catalog: Catalog, name: ListName | None) -> tuple[HeadRecord, ...]:
    """Return the heads of one list, or of all that are not retired."""
    heads = catalog.heads()
    if name is None:
        return tuple(head for head in heads if head.retired_at is None)
    mine = tuple(head for head in heads if head.list == name)
    if not mine:
        raise UsageError(f"there is no list {name}", hint=nearest(name, [head.list for head in heads], "list"))
    return mine


def _state(publisher: Publisher, head: HeadRecord) -> ListState:
    return publisher.list_state(head.source, ListName(head.list.partition(".")[2]))


def _digests(digests: Iterable[Digest]) -> dict[Algorithm, Digests]:
    by_algorithm: dict[Algorithm, set[bytes]] = {}
    for digest in digests:
        by_algorithm.setdefault(digest.algorithm, set()).add(digest.value)
    for algorithm, some in by_algorithm.items():
        if len(set(map(len, some))) > 1:
            raise UsageError(f"the {algorithm} digests differ in length", hint="check which algorithm each is of")
    return {algorithm: as_digests(some) for algorithm, some in by_algorithm.items()}


def _digest(one: Suppression) -> Digest:
    return Digest(one.algorithm, bytes.fromhex(one.digest))


def _covering(suppressions: Iterable[Suppression], name: ListName) -> tuple[Suppression, ...]:
    return tuple(one for one in suppressions if one.covers(name))


def _has_others(one: Suppression, state: ListState) -> bool:
    """Return True if a list has the digest of a suppression with another entry than the suppressed one."""
    listed = _Listed.of(state, _digests([_digest(one)]))
    return bool(listed.entries.get((one.algorithm, bytes.fromhex(one.digest)), frozenset()) - {one.entry})


def _suppression(
    order: SuppressionOrder, correction: Correction, number: int, actor: str, now: datetime, rows: int
) -> Suppression:
    return Suppression(
        id=number,
        algorithm=correction.digest.algorithm,
        digest=correction.digest.value.hex(),
        entry=correction.entry,
        list=order.list,
        reason=order.reason,
        author=actor,
        created_at=now,
        expires_at=order.expires_at,
        salt=secrets.token_hex(16),
        rows=rows,
    )


def _act(one: Suppression, second: str) -> Suppressed:
    return Suppressed(
        suppression=one.id,
        digest_sha256=one.fingerprint,
        list=one.list or "*",
        one_entry=one.entry is not None,
        rows=one.rows,
        expires_at=stamp(one.expires_at) if one.expires_at else "never",
        second=second,
        reason=one.reason,
    )


def _over_bound(
    catalog: Catalog,
    states: Iterable[ListState],
    listed: Iterable[_Listed],
    made: Sequence[Suppression],
    now: datetime,
) -> Finding | None:
    """Return the finding of the first list that would lose more in 24 hours than one operator may decide."""
    recent = [
        one
        for one in catalog.suppressions(SuppressionState.ACTIVE, SuppressionState.ENDED)
        if now - one.created_at < _PERIOD and not one.second
    ]
    for state, some in zip(states, listed, strict=True):
        before = sum(one.rows for one in recent if one.covers(state.name))
        rows = sum(some.count(Correction(_digest(one), one.entry)) for one in made)
        of = state.head.rows if state.head else 0
        allowed = allowed_alone(of)
        if rows and before + rows > allowed:
            return Finding(
                HoldReason.SECOND_OPERATOR, window="24 hours", rows=rows, before=before, of=of, allowed=allowed
            )
    return None


def _waiting_records(
    made: Sequence[Suppression],
    finding: Finding,
    heads: Sequence[HeadRecord],
    actor: str,
    now: datetime,
    opened: list[HoldRecord],
) -> Records:
    """Return the records of suppressions that a second operator has to confirm: one hold for all of them."""
    name, source = (made[0].list, "") if made[0].list else (heads[0].list, "")
    hold = HoldRecord(
        list=name or heads[0].list,
        source=source or heads[0].source,
        lane=Lane.SUPPRESSIONS,
        reasons=(finding.reason,),
        findings=(finding,),
        segments=(),
        rows=sum(one.rows for one in made),
        opened_at=now,
    )
    opened.append(hold)
    update = UpdateRecord(hold.list, 0, "", b"", now)
    waiting = tuple(replace(one, state=SuppressionState.WAITING) for one in made)
    audit = tuple(AuditEntry(now, actor, _act(one, "waits")) for one in made)
    return Records(update=update, opened=(hold,), suppressed=waiting, audit=audit)


def _waiting_in(catalog: Catalog, number: int) -> tuple[Suppression, ...]:
    waiting = tuple(one for one in catalog.suppressions_in_hold(number) if one.state is SuppressionState.WAITING)
    if not waiting:
        raise RefusedError(f"hold {number} has ended", hint="`syncd holds` lists the open holds; nothing was changed")
    return waiting


def active(catalog: Catalog, number: int) -> Suppression:
    """Return a suppression in force. Raises `UsageError` if the number is unknown, `RefusedError` if it is not."""
    one = catalog.suppression(number)
    if one is None:
        raise UsageError(f"there is no suppression {number}", hint="`syncd suppressions` lists those in force")
    if one.state is SuppressionState.WAITING:
        raise RefusedError(
            f"suppression {number} waits for a second operator",
            hint=f"`syncd discard {one.hold_id} --reason R` drops it; nothing was changed",
        )
    if one.state is not SuppressionState.ACTIVE:
        by = f" by {one.ended_by}" if one.ended_by else ""
        raise RefusedError(
            f"suppression {number} was {one.state} already{by}",
            hint="`syncd suppressions` lists those in force; nothing was changed",
        )
    return one


def _versions(settled: Iterable[Settled]) -> dict[ListName, int]:
    return {one.version.list: one.version.version for one in settled if one.version}


def _compact(publisher: Publisher, settled: Iterable[Settled], now: datetime) -> None:
    for one in settled:
        publisher.compact_if_due(one, now)
