"""The derived index for near matches in one base segment: ``indexes/<segment sha256>.near``.

Its columns are those of `syncd.format.hamming.ChunkTable`; the setting ``chunks`` is their number.
"""

from pathlib import Path
from typing import Final

import numpy as np

from syncd.format.derived import DerivedIndex, IndexOf, Pause, index_path, unpaused, written
from syncd.format.hamming import ChunkTable, chunk_count, directory_size, table_parts
from syncd.format.manifest import SegmentRef
from syncd.format.segment import Segment
from syncd.model import Algorithm

KIND: Final = "near"
NEAR: Final = frozenset({Algorithm.PDQ, Algorithm.VPDQ})
"""Algorithms whose near matches are found: alike in the first 256 bits means alike images."""
VERSION: Final = 2
_WORTH_AN_INDEX: Final = 1 << 15
"""Rows. Fewer are compared one by one in a tenth of a millisecond."""


def has_near_index(ref: SegmentRef) -> bool:
    """Return True if near look-ups in a segment use an index."""
    return ref.kind == "base" and ref.algorithm in NEAR and ref.rows >= _WORTH_AN_INDEX


def index_of(ref: SegmentRef) -> IndexOf:
    """Return what the index of a segment is named and stamped with."""
    return IndexOf(KIND, VERSION, ref.sha256, {"chunks": chunk_count(ref.rows)})


def index_length(ref: SegmentRef) -> int:
    """Return the bytes that the index of a segment takes, with its checksums, to a few pages."""
    count = chunk_count(ref.rows)
    columns = (directory_size(count) + count * ref.rows) * np.dtype(np.uint32).itemsize
    return columns + columns // 1024 + (1 << 14)


def write_near_index(path: Path, segment: Segment, pause: Pause = unpaused) -> None:
    """Compute the index of a segment and install it at ``path``. Call with a lock held. Raises `StoreError`.

    Takes about 1.2 seconds of processor time for a million rows, and the disk that `index_length` returns. ``pause`` is
    called after each piece.
    """
    of, count = index_of(segment.ref), chunk_count(segment.ref.rows)
    with written(path, of) as writer:
        directory = writer.column("directory", np.uint32, directory_size(count))
        rows = writer.column("rows", np.uint32, count * len(segment))
        for some_directory, some_rows in table_parts(segment.digests, count):
            directory.append(some_directory, pause)
            rows.append(some_rows, pause)


def open_near_index(root: Path, segment: Segment) -> ChunkTable | None:
    """Return the index of a segment in the copy or state at ``root``, mapped; None if there is none to use."""
    index = DerivedIndex.open(index_path(root, segment.ref.sha256, KIND), index_of(segment.ref))
    if index is None:
        return None
    try:
        return ChunkTable(segment.digests, index.settings["chunks"], index.columns["directory"], index.columns["rows"])
    except (KeyError, TypeError, ValueError):
        return None  # of another form
