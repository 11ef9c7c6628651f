"""Proving that an S3 server honours conditions, before anything is published into it.

Some servers accept the headers and ignore them, or honour them only now and then. With such a server two machines would
overwrite each other's publications unseen, so syncd does not run on it.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, Lock
from typing import Final

from syncd.errors import ConfigError, LostRaceError, StoreError
from syncd.files import PRIVATE_FILE, install_bytes, read_bytes, storage
from syncd.store.s3 import S3Bucket
from syncd.store.settings import BucketSettings
from syncd.store.store import UnknownOutcomeError

RIVALS: Final = 4
"""Concurrent attempts to create one key."""
_SMALL: Final = 1 << 16
_WAIT: Final = 30.0

_VALID: Final = 86400.0
"""Seconds for which the record of a proof counts for other processes: the proof may take a second."""

_proved: Final[set[str]] = set()
_proving: Final = Lock()


def prove(settings: BucketSettings, record: Path, *, afresh: bool = False) -> None:
    """Prove a bucket, unless this process did, or another one lately.

    ``record``: of the last proof by any process. ``afresh``: do not rely on it. Raises `ConfigError` if the bucket
    ignores conditions, `StoreError`.
    """
    server = f"{settings.endpoint} {settings.bucket}"
    with _proving:
        if server in _proved or (not afresh and _is_recorded(record, server)):
            return
        prove_now(S3Bucket(settings, "probe", public=False))
        _proved.add(server)
        install_bytes(record, server.encode(), PRIVATE_FILE, durable=False)


def _is_recorded(record: Path, server: str) -> bool:
    with storage(record, "read"):
        try:
            recent = 0 <= time.time() - record.stat().st_mtime < _VALID
        except FileNotFoundError:
            return False
    return recent and read_bytes(record, _SMALL) == server.encode()


def prove_now(bucket: S3Bucket) -> None:
    """Prove a bucket, and remove the keys that this needs. Raises as `prove`."""
    key = secrets.token_hex(16)
    try:
        ignored = next(_ignored(bucket, key), None)
    finally:
        for path in (key, f"{key}.absent"):
            with suppress(StoreError):  # a few bytes that nobody reads
                bucket.remove(path)
    if ignored is not None:
        raise ConfigError(
            f"the server of {bucket} ignores conditions: {ignored}",
            hint="update the server or use another one: with this one, two machines would overwrite each other's "
            "publications unseen. Nothing was published",
            serving="this machine's copy, as it was published last",
        )


def _ignored(bucket: S3Bucket, key: str) -> Iterator[str]:
    """Yield what the server ignored."""
    created = _created_by(bucket, key)
    if created != 1:
        yield f"of {RIVALS} concurrent requests to create one key (If-None-Match: *), {created} succeeded"
    first = bucket.get(key, _SMALL)
    if first is None:
        raise StoreError(f"{bucket}/{key} cannot be read after it was written", hint="try again; see the server's log")
    bucket.swap(key, b"second", first.tag)
    if not _is_refused(lambda: bucket.swap(key, b"third", first.tag)):
        yield "it replaced a file against the tag of an older content (If-Match)"
    if not _is_refused(lambda: bucket.swap(f"{key}.absent", b"fourth", first.tag)):
        yield "it created a file although the request named the tag of an existing one (If-Match)"


def _created_by(bucket: S3Bucket, key: str) -> int:
    """Let some threads create one key at once; return how many got the answer that they did."""
    start = Barrier(RIVALS, timeout=_WAIT)

    def create(number: int) -> bool:
        content = f"{number} {secrets.token_hex(8)}".encode()
        start.wait()
        try:
            bucket.swap(key, content, None)
        except LostRaceError:
            return False
        except UnknownOutcomeError:  # a conflict, as some servers say, or our own attempt answered too late
            held = bucket.get(key, _SMALL)
            return held is not None and held.content == content
        return True

    with ThreadPoolExecutor(RIVALS) as threads:
        return sum(threads.map(create, range(RIVALS)))


def _is_refused(act: Callable[[], None]) -> bool:
    try:
        act()
    except LostRaceError:
        return True
    return False
