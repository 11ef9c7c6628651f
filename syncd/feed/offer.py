"""What of a feed folder is offered over HTTP (RFC 9110), and how: what is in the layout, and nothing else in it.

Immutable files may be cached by the one who asked for them; what changes is never stored.
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
"""Small files that are replaced now and then."""

_IMMUTABLE_PATH: Final = re.compile(rf"{METADATA}/[0-9]{{1,16}}\.[a-z][a-z0-9._-]{{0,68}}\.json|{BY_CONTENT.pattern}")
_MEDIA_TYPES: Final = {".arrow": "application/vnd.apache.arrow.file", ".json": "application/json"}


def is_offered(path: str) -> bool:
    """Whether ``path`` is one of the layout. Names are matched, never cleaned: no dot file, no way up."""
    return path in CHANGING or _IMMUTABLE_PATH.fullmatch(path) is not None


def list_at(path: str) -> ListName | None:
    """The list that an offered path belongs to; None for metadata, which everybody may read."""
    found = _IMMUTABLE_PATH.fullmatch(path)
    return ListName(found["list"]) if found and found["list"] else None


_ONE_RANGE: Final = re.compile(rb"(?i:bytes)=(?:([0-9]{1,99})-([0-9]{0,99})|-[0-9]{1,99})")


class Blocks(FileResponse):
    """A file that never changes, in blocks; one range of it where that is asked for.

    What else a Range may say is passed over, as if it were not there (RFC 9110, 14.2): other units, several ranges,
    what is malformed, any range in a HEAD.
    """

    chunk_size = 1 << 17

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; Starlette would refuse what it does not understand."""
        heeded = [one for one in scope["headers"] if one[0] != b"range" or _is_one_range(scope["method"], one[1])]
        await super().__call__({**scope, "headers": heeded}, receive, send)


def _is_one_range(method: str, asked: bytes) -> bool:
    found = _ONE_RANGE.fullmatch(asked) if method == "GET" else None
    return found is not None and (not found[1] or not found[2] or int(found[1]) <= int(found[2]))


def file_response(folder: Path, path: str) -> Blocks | None:
    """The answer for an immutable file below ``folder``, which is resolved; None where there is none."""
    inside = _inside(folder, path) if _IMMUTABLE_PATH.fullmatch(path) else None
    if inside is None:
        return None
    file, found = inside
    kind = _MEDIA_TYPES.get(file.suffix, "application/octet-stream")
    return Blocks(file, headers={"Cache-Control": IMMUTABLE}, media_type=kind, stat_result=found)


def _inside(folder: Path, path: str) -> tuple[Path, os.stat_result] | None:
    """A regular file below ``folder``, links followed no further than that; None where there is none."""
    try:
        file = (folder / path).resolve(strict=True)
        found = file.stat()
    except (OSError, RuntimeError):  # Path.resolve reports a loop of links as RuntimeError before 3.13
        return None
    return (file, found) if file.is_relative_to(folder) and stat.S_ISREG(found.st_mode) else None


class InMemory:
    """A small file that is replaced now and then; read again when it was."""

    def __init__(self, folder: Path, path: str) -> None:
        self._folder, self._path = folder, path
        self._stamp: tuple[int, int, int] | None = None
        self._held: tuple[bytes, str] = (b"", "")

    def read(self) -> tuple[bytes, str] | None:
        """The content and its entity tag, or None where there is no such file."""
        inside = _inside(self._folder, self._path)
        if inside is None:
            return None
        file, found = inside
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp != self._stamp:  # replaced between the two looks at it: read once more next time
            content = file.read_bytes()
            self._stamp, self._held = stamp, (content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
        return self._held


def is_known(tag: str, asked: str) -> bool:
    """Whether ``asked``, an If-None-Match, names the entity tag: the client holds this very file (RFC 9110, 13.1.2)."""
    return not {tag, "*"}.isdisjoint(one.strip().removeprefix("W/") for one in asked.split(","))
