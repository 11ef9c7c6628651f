"""The Arrow IPC file as a container: checks that pyarrow does not make on a file it can read.

Format 1 refuses compressed buffers, which would be expanded into private memory, and bytes between the messages, which
no reader sees. The messages are flatbuffers (Arrow columnar format 1.4, "IPC File Format" and ``Message.fbs``); the
code below reads only the fields it needs.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from syncd.errors import SegmentError, SegmentFault

_CONTINUATION: Final = 0xFFFFFFFF
_START: Final = 8  # "ARROW1" and two bytes of padding
_END: Final = 10  # the footer's length and "ARROW1"
_PADDING: Final = 64
"""Writers align buffers to 8 or 64 bytes, so gaps between buffers are smaller than this."""
_V5: Final = 4
_MESSAGE_VERSION, _MESSAGE_HEADER_TYPE, _MESSAGE_HEADER, _MESSAGE_BODY_LENGTH, _MESSAGE_CUSTOM = range(5)
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_SCHEMA_ENDIANNESS: Final = 0
_DICTIONARY_DATA, _DICTIONARY_IS_DELTA = 1, 2
_BATCH_BUFFERS, _BATCH_COMPRESSION = 2, 3
_FOOTER_VERSION, _, _FOOTER_DICTIONARIES, _FOOTER_BATCHES, _FOOTER_CUSTOM = range(5)
_BLOCK: Final = "<qi4xq"  # offset, length of the metadata, length of the body
_BUFFER: Final = "<qq"  # offset in the body, length


def check(path: Path, buffer: Any) -> None:
    """Prove that ``buffer`` is a schema, one dictionary, one record batch, a footer, and nothing else.

    Readers that use the footer and readers that walk the messages then see the same content. Raises
    `SegmentError`.
    """
    content = memoryview(buffer)
    try:
        messages, end = _walk(path, content)
        if [message.kind for message in messages] != [_SCHEMA, _DICTIONARY, _BATCH]:
            raise SegmentError(
                path, SegmentFault.SCHEMA, "the messages are not a schema, one dictionary and one record batch"
            )
        _check_footer(path, content, end, messages)
        for message in messages:
            _check_message(path, message)
    except (struct.error, IndexError, OverflowError):
        raise SegmentError(path, SegmentFault.NOT_ARROW, "a message of the Arrow file is damaged") from None


@dataclass(frozen=True)
class _Message:
    table: "_Table"
    kind: int
    block: tuple[int, ...]
    """offset, metadata length and body length, as the footer states them"""


def _walk(path: Path, content: memoryview) -> tuple[list[_Message], int]:
    messages: list[_Message] = []
    position = _START
    while True:
        marker, length = struct.unpack_from("<II", content, position)
        if marker != _CONTINUATION:
            raise SegmentError(path, SegmentFault.NOT_ARROW, "a message of the Arrow file is damaged")
        metadata = position + 8
        if length == 0 or len(messages) > _BATCH:
            return messages, metadata
        table = _Table.root(content[metadata : metadata + length])
        body = table.long(_MESSAGE_BODY_LENGTH)
        messages.append(_Message(table, table.byte(_MESSAGE_HEADER_TYPE), (position, 8 + length, body)))
        position = metadata + length + body


def _check_footer(path: Path, content: memoryview, end: int, messages: list[_Message]) -> None:
    length = struct.unpack_from("<i", content, len(content) - _END)[0]
    if end + length + _END != len(content):
        raise SegmentError(path, SegmentFault.TRAILING_BYTES, "bytes that do not belong to any message")
    footer = _Table.root(content[end : end + length])
    blocks = footer.structs(_FOOTER_DICTIONARIES, _BLOCK) + footer.structs(_FOOTER_BATCHES, _BLOCK)
    if blocks != [message.block for message in messages[1:]]:
        raise SegmentError(path, SegmentFault.SCHEMA, "the footer does not match the messages before it")
    if footer.short(_FOOTER_VERSION) != _V5 or footer.has(_FOOTER_CUSTOM):
        raise SegmentError(
            path, SegmentFault.SCHEMA, "the footer is not of metadata version V5, or has custom metadata"
        )


def _check_message(path: Path, message: _Message) -> None:
    if message.table.short(_MESSAGE_VERSION) != _V5 or message.table.has(_MESSAGE_CUSTOM):
        raise SegmentError(path, SegmentFault.SCHEMA, "a message is not of metadata version V5, or has custom metadata")
    header = message.table.table(_MESSAGE_HEADER)
    if message.kind == _SCHEMA:
        if header.short(_SCHEMA_ENDIANNESS):
            raise SegmentError(path, SegmentFault.SCHEMA, "the data is big-endian; format 1 is little-endian")
        return
    if message.kind == _DICTIONARY:
        if header.byte(_DICTIONARY_IS_DELTA):
            raise SegmentError(
                path, SegmentFault.SCHEMA, "the dictionary is a delta dictionary, which format 1 does not allow"
            )
        header = header.table(_DICTIONARY_DATA)
    if header.has(_BATCH_COMPRESSION):
        raise SegmentError(path, SegmentFault.COMPRESSED, "a buffer is compressed, which format 1 does not allow")
    _check_body(path, header.structs(_BATCH_BUFFERS, _BUFFER), message.block[-1])


def _check_body(path: Path, buffers: list[tuple[int, ...]], body: int) -> None:
    end = 0
    for start, length in [(start, length) for start, length in buffers if length] + [(body, 0)]:
        if not end <= start < end + _PADDING or length < 0:
            raise SegmentError(
                path, SegmentFault.TRAILING_BYTES, "buffers overlap, or bytes do not belong to any buffer"
            )
        end = start + length


class _Table:
    """A flatbuffer table: its position, and a vtable with the offset of each field."""

    def __init__(self, content: memoryview, position: int) -> None:
        self._content, self._position = content, position
        self._vtable = position - struct.unpack_from("<i", content, position)[0]
        if self._vtable < 0 or position < 0:
            raise IndexError
        self._size = struct.unpack_from("<H", content, self._vtable)[0]

    @classmethod
    def root(cls, content: memoryview) -> "_Table":
        return cls(content, struct.unpack_from("<I", content, 0)[0])

    def _field(self, number: int) -> int:
        slot = 4 + 2 * number
        offset = struct.unpack_from("<H", self._content, self._vtable + slot)[0] if slot < self._size else 0
        return self._position + offset if offset else 0

    def has(self, number: int) -> bool:
        return self._field(number) != 0

    def byte(self, number: int) -> int:
        field = self._field(number)
        return self._content[field] if field else 0

    def long(self, number: int) -> int:
        field = self._field(number)
        value = struct.unpack_from("<q", self._content, field)[0] if field else 0
        if value < 0:
            raise IndexError
        return int(value)

    def short(self, number: int) -> int:
        field = self._field(number)
        return int(struct.unpack_from("<h", self._content, field)[0]) if field else 0

    def structs(self, number: int, layout: str) -> list[tuple[int, ...]]:
        """Read a vector of structs; if absent, it is empty."""
        field = self._field(number)
        if not field:
            return []
        start = field + struct.unpack_from("<I", self._content, field)[0]
        stop = start + 4 + struct.unpack_from("<I", self._content, start)[0] * struct.calcsize(layout)
        if stop > len(self._content):
            raise IndexError
        return list(struct.iter_unpack(layout, self._content[start + 4 : stop]))

    def table(self, number: int) -> "_Table":
        field = self._field(number)
        if not field:
            raise IndexError
        return _Table(self._content, field + struct.unpack_from("<I", self._content, field)[0])
