"""The content of a list file as plain UTF-8 lines in a file that can be read twice.

A regular file of UTF-8 is read in place. Anything else (a pipe, a compressed file, UTF-16, a JSON document) is first
written to an unnamed file in the scratch folder: memory stays constant, and bad lines can be quoted afterwards.
"""

import bz2
import codecs
import contextlib
import gzip
import lzma
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from syncd.errors import UsageError
from syncd.files import storage

PROBE: Final = 64 << 10
"""bytes at the beginning that show the kind of a file"""
BOM: Final = codecs.BOM_UTF8
_CHUNK: Final = 1 << 20
_MOST_UNPACKED: Final = 1 << 40
"""bytes; more is not a list of digests"""
_MIN_WIDE: Final = 8
_REFUSED: Final = (
    (b"%PDF", "a PDF document; export the list as CSV"),
    (b"SQLite format 3\0", "an SQLite database; export its table as CSV"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it first, or pipe it: zstd -dc FILE | syncd ... --full -"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls); save the sheet as CSV UTF-8"),
    (b"PAR1", "a Parquet file; export it as CSV"),
)
_TAR_AT: Final = 257
_OF_MACOS: Final = ("__MACOSX/", ".DS_Store")
"""members that macOS adds to archives"""
_WORKBOOK: Final = "[Content_Types].xml"
_DAMAGED: Final = "the compressed file is cut off or damaged; copy it again"
_UNDERWAY: Final = "write the list to a file of its own, as CSV or NDJSON"


def unpacked(path: Path, stream: IO[bytes], scratch: Path | None) -> IO[bytes] | None:
    """Return the content of ``stream`` as UTF-8 in a file of its own; None if it is UTF-8 already and can be reread.

    Raises `UsageError` if the content is not a list, or is damaged, and `StoreError` if ``scratch`` is full.
    """
    content = stream
    try:
        for step in (_seekable, _decompressed, _in_utf8, _with_line_feeds):
            made = step(path, content, scratch)
            if made is not content and content is not stream:
                content.close()
            content = made
    except BaseException:
        if content is not stream:
            content.close()
        raise
    return None if content is stream else content


def _seekable(path: Path, content: IO[bytes], scratch: Path | None) -> IO[bytes]:
    return content if content.seekable() else _spooled(path, content, scratch)


def _head(path: Path, content: IO[bytes]) -> bytes:
    with _reading(path):
        content.seek(0)
        head = content.read(PROBE)
        content.seek(0)
        return head


def refused(path: Path, reason: str) -> UsageError:
    """Return the error for a file that is not a list."""
    return UsageError(f"{shown(path)}: {reason}", hint="nothing was published; `syncd feed publish --help` lists forms")


def shown(path: Path) -> str:
    """Return the name of a list file for messages."""
    return "standard input" if str(path) == "-" else path.name


def _decompressed(path: Path, stream: IO[bytes], scratch: Path | None) -> IO[bytes]:
    with _reading(path):
        stream.seek(0)
        magic = stream.read(6)
        stream.seek(0)
        if magic.startswith(b"\x1f\x8b"):
            return _spooled(path, gzip.GzipFile(fileobj=stream), scratch)  # type: ignore[arg-type] # it reads
        if magic == b"\xfd7zXZ\0":
            return _spooled(path, lzma.LZMAFile(stream), scratch)
        if magic.startswith(b"BZh"):
            return _spooled(path, bz2.BZ2File(stream), scratch)
        if magic.startswith(b"PK\3\4"):
            return _only_member(path, stream, scratch)
    return stream


def _only_member(path: Path, stream: IO[bytes], scratch: Path | None) -> IO[bytes]:
    with zipfile.ZipFile(stream) as archive:
        # not `info.is_dir()`, which in Python 3.11 raises IndexError for a member without a name
        members = [
            info
            for info in archive.infolist()
            if not info.filename.startswith(_OF_MACOS) and not info.filename.endswith("/")
        ]
        if path.suffix.lower() in {".xlsx", ".xlsm", ".ods"} or any(info.filename == _WORKBOOK for info in members):
            raise refused(
                path, "a spreadsheet; save the sheet as CSV UTF-8, with the column of digests formatted as text"
            )
        if len(members) != 1:
            raise refused(path, f"a zip archive of {len(members)} files; give one with a single list, or unpack it")
        if members[0].flag_bits & 1:
            raise refused(path, "an encrypted zip archive; unpack it first")
        with archive.open(members[0]) as member:
            return _spooled(path, member, scratch)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the errors of reading a damaged file into a `UsageError`."""
    try:
        yield
    except NotImplementedError as error:
        raise refused(path, "compressed by a method of zip that is not read; unpack it first") from error
    except (EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, ValueError) as error:
        raise refused(path, _DAMAGED) from error
    except OSError as error:
        if error.errno is None:  # gzip and bz2 raise these for damaged content
            raise refused(path, _DAMAGED) from error
        raise UsageError(f"cannot read {shown(path)}: {error.strerror}", hint=_UNDERWAY) from error


def _spooled(path: Path, content: IO[bytes], scratch: Path | None) -> IO[bytes]:
    return spool(path, _chunks(path, content), scratch)


def _chunks(path: Path, content: IO[bytes]) -> Iterator[bytes]:
    with _reading(path):
        while chunk := content.read(_CHUNK):
            yield chunk


def spool(path: Path, chunks: Iterator[bytes], scratch: Path | None) -> IO[bytes]:
    """Write ``chunks`` to an unnamed file, and return it. Raises `StoreError` if there is not enough space."""
    target = _scratch_file(scratch)
    size = 0
    try:
        for chunk in chunks:
            size += len(chunk)
            if size > _MOST_UNPACKED:
                raise refused(path, "more than 1 TiB when unpacked")
            with storage(scratch or Path(tempfile.gettempdir()), "unpack a list in"):
                target.write(chunk)
        with storage(scratch or Path(tempfile.gettempdir()), "unpack a list in"):
            target.seek(0)
    except BaseException:
        target.close()
        raise
    return target


def _scratch_file(scratch: Path | None) -> IO[bytes]:
    with storage(scratch or Path(tempfile.gettempdir()), "unpack a list in"):
        return tempfile.TemporaryFile(dir=scratch)


def _wide(head: bytes) -> str | None:
    """Return the encoding if it is UTF-16 or UTF-32, by its mark or because every second byte is zero."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    sample = head[:256]
    if len(sample) >= _MIN_WIDE and not any(sample[1::2]) and all(sample[::2]):
        return "utf-16-le"
    if len(sample) >= _MIN_WIDE and not any(sample[::2]) and all(sample[1::2]):
        return "utf-16-be"
    return None


def _in_utf8(path: Path, content: IO[bytes], scratch: Path | None) -> IO[bytes]:
    """Return the content in UTF-8. Raises `UsageError` if it is not text."""
    head = _head(path, content)
    for magic, reason in _REFUSED:
        if head.startswith(magic):
            raise refused(path, reason)
    if head[_TAR_AT:].startswith(b"ustar"):
        raise refused(path, "a tar archive; unpack it first")
    encoding = _wide(head)
    if encoding is None:
        return content

    def chunks() -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            for chunk in _chunks(path, content):
                yield decoder.decode(chunk).encode()
            yield decoder.decode(b"", final=True).encode()
        except UnicodeError as error:
            raise refused(
                path, f"not valid {encoding[:6].upper()}; the file was cut off, or two encodings are mixed"
            ) from error

    return spool(path, chunks(), scratch)


def _with_line_feeds(path: Path, content: IO[bytes], scratch: Path | None) -> IO[bytes]:
    """Return the content with line feeds, if its lines end in CR alone, as old spreadsheets write them."""
    head = _head(path, content)
    if b"\n" in head or b"\r" not in head.rstrip(b"\r"):
        return content

    def chunks() -> Iterator[bytes]:
        with _reading(path):
            while chunk := content.read(_CHUNK):
                if chunk.endswith(b"\r"):
                    chunk += content.read(1)
                yield chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    return spool(path, chunks(), scratch)
