"""The list files that a publisher gives, CSV or NDJSON."""

import csv
import errno
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syncd.errors import RowError, StoreError, UsageError
from syncd.format.batch import Removals
from syncd.format.buckets import Buckets
from syncd.format.rows import Rows
from syncd.format.segment import Segment
from syncd.listfile import LoadedRemovals, LoadedRows, load_removals, load_rows
from syncd.listfile.detect import parsed
from syncd.listfile.parsers import CsvParser
from syncd.listfile.text import BLOCK, Block, open_list
from syncd.listfile.values import NOT_UTF8, BadRow, Columns
from syncd.model import KNOWN_ALGORITHMS, Algorithm

MD5 = "11" * 16
SHA1 = "22" * 20
SHA256 = "33" * 32
PDQ = "44" * 32
HEADER = "algorithm,digest,entry,label\n"
SHEET = "a spreadsheet has changed it: export the list again from its source, with this column as text"
_WIDTH_30 = "30 hexadecimal digits; md5 has 32"
UNPAIRED = (
    "a quotation mark without its pair: a value has a line break or a single mark, or the file is cut off; "
    "a value cannot have line breaks, and a mark in it is doubled"
)
MISPLACED = "quotation marks inside a value that is not quoted: quote the value, and double each mark in it"
EMPTY = "empty line: rows may be missing; remove the line if none is"
_CUT = "values are missing, or the line is cut off"

Row = tuple[str, str, str, str]
Write = Callable[[str | bytes], Path]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def csv_file(tmp_path: Path) -> Write:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "list.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def ndjson_file(tmp_path: Path) -> Write:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "list.ndjson"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def flat(rows: Rows) -> list[tuple[str, str, str]]:
    width = rows.algorithm.width
    digests = [bytes(digest).ljust(width, b"\0").hex() for digest in rows.digests]
    return list(zip(digests, rows.entries.to_pylist(), [rows.labels[code] for code in rows.codes], strict=True))


def content(loaded: LoadedRows) -> dict[str, list[tuple[str, str, str]]]:
    """What was loaded, every segment proved against format 1 first."""
    for segment in loaded.segments.values():
        Segment.check(segment.path, segment.ref)
    return {str(algorithm): flat(segment.rows()) for algorithm, segment in loaded.segments.items()}


def as_csv(rows: list[Row], *, quoting: int = csv.QUOTE_MINIMAL, end: str = "\n") -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=quoting, lineterminator=end)  # type: ignore[arg-type] # a number is one
    writer.writerow(("algorithm", "digest", "entry", "label"))
    writer.writerows(rows)
    return stream.getvalue()


def as_ndjson(rows: list[Row], *, ascii_only: bool = False) -> str:
    names = ("algorithm", "digest", "entry", "label")
    return "".join(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=ascii_only) + "\n" for row in rows)


def fault(path: Path, scratch: Path) -> tuple[int, str, str]:
    """Line, column and reason for which a file is refused; nothing may be left in scratch."""
    with pytest.raises(RowError) as caught:
        load_rows(path, scratch)
    assert list(scratch.iterdir()) == []
    return caught.value.line, caught.value.column, caught.value.reason


def removal_fault(path: Path, scratch: Path) -> tuple[int, str, str]:
    with pytest.raises(RowError) as caught:
        load_removals(path, scratch)
    assert list(scratch.iterdir()) == []
    return caught.value.line, caught.value.column, caught.value.reason


# --- good files


def test_rows_come_out_sorted_by_digest_then_entry(csv_file: Write, scratch: Path) -> None:
    """Whatever the order of the file, a segment is sorted by (digest, entry), one segment an algorithm."""
    path = csv_file(HEADER + f"sha256,{'fe' * 32},b,B\nmd5,{MD5},,A\nsha256,{'fe' * 32},a,A\nsha256,{SHA256},c,\n")
    loaded = load_rows(path, scratch)
    assert content(loaded) == {
        "md5": [(MD5, "", "A")],
        "sha256": [(SHA256, "c", ""), ("fe" * 32, "a", "A"), ("fe" * 32, "b", "B")],
    }
    assert (loaded.rows, loaded.duplicates, loaded.skipped) == (4, 0, 0)


def test_columns_may_come_in_any_order_and_entry_and_label_may_be_absent(csv_file: Write, scratch: Path) -> None:
    """The header says which column is which."""
    assert content(load_rows(csv_file(f"digest,algorithm\n{MD5},md5\n"), scratch)) == {"md5": [(MD5, "", "")]}
    path = csv_file(f"label,digest,entry,algorithm\nA,{MD5},e1,md5\n")
    assert content(load_rows(path, scratch)) == {"md5": [(MD5, "e1", "A")]}


def test_upper_case_is_normalised(csv_file: Write, scratch: Path) -> None:
    """Upper-case hexadecimal, which once never matched anything, is read as what it means."""
    path = csv_file(f"algorithm,digest\nMD5,{'AB' * 16}\n")
    assert content(load_rows(path, scratch)) == {"md5": [("ab" * 16, "", "")]}


@pytest.mark.parametrize(
    "text",
    [
        f"algorithm,digest\nmd5,{MD5}\n",
        f"algorithm,digest\nmd5,{MD5}",
        f"algorithm,digest\r\nmd5,{MD5}\r\n",
        f"algorithm,digest\r\nmd5,{MD5}\r",
        f"\ufeffalgorithm,digest\nmd5,{MD5}\n",
        f'"algorithm","digest"\r\n"md5","{MD5}"\r\n',
    ],
)
def test_line_ends_byte_order_mark_and_quotes_do_not_matter(text: str, csv_file: Write, scratch: Path) -> None:
    """What spreadsheets add to a CSV file is no fault."""
    assert content(load_rows(csv_file(text), scratch)) == {"md5": [(MD5, "", "")]}


def test_values_are_kept_verbatim(csv_file: Write, scratch: Path) -> None:
    """No value is taken for a missing one, a number, a date or padding."""
    odd = ["NA", "null", "", "0012", "1e5", "true", " a ", "2024-01-01", 'say "x", y', "é", "N/A", "日本", "'", "\\n"]
    rows: list[Row] = [("md5", MD5, entry, entry) for entry in odd]
    expected = sorted(((MD5, entry, entry) for entry in odd), key=lambda row: row[1].encode())
    assert content(load_rows(csv_file(as_csv(rows)), scratch)) == {"md5": expected}


def test_identical_rows_are_collapsed_and_counted(csv_file: Write, scratch: Path) -> None:
    """Saying the same twice is no fault."""
    loaded = load_rows(csv_file(HEADER + f"md5,{MD5},e,A\n" * 3 + f"md5,{MD5},e2,A\n"), scratch)
    assert content(loaded) == {"md5": [(MD5, "e", "A"), (MD5, "e2", "A")]}
    assert (loaded.rows, loaded.duplicates) == (2, 2)


def test_a_file_of_a_header_alone_has_no_rows(csv_file: Write, scratch: Path) -> None:
    """An empty list is for the caller to judge."""
    assert load_rows(csv_file(HEADER), scratch) == LoadedRows(0, 0, 0, {})


def test_the_content_says_which_form_a_file_has(tmp_path: Path, scratch: Path) -> None:
    """A file that begins with '{' is JSON, whatever its name; a name only decides what is neither."""
    line = as_ndjson([("md5", MD5, "e", "A")])
    for name in ("a.jsonl", "a.NDJSON", "a.txt", "a"):
        (tmp_path / name).write_text(line)
        assert content(load_rows(tmp_path / name, scratch)) == {"md5": [(MD5, "e", "A")]}
    (tmp_path / "b").write_text(HEADER + f"md5,{MD5},e,A\n")
    assert content(load_rows(tmp_path / "b", scratch)) == {"md5": [(MD5, "e", "A")]}
    (tmp_path / "b").rename(tmp_path / "b.ndjson")
    assert content(load_rows(tmp_path / "b.ndjson", scratch)) == {"md5": [(MD5, "e", "A")]}
    (tmp_path / "a").rename(tmp_path / "a.csv")
    assert content(load_rows(tmp_path / "a.csv", scratch)) == {"md5": [(MD5, "e", "A")]}
    (tmp_path / "c.ndjson").write_text("text\n")
    with pytest.raises(RowError, match="line 1, column -: not JSON"):
        load_rows(tmp_path / "c.ndjson", scratch)


def test_progress_counts_bytes(csv_file: Write, scratch: Path) -> None:
    """Progress is told in bytes of the file, up to all of them."""
    told: list[tuple[int, int]] = []
    load_rows(csv_file(HEADER + f"md5,{MD5},e,A\n"), scratch, progress=lambda done, of: told.append((done, of)))
    assert told == [(70, 70)]


def test_a_file_of_many_blocks(csv_file: Write, scratch: Path) -> None:
    """A file longer than one block is read whole, and its last line has its own number."""
    digests = {random.Random(number).getrandbits(255) + 1 for number in range(55_000)}
    text = HEADER + "".join(f"pdq,{value:064x},entry-{value % 1000},A\n" for value in digests)
    assert len(text) > BLOCK
    loaded = load_rows(csv_file(text), scratch)
    assert [row[0] for row in content(loaded)["pdq"]] == [f"{value:064x}" for value in sorted(digests)]
    (found,) = scratch.iterdir()
    found.unlink()
    assert fault(csv_file(text + "pdq,00,,\n"), scratch) == (55_002, "digest", "2 hexadecimal digits; pdq has 64")


# --- any rows


def digests(algorithm: Algorithm) -> st.SearchStrategy[str]:
    some = st.binary(min_size=algorithm.width, max_size=algorithm.width)
    close = st.integers(1, 3).map(lambda value: value.to_bytes(algorithm.width, "big"))
    return st.one_of(some, close).filter(any).map(bytes.hex)


LETTERS = st.characters(exclude_categories=["Cc", "Cs"])
TEXTS = st.one_of(st.sampled_from(["", "A", "B", "A,B", '"', 'x"y', '""', " "]), st.text(LETTERS, max_size=8))
ROWS = st.lists(
    st.sampled_from(KNOWN_ALGORITHMS).flatmap(
        lambda algorithm: st.tuples(st.just(str(algorithm)), digests(algorithm), TEXTS, TEXTS)
    ),
    max_size=30,
    unique_by=lambda row: row[:3],
)


def sorted_by_python(rows: list[Row]) -> dict[str, list[tuple[str, str, str]]]:
    found: dict[str, list[tuple[str, str, str]]] = {}
    for algorithm, digest, entry, label in sorted(rows, key=lambda row: (row[0], row[1], row[2].encode())):
        found.setdefault(algorithm, []).append((digest, entry, label))
    return found


@settings(max_examples=60, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_any_rows_in_any_order_and_form_load_to_the_same_segments(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], chance: random.Random
) -> None:
    """Shuffled, repeated, quoted or not, CSV or NDJSON: the same rows are the same segments, as plain Python sorts."""
    folder = tmp_path_factory.mktemp("any")
    shuffled = rows + chance.sample(rows, len(rows) // 3)
    chance.shuffle(shuffled)
    forms = {
        "a.csv": as_csv(rows),
        "b.csv": as_csv(shuffled, quoting=csv.QUOTE_ALL, end="\r\n"),
        "c.ndjson": as_ndjson(shuffled) or "\n",
        "d.ndjson": as_ndjson(rows, ascii_only=True) or "\n",
    }
    for name, text in forms.items():
        (folder / name).write_bytes(text.encode())
        if text == "\n":
            continue
        loaded = load_rows(folder / name, folder)
        assert content(loaded) == sorted_by_python(rows)
        assert loaded.rows == len(rows)
        assert loaded.duplicates in {0, len(rows) // 3}


FRAGMENTS = st.sampled_from(
    [",", '"', '""', "\n", "\r", "\r\n", "\0", "\t", " ", "x", "é", "\x85", "\xa0", "\u2028", "md5", "pdq", MD5, "é,é"]
)
LINES = st.lists(
    st.one_of(
        st.just(f"md5,{MD5},e,A\n".encode()),
        st.just(f'"md5","{MD5}","a,""b","A"\r\n'.encode()),
        st.lists(FRAGMENTS, max_size=9).map(lambda found: "".join(found).encode() + b"\n"),
        st.binary(max_size=5),
    ),
    max_size=6,
).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(LINES, st.sampled_from([("algorithm", "digest", "entry", "label"), ("entry",), ("digest", "algorithm")]))
@example(b'md5,a,"b"c,d\n', ("algorithm", "digest", "entry", "label"))
@example(b'md5,a,b"c",d\n', ("algorithm", "digest", "entry", "label"))
@example(b'md5,a,"b,c\nd",e,f\n', ("algorithm", "digest", "entry", "label"))
@example(b"a\n\nb\n", ("entry",))
@example(b"a\r\n\r\nb\n", ("entry",))
@example(b"a\rb\n", ("entry",))
@example(b"a\xc2\x85b\n", ("entry",))
@example(b'"""a"\n', ("entry",))
def test_the_quick_way_reads_what_the_slow_way_reads(lines: bytes, header: tuple[str, ...]) -> None:
    """Where a block is read at once, reading it line by line finds the same rows, and none of them bad."""
    if not lines:
        return
    parser, block = CsvParser(header), Block(lines, 2)
    quick = parser.parse_fast(block)
    reported: list[int] = []
    slow = parser.parse_lines(block, lambda line, _fault, _text: reported.append(line))
    if quick is not None:
        assert reported == []
        assert [quick.row(number) for number in range(len(quick))] == [slow.row(number) for number in range(len(slow))]
        assert quick.lines.tolist() == slow.lines.tolist()
    found = {*reported, *slow.lines.tolist()}
    left = [line for line, text in enumerate(block.originals(), 2) if line not in found]
    assert all(block.originals()[line - 2].startswith(b"# ") for line in left), "only comments are left out"
    assert len(reported) + len(slow) + len(left) == block.lines


def test_good_blocks_are_read_the_quick_way() -> None:
    """Quoted values, other alphabets and CRLF need no slow reading."""
    parser = CsvParser(("algorithm", "digest", "entry", "label"))
    for line in (
        f"md5,{MD5},e,A\n",
        f'md5,{MD5},"a,""b""",A\r\n',
        f"md5,{MD5},日本é,A\n",
        "md5,,,\n",
        f"md5,{MD5},e,A",
    ):
        assert parser.parse_fast(Block(line.encode(), 1)) is not None


@pytest.mark.parametrize("size", [1, 7, 40, 64, 1000])
def test_blocks_are_whole_lines_wherever_the_file_is_cut(size: int, csv_file: Write) -> None:
    """The size of a block changes neither rows nor line numbers."""
    path = csv_file(HEADER + "".join(f"md5,{MD5},e{number},A\n" for number in range(20)) + "bad\n" + f"md5,{MD5},z,A")
    reported: list[tuple[int, BadRow, bytes]] = []
    with open_list(path, size) as source:
        parts = list(parsed(source, (frozenset(),), lambda *found: reported.append(found)))
        assert [block.first for block in source.blocks()][:2] in ([2, 3], [2, 4], [2])
    rows = [(int(line), columns.row(number)[2]) for _, columns in parts for number, line in enumerate(columns.lines)]
    assert rows == [*((number + 2, f"e{number}") for number in range(20)), (23, "z")]
    assert reported == [
        (22, BadRow("-", "1 columns; the header has 4: values are missing, or the line is cut off"), b"bad")
    ]


# --- bad files


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        (
            f"sha3,{MD5},,",
            "algorithm",
            "unknown algorithm; known algorithms: md5, sha1, sha256, sha512, pdq, photodna, vpdq",
        ),
        (f",{MD5},,", "algorithm", "missing"),
        (f"\xa0md5,{MD5},,", "algorithm", "white space around it that is not a plain space"),
        (f"'md5',{MD5},,", "algorithm", "quotation marks that are not those of CSV around it"),
        ("md5,,,", "digest", "missing"),
        (f"md5,{MD5[1:]},,", "digest", "31 hexadecimal digits; md5 has 32"),
        ("pdq," + "44" * 16 + ",,", "digest", "32 hexadecimal digits; pdq has 64"),
        ("pdq,00,,", "digest", "2 hexadecimal digits; pdq has 64"),
        ("photodna," + "44" * 32 + ",,", "digest", "64 hexadecimal digits; photodna has 288"),
        (f"md5,{MD5[:-1]}g,,", "digest", "not hexadecimal"),
        (f"md5,0x{MD5},,", "digest", "not hexadecimal: 0x before it; export it without"),
        (f"md5,'{MD5},,", "digest", "not hexadecimal: a quotation mark before or after it; export it without"),
        (f"md5,={MD5},,", "digest", "not hexadecimal: a formula of a spreadsheet; export the column as text"),
        ("md5,1.23457E+31,,", "digest", f"not hexadecimal: a number with an exponent; {SHEET}"),
        ("md5,0123456789,,", "digest", "10 hexadecimal digits; md5 has 32"),
        ("md5,123456789012345" + "0" * 15 + ",,", "digest", f"{_WIDTH_30}. It looks like a number; {SHEET}"),
        (
            "md5," + ":".join(["2c"] * 16) + ",,",
            "digest",
            "not hexadecimal: colons or dashes between the digits; export it without",
        ),
        (
            "sha1," + "+" * 27 + "=,,",
            "digest",
            "not hexadecimal: base64, which is read for md5 and photodna if all rows of the algorithm have it",
        ),
        (
            f"md5,{MD5[:-2]}é,,",
            "digest",
            "not hexadecimal: it contains the character U+00E9, which is not ASCII",
        ),
        (
            f"md5,\u200b{MD5},,",
            "digest",
            "not hexadecimal: it contains the character U+200B, which is not ASCII",
        ),
        (f"md5,{MD5[:-1]} ,,", "digest", "31 hexadecimal digits; md5 has 32"),
        ("md5," + "00" * 16 + ",,", "digest", "all zero"),
        ("photodna," + "00" * 144 + ",,", "digest", "all zero"),
        ("md5,d41d8cd98f00b204e9800998ecf8427e,,", "digest", "digest of an empty file"),
        ("sha1,DA39A3EE5E6B4B0D3255BFEF95601890AFD80709,,", "digest", "digest of an empty file"),
        (
            "sha256,e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855,,",
            "digest",
            "digest of an empty file",
        ),
        (
            "sha512,cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
            "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e,,",
            "digest",
            "digest of an empty file",
        ),
        (f"md5,{MD5},{'x' * 257},", "entry", "257 bytes of UTF-8; at most 256"),
        (f"md5,{MD5},{'é' * 129},", "entry", "258 bytes of UTF-8; at most 256"),
        (f"md5,{MD5},e,{'x' * 4097}", "label", "4097 bytes of UTF-8; at most 4096"),
        (f"md5,{MD5},a\tb,", "entry", "the control character U+0009"),
        (f"md5,{MD5},a\x7f,", "entry", "the control character U+007F"),
        (f"md5,{MD5},a\x85b,", "entry", "the control character U+0085"),
        (f"md5,{MD5},a\rb,", "entry", "the control character U+000D"),
        (f"md5,{MD5},,A\x1b", "label", "the control character U+001B"),
        (f"md5,{MD5},a\0,", "entry", "a NUL byte"),
        (f"md5,{MD5}", "-", f"2 columns; the header has 4: {_CUT}"),
        (f"md5,{MD5},e,A,", "-", "5 columns; the header has 4: the line ends in a delimiter"),
        (f"md5,{MD5},e,A,B", "-", "5 columns; the header has 4: a value with the delimiter in it must be quoted"),
        ("#md5,end", "-", f"2 columns; the header has 4: {_CUT}"),
        ("\0\0\0", "-", "NUL bytes only: the file was not written or copied completely"),
        ("", "-", EMPTY),
        ("  ", "-", f"1 columns; the header has 4: {_CUT}"),
        (
            f'md5,{MD5},"a,A',
            "-",
            UNPAIRED,
        ),
        (
            f'md5,{MD5},a"b",A',
            "-",
            MISPLACED,
        ),
        (
            f'md5,{MD5},"a"b,A',
            "-",
            MISPLACED,
        ),
        (f"md5,{MD5},e,B", "label", "also on line 2 with another label"),
    ],
)
def test_a_bad_row_is_named(
    line: str, column: str, reason: str, csv_file: Write, tmp_path: Path, scratch: Path
) -> None:
    """Every kind of bad row is refused with its line, column and reason, and set aside where that is asked."""
    good = [f"md5,{MD5},e,A", f"sha256,{SHA256},f,B"]
    path = csv_file("\n".join([HEADER.strip(), good[0], line, good[1], ""]))
    assert fault(path, scratch) == (3, column, reason)

    loaded = load_rows(path, scratch, skip_bad=tmp_path / "bad.csv")
    assert content(loaded) == {"md5": [(MD5, "e", "A")], "sha256": [(SHA256, "f", "B")]}
    assert (loaded.rows, loaded.duplicates, loaded.skipped) == (2, 0, 1)
    with (tmp_path / "bad.csv").open(newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["file", "line", "column", "reason", "original"],
            ["list.csv", "3", column, reason, line],
        ]


def test_the_message_of_a_bad_row_holds_no_value(csv_file: Write, scratch: Path) -> None:
    """A digest, entry or label never gets into an error, however deep one looks."""
    path = csv_file(HEADER + f"md5,{'5eC7e7' * 6},secret-entry,secret-label\n")
    with pytest.raises(RowError) as caught:
        load_rows(path, scratch)
    assert str(caught.value) == "list.csv, line 2, column digest: 36 hexadecimal digits; md5 has 32"
    assert caught.value.hint == "correct the file and publish it again; nothing was published"
    assert caught.value.__cause__ is None
    assert "secret" not in repr(caught.value)


def test_invalid_utf8_is_named_by_column(csv_file: Write, scratch: Path) -> None:
    """Bytes that are no UTF-8 are refused, not replaced."""
    path = csv_file(HEADER.encode() + f"md5,{MD5},caf".encode() + b"\xe9,A\n")
    assert fault(path, scratch) == (2, "entry", NOT_UTF8)


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("", "-", "empty file"),
        ("\ufeff", "-", "empty file"),
        (
            f"md5,{MD5},e,A\n",
            "-",
            "no header, but a row: put the names of the columns (algorithm,digest,entry,label) above it, or give their "
            "places, such as --map algorithm=#1,digest=#2,entry=#3,label=#4",
        ),
        ("x,y\n", "-", "no header; the first line must name the columns, out of algorithm, digest, entry, label"),
        ("\n", "-", "empty file"),
        (
            "algorithm,digest,id\n",
            "3",
            "unknown column; known columns: algorithm, digest, entry, label; to leave it out, name those to read: "
            "--map algorithm=algorithm,digest=digest",
        ),
        ("algorithm,digest,entry,entry\n", "entry", "named twice"),
        (
            "digest,entry\n",
            "-",
            "the header must name algorithm and digest; state the algorithm of all rows with --algorithm, "
            "or its column in --map",
        ),
    ],
)
def test_a_bad_header_is_named(text: str, column: str, reason: str, csv_file: Write, scratch: Path) -> None:
    """The header is checked before any row, and setting bad rows aside does not help it."""
    path = csv_file(text)
    assert fault(path, scratch) == (1, column, reason)
    with pytest.raises(RowError):
        load_rows(path, scratch, skip_bad=scratch / "bad.csv")


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        ("[]", "-", "not a JSON object"),
        ("null", "-", "not a JSON object"),
        ("{", "-", "not JSON"),
        ("{}{}", "-", "not JSON"),
        ("[" * 100_000, "-", "not JSON"),
        ("", "-", EMPTY),
        (" ", "-", "not JSON"),
        (
            '{"digests": "x"}',
            "-",
            "unknown key; known keys: algorithm, digest, entry, label; name those to read: "
            "--map digest=digests --algorithm A",
        ),
        ('{"algorithm": "md5", "digest": 5}', "digest", "a number, not a string: digits may be lost"),
        ('{"algorithm": "md5", "digest": null}', "digest", "missing"),
        ('{"algorithm": "md5", "digest": "' + MD5 + '", "entry": 1.5}', "entry", "not a string"),
        ('{"algorithm": "md5", "digest": "' + MD5 + '", "entry": true}', "entry", "not a string"),
        ('{"algorithm": {"digest": "x"}}', "algorithm", "not a string"),
        ('{"algorithm": "md5", "algorithm": "md5"}', "algorithm", "named twice"),
        ('{"algorithm": "md5", "digest": "' + MD5 + '", "entry": "\\u0000"}', "entry", "a NUL byte"),
        ('{"algorithm": "md5", "digest": "' + MD5 + '", "entry": "\\ud800"}', "entry", NOT_UTF8),
        ('{"algorithm": "md5", "digest": "' + MD5 + '", "label": "a\\nb"}', "label", "the control character U+000A"),
        ('{"algorithm": "md5"}', "digest", "missing"),
        ("{}", "algorithm", "missing"),
    ],
)
def test_a_bad_ndjson_line_is_named(line: str, column: str, reason: str, ndjson_file: Write, scratch: Path) -> None:
    """NDJSON lines must be objects of known keys and strings, by the same rules as CSV."""
    good = as_ndjson([("md5", MD5, "e", "A")])
    assert fault(ndjson_file(good + line + "\n" + good), scratch) == (2, column, reason)


def test_ndjson_bytes_that_are_no_utf8(ndjson_file: Write, scratch: Path) -> None:
    """Bytes that are no UTF-8 are refused in NDJSON too."""
    assert fault(ndjson_file(b'{"entry": "\xe9"}\n'), scratch) == (1, "-", NOT_UTF8)


def test_the_first_bad_line_is_named_whichever_is_found_first(csv_file: Write, scratch: Path) -> None:
    """A contradiction, known only after sorting, is named before a later bad row, and after an earlier one."""
    first, other, bad = f"md5,{MD5},e,A\n", f"md5,{MD5},e,B\n", "oops\n"
    assert fault(csv_file(HEADER + first + other + bad), scratch)[0] == 3
    assert fault(csv_file(HEADER + first + bad + other), scratch)[0] == 3
    wrong = "md5,00,,\n"
    assert fault(csv_file(HEADER + first + wrong + bad), scratch) == (3, "digest", "2 hexadecimal digits; md5 has 32")
    assert fault(csv_file(HEADER + first + bad + wrong), scratch) == (3, "-", f"1 columns; the header has 4: {_CUT}")


def test_of_rows_that_contradict_the_first_by_line_stands(csv_file: Write, tmp_path: Path, scratch: Path) -> None:
    """Which of two labels is kept does not depend on the order of sorting."""
    lines = [f"md5,{MD5},e,B", f"md5,{MD5},d,C", f"md5,{MD5},e,A", f"md5,{MD5},e,B", f"md5,{MD5},e,C", "x"]
    path = csv_file(HEADER + "\n".join(lines))
    loaded = load_rows(path, scratch, skip_bad=tmp_path / "bad.csv")
    assert content(loaded) == {"md5": [(MD5, "d", "C"), (MD5, "e", "B")]}
    assert (loaded.rows, loaded.duplicates, loaded.skipped) == (2, 1, 3)
    assert (tmp_path / "bad.csv").read_text() == (
        "file,line,column,reason,original\n"
        '"list.csv",7,-,"1 columns; the header has 4: values are missing, or the line is cut off","x"\n'
        f'"list.csv",4,label,"also on line 2 with another label","md5,{MD5},e,A"\n'
        f'"list.csv",6,label,"also on line 2 with another label","md5,{MD5},e,C"\n'
    )


def test_bad_rows_are_kept_verbatim_and_private(csv_file: Write, tmp_path: Path, scratch: Path) -> None:
    """The file of bad rows holds their bytes as they were, quotes doubled, and only its owner reads it."""
    bad = tmp_path / "bad.csv"
    bad.write_text("file,line,column,reason,original\nfrom yesterday")
    bad.chmod(0o644)
    load_rows(csv_file(HEADER.encode() + b'\xff"\0,a\r\n'), scratch, skip_bad=bad)
    assert bad.read_bytes() == (
        b'file,line,column,reason,original\n"list.csv",2,-,"' + MISPLACED.encode() + b'","\xff""\0,a"\n'
    )
    assert bad.stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_of_bad_rows_is_never_overwritten(csv_file: Write, tmp_path: Path, scratch: Path) -> None:
    """A slip of the hand costs neither the list nor a key."""
    path, key = csv_file(HEADER + "oops\n"), tmp_path / "lists-1.pem"
    key.write_text("a key")
    for target, content in ((path, HEADER + "oops\n"), (key, "a key")):
        with pytest.raises(UsageError, match="exists, and is not a file of bad rows"):
            load_rows(path, scratch, skip_bad=target)
        assert target.read_text() == content


def test_a_line_without_end_is_refused(csv_file: Write, scratch: Path) -> None:
    """A file that is no text does not fill the memory."""
    path = csv_file(HEADER + "x" * (BLOCK + 1) + "\n")
    assert fault(path, scratch) == (2, "-", "longer than 4194304 bytes; it may not be a list file")


def test_a_long_line_is_one_bad_row(csv_file: Write, tmp_path: Path, scratch: Path) -> None:
    """A line far longer than any row is set aside like others."""
    path = csv_file(HEADER + "x" * 200_000 + f"\nmd5,{MD5},e,A\n")
    loaded = load_rows(path, scratch, skip_bad=tmp_path / "bad.csv")
    assert (content(loaded), loaded.skipped) == ({"md5": [(MD5, "e", "A")]}, 1)


def test_files_that_cannot_be_read(tmp_path: Path, scratch: Path) -> None:
    """A wrong name, a folder or a device is a mistake of the command line."""
    with pytest.raises(UsageError, match=r"cannot read .*none.csv: No such file"):
        load_rows(tmp_path / "none.csv", scratch)
    with pytest.raises(UsageError, match="Is a directory"):
        load_rows(tmp_path, scratch)
    with pytest.raises(UsageError, match="is not a regular file or a pipe"):
        load_rows(Path("/dev/null"), scratch)


def test_a_list_that_is_still_being_written_is_refused(csv_file: Write, scratch: Path) -> None:
    """Half a list must not go out as a whole one."""
    path = csv_file(HEADER + f"md5,{MD5},e,A\n")

    def append(_done: int, _of: int) -> None:
        with path.open("a") as stream:
            stream.write(f"md5,{MD5},f,A\n")

    with pytest.raises(UsageError, match=r"list.csv changed while it was read"):
        load_rows(path, scratch, progress=append)
    assert list(scratch.iterdir()) == []


def test_a_full_disk_is_an_error_of_storage(
    csv_file: Write, scratch: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where scratch or the file of bad rows cannot be written, that is said, and nothing is left."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def never(*_: object) -> None:
        raise AssertionError("a device keeps its mode")

    path = csv_file(HEADER + f"md5,{MD5},e,A\noops\n")
    monkeypatch.setattr(os, "fchmod", never)
    with pytest.raises(StoreError, match=r"cannot write /dev/full: No space left on device"):
        load_rows(path, scratch, skip_bad=Path("/dev/full"))
    monkeypatch.undo()
    monkeypatch.setattr(Buckets, "add", full)
    with pytest.raises(StoreError, match=r"cannot sort rows in .*scratch: No space left on device") as caught:
        load_rows(path, scratch, skip_bad=tmp_path / "bad.csv")
    assert caught.value.hint.startswith("free disk space")
    assert list(scratch.iterdir()) == []


# --- sorting


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([b"\0", b"\x01", b"\x10", b"\xff"]), st.integers(0, 3), st.integers(0, 9)),
        min_size=1,
        max_size=60,
    ),
    st.integers(1, 4000),
)
def test_buckets_that_are_too_large_are_split(
    tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[bytes, int, int]], in_memory: int
) -> None:
    """Digests with long common beginnings, as perceptual ones have, come out sorted whatever the memory."""
    values = [middle.rjust(20, b"\0") + bytes(8) + bytes([last]) + bytes(3) for middle, last, _ in keys]
    entries = [f"e{entry}" for _, _, entry in keys]
    rows = Rows.build(Algorithm.PDQ, values, entries, ["A"] * len(keys))
    lines = np.arange(len(keys), dtype=np.int64)
    with Buckets(tmp_path_factory.mktemp("buckets"), Algorithm.PDQ, in_memory=in_memory) as buckets:
        for number in range(len(keys)):
            some = slice(number, number + 1)
            buckets.add(rows.digests[some], rows.entries.slice(number, 1), rows.codes[some], lines[some])
        found = list(buckets.sorted_rows(("A",)))
    expected = sorted({(value.hex(), entry, "A") for value, entry in zip(values, entries, strict=True)})
    assert [row for settled in found for row in flat(settled.rows)] == expected
    assert sum(settled.duplicates for settled in found) == len(keys) - len(expected)


# --- removals


def shown(removals: LoadedRemovals) -> dict[str, object]:
    named = removals.removals
    assert all(rows.removed.all() and set(rows.labels) == {""} for rows in named.exact.values())
    return {
        "exact": {str(algorithm): [row[:2] for row in flat(rows)] for algorithm, rows in named.exact.items()},
        "digests": {
            str(algorithm): [bytes(digest).ljust(algorithm.width, b"\0").hex() for digest in found]
            for algorithm, found in named.digests.items()
        },
        "entries": named.entries,
        "under": {str(algorithm): found for algorithm, found in named.entries_under.items()},
        "counts": (removals.rows, removals.duplicates, removals.skipped),
    }


REMOVALS: list[Row] = [
    ("sha256", "ff" * 32, "e2", "A"),
    ("sha256", SHA256, "e1", "whatever"),
    ("sha256", SHA256, "e1", "other"),
    ("sha256", SHA256, "", ""),
    ("pdq", PDQ, "", ""),
    ("pdq", PDQ, "", "A"),
    ("", "", "e9", ""),
    ("", "", "e8", ""),
    ("", "", "e9", ""),
    ("md5", "", "e9", ""),
]


@pytest.mark.parametrize(("name", "form"), [("r.csv", as_csv), ("r.ndjson", as_ndjson)])
def test_what_a_removal_removes(name: str, form: Callable[[list[Row]], str], tmp_path: Path, scratch: Path) -> None:
    """Digest and entry name one row, a digest all its entries, an entry itself under one algorithm or all."""
    (tmp_path / name).write_text(form(REMOVALS))
    assert shown(load_removals(tmp_path / name, scratch)) == {
        "exact": {"sha256": [(SHA256, "e1"), ("ff" * 32, "e2")]},
        "digests": {"pdq": [PDQ], "sha256": [SHA256]},
        "entries": ("e8", "e9"),
        "under": {"md5": ("e9",)},
        "counts": (7, 3, 0),
    }


def test_an_exact_removal_takes_only_the_entry_without_an_id(csv_file: Write, scratch: Path) -> None:
    """Other entries of the digest stay; whether the file has the column makes no difference."""
    for text in (f"algorithm,digest,entry\nmd5,{MD5},\n", f"algorithm,digest\nmd5,{MD5}\n"):
        shutil.rmtree(scratch)
        scratch.mkdir()
        found = shown(load_removals(csv_file(text), scratch, exact=True))
        assert (found["exact"], found["digests"]) == ({"md5": [(MD5, "")]}, {})


def test_removals_by_entry_need_no_other_column(csv_file: Write, scratch: Path) -> None:
    """A deletion often carries only the entry."""
    removals = load_removals(csv_file("entry\ne2\ne1\n"), scratch)
    assert removals.removals == Removals(entries=("e1", "e2"))


def test_removals_by_digest_need_no_entry_column(csv_file: Write, scratch: Path) -> None:
    """A file without the column removes all entries of each digest."""
    removals = load_removals(csv_file(f"algorithm,digest\nmd5,{MD5.upper()}\n"), scratch)
    assert shown(removals)["digests"] == {"md5": [MD5]}


def test_what_may_not_be_added_may_be_removed(csv_file: Write, scratch: Path) -> None:
    """A harmless digest that got onto a list once can be taken off it."""
    text = "algorithm,digest\nmd5,d41d8cd98f00b204e9800998ecf8427e\npdq," + "00" * 32 + "\n"
    expected = {"md5": ["d41d8cd98f00b204e9800998ecf8427e"], "pdq": ["00" * 32]}
    assert shown(load_removals(csv_file(text), scratch))["digests"] == expected


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        (",,,", "digest", "missing, and so is the entry"),
        ("md5,,,A", "digest", "missing, and so is the entry"),
        (f",{MD5},,", "algorithm", "missing"),
        (f",{MD5},e,", "algorithm", "missing"),
        (
            "sha3,,e,",
            "algorithm",
            "unknown algorithm; known algorithms: md5, sha1, sha256, sha512, pdq, photodna, vpdq",
        ),
        ("md5,00,e,", "digest", "2 hexadecimal digits; md5 has 32"),
        (f"md5,{MD5[1:]}x,e,", "digest", "not hexadecimal"),
        (f",,{'e' * 257},", "entry", "257 bytes of UTF-8; at most 256"),
        (f"md5,{MD5},{'e' * 257},", "entry", "257 bytes of UTF-8; at most 256"),
        (",,a\tb,", "entry", "the control character U+0009"),
    ],
)
def test_a_bad_removal_is_named(
    line: str, column: str, reason: str, csv_file: Write, tmp_path: Path, scratch: Path
) -> None:
    """A removal that names nothing, or badly, is refused like a bad addition, and set aside like one."""
    path = csv_file(HEADER + f"md5,{MD5},e,\n{line}\n,,f,\n")
    assert removal_fault(path, scratch) == (3, column, reason)
    removals = load_removals(path, scratch, skip_bad=tmp_path / "bad.csv")
    assert (removals.rows, removals.skipped, removals.removals.entries) == (2, 1, ("f",))


def test_a_header_of_removals_must_name_something_to_remove(csv_file: Write, scratch: Path) -> None:
    """A digest without its algorithm cannot be looked up."""
    advice = "state the algorithm of all rows with --algorithm, or its column in --map"
    expected = (1, "-", f"the header must name algorithm and digest or entry; {advice}")
    assert removal_fault(csv_file(f"digest,label\n{MD5},A\n"), scratch) == expected


def test_no_repr_shows_a_row() -> None:
    """What may end in a log says how many, not which."""
    columns = Columns.from_rows([("md5", MD5, "secret", "A")], np.array([2]))
    assert repr(columns) == "Columns(1 rows)"
