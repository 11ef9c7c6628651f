"""Parsing one file of signed metadata, and translating tuf's errors. No signature is checked here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from tuf.api.exceptions import (
    BadVersionNumberError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError, SerializationError

from syncd.errors import FeedError, MismatchError, RollbackError, TrustError
from syncd.units import brief

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


def parse(kind: type[S], content: bytes, name: str) -> Metadata[S]:
    """Parse metadata of one kind, without checking signatures; raises `TrustError` if ``content`` is anything else."""
    with typed_errors(name):
        metadata: Metadata[S] = Metadata.from_bytes(content)
        _ = metadata.signed_bytes  # raises if it has a value that cannot be signed, such as a fraction
    if not isinstance(metadata.signed, kind):
        raise TrustError(f"{name} is {metadata.signed.type} metadata, not {kind.type}")
    return metadata


@contextmanager
def typed_errors(name: str) -> Iterator[None]:
    """Translate tuf's errors about the file ``name`` into ours."""
    try:
        yield
    except (RepositoryError, ValueError) as error:
        raise translate(error, name) from error


_TRANSLATIONS: Final[tuple[tuple[type[Exception], type[FeedError], str, str], ...]] = (
    (
        UnsignedMetadataError,
        TrustError,
        "is not signed by enough of the keys trusted for it",
        "check that the pinned root is the one that the publisher handed out; if it is, treat this as an attack",
    ),
    (
        BadVersionNumberError,
        RollbackError,
        "is older than a version that was already verified, or not the announced version",
        "a mirror or cache may lag behind: try again later, or use another mirror; if it lasts, ask the publisher"
        " whether a backup was restored: then its newest published files have to be restored as well",
    ),
    (
        LengthOrHashMismatchError,
        MismatchError,
        "is not the file that was signed",
        "a mirror may be half updated: try again later",
    ),
    (
        DeserializationError,
        TrustError,
        "is not TUF metadata",
        "check the url: a log-in page or a proxy may be answering in the feed's place",
    ),
    (
        SerializationError,
        TrustError,
        "holds a value that cannot be signed, such as a fraction",
        "nobody signed this file as it is: obtain it from the publisher again",
    ),
)


@contextmanager
def local_root_hint() -> Iterator[None]:
    """Give a hint that fits a root from this disk if it is not metadata: it was not fetched from an address."""
    try:
        yield
    except FeedError as error:
        if isinstance(error.__cause__, DeserializationError):
            error.hint = "replace it with the root.json from the publisher; a web page saved from its site will not do"
        raise


@contextmanager
def local_file_hint() -> Iterator[None]:
    """Give a hint that fits files from this disk if they are not the signed ones: they did not come from a mirror."""
    try:
        yield
    except FeedError as error:
        if isinstance(error.__cause__, LengthOrHashMismatchError | DeserializationError):
            error.hint = "it was damaged or altered on this disk: pull or fetch it again, or restore it from a backup"
        raise


def translate(error: Exception, name: str) -> FeedError:
    """Return our error for tuf's error about the file ``name``; texts of tuf's that hold hashes are not quoted."""
    for kind, typed, message, hint in _TRANSLATIONS:
        if isinstance(error, kind):
            return typed(f"{name} {message}", hint=hint)
    if "missing info" in str(error):  # a role that the snapshot before listed: tuf has no class for it
        return RollbackError(f"{name} no longer lists a role that it listed before", hint="ask the publisher")
    return TrustError(f"{name} is rejected: {brief(str(error))}", hint="ask the publisher")
