"""JSON documents: the objects of a list in a document, one a line.

A document is an array of objects, an object with one such array, or objects one after the other. It may be of any size:
it is read piece by piece. The lines are numbered by item, because a document may be a single line.
"""

import codecs
import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from syncd.errors import RowError, UsageError
from syncd.listfile.names import plain_name
from syncd.listfile.profile import Profile
from syncd.listfile.unpack import PROBE, refused, shown
from syncd.listfile.values import NOT_UTF8
from syncd.model import KNOWN_ALGORITHMS

_CHUNK: Final = 1 << 20
_MOST: Final = 16 << 20
"""characters of one value that is skipped"""
_MOST_ITEM: Final = 4 << 20
"""characters of one item"""
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_OBJECTS: Final = re.compile(r"\[\s*\{")
_STRINGS: Final = re.compile(r'\[\s*"')
_AHEAD: Final = 256
"""characters that show the kind of a value"""
_JSON: Final = json.JSONDecoder()
_DIGESTS: Final = frozenset({"digest", *KNOWN_ALGORITHMS})
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
    """Return True if an object contains the list, and is not an item of it."""
    if _digest_names(profile) & set(map(plain_name, item)):
        return False
    kinds: tuple[type, ...] = (dict, str) if _has_lone_digests(profile) else (dict,)
    return any(
        (
            isinstance(value, list)
            and name.lower() not in profile.further
            and bool(value)
            and isinstance(value[0], kinds)
        )
        or (isinstance(value, dict | list) and name.lower() in profile.within)
        for name, value in item.items()
    )


def _has_lone_digests(profile: Profile) -> bool:
    """Return True if a list may consist of digests, because their algorithm is stated."""
    return profile.algorithm is not None and not profile.columns


def _digest_names(profile: Profile) -> frozenset[str]:
    """Return the keys of digests."""
    if not profile.columns:
        return _DIGESTS
    return frozenset(plain_name(column) for name, column in profile.columns.items() if name in _DIGESTS)


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
        found = self.short_value(_MOST)
        if found is None:
            long = len(self._text) - self._at > _MOST
            raise self.fault("one value longer than 16 MiB" if long else "not JSON, or cut off")
        return found

    def short_value(self, most: int = _MOST_ITEM) -> tuple[object, str] | None:
        """Return the next value, and its text; None if it is not complete within ``most`` characters."""
        self.peek()
        while True:
            try:
                value, end = _JSON.raw_decode(self._text, self._at)
            except (ValueError, RecursionError):
                if len(self._text) - self._at <= most and self._more():
                    continue
                return None
            if end == len(self._text) and self._more():  # a number may go on
                continue
            text, self._at = self._text[self._at : end], end
            return value, text

    def go_back(self, text: str) -> None:
        """Return to the beginning of a value, whose text is ``text``."""
        self._at -= len(text)

    def has_next(self, pattern: re.Pattern[str]) -> bool:
        """Return True if a text that ``pattern`` describes comes next."""
        self.peek()
        while len(self._text) - self._at < _AHEAD and self._more():
            pass
        return pattern.match(self._text, self._at) is not None

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
            raise self.fault(NOT_UTF8) from error
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :] + text, 0
        return bool(chunk)


class _Items:
    """The items of the one list in a document."""

    def __init__(self, path: Path, text: _Text, profile: Profile) -> None:
        self._path, self._text, self._profile, self._within = path, text, profile, profile.within
        self._lone = _has_lone_digests(profile)
        self._digests = _digest_names(profile)
        self._refused = frozenset() if profile.cases else profile.case
        self._lists = 0

    def __iter__(self) -> Iterator[str]:
        if self._text.peek() == "[":
            yield from self._array()
        else:
            yield from self._objects()
        if self._text.peek():
            raise self._text.fault("more text after the end of the document")
        if not self._lists:
            raise refused(self._path, "a JSON document without a list of objects with digests")

    def _objects(self) -> Iterator[str]:
        """Yield the items of an object with a list, or objects that stand one after the other."""
        while self._text.peek() == "{":
            found = self._text.short_value()
            if found is not None and isinstance(found[0], dict) and not _has_list(found[0], self._profile):
                self._check_no_case(found[0])
                self._lists = 1
                yield found[1]
                continue
            if found is not None:
                self._text.go_back(found[1])
            yield from self._object()

    def _array(self) -> Iterator[str]:
        """Yield the items of an array of objects, or of digests of a stated algorithm."""
        self._lists += 1
        if self._lists > 1 and not self._within:
            raise self._text.fault("a second list in the document: name the list's place by --profile")
        self._text.take("[")
        if self._text.peek() == "]":
            self._text.take("]")
            return
        while True:
            found = self._text.short_value() if self._within else self._text.value()
            if found is not None:
                yield from self._item(*found)
            else:  # large because it contains the list, such as a case of VICS
                yield from self._object(self._digests)
            if self._text.take(",]") == "]":
                return

    def _item(self, item: object, text: str) -> Iterator[str]:
        if isinstance(item, dict):
            yield from self._nested(item, text)
        elif isinstance(item, str) and self._lone:
            yield json.dumps({"digest": item})
        else:
            advice = "; if they are digests, state their algorithm with --algorithm" if isinstance(item, str) else ""
            raise self._text.fault(f"the array has items that are not objects{advice}")

    def _nested(self, item: dict[str, object], text: str) -> Iterator[str]:
        """Yield an item, or those of the lists in it if it only wraps them."""
        self._check_no_case(item)
        inner = [value for name, value in item.items() if name.lower() in self._within]
        if not inner or any(plain_name(name) in self._digests for name in item):
            yield text
            return
        for value in inner:
            for nested in value if isinstance(value, list) else [value]:
                if isinstance(nested, dict):
                    yield from self._nested(nested, json.dumps(nested))

    def _check_no_case(self, names: Iterable[str]) -> None:
        """Refuse an object with the keys of a case, if cases are refused. Raises `UsageError`."""
        if self._refused and not self._refused.isdisjoint(map(plain_name, names)):
            raise UsageError(
                f"{shown(self._path)}: a case and not a hash set: it contains personal data, such as names of files",
                hint="ask the partner for the export of the hash set; nothing was published, nor is this file kept",
            )

    def _has_list(self) -> bool:
        return self._text.has_next(_OBJECTS) or (self._lone and self._text.has_next(_STRINGS))

    def _object(self, digests: Collection[str] = ()) -> Iterator[str]:
        """Yield the items in the list of an object. It must not have ``digests`` itself: they would be left out."""
        self._text.take("{")
        if self._text.peek() == "}":
            self._text.take("}")
            return
        while True:
            name, _ = self._text.value()
            self._text.take(":")
            if not isinstance(name, str):
                raise self._text.fault("not JSON")
            self._check_no_case([name])
            if plain_name(name) in digests:
                raise self._text.fault("an item longer than 4 MiB")
            yield from self._member(name)
            if self._text.take(",}") == "}":
                return

    def _member(self, name: str) -> Iterator[str]:
        first = self._text.peek()
        if first == "{" and name.lower() in self._within:
            yield from self._object()
        elif self._has_list() and (name.lower() in self._within or not self._within):
            yield from self._array()
        else:
            value, _ = self._text.value()
            if name == "type" and value == "bundle":
                raise refused(
                    self._path, "a STIX bundle; its patterns are not read: export the hashes as CSV with type and value"
                )
