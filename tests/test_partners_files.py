"""Files as partners export them: read if they are unambiguous, otherwise refused in words that fit the file."""

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import threading
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.errors import StoreError, UsageError
from syncd.listfile import ListFiles, LoadedRows, load_removals, load_rows
from syncd.listfile.beside import unchecked_signatures
from syncd.listfile.profile import Profile, chosen
from syncd.listfile.text import BLOCK

A, B, C = "2c411b752764ffe93fac8d6776f8bb2e", "27568ba18b2105a09a687371c974da20", "6ff23ccb0839caa485dc2761371c79c5"
SHA1 = "16222f7b09b4dfd6915812422ae62e81f5183c70"
SHA256 = "1d345f8e08f6c5fe20eded9b72860a9df52798c386ef82cc57672c0433f40ff9"
SHA512 = SHA256 * 2
PHOTODNA = bytes(range(1, 145))
PLAIN = f"algorithm,digest,entry,label\nmd5,{A},e1,A1\nmd5,{B},e2,A1\nmd5,{C},e3,A1\n"
THREE = {("md5", A, "e1", "A1"), ("md5", B, "e2", "A1"), ("md5", C, "e3", "A1")}
BARE = {("md5", A, "", ""), ("md5", B, "", ""), ("md5", C, "", "")}

Given = Callable[..., LoadedRows]
Row = tuple[str, str, str, str]


def rows(loaded: LoadedRows) -> set[Row]:
    """The rows of all segments."""
    found: set[Row] = set()
    for algorithm, segment in loaded.segments.items():
        held = segment.rows()
        for digest, entry, code in zip(held.digests, held.entries.to_pylist(), held.codes, strict=True):
            text = bytes(digest).ljust(algorithm.width, b"\0").hex()
            found.add((str(algorithm), text, entry, held.labels[code]))
    return found


@pytest.fixture
def given_file(tmp_path: Path) -> Given:
    """Write a file and read it; options are those of the command."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def read(content: str | bytes, name: str = "list.csv", **options: Any) -> LoadedRows:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load_rows(path, scratch, profile=chosen(**options))

    return read


def refusal(given_file: Given, content: str | bytes, name: str = "list.csv", **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        given_file(content, name, **options)
    assert not {A, B, C, SHA1} & set(caught.value.message.split())
    return caught.value.message


def zipped(*names: str, text: str = PLAIN) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, text)
    return stream.getvalue()


# --- streams


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode("utf-8-sig"),
        b"\xef\xbb\xbf" + PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.replace("\n", "\r\n").encode("utf-16"),
        PLAIN.encode("utf-16-le"),
        PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-32"),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        gzip.compress(PLAIN.encode()),
        gzip.compress(PLAIN.encode("utf-16")),
        gzip.compress(PLAIN[:40].encode()) + gzip.compress(PLAIN[40:].encode()),
        lzma.compress(PLAIN.encode()),
        bz2.compress(PLAIN.encode()),
        zipped("list.csv"),
        zipped("list.csv", "__MACOSX/._list.csv", ".DS_Store"),
        PLAIN.replace("\n", "\r").encode("utf-16"),
    ],
)
def test_encodings_and_compression_do_not_matter(content: bytes, given_file: Given) -> None:
    """The content is recognised by its first bytes, not by its name."""
    assert rows(given_file(content)) == THREE


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        (zipped("a.csv", "b.csv"), "a.zip", "a zip archive of 2 files; give one with a single list, or unpack it"),
        (zipped("[Content_Types].xml"), "a.zip", "a spreadsheet; save the sheet as CSV UTF-8"),
        (zipped("list.csv"), "a.xlsx", "a spreadsheet; save the sheet as CSV UTF-8"),
        (gzip.compress(PLAIN.encode())[:-12], "a.gz", "the compressed file is cut off or damaged; copy it again"),
        (lzma.compress(PLAIN.encode())[:-12], "a.xz", "the compressed file is cut off or damaged; copy it again"),
        (bz2.compress(PLAIN.encode())[:-12], "a.bz2", "the compressed file is cut off or damaged; copy it again"),
        (b"BZh9" + b"x" * 80, "a.bz2", "the compressed file is cut off or damaged; copy it again"),
        (zipped("list.csv")[:-30], "a.zip", "the compressed file is cut off or damaged; copy it again"),
        (PLAIN.encode("utf-16")[:-1], "a.csv", "not valid UTF-16; the file was cut off, or two encodings are mixed"),
        (b"%PDF-1.7 ...", "a.csv", "a PDF document; export the list as CSV"),
        (b"SQLite format 3\0", "a.db", "an SQLite database; export its table as CSV"),
        (b"\xd0\xcf\x11\xe0", "a.xls", "an Excel workbook (.xls); save the sheet as CSV UTF-8"),
        ("<!DOCTYPE html>\n<html></html>", "a.csv", "an HTML page, not a list"),
        ('<?xml version="1.0"?><queryResult/>', "a.xml", "an XML document; export the list as CSV or JSON"),
        (
            '{"type": "bundle", "objects": [{"type": "indicator"}]}',
            "a.json",
            "a STIX bundle; its patterns are not read",
        ),
        ('{"a": 1, "b": [2]}\n{', "a.json", "a.json, line 1, column -: unknown key"),
        ('{\n "a": 1\n}\n', "a.json", "a.json, item 1, column -: unknown key"),
        (b"\0" * 257 + b"ustar", "a.tar", "a tar archive; unpack it first"),
    ],
)
def test_files_of_other_kinds_are_named(content: str | bytes, name: str, reason: str, given_file: Given) -> None:
    """The cause is the kind of the file, or its damage: no message fits all."""
    assert reason in refusal(given_file, content, name)


def test_a_pipe_is_read(tmp_path: Path) -> None:
    """A pipe is written to the scratch folder first, so that bad lines can still be quoted."""
    pipe, scratch = tmp_path / "pipe", tmp_path / "scratch"
    scratch.mkdir()
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(PLAIN + f"md5,{A},e1,B\n"))
    writer.start()
    loaded = load_rows(pipe, scratch, skip_bad=tmp_path / "bad.csv")
    writer.join()
    assert (rows(loaded), loaded.skipped) == (THREE, 1)
    assert (tmp_path / "bad.csv").read_text().splitlines()[1] == (
        f'"pipe",5,label,"also on line 2 with another label","md5,{A},e1,B"'
    )


def test_standard_input_is_read_once_only() -> None:
    """Two files cannot both be standard input."""
    with pytest.raises(UsageError, match="standard input can be one file only"):
        ListFiles(add=Path("-"), remove=Path("-"))


def test_a_full_disk_while_unpacking_is_a_storage_fault(tmp_path: Path) -> None:
    """The scratch folder is named if the content cannot be written there."""
    path = tmp_path / "list.csv.gz"
    path.write_bytes(gzip.compress(PLAIN.encode()))
    with pytest.raises(StoreError, match="cannot unpack a list in"):
        load_rows(path, tmp_path / "missing")


@settings(max_examples=30, deadline=None)
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x1f\x8b", b"PK\3\4", b"\xff\xfe", b"[", b'{"a":[', b"BZh9", b"#"])
)
def test_no_content_ends_in_an_untyped_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, magic: bytes
) -> None:
    """Whatever the bytes are: rows, or an error for the person who gave the file."""
    folder = tmp_path_factory.mktemp("any")
    (folder / "any").write_bytes(magic + content)
    for profile in (Profile(), chosen(algorithm="md5"), chosen(profile="misp"), chosen(columns="md5=#1")):
        try:
            load_rows(folder / "any", folder, profile=profile)
        except UsageError:
            continue


# --- tables


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace("algorithm,digest,entry,label", "Algorithm, Digest , ENTRY,label"),
        " " + PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        "sep=;\r\n" + PLAIN.replace(",", ";"),
        "sep=,\n" + PLAIN,
        "# generated\n# rows: 3\n" + PLAIN,
        '#TYPE System.Management.Automation.PSCustomObject\n"'
        + PLAIN.replace("\n", '"\n').replace(",", '","')[:-1].replace("\nm", '\n"m'),
        PLAIN.replace(",", ", "),
        PLAIN.replace("\n", ",\n"),
        PLAIN.replace("A1\n", "A1,\n"),
        PLAIN + "\n\r\n\n",
        PLAIN + "\x1a",
        PLAIN + ",,,\r\n ,,,\r\n",
        PLAIN + "# rows: 3\n",
        PLAIN.replace(f"md5,{C}", f'# a "note", of two\nmd5,{C}'),
        "# x\n" * 40_000 + PLAIN,
        "\n" + PLAIN,
        PLAIN.replace("md5", "MD-5 ").replace(A, f"{A} ").replace(B, f" {B.upper()}"),
    ],
)
def test_what_programs_add_to_a_table_does_not_matter(text: str, given_file: Given) -> None:
    """Case and spaces of names, delimiters, comments on top, blank lines at the end, empty last columns."""
    assert rows(given_file(text)) == THREE


@pytest.mark.parametrize(
    ("spelled", "digest"),
    [("SHA-1", SHA1), ("sha_256", SHA256), ("SHA-256", SHA256), ("Sha-512", SHA512), ("PhotoDNA", PHOTODNA.hex())],
)
def test_algorithms_are_known_in_all_spellings(spelled: str, digest: str, given_file: Given) -> None:
    """Names of algorithms differ by dashes and case only."""
    ((algorithm, found, _, _),) = rows(given_file(f"algorithm,digest\n{spelled},{digest}\n"))
    assert (algorithm, found) == (spelled.lower().replace("-", "").replace("_", ""), digest)


def test_blank_lines_at_the_end_may_fill_blocks(given_file: Given) -> None:
    """The end of the rows is found from the end of the file, however far away."""
    assert rows(given_file(PLAIN + "\r\n" * 100_000)) == THREE


def test_a_blank_line_between_rows_is_still_a_fault(given_file: Given) -> None:
    """A row may be lost there."""
    assert "line 3, column -: empty line" in refusal(given_file, PLAIN.replace(f"md5,{B}", f"\nmd5,{B}"))


def test_lines_above_the_header_count(given_file: Given) -> None:
    """Line numbers are those of the file."""
    assert "line 5, column digest" in refusal(given_file, f"# a\n# b\nalgorithm;digest\nmd5;{A}\nmd5;12\n")


def test_a_value_under_an_unnamed_column_is_a_fault(given_file: Given) -> None:
    """A last column without a name is read if it is empty, and never dropped otherwise."""
    text = PLAIN.replace("\n", ",\n").replace("e2,A1,", "e2,A1,x")
    assert "line 3, column -: a value in a column without a name" in refusal(given_file, text)


# --- JSON

ITEMS = [{"algorithm": "md5", "digest": digest, "entry": at, "label": None} for at, digest in enumerate((A, B, C), 1)]
ITEM_ROWS = {("md5", A, "1", ""), ("md5", B, "2", ""), ("md5", C, "3", "")}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("".join(json.dumps(item) + "\n" for item in ITEMS), "a.ndjson"),
        ("".join(json.dumps(item) + "\n" for item in ITEMS), "a.csv"),
        (json.dumps(ITEMS), "a.json"),
        (json.dumps(ITEMS, indent=2), "a.json"),
        (json.dumps({"hashes": ITEMS}), "a.json"),
        ("\n".join(json.dumps(item, indent=2) for item in ITEMS), "a.json"),
        (json.dumps({"meta": {"n": [1, 2]}, "hashes": ITEMS, "empty": [], "tags": ["x"]}, indent=1), "a.json"),
        (json.dumps(ITEMS).replace('"digest"', '"Digest"'), "a.json"),
    ],
)
def test_json_of_any_layout_is_read(text: str, name: str, given_file: Given) -> None:
    """One object a line, an array, or an object with one list; numbers and null in entry and label."""
    assert rows(given_file(text, name)) == ITEM_ROWS


def test_items_of_a_document_are_counted(given_file: Given) -> None:
    """A document may be a single line: a fault names the item."""
    items = [*ITEMS, {"algorithm": "md5", "digest": "xyz"}]
    assert refusal(given_file, json.dumps(items), "a.json") == "a.json, item 4, column digest: not hexadecimal"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "not JSON, or cut off"),
        ("[" * 100_000, "not JSON, or cut off"),
        (json.dumps(ITEMS)[:-1], "not JSON: the document is cut off"),
        (json.dumps(ITEMS) + "x", "more text after the end of the document"),
        ("[1, 2]", "the array has items that are not objects"),
        (json.dumps([A]), "not objects; if they are digests, state their algorithm with --algorithm"),
        (json.dumps({"@odata.context": "x", "value": []}, indent=1), "item 1, column -: unknown key"),
        (json.dumps({"a": ITEMS, "b": ITEMS}), "a second list in the document"),
    ],
)
def test_a_damaged_document_is_named(text: str, reason: str, given_file: Given) -> None:
    """The cause is said, and nothing of the document is shown."""
    assert reason in refusal(given_file, text, "a.json")


def test_a_document_is_read_piece_by_piece(given_file: Given) -> None:
    """A document on one line may be longer than any line of a list may be."""
    items = [{"algorithm": "sha256", "digest": f"{at + 1:064x}", "entry": "é" * 60} for at in range(25_000)]
    text = json.dumps(items, ensure_ascii=False)
    assert len(text.encode()) > BLOCK
    assert given_file(text, "a.json").rows == 25_000


# --- base64


def test_base64_of_md5_and_photodna_is_read(given_file: Given) -> None:
    """Tools write PhotoDNA as base64, and some write MD5 so."""
    md5, photodna = (base64.b64encode(value).decode() for value in (bytes.fromhex(A), PHOTODNA))
    text = f"algorithm,digest\nmd5,{md5}\nPhotoDNA,{photodna}\nsha1,{SHA1}\n"
    assert rows(given_file(text)) == {
        ("md5", A, "", ""),
        ("photodna", PHOTODNA.hex(), "", ""),
        ("sha1", SHA1, "", ""),
    }


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_base64_and_hexadecimal_are_not_mixed(order: tuple[int, int], given_file: Given) -> None:
    """If some rows of an algorithm have another form, one of them may be damaged."""
    forms = (B, base64.b64encode(bytes.fromhex(A)).decode())
    text = "algorithm,digest\n" + "".join(f"md5,{forms[at]}\n" for at in order)
    assert "line 3, column digest: base64 in some rows and hexadecimal in others" in refusal(given_file, text)


def test_cut_hexadecimal_digits_are_not_taken_for_base64(given_file: Given) -> None:
    """192 of the 288 digits of a PhotoDNA are base64 by their alphabet: they are refused as what they are."""
    text = f"algorithm,digest\nphotodna,{PHOTODNA.hex()[:192]}\n"
    assert "192 hexadecimal digits; photodna has 288" in refusal(given_file, text)


# --- output of tools


@pytest.mark.parametrize(
    "text",
    [
        f"{A}\n{B}\n{C}\n",
        f"{A}\r\n{B.upper()}\r\n{C}",
        f"hash\n{A}\n{B}\n{C}\n",
        f"MD5\n{A}\n{B}\n{C}\n",
        f"digest\n{A}\n{B}\n{C}\n",
        f"# top\n{A}\n{B}\n{C}\n",
        f"{A}  ./img/1.jpg\n{B} *b c.jpg\n\\{C}  a\\nb.jpg\n",
        f"{A} img/1.jpg\n{B} 2.jpg\n{C} 3.jpg\n",
        f"MD5 (img/1.jpg) = {A}\nMD5 (a (1).jpg) = {B}\nMD5 (3.jpg) = {C}\n",
        f"MD5(1.jpg)= {A}\nMD5(2.jpg)= {B}\nMD5(3.jpg)= {C}\n",
        "".join(base64.b64encode(bytes.fromhex(digest)).decode() + "\n" for digest in (A, B, C)),
        f"{A}\n# two more\n{B}\n{C}\n# end\n",
        json.dumps([A, B, C]),
        json.dumps({"n": 3, "hashes": [A, B, C]}, indent=1),
    ],
)
def test_digests_of_tools_are_read_under_a_stated_algorithm(text: str, given_file: Given) -> None:
    """One digest a line, md5sum, BSD md5 with or without -r, openssl: without the names of files."""
    assert rows(given_file(text, "list", algorithm="MD5")) == BARE


def test_bsd_lines_state_their_algorithm(given_file: Given) -> None:
    """No option is needed if each line says it, and a contradicting option is refused."""
    text = f"MD5 (1.jpg) = {A}\nSHA1 (1.jpg) = {SHA1}\n"
    assert rows(given_file(text)) == {("md5", A, "", ""), ("sha1", SHA1, "", "")}
    text = f"SHA2-256(1.jpg)= {SHA256}\nSHA2-512(1.jpg)= {SHA512}\n"
    assert rows(given_file(text)) == {("sha256", SHA256, "", ""), ("sha512", SHA512, "", "")}
    text = f"MD5 (1.jpg) = {A}\nSHA1 (1.jpg) = {SHA1}\n"
    assert "line 2, column algorithm: not md5, as the command states" in refusal(given_file, text, algorithm="md5")


def test_hashdeep_is_read(given_file: Given) -> None:
    """Each column of a known algorithm is a row; names of files may have commas."""
    above = "%%%% HASHDEEP-1.0\n%%%% size,md5,tiger,sha1,filename\n## Invoked from: /\n## $ hashdeep -r .\n## \n"
    text = f"{above}12,{A},aa,{SHA1},/a, b.jpg\n13,{B},aa,,/c.jpg\n"
    assert rows(given_file(text)) == {("md5", A, "", ""), ("sha1", SHA1, "", ""), ("md5", B, "", "")}
    assert "line 6, column digest: 2 hexadecimal digits" in refusal(given_file, f"{above}1,00,aa,,/a\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{A}\n", "no header: one digest a line, of 32 characters; state its algorithm with --algorithm"),
        (f"hash\n{A}\n", "a column of digests: state their algorithm with --algorithm"),
        (f"{A}  ./1.jpg\n", "the output of md5sum or a similar tool: state its algorithm with --algorithm"),
        (f"{SHA1}:12\n", "digests with values after a colon: read them with --delimiter : --map digest=#1"),
        (f"md5,{A},e1\n", "no header, but a row: put the names of the columns"),
        (f'# "seen","md5_hash"\n"x","{A}"\n', "no header, but a comment that may name the columns"),
        (f"file_id,hash\n1,{A}\n", "name those to read: --map digest=hash --algorithm A"),
        (f"ID,SHA-1,MD5\n1,,{A}\n", "name those to read: --map md5=md5,sha1=sha1"),
        (
            f"Algorithm,Hash,Path\nMD5,{A},x\n",
            "to leave it out, name those to read: --map algorithm=algorithm,digest=hash",
        ),
        (f'{{"hash": "{A}", "kind": "md5"}}\n', "name those to read: --map digest=hash --algorithm A"),
        (f"MD5;SHA1;PhotoDNA;Image ID;Baseline\n{A};;;x;\n", "name those to read: --profile icse"),
    ],
)
def test_a_file_without_a_header_names_the_option_that_reads_it(text: str, reason: str, given_file: Given) -> None:
    """An algorithm is never guessed by its width; the refusal says how to state it."""
    assert reason in refusal(given_file, text)


def test_a_stated_algorithm_contradicts_a_column(given_file: Given) -> None:
    """A file with algorithms of its own needs none."""
    assert "has a column algorithm of its own" in refusal(given_file, PLAIN, algorithm="md5")
    message = refusal(given_file, f"SHA1,entry\n{SHA1},e\n", algorithm="md5")
    assert message == "the columns of list.csv are of sha1, not md5"


@pytest.mark.parametrize(
    "text",
    [
        f"MD5,SHA-1,Entry\n{A},{SHA1},e1\n{B},,e2\n",
        f"entry;sha1;md5\ne1;{SHA1};{A}\ne2;;{B}\n",
        json.dumps([{"MD5": A, "sha-1": SHA1, "entry": "e1"}, {"md5": B, "entry": "e2"}]),
        f'{{"md5": "{A}", "sha1": "{SHA1}", "entry": "e1"}}\n{{"md5": "{B}", "sha1": null, "entry": "e2"}}\n',
    ],
)
def test_columns_that_are_named_by_algorithms_need_no_map(text: str, given_file: Given) -> None:
    """Their names say all there is to say."""
    assert rows(given_file(text)) == {("md5", A, "e1", ""), ("sha1", SHA1, "e1", ""), ("md5", B, "e2", "")}


@pytest.mark.parametrize(
    "text",
    [f"md5,{A}\nSHA-1,{SHA1}\n", f"{A};md5\n{SHA1};sha1\n", f"MD5:{A}\nsha1:{SHA1}\n", f"md5, {A}\nsha1, {SHA1}\n"],
)
def test_pairs_of_algorithm_and_digest_need_no_header(text: str, given_file: Given) -> None:
    """Two columns can be nothing else; a third could be anything."""
    assert rows(given_file(text)) == {("md5", A, "", ""), ("sha1", SHA1, "", "")}
    assert "no header, but a row" in refusal(given_file, text.replace("\n", ",x\n"))


def test_a_wrong_algorithm_is_named_by_width(given_file: Given) -> None:
    """Digests of another width are refused."""
    message = refusal(given_file, f"{A}\n", algorithm="sha1")
    assert message.endswith("line 1, column digest: 32 hexadecimal digits; sha1 has 40")


# --- maps and profiles


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (f"ID;Hash;Category;x\n7;{A};2;y\n", {"columns": "digest=HASH,entry=ID,label=category", "algorithm": "md5"}),
        (f"ID,Kind,Hash,Category\n7,MD5,{A},2\n", {"columns": "algorithm=Kind,digest=Hash,entry=ID,label=Category"}),
        (f"ID,MD 5,Category\n7,{A},2\n", {"columns": "md5=md  5,entry=ID,label=Category"}),
        (f"{A}:7:2\n", {"columns": "md5=#1,entry=#2,label=#3", "delimiter": ":"}),
        (f'# "Seen", "H", "I", "C"\n"x, y", "{A}", "7", "2"\n', {"columns": "md5=H,entry=I,label=C"}),
        (f'{{"h": "{A}", "id": 7, "c": "2", "x": [1]}}\n', {"columns": "md5=H,entry=ID,label=C"}),
        (f'[{{"h": "{A}", "id": 7, "c": "2"}}]', {"columns": "digest=H,entry=ID,label=C", "algorithm": "md5"}),
    ],
)
def test_a_map_names_the_columns_to_read(text: str, options: dict[str, Any], given_file: Given) -> None:
    """By name or by number, in tables and in JSON; all others are left out."""
    assert rows(given_file(text, "list", **options)) == {("md5", A, "7", "2")}


def test_a_column_for_each_algorithm(given_file: Given) -> None:
    """A line makes a row for each column that is not empty; with none it is a bad row."""
    text = f"id,m,s\n1,{A},{SHA1}\n2,{B},\n"
    loaded = given_file(text, columns="md5=m,sha1=s,entry=id")
    assert rows(loaded) == {("md5", A, "1", ""), ("sha1", SHA1, "1", ""), ("md5", B, "2", "")}
    message = refusal(given_file, text + "3,,\n", columns="md5=m,sha1=s,entry=id")
    assert message.endswith("line 4, column digest: missing: every column of digests is empty")


def test_removals_by_a_mapped_entry(tmp_path: Path) -> None:
    """A map of the entry alone removes entries."""
    (tmp_path / "gone.csv").write_text("ID;x\n7;y\n8;z\n")
    loaded = load_removals(tmp_path / "gone.csv", tmp_path, profile=chosen(columns="entry=ID"))
    assert loaded.removals.entries == ("7", "8")


def test_a_profile_is_saved_in_a_file(tmp_path: Path, given_file: Given) -> None:
    """A file keeps what the options say; options replace its parts."""
    saved = tmp_path / "agency.toml"
    saved.write_text('delimiter = ";"\nalgorithm = "md5"\n[map]\ndigest = "MD5"\nentry = "ID"\n')
    text = f"ID;MD5\n7;{A}\n"
    assert rows(given_file(text, profile=str(saved))) == {("md5", A, "7", "")}
    assert rows(given_file(text.replace(";", "|"), profile=str(saved), delimiter="|")) == {("md5", A, "7", "")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": "digest"}, "--map is not NAME=COLUMN"),
        ({"columns": "hash=MD5"}, "'hash' in the map is not a column"),
        ({"columns": "digest="}, "'digest' in the map"),
        ({"columns": "digest=a,digest=b"}, "--map names a column twice"),
        ({"columns": "digest=a,md5=b"}, "one column for all digests, and columns for some algorithms"),
        ({"delimiter": ";;"}, "the delimiter is not a single character"),
        ({"delimiter": "a"}, "the delimiter is not a single character"),
        ({"algorithm": "sha3"}, "unknown algorithm 'sha3'"),
        ({"profile": "/none.toml"}, "cannot read profile /none.toml"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    """Before a file is opened."""
    with pytest.raises(UsageError, match=message):
        chosen(**options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x =", "not valid TOML"),
        ("maps = 1", "maps: unknown key"),
        ("map = 1", "map is not a table"),
        ("[map]\ndigest = 1", "a value is not a text"),
        ("delimiter = 5", "a value is not a text"),
    ],
)
def test_a_wrong_profile_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    """A profile that says something else is not half used."""
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        chosen(profile=str(tmp_path / "p.toml"))


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        (f"a,b\n{A},1\n", "digest=a", "does not say which algorithm the digests have"),
        (f"a,b\n{A},1\n", "md5=a,entry=c", "the header does not name the column c of the map"),
        (f"a,a\n{A},1\n", "md5=a", "line 1, column a: named twice"),
        (f"{A},1\n", "md5=#3", "2 columns, and the map names column 3"),
        (f"a,b\n{A},1\n", "md5=#1,entry=b", "both names and numbers"),
        (f"a,b\n{A},1\n", "entry=b", "the header must name algorithm and digest"),
    ],
)
def test_a_map_that_does_not_fit_is_named(text: str, columns: str, message: str, given_file: Given) -> None:
    """The file or the map is wrong: both are named."""
    assert message in refusal(given_file, text, columns=columns)


PDNA64 = base64.b64encode(PHOTODNA).decode()
VICS = {
    "@odata.context": "http://github.com/ICMEC/ProjectVic/DataModels/1.3.xml/US/$metadata#Media",
    "value": [
        {
            "MediaID": 1,
            "Category": 2,
            "MD5": A.upper(),
            "SHA1": SHA1.upper(),
            "MediaSize": 12,
            "Hashes": [{"HashName": "PhotoDNA", "HashValue": PDNA64}, {"HashName": "Other", "HashValue": "x"}],
        },
        {"MediaID": 2, "Category": 1, "MD5": B, "SHA1": None, "Hashes": []},
    ],
}
FILE = {"MD5": A.upper(), "FileName": "a.jpg", "FilePath": "C:\\x"}
MEDIA = {"MediaID": 1, "Category": 2, "MD5": A, "MediaSize": 12, "RelativeFilePath": "x", "MediaFiles": [FILE]}
CASE = {
    "@odata.context": "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/US/$metadata#Cases",
    "value": [
        {
            "CaseID": "9f1d",
            "CaseNumber": None,
            "Media": [
                {**MEDIA, "SHA1": SHA1, "PhotoDNA": PDNA64},
                {
                    "MediaID": 2,
                    "Category": 1,
                    "MD5": B,
                    "AlternativeHashes": [{"HashName": "PhotoDNA", "HashValue": PDNA64}],
                    "Exifs": [{"MD5": B, "PropertyName": "Make", "PropertyValue": "x"}],
                },
            ],
            "SourceApplicationName": "x",
        }
    ],
}
ATTRIBUTE = {"id": "1", "type": "md5", "category": "Payload delivery", "value": A, "uuid": "u1", "Event": {"id": "3"}}
PAIR = {"type": "filename|sha1", "category": "Payload delivery", "value": f"a|b.exe|{SHA1}", "uuid": "u2"}
ADDRESS = {"type": "ip-dst", "category": "Network activity", "value": "192.0.2.1", "uuid": "u3"}
REVOKED = {**ATTRIBUTE, "value": B, "uuid": "u4", "deleted": True}
SAMPLE = {**ATTRIBUTE, "type": "malware-sample", "value": f"a.exe|{C}", "uuid": "u5", "data": "eA==", "deleted": False}
OF_MISP = {("md5", A, "u1", "Payload delivery"), ("sha1", SHA1, "u2", "Payload delivery")}


@pytest.mark.parametrize(
    ("profile", "text", "expected"),
    [
        (
            "vics",
            json.dumps(VICS, indent=1),
            {
                ("md5", A, "1", "2"),
                ("sha1", SHA1, "1", "2"),
                ("photodna", PHOTODNA.hex(), "1", "2"),
                ("md5", B, "2", "1"),
            },
        ),
        (
            "vics",
            json.dumps(CASE),
            {
                ("md5", A, "1", "2"),
                ("sha1", SHA1, "1", "2"),
                ("photodna", PHOTODNA.hex(), "1", "2"),
                ("md5", B, "2", "1"),
                ("photodna", PHOTODNA.hex(), "2", "1"),
            },
        ),
        (
            "nsrl",
            f"sha256,sha1,md5,crc32,file_name,file_size,package_id\n{SHA256},{SHA1},{A},AABBCCDD,x.dll,12,3\n",
            {("md5", A), ("sha1", SHA1), ("sha256", SHA256)},
        ),
        (
            "icse",
            "MD5;SHA1;PhotoDNA;Image ID;Is distributed;Victim identified;Offender identified;Series name;"
            f"Number of submissions;File Available;Media Type;Baseline\n{A};;;ID1;Y;N;N;;1;True;Image;Yes;\n",
            {("md5", A, "ID1", "Yes")},
        ),
        (
            "nsrl",
            '"SHA-1","MD5","CRC32","FileName","FileSize","ProductCode","OpSystemCode","SpecialCode"\n'
            f'"{SHA1.upper()}","{A.upper()}","AABBCCDD","x, y.dll",12,3,"WIN",""\n',
            {("md5", A, "", ""), ("sha1", SHA1, "", "")},
        ),
        (
            "ICSE",
            "MD5;SHA1;ZZ40;PhotoDNA;Lace;Image ID;Is distributed;Media Type;Baseline\n"
            f"{A};{SHA1};00;{PHOTODNA.hex().upper()};eHh4;ID1;Y;Image;Yes;\n",
            {("md5", A, "ID1", "Yes"), ("sha1", SHA1, "ID1", "Yes"), ("photodna", PHOTODNA.hex(), "ID1", "Yes")},
        ),
        ("misp", json.dumps({"response": {"Attribute": [ATTRIBUTE, PAIR, ADDRESS]}}), OF_MISP),
        (
            "misp",
            json.dumps(
                {"response": [{"Event": {"Attribute": [ATTRIBUTE], "Object": [{"Attribute": [PAIR, ADDRESS]}]}}]}
            ),
            OF_MISP,
        ),
        (
            "misp",
            json.dumps({"Event": {"Attribute": [ATTRIBUTE], "Object": [{"Attribute": [PAIR]}]}}, indent=1),
            OF_MISP,
        ),
        (
            "misp",
            "uuid,event_id,category,type,value,comment,to_ids,date\n"
            f'u1,5,Payload delivery,md5,{A},"a, b",1,20260101\nu3,5,Network activity,ip-dst,192.0.2.1,,1,20260101\n',
            {("md5", A, "u1", "Payload delivery")},
        ),
        (
            "hashmyfiles",
            "Filename,MD5,SHA1,CRC32,SHA-256,SHA-512,SHA-384,Full Path\n"
            f'"a, b.jpg",{A},{SHA1},aa,{SHA256},{SHA512},,C:\\a.jpg\nc.jpg,{B},,,,,,C:\\c.jpg\n',
            {("md5", A), ("sha1", SHA1), ("sha256", SHA256), ("sha512", SHA512), ("md5", B)},
        ),
    ],
)
def test_ready_profiles_read_files_of_their_programs(
    profile: str, text: str, expected: set[tuple[str, ...]], given_file: Given
) -> None:
    """Synthetic files of the documented shapes."""
    found = rows(given_file(text, "list", profile=profile))
    assert found == {(*row, "", "")[:4] for row in expected}


@pytest.mark.parametrize("wrap", [lambda event: event, lambda event: {"response": [event]}])
def test_attributes_that_are_left_out_are_counted(
    wrap: Callable[[object], object], given_file: Given, tmp_path: Path
) -> None:
    """Those that are not digests, and those that MISP says are revoked: they are not actionable (MISP core format)."""
    objects = [{"name": "file", "Attribute": [SAMPLE]}]
    text = json.dumps(wrap({"Event": {"uuid": "e", "Attribute": [ATTRIBUTE, ADDRESS, REVOKED], "Object": objects}}))
    loaded = given_file(text, "event.json", profile="misp")
    assert rows(loaded) == {("md5", A, "u1", "Payload delivery"), ("md5", C, "u5", "Payload delivery")}
    assert (loaded.left_out, loaded.read) == (2, 2)
    counts: dict[Path, int] = {}
    (tmp_path / "batch").mkdir()
    files = ListFiles(add=tmp_path / "event.json", profile=chosen(profile="misp"))
    files.read(tmp_path / "batch", left_out=lambda path, number: counts.update({path: number}))
    assert counts == {tmp_path / "event.json": 2}


def test_a_case_of_any_size_is_read_piece_by_piece(given_file: Given) -> None:
    """A case of VICS is one object that contains all of its media."""
    media = [{"MediaID": at, "MD5": f"{at + 1:032x}", "Comments": "x" * 800} for at in range(25_000)]
    text = json.dumps({"value": [{"CaseID": 1, "Media": media}]})
    assert len(text) > 5 * BLOCK
    assert given_file(text, "case.json", profile="vics").rows == 25_000


def test_an_item_that_is_too_large_is_not_left_out(given_file: Given) -> None:
    """An attribute with an attachment of megabytes is refused by its size, not taken for a wrapper of others."""
    text = json.dumps({"response": {"Attribute": [{**SAMPLE, "data": "x" * (5 << 20)}]}})
    assert "an item longer than 4 MiB" in refusal(given_file, text, "a.json", profile="misp")


# --- checksums beside a file


def test_a_checksum_beside_the_file_is_checked(tmp_path: Path, given_file: Given) -> None:
    """A file that was cut off at a line end is refused if its checksum came with it."""
    beside = tmp_path / "list.csv.sha256"
    beside.write_text(sha256(PLAIN.encode()).hexdigest().upper() + " *list.csv\n")
    assert rows(given_file(PLAIN)) == THREE
    beside.write_text(f"SHA256 (list.csv) = {sha256(PLAIN.encode()).hexdigest()}\n")
    assert rows(given_file(PLAIN)) == THREE
    assert rows(given_file(PLAIN, "x" * 250)) == THREE
    cut = PLAIN[: PLAIN.index(f"md5,{C}")]
    assert "does not match the checksum in list.csv.sha256" in refusal(given_file, cut)
    beside.write_text("0" * 64 + "  other.csv\n")
    assert "list.csv.sha256 has no SHA-256 of this file" in refusal(given_file, PLAIN)


def test_a_signature_beside_the_file_is_mentioned(tmp_path: Path) -> None:
    """It needs a key that syncd does not have."""
    (tmp_path / "list.csv.sig").write_bytes(b"x")
    assert unchecked_signatures([tmp_path / "list.csv"], signer=False) == [tmp_path / "list.csv.sig"]
    assert unchecked_signatures([tmp_path / "list.csv"], signer=True) == []


def signing_keys() -> dict[str, Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey]:
    return {
        "ed25519": Ed25519PrivateKey.generate(),
        "ec": generate_private_key(SECP256R1()),
        "rsa": rsa.generate_private_key(65537, 2048),
    }


def signed(key: Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey, content: bytes) -> bytes:
    """Sign as openssl does."""
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(content)
    return (
        key.sign(content, PKCS1v15(), hashes.SHA256())
        if isinstance(key, RSAPrivateKey)
        else key.sign(content, ECDSA(hashes.SHA256()))
    )


@pytest.mark.parametrize("kind", ["ed25519", "ec", "rsa"])
def test_a_signature_is_checked_by_the_key_of_the_signer(kind: str, tmp_path: Path, given_file: Given) -> None:
    """By an option or by the profile, and as openssl writes it or in base64; no signature is none too."""
    key = signing_keys()[kind]
    pem, beside = tmp_path / "agency.pem", tmp_path / "list.csv.sig"
    pem.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "agency.toml").write_text('signer = "agency.pem"\n')
    assert "list.csv has no signature beside it" in refusal(given_file, PLAIN, signer=pem)
    for form in (lambda raw: raw, base64.encodebytes):
        beside.write_bytes(form(signed(key, PLAIN.encode())))
        assert rows(given_file(PLAIN, signer=pem)) == rows(given_file(PLAIN, profile=str(tmp_path / "agency.toml")))
    for content, options in ((PLAIN + "#", {"signer": pem}), ("", {"profile": str(tmp_path / "agency.toml")})):
        message = refusal(given_file, content, **options)
        assert "list.csv.sig is not a signature of list.csv by the key in agency.pem" in message


def test_a_key_of_a_signer_must_be_one(tmp_path: Path, given_file: Given) -> None:
    """A private key, a certificate or no key at all is named."""
    (tmp_path / "list.csv.sig").write_bytes(b"x")
    assert "cannot read" in refusal(given_file, PLAIN, signer=tmp_path / "none.pem")
    (tmp_path / "a.pem").write_text("-----BEGIN PUBLIC KEY-----\n")
    assert "a.pem is not a public key in PEM" in refusal(given_file, PLAIN, signer=tmp_path / "a.pem")
    other = X25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "a.pem").write_bytes(other)
    assert "a.pem is a key of another kind" in refusal(given_file, PLAIN, signer=tmp_path / "a.pem")
