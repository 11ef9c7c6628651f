"""Versions that went back: a stale mirror, or a rollback. Pure."""

from typing import Final

from tuf.api.metadata import Timestamp

from syncd.errors import RollbackError, StaleMirrorError, SyncdError
from syncd.trust.offline import VerifiedMetadata
from syncd.trust.values import TIMESTAMP, Floors

_RESTORED: Final = (
    "ask the publisher whether a backup was restored there: then its newest published files have to be restored as "
    "well; if the feed was rebuilt, get its new root, then `syncd retrust SOURCE --root F --reason R`"
)


def older_timestamp(fetched: Timestamp, held: Timestamp) -> SyncdError:
    """Return the error for a timestamp below the one held: no cache has one that was signed after it."""
    message = f"{TIMESTAMP} is version {fetched.version}, older than version {held.version} held"
    states_less = fetched.snapshot_meta.version < held.snapshot_meta.version
    if fetched.expires > held.expires and states_less:  # all timestamps have the same lifetime
        return RollbackError(f"{message}, but was signed later and states an older list", hint=_RESTORED)
    return StaleMirrorError.of(message)


def check_floors(verified: VerifiedMetadata, floors: Floors) -> None:
    """Reject versions older than those seen before, even if the local metadata was lost.

    With an older timestamp, an old state as a whole is being served: a stale mirror. So is a root that is missing now:
    the timestamp does not state it. A newer timestamp must not state older lists.
    """
    below = {"root": floors.root}
    if not _keys_replaced(verified, floors.root, "timestamp"):
        below |= {"timestamp": floors.timestamp}
    if not _keys_replaced(verified, floors.root, "snapshot"):
        below |= {"snapshot": floors.snapshot, **floors.roles}
    versions = verified.versions
    # A role that targets no longer delegates to is not a rollback.
    older = {
        role: f"the feed's {role} metadata is version {versions[role]}, but version {floor} was seen before"
        for role, floor in below.items()
        if versions.get(role, floor) < floor
    }
    stated = older.keys() - {"root", "timestamp"}
    if stated and "timestamp" not in older:
        raise RollbackError(older[min(stated)], hint=f"a newer timestamp states an older list: {_RESTORED}")
    if older:
        raise StaleMirrorError.of(next(iter(older.values())))


def _keys_replaced(verified: VerifiedMetadata, former_version: int, role: str) -> bool:
    """Return True if metadata that ``role`` signed under an earlier root would no longer verify.

    If a thief of a role's keys drove its version number up, the publisher undoes that by rotating the keys: floors
    from before must not block the feed then (5.3.11).
    """
    former = next((root for root in verified.roots if root.version == former_version), None)
    if former is None:
        return False
    kept = set(former.roles[role].keyids).intersection(verified.root.roles[role].keyids)
    return len(kept) < verified.root.roles[role].threshold
