"""Releasing or discarding the rows of a hold."""

from collections.abc import Iterable
from datetime import datetime

from syncd.acts import Discarded, Released
from syncd.catalog.catalog import Catalog
from syncd.catalog.decisions import HoldRecord, HoldState
from syncd.catalog.records import AuditEntry, own_name
from syncd.errors import RefusedError, StoreError, UsageError
from syncd.format.caps import NO_CAPS
from syncd.format.manifest import SegmentRef
from syncd.operate.checks import check_reason
from syncd.operate.known_good import confirm_change, refuse_change
from syncd.operate.second_operator import confirm, refuse
from syncd.outcomes import Lane
from syncd.pipeline.heads import ListState, named_segments
from syncd.pipeline.next_version import SettleContext
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.recount import recount
from syncd.pipeline.settle.hold import settle_discard, settle_release, settle_whole_discard
from syncd.pipeline.settle.result import Settled
from syncd.pipeline.settle.update import settle_update
from syncd.pipeline.values import Over, Update
from syncd.pipeline.wire import decode_staged, encode_update


def end_hold(
    publisher: Publisher,
    number: int,
    *,
    release: bool,
    actor: str,
    reason: str,
    now: datetime,
    second_operator: bool = True,
    sha256: str = "",
) -> Settled:
    """Release or discard a hold. Rows that then pass the gate go live at once.

    ``second_operator``: false if operators may confirm their own suppressions. ``sha256``: the hash of the rows that
    the operator was shown; "": not compared.

    Raises `UsageError` if there is no such hold or no reason is given, `RefusedError` if it has ended already or has
    other rows, `StoreError`.
    """
    check_reason(reason)
    hold = open_hold(publisher.catalog, number, release=release)
    check_rows(hold, sha256)
    if hold.is_of_known_good_file:
        if release:
            return confirm_change(publisher, hold, actor=actor, reason=reason, now=now, second_operator=second_operator)
        return refuse_change(publisher, hold, actor=actor, reason=reason, now=now)
    if hold.lane is Lane.SUPPRESSIONS:
        if release:
            corrected = confirm(publisher, hold, actor=actor, reason=reason, now=now, second_operator=second_operator)
        else:
            corrected = refuse(publisher, hold, actor=actor, reason=reason, now=now)
        ended = publisher.catalog.hold(number)
        rows = sum(one.rows for one in corrected.suppressions)
        return Settled(None, released=rows, ended=(ended,) if ended else (), corrected=corrected.versions)
    act = (Released if release else Discarded)(str(number), hold.list, hold.lane, hold.rows, reason)
    audit = (AuditEntry(now, actor, act),)

    def settle(state: ListState) -> Settled:
        context = SettleContext(now, encode_update, audit=audit, actor=actor, reason=reason)
        current = next((held for held in state.holds if held.id == number), None)
        if current is None:
            open_hold(publisher.catalog, number, release=release)  # raises, and names who ended it
            raise RefusedError(f"hold {number} was ended in the meantime", hint="`syncd holds` lists the open holds")
        check_rows(current, sha256)
        if hold.lane is not Lane.BOTH:
            _check_files(state, current, named_segments(state))
            return (settle_release if release else settle_discard)(state, current, context)
        if not release:
            return settle_whole_discard(current, context)
        update = _whole_update(publisher.catalog, state, current)
        return settle_update(state, update, context, current.reasons, current)

    settled = publisher.settle(f"ending hold {number}", hold.source, own_name(hold.list), settle, now)
    publisher.compact_after(settled, now)
    return settled


def check_rows(hold: HoldRecord, sha256: str) -> None:
    """Raise `RefusedError` if a hold does not have the rows with this hash. "": not checked."""
    if sha256 and sha256 != hold.sha256:
        raise RefusedError(
            f"the rows of hold {hold.id} of {hold.list} have changed since they were shown",
            hint="look at the hold again; nothing was changed",
        )


def open_hold(catalog: Catalog, number: int, *, release: bool) -> HoldRecord:
    """Return a hold that can be released or discarded. Raises `UsageError` or `RefusedError` if there is none."""
    hold = catalog.hold(number)
    if hold is None:
        raise UsageError(f"there is no hold {number}", hint="`syncd holds` lists the open holds")
    if hold.state is HoldState.OPEN or (release and hold.state is HoldState.DISCARDED):
        return hold
    by = f" by {hold.ended_by}" if hold.ended_by else ""
    raise RefusedError(
        f"hold {number} of {hold.list} was {hold.state} already{by}",
        hint="`syncd holds` lists the open holds; nothing was changed",
    )


def _whole_update(catalog: Catalog, state: ListState, hold: HoldRecord) -> Update:
    """Return the waiting update of a whole hold, proved and counted again."""
    record = catalog.update_of(hold)
    staged = decode_staged(record.staged)
    over, before = staged.candidate.over, state.origin.manifest_sha256 if state.origin else None
    _check_files(state, hold, hold.segments if over is Over.NOTHING else named_segments(state))
    basis = state.basis_under(over)
    return recount(
        staged,
        basis,
        state.source,
        source=hold.source,
        name=state.own_name,
        before=before,
        caps=NO_CAPS,
        serial=state.origin.serial if state.origin else 0,
    )


def _check_files(state: ListState, hold: HoldRecord, needed: Iterable[SegmentRef]) -> None:
    """Raise `StoreError` if a file that ending the hold needs is missing from this disk."""
    if state.source.missing(state.own_name, needed):
        raise StoreError(
            f"files that hold {hold.id} of {state.name} needs are missing on this disk",
            hint=f"run `syncd sync {hold.source}`: it opens a new hold for the rows that still wait",
            serving=f"{state.name} version {state.head.version}" if state.head else "",
        )
