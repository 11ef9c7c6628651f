"""The held state of a list, from which a sync of it starts."""

from syncd.catalog.catalog import Catalog
from syncd.catalog.records import RETRUSTED
from syncd.errors import StoreError
from syncd.files import DamagedError
from syncd.format.manifest import ManifestRef
from syncd.outcomes import Lane
from syncd.pipeline.heads import ListState
from syncd.pipeline.prepare import LocalList
from syncd.pipeline.relink import relink
from syncd.pipeline.values import Over


def held_of(state: ListState, over: Over) -> LocalList:
    """Return the held state of a list. ``over``: the part of it that is still on this disk, see `left_of`."""
    origin = state.origin
    if origin is None:
        return LocalList()
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
    )


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
