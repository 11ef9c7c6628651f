"""Installing a committed publication into the feed's store, from any machine, as often as anyone likes.

All files but the timestamp are immutable. The timestamp only ever moves to a higher version: it is compared with the
one in place, and swapped only against exactly that one. So a process that wakes up late cannot take the feed back.
"""

from typing import Final

import stamina

from syncd.errors import LostRaceError, StoreError
from syncd.feed import layout
from syncd.feed.folder import MAX_METADATA_BYTES, FeedFolder
from syncd.feed.shared import catch_up, signed_version
from syncd.format import manifest as manifests
from syncd.publish.ledger import Ledger, Records, SignedFiles
from syncd.store.store import Content, UnknownOutcomeError

_ATTEMPTS: Final = 4
_LONGEST: Final = 30.0
"""Seconds for all attempts."""
_RECOVER: Final = (
    "if the catalog was restored from a backup, run `syncd recover --above N`, with an N above every version that a "
    'matcher may have seen ("Backup and restore" in docs/operations.md); if not, another state publishes into this '
    "store: check bucket and prefix"
)


def install(feed: FeedFolder, files: SignedFiles) -> None:
    """Install committed files durably, in order. Idempotent, and harmless if a newer publication is in place.

    Raises `StoreError`; the outcome of the last file may then be unknown, and nothing is taken back.
    """
    before = feed.here(layout.TIMESTAMP) if feed.store.shared else None
    for path, content in files:
        if path != layout.TIMESTAMP:
            feed.store.put(path, content)
            continue
        replaced = advance(feed, content)
        if feed.store.shared:
            _follow(feed, files, content, whole=replaced is not None and replaced.content == before)


def advance(feed: FeedFolder, timestamp: bytes) -> Content | None:
    """Put a timestamp in place, unless it or a newer one is there; return the one that it replaced, if it did.

    After an answer that leaves the outcome open, the file is read again. Raises `StoreError` if it stays open, or if
    another timestamp of the same version is there.
    """
    contradiction: StoreError | None = None
    replaced: Content | None = None
    for attempt in stamina.retry_context(on=(LostRaceError, UnknownOutcomeError), attempts=_ATTEMPTS, timeout=_LONGEST):
        with attempt:
            held = feed.store.current(layout.TIMESTAMP, MAX_METADATA_BYTES)
            ours, theirs = signed_version(timestamp), signed_version(held.content if held else None)
            if theirs < ours:
                feed.store.replace(layout.TIMESTAMP, timestamp, held.tag if held else None)
                replaced = held
            elif theirs == ours and held is not None and held.content != timestamp:
                contradiction = StoreError(
                    f"{feed.store} has another timestamp of version {ours} than the one that was signed here",
                    hint=_RECOVER,
                )
    if contradiction is not None:
        raise contradiction
    return replaced


def _follow(feed: FeedFolder, files: SignedFiles, timestamp: bytes, *, whole: bool) -> None:
    """Bring this machine's copy up to what is in place now. ``whole``: it lacks nothing but ``files``."""
    if not whole:
        catch_up(feed)
        return
    for path, content in files:
        if layout.is_manifest(path):
            manifest = manifests.parse(content)
            feed.bring_here(manifest.list, manifest.stack)
    feed.store.hold(layout.TIMESTAMP, timestamp)


def meet(feed: FeedFolder, ledger: Ledger[Records], *, ahead: bool) -> None:
    """Bring this machine's copy of the feed up to its store, and check that the ledger knows what is published.

    ``ahead``: the store may be ahead of the ledger. Raises `StoreError`.
    """
    published = catch_up(feed)  # before the ledger is read, which is then as new at least
    newest = ledger.last_published()
    known = dict(newest.files).get(layout.TIMESTAMP) if newest else None
    ours, theirs = signed_version(known), signed_version(published)
    if newest is not None and theirs < ours:  # another machine has just committed it, or the store lost it
        install(feed, newest.files)
        catch_up(feed)
    elif published != known and theirs > max(ours, 1) and not ahead:
        raise StoreError(
            f"{feed.store} has a newer publication (timestamp version {theirs}) than the catalog (version {ours})",
            hint=_RECOVER,
            serving="the newer publication, as it is",
        )
