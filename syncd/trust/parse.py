"""Reading one file of signed metadata, and tuf's errors about it as this project's. No signature is checked here."""

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
from tuf.api.serialization import DeserializationError

from syncd.errors import FeedError, MismatchError, RollbackError, TrustError
from syncd.units import brief

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


def parse(kind: type[S], content: bytes, name: str) -> Metadata[S]:
    """Parse metadata of one kind; raises `TrustError` where ``content`` is none. Its signatures are not checked."""
    with typed_errors(name):
        metadata: Metadata[S] = Metadata.from_bytes(content)
    if not isinstance(metadata.signed, kind):
        raise TrustError(f"{name} is {metadata.signed.type} metadata, not {kind.type}")
    return metadata


@contextmanager
def typed_errors(name: str) -> Iterator[None]:
    """Turn tuf's errors about the file ``name`` into this project's."""
    try:
        yield
    except (RepositoryError, ValueError) as error:
        raise translate(error, name) from error


_TRANSLATIONS: Final[tuple[tuple[type[Exception], type[FeedError], str, str], ...]] = (
    (
        UnsignedMetadataError,
        TrustError,
        "is not signed by enough of the keys trusted for it",
        "is the pinned root the one that the publisher gave out? If so, treat it as an attack",
    ),
    (
        BadVersionNumberError,
        RollbackError,
        "is older than what was already verified, or not the version that was announced",
        "a mirror or cache that lags behind does this: try again later, or another mirror",
    ),
    (
        LengthOrHashMismatchError,
        MismatchError,
        "is not the file that was signed for",
        "a mirror may be half updated: try again later",
    ),
    (
        DeserializationError,
        TrustError,
        "is not TUF metadata",
        "is the URL right? A log-in page or a proxy may be answering in the feed's place",
    ),
)


@contextmanager
def local_root_hint() -> Iterator[None]:
    """Say of a root that lies on this disk, and is none, what fits: no address was asked for it."""
    try:
        yield
    except FeedError as error:
        if isinstance(error.__cause__, DeserializationError):
            error.hint = "put the root.json that the publisher gave out in its place; a page saved from a site is none"
        raise


@contextmanager
def local_file_hint() -> Iterator[None]:
    """Say of files that lie on this disk, and are not what was signed, what fits: no mirror was asked for them."""
    try:
        yield
    except FeedError as error:
        if isinstance(error.__cause__, LengthOrHashMismatchError | DeserializationError):
            error.hint = "it was damaged or altered here: pull or fetch it again, or restore it from a backup"
        raise


def translate(error: Exception, name: str) -> FeedError:
    """The typed error for one of tuf's about the file ``name``. Where its own text holds hashes it is not quoted."""
    for kind, typed, message, hint in _TRANSLATIONS:
        if isinstance(error, kind):
            return typed(f"{name} {message}", hint=hint)
    if "missing info" in str(error):  # a role that the snapshot before listed: tuf has no class of its own for it
        return RollbackError(f"{name} no longer lists a role that it listed before", hint="ask the publisher")
    return TrustError(f"{name} is refused: {brief(str(error))}", hint="ask the publisher")
