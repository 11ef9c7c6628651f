"""The held state of a list, from which a sync of it starts."""

from contextlib import suppress
from dataclasses import dataclass

from syncd.catalog.catalog import Catalog
from syncd.catalog.records import RETRUSTED
from syncd.errors import StoreError
from syncd.feed import layout
from syncd.files import DamagedError
from syncd.format.manifest import ManifestRef
from syncd.outcomes import Lane
from syncd.pipeline.heads import ListState
from syncd.pipeline.preparation import LocalList, WaitingList
from syncd.pipeline.relink import relink
from syncd.pipeline.values import Over, Staged, Stated
from syncd.pipeline.wire import decode_staged


@dataclass(frozen=True)
class WaitingUpdate:
    """A whole list of a partner that signs nothing, which waits for an operator or was discarded."""

    number: int
    """of its record in the catalog"""
    staged: Staged
    stated: Stated


def held_of(state: ListState, over: Over, waiting: WaitingUpdate | None = None) -> LocalList:
    """Return the held state of a list. ``over``: the part of it that is still on this disk, see `left_of`.

    ``waiting``: see `waiting_of`.
    """
    origin, left = state.origin, None
    if waiting is not None and over is Over.NOTHING:
        candidate = waiting.staged.candidate
        left = WaitingList(candidate.stack, candidate.end_state, waiting.stated.position)
    if origin is None:
        return LocalList(waiting=left)
    retrusted = origin.serial == RETRUSTED
    basis = {
        Over.ORIGIN: (state.stack, origin.end_state),
        Over.HEAD: (state.head.stack, state.head.end_state) if state.head else ((), {}),
        Over.NOTHING: ((), {}),
    }
    stack, end_state = basis[over]
    return LocalList(
        ref=None if retrusted else ManifestRef(version=origin.serial, sha256=origin.manifest_sha256),
        retrusted=retrusted,
        over=over,
        stack=stack,
        end_state=end_state,
        rows=origin.rows,
        fork=origin.fork,
        fork_waits=bool(state.holds_of(Lane.BOTH)),
        position=origin.position,
        waiting=left,
    )


def waiting_of(catalog: Catalog, state: ListState) -> WaitingUpdate | None:
    """Return the newest whole list that a partner stated and that did not become the origin; None if there is none.

    The next poll goes on from there, so that a list that waits is not read again from the beginning each time. Raises
    `StoreError`.
    """
    holds = [hold for hold in state.holds if hold.lane is Lane.BOTH]
    if not holds:
        return None
    record = catalog.update_of(max(holds, key=lambda hold: hold.id))
    staged = decode_staged(record.staged)
    stated = staged.vouched
    if not isinstance(stated, Stated):
        return None
    with suppress(StoreError):  # if they cannot be brought here, the partner states everything again
        state.source.bring_here(state.own_name, staged.candidate.stack)
    return WaitingUpdate(record.id, staged, stated)


def left_of(catalog: Catalog, state: ListState) -> Over:
    """Return the part of a list that is still on this disk, after its repair from what is left.

    Raises `StoreError` if the store is elsewhere and does not answer: what is there is not lost.
    """
    try:
        over = relink(catalog, state)
        state.source.bring_here(state.own_name, held_of(state, over).stack)
    except StoreError as error:  # one list's files must not stop the others: fetching again replaces them
        if state.source.store.shared and not isinstance(error, DamagedError):
            raise
        return Over.NOTHING
    return over


def needed_answers(catalog: Catalog, state: ListState) -> set[str]:
    """Return the paths of the raw answers that state a list's origin, and the whole list that waits, if any."""
    waiting = waiting_of(catalog, state)
    hashes = (state.origin.answers if state.origin else None, waiting.stated.answers if waiting else None)
    return {layout.answers_path(state.own_name, sha256) for sha256 in hashes if sha256 is not None}
