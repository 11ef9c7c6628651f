"""The files of a feed folder that are offered over HTTP (RFC 9110): those of the layout, and nothing else.

A client may cache immutable files for itself; files that change are never stored.
"""

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Final

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from syncd.feed.layout import BY_CONTENT, METADATA, TIMESTAMP
from syncd.model import ListName

IMMUTABLE: Final = "private, immutable, max-age=31536000"
NO_STORE: Final = "no-store"
ROOT: Final = "root.json"
CHANGING: Final = frozenset({TIMESTAMP, ROOT})
"""Small files that are replaced from time to time."""

_IMMUTABLE_PATH: Final = re.compile(rf"{METADATA}/[0-9]{{1,16}}\.[a-z][a-z0-9._-]{{0,68}}\.json|{BY_CONTENT.pattern}")
_MEDIA_TYPES: Final = {".arrow": "application/vnd.apache.arrow.file", ".json": "application/json"}


def is_offered(path: str) -> bool:
    """Return True if ``path`` is in the layout. Paths are matched, not normalized: no dot files, no way up."""
    return path in CHANGING or _IMMUTABLE_PATH.fullmatch(path) is not None


def list_at(path: str) -> ListName | None:
    """Return the list that an offered path belongs to; None for metadata, which every client may read."""
    found = _IMMUTABLE_PATH.fullmatch(path)
    return ListName(found["list"]) if found and found["list"] else None


_ONE_RANGE: Final = re.compile(rb"(?i:bytes)=(?:([0-9]{1,99})-([0-9]{0,99})|-[0-9]{1,99})")


class Blocks(FileResponse):
    """An immutable file, sent in blocks; one range of it if requested.

    Any other Range is ignored, as if it were absent (RFC 9110, 14.2): other units, several ranges, malformed ones, any
    range in a HEAD.
    """

    chunk_size = 1 << 17

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request; Starlette would refuse ranges that it does not understand."""
        method = scope["method"]
        headers = [
            (name, value) for name, value in scope["headers"] if name != b"range" or _is_one_range(method, value)
        ]
        await super().__call__({**scope, "headers": headers}, receive, send)


def _is_one_range(method: str, asked: bytes) -> bool:
    found = _ONE_RANGE.fullmatch(asked) if method == "GET" else None
    return found is not None and (not found[1] or not found[2] or int(found[1]) <= int(found[2]))


def file_response(folder: Path, path: str) -> Blocks | None:
    """Return the answer for an immutable file below ``folder``, a resolved path; None if there is no such file."""
    inside = _inside(folder, path) if _IMMUTABLE_PATH.fullmatch(path) else None
    if inside is None:
        return None
    file, status = inside
    kind = _MEDIA_TYPES.get(file.suffix, "application/octet-stream")
    return Blocks(file, headers={"Cache-Control": IMMUTABLE}, media_type=kind, stat_result=status)


def _inside(folder: Path, path: str) -> tuple[Path, os.stat_result] | None:
    """Return a regular file below ``folder``; None if it is missing, or a link to the outside."""
    try:
        file = (folder / path).resolve(strict=True)
        status = file.stat()
    except (OSError, RuntimeError):  # Path.resolve reports a loop of links as RuntimeError before 3.13
        return None
    return (file, status) if file.is_relative_to(folder) and stat.S_ISREG(status.st_mode) else None


class InMemory:
    """A small file that is replaced from time to time, kept in memory and read again after each change."""

    def __init__(self, folder: Path, path: str) -> None:
        self._folder, self._path = folder, path
        self._stamp: tuple[int, int, int] | None = None
        self._held: tuple[bytes, str] = (b"", "")

    def read(self) -> tuple[bytes, str] | None:
        """Return the content and its entity tag, or None if there is no such file."""
        inside = _inside(self._folder, self._path)
        if inside is None:
            return None
        file, status = inside
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:  # if it is replaced before it is read, the stamp is old and it is read again next time
            content = file.read_bytes()
            self._stamp, self._held = stamp, (content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
        return self._held


def is_known(tag: str, asked: str) -> bool:
    """Return True if ``asked``, an If-None-Match, names the entity tag: the client has this file (RFC 9110, 13.1.2)."""
    return not {tag, "*"}.isdisjoint(known.strip().removeprefix("W/") for known in asked.split(","))
