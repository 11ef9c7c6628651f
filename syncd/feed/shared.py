"""A feed whose store other machines write to as well: bringing this machine's copy up to what is published there.

This machine serves its copy. So a newer timestamp is kept here only after everything that it names is here.
"""

import json
from typing import Final

from syncd.errors import StoreError
from syncd.feed import layout
from syncd.feed.folder import MAX_METADATA_BYTES, FeedFolder
from syncd.files import DamagedError
from syncd.trust.repository import Repository

_FIRST_ROOT: Final = "root.json"


def signed_version(timestamp: bytes | None) -> int:
    """Return the version that a timestamp states, without verifying it; 0 if it is missing or malformed."""
    try:
        return int(json.loads(timestamp or b"")["signed"]["version"])
    except (ValueError, KeyError, TypeError):
        return 0


def catch_up(folder: FeedFolder) -> bytes:
    """Bring this machine's copy up to the published state, with all current stacks; return the published timestamp.

    If the copy has that timestamp, nothing else is looked at. Raises `StoreError`, also if the store is older than this
    machine's copy.
    """
    held = folder.store.current(layout.TIMESTAMP, MAX_METADATA_BYTES)
    here = folder.here(layout.TIMESTAMP)
    if held is None:
        raise DamagedError(
            f"{layout.TIMESTAMP} is missing from {folder.store}",
            hint="check bucket and prefix in [store]; if it was lost, restore it there, from a version of the bucket "
            "or a matcher's copy",
        )
    if signed_version(here) > signed_version(held.content):
        raise StoreError(
            f"{folder.store} is older than what this machine has published or served from it",
            hint="it was replaced by an older copy: restore its newest version, and nothing is lost",
        )
    if here != held.content:
        _bring(folder, held.content)
        folder.store.hold(layout.TIMESTAMP, held.content)
    return held.content


def _bring(folder: FeedFolder, timestamp: bytes) -> None:
    roots: dict[str, bytes] = {}

    def read(name: str) -> bytes | None:
        path = f"{layout.METADATA}/{name}"
        if name == "timestamp.json":
            return timestamp
        if not name.endswith(".root.json") or folder.here(path) is not None:
            return folder.store.read(path, MAX_METADATA_BYTES)
        found = folder.store.current(path, MAX_METADATA_BYTES)
        if found is not None:
            roots[path] = found.content
        return None if found is None else found.content

    folder.read(_FIRST_ROOT)
    for target in Repository.load(read).targets().values():
        name = layout.list_of(target.name)
        if name is not None:
            folder.bring_here(name, folder.manifest(name, target.sha256).stack)
    for path, content in roots.items():  # last: a root with other keys makes the timestamp that is here invalid
        folder.store.hold(path, content)
