"""A bucket of an S3 server, by conditional requests.

Every file except the timestamp is immutable: it is created if it is absent. The timestamp is swapped against the entity
tag that it was read with. Neither is ever repeated blindly: after a refusal, a conflict, a time-out or an error of the
server the outcome is unknown, so the file is read back and compared. ``docs/adr/0028`` has the reasons.
"""

import hashlib
import re
import socket
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import stamina
import stamina.instrumentation

from syncd.errors import ConfigError, LostRaceError, StoreError
from syncd.files import PRIVATE_FILE, new_file, read_bytes, storage
from syncd.store.settings import BucketSettings
from syncd.store.store import Content, UnknownOutcomeError

if TYPE_CHECKING:
    from obstore.store import S3Store

Answer = TypeVar("Answer")

ATTEMPTS: Final = 4
"""Attempts at a request whose outcome is unknown."""
_LONGEST: Final = 30.0
"""Seconds for all of them."""
_QUICK: Final = timedelta(seconds=10)
_BULK: Final = timedelta(hours=1)
_CONNECT: Final = timedelta(seconds=5)
_SILENCE: Final = timedelta(seconds=30)
"""A server that sends nothing for so long is taken for dead."""
_KEYS_FOR: Final = timedelta(minutes=5)
"""Files of keys are read again after this time, so that they can be replaced."""
_MAX_KEY: Final = 4096
_ONE_PART: Final = 32 << 20
"""Larger files are sent in parts. Parts cannot be conditional, so only files that are named by their content may be."""
_MOST_PARTS: Final = 9000
_PIECE: Final = 1 << 20

_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_BY_CONTENT: Final = re.compile(r"(?:^|[/.])([0-9a-f]{64})\.")
_METADATA_SERVICE: Final = re.compile(r"Error performing [A-Z]+ https?://(?:169\.254\.|\S+/latest/(?:api|meta-data)/)")
"""In an error: the client asked the machine's cloud for credentials, before anything was sent to the bucket."""
_DENIED: Final = frozenset({"401", "403"})
_FULL: Final = frozenset({"507"})
_MEDIA_TYPES: Final = {".arrow": "application/vnd.apache.arrow.file", ".json": "application/json"}
IMMUTABLE: Final = "public, max-age=31536000, immutable"
CHANGING: Final = "no-cache"
PRIVATE: Final = "no-store"


class AbsentBucketError(StoreError):
    """The bucket does not exist."""


class S3Bucket:
    """The files below one prefix of a bucket. All methods raise `StoreError` if the bucket fails.

    ``part``: goes between the configured prefix and each path. ``public``: a CDN may keep the files, if it can read
    them. The files of origins say so too: they become those of the feed by a copy within the server.
    """

    def __init__(self, settings: BucketSettings, part: str, *, public: bool) -> None:
        self.settings, self._public = settings, public
        self._before = "".join(f"{one}/" for one in (settings.prefix, part) if one)

    def __repr__(self) -> str:
        return f"S3Bucket({self})"

    def __str__(self) -> str:
        return f"s3://{self.settings.bucket}/{self._before}".rstrip("/")

    def key(self, path: str) -> str:
        """Return the whole key of a file."""
        return self._before + path

    def get(self, path: str, limit: int) -> Content | None:
        """Return a small file with its entity tag, verbatim; None if it is missing."""

        def ask() -> Content:
            found = _obstore().get(self._quick, self.key(path))
            if found.meta["size"] > limit:
                raise StoreError(
                    f"{self}/{path} is larger than {limit} bytes", hint="check that this is the right bucket"
                )
            return Content(bytes(found.bytes()), found.meta["e_tag"] or "")

        return self._answer("read", path, ask)

    def length(self, path: str) -> int | None:
        """Return the length of a file in bytes; None if it is missing."""
        return self._answer("read", path, lambda: int(_obstore().head(self._quick, self.key(path))["size"]))

    def create(self, path: str, content: bytes) -> None:
        """Create an immutable file, unless it is there already with the same content.

        Raises `StoreError` if it is there with another content. If its name shows which is right, the other one is
        damaged and replaced.
        """
        self._until_known(lambda: self._create(path, content))

    def _create(self, path: str, content: bytes) -> None:
        doubt = self._put(path, content, "create", IMMUTABLE)
        if doubt is None:
            return
        held = self.get(path, max(len(content), 1 << 26))
        if held is None:
            raise UnknownOutcomeError(f"{self}/{path} is not there although it was refused: {doubt}") from doubt
        if held.content == content:
            return
        if _is_named_by(path, content):
            doubt = self._put(path, content, {"e_tag": held.tag}, IMMUTABLE)
            if doubt is not None:
                raise UnknownOutcomeError(doubt.message, hint=doubt.hint) from doubt
            return
        raise StoreError(
            f"{self}/{path} is there with another content",
            hint="another state publishes into this bucket, or the catalog was restored from a backup: check bucket "
            "and prefix in [store]; if the catalog was restored, run `syncd recover --above N`",
        )

    def swap(self, path: str, content: bytes, tag: str | None) -> None:
        """Replace a file whose entity tag is still ``tag``; None: create it.

        Raises `LostRaceError` if it is another file now, `UnknownOutcomeError` if it may have been replaced.
        """
        doubt = self._put(path, content, "create" if tag is None else {"e_tag": tag}, CHANGING)
        if doubt is not None:
            raise doubt

    def upload(self, file: Path, path: str) -> None:
        """Create an immutable file from a local one that its name describes, unless it is there already."""
        with storage(file, "read"):
            length = file.stat().st_size
        if length <= _ONE_PART:
            self.create(path, read_bytes(file, _ONE_PART))
        elif self.length(path) != length:
            self._until_known(lambda: self._upload_parts(file, length, path))

    def _upload_parts(self, file: Path, length: int, path: str) -> None:
        doubt = self._put(path, file, None, IMMUTABLE, max(_ONE_PART, length // _MOST_PARTS))
        if doubt is not None:
            raise UnknownOutcomeError(doubt.message, hint=doubt.hint) from doubt

    def copy(self, other: "S3Bucket", existing: str, path: str) -> bool:
        """Copy an immutable file of the same bucket within the server; return False if it is not there."""

        def ask() -> bool:
            _obstore().copy(self._bulk, other.key(existing), self.key(path))
            return True

        return self._answer("copy", path, ask) or False

    def names(self, part: str) -> dict[str, int]:
        """Return the paths below ``part``, with their lengths. An error in the midst of the list is an error of all."""

        def ask() -> dict[str, int]:
            chunks = _obstore().list(self._quick, self.key(part))
            return {one["path"].removeprefix(self._before): one["size"] for chunk in chunks for one in chunk}

        return self._answer("list", part, ask) or {}

    def remove(self, path: str) -> None:
        """Remove a file; it need not be there."""
        self._answer("remove", path, lambda: _obstore().delete(self._quick, self.key(path)))

    def fetch(self, path: str, target: Path) -> bool:
        """Fetch a file into the new file ``target``, durably, after checking the SHA-256 that its name may state.

        Returns False if it is missing. Raises `StoreError`, and leaves nothing, if it is damaged.
        """

        def ask() -> bool:
            found = _obstore().get(self._bulk, self.key(path))
            digest = hashlib.sha256()
            with new_file(target, PRIVATE_FILE) as stream:
                for piece in found.stream(min_chunk_size=_PIECE):
                    digest.update(piece)
                    stream.write(piece)
                named = _BY_CONTENT.search(path)
                if named is not None and digest.hexdigest() != named[1]:
                    raise StoreError(
                        f"{self}/{path} does not have the SHA-256 in its name",
                        hint="it was damaged in the bucket: restore it there, from a version of the bucket or a backup",
                    )
            return True

        return self._answer("fetch", path, ask) or False

    def _put(
        self, path: str, content: bytes | Path, mode: Any, caching: str, part: int | None = None
    ) -> LostRaceError | UnknownOutcomeError | None:
        """Send a file; return None if it is in place, `LostRaceError` if it was refused, or the doubt about it."""
        attributes = {
            "Content-Type": _MEDIA_TYPES.get(Path(path).suffix, "application/octet-stream"),
            "Cache-Control": caching if self._public else PRIVATE,
        }
        in_parts = {} if part is None else {"use_multipart": True, "chunk_size": part, "max_concurrency": 4}
        kind = {} if mode is None else {"mode": mode, "use_multipart": False}
        obstore, client = _obstore(), self._quick if part is None else self._bulk
        try:
            obstore.put(client, self.key(path), content, attributes=attributes, **kind, **in_parts)
        except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
            return LostRaceError(f"another process wrote {self}/{path} in the meantime", hint="it is tried again")
        except FileNotFoundError as error:  # 404: the bucket is gone, or a condition on an absent file was refused
            if isinstance(failure := self._failure("write", path, error), AbsentBucketError):
                raise failure from None
            return LostRaceError(f"{self}/{path} was removed in the meantime", hint="it is tried again")
        except obstore.exceptions.BaseError as error:
            failure = self._failure("write", path, error)
            if not isinstance(failure, UnknownOutcomeError):
                raise failure from None
            return failure
        return None

    def _until_known(self, act: Callable[[], None]) -> None:
        """Call ``act`` until its outcome is known; raises its last doubt."""
        for attempt in stamina.retry_context(
            on=UnknownOutcomeError, attempts=ATTEMPTS, timeout=_LONGEST, wait_initial=0.2, wait_max=5.0
        ):
            with attempt:
                act()

    def _answer(self, doing: str, path: str, ask: Callable[[], Answer]) -> Answer | None:
        """Return what ``ask`` returns; None if the file is missing. Raises `StoreError`."""
        try:
            return ask()
        except FileNotFoundError as error:
            if isinstance(failure := self._failure(doing, path, error), AbsentBucketError):
                raise failure from None
            return None
        except _obstore().exceptions.BaseError as error:
            raise self._failure(doing, path, error) from None

    def _failure(self, doing: str, path: str, error: Exception) -> StoreError:
        """Return the error to raise. The client's own text is not repeated: it has the whole answer of the server."""
        text = str(error)
        status, code = (found[1] if (found := known.search(text)) else "" for known in (_STATUS, _CODE))
        place, why = f"{self}/{path}".rstrip("/"), " ".join(filter(None, (status, code)))
        if _METADATA_SERVICE.search(text) or ("credential" in text.lower() and not status):
            return self._without_credentials(f"cannot {doing} {place}")
        if code == "NoSuchBucket":
            return AbsentBucketError(
                f"the bucket {self.settings.bucket} does not exist",
                hint="check bucket, endpoint and region in [store] of the configuration",
            )
        obstore = _obstore().exceptions
        denied = isinstance(error, obstore.PermissionDeniedError | obstore.UnauthenticatedError) or status in _DENIED
        if denied:
            return StoreError(
                f"the bucket refuses to {doing} {place} ({why or 'access denied'})",
                hint="check the access key, the clock of this machine, and that the key's policy permits GetObject, "
                "PutObject, DeleteObject and ListBucket below the prefix",
            )
        if status in _FULL or code in {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"}:
            return StoreError(
                f"cannot {doing} {place}: the bucket is full ({why})",
                hint="raise its quota; the next sync continues from here",
            )
        return UnknownOutcomeError(
            f"cannot {doing} {place}: "
            + (f"the server answered {why}" if status else "no answer, or it came too late"),
            hint="check that the server of the bucket runs and can be reached; the next sync tries again",
        )

    def _without_credentials(self, what: str) -> StoreError:
        """Return the error of a request that was never sent: a wrong address would be noticed only after this."""
        if not _may_answer(self.settings.endpoint):
            return StoreError(
                f"{what}: nothing answers at {self.settings.endpoint}",
                hint="check endpoint in [store] of the configuration, that the server runs, and the network; there are "
                "no credentials for it either: name access_key_file and secret_key_file",
            )
        return StoreError(
            f"{what}: there are no credentials",
            hint="name access_key_file and secret_key_file in [store], or give this machine a role with access",
        )

    @property
    def _quick(self) -> "S3Store":
        return _client(self.settings, bulk=False)

    @property
    def _bulk(self) -> "S3Store":
        return _client(self.settings, bulk=True)


def _may_answer(endpoint: str) -> bool:
    """Return False if nothing listens at the address of a server. Through a proxy that cannot be seen."""
    address = urlsplit(endpoint)
    host, proxies = address.hostname, urllib.request.getproxies()
    if host is None or (address.scheme in proxies and not urllib.request.proxy_bypass(host)):
        return True
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((host, port), _CONNECT.total_seconds()).close()
    except OSError:
        return False
    return True


def _is_named_by(path: str, content: bytes) -> bool:
    named = _BY_CONTENT.search(path)
    return named is not None and hashlib.sha256(content).hexdigest() == named[1]


def _obstore() -> Any:
    """Return the library. Raises `ConfigError` if it is not installed."""
    try:
        import obstore
    except ImportError:
        raise ConfigError(
            'the store is a bucket (type = "s3"), and the library for it is not installed',
            hint="run `pip install 'syncd[s3]'`",
        ) from None
    return obstore


@lru_cache(maxsize=32)
def _client(settings: BucketSettings, *, bulk: bool) -> "S3Store":
    """Return the client of a bucket. ``bulk``: one for large files, which may take long; reads are then resumed.

    The other one repeats nothing: a repeated conditional request is refused because of its own first attempt.
    """
    _obstore()
    from obstore.store import S3Store

    stamina.instrumentation.set_on_retry_hooks(())  # what lasts is raised as an error, which says more
    options: dict[str, Any] = {
        "timeout": _BULK if bulk else _QUICK,
        "connect_timeout": _CONNECT,
        "read_timeout": _SILENCE,
        "allow_http": settings.endpoint.startswith("http://"),
    }
    if settings.ca_file is not None:
        options["root_certificate"] = read_bytes(settings.ca_file, 1 << 20)
    more: dict[str, Any] = {"endpoint": settings.endpoint} if settings.endpoint else {}
    if settings.region or settings.endpoint:
        more["region"] = settings.region or "us-east-1"
    if settings.access_key_file and settings.secret_key_file:
        keys = more["credential_provider"] = _KeyFiles(settings.access_key_file, settings.secret_key_file)
        keys()  # raises `StoreError` if a file cannot be read, which the client would hide
    return S3Store(
        settings.bucket,
        client_options=options,  # type: ignore[arg-type]  # its type names each key
        retry_config={"max_retries": 3 if bulk else 0, "retry_timeout": timedelta(minutes=1)},
        **more,
    )


class _KeyFiles:
    """Reads the access key from two files, again after some minutes."""

    def __init__(self, access: Path, secret: Path) -> None:
        self._files = {"access_key_id": access, "secret_access_key": secret}

    def __call__(self) -> Mapping[str, Any]:
        keys = {name: read_bytes(path, _MAX_KEY).decode().strip() for name, path in self._files.items()}
        return {**keys, "expires_at": datetime.now(UTC) + _KEYS_FOR}
