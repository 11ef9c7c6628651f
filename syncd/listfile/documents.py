"""JSON documents: the objects of a list in a document, one a line.

A document is an array of objects, or an object with one such array, which may be of any size: it is read piece by
piece. The lines are numbered by item, because a document may be a single line.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from syncd.errors import RowError
from syncd.listfile.profile import Profile
from syncd.listfile.unpack import PROBE, refused, shown
from syncd.listfile.values import COLUMNS

_CHUNK: Final = 1 << 20
_MOST: Final = 16 << 20
"""bytes of one value"""
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_FIRST_KEY: Final = re.compile(r'\{\s*"(\w*)"')
_OBJECTS: Final = re.compile(r"\[\s*\{")
_KEY: Final = 256
"""characters that contain the first key of an object"""
_JSON: Final = json.JSONDecoder()
_LINES: Final = frozenset({".ndjson", ".jsonl"})


def is_document(path: Path, head: bytes, profile: Profile) -> bool:
    """Return True if a file that begins with ``head`` is a JSON document, and not one object a line."""
    text = head.lstrip()
    if text.startswith(b"["):
        return True
    if not text.startswith(b"{"):
        return False
    line, end, _ = text.partition(b"\n")
    if not end and len(head) >= PROBE:
        return True
    if not line.rstrip().endswith(b"}"):
        return path.suffix.lower() not in _LINES
    try:
        first = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and _has_list(first, profile)


def _has_list(item: dict[str, object], profile: Profile) -> bool:
    if item.keys() & set(COLUMNS):
        return False
    inner = profile.pairs[0] if profile.pairs else None
    return any(
        (isinstance(value, list) and name != inner and bool(value) and isinstance(value[0], dict))
        or (isinstance(value, dict) and name.lower() in profile.within)
        for name, value in item.items()
    )


def item_lines(path: Path, content: IO[bytes], profile: Profile) -> Iterator[bytes]:
    """Yield the items of a document as lines, many at once. Raises `RowError`."""
    content.seek(0)
    text = _Text(path, content)
    lines: list[str] = []
    size = 0
    for item in _Items(path, text, profile):
        lines.append(item.replace("\r", " ").replace("\n", " "))
        size += len(item)
        if size > _CHUNK:
            yield ("\n".join(lines) + "\n").encode()
            lines, size = [], 0
    if lines:
        yield ("\n".join(lines) + "\n").encode()


class _Text:
    """The text of a document at a position."""

    def __init__(self, path: Path, content: IO[bytes]) -> None:
        self._path, self._content = path, content
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._line = "", 0, 1

    def peek(self) -> str:
        """Return the next character that is not white space; '' at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, wanted: str) -> str:
        """Return the next character, which must be one of ``wanted``."""
        found = self.peek()
        if not found or found not in wanted:
            raise self.fault("not JSON: the document is cut off" if not found else "not JSON")
        self._at += 1
        return found

    def value(self) -> tuple[object, str]:
        """Return the next value, and its text."""
        self.peek()
        while True:
            try:
                value, end = _JSON.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at <= _MOST and self._more():
                    continue
                long = len(self._text) - self._at > _MOST
                raise self.fault("one value longer than 16 MiB" if long else "not JSON, or cut off") from error
            text, self._at = self._text[self._at : end], end
            return value, text

    def first_key(self) -> str:
        """Return the first key of the object that comes next; '' if it has none."""
        found = self._ahead(_FIRST_KEY)
        return found[1] if found else ""

    def has_objects(self) -> bool:
        """Return True if an array of objects comes next."""
        return self._ahead(_OBJECTS) is not None

    def _ahead(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self.peek()
        while len(self._text) - self._at < _KEY and self._more():
            pass
        return pattern.match(self._text, self._at)

    def fault(self, reason: str) -> RowError:
        """Return the error for the present line."""
        error = RowError(shown(self._path), self._line + self._text.count("\n", 0, self._at), "-", reason)
        error.hint = "correct the file and publish it again; nothing was published"
        return error

    def _more(self) -> bool:
        chunk = self._content.read(_CHUNK)
        try:
            text = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise self.fault("not valid UTF-8") from error
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :] + text, 0
        return bool(chunk)


class _Items:
    """The items of the one list in a document."""

    def __init__(self, path: Path, text: _Text, profile: Profile) -> None:
        self._path, self._text, self._within = path, text, profile.within
        self._digests = {
            profile.columns[name].lower() for name in ("digest", *profile.digests) if name in profile.columns
        }
        self._lists = 0

    def __iter__(self) -> Iterator[str]:
        if self._text.peek() == "[":
            yield from self._array()
        else:
            yield from self._object()
        if self._text.peek():
            raise self._text.fault("more text after the end of the document")
        if not self._lists:
            raise refused(self._path, "a JSON document without a list of objects")

    def _array(self) -> Iterator[str]:
        """Yield the items of an array of objects."""
        self._lists += 1
        if self._lists > 1 and not self._within:
            raise self._text.fault("a second list in the document: name the list's place by --profile")
        self._text.take("[")
        if self._text.peek() == "]":
            self._text.take("]")
            return
        while True:
            if self._text.first_key().lower() in self._within:  # it only wraps the list, and may be large
                yield from self._object()
            else:
                item, text = self._text.value()
                if not isinstance(item, dict):
                    raise self._text.fault("the array has items that are not objects")
                yield from self._nested(item, text)
            if self._text.take(",]") == "]":
                return

    def _nested(self, item: dict[str, object], text: str) -> Iterator[str]:
        """Yield an item, or those of the lists in it if it only wraps them."""
        inner = [value for name, value in item.items() if name.lower() in self._within]
        if not inner or any(name.lower() in self._digests for name in item):
            yield text
            return
        for value in inner:
            for nested in value if isinstance(value, list) else [value]:
                if isinstance(nested, dict):
                    yield from self._nested(nested, json.dumps(nested))

    def _object(self) -> Iterator[str]:
        self._text.take("{")
        if self._text.peek() == "}":
            self._text.take("}")
            return
        while True:
            name, _ = self._text.value()
            self._text.take(":")
            if not isinstance(name, str):
                raise self._text.fault("not JSON")
            yield from self._member(name)
            if self._text.take(",}") == "}":
                return

    def _member(self, name: str) -> Iterator[str]:
        first = self._text.peek()
        if first == "{" and name.lower() in self._within:
            yield from self._object()
        elif self._text.has_objects() and (name.lower() in self._within or not self._within):
            yield from self._array()
        else:
            value, _ = self._text.value()
            if name == "type" and value == "bundle":
                raise refused(
                    self._path, "a STIX bundle; its patterns are not read: export the hashes as CSV with type and value"
                )
