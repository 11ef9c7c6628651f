"""Segments: three bytes say which kind, how many rows and how many removals were signed; the rest is the file."""

import hashlib

from fuzz.scratch import written
from syncd.format.manifest import SegmentRef
from syncd.format.segment import Segment
from syncd.model import Algorithm


def one(content: bytes) -> None:
    """Prove a segment; whatever passes can be read to the last row."""
    kind, rows, removals = content[:3].ljust(3, b"\0")
    file = content[3:]
    ref = SegmentRef(
        sha256=hashlib.sha256(file).hexdigest(),
        length=len(file),
        algorithm=Algorithm.SHA256,
        kind="delta" if kind == ord("d") else "base",
        rows=rows,
        removals=removals,
    )
    path = written("segment.arrow", file)
    segment = Segment.check_all_but_hash(path, ref)
    assert len(segment.rows()) == len(segment)
    for row, digest in enumerate(segment.digests):
        assert segment.entry_and_label(row) in segment.entries_of(digest.ljust(segment.width, b"\0"))
        segment.removes(row)
