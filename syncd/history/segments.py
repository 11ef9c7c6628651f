"""The places of the segments of the history, and their rows with the publication that each belongs to."""

from collections.abc import Iterator
from pathlib import Path

from syncd.catalog.folder import StateFolder
from syncd.catalog.history_records import HistoryRecord
from syncd.errors import SegmentError, SegmentFault, StoreError
from syncd.feed import layout
from syncd.files import sha256_file
from syncd.format.manifest import SegmentRef
from syncd.format.segment import Segment
from syncd.format.stack import merge_deltas
from syncd.history.files import HistoryFolder
from syncd.history.rows import HEAD, ORIGIN, HistoryRows
from syncd.model import ListName


def segment_places(state: StateFolder, name: ListName, source: str, ref: SegmentRef) -> tuple[Path, ...]:
    """Return where a segment of the history may lie: among its links, in the source's folder, in the feed."""
    own = layout.segment_path(ListName(name.removeprefix(f"{source}.")), ref.sha256)
    return (
        HistoryFolder(state.history).segment(name, ref.sha256),
        state.source(source).path(own),
        state.feed.path(layout.segment_path(name, ref.sha256)),
    )


def open_kept(state: StateFolder, record: HistoryRecord, ref: SegmentRef) -> Segment:
    """Map a segment of a record wherever it lies. Raises `StoreError` if it was lost, `SegmentError`."""
    found = find_segment(state, record, ref)
    if found is None:
        raise StoreError(f"segment {ref.sha256[:12]} of the history of {record.list} was lost")
    return Segment.open(found, ref)


def find_segment(state: StateFolder, record: HistoryRecord, ref: SegmentRef) -> Path | None:
    """Return where a segment of a record lies, after fetching it from a shared store; None if it was lost."""
    link, own, published = segment_places(state, record.list, record.source, ref)
    found = next((path for path in (link, own, published) if path.exists()), None)
    if found is not None or state.bucket is None:
        return found
    for folder, path in ((state.source(record.source), own), (state.feed, published)):
        inside = str(path.relative_to(folder.root))
        if folder.store.has(inside, ref.length):
            return folder.store.present(inside, ref.length)
    return None


def rows_of(state: StateFolder, record: HistoryRecord) -> Iterator[HistoryRows]:
    """Yield the rows of a delta's record by kind of digest; rows that head and origin share are in it once."""
    at = round(record.at.timestamp() * 1_000_000)
    publication = (record.number, record.version or 0, record.serial or 0, at)
    for algorithm in sorted({ref.algorithm for ref in record.segments}):
        head = tuple(ref for ref in record.head if ref.algorithm == algorithm)
        origin = tuple(ref for ref in record.origin if ref.algorithm == algorithm)
        sides = ((head, HEAD | ORIGIN),) if head == origin else ((head, HEAD), (origin, ORIGIN))
        for refs, of in sides:
            if refs:
                rows = merge_deltas(algorithm, [_proved(state, record, ref) for ref in refs])
                yield HistoryRows.of_record(rows, publication, of)


def _proved(state: StateFolder, record: HistoryRecord, ref: SegmentRef) -> Segment:
    """Open a segment whose hash is checked again: it is about to be copied. Raises as `open_kept`."""
    segment = open_kept(state, record, ref)
    if sha256_file(segment.path) != ref.sha256:
        raise SegmentError(segment.path, SegmentFault.HASH, "its content does not match the SHA-256 in its name")
    return segment
