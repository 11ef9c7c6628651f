"""The end state's checksum against literal vectors and a plain-Python second opinion."""

from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from independent_reader import row_hash, word_of
from syncd.format import checksum as module
from syncd.format.checksum import Checksum, checksum
from syncd.format.rows import Rows, sort_order
from syncd.model import KNOWN_ALGORITHMS, Algorithm

EMPTY_MD5 = bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")
WORD_MD5 = 0x7C63C0621BF3BF3E
WORD_A1 = 0xD4D5FEF6866EA316
WORKED = "87ec17ac6fc922cc0d3a45366931a916"
SECOND = "e4b3d6204ccae4b82d41cc0480632c50"
BOTH = "6c9fedccbc9407843a7c113ae994d566"
LITERALS = {
    "md5 ": "2ecf4575f9afb9f4dd682fc7f269e217",
    "md5 1234567": "01e882208c79899437198ba05ecaecce",
    "md5 12345678": "a5c10fa6849c184226adb1a8f324c538",
    "md5 123456789": "ad153dd113fc10a31f65cd26e640f135",
    "sha1 ": "896534d8d955e036de25630168b94d58",
    "sha1 1234567": "b745c79545ca8533a3f8040c695b481f",
    "sha1 12345678": "ab36319f762d986c0e7bc059f6d7468e",
    "sha1 123456789": "56e8960691696df787a2b927b686ca3a",
    "sha256 ": "9fc7aefff4a178614e28696111348280",
    "sha256 1234567": "18d336da9ea5854e380d5dc8eb8c5c27",
    "sha256 12345678": "950ada17259009ee721767381b7057b5",
    "sha256 123456789": "68592681dfd6126c1ea7264eb5e0b9bb",
    "sha512 ": "09b8b79a4cf5a631741283f4caa28d3d",
    "sha512 1234567": "ca68dc9ae5b17efa1432411c3ee009fd",
    "sha512 12345678": "5ca4cfc3aa4d95f71a9cd41d7d91e421",
    "sha512 123456789": "e405042fcda83b7957883cb2f8f15bb9",
    "pdq ": "96702887d265b32114321e0a2f4acd2a",
    "pdq 1234567": "6442a765e9d35fecfb28d603b2ad9967",
    "pdq 12345678": "51e7299aa6635691fab15ff81785528e",
    "pdq 123456789": "fb88a80880f5abb3e4fd1264fe76077f",
    "photodna ": "55d1161e0eaedef64ad5f9cac2ca248b",
    "photodna 1234567": "2ce3c45ede37de1a3f095d95be26549a",
    "photodna 12345678": "3808bd1c26e15ba1f6b89d0d01017930",
    "photodna 123456789": "50b40c7c6567066e736f388b02c83154",
    "vpdq ": "85ac442615a740238c137f992afc8d96",
    "vpdq 1234567": "990d52e878c7285175f6f2f6f2f81d24",
    "vpdq 12345678": "569fb009a3b6d49fd8e91e2ee10119c6",
    "vpdq 123456789": "647e26ff9909365d25db1114b091b3fe",
}


def of(algorithm: Algorithm, digest: bytes, entry: str, label: str, removed: bool = False) -> str:
    return str(checksum(Rows.build(algorithm, [digest], [entry], [label], [removed])))


def test_the_worked_vector() -> None:
    """The example that docs/format.md works through, word by word."""
    assert word_of("md5") == module.word_of("md5") == WORD_MD5
    assert word_of("A1") == module.word_of("A1") == WORD_A1
    assert of(Algorithm.MD5, EMPTY_MD5, "entry-0001", "A1") == WORKED
    assert of(Algorithm.MD5, bytes(16), "", "") == SECOND
    both = Rows.build(Algorithm.MD5, [EMPTY_MD5, bytes(16)], ["entry-0001", ""], ["A1", ""])
    assert str(checksum(both)) == BOTH
    specification = (Path(__file__).parent.parent / "docs" / "format.md").read_text()
    assert all(text in specification for text in (WORKED, SECOND, BOTH, f"{WORD_MD5:016x}", f"{WORD_A1:016x}"))


def test_literal_vectors() -> None:
    """Checksums of single rows, written down once: every width, and entries around the eight bytes of a word."""
    found = {}
    for algorithm in KNOWN_ALGORITHMS:
        for entry in ("", "1234567", "12345678", "123456789"):
            digest = bytes(range(algorithm.width))
            found[f"{algorithm} {entry}"] = of(algorithm, digest, entry, "A1")
    assert found == LITERALS


def test_no_rows_sum_to_nought() -> None:
    """An empty list has the checksum of 32 zeros."""
    assert str(checksum(Rows.empty(Algorithm.SHA1))) == "0" * 32
    assert Checksum.parse("0" * 32) == Checksum()


def test_whether_a_row_removes_does_not_enter() -> None:
    """The checksum is of the entry, so that a removal can be looked up by what it removes."""
    args = (Algorithm.MD5, EMPTY_MD5, "e", "")
    assert of(*args, removed=True) == of(*args, removed=False)


def test_text_form() -> None:
    """The first lane comes first, each as 16 hexadecimal digits; sums wrap at 2^64 in each lane, without a carry."""
    largest = Checksum((1 << 64) - 1, (1 << 64) - 1)
    assert str(Checksum(1, 2)) == "00000000000000010000000000000002"
    assert Checksum.parse("00000000000000010000000000000002") == Checksum(1, 2)
    assert largest + Checksum(1, 1) == Checksum()
    assert Checksum() - Checksum(1, 1) == largest


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Algorithm, list[tuple[bytes, str, str]]]:
    algorithm = draw(st.sampled_from(KNOWN_ALGORITHMS))
    digest = st.binary(min_size=algorithm.width, max_size=algorithm.width)
    return algorithm, draw(st.lists(st.tuples(digest, TEXT, TEXT), min_size=1, max_size=20))


@given(table=tables())
@example(table=(Algorithm.SHA1, [(b"\xff" * 20, "", ""), (b"\0" * 20, "12345678", "é"), (b"\0" * 20, "123456789", "")]))
def test_the_sum_over_columns_is_the_sum_over_rows(table):  # type: ignore[no-untyped-def]
    """The vectorised sum equals one row at a time in plain Python, for every width, any text, in any split."""
    algorithm, rows = table
    expected = Checksum()
    for digest, entry, label in rows:
        expected += Checksum(*row_hash(algorithm, digest, entry, label))
    made = Rows.build(algorithm, *(list(column) for column in zip(*rows, strict=True)))
    assert checksum(made) == expected
    half = len(made) // 2
    assert checksum(made.slice(0, half)) + checksum(made.slice(half, len(made))) == expected


def test_chunks_do_not_show(monkeypatch):  # type: ignore[no-untyped-def]
    """Rows beyond one chunk of the vectorised sum are hashed as those in it."""
    rows = Rows.build(Algorithm.SHA1, [bytes([n]) * 20 for n in range(20)], [str(n) * n for n in range(20)], ["A"] * 20)
    whole = checksum(rows)
    monkeypatch.setattr(module, "_CHUNK", 7)
    assert checksum(rows) == whole


@given(table=tables())
def test_rows_sort_by_digest_then_entry_as_bytes(table):  # type: ignore[no-untyped-def]
    """Sorting is by bytes, digest first, then the UTF-8 of the entry; equal rows keep their order."""
    algorithm, rows = table
    made = Rows.build(algorithm, *(list(column) for column in zip(*rows, strict=True)))
    assert sort_order(made).tolist() == sorted(range(len(rows)), key=lambda n: (rows[n][0], rows[n][1].encode()))
