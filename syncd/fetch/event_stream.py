"""A parser of event streams: ``text/event-stream`` (WHATWG HTML, 9.2.5 and 9.2.6). Pure.

A line ends with CR, LF or both; ``field: value``; a line that begins with a colon is a comment; an empty line ends an
event. Unknown fields are ignored, and so are events without data.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from syncd.errors import SourceError

LONGEST_LINE: Final = 16 << 10
LONGEST_EVENT: Final = 64 << 10
"""Bytes of all data of one event."""

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BOM: Final = b"\xef\xbb\xbf"
_RETRY: Final = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class ServerSentEvent:
    """One event, as dispatched."""

    kind: str
    """the field ``event``; "message" without one"""
    data: str
    id: str
    """the last id of the stream so far"""


class EventParser:
    """Takes a stream in chunks of any size and yields its events."""

    def __init__(self) -> None:
        self.last_id = ""
        """as of the last complete event"""
        self.retry: float | None = None
        """seconds to wait before connecting again, if the stream states them"""
        self.lines = 0
        """complete lines so far, comments included"""
        self._rest, self._after_cr, self._begun = b"", False, False
        self._id, self._kind = "", ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Take the next bytes; yield the events they complete. Raises `SourceError` if a line or event is too long."""
        for line in self._split(chunk):
            self.lines += 1
            if line:
                self._take(line)
            elif event := self._dispatched():
                yield event

    def _split(self, chunk: bytes) -> list[bytes]:
        """Return the complete lines. A CR ends a line at once: its LF may not come before the next event."""
        if not chunk:
            return []
        content = self._rest + (chunk[1:] if self._after_cr and chunk[:1] == b"\n" else chunk)
        self._after_cr = chunk[-1:] == b"\r"
        *lines, self._rest = _LINE_END.split(content)
        if max(map(len, (*lines, self._rest))) > LONGEST_LINE:
            raise SourceError(f"the event stream has a line of more than {LONGEST_LINE} bytes", hint=_HINT)
        if lines and not self._begun:
            self._begun = True
            lines[0] = lines[0].removeprefix(_BOM)
        return lines

    def _take(self, line: bytes) -> None:
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._size += len(value) + 1
                if self._size > LONGEST_EVENT:
                    raise SourceError(f"the event stream has an event of more than {LONGEST_EVENT} bytes", hint=_HINT)
                self._data.append(value)
            case "event":
                self._kind = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if _RETRY.fullmatch(value):
                self.retry = int(value) / 1000

    def _dispatched(self) -> ServerSentEvent | None:
        kind, data = self._kind, self._data
        self.last_id = self._id
        self._kind, self._data, self._size = "", [], 0
        return ServerSentEvent(kind or "message", "\n".join(data), self.last_id) if data else None


_HINT: Final = "check that the address is that of a syncd daemon: another server may be answering in its place"
