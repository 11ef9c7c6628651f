"""Lists to measure with: as many rows as wanted, made from a seed, and a partner that publishes them.

Their digests have 32 bytes: SHA-256, or PDQ.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.files import install_file
from syncd.format.delta import whole_state
from syncd.format.manifest import SegmentRef
from syncd.format.rows import Digests, Entries, Rows
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.format.writer import write_segment
from syncd.listfile import ListFiles
from syncd.model import Algorithm, ListName
from syncd.publish import author
from syncd.publish.change import ListChange
from syncd.publish.publication import Proposal
from syncd.trust import keys

LIST: Final = ListName("images")
ENTRY_LENGTH: Final = 13
LABELS: Final = ("A", "B", "C")
_CHUNK: Final = 1 << 20
_SEED: Final = 20260101


def now() -> datetime:
    return datetime.now(UTC)


def chunks(count: int, size: int = _CHUNK, algorithm: Algorithm = Algorithm.SHA256) -> Iterator[Rows]:
    """``count`` sorted rows of random digests: each chunk's digests lie in a range of their own."""
    for start in range(0, count, size):
        stop = min(start + size, count)
        random = np.random.default_rng((_SEED, count, start))
        low, high = (start << 64) // count, (stop << 64) // count - 1
        first = np.sort(random.integers(low, high, stop - start, np.uint64, endpoint=True))
        yield _rows(first, random, start, algorithm)


def _rows(first: np.ndarray, random: np.random.Generator, start: int, algorithm: Algorithm = Algorithm.SHA256) -> Rows:
    words = np.empty((len(first), 4), ">u8")
    words[:, 0] = first
    words[:, 1:] = random.integers(0, 1 << 64, (len(first), 3), np.uint64)
    return rows_of(as_digests(words), random, algorithm, numbered("e", start, len(first)))


def rows_of(digests: Digests, random: np.random.Generator, algorithm: Algorithm, entries: Entries) -> Rows:
    """Rows to add, with random labels."""
    codes = random.integers(0, len(LABELS), len(digests), np.int32)
    return Rows(algorithm, digests, entries, codes, LABELS, np.zeros(len(digests), bool))


def as_digests(words: np.ndarray) -> Digests:
    return np.frombuffer(words.tobytes(), "S32")


def numbered(letter: str, start: int, count: int) -> Entries:
    """Entries of `ENTRY_LENGTH` characters: a letter and a number."""
    text = np.empty((count, ENTRY_LENGTH), np.uint8)
    text[:, 0] = ord(letter)
    left = np.arange(start, start + count, dtype=np.int64)
    for column in range(ENTRY_LENGTH - 1, 0, -1):
        left, digit = np.divmod(left, 10)
        text[:, column] = digit + ord("0")
    offsets = np.arange(0, (count + 1) * ENTRY_LENGTH, ENTRY_LENGTH, dtype=np.int64)
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text))


def unsorted(count: int, size: int = _CHUNK) -> Iterator[Rows]:
    """``count`` rows of random digests in no order, as a publisher's file has them."""
    for start in range(0, count, size):
        random = np.random.default_rng((_SEED, count, start, 2))
        first = random.integers(0, 1 << 64, min(size, count - start), np.uint64)
        yield _rows(first, random, start)


def write_csv(path: Path, parts: Iterator[Rows] | list[Rows], *, label: bool = True) -> None:
    """Rows as a publisher gives them."""
    with path.open("wb") as out:
        out.write(b"algorithm,digest,entry,label\n" if label else b"algorithm,digest,entry\n")
        for rows in parts:
            out.write(_csv_lines(rows, label=label))


_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)


def _csv_lines(rows: Rows, *, label: bool) -> bytes:
    count, head = len(rows), f"{rows.algorithm},".encode()
    digests = np.frombuffer(rows.digests.tobytes(), np.uint8).reshape(count, 32)
    entries = np.frombuffer("".join(rows.entries.to_pylist()).encode(), np.uint8).reshape(count, ENTRY_LENGTH)
    line = np.full((count, len(head) + 64 + 1 + ENTRY_LENGTH + (2 if label else 0) + 1), ord(","), np.uint8)
    line[:, : len(head)] = np.frombuffer(head, np.uint8)
    line[:, len(head) : len(head) + 64 : 2] = _HEX[digests >> 4]
    line[:, len(head) + 1 : len(head) + 65 : 2] = _HEX[digests & 15]
    line[:, len(head) + 65 : len(head) + 65 + ENTRY_LENGTH] = entries
    if label:
        line[:, -2] = np.frombuffer("".join(rows.labels).encode(), np.uint8)[rows.codes]
    line[:, -1] = ord("\n")
    return line.tobytes()


@dataclass(frozen=True)
class Partner:
    """A feed that publishes one list."""

    feed: FeedFolder
    algorithm: Algorithm = Algorithm.SHA256

    @classmethod
    def make(
        cls, base: Path, count: int, algorithm: Algorithm = Algorithm.SHA256, rows: Iterator[Rows] | None = None
    ) -> "Partner":
        """A feed in ``base`` whose list has ``count`` rows, or ``rows``, as one base: made past the CSV reader."""
        partner = cls(FeedFolder(base / "partner"), algorithm)
        author.init(partner.feed.root, base / "offline", partner.key_folder, count=1, threshold=1, now=now())
        with partner.feed.scratch("benchmark") as scratch:
            ref = write_segment(scratch / "base", algorithm, "base", rows or chunks(count, algorithm=algorithm))
            assert ref is not None
            partner._publish(scratch / "base", ref)
        return partner

    @property
    def key_folder(self) -> Path:
        return author.keys_folder(self.feed.root)

    @property
    def signers(self) -> keys.Signers:
        return keys.load_signers(self.key_folder, keys.ONLINE_ROLES)

    @property
    def root(self) -> Path:
        return self.feed.path(author.ROOT_FILE)

    def _publish(self, path: Path, ref: SegmentRef) -> None:
        state, counts = whole_state(Stack(ref.algorithm, [Segment.open(path, ref)]))
        install_file(path, self.feed.segment_path(LIST, ref))
        change = ListChange(LIST, (), {ref.algorithm: counts}, {ref.algorithm: state}, (ref,))
        author.publisher(self.feed, self.signers).publish_fixed("benchmark", Proposal("publish", (change,)), now())

    def version(self) -> int:
        """The version in force."""
        snapshot = author.open_list(self.feed, load_repository(self.feed), LIST)
        return snapshot.manifest.version if snapshot else 0

    def base_segment(self) -> Path:
        """The largest file that a first sync fetches."""
        snapshot = author.open_list(self.feed, load_repository(self.feed), LIST)
        assert snapshot is not None
        return self.feed.segment_path(LIST, snapshot.manifest.stack[0])

    def publish_delta(self, number: int, count: int) -> None:
        """Add nine tenths of ``count`` rows, and remove as many old ones as are left of them."""
        adds = self.added_by(number, count)
        add, remove = self.feed.work / "add.csv", self.feed.work / "remove.csv"
        write_csv(add, [adds])
        write_csv(remove, [self._old_rows(number, count // 10)], label=False)
        author.publish_batch(self.feed, LIST, ListFiles(add=add, remove=remove).read, self.signers, now())

    def added_by(self, number: int, count: int) -> Rows:
        """The rows that `publish_delta` adds."""
        return _delta_rows(number, count - count // 10, self.algorithm)

    def publish_additions(self, number: int, count: int) -> None:
        """Add ``count`` rows and remove none."""
        add = self.feed.work / "add.csv"
        write_csv(add, [_delta_rows(number, count, self.algorithm)])
        author.publish_batch(self.feed, LIST, ListFiles(add=add).read, self.signers, now())

    def _old_rows(self, number: int, count: int) -> Rows:
        """Rows of the base that no earlier delta removed."""
        snapshot = author.open_list(self.feed, load_repository(self.feed), LIST)
        assert snapshot is not None
        base = snapshot.stacks[self.algorithm].segments[0]
        step = len(base) // count
        return base.take(np.arange(count, dtype=np.int64) * step + number % step)


def _delta_rows(number: int, count: int, algorithm: Algorithm) -> Rows:
    random = np.random.default_rng((_SEED, number, count, 1))
    words = random.integers(0, 1 << 64, (count, 4), np.uint64).astype(">u8")
    return rows_of(as_digests(words), random, algorithm, numbered("d", number * count, count))
