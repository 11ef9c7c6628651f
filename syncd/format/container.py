"""The Arrow IPC file as a container: what pyarrow does not tell about a file it can read.

A compressed buffer would be expanded into private memory, and bytes between the messages would be content that no
reader sees; format 1 refuses both. The messages are flatbuffers (Arrow columnar format 1.4, "IPC File Format" and
``Message.fbs``); the walk below reads the few fields it needs and no more.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from syncd.errors import CompressedError, NotArrowError, SchemaError, TrailingBytesError

_CONTINUATION: Final = 0xFFFFFFFF
_START: Final = 8  # "ARROW1" and two bytes of padding
_END: Final = 10  # the footer's length and "ARROW1"
_PADDING: Final = 64
"""Writers align buffers to 8 or 64 bytes: fewer than this many bytes lie between two."""
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
    """Prove that ``buffer`` is schema, one dictionary, one record batch, footer, and nothing else.

    What a reader finds by the footer is then what a reader finds by walking. Raises `CompressedError`,
    `TrailingBytesError`, `SchemaError` or `NotArrowError`.
    """
    content = memoryview(buffer)
    try:
        messages, end = _walk(path, content)
        if [message.kind for message in messages] != [_SCHEMA, _DICTIONARY, _BATCH]:
            raise SchemaError(path, "holds other messages than a schema, one dictionary and one record batch")
        _check_footer(path, content, end, messages)
        for message in messages:
            _check_message(path, message)
    except (struct.error, IndexError, OverflowError):
        raise NotArrowError(path, "a message of the Arrow file is damaged") from None


@dataclass(frozen=True)
class _Message:
    table: "_Table"
    kind: int
    block: tuple[int, ...]
    """as the footer states it"""


def _walk(path: Path, content: memoryview) -> tuple[list[_Message], int]:
    messages: list[_Message] = []
    position = _START
    while True:
        marker, length = struct.unpack_from("<II", content, position)
        if marker != _CONTINUATION:
            raise NotArrowError(path, "a message of the Arrow file is damaged")
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
        raise TrailingBytesError(path, "bytes that belong to no message")
    footer = _Table.root(content[end : end + length])
    blocks = footer.structs(_FOOTER_DICTIONARIES, _BLOCK) + footer.structs(_FOOTER_BATCHES, _BLOCK)
    if blocks != [message.block for message in messages[1:]]:
        raise SchemaError(path, "the footer names other messages than those before it")
    if footer.short(_FOOTER_VERSION) != _V5 or footer.has(_FOOTER_CUSTOM):
        raise SchemaError(path, "a footer other than format 1's")


def _check_message(path: Path, message: _Message) -> None:
    if message.table.short(_MESSAGE_VERSION) != _V5 or message.table.has(_MESSAGE_CUSTOM):
        raise SchemaError(path, "a message of another version than V5, or with metadata of its own")
    header = message.table.table(_MESSAGE_HEADER)
    if message.kind == _SCHEMA:
        if header.short(_SCHEMA_ENDIANNESS):
            raise SchemaError(path, "big-endian")
        return
    if message.kind == _DICTIONARY:
        if header.byte(_DICTIONARY_IS_DELTA):
            raise SchemaError(path, "a delta dictionary")
        header = header.table(_DICTIONARY_DATA)
    if header.has(_BATCH_COMPRESSION):
        raise CompressedError(path, "a compressed buffer; format 1 has none")
    _check_body(path, header.structs(_BATCH_BUFFERS, _BUFFER), message.block[-1])


def _check_body(path: Path, buffers: list[tuple[int, ...]], body: int) -> None:
    end = 0
    for start, length in [(start, length) for start, length in buffers if length] + [(body, 0)]:
        if not end <= start < end + _PADDING or length < 0:
            raise TrailingBytesError(path, "buffers that overlap, or bytes that belong to none")
        end = start + length


class _Table:
    """One flatbuffer table: a position, and a vtable that says where each field lies."""

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
        """A vector of structs; an absent one is empty."""
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
