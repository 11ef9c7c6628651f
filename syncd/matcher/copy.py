"""A pulled copy: a feed's files on a matcher's host, and ``current.json``, which names what is in force.

``current.json`` is replaced atomically and last, so that a reader sees one whole generation or the one before. It
states, for each list, the manifest and the versions of the signed metadata that vouch for it: they are kept under
those names in ``metadata/``, so that the proof can be repeated without the network.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from syncd.errors import RefusedError, StoreError, UsageError
from syncd.feed import layout
from syncd.feed.folder import TRUST, FeedFolder
from syncd.feed.proof import SignedManifest
from syncd.files import install_bytes, storage
from syncd.format.canonical import canonical, read_canonical
from syncd.format.manifest import Count, RetirementNotice, Sha256, Time, Version, now_in_seconds
from syncd.model import LIST_NAME, ListName
from syncd.trust.values import TrustedFeed

CURRENT: Final = "current.json"
ROOT: Final = "root.json"
_MAX_CURRENT: Final = 1 << 22
_OTHERS_WRITE: Final = 0o022
_REMOVE: Final = (
    "remove that one file and pull again: nothing that is intact is fetched twice, and nothing becomes current until "
    "every list that was here is whole"
)


class HeldList(BaseModel):
    """One list of a copy: which manifest is in force, and the metadata versions, by role, that vouch for it."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    version: Version
    manifest: Sha256
    metadata: Mapping[str, Version]
    verified_at: Time | None = None
    """when the upstream was last verified, as that metadata says"""
    retired: RetirementNotice | None = None
    """as the manifest says"""


class CurrentFile(BaseModel):
    """The content of ``current.json``."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    format: Literal[1] = 1
    generation: Count = 0
    """counts the pulls into this copy; 0 in the form of before, which had no number"""
    feed: Sha256 | None = None
    """SHA-256 of the feed's first root, which names the feed; None if the copy was pulled with a later one"""
    updated: Time
    """when the copy was last brought up to date"""
    metadata: Mapping[str, Version]
    """the newest metadata verified, by role: its timestamp says how fresh the lists are"""
    lists: Annotated[Mapping[ListName, HeldList], ...]
    checksum: Sha256 | None = None
    """SHA-256 of the canonical rest: it guards against accidents, since whoever may write the file may write this"""


def hold(signed: SignedManifest, trusted: TrustedFeed) -> HeldList:
    """What a copy says of a list once ``signed`` is installed, vouched for by ``trusted``."""
    manifest, fresh = signed.manifest, trusted.freshness.get(signed.manifest.list)
    return HeldList(
        version=manifest.version,
        manifest=signed.sha256,
        metadata=dict(trusted.versions),
        verified_at=fresh.verified_at if fresh else None,
        retired=manifest.retired,
    )


def next_current(
    before: CurrentFile | None, lists: Mapping[ListName, HeldList], trusted: TrustedFeed, now: datetime
) -> CurrentFile:
    """The generation after ``before`` (None: the first)."""
    first = trusted.files.get(f"1.{ROOT}")
    return CurrentFile(
        generation=(before.generation if before else 0) + 1,
        feed=hashlib.sha256(first).hexdigest() if first else None,
        updated=now_in_seconds(now),
        metadata=dict(trusted.versions),
        lists=dict(lists),
    )


def read_current(folder: FeedFolder) -> CurrentFile | None:
    """Return what a copy holds, or None where nothing was pulled yet. Raises `StoreError`.

    The form of before, without ``generation``, may lack the checksum; the next pull writes it in the form of now.
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
        raise StoreError(f"{folder.path(CURRENT)} is damaged: it is not as it was written", hint=_REMOVE)
    return current


def write_current(folder: FeedFolder, current: CurrentFile) -> None:
    """Make a generation current, durably and at once."""
    document = current.model_dump(mode="json", exclude={"checksum"})
    sealed = {**document, "checksum": hashlib.sha256(canonical(document)).hexdigest()}
    install_bytes(folder.path(CURRENT), canonical(sealed))


def lists_here(folder: FeedFolder) -> frozenset[ListName]:
    """Return the lists of which the copy has a manifest, whatever ``current.json`` says. Raises `StoreError`.

    A pull writes a manifest once all of its segments are here, so each of them was in force or was about to be.
    """
    with storage(folder.path("v1"), "look into"):
        manifests = folder.root.glob(layout.manifest_path(ListName("*"), "*"))
        names = {path.parent.name for path in manifests}
    return frozenset(ListName(name) for name in names if LIST_NAME.fullmatch(name))


def is_sealed(content: bytes) -> bool:
    """Whether a ``current.json`` is canonical, and has the checksum of all its other members, known or not."""
    try:
        members = read_canonical(content)
    except ValueError:
        return False
    checksum = members.pop("checksum", None)
    if checksum is None:
        return "generation" not in members
    return bool(checksum == hashlib.sha256(canonical(members)).hexdigest())


def others_may_write(path: Path) -> bool:
    """Whether more than its owner may write a file or folder: it then decides nothing. Raises `StoreError`."""
    with storage(path, "look at"):
        return bool(path.stat().st_mode & _OTHERS_WRITE)


def check_target(folder: FeedFolder) -> None:
    """See that a copy may be made here.

    Raises `UsageError` where what is there would be taken for old files of the copy, and `RefusedError` where others
    may write the folder: no reader would take it.
    """
    if folder.root.is_dir() and others_may_write(folder.root):
        raise RefusedError(
            f"others may write {folder.root}, so that no reader would trust it",
            hint=f"chmod go-w {folder.root}; nothing was pulled",
        )
    with storage(folder.root, "look into"):
        if folder.root.exists() and not folder.root.is_dir():
            raise UsageError(f"{folder.root} is no folder", hint="name an empty folder, or one that a pull made before")
        if folder.path(layout.TIMESTAMP).exists():
            raise UsageError(f"{folder.root} is a published feed", hint="name another folder for the copy")
        ours = folder.path(CURRENT).exists() or (folder.work / TRUST).exists() or _has_numbered_timestamp(folder)
        found = [] if ours or not folder.root.is_dir() else [path.name for path in folder.root.iterdir()]
    if set(found) - {folder.work.name, ROOT}:
        raise UsageError(
            f"{folder.root} holds other files", hint="name an empty folder, or one that a pull made before"
        )


def _has_numbered_timestamp(folder: FeedFolder) -> bool:
    """True for a copy even if it lost ``current.json``: only copies keep timestamps under their numbers."""
    return any(folder.path(layout.METADATA).glob("*.timestamp.json"))


def check_root(folder: FeedFolder, root: bytes) -> None:
    """Raise `UsageError` where a copy was made with another root than this, or no longer says with which."""
    held = folder.read(ROOT)
    if held == b"":
        raise UsageError(
            f"{folder.path(ROOT)} is empty: it no longer says by which root {folder.root} was pulled",
            hint="remove that file and pull again: what is there is then proved by the root you give",
        )
    if held not in {None, root}:
        raise UsageError(
            f"{folder.root} was pulled with another root",
            hint="give the root it was made with, or pull into an empty folder; what it holds still answers",
        )


def copy_at(path: Path) -> FeedFolder:
    """The folder of a pulled copy; raises `UsageError` where there is none."""
    folder = FeedFolder(path)
    with storage(folder.path(CURRENT), "read"):
        found = folder.path(CURRENT).exists()
    if not found:
        raise UsageError(f"{path} holds no pulled copy", hint="make one with `syncd pull URL --root ROOT --dir DIR`")
    return folder
