"""The Arrow IPC file as a container: what pyarrow does not tell about a file it can read.

A compressed buffer would be expanded into private memory, and bytes between the messages would be content that no
reader sees; format 1 refuses both. The messages are flatbuffers (Arrow columnar format 1.4, "IPC File Format" and
``Message.fbs``); the walk below reads the few fields it needs and no more.
"""

import struct
from pathlib import Path
from typing import Any, Final

from syncd.errors import CompressedError, NotArrowError, SchemaError, TrailingBytesError

_CONTINUATION: Final = 0xFFFFFFFF
_START: Final = 8  # "ARROW1" and two bytes of padding
_END: Final = 10  # the footer's length and "ARROW1"
_MESSAGE_HEADER_TYPE, _MESSAGE_HEADER, _MESSAGE_BODY_LENGTH = 1, 2, 3
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_DICTIONARY_DATA: Final = 1
_BATCH_COMPRESSION: Final = 3


def check(path: Path, buffer: Any) -> None:
    """Prove that ``buffer`` is schema, one dictionary, one record batch, footer, and nothing else.

    Raises `CompressedError`, `TrailingBytesError`, `SchemaError` or `NotArrowError`.
    """
    content = memoryview(buffer)
    try:
        kinds, end = _walk(path, content)
        footer = struct.unpack_from("<i", content, len(content) - _END)[0]
    except (struct.error, IndexError, OverflowError):
        raise NotArrowError(path, "a message of the Arrow file is damaged") from None
    if kinds != [_SCHEMA, _DICTIONARY, _BATCH]:
        raise SchemaError(path, "holds other messages than a schema, one dictionary and one record batch")
    if end + footer + _END != len(content):
        raise TrailingBytesError(path, "bytes that belong to no message")


def _walk(path: Path, content: memoryview) -> tuple[list[int], int]:
    kinds: list[int] = []
    position = _START
    while True:
        marker, length = struct.unpack_from("<Ii", content, position)
        if marker != _CONTINUATION or length < 0:
            raise NotArrowError(path, "a message of the Arrow file is damaged")
        position += 8
        if length == 0:
            return kinds, position
        message = _Table.root(content[position : position + length])
        kind = message.byte(_MESSAGE_HEADER_TYPE)
        kinds.append(kind)
        if len(kinds) > _BATCH:
            return kinds, position
        batch = message.table(_MESSAGE_HEADER)
        if kind == _DICTIONARY:
            batch = batch.table(_DICTIONARY_DATA)
        if kind != _SCHEMA and batch.has(_BATCH_COMPRESSION):
            raise CompressedError(path, "a compressed buffer; format 1 has none")
        position += length + message.long(_MESSAGE_BODY_LENGTH)


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

    def table(self, number: int) -> "_Table":
        field = self._field(number)
        if not field:
            raise IndexError
        return _Table(self._content, field + struct.unpack_from("<I", self._content, field)[0])
