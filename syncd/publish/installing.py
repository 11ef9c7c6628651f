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
from syncd.publish.ledger import Ledger, Records, SignedFiles
from syncd.store.store import UnknownOutcomeError

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
    for path, content in files:
        if path == layout.TIMESTAMP:
            advance(feed, content)
        else:
            feed.store.put(path, content)
    if feed.store.shared and dict(files).get(layout.TIMESTAMP, b"") != feed.here(layout.TIMESTAMP):
        catch_up(feed)  # this machine lacked more than these files, or a newer publication is in place


def advance(feed: FeedFolder, timestamp: bytes) -> None:
    """Put a timestamp in place, unless it or a newer one is there.

    After an answer that leaves the outcome open, the file is read again. Raises `StoreError` if it stays open, or if
    another timestamp of the same version is there.
    """
    for attempt in stamina.retry_context(on=(LostRaceError, UnknownOutcomeError), attempts=_ATTEMPTS, timeout=_LONGEST):
        with attempt:
            contradiction = _advance_once(feed, timestamp)
    if contradiction is not None:
        raise contradiction


def _advance_once(feed: FeedFolder, timestamp: bytes) -> StoreError | None:
    held = feed.store.current(layout.TIMESTAMP, MAX_METADATA_BYTES)
    if held is not None and held.content == timestamp:
        return None
    ours, theirs = signed_version(timestamp), signed_version(held.content if held else None)
    if theirs == ours:
        return StoreError(
            f"{feed.store} has another timestamp of version {ours} than the one that was signed here", hint=_RECOVER
        )
    if theirs < ours:
        feed.store.replace(layout.TIMESTAMP, timestamp, held.tag if held else None)
        if feed.store.shared and (held is None or held.content == feed.here(layout.TIMESTAMP)):
            feed.store.hold(layout.TIMESTAMP, timestamp)  # all else that it names is here as well
    return None


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
