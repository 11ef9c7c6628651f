"""Segment files: mapping one and reading the single Arrow record batch that format 1 allows.

Reading copies and proves nothing. With ``prove``, everything that pyarrow does not check by itself is proved.
"""

import contextlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa

from syncd.errors import SegmentError, SegmentFault
from syncd.files import DamagedError, open_regular, storage
from syncd.format import container
from syncd.format.caps import Caps
from syncd.format.manifest import FORMAT, SegmentRef
from syncd.model import MAX_DIGEST_BYTES, Algorithm
from syncd.units import brief, count

MAGIC: Final = b"ARROW1"
KEY_FORMAT: Final = b"syncd.format"
KEY_ALGORITHM: Final = b"syncd.algorithm"
KEY_KIND: Final = b"syncd.kind"
LOST: Final = "pull or sync again, or restore it from a backup or a mirror"
"""The hint for a segment that is missing on this disk."""
_FIRST_MESSAGE: Final = 8

FileId = tuple[int, int]
"""Device and inode. A file that replaces another has the same path, but another inode while the old one is mapped."""


def schema(algorithm: Algorithm, kind: str, width: int | None = None) -> Any:
    """Return the Arrow schema of format 1. ``width``: bytes of a digest, needed only if the algorithm is not known."""
    fields = [
        pa.field("digest", pa.binary(width or algorithm.width), nullable=False),
        pa.field("entry", pa.large_utf8(), nullable=False),
        pa.field("label", pa.dictionary(pa.int32(), pa.utf8()), nullable=False),
    ]
    if kind == "delta":
        fields.append(pa.field("removed", pa.bool_(), nullable=False))
    metadata = {KEY_FORMAT: str(FORMAT).encode(), KEY_ALGORITHM: algorithm.encode(), KEY_KIND: kind.encode()}
    return pa.schema(fields, metadata=metadata)


def check_size(path: Path, ref: SegmentRef, caps: Caps) -> None:
    """Raise `SegmentError` if more was signed than ``caps`` accept; otherwise as `check_length`."""
    if ref.rows > caps.rows or ref.length > caps.length:
        accepted = f"this reader accepts at most {caps.rows} rows in {caps.length} bytes"
        raise SegmentError(path, SegmentFault.CAP, f"{ref.rows} rows in {ref.length} bytes; {accepted}")
    check_length(path, ref)


def check_length(path: Path, ref: SegmentRef) -> FileId:
    """Return the identity of the file. Raises `SegmentError` if its length is wrong, `StoreError` if unreadable."""
    with storage(path, "open segment"):
        try:
            status = path.stat()
        except FileNotFoundError:
            raise _missing(path) from None
    _compare_length(path, status.st_size, ref)
    return status.st_dev, status.st_ino


def _missing(path: Path) -> DamagedError:
    return DamagedError(f"segment {path.name} is missing", hint=LOST)


def _compare_length(path: Path, size: int, ref: SegmentRef) -> None:
    if size != ref.length:
        fault = SegmentFault.TRUNCATED if size < ref.length else SegmentFault.TRAILING_BYTES
        raise SegmentError(path, fault, f"{count(size, 'byte')}; the manifest says {ref.length}")


def read_batch(path: Path, ref: SegmentRef, *, prove: bool = False) -> tuple[mmap.mmap, Any, FileId]:
    """Return the map, its record batch, and the identity of the mapped file.

    Raises the `SegmentError` that names the fault, and `StoreError`.
    """
    mapped, file = _map(path, ref)
    buffer = pa.py_buffer(mapped)
    content = memoryview(buffer)
    if bytes(content[: len(MAGIC)]) != MAGIC:
        raise SegmentError(path, SegmentFault.NOT_ARROW, "does not start like an Arrow IPC file")
    if bytes(content[-len(MAGIC) :]) != MAGIC:
        raise SegmentError(path, SegmentFault.TRUNCATED, "does not end like an Arrow IPC file")
    container.check(path, buffer)  # reads only the messages' headers
    with _arrow_errors(path):
        reader = pa.ipc.open_file(buffer)
        if prove and not reader.schema.equals(pa.ipc.read_schema(buffer.slice(_FIRST_MESSAGE)), check_metadata=True):
            raise SegmentError(
                path, SegmentFault.SCHEMA, "the schema in the footer differs from the one in the first message"
            )
        if reader.num_record_batches != 1:
            raise SegmentError(path, SegmentFault.SCHEMA, f"{reader.num_record_batches} record batches instead of one")
        _check_schema(path, ref, reader.schema)
        batch = reader.get_batch(0)
        batch.validate()  # each buffer is as long as the rows need, so nothing reads beyond the file
    if len(batch) != ref.rows:
        raise SegmentError(path, SegmentFault.ROW_COUNT, f"{count(len(batch), 'row')}; the manifest says {ref.rows}")
    if not len(batch):
        raise SegmentError(path, SegmentFault.ROW_COUNT, "no rows")
    if prove:
        _check_values(path, batch)
    return mapped, batch, file


def _map(path: Path, ref: SegmentRef) -> tuple[mmap.mmap, FileId]:
    with storage(path, "map"), _opened(path) as stream:
        status = os.fstat(stream.fileno())
        _compare_length(path, status.st_size, ref)  # reading beyond the end would kill the process
        try:
            mapped = mmap.mmap(stream.fileno(), ref.length, prot=mmap.PROT_READ)
        except ValueError:
            raise SegmentError(path, SegmentFault.TRUNCATED, "an empty file") from None
        mapped.madvise(mmap.MADV_RANDOM)  # look-ups touch single pages: reading ahead costs more than it saves
    return mapped, (status.st_dev, status.st_ino)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with open_regular(path) as stream:
            yield stream
    except FileNotFoundError:
        raise _missing(path) from None


@contextlib.contextmanager
def _arrow_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SegmentError(path, SegmentFault.NOT_ARROW, f"cannot be read as Arrow: {brief(str(error))}") from None


def _check_schema(path: Path, ref: SegmentRef, found: Any) -> None:
    stated = found.metadata or {}
    if stated.get(KEY_FORMAT) != str(FORMAT).encode():
        version = stated.get(KEY_FORMAT, b"none").decode("ascii", "replace")[:20]
        raise SegmentError(
            path, SegmentFault.FORMAT_VERSION, f"format version {version!r}; this reader knows version {FORMAT}"
        )
    digest_type: Any = found.field(0).type if len(found) else pa.null()
    fixed = pa.types.is_fixed_size_binary(digest_type)
    width = digest_type.byte_width if fixed else ref.algorithm.known_width or 1
    if width != (ref.algorithm.known_width or width):
        raise SegmentError(
            path,
            SegmentFault.WIDTH,
            f"digests of {count(width, 'byte')}; {ref.algorithm} digests have {ref.algorithm.width}",
        )
    if not 1 <= width <= MAX_DIGEST_BYTES:
        raise SegmentError(
            path, SegmentFault.WIDTH, f"digests of {count(width, 'byte')}; format 1 allows 1 to {MAX_DIGEST_BYTES}"
        )
    if ref.kind == "base" and found.get_field_index("removed") >= 0:
        raise SegmentError(path, SegmentFault.REMOVAL_IN_BASE, "a base must not have a 'removed' column")
    if not found.equals(schema(ref.algorithm, ref.kind, width), check_metadata=True):
        raise SegmentError(
            path, SegmentFault.SCHEMA, f"the columns or metadata are not those of a {ref.algorithm} {ref.kind}"
        )


def _check_values(path: Path, batch: Any) -> None:
    for number, column in enumerate(batch.columns):
        if column.null_count or column.buffers()[0] is not None:
            missing = np.flatnonzero(np.asarray(column.is_null()))
            raise SegmentError(
                path,
                SegmentFault.NULL_VALUE,
                f"a missing {batch.schema.names[number]}",
                int(missing[0]) if len(missing) else None,
            )
    if batch.column(2).dictionary.null_count:
        raise SegmentError(path, SegmentFault.NULL_VALUE, "a missing value in the label dictionary")
    try:
        batch.validate(full=True)
    except (pa.ArrowException, ValueError):
        raise SegmentError(
            path, SegmentFault.SCHEMA, "invalid UTF-8, or a label code out of range", _first_invalid(batch)
        ) from None


def _first_invalid(batch: Any) -> int:
    """Find the first row that full validation refuses, by bisection."""
    low, high = 0, len(batch)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            batch.slice(low, middle - low).validate(full=True)
            low = middle
        except (pa.ArrowException, ValueError):
            high = middle
    return low
