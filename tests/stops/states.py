"""The state in which a stopped command leaves a folder, so that equal states are checked once.

Two folders are in the same state if they hold the same files under the same names, with the same kinds, modes, hard
links and bytes. Left out is only what no later command reads; `_content` lists it.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from syncd.files import TEMPORARY_PREFIX

_CATALOG: Final = "catalog.sqlite3"
_LOGS: Final = ("-wal", "-shm", "-journal")
_KNOWN_GOOD: Final = "/known-good/files.json"


class States:
    """Tells states apart."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._catalogs: dict[bytes, bytes] = {}

    def of(self, base: Path) -> str:
        """Return a digest of everything below ``base`` that later commands can read."""
        found = hashlib.sha256()
        first_names: dict[int, str] = {}
        for name, status in _walk(str(base), ""):
            first = first_names.setdefault(status.st_ino, name)
            found.update(f"{name}\0{status.st_mode}\0{first}\0".encode())
            path = f"{base}{name}"
            if stat.S_ISREG(status.st_mode) and first == name:
                found.update(hashlib.sha256(self._content(path)).digest())
            elif stat.S_ISLNK(status.st_mode):
                found.update(str(Path(path).readlink()).encode() + b"\0")
        return found.hexdigest()

    def _content(self, path: str) -> bytes:
        name = path.rpartition("/")[2]
        if name.startswith(TEMPORARY_PREFIX):
            return b""  # of a file that a killed process left half-written: it is removed unread
        if name in {"lock", ".lock"}:
            return b""  # who holds it, for messages; all holders are dead
        if name.startswith(_CATALOG):
            # The database and its logs count as one, as SQLite reads them: it ignores uncommitted writes in a log.
            return self._catalog(Path(path)) if name == _CATALOG else b""
        content = Path(path).read_bytes()
        return _readings(content) if path.endswith(_KNOWN_GOOD) else content

    def _catalog(self, path: Path) -> bytes:
        """Return the database at ``path`` as SQLite recovers it; its bytes if SQLite cannot."""
        parts = [path, *(path.with_name(path.name + log) for log in _LOGS if log != "-shm")]
        contents = [part.read_bytes() if part.exists() else None for part in parts]
        key = hashlib.sha256(repr([content and hashlib.sha256(content).digest() for content in contents]).encode())
        if key.digest() not in self._catalogs:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch.mkdir()
            for part, content in zip(parts, contents, strict=True):
                if content is not None:
                    (self._scratch / part.name).write_bytes(content)
            self._catalogs[key.digest()] = _recovered(self._scratch / path.name) or repr(contents).encode()
        return self._catalogs[key.digest()]


def _recovered(path: Path) -> bytes:
    """Return the bytes of a database as SQLite recovers it; none if it cannot."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            return connection.serialize()
    except sqlite3.Error:
        return b""


def _readings(content: bytes) -> bytes:
    """Return the record of known-good files, with the identity of each file replaced by whether it is still the same.

    Inode and time of change differ in every copy of a folder; a command only compares them.
    """
    try:
        document = json.loads(content)
        for path, reading in document.items():
            status = Path(path).stat()
            identity = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
            reading["state"] = reading["state"] == identity
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return content
    return json.dumps(document, sort_keys=True).encode()


def _walk(base: str, below: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every path below a folder, from "/" on, in order."""
    with os.scandir(base + below) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path = f"{below}/{name}"
        status = os.lstat(base + path)
        yield path, status
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(base, path)
