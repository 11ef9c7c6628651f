"""The verifying side: ngclient of python-tuf, made durable, locked, and held to floors and to the ``now`` it is given.

What is added to ngclient, and why:

- its files are not fsynced, and are not safe for two processes: both are done here;
- lost metadata would let it accept a rollback: `Floors` are checked on top;
- it drops a second timestamp of the same version unseen: here that is an `EquivocationError`;
- it takes the time from the clock: here ``now`` is an argument.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from tuf.api.exceptions import DownloadHTTPError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Signed, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from syncd import files
from syncd.errors import (
    EquivocationError,
    ExpiredError,
    HttpStatusError,
    MismatchError,
    RefusedError,
    RollbackError,
    TrustError,
)
from syncd.trust.offline import VerifiedMetadata, delegated_roles, trusted_feed, verify, verify_offline
from syncd.trust.parse import local_root_hint, parse, translate, typed_errors
from syncd.trust.values import TARGETS_LIMIT, Floors, TrustedFeed, role_of, size_limit

__all__ = ["Floors", "MetadataPeer", "TrustedFeed", "refresh", "verify_offline"]

_METADATA: Final = "metadata/"
_CLOCK_TOLERANCE: Final = timedelta(minutes=5)
_LEFT_OVER: Final = re.compile(r"tmp[a-z0-9_]{8}")
_NEVER_EXPIRED: Final = datetime.min.replace(tzinfo=UTC)
"""An expired list role is for the caller to judge (`TrustedFeed.expires`): it must not stop the lists of others."""
_NO_SUCH_ROOT: Final = frozenset({403, 404})  # object stores answer 403 for what is not there

_CONFIG: Final = UpdaterConfig(
    max_root_rotations=256,
    root_max_length=size_limit("root"),
    timestamp_max_length=size_limit("timestamp"),
    snapshot_max_length=size_limit("snapshot"),
    targets_max_length=TARGETS_LIMIT,
)


class MetadataPeer(Protocol):
    """Where a feed is fetched from."""

    def stream(self, path: str, limit: int) -> Iterator[bytes]:
        """Yield the bytes of ``path``, at most ``limit``; raises `SourceError`, `HttpStatusError` with its status."""
        ...


def refresh(folder: Path, root: bytes, peer: MetadataPeer, *, floors: Floors, now: datetime) -> TrustedFeed:
    """Fetch what is new in a feed's metadata, verify it against the pinned ``root``, and keep it in ``folder``.

    Where nothing changed that is two requests: the next root (404) and timestamp. Raises

    - `TrustError` and its kin (`ExpiredError`, `RollbackError`, `EquivocationError`), `MismatchError`: rejected;
    - whatever ``peer`` raises, as it came;
    - `RefusedError` where another process is at it, or the local clock runs backwards;
    - `StoreError` where ``folder`` cannot be written.
    """
    _check_clock(floors, now)
    files.make_folder(folder)
    with files.lock(folder / ".lock", "refreshing a feed's metadata"):
        _remove_left_overs(folder)
        fetcher = _Fetcher(peer)
        try:
            root_version, timestamp_version = _update(folder, root, fetcher, now)
            verified = _verify_folder(folder, root, root_version, timestamp_version)
            _check_one_timestamp(fetcher, verified)
            _check_floors(verified, floors)
        finally:
            _make_durable(folder)
    return trusted_feed(verified, clock=now)


def _check_clock(floors: Floors, now: datetime) -> None:
    """A clock that was set back would make expired metadata valid again."""
    if floors.clock and now < floors.clock - _CLOCK_TOLERANCE:
        raise RefusedError(
            f"the local clock runs backwards: it says {now:%Y-%m-%d %H:%M} UTC, "
            f"and the last verification was at {floors.clock:%Y-%m-%d %H:%M} UTC",
            hint="set the clock of this machine (is time synchronisation running?), then sync again; if it is right "
            'now and ran ahead then, see "When things were lost or reset" in docs/operations.md',
        )


def _update(folder: Path, root: bytes, fetcher: "_Fetcher", now: datetime) -> tuple[int, int]:
    """Run ngclient; return the versions of the newest root and timestamp."""
    with files.storage(folder, "update the metadata in"):
        updater = _open_updater(folder, root, fetcher, now)
        trusted = updater._trusted_set
        try:
            updater.refresh()
            trusted.reference_time = _NEVER_EXPIRED
            for role in delegated_roles(trusted.targets):
                updater._load_targets(role, "targets")  # get_targetinfo() would load a role by naming its target only
        except ExpiredMetadataError as error:
            raise _expired(trusted, fetcher, now) from error
        except (RepositoryError, ValueError) as error:
            raise translate(error, fetcher.name) from error
    return trusted.root.version, trusted.timestamp.version


def _open_updater(folder: Path, root: bytes, fetcher: "_Fetcher", now: datetime) -> Updater:
    with local_root_hint(), typed_errors("the pinned root"):
        updater = Updater(str(folder), _METADATA, fetcher=fetcher, config=_CONFIG, bootstrap=root)
    # ngclient read the system clock just now, and has no public way to be told the time.
    updater._trusted_set.reference_time = now
    return updater


def _expired(trusted: Mapping[str, Signed], fetcher: "_Fetcher", now: datetime) -> ExpiredError:
    """Name the role that expired, and when; ngclient stops at the first, in this order."""
    for role in ("root", "timestamp", "snapshot"):
        if role in trusted and trusted[role].is_expired(now):
            return _expired_error(role, trusted[role].expires)
    # targets: not kept by ngclient, but its signatures were verified before its expiry.
    return _expired_error(role_of(fetcher.name), parse(Targets, fetcher.content, fetcher.name).signed.expires)


def _expired_error(role: str, expires: datetime) -> ExpiredError:
    return ExpiredError(
        f"the feed's {role} metadata expired on {expires:%Y-%m-%d %H:%M} UTC",
        hint="the publisher has to sign it anew; where a mirror or cache is used, it may lag behind",
    )


def _verify_folder(folder: Path, root: bytes, root_version: int, timestamp_version: int) -> VerifiedMetadata:
    """Verify what ngclient left on disk, by the very function that matchers use offline."""
    try:
        return verify(lambda name: _read(folder, name), root, root_version, timestamp_version)
    except MismatchError as error:
        # ngclient takes the snapshot on disk without its hash when the version fits; every other file it hashed.
        raise EquivocationError(
            "the feed's snapshot was signed twice with the same version and different content",
            hint=f"keep {folder} as evidence and ask the publisher; do not trust this feed meanwhile",
        ) from error


def _read(folder: Path, name: str) -> bytes | None:
    """Find a file by its consistent name where ngclient keeps it."""
    version, role = name.removesuffix(".json").split(".", 1)
    path = folder / "root_history" / f"{version}.root.json" if role == "root" else folder / f"{quote(role, '')}.json"
    return files.read_bytes(path, TARGETS_LIMIT) if path.is_file() else None


def _check_one_timestamp(fetcher: "_Fetcher", verified: VerifiedMetadata) -> None:
    """Refuse a second timestamp of the version we hold: ngclient verifies it, then drops it without a word."""
    held = verified.timestamp
    fetched = parse(Timestamp, fetcher.timestamp, "timestamp.json").signed
    if fetched.version == held.version and fetched != held:
        raise EquivocationError(
            f"the feed's timestamp version {held.version} was signed twice with different content",
            hint="keep both as evidence and ask the publisher; do not trust this feed meanwhile",
        )


def _check_floors(verified: VerifiedMetadata, floors: Floors) -> None:
    """Refuse what is older than what was seen before, also where the local metadata was lost."""
    below = {"root": floors.root}
    if not _keys_replaced(verified, floors.root, "timestamp"):
        below |= {"timestamp": floors.timestamp}
    if not _keys_replaced(verified, floors.root, "snapshot"):
        below |= {"snapshot": floors.snapshot, **floors.roles}
    for role, floor in below.items():
        version = verified.versions.get(role, floor)  # a role that targets no longer delegates to is no rollback
        if version < floor:
            raise RollbackError(
                f"the feed's {role} metadata is version {version}, and version {floor} was seen before",
                hint="a mirror may lag behind: try later; if the publisher rebuilt its feed, see `syncd retrust`",
            )


def _keys_replaced(verified: VerifiedMetadata, root_then: int, role: str) -> bool:
    """True where what ``role`` signed under an earlier root would no longer verify.

    Rotating its keys is how a publisher undoes a version number driven to the top by a thief of the old ones: floors
    from before must not hold it up (5.3.11).
    """
    then = next((root for root in verified.roots if root.version == root_then), None)
    if then is None:
        return False
    kept = set(then.roles[role].keyids).intersection(verified.root.roles[role].keyids)
    return len(kept) < verified.root.roles[role].threshold


def _remove_left_overs(folder: Path) -> None:
    """Remove temporary files of an ngclient that was killed."""
    with files.storage(folder, "clean"):
        for path in folder.iterdir():
            if _LEFT_OVER.fullmatch(path.name):
                path.unlink()


def _make_durable(folder: Path) -> None:
    """Make what ngclient wrote survive a power cut: lost, it would let a rollback through."""
    with files.storage(folder, "write"):
        for path in folder.rglob("*.json"):
            if path.is_file():
                files.sync_file(path)
        for each in (folder / "root_history", folder):
            if each.is_dir():
                files.sync_folder(each)


class _Fetcher(FetcherInterface):
    """Lets ngclient fetch through a `MetadataPeer`, whose errors pass through it untouched."""

    def __init__(self, peer: MetadataPeer) -> None:
        self._peer = peer
        self.name = ""
        self.content = b""
        self.timestamp = b""

    def _fetch(self, url: str) -> Iterator[bytes]:
        """Required by the interface; metadata comes by `download_bytes`, which knows the limit."""
        return iter([self.download_bytes(url, TARGETS_LIMIT)])

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return the whole of a file of at most ``max_length`` bytes."""
        self.name = url.removeprefix(_METADATA)
        try:
            # A length that is signed is no reason to read more than the role may have: ngclient would.
            self.content = self._limited(url, min(max_length, size_limit(role_of(self.name))))
        except HttpStatusError as error:
            if role_of(self.name) == "root" and error.status in _NO_SUCH_ROOT:
                raise DownloadHTTPError(error.message, error.status) from error  # ngclient: no newer root
            raise
        if self.name == "timestamp.json":
            self.timestamp = self.content
        return self.content

    def _limited(self, url: str, limit: int) -> bytes:
        content = bytearray()
        for block in self._peer.stream(url, limit):
            content += block
            if len(content) > limit:
                raise TrustError(f"{self.name} is longer than {limit} bytes", hint="is the URL that of a feed?")
        return bytes(content)
