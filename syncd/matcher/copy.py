"""A pulled copy: a feed's files on a matcher's host, and ``current.json``, which names the current generation.

``current.json`` is replaced atomically and last, so a reader sees either one whole generation or the one before. For
each list it states the manifest, and the versions of the signed metadata that vouch for it. These are kept in
``metadata/``, so that the proof can be repeated without the network.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from syncd.errors import RefusedError, StoreError, UsageError
from syncd.feed import layout
from syncd.feed.folder import TRUST, FeedFolder
from syncd.feed.proof import SignedManifest
from syncd.feed.unfolded import Unfolded
from syncd.files import install_bytes, storage
from syncd.format.canonical import canonical, read_canonical
from syncd.format.manifest import Count, RetirementNotice, SegmentRef, Sha256, Time, Version, now_in_seconds
from syncd.model import LIST_NAME, ListName
from syncd.trust.values import TrustedFeed

CURRENT: Final = "current.json"
ROOT: Final = "root.json"
PROOF: Final = "proof.json"
"""The record of the last proof of the copy's files, and the faults that it found (`syncd.feed.reproof`)."""
_MAX_CURRENT: Final = 1 << 22
_OTHERS_WRITE: Final = 0o022
_REMOVE: Final = (
    "remove only that file and pull again: intact files are not fetched again, and nothing becomes current until every "
    "list of the copy is complete"
)


class HeldList(BaseModel):
    """One list of a copy: the manifest in force, and the metadata versions, by role, that vouch for it."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    version: Version
    manifest: Sha256
    metadata: Mapping[str, Version]
    verified_at: Time | None = None
    """when the upstream was last verified, according to that metadata"""
    retired: RetirementNotice | None = None
    """as in the manifest"""
    unfolded: Mapping[Sha256, tuple[SegmentRef, ...]] = {}
    """segments of the stack that are still to be folded here, and the inputs that are read in their place"""
    timestamp_counts_until: Time | None = None
    """when the timestamp among ``metadata`` stops counting, if it states an expiry far too late; only written then"""


class CurrentFile(BaseModel):
    """The content of ``current.json``."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    format: Literal[1] = 1
    generation: Count = 0
    """number of pulls into this copy; 0 in the old form, which did not have it"""
    feed: Sha256 | None = None
    """SHA-256 of the feed's first root, which identifies the feed; None if the copy was pulled with a later root"""
    updated: Time
    """when the copy was last brought up to date"""
    metadata: Mapping[str, Version]
    """versions of the newest verified metadata, by role; its timestamp states the age of the lists"""
    lists: Annotated[Mapping[ListName, HeldList], ...]
    checksum: Sha256 | None = None
    """SHA-256 of the canonical rest. It guards against accidents only: anyone who can write the file can write this"""


def held_list(signed: SignedManifest, trusted: TrustedFeed, unfolded: Unfolded) -> HeldList:
    """Return the record of a list once ``signed`` is installed, vouched for by ``trusted``."""
    manifest, fresh = signed.manifest, trusted.freshness.get(signed.manifest.list)
    return HeldList(
        version=manifest.version,
        manifest=signed.sha256,
        metadata=dict(trusted.versions),
        verified_at=fresh.verified_at if fresh else None,
        retired=manifest.retired,
        unfolded=unfolded,
        timestamp_counts_until=now_in_seconds(trusted.counts_until) if trusted.counts_until else None,
    )


def next_current(
    before: CurrentFile | None, lists: Mapping[ListName, HeldList], trusted: TrustedFeed, now: datetime
) -> CurrentFile:
    """Return the generation after ``before`` (None: the first one)."""
    first = trusted.files.get(f"1.{ROOT}")
    return CurrentFile(
        generation=(before.generation if before else 0) + 1,
        feed=hashlib.sha256(first).hexdigest() if first else None,
        updated=now_in_seconds(now),
        metadata=dict(trusted.versions),
        lists=dict(lists),
    )


def read_current(folder: FeedFolder) -> CurrentFile | None:
    """Return the current generation, or None if nothing was pulled yet. Raises `StoreError`.

    The old form, without ``generation``, may lack the checksum. The next pull writes the new form.
    """
    content = folder.read(CURRENT, _MAX_CURRENT)
    if content is None:
        return None
    try:
        current = CurrentFile.model_validate_json(content)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise StoreError(f"{folder.path(CURRENT)} is damaged at {place or 'its start'}", hint=_REMOVE) from None
    if not is_sealed(content):
        raise StoreError(f"{folder.path(CURRENT)} is damaged: it does not match its checksum", hint=_REMOVE)
    return current


def write_current(folder: FeedFolder, current: CurrentFile) -> None:
    """Make a generation current, durably and atomically."""
    document = current.model_dump(mode="json", exclude={"checksum"})
    for held in document["lists"].values():
        for rare in (
            "unfolded",
            "timestamp_counts_until",
        ):  # left out, since readers in other languages may refuse them
            if not held[rare]:
                del held[rare]
    sealed = {**document, "checksum": hashlib.sha256(canonical(document)).hexdigest()}
    install_bytes(folder.path(CURRENT), canonical(sealed))


def lists_here(folder: FeedFolder) -> frozenset[ListName]:
    """Return the lists with a manifest in the copy, whether or not ``current.json`` names them. Raises `StoreError`.

    A pull installs a manifest after all its segments, so each such list was in force or was about to be.
    """
    with storage(folder.path("v1"), "list the files in"):
        manifests = folder.root.glob(layout.manifest_path(ListName("*"), "*"))
        names = {path.parent.name for path in manifests}
    return frozenset(ListName(name) for name in names if LIST_NAME.fullmatch(name))


def is_sealed(content: bytes) -> bool:
    """Return True if ``content`` is canonical and its checksum covers all its other members, known or not."""
    try:
        members = read_canonical(content)
    except ValueError:
        return False
    checksum = members.pop("checksum", None)
    if checksum is None:
        return "generation" not in members
    return bool(checksum == hashlib.sha256(canonical(members)).hexdigest())


def others_may_write(path: Path) -> bool:
    """Return True if users other than the owner may write a file or folder, so it is untrusted. Raises `StoreError`."""
    with storage(path, "read the mode of"):
        return bool(path.stat().st_mode & _OTHERS_WRITE)


def check_target(folder: FeedFolder) -> None:
    """Check that a copy may be made here.

    Raises `UsageError` if the folder holds other files, which a pull would take for old files of the copy, and
    `RefusedError` if other users may write it, because no reader would accept the copy.
    """
    if folder.root.is_dir() and others_may_write(folder.root):
        raise RefusedError(
            f"users other than its owner may write {folder.root}, so matchers would not trust the copy",
            hint=f"run `chmod go-w {quote(str(folder.root))}` and pull again; nothing was pulled",
        )
    with storage(folder.root, "list the files in"):
        if folder.root.exists() and not folder.root.is_dir():
            raise UsageError(f"{folder.root} is not a directory", hint="name an empty directory, or an existing copy")
        if folder.path(layout.TIMESTAMP).exists():
            raise UsageError(f"{folder.root} is a published feed", hint="name another directory for the copy")
        ours = folder.path(CURRENT).exists() or (folder.work / TRUST).exists() or _has_numbered_timestamp(folder)
        names = [] if ours or not folder.root.is_dir() else [path.name for path in folder.root.iterdir()]
    if set(names) - {folder.work.name, ROOT}:
        raise UsageError(
            f"{folder.root} is neither empty nor a copy of a feed", hint="name an empty directory, or an existing copy"
        )


def _has_numbered_timestamp(folder: FeedFolder) -> bool:
    """Return True for a copy, even without ``current.json``: only copies keep numbered timestamps."""
    return any(folder.path(layout.METADATA).glob("*.timestamp.json"))


def check_root(folder: FeedFolder, root: bytes) -> None:
    """Raise `UsageError` if a copy was made with another root, or no longer records its root."""
    held = folder.read(ROOT)
    if held == b"":
        raise UsageError(
            f"{folder.path(ROOT)} is empty, so the root that {folder.root} was pulled with is not known",
            hint="remove that file and pull again; the copy is then proved with the root that you give",
        )
    if held not in {None, root}:
        raise UsageError(
            f"{folder.root} was pulled with another root",
            hint="give that root, or pull into an empty directory; matchers still answer from this copy",
        )


def copy_at(path: Path) -> FeedFolder:
    """Return the folder of a pulled copy. Raises `UsageError` if there is no copy at ``path``."""
    folder = FeedFolder(path)
    with storage(folder.path(CURRENT), "read"):
        exists = folder.path(CURRENT).exists()
    if not exists:
        raise UsageError(f"{path} is not a pulled copy", hint="make one with `syncd pull URL --root ROOT --dir DIR`")
    return folder
