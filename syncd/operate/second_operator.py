"""Suppressions of many rows wait for a second operator, who confirms or refuses them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from syncd.acts import Confirmed, Suppressed, Unsuppressed
from syncd.catalog.catalog import Catalog
from syncd.catalog.changes import Records
from syncd.catalog.decisions import (
    HoldEnd,
    HoldRecord,
    HoldState,
    Suppression,
    SuppressionChange,
    SuppressionState,
    UpdateRecord,
)
from syncd.catalog.records import AuditEntry, HeadRecord
from syncd.errors import RefusedError
from syncd.limits import allowed_alone
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
from syncd.operate.suppression_order import Correction, check_short_reason
from syncd.outcomes import Finding, HoldReason, Lane
from syncd.pipeline.heads import ListState
from syncd.pipeline.next_version import SettleContext
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.settle.correction import settle_correction
from syncd.pipeline.settle.result import Settled
from syncd.pipeline.wire import encode_update
from syncd.units import stamp

_PERIOD: Final = timedelta(days=1)


def over_bound(
    catalog: Catalog,
    states: Iterable[ListState],
    listed: Iterable[Listed],
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
        before = _rows_off(list(covering(recent, state.name)), state)
        rows = sum(some.count(Correction(digest_of(one), one.entry)) for one in made)
        of = state.head.rows if state.head else 0
        allowed = allowed_alone(of)
        if rows and before + rows > allowed:
            return Finding(
                HoldReason.SECOND_OPERATOR, window="24 hours", rows=rows, before=before, of=of, allowed=allowed
            )
    return None


def _rows_off(suppressions: Sequence[Suppression], state: ListState) -> int:
    """Return how many rows suppressions take off this list. The number of one for all lists counts those of all."""
    everywhere = [one for one in suppressions if one.list is None and one.rows]
    listed = Listed.of(state, digests_of(map(digest_of, everywhere)))
    here = (min(listed.count(Correction(digest_of(one), one.entry)), one.rows) for one in everywhere)  # more by now
    return sum(one.rows for one in suppressions if one.list is not None) + sum(here)


def waiting_records(
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
    audit = tuple(AuditEntry(now, actor, suppressed_act(one, "waits")) for one in made)
    return Records(update=update, opened=(hold,), suppressed=waiting, audit=audit)


def suppressed_act(one: Suppression, second: str) -> Suppressed:
    """Return the act of the audit log that records a new suppression; ``second`` as in `Suppressed`."""
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


def confirm(
    publisher: Publisher, hold: HoldRecord, *, actor: str, reason: str, now: datetime, second_operator: bool = True
) -> Corrected:
    """Put suppressions in force that waited for a second operator.

    ``second_operator``: false if the configuration no longer asks for one.

    Raises `UsageError` if no reason is given, `RefusedError` if the hold has ended or ``actor`` asked for them,
    `StoreError`.
    """
    check_short_reason(reason)
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
        digests = digests_of(digest_of(one) for one in confirmed)
        context = SettleContext(now, encode_update, actor=actor, reason=reason)
        states = [list_state(publisher, head) for head in heads_of(publisher.catalog, None)]
        settled = [
            settle_correction(
                state, digests, state.suppressed.after(covering(confirmed, state.name)), context, "suppress"
            )
            for state in states
            if covering(confirmed, state.name)
        ]
        entry = AuditEntry(now, actor, Confirmed(str(hold.id), len(confirmed), confirmed[0].author, reason))
        changes = tuple(SuppressionChange(one, SuppressionState.WAITING) for one in confirmed)
        end = HoldEnd(hold.id, HoldState.OPEN, HoldState.RELEASED, actor, reason)
        return settled, Records(corrected=changes, ended=(end,), audit=(entry,))

    versions, _ = publish(publisher, "suppress", make, now)
    return Corrected(tuple(made), versions, sum(one.rows for one in made))


def refuse(publisher: Publisher, hold: HoldRecord, *, actor: str, reason: str, now: datetime) -> Corrected:
    """End suppressions that waited for a second operator, without effect. Raises as `confirm`."""
    check_short_reason(reason)
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


def _waiting_in(catalog: Catalog, number: int) -> tuple[Suppression, ...]:
    waiting = tuple(one for one in catalog.suppressions_in_hold(number) if one.state is SuppressionState.WAITING)
    if not waiting:
        raise RefusedError(f"hold {number} has ended", hint="`syncd holds` lists the open holds; nothing was changed")
    return waiting
