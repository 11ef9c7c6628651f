"""The records of one poll on their way into batches. Millions of them need little memory: they are on scratch."""

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from syncd.errors import FeedError
from syncd.files import storage, temporary_path
from syncd.format.batch import Batch, Changes, WholeList
from syncd.format.buckets import Buckets
from syncd.format.manifest import SegmentRef
from syncd.format.rows import Index, Mask, Rows
from syncd.format.segment import Segment
from syncd.format.writer import SegmentWriter
from syncd.model import MAX_ENTRY_BYTES, MAX_LABEL_BYTES, Algorithm, ListName
from syncd.sources.statements import Record

_AT_ONCE: Final = 1 << 14
"""rows of an algorithm that are sorted into buckets at once"""
_KEY: Final = 16
"""bytes of the hash of an entry: two entries never share one"""


class ListSpool:
    """The records of one list. Of each entry, the last one counts. Use as a context manager.

    Raises `FeedError` if a record cannot be on a list, and `StoreError` if the scratch folder is full.
    """

    def __init__(self, scratch: Path, name: ListName, *, whole: bool) -> None:
        self._scratch, self._name, self._whole = scratch, name, whole
        self._records = 0
        self._codes: dict[str, int] = {}
        self._buckets: dict[Algorithm, Buckets] = {}
        self._widths: dict[Algorithm, int] = {}
        self._rows: dict[Algorithm, list[tuple[bytes, str, int, int]]] = defaultdict(list)
        self._entries: list[str] = []
        self._parts: list[Any] = []
        self._keys: IO[bytes] = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - `__exit__` closes it
        self._last: Mask | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._keys.close()
        for buckets in self._buckets.values():
            buckets.close()

    def add(self, records: Iterable[Record]) -> None:
        """Add records, in the order in which the partner stated them."""
        keys = bytearray()
        for record in records:
            keys += self._add(record)
        self._keys.write(keys)
        if len(self._entries) >= _AT_ONCE:
            self._keep_entries()

    def _add(self, record: Record) -> bytes:
        entry, label = record.entry.encode(), record.label
        if len(entry) > MAX_ENTRY_BYTES or (label and len(label.encode()) > MAX_LABEL_BYTES):
            raise self._bad("an entry or a label is too long")
        code = self._codes.setdefault(label, len(self._codes))
        for algorithm, digest in record.fingerprints:
            if len(digest) != self._widths.get(algorithm):
                self._check_width(algorithm, digest)
            rows = self._rows[algorithm]
            rows.append((digest, record.entry, code, self._records))
            if len(rows) >= _AT_ONCE:
                self._distribute(algorithm)
        if not self._whole:
            self._entries.append(record.entry)
        self._records += 1
        return blake2b(entry, digest_size=_KEY).digest()

    def _check_width(self, algorithm: Algorithm, digest: bytes) -> None:
        width = self._widths.setdefault(algorithm, algorithm.known_width or len(digest))
        if not digest or len(digest) != width:
            raise self._bad(f"a digest under {algorithm} has {len(digest)} bytes")

    def _bad(self, fault: str) -> FeedError:
        return FeedError(
            f"the partner's records for {self._name} cannot be used: {fault}",
            hint="this is a fault of the adapter, which should have set it aside: report it as a bug",
        )

    def _distribute(self, algorithm: Algorithm) -> None:
        rows = self._rows.pop(algorithm, [])
        if not rows:
            return
        if algorithm not in self._buckets:
            self._buckets[algorithm] = Buckets(self._scratch, algorithm, width=self._widths[algorithm])
        digests, entries, codes, numbers = zip(*rows, strict=True)
        self._buckets[algorithm].add(
            np.frombuffer(b"".join(digests), f"S{self._widths[algorithm]}"),
            pa.array(entries, pa.large_utf8()),
            np.array(codes, np.int32),
            np.array(numbers, np.int64),
        )

    def _keep_entries(self) -> None:
        self._parts.append(pa.array(self._entries, pa.large_utf8()))
        self._entries = []

    def batch(self) -> Batch:
        """Return what the records state. Call once. Its columns stay in the scratch folder."""
        for algorithm in list(self._rows):
            self._distribute(algorithm)
        with storage(self._scratch, "sort records in"):
            self._last = self._last_records()
            if self._whole:
                return WholeList(self._segments(), read=self._records)
            adds = self._segments()
            self._keep_entries()
            return Changes(
                {algorithm: segment.rows() for algorithm, segment in adds.items()},
                replaced=pc.unique(pa.chunked_array(self._parts)),
                read=self._records,
            )

    def _last_records(self) -> Mask | None:
        """Mark the last record of each entry; None if no entry occurs twice."""
        self._keys.seek(0)
        words = np.frombuffer(self._keys.read(), np.uint64).reshape(-1, _KEY // 8)
        order = np.lexsort((words[:, 1], words[:, 0]))  # stable: records of one entry stay in their order
        ranked = words[order]
        superseded = order[:-1][(ranked[1:] == ranked[:-1]).all(axis=1)]
        if not len(superseded):
            return None
        last = np.ones(len(words), bool)
        last[superseded] = False
        return last

    def _counting(self, numbers: Index) -> Mask | None:
        return None if self._last is None else self._last[numbers]

    def _parts_of(self, algorithm: Algorithm) -> Iterator[Rows]:
        for part in self._buckets[algorithm].sorted_rows(tuple(self._codes), self._counting):
            yield part.rows

    def _segments(self) -> dict[Algorithm, Segment]:
        found = {}
        for algorithm in sorted(self._buckets):
            path = temporary_path(self._scratch)
            ref = self._write(path, algorithm)
            if ref is not None:
                found[algorithm] = Segment.open(path, ref)
        return found

    def _write(self, path: Path, algorithm: Algorithm) -> SegmentRef | None:
        with SegmentWriter(path, algorithm, "base") as writer:
            for rows in self._parts_of(algorithm):
                writer.append(rows)
            return writer.close()
