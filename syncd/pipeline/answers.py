"""The raw answers of a partner that signs nothing: one compressed bundle for each poll, kept as private evidence.

A bundle is a Zstandard stream (RFC 8878). For each answer, in the order received, it has a line with the number of its
bytes in decimal, the bytes, and a line feed. The SHA-256 of the compressed file names it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa

from syncd.errors import StoreError
from syncd.files import PRIVATE_FILE, sha256_file, storage

MAX_ANSWER: Final = 64 << 30
"""bytes of one answer: a file that a partner dropped is one"""
_MAX_NUMBER: Final = 20
_PIECE: Final = 1 << 20


class AnswerBundle:
    """Writes the bundle of one poll to ``path``. Use as a context manager, and call `close` at the end of the poll."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sink: Any = None

    def __enter__(self) -> Self:
        with storage(self._path, "write"):
            self._path.touch(PRIVATE_FILE)
            self._sink = pa.CompressedOutputStream(pa.OSFile(str(self._path), "wb"), "zstd")
        return self

    def __exit__(self, *_: object) -> None:
        if not self._sink.closed:
            self._sink.close()

    def add(self, length: int, pieces: Iterable[bytes]) -> None:
        """Add one answer of ``length`` bytes. Raises `StoreError`."""
        with storage(self._path, "write"):
            self._sink.write(b"%d\n" % length)
            for piece in pieces:
                self._sink.write(piece)
            self._sink.write(b"\n")

    def close(self) -> str:
        """Finish the bundle and return its SHA-256. Raises `StoreError`."""
        with storage(self._path, "write"):
            self._sink.close()
        return sha256_file(self._path)


def read_answers(path: Path) -> Iterator[bytes]:
    """Yield the answers in a bundle. Raises `StoreError` if it is damaged."""
    try:
        with storage(path, "read"), pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd") as stream:
            while length := _number(stream):
                answer = stream.read(int(length) + 1)
                if len(answer) != int(length) + 1 or answer[-1:] != b"\n":
                    raise ValueError
                yield answer[:-1]
    except (ValueError, pa.ArrowException):
        raise StoreError(f"the answers in {path} are damaged", hint="restore the file from a backup") from None


def _number(stream: Any) -> bytes:
    """Return the digits of the next length; b"" at the end."""
    digits = b""
    while (digit := stream.read(1)) != b"\n":
        digits += digit
        if not digit and not digits:
            return b""
        if not digit.isdigit() or len(digits) > _MAX_NUMBER:
            raise ValueError
    return digits


def pieces_of(path: Path) -> Iterator[bytes]:
    """Yield the content of a file in pieces. Raises `StoreError`."""
    with storage(path, "read"), path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            yield piece
