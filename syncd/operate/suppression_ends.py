"""Ending suppressions, by an operator or by expiry, and extending them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from syncd.acts import AUTOMATIC, SuppressionsExpired, SuppressionsExtended, Unsuppressed
from syncd.catalog.catalog import Catalog
from syncd.catalog.changes import Records
from syncd.catalog.decisions import Suppression, SuppressionChange, SuppressionState
from syncd.catalog.records import AuditEntry
from syncd.errors import RefusedError, UsageError
from syncd.operate.suppressed_lists import (
    Corrected,
    Listed,
    covering,
    digest_of,
    digests_of,
    heads_of,
    list_state,
    publish,
)
from syncd.operate.suppression_order import check_expiry, check_short_reason
from syncd.pipeline.heads import ListState
from syncd.pipeline.next_version import SettleContext
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.settle.correction import settle_correction
from syncd.pipeline.settle.result import Settled
from syncd.pipeline.wire import encode_update
from syncd.units import stamp


def unsuppress(publisher: Publisher, numbers: Sequence[int], *, actor: str, reason: str, now: datetime) -> Corrected:
    """End suppressions: entries that the partner still lists return if the gate passes them; if not, they are held.

    Raises `UsageError` if a number is unknown or no reason is given, `RefusedError` if one has ended already,
    `StoreError`.
    """
    check_short_reason(reason)

    def ended(one: Suppression) -> Suppression:
        return replace(
            one, state=SuppressionState.ENDED, ended_at=now, ended_by=actor, ended_reason=reason, announced_at=None
        )

    def chosen() -> tuple[Suppression, ...]:
        return tuple(_active(publisher.catalog, number) for number in dict.fromkeys(numbers))

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
        numbers, digests = [one.id for one in gone], digests_of(digest_of(one) for one in gone)
        context = SettleContext(now, encode_update)
        states = [list_state(publisher, head) for head in heads_of(publisher.catalog, None)]
        touched = [state for state in states if covering(gone, state.name)]
        settled = [
            settle_correction(state, digests, state.suppressed.after(ended=numbers), context, plan) for state in touched
        ]
        changes = [change for one in settled if one.proposal for change in one.proposal.changes]
        rows = sum(counts.added for change in changes for counts in change.counts.values())
        corrected = tuple(SuppressionChange(ended(one), SuppressionState.ACTIVE) for one in gone)
        return settled, Records(corrected=corrected, audit=(act(rows),))

    versions, opened = publish(publisher, plan, make, now)
    return Corrected(tuple(ended(one) for one in gone), versions, rows, opened=opened)


def extend(
    publisher: Publisher,
    numbers: Sequence[int],
    *,
    expires_at: datetime | None,
    actor: str,
    reason: str,
    now: datetime,
) -> Corrected:
    """Let suppressions in force expire at another time; None: never. No list changes.

    Raises `UsageError` (no reason, an unknown number, a time in the past), `RefusedError` if one has ended or waits,
    `StoreError`.
    """
    check_short_reason(reason)
    check_expiry(expires_at, now)
    made: list[Suppression] = []

    def make() -> tuple[Sequence[Settled], Records]:
        before = [_active(publisher.catalog, number) for number in dict.fromkeys(numbers)]
        made[:] = [replace(one, expires_at=expires_at, announced_at=None) for one in before]
        changes = tuple(SuppressionChange(one, SuppressionState.ACTIVE) for one in made)
        until = stamp(expires_at) if expires_at else "never"
        act = SuppressionsExtended(tuple(one.id for one in made), until, reason)
        return (), Records(corrected=changes, audit=(AuditEntry(now, actor, act),))

    publisher.settle_lists("suppress", make, now)
    return Corrected(tuple(made), {}, 0)


def _active(catalog: Catalog, number: int) -> Suppression:
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


def announce(publisher: Publisher, now: datetime) -> tuple[Suppression, ...]:
    """Return the suppressions that expire within three days and were not announced, and record that they are now."""
    known = publisher.catalog.suppressions(SuppressionState.ACTIVE)
    soon = tuple(one for one in known if one.expires_soon(now) and one.announced_at is None)
    if soon:
        publisher.catalog.note_suppressions([one.id for one in soon], "announced_at", now)
    return soon


def gained(publisher: Publisher, now: datetime) -> tuple[Suppression, ...]:
    """Return suppressions of one entry whose digest is listed with another entry, which were not noted yet.

    Notes them, and no longer those whose digest is listed with no other entry any more. Raises `StoreError`.
    """
    known = publisher.catalog.suppressions(SuppressionState.ACTIVE)
    single = [one for one in known if one.entry is not None]
    if not single:
        return ()
    states = [list_state(publisher, head) for head in heads_of(publisher.catalog, None)]
    others = {one.id for one in single if any(_has_others(one, state) for state in states if one.covers(state.name))}
    new = tuple(one for one in single if one.id in others and one.others_at is None)
    gone = [one.id for one in single if one.id not in others and one.others_at is not None]
    for numbers, noted_at in (([one.id for one in new], now), (gone, None)):
        if numbers:
            publisher.catalog.note_suppressions(numbers, "others_at", noted_at)
    return new


def _has_others(one: Suppression, state: ListState) -> bool:
    """Return True if a list has the digest of a suppression with another entry than the suppressed one."""
    listed = Listed.of(state, digests_of([digest_of(one)]))
    return bool(listed.entries.get((one.algorithm, bytes.fromhex(one.digest)), frozenset()) - {one.entry})
