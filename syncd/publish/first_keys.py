"""The first keys of a feed, made so that a call that was killed can be repeated.

Before the first key is made, ``.work/first-keys.json`` in the feed folder names the files to make. A later call uses
those of them that are whole, since nothing was published with them yet; it never uses or overwrites any other key file,
except a complete set of offline keys.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from syncd.errors import StoreError, UsageError
from syncd.feed.folder import FeedFolder
from syncd.files import install_bytes, make_folder, storage
from syncd.trust import keys
from syncd.trust.keys import Signers

_NOTE: Final = "first-keys.json"
_MAX_NOTE: Final = 1 << 20
_PRIVATE_FILE: Final = 0o600
_PRIVATE_FOLDER: Final = 0o700


def first_keys(
    feed: FeedFolder, offline: Path, online: Path, count: int, custodians: Sequence[Path] = ()
) -> tuple[Signers, Signers]:
    """Return the offline and online keys of a new feed; make those that are missing. ``custodians``: as in `init`.

    Call with the feed's lock held. Raises `RefusedError` if a key would be overwritten, `UsageError`, `StoreError`.
    """
    begun = _begun(feed)
    _remove_torn(begun)
    existing = _complete((offline, *custodians))
    wanted = [*(() if existing else keys.offline_paths(offline, count, custodians)), *keys.online_paths(online)]
    keys.refuse_existing(path for path in wanted if path.absolute() not in begun)
    note = sorted(map(str, begun.union(path.absolute() for path in wanted)))
    make_folder(feed.work, _PRIVATE_FOLDER)
    install_bytes(feed.work / _NOTE, json.dumps(note).encode(), mode=_PRIVATE_FILE)
    if existing is None:
        for folder in (offline, *custodians):
            make_folder(folder, _PRIVATE_FOLDER)
        existing = keys.make_offline_keys(offline, count, begun, custodians)
    return existing, keys.make_online_keys(online, begun)


def forget_first_keys(feed: FeedFolder) -> None:
    """Forget which keys were made: the feed exists. Raises `StoreError`."""
    with storage(feed.work, "write"):
        (feed.work / _NOTE).unlink(missing_ok=True)


def _begun(feed: FeedFolder) -> frozenset[Path]:
    """Return the key files that an earlier call began to make."""
    content = feed.read_private(_NOTE, _MAX_NOTE)
    try:
        return frozenset(map(Path, json.loads(content))) if content else frozenset()
    except (ValueError, TypeError):
        raise StoreError(
            f"{feed.work / _NOTE} is damaged", hint="remove it, and name new folders for the keys"
        ) from None


def _remove_torn(begun: Iterable[Path]) -> None:
    """Remove key files that a killed call did not write whole."""
    for path in begun:
        try:
            if path.exists():
                keys.load_signer(str(path))
        except UsageError:  # not a key; without one nothing was signed
            with storage(path, "remove"):
                path.unlink()


def _complete(folders: Sequence[Path]) -> Signers | None:
    """Return the offline keys in ``folders`` if they hold a complete set between them; otherwise None."""
    loaded = [keys.load_signers(folder, keys.OFFLINE_ROLES) for folder in folders if folder.is_dir()]
    existing = {role: tuple(chain(*(signers[role] for signers in loaded))) for role in keys.OFFLINE_ROLES}
    return existing if all(existing.get(role) for role in keys.OFFLINE_ROLES) else None
