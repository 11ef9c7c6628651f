"""Suppressions: the operator's own corrections of what is published.

A suppression takes a digest, or one entry of it, off one list or all, as a new version of each list. It survives
whatever the partner does, until it expires or `unsuppress` ends it. Many rows at once wait for a second operator.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from syncd.catalog.changes import Records
from syncd.catalog.decisions import HoldRecord, Suppression, SuppressionState
from syncd.catalog.records import AuditEntry
from syncd.operate.second_operator import over_bound, suppressed_act, waiting_records
from syncd.operate.suppressed_lists import Corrected, Listed, covering, digests_of, heads_of, list_state, publish
from syncd.operate.suppression_order import Correction, SuppressionOrder, check_new, check_order, unlisted
from syncd.pipeline.next_version import SettleContext
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.settle.correction import settle_correction
from syncd.pipeline.settle.result import Settled
from syncd.pipeline.wire import encode_update


def suppress(
    publisher: Publisher, order: SuppressionOrder, *, actor: str, now: datetime, second_operator: bool = True
) -> Corrected:
    """Suppress digests: publish a version without them of each list that has them.

    ``second_operator``: false if one operator may suppress any number of rows. Raises `UsageError` (no reason, an
    expiry in the past, no such list, a digest that is not listed and not ``ahead``), `RefusedError` (suppressed
    already), `StoreError`.
    """
    check_order(order, now)
    heads = heads_of(publisher.catalog, order.list)
    digests = digests_of(correction.digest for correction in order.corrections)
    made: list[Suppression] = []
    opened: list[HoldRecord] = []

    def make() -> tuple[Sequence[Settled], Records]:
        made.clear()
        opened.clear()
        known = publisher.catalog.suppressions(SuppressionState.ACTIVE, SuppressionState.WAITING)
        check_new(order, known)
        states = [list_state(publisher, head) for head in heads]
        listed = [Listed.of(state, digests) for state in states]
        number = publisher.catalog.last_suppression()
        for offset, correction in enumerate(order.corrections, start=1):
            rows = sum(some.count(correction) for some in listed)
            if not rows and not order.ahead:
                raise unlisted(correction, order.list)
            made.append(_suppression(order, correction, number + offset, actor, now, rows))
        finding = over_bound(publisher.catalog, states, listed, made, now)
        if finding is not None and second_operator:
            return (), waiting_records(made, finding, heads, actor, now, opened)
        context = SettleContext(now, encode_update, actor=actor, reason=order.reason)
        settled = [
            settle_correction(state, digests, state.suppressed.after(covering(made, state.name)), context, "suppress")
            for state in states
        ]
        second = "switched off" if finding else "no need"
        audit = tuple(AuditEntry(now, actor, suppressed_act(one, second)) for one in made)
        return settled, Records(suppressed=tuple(made), audit=audit)

    versions, _ = publish(publisher, "suppress", make, now)
    if opened:
        waiting = publisher.catalog.suppression(made[0].id)
        hold = publisher.catalog.hold(waiting.hold_id) if waiting and waiting.hold_id else None
        return Corrected(tuple(replace(one, state=SuppressionState.WAITING) for one in made), {}, 0, hold)
    return Corrected(tuple(made), versions, sum(one.rows for one in made))


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
