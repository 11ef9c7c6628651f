"""Durable files. No other module of syncd calls fsync or rename.

A published file is never truncated or rewritten in place: readers have it mapped.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from shlex import quote
from typing import BinaryIO, Final

from syncd.errors import ConfigError, RefusedError, StoreError

PRIVATE_FILE: Final = 0o600
FEED_FILE: Final = 0o640
PRIVATE_FOLDER: Final = 0o750
TEMPORARY_PREFIX: Final = ".tmp-"
FILE_ITSELF: Final = "put the file itself there: pipes, devices and sockets are not read"
"""The cure of an `IrregularFileError`."""

_CHUNK: Final = 1 << 20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_RESERVE: Final = 64 << 20
_RESERVED_SHARE: Final = 16
_OPEN_FILES: Final = Path("/proc/self/fd")
_NOT_UNNAMED: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})
"""Errors of file systems that cannot create files without a name."""


class IrregularFileError(OSError):
    """A pipe, a device or a socket is in the place of a file."""


class DamagedError(StoreError):
    """A file that was stored on this disk is missing, or is not what was stored."""


@contextlib.contextmanager
def storage(path: Path, doing: str) -> Iterator[None]:
    """Turn an `OSError` of a disk operation into a `StoreError` with the path and a hint."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot {doing} {path}: {error.strerror or error}", hint=_hint(error)) from error


def _hint(error: OSError) -> str:
    if isinstance(error, IrregularFileError):
        return FILE_ITSELF
    if error.errno in _FULL:
        return "free disk space, then run the command again; it continues from here"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "run the command as the user that owns the folder, or correct the mode of the folder"
    if error.errno == errno.EROFS:
        return "the file system is mounted read-only: mount it writable, or use another folder"
    return "check the disk and the kernel log, then run the command again"


def is_full(error: StoreError) -> bool:
    """Return True if a disk operation failed because the disk or the quota was full."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL


@dataclass(frozen=True)
class FreeSpace:
    """Space on a file system, in bytes: ``free`` for this user, and the ``reserve`` that large files must leave.

    The reserve keeps room for small writes: the catalog (whose write-ahead log takes about 4 MB), signed metadata and
    small deltas. 64 MiB is enough for hundreds of lists. On a small file system it is a sixteenth of the size.
    """

    free: int
    reserve: int

    @classmethod
    def at(cls, folder: Path) -> "FreeSpace | None":
        """Return the space on the file system of ``folder``; None if it does not report it. Raises `StoreError`."""
        with storage(folder, "read the free space of"):
            stat = os.statvfs(folder)
        if not stat.f_blocks:  # some network file systems do not report it
            return None
        return cls(stat.f_bavail * stat.f_frsize, min(_RESERVE, stat.f_blocks * stat.f_frsize // _RESERVED_SHARE))

    def fits(self, needed: int) -> bool:
        """Return True if ``needed`` more bytes fit without using the reserve."""
        return needed + self.reserve <= self.free


def check_room(folder: Path, needed: int, purpose: str) -> None:
    """Raise `StoreError` if ``needed`` more bytes would use up the reserve for others. ``purpose``: a verb."""
    space = FreeSpace.at(folder)
    if space is not None and not space.fits(needed):
        raise StoreError(
            f"not enough space at {folder}: {needed:,} bytes to {purpose}, {space.free:,} bytes free, "
            f"{space.reserve:,} of them reserved",
            hint=f"free {needed + space.reserve - space.free:,} bytes there, or move the folder to a larger disk",
        ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def check_writers(path: Path, owners: Collection[int], subject: str) -> None:
    """Check that nobody but root and ``owners`` can write a configured file. Raises `ConfigError`.

    The group's bits are not checked: with an ACL they are its mask.
    """
    try:
        status, folder = path.stat(), path.parent.stat()
    except OSError as error:
        raise ConfigError(
            f"{subject} {path}: {error.strerror or error}",
            hint="check the configured path, and that this user may read it",
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{subject} {path} is not a regular file", hint="name a file")
    if status.st_uid not in {0, os.geteuid(), *owners}:
        raise ConfigError(
            f"{subject} {path} belongs to another user, who could change it",
            hint=f"check what is in it, then run `chown root {quote(str(path))}`",
        )
    if status.st_mode & stat.S_IWOTH:
        raise ConfigError(
            f"{subject} {path} can be changed by every user of this machine (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"check what is in it, then run `chmod o-w {quote(str(path))}`",
        )
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        raise ConfigError(
            f"{subject} {path} can be replaced by every user of this machine: its folder has mode "
            f"{stat.S_IMODE(folder.st_mode):04o}",
            hint=f"check what is in it, then run `chmod o-w {quote(str(path.parent))}`",
        )


def check_private(path: Path) -> None:
    """Refuse a folder that every user of this machine may write to. Raises `RefusedError`, `StoreError`.

    A missing folder is fine. The group's bits are not checked, as in `check_writers`.
    """
    with storage(path, "read the mode of"):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            return
    if mode & stat.S_IWOTH:
        raise RefusedError(
            f"every user of this machine may write to {path} (mode {stat.S_IMODE(mode):04o}), and can so replace the "
            "files in it",
            hint=f"check what is in it, then run `chmod o-w {quote(str(path))}`; nothing was changed",
        )


def set_mode(file: int | Path, mode: int) -> None:
    """Set the mode of a new file or folder, regardless of the umask; an inherited set-group-ID bit stays.

    On file systems without modes, do nothing.
    """
    held = stat.S_IMODE(os.stat(file).st_mode)  # noqa: PTH116 - it may be a descriptor
    if held & 0o777 != mode:
        with contextlib.suppress(PermissionError):
            os.chmod(file, mode | (held & ~0o777))  # noqa: PTH101 - as above


def make_folder(path: Path, mode: int = PRIVATE_FOLDER) -> Path:
    """Create ``path`` and its parents durably, with this mode regardless of the umask. Existing folders keep theirs."""
    with storage(path, "create folder"):
        missing = [path, *path.parents]
        for folder in reversed(missing):
            if not folder.is_dir():
                _make_one(folder, mode)
                sync_folder(folder.parent)
    return path


def _make_one(folder: Path, mode: int) -> None:
    try:
        folder.mkdir(mode=mode)
    except FileExistsError:
        if not folder.is_dir():  # if it is, another process created it first
            raise
    else:
        set_mode(folder, mode)


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of a file survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_path(folder: Path) -> Path:
    """Return a new name in ``folder``. Files left by a crash are recognised by `TEMPORARY_PREFIX`."""
    return folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"


def install_bytes(path: Path, content: bytes, mode: int = FEED_FILE, *, durable: bool = True) -> None:
    """Write ``content`` to ``path`` atomically. Raises `StoreError`.

    Use ``durable=False`` only for content that can be made again: a power cut may leave the old content or a damaged
    file.
    """
    make_folder(path.parent)
    temporary = temporary_path(path.parent)
    with storage(path, "write"):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor, for its mode and O_EXCL
                set_mode(stream.fileno(), mode)
                stream.write(content)
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
            temporary.replace(path)
            if durable:
                sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_file(path: Path, mode: int) -> Iterator[BinaryIO]:
    """Yield a stream whose content becomes the new file ``path``, durably, if the block succeeds. Raises `StoreError`.

    Until then the file has no name, if the file system permits that, so that a killed process leaves nothing behind.
    """
    with storage(path, "write"):
        descriptor, named = _open_unnamed(path.parent, mode)
    try:
        with storage(path, "write"), open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor: it has no name
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if named is None:
                _name(stream.fileno(), path)
            else:
                os.link(named, path)
            sync_folder(path.parent)
    finally:
        if named is not None:
            named.unlink(missing_ok=True)


def _open_unnamed(folder: Path, mode: int) -> tuple[int, Path | None]:
    """Open a new file without a name in ``folder``, or under the returned temporary name."""
    if _OPEN_FILES.exists():
        try:
            return os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, mode), None
        except OSError as error:
            if error.errno not in _NOT_UNNAMED:
                raise
    temporary = temporary_path(folder)
    return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), temporary


def _name(descriptor: int, path: Path) -> None:
    """Link an open file that has no name to ``path`` (open(2), O_TMPFILE)."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # With a folder's descriptor Python calls linkat(), which follows the link in /proc; link() does not.
        os.link(_OPEN_FILES / str(descriptor), path, src_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def install_file(staged: Path, path: Path, mode: int = FEED_FILE) -> None:
    """Move a finished file to its published name, durably. Both must be on one file system."""
    make_folder(path.parent)
    with storage(path, "install"):
        staged.chmod(mode)
        sync_file(staged)
        staged.replace(path)
        sync_folder(path.parent)


def move_aside(path: Path, place: Path) -> None:
    """Move a damaged file out of the way, durably, on the same file system. Raises `StoreError`."""
    with storage(path, "move aside"):
        path.replace(place)
        sync_folder(place.parent)
        sync_folder(path.parent)


def link_file(existing: Path, path: Path) -> None:
    """Give an immutable file a second name durably, replacing any file there. Copies if links are not possible."""
    make_folder(path.parent)
    with storage(path, "install"):
        temporary = temporary_path(path.parent)
        try:
            _link(existing, temporary)
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def link_files(links: Iterable[tuple[Path, Path]], mode: int = PRIVATE_FOLDER) -> None:
    """Give immutable files further names durably, as `link_file`; names that exist stay as they are.

    Each folder is flushed once, however many names are added. ``mode``: that of folders that do not exist yet.
    """
    folders = set()
    for existing, path in links:
        with storage(path, "install"):
            if path.exists():
                continue
            folders.add(make_folder(path.parent, mode))
            temporary = temporary_path(path.parent)
            try:
                _link(existing, temporary)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    for folder in folders:
        with storage(folder, "install in"):
            sync_folder(folder)


def _link(existing: Path, path: Path) -> None:
    """Link, or copy if the file system cannot link."""
    try:
        os.link(existing, path)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EMLINK, errno.EPERM}:
            raise
        _copy(existing, path)


def _copy(source: Path, target: Path) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FEED_FILE)
    with source.open("rb") as reader, open(descriptor, "wb") as writer:  # noqa: PTH123 - as in install_bytes
        set_mode(writer.fileno(), FEED_FILE)
        while block := reader.read(_CHUNK):
            writer.write(block)
        writer.flush()
        os.fsync(writer.fileno())


def remove_temporaries(folder: Path) -> None:
    """Remove files that a killed process left half-written in ``folder``. Call this with the folder's lock held."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        with storage(path, "remove"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[BufferedReader]:
    """Open a file for reading. Raises `OSError`, also if it is not a regular file: a named pipe may never end."""
    # Non-blocking, because opening a named pipe would wait forever, before its kind can be checked.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise IrregularFileError(errno.EINVAL, "not a regular file")
        with open(descriptor, "rb", closefd=False) as stream:
            yield stream
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with storage(path, "read"), open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a small file. Raises `StoreError` if it cannot be read or has more than ``limit`` bytes."""
    with storage(path, "read"), open_regular(path) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise StoreError(f"{path} is larger than {limit} bytes", hint="check that this is the right file")
    return content
