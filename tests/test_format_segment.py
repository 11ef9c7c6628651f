"""What `Segment.check` proves: format 1 as ``docs/format.md`` states it, and nothing else."""

import gc
import hashlib
import multiprocessing
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.errors import (
    SegmentError,
    SegmentFault,
    StoreError,
)
from syncd.format.arrow import schema
from syncd.format.caps import Caps
from syncd.format.manifest import SegmentRef
from syncd.format.rows import Rows, sort_order
from syncd.format.segment import Segment
from syncd.format.writer import write_segment
from syncd.model import MAX_ENTRY_BYTES, MAX_LABEL_BYTES, Algorithm

MD5 = Algorithm.MD5
A, B, C = b"a" * 16, b"b" * 16, b"c" * 16
Kind = Any  # "base" or "delta"


def columns(
    digests: Sequence[bytes | None] = (A, B, C),
    entries: Sequence[str | None] = ("1", "2", "3"),
    codes: Sequence[int | None] = (0, 1, 0),
    labels: Sequence[str | None] = ("A", "B"),
    removed: Sequence[bool | None] | None = None,
) -> list[Any]:
    """The columns of three good rows, or of what the test wants instead."""
    label = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(labels, pa.utf8()), safe=False)
    arrays = [pa.array(digests, pa.binary(16)), pa.array(entries, pa.large_utf8()), label]
    return arrays if removed is None else [*arrays, pa.array(removed, pa.bool_())]


def arrow(arrays: list[Any], *, like: Any = None, batches: int = 1, **options: Any) -> bytes:
    """An Arrow file of these columns, with the schema of a base or delta unless told otherwise."""
    like = like or schema(MD5, "base" if len(arrays) == 3 else "delta")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, like, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for _ in range(batches):
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=like))
    return bytes(sink.getvalue())


def ref_of(content: bytes, kind: Kind = "base", rows: int = 3, removals: int = 0, algorithm: Algorithm = MD5) -> Any:
    return SegmentRef(
        sha256=hashlib.sha256(content).hexdigest(),
        length=len(content),
        algorithm=algorithm,
        kind=kind,
        rows=rows,
        removals=removals,
    )


def check(folder: Path, content: bytes, ref: SegmentRef | None = None, **facts: Any) -> Segment:
    """Check ``content`` under a reference that states its true hash and length."""
    path = folder / "seg.arrow"
    path.write_bytes(content)
    return Segment.check(path, ref or ref_of(content, **facts))


def refused(folder: Path, content: bytes, ref: SegmentRef | None = None, **facts: Any) -> SegmentError:
    with pytest.raises(SegmentError) as caught:
        check(folder, content, ref, **facts)
    assert caught.value.file == folder / "seg.arrow"
    assert str(caught.value).startswith("segment seg.arrow")
    return caught.value


def has(fault: SegmentFault) -> Callable[[SegmentError], bool]:
    return lambda error: error.fault is fault


def test_good_rows_pass(tmp_path):  # type: ignore[no-untyped-def]
    """What the tests below spoil is good before they spoil it."""
    segment = check(tmp_path, arrow(columns()))
    assert segment.row_range(B) == (1, 2)
    assert segment.entry_and_label(1) == ("2", "B")
    delta = columns(labels=["", "B"], removed=[True, False, True])
    assert check(tmp_path, arrow(delta), kind="delta", removals=2).removes(2)
    assert repr(segment) == "Segment(seg.arrow, base, 3 rows)"


ROW_FAULTS: dict[str, tuple[list[Any], SegmentFault, int | None, str]] = {
    "digests out of order": (columns(digests=[A, C, B]), SegmentFault.UNSORTED, 2, "out of order"),
    "entries of one digest out of order": (
        columns([A, B, B], ["1", "3", "2"]),
        SegmentFault.UNSORTED,
        2,
        "out of order",
    ),
    "the same row twice": (columns([A, A, B], ["1", "1", "2"]), SegmentFault.DUPLICATE_ROW, 1, "the row before"),
    "the same entry under two labels": (
        columns([A, B, B], ["1", "2", "2"]),
        SegmentFault.DUPLICATE_ROW,
        2,
        "the row before",
    ),
    "no digest": (columns(digests=[A, B, None]), SegmentFault.NULL_VALUE, 2, "missing digest"),
    "no entry": (columns(entries=["1", None, "3"]), SegmentFault.NULL_VALUE, 1, "missing entry"),
    "no label code": (columns(codes=[0, None, 1]), SegmentFault.NULL_VALUE, 1, "missing label"),
    "a label that is missing": (
        columns(codes=[0, 1, 0], labels=["A", None]),
        SegmentFault.NULL_VALUE,
        None,
        "dictionary",
    ),
    "no removal flag": (columns(removed=[False, False, None]), SegmentFault.NULL_VALUE, 2, "missing removed"),
    "a code beyond the labels": (columns(codes=[0, 1, 2]), SegmentFault.SCHEMA, 2, "out of range"),
    "a negative code": (columns(codes=[0, -1, 1]), SegmentFault.SCHEMA, 1, "out of range"),
    "a long entry": (columns(entries=["1", "é" * 129, "3"]), SegmentFault.SCHEMA, 1, "entry is longer than 256"),
    "a long label": (columns(labels=["A", "B" * 4097]), SegmentFault.SCHEMA, 1, "label is longer than 4096"),
    "labels out of order": (columns(labels=["B", "A"]), SegmentFault.SCHEMA, None, "sorted"),
    "a label twice": (columns(labels=["A", "A"]), SegmentFault.SCHEMA, None, "unique"),
    "an unused label": (columns(labels=["A", "B", "C"]), SegmentFault.SCHEMA, None, "not used by any row"),
}


@pytest.mark.parametrize("fault", ROW_FAULTS)
def test_a_faulty_row_is_named_by_its_number(tmp_path, fault):  # type: ignore[no-untyped-def]
    """Every fault of a row has its own error, which says where the first such row is and shows no value."""
    arrays, kind, row, reason = ROW_FAULTS[fault]
    error = refused(tmp_path, arrow(arrays), kind="base" if len(arrays) == 3 else "delta")
    assert (error.fault, error.row) == (kind, row)
    assert reason in str(error)
    assert ("" if row is None else f"row {row}:") in str(error)


def test_rows_are_counted_from_the_start_of_the_file(tmp_path, monkeypatch):  # type: ignore[no-untyped-def]
    """A fault far into a segment, beyond the first chunk of the check, is named by its row in the file."""
    monkeypatch.setattr("syncd.format.segment._CHUNK", 4)
    digests = [bytes([number]) * 16 for number in range(10)]
    entries, codes = ["e"] * 10, [0, 1] * 5
    unsorted = [*digests[:8], digests[9], digests[8]]
    assert refused(tmp_path, arrow(columns(unsorted, entries, codes)), rows=10).row == 9
    repeated = [*digests[:4], digests[3], *digests[5:]]  # the first row of a chunk repeats the last of the one before
    assert refused(tmp_path, arrow(columns(repeated, entries, codes)), rows=10).row == 4
    assert refused(tmp_path, arrow(columns(digests, [*["e"] * 9, "e" * 257], codes)), rows=10).row == 9
    assert len(check(tmp_path, arrow(columns(digests, ["e"] * 10, codes)), rows=10)) == 10


def test_text_that_is_not_utf8_is_named_by_its_row(tmp_path):  # type: ignore[no-untyped-def]
    """An entry, or a label, of bytes that are no UTF-8 is refused, also where two entries would join to good text."""
    good = arrow(columns(entries=["1", "xé", "3"], labels=["A", "Bé"]))
    entry = good.replace("1xé3".encode(), b"1x\xff\xff3")
    assert refused(tmp_path, entry).fault is SegmentFault.SCHEMA
    assert refused(tmp_path, entry).row == 1
    label = good.replace("ABé".encode(), b"AB\xff\xff")
    assert refused(tmp_path, label).fault is SegmentFault.SCHEMA
    split = arrow(columns(entries=["1x", "é", "3"]))
    offsets = struct.pack("<4q", 0, 2, 4, 5)
    assert split.count(offsets) == 1
    assert refused(tmp_path, split.replace(offsets, struct.pack("<4q", 0, 3, 4, 5))).row in {0, 1}


def test_removals(tmp_path):  # type: ignore[no-untyped-def]
    """Rows that remove: only in deltas, as many as the manifest says, and without a label."""
    labels = columns(codes=[0, 1, 1], labels=["", "B"], removed=[True, False, True])
    error = refused(tmp_path, arrow(labels), kind="delta", removals=2)
    assert error.fault is SegmentFault.SCHEMA
    assert (error.row, "''" in str(error)) == (2, True)
    delta = arrow(columns(codes=[0, 1, 0], labels=["", "B"], removed=[True, False, False]))
    assert refused(tmp_path, delta, kind="delta", removals=2).fault is SegmentFault.ROW_COUNT
    assert refused(tmp_path, delta, kind="delta", removals=0).fault is SegmentFault.ROW_COUNT
    assert refused(tmp_path, arrow(columns(removed=[False] * 3)), kind="base").fault is SegmentFault.REMOVAL_IN_BASE
    unlabelled = arrow(columns(removed=[False, True, False]))  # no row has the label "" at all
    assert refused(tmp_path, unlabelled, kind="delta", removals=1).row == 1


def test_the_manifest_states_hash_length_and_rows(tmp_path):  # type: ignore[no-untyped-def]
    """A segment with other bytes or rows than its manifest says is refused, whatever it holds."""
    content = arrow(columns())
    ref = ref_of(content)
    assert refused(tmp_path, content, ref.model_copy(update={"sha256": "0" * 64})).fault is SegmentFault.HASH
    assert refused(tmp_path, content + b"\0", ref).fault is SegmentFault.TRAILING_BYTES
    assert refused(tmp_path, content[:-1], ref).fault is SegmentFault.TRUNCATED
    assert refused(tmp_path, content, rows=2).fault is SegmentFault.ROW_COUNT
    assert refused(tmp_path, content, rows=4).fault is SegmentFault.ROW_COUNT
    empty = arrow(columns([], [], [], []))
    assert refused(tmp_path, empty, rows=0).fault is SegmentFault.ROW_COUNT


def test_caps(tmp_path):  # type: ignore[no-untyped-def]
    """More rows, bytes or labels than the reader accepts are refused: rows and bytes before the file is opened."""
    content = arrow(columns())
    path = tmp_path / "seg.arrow"
    with pytest.raises(SegmentError, match="3 rows in", check=has(SegmentFault.CAP)):
        Segment.check(path, ref_of(content), Caps(rows=2))
    with pytest.raises(SegmentError, match="accepts at most", check=has(SegmentFault.CAP)):
        Segment.check(path, ref_of(content), Caps(length=len(content) - 1))
    path.write_bytes(content)
    with pytest.raises(
        SegmentError, match="2 distinct labels; this reader accepts at most 1", check=has(SegmentFault.CAP)
    ):
        Segment.check(path, ref_of(content), Caps(labels=1))
    with pytest.raises(
        SegmentError, match="bytes of labels; this reader accepts at most 1", check=has(SegmentFault.CAP)
    ):
        Segment.check(path, ref_of(content), Caps(label_bytes=1))
    assert len(Segment.check(path, ref_of(content), Caps(rows=3, length=len(content), labels=2))) == 3


def test_longest_entry_and_label_pass(tmp_path):  # type: ignore[no-untyped-def]
    """The caps of entries and labels are inclusive, and count bytes."""
    arrays = columns(entries=["1", "é" * (MAX_ENTRY_BYTES // 2), "3"], labels=["A", "B" * MAX_LABEL_BYTES])
    assert len(check(tmp_path, arrow(arrays))) == 3


def test_a_missing_file_is_a_storage_error(tmp_path):  # type: ignore[no-untyped-def]
    """A segment that is not there is the disk's fault, not the partner's."""
    ref = ref_of(arrow(columns()))
    for method in (Segment.open, Segment.check):
        with pytest.raises(StoreError, match=r"none\.arrow is missing"):
            method(tmp_path / "none.arrow", ref)


def with_metadata(**changes: str) -> Any:
    good = schema(MD5, "base")
    metadata = {**good.metadata, **{f"syncd.{key}".encode(): value.encode() for key, value in changes.items()}}
    return good.with_metadata(metadata)


def with_field(number: int, field: Any) -> Any:
    return schema(MD5, "base").set(number, field)


def nullable(name: str) -> Any:
    return schema(MD5, "base").field(name).with_nullable(True)


SCHEMAS: dict[str, tuple[Callable[[], Any], SegmentFault]] = {
    "a later format": (lambda: with_metadata(format="2"), SegmentFault.FORMAT_VERSION),
    "no metadata": (lambda: schema(MD5, "base").remove_metadata(), SegmentFault.FORMAT_VERSION),
    "another algorithm": (lambda: with_metadata(algorithm="sha1"), SegmentFault.SCHEMA),
    "another kind": (lambda: with_metadata(kind="delta"), SegmentFault.SCHEMA),
    "more metadata": (lambda: with_metadata(list="images"), SegmentFault.SCHEMA),
    "a nullable digest": (lambda: with_field(0, nullable("digest")), SegmentFault.SCHEMA),
    "a nullable entry": (lambda: with_field(1, nullable("entry")), SegmentFault.SCHEMA),
    "another name": (lambda: with_field(1, pa.field("id", pa.large_utf8(), nullable=False)), SegmentFault.SCHEMA),
    "an ordered dictionary": (
        lambda: with_field(2, pa.field("label", pa.dictionary(pa.int32(), pa.utf8(), ordered=True), nullable=False)),
        SegmentFault.SCHEMA,
    ),
    "a column's metadata": (
        lambda: with_field(1, schema(MD5, "base").field(1).with_metadata({"x": "y"})),
        SegmentFault.SCHEMA,
    ),
}


@pytest.mark.parametrize("fault", SCHEMAS)
def test_any_other_schema_is_refused(tmp_path, fault):  # type: ignore[no-untyped-def]
    """Names, order, types, nullability and metadata are exactly those of format 1."""
    like, kind = SCHEMAS[fault]
    arrays = columns()
    if "ordered" in fault:
        arrays[2] = pa.DictionaryArray.from_arrays(arrays[2].indices, arrays[2].dictionary, ordered=True)
    assert refused(tmp_path, arrow(arrays, like=like())).fault is kind


def test_other_types_are_refused(tmp_path):  # type: ignore[no-untyped-def]
    """Columns that hold the same values under other Arrow types are refused, as are more and fewer columns."""
    good = columns()
    metadata = schema(MD5, "base").metadata
    plain = [good[0], good[1].cast(pa.utf8()), good[2]]
    binary = [good[0].cast(pa.binary()), good[1], good[2]]
    small_codes = [good[0], good[1], good[2].cast(pa.dictionary(pa.int8(), pa.utf8()))]
    for arrays in (plain, binary, small_codes, good[:2], [*good, good[1]]):
        fields = [pa.field(name, array.type, nullable=False) for name, array in zip("abcd", arrays, strict=False)]
        names = ["digest", "entry", "label", "more"]
        like = pa.schema([f.with_name(n) for f, n in zip(fields, names, strict=False)], metadata=metadata)
        assert refused(tmp_path, arrow(arrays, like=like)).fault is SegmentFault.SCHEMA


def test_digests_have_the_width_of_their_algorithm(tmp_path):  # type: ignore[no-untyped-def]
    """A digest column of another width has its own error, which gives both widths."""
    error = refused(tmp_path, arrow(columns()), algorithm=Algorithm.SHA1)
    assert error.fault is SegmentFault.WIDTH
    assert str(error) == "segment seg.arrow: digests of 16 bytes; sha1 digests have 20"
    same_width = Rows.build(Algorithm.PDQ, [b"p" * 32], [""], ["A"])
    ref = write_segment(tmp_path / "pdq.arrow", Algorithm.PDQ, "base", [same_width])
    assert ref is not None
    with pytest.raises(SegmentError, check=has(SegmentFault.SCHEMA)):
        Segment.check(tmp_path / "pdq.arrow", ref.model_copy(update={"algorithm": Algorithm.SHA256}))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_buffers_are_refused(tmp_path, codec):  # type: ignore[no-untyped-def]
    """A compressed segment, in the batch or in the dictionary, is refused: it cannot be mapped."""
    assert refused(tmp_path, arrow(columns(), compression=codec)).fault is SegmentFault.COMPRESSED


def test_one_batch_and_one_dictionary(tmp_path):  # type: ignore[no-untyped-def]
    """No batch, two batches, and dictionaries that grow by deltas are refused."""
    assert refused(tmp_path, arrow(columns(), batches=2), rows=6).fault is SegmentFault.SCHEMA
    assert refused(tmp_path, arrow(columns(), batches=0)).fault is SegmentFault.SCHEMA
    like = schema(MD5, "base")
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_file(sink, like, options=options) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns(codes=[0, 0, 0], labels=["A"]), schema=like))
        writer.write_batch(pa.RecordBatch.from_arrays(columns(), schema=like))
    assert refused(tmp_path, bytes(sink.getvalue()), rows=6).fault is SegmentFault.SCHEMA


def test_other_files_are_not_arrow(tmp_path):  # type: ignore[no-untyped-def]
    """An empty file, text, a bare magic number and an Arrow stream are refused without an exception of their own."""
    assert refused(tmp_path, b"").fault is SegmentFault.TRUNCATED
    assert refused(tmp_path, b"<html>404</html>").fault is SegmentFault.NOT_ARROW
    assert refused(tmp_path, b"ARROW1").fault is SegmentFault.NOT_ARROW
    assert refused(tmp_path, b"ARROW1\0\0ARROW1").fault is SegmentFault.NOT_ARROW
    assert refused(tmp_path, b"ARROW1\0\0" + b"\xff" * 400 + b"ARROW1").fault is SegmentFault.NOT_ARROW
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema(MD5, "base")) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns(), schema=schema(MD5, "base")))
    assert refused(tmp_path, bytes(sink.getvalue())).fault is SegmentFault.NOT_ARROW


def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path):  # type: ignore[no-untyped-def]
    """Every proper beginning of a segment is refused, even where the manifest vouches for it."""
    content = arrow(columns())
    for length in (*range(64), *range(64, len(content), 7), *range(len(content) - 16, len(content))):
        error = refused(tmp_path, content[:length])
        assert error.fault in {SegmentFault.TRUNCATED, SegmentFault.NOT_ARROW}, length
        if 8 < length < len(content) - 6:
            ended = refused(tmp_path, content[:length] + b"ARROW1")
            faults = {SegmentFault.NOT_ARROW, SegmentFault.TRAILING_BYTES, SegmentFault.SCHEMA}
            assert ended.fault in faults, length


def end_of_messages(content: bytes) -> int:
    return len(content) - 10 - int(struct.unpack_from("<i", content, len(content) - 10)[0])


def test_bytes_that_no_reader_sees_are_refused(tmp_path):  # type: ignore[no-untyped-def]
    """Bytes after the end, before the footer, or in a body but in no buffer are refused."""
    content = arrow(columns())
    end = end_of_messages(content)
    assert refused(tmp_path, content + b"more").fault is SegmentFault.TRUNCATED
    assert refused(tmp_path, content + b"moreARROW1").fault is SegmentFault.TRAILING_BYTES
    assert refused(tmp_path, content[:end] + b"hidden!!" + content[end:]).fault is SegmentFault.TRAILING_BYTES
    batch, body = batch_message(content)  # whose body now grows by 64 bytes that no buffer covers
    grown = bytearray(content[: end - 8] + b"h" * 64 + content[end - 8 :])
    for at in range(batch, len(grown) - 8):  # in the message, and in the footer's block
        if struct.unpack_from("<q", grown, at)[0] == body and at % 4 == 0:
            struct.pack_into("<q", grown, at, body + 64)
    error = refused(tmp_path, bytes(grown))
    assert error.fault is SegmentFault.TRAILING_BYTES
    assert "buffers" in str(error)


def batch_message(content: bytes) -> tuple[int, int]:
    """Where the record batch's message lies, and the length of its body."""
    position = 8
    for message in pa.ipc.MessageReader.open_stream(content[8:]):
        body = message.body.size if message.body else 0
        if message.type == "record batch":
            return position, body
        position += 8 + struct.unpack_from("<I", content, position + 4)[0] + body
    raise AssertionError


def test_walking_and_the_footer_must_agree(tmp_path):  # type: ignore[no-untyped-def]
    """A file whose footer and whose messages would give two readers two lists is refused."""
    content = arrow(columns())
    other = arrow(columns(), like=with_metadata(format="9"))
    swapped = other[: end_of_messages(other)] + content[end_of_messages(content) :]
    assert str(refused(tmp_path, swapped)).endswith(
        "the schema in the footer differs from the one in the first message"
    )
    longer = arrow(columns(entries=["1" * 8, "2" * 8, "3" * 8]))
    mixed = longer[: end_of_messages(longer)] + content[end_of_messages(content) :]
    assert str(refused(tmp_path, mixed)).endswith("the footer does not match the messages before it")


def test_what_the_container_states_of_itself(tmp_path):  # type: ignore[no-untyped-def]
    """A file that states big-endian, or that its one dictionary is a delta, would be mapped wrongly."""
    content = arrow(columns())
    places = (*range(8, 64), *range(450, 500))  # where the first tables of the two messages keep their offsets
    spoiled = [content[:at] + bytes([new]) + content[at + 1 :] for at in places for new in (1, 4)]
    reasons = " ".join({str(refused_or_none(tmp_path, mutant)) for mutant in spoiled})
    assert "big-endian" in reasons
    assert "a delta dictionary" in reasons


def test_other_metadata_in_the_container_is_refused(tmp_path):  # type: ignore[no-untyped-def]
    """Metadata version V4, and metadata on a message or in the footer, are refused."""
    old = arrow(columns(), metadata_version=pa.ipc.MetadataVersion.V4)
    assert "a message is not of metadata version V5" in str(refused(tmp_path, old))
    like = schema(MD5, "base")
    batch = pa.RecordBatch.from_arrays(columns(), schema=like)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, like) as writer:
        writer.write_batch(batch, custom_metadata={"x": "y"})
    assert "custom metadata" in str(refused(tmp_path, bytes(sink.getvalue())))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, like, metadata={"x": "y"}) as writer:
        writer.write_batch(batch)
    assert "footer" in str(refused(tmp_path, bytes(sink.getvalue())))


def test_opening_a_short_column_does_not_read_beyond_it(tmp_path):  # type: ignore[no-untyped-def]
    """Mapping a file whose digests are fewer than its rows is refused, also without the whole check."""
    content = arrow(columns())
    batch, _ = batch_message(content)
    digests = content.index(struct.pack("<qq", 0, 48), batch)
    short = content[:digests] + struct.pack("<qq", 0, 40) + content[digests + 16 :]
    (tmp_path / "seg.arrow").write_bytes(short)
    with pytest.raises(SegmentError, check=has(SegmentFault.NOT_ARROW)):
        Segment.open(tmp_path / "seg.arrow", ref_of(short))
    assert refused(tmp_path, short).fault is SegmentFault.NOT_ARROW


def refused_or_none(folder: Path, content: bytes) -> SegmentError | None:
    try:
        check(folder, content)
    except SegmentError as error:
        return error
    return None


DELTA = arrow(columns(entries=["", "é2", "3"], codes=[0, 1, 2], labels=["", "A", "B"], removed=[True, False, False]))


@given(at=st.integers(0, len(DELTA) - 1), flip=st.integers(1, 255))
def test_no_flipped_byte_passes(tmp_path_factory, at, flip):  # type: ignore[no-untyped-def]
    """A segment with any byte changed is refused by its hash."""
    spoiled = bytearray(DELTA)
    spoiled[at] ^= flip
    path = tmp_path_factory.mktemp("flip") / "seg.arrow"
    path.write_bytes(spoiled)
    with pytest.raises(SegmentError, check=has(SegmentFault.HASH)):
        Segment.check(path, ref_of(DELTA, "delta", removals=1))


def signed_garbage() -> Iterator[bytes]:
    """What a broken publisher might sign: bytes flipped, words overwritten, parts cut out or doubled."""
    chance = random.Random(1)  # the same mutants on every run
    for _ in range(2500):
        spoiled = bytearray(DELTA)
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            at = chance.randrange(len(spoiled))
            match chance.randrange(4):
                case 0:
                    spoiled[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
                case 1:
                    at = min(at & ~7, len(spoiled) - 8)
                    struct.pack_into("<q", spoiled, at, chance.choice([-1, -(2**63), 2**62, 8, 1 << 31, 4096]))
                case 2:
                    del spoiled[at : at + chance.randrange(1, 64)]
                case _:
                    spoiled[at:at] = spoiled[at : at + chance.randrange(1, 64)]
        yield bytes(spoiled)


def read_all(segment: Segment) -> None:
    """Read every value; what passed must hold to the format."""
    rows = segment.rows()
    entries, labels = rows.entries.to_pylist(), [segment.entry_and_label(row)[1] for row in range(len(segment))]
    keys = [(d.ljust(16, b"\0"), e.encode()) for d, e in zip(rows.digests.tolist(), entries, strict=True)]
    assert keys == sorted(set(keys))
    assert len(keys) == segment.ref.rows
    assert sum(segment.removes(row) for row in range(len(keys))) == segment.ref.removals
    assert all(label == "" for row, label in enumerate(labels) if segment.removes(row))


def judge_garbage(folder: Path, report: Any) -> None:
    for content in signed_garbage():
        try:
            read_all(check(folder, content, kind="delta", removals=1))
        except SegmentError:
            continue
        except BaseException as error:
            report.send(f"{type(error).__name__}: {error}")
            raise
    report.send("done")


def test_a_signed_but_damaged_segment_never_crashes_the_reader(tmp_path):  # type: ignore[no-untyped-def]
    """With its hash stated by the manifest, a damaged file is refused by a `SegmentError` or reads as format 1.

    In a child process: a reader that follows a bad offset dies of a signal.
    """
    receive, send = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(target=judge_garbage, args=(tmp_path, send))
    child.start()
    send.close()
    verdict = receive.recv() if receive.poll(100) else "no answer"
    child.join()
    receive.close()
    assert (verdict, child.exitcode) == ("done", 0)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WIDE = Algorithm.PHOTODNA
DIGESTS = st.one_of(
    st.binary(min_size=144, max_size=144),
    st.sampled_from([bytes(144), b"\0" * 143 + b"\1", b"\1" + bytes(143), b"\xff" * 144]),
)


@settings(max_examples=100, deadline=None)
@given(table=st.dictionaries(st.tuples(DIGESTS, TEXT), st.one_of(st.none(), TEXT), min_size=1, max_size=20))
def test_what_is_written_is_read(tmp_path_factory, table):  # type: ignore[no-untyped-def]
    """Writing and opening is the identity, for any text and any bytes, NULs and empty entries among them."""
    keys = sorted(table, key=lambda key: (key[0], key[1].encode()))
    removed = [table[key] is None for key in keys]
    digests, entries = [key[0] for key in keys], [key[1] for key in keys]
    rows = Rows.build(WIDE, digests, entries, [table[key] or "" for key in keys], removed)
    folder = tmp_path_factory.mktemp("identity")
    ref = write_segment(folder / "a.arrow", WIDE, "delta", [rows])
    assert ref is not None
    assert (ref.rows, ref.removals) == (len(keys), sum(removed))
    segment = Segment.check(folder / "a.arrow", ref)
    assert [segment.entry_and_label(row) for row in range(len(keys))] == [(k[1], table[k] or "") for k in keys]
    assert [bytes(segment.digests[row]).ljust(144, b"\0") for row in range(len(keys))] == digests
    assert [segment.removes(row) for row in range(len(keys))] == removed
    assert {digests[row] for row in range(*segment.row_range(digests[0]))} == {digests[0]}
    again = write_segment(folder / "b.arrow", WIDE, "delta", [rows.slice(n, n + 1) for n in range(len(rows))])
    assert again == ref


def test_the_writer_forgets_labels_that_no_row_uses(tmp_path):  # type: ignore[no-untyped-def]
    """The same rows give the same bytes, whatever dictionary they came with; a base drops rows that remove."""
    rows = Rows.build(MD5, [A, B, C], ["1", "2", "3"], ["A", "B", "Z"], [False, False, True])
    base = write_segment(tmp_path / "1.arrow", MD5, "base", [rows])
    plain = Rows.build(MD5, [B, A], ["2", "1"], ["B", "A"])
    assert base == write_segment(tmp_path / "2.arrow", MD5, "base", [plain.take(sort_order(plain))])
    assert base is not None
    assert Segment.check(tmp_path / "1.arrow", base).labels == ("A", "B")
    assert write_segment(tmp_path / "3.arrow", MD5, "delta", [rows.slice(0, 0)]) is None
    assert not (tmp_path / "3.arrow").exists()


def test_a_large_segment_that_nobody_holds_any_more_is_unmapped_at_once(tmp_path: Path) -> None:
    """No cycle of references keeps its pages, and the disk space of a removed file, until garbage is looked for."""
    digests = sorted(hashlib.md5(number.to_bytes(4, "big")).digest() for number in range(1 << 16))
    content = arrow(columns(digests, ["e"] * len(digests), [0] * len(digests), ["A"]))
    path = tmp_path / "large.arrow"
    path.write_bytes(content)
    segment = Segment.open(path, ref_of(content, rows=len(digests)))
    assert [segment.entries_of(one) for one in (digests[40_000], bytes(16))] == [[("e", "A")], []]
    assert str(path) in Path("/proc/self/maps").read_text()
    gc.disable()
    try:
        del segment
        assert str(path) not in Path("/proc/self/maps").read_text()
    finally:
        gc.enable()
