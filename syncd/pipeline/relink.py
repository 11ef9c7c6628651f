"""Lost files of a list: head and origin share one base on disk, so each can give back what the other lost."""

from collections.abc import Iterable

from syncd.catalog.catalog import Catalog
from syncd.errors import MismatchError, StoreError
from syncd.feed import layout
from syncd.files import sha256_file
from syncd.format.manifest import SegmentRef
from syncd.pipeline.heads import ListState
from syncd.pipeline.values import Over
from syncd.store.store import Store


def link_to_source(state: ListState, refs: Iterable[SegmentRef]) -> None:
    """Link a head's segments into its source's folder: the origin's stack begins with the head's."""
    for ref in state.source.missing(state.own_name, {ref.sha256: ref for ref in refs}.values()):
        own, published = _paths(state, ref)
        state.source.store.link(state.feed.store, published, own)


def relink(catalog: Catalog, state: ListState) -> Over:
    """Restore lost segments of head and origin from each other, and return the state that is still complete.

    The feed gets back the segments of its current version only, and its manifest from the catalog. If private segments
    were lost (``owed``, refused rows, rows of holds), head and origin have to be compared again, and the result is
    `Over.HEAD`. Raises `StoreError`.
    """
    _bring_back_manifest(catalog, state)
    head = state.head.stack if state.head else ()
    for ref in state.source.missing(state.own_name, head):
        own, published = _paths(state, ref)
        _take_back(state.feed.store, published, state.source.store, own)
    for ref in state.feed.missing(state.name, head):
        own, published = _paths(state, ref)
        _take_back(state.source.store, own, state.feed.store, published)
    if state.origin is None or state.source.missing(state.own_name, head):
        return Over.NOTHING
    held = [ref for hold in state.open_holds for ref in hold.segments]
    private = (*state.origin.owed, *state.origin.refused, *held)
    return Over.HEAD if state.source.missing(state.own_name, private) else Over.ORIGIN


def _bring_back_manifest(catalog: Catalog, state: ListState) -> None:
    """Install a list's manifest again if it was lost or damaged: the catalog has its exact bytes."""
    head = catalog.head(state.name)
    if head is None:
        return
    try:
        state.feed.manifest_bytes(state.name, head.manifest_sha256)
    except (StoreError, MismatchError):
        version = catalog.version(state.name, head.version)
        if version is not None:
            state.feed.store.put(layout.manifest_path(state.name, version.manifest_sha256), version.manifest)


def _paths(state: ListState, ref: SegmentRef) -> tuple[str, str]:
    """Return the paths of a segment in the source's folder and in the feed."""
    return layout.segment_path(state.own_name, ref.sha256), layout.segment_path(state.name, ref.sha256)


def _take_back(other: Store, kept: str, store: Store, path: str) -> None:
    """Restore a lost segment from its other place, unless that copy is damaged: then it is fetched again."""
    if other.length(kept) is not None and sha256_file(other.present(kept)) in kept:
        store.link(other, kept, path)
