"""The verifying side: python-tuf's ngclient, made durable and locked, with version floors and ``now`` as an argument.

Additions to ngclient, and why:

- it does not fsync its files and is not safe for two processes: this module does and is;
- it would accept a rollback after its metadata was lost: `Floors` are checked as well;
- it silently drops a second timestamp of the same version: here that is an `EquivocationError`;
- it would believe any expiry of a timestamp, however late: `syncd.trust.overlong` caps it;
- it takes the answer of a lagging cache for an attack: here it asks again past caches, and an older timestamp is a
  `StaleMirrorError`. Only one that was signed later and states older lists is a `RollbackError`;
- it reads the system clock: here ``now`` is an argument.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tuf.api.exceptions import (
    BadVersionNumberError,
    ExpiredMetadataError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root, Signed, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig

from syncd import files, locks
from syncd.clock import ACCEPT
from syncd.errors import (
    EquivocationError,
    ExpiredError,
    MismatchError,
    RefusedError,
    RollbackError,
    StaleMirrorError,
    StoreError,
    SyncdError,
)
from syncd.trust.fetcher import METADATA, Fetcher, MetadataPeer
from syncd.trust.floors import check_floors, older_timestamp
from syncd.trust.offline import VerifiedMetadata, delegated_roles, trusted_feed, verify, verify_offline
from syncd.trust.overlong import read_overlong, record_lifetime
from syncd.trust.parse import local_root_hint, parse, translate, typed_errors
from syncd.trust.values import (
    LISTS,
    TARGETS_LIMIT,
    TIMESTAMP,
    TOP_LEVEL_ROLES,
    Floors,
    TrustedFeed,
    role_of,
    size_limit,
)
from syncd.units import clock_is_behind

__all__ = ["Floors", "MetadataPeer", "TrustedFeed", "refresh", "stored_expiries", "verify_offline"]

_SECOND_TIMESTAMP: Final = "second-timestamp.json"
"""A timestamp of the version that is held with different content, kept as evidence."""

_LEFT_OVER: Final = re.compile(r"tmp[a-z0-9_]{8}")
_NEVER_EXPIRED: Final = datetime.min.replace(tzinfo=UTC)
"""The caller judges expired list roles (`TrustedFeed.expires`): one must not block the lists of the others."""
_CACHED_ROOT: Final = (
    "a cache may answer that there is no newer root although the publisher changed its keys: have it purged, and let "
    "it keep no 404 for metadata. Otherwise "
)
_CONFIG: Final = UpdaterConfig(
    max_root_rotations=256,
    root_max_length=size_limit("root"),
    timestamp_max_length=size_limit("timestamp"),
    snapshot_max_length=size_limit("snapshot"),
    targets_max_length=TARGETS_LIMIT,
)


_ROOT_HISTORY: Final = "root_history"
"""The folder in which tuf keeps roots. It is created here, since tuf would create it with a mode set by the umask."""


def refresh(
    folder: Path, root: bytes, peer: MetadataPeer, *, floors: Floors, now: datetime, clock_cure: str = ACCEPT
) -> TrustedFeed:
    """Fetch a feed's new metadata, verify it against the pinned ``root``, and keep it in ``folder``.

    If nothing changed, this takes two requests: the next root (404) and the timestamp. If a cache may have given an old
    answer, everything is asked for once more, past caches. ``clock_cure``: the hint for a clock that is right now, but
    was ahead when the floor was set. Raises

    - `TrustError` (`ExpiredError`, `RollbackError`, `EquivocationError`) or `MismatchError`: the metadata is rejected;
    - `StaleMirrorError`: what is served is older than what was verified before, or not all of it is there yet;
    - other errors of ``peer``, unchanged;
    - `RefusedError` if another process is refreshing, or the local clock runs backwards;
    - `StoreError` if ``folder`` cannot be written.
    """
    _check_clock(floors, now, clock_cure)
    files.make_folder(folder / _ROOT_HISTORY)
    with locks.lock(folder / ".lock", "refreshing a feed's metadata"):
        _remove_left_overs(folder)
        fetcher = Fetcher(peer)
        try:
            verified = _verified(folder, root, fetcher, floors, now)
        except SyncdError as error:
            if not _may_be_cached(error, fetcher):
                raise
            verified = _verified(folder, root, Fetcher(peer, fresh=True), floors, now)
        finally:
            _make_durable(folder)
        overlong = read_overlong(folder)
    return replace(trusted_feed(verified, clock=now), counts_until=overlong.until if overlong else None)


def _verified(folder: Path, root: bytes, fetcher: Fetcher, floors: Floors, now: datetime) -> VerifiedMetadata:
    root_version, timestamp_version = _update(folder, root, fetcher, now)
    verified = _verify_folder(folder, root, root_version, timestamp_version)
    _check_one_timestamp(folder, fetcher, verified)
    check_floors(verified, floors)
    overlong = record_lifetime(folder, verified.timestamp.version, verified.timestamp.expires, now)
    if overlong is not None and overlong.ended:
        raise overlong.error
    return verified


def _may_be_cached(error: SyncdError, fetcher: Fetcher) -> bool:
    """Return True if an old answer of a cache could be the cause, also for the next root: it may be there by now."""
    unsigned = isinstance(error.__cause__, UnsignedMetadataError)
    return isinstance(error, (StaleMirrorError, ExpiredError, RollbackError)) or (unsigned and fetcher.no_newer_root)


def _check_clock(floors: Floors, now: datetime, cure: str) -> None:
    """Raise `RefusedError` if the clock was set back, which would make expired metadata valid again."""
    if floors.clock and clock_is_behind(now - floors.clock):
        raise RefusedError(
            f"the local clock runs backwards: it says {now:%Y-%m-%d %H:%M} UTC, "
            f"but the last verification was at {floors.clock:%Y-%m-%d %H:%M} UTC",
            hint=f"correct the clock of this machine, and check that time synchronisation is running; {cure}",
        )


def _update(folder: Path, root: bytes, fetcher: Fetcher, now: datetime) -> tuple[int, int]:
    """Run ngclient; return the versions of the newest root and the timestamp."""
    with files.storage(folder, "update the metadata in"):
        updater = _open_updater(folder, root, fetcher, now)
        trusted = updater._trusted_set
        try:
            updater.refresh()
            trusted.reference_time = _NEVER_EXPIRED
            for role in delegated_roles(trusted.targets):
                updater._load_targets(role, "targets")  # get_targetinfo() would load a role only for one of its targets
        except ExpiredMetadataError as error:
            raise _expired(trusted, fetcher, now) from error
        except (RepositoryError, ValueError) as error:
            raise _rejection(error, trusted, fetcher, folder) from error
    return trusted.root.version, trusted.timestamp.version


def _rejection(error: Exception, trusted: Mapping[str, Signed], fetcher: Fetcher, folder: Path) -> SyncdError:
    """Return the error for an answer that ngclient rejects."""
    held = trusted.get("timestamp")
    if fetcher.name == TIMESTAMP and isinstance(held, Timestamp) and isinstance(error, RepositoryError):
        fetched = _once_signed(error, fetcher, folder, trusted["root"].version)
        if fetched and fetched.version < held.version:
            return older_timestamp(fetched, held)
    rejected = translate(error, fetcher.name)
    if isinstance(error, UnsignedMetadataError) and fetcher.no_newer_root:
        rejected.hint = _CACHED_ROOT + rejected.hint
    return rejected


def _once_signed(error: RepositoryError, fetcher: Fetcher, folder: Path, root_version: int) -> Timestamp | None:
    """Return the rejected timestamp if its signatures are valid, be it with keys from before a rotation."""
    if isinstance(error, BadVersionNumberError):  # ngclient verifies the signatures first
        return parse(Timestamp, fetcher.content, TIMESTAMP).signed
    if not isinstance(error, UnsignedMetadataError):
        return None
    fetched = parse(Timestamp, fetcher.content, TIMESTAMP)
    for version in range(root_version - 1, 0, -1):
        former = _read(folder, f"{version}.root.json")
        if former is None:
            break
        with contextlib.suppress(UnsignedMetadataError):
            parse(Root, former, "root").signed.verify_delegate("timestamp", fetched.signed_bytes, fetched.signatures)
            return fetched.signed
    return None


def _open_updater(folder: Path, root: bytes, fetcher: Fetcher, now: datetime) -> Updater:
    with local_root_hint(), typed_errors("the pinned root"):
        updater = Updater(str(folder), METADATA, fetcher=fetcher, config=_CONFIG, bootstrap=root)
    # ngclient has just read the system clock, and has no public way to set the time.
    updater._trusted_set.reference_time = now
    return updater


def _expired(trusted: Mapping[str, Signed], fetcher: Fetcher, now: datetime) -> ExpiredError:
    """Return the error for the role that expired; ngclient stops at the first, in this order."""
    for role in ("root", "timestamp", "snapshot"):
        if role in trusted and trusted[role].is_expired(now):
            return _expired_error(role, trusted[role].expires)
    # Targets: ngclient did not keep it, but verified its signatures before its expiry.
    return _expired_error(role_of(fetcher.name), parse(Targets, fetcher.content, fetcher.name).signed.expires)


def _expired_error(role: str, expires: datetime) -> ExpiredError:
    return ExpiredError(
        f"the feed's {role} metadata expired on {expires:%Y-%m-%d %H:%M} UTC",
        hint="the publisher must sign it again; if you fetch from a mirror or cache, it may lag behind",
    )


def _verify_folder(folder: Path, root: bytes, root_version: int, timestamp_version: int) -> VerifiedMetadata:
    """Verify the files that ngclient left on disk, with the function that matchers use offline."""
    try:
        return verify(lambda name: _read(folder, name), root, root_version, timestamp_version)
    except MismatchError as error:
        # ngclient accepts the snapshot on disk by its version, without its hash; it hashed every other file.
        raise EquivocationError(
            "the feed's snapshot was signed twice with the same version and different content",
            hint=f"keep {folder} as evidence and ask the publisher; do not use this feed until it is explained",
        ) from error


def _read(folder: Path, name: str) -> bytes | None:
    """Read the file with a consistent name from where ngclient keeps it."""
    version, role = name.removesuffix(".json").split(".", 1)
    path = folder / "root_history" / f"{version}.root.json" if role == "root" else _stored(folder, role)
    return files.read_bytes(path, TARGETS_LIMIT) if path.is_file() else None


def _check_one_timestamp(folder: Path, fetcher: Fetcher, verified: VerifiedMetadata) -> None:
    """Reject a second timestamp of the version we hold: ngclient verifies it, then silently drops it.

    The second one is kept beside the first, as evidence.
    """
    held = verified.timestamp
    fetched = parse(Timestamp, fetcher.timestamp, TIMESTAMP).signed
    if fetched.version == held.version and fetched != held:
        with contextlib.suppress(StoreError):  # a full disk must not hide it
            files.install_bytes(folder / _SECOND_TIMESTAMP, fetcher.timestamp)
        raise EquivocationError(
            f"the feed's timestamp version {held.version} was signed twice with different content",
            hint=f"keep {folder} as evidence: {TIMESTAMP} and {_SECOND_TIMESTAMP} in it differ; ask the publisher, and "
            "do not use this feed until it is explained",
        )


def _remove_left_overs(folder: Path) -> None:
    """Remove temporary files of a killed refresh, ngclient's and ours."""
    files.remove_temporaries(folder)
    with files.storage(folder, "clean"):
        for path in folder.iterdir():
            if _LEFT_OVER.fullmatch(path.name):
                path.unlink()


def _make_durable(folder: Path) -> None:
    """Make the files that ngclient wrote survive a power cut: without them a rollback would be accepted."""
    with files.storage(folder, "write"):
        for path in folder.rglob("*.json"):
            if path.is_file():
                files.sync_file(path)
        for written in (folder / "root_history", folder):
            if written.is_dir():
                files.sync_folder(written)


def stored_expiries(folder: Path) -> dict[str, datetime]:
    """Return the expiry of each role in a folder of `refresh`, which verified it before; missing roles are left out.

    All delegated roles count as `LISTS`, with the earliest expiry: how many there are is their publisher's choice.
    Raises `StoreError`, `TrustError`.
    """
    expiries = {role: _stored_expiry(folder, role) for role in TOP_LEVEL_ROLES if _stored(folder, role).is_file()}
    if "targets" in expiries:
        targets = parse(Targets, files.read_bytes(_stored(folder, "targets"), TARGETS_LIMIT), "targets.json").signed
        delegated = [role for role in delegated_roles(targets) if _stored(folder, role).is_file()]
        if delegated:
            expiries[LISTS] = min(_stored_expiry(folder, role) for role in delegated)
    return expiries


def _stored_expiry(folder: Path, role: str) -> datetime:
    path = _stored(folder, role)
    content = files.read_bytes(path, TARGETS_LIMIT)
    with typed_errors(path.name):
        return Metadata.from_bytes(content).signed.expires


def _stored(folder: Path, role: str) -> Path:
    """Return where ngclient keeps a role's newest metadata."""
    return folder / f"{quote(role, '')}.json"
