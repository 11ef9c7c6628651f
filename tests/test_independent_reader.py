"""syncd, the vectors and a reader that shares no code with syncd give one answer."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import independent_reader
from syncd.errors import ManifestError, RetiredList, SegmentError, SegmentFault
from syncd.feed.layout import manifest_path, segment_path
from syncd.format.canonical import canonical, read_canonical
from syncd.format.checksum import checksum
from syncd.format.delta import drop_empty, state_of
from syncd.format.manifest import Manifest, SegmentRef, encode, parse
from syncd.format.rows import Rows, sort_order
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.format.writer import write_segment
from syncd.matcher import Matcher
from syncd.model import Algorithm, Counts, Digest, ListName
from syncd.verify.copy import prove_copy

TESTS = Path(__file__).parent
VECTORS = TESTS / "vectors"
FEED = VECTORS / "feed"
LIST = ListName("example.images")
EXPECTED = json.loads((VECTORS / "expected.json").read_bytes())
VERSIONS = {int(version): sha256 for version, sha256 in EXPECTED["manifests"].items()}


def manifest(version: int) -> Manifest:
    content = (FEED / manifest_path(LIST, VERSIONS[version])).read_bytes()
    assert hashlib.sha256(content).hexdigest() == VERSIONS[version]
    return parse(content)


def segment(ref: SegmentRef) -> Segment:
    return Segment.check(FEED / segment_path(LIST, ref.sha256), ref)


def stack(made: Manifest, algorithm: Algorithm) -> Stack:
    return Stack(algorithm, [segment(ref) for ref in made.segments_of(algorithm)])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_vectors_are_what_the_script_makes(tmp_path):  # type: ignore[no-untyped-def]
    """Making the vectors and the manifests' JSON Schema again gives the same bytes, to the last segment."""
    subprocess.run([sys.executable, VECTORS / "make.py", tmp_path], check=True)
    made = files(tmp_path)
    schema = made.pop("manifest.schema.json")
    kept = {name: content for name, content in files(VECTORS).items() if not name.endswith((".py", ".pyc"))}
    assert made == kept
    assert schema == (TESTS.parent / "docs" / "manifest.schema.json").read_bytes()


@pytest.mark.parametrize("version", VERSIONS)
def test_stacks_give_the_expected_answers(version):  # type: ignore[no-untyped-def]
    """Every version's stack answers every look-up of the vectors as expected, and has the end state it states."""
    made = manifest(version)
    stacks = {algorithm: stack(made, algorithm) for algorithm in made.end_state}
    for text, by_version in EXPECTED["look_ups"].items():
        digest = Digest.parse(text)
        found = [list(pair) for pair in stacks[digest.algorithm].entries_of(digest.value)]
        assert found == by_version[str(version)], text
    for algorithm, state in made.end_state.items():
        assert state_of(stacks[algorithm].totals()) == state


@pytest.mark.parametrize("version", VERSIONS)
def test_the_independent_reader_gives_the_expected_answers(version):  # type: ignore[no-untyped-def]
    """A reader written from the specification proves every version and answers as expected."""
    lists = {str(LIST): independent_reader.read_list(FEED / "v1" / LIST, VERSIONS[version])}
    for text, by_version in EXPECTED["look_ups"].items():
        found = [[entry, label] for _, entry, label in independent_reader.look_up(lists, text)]
        assert found == by_version[str(version)], text


def test_literal_answers() -> None:
    """Some answers of the vectors, written down here: what they were made to show."""
    ones = "md5:" + "f" * 32
    zeros = "sha1:" + "0" * 40
    look_ups = EXPECTED["look_ups"]
    assert look_ups[ones] == {"1": [["e-6", "A1"]], "3": [["e-6", "B2"]], "4": [["e-6", "B2"]], "5": [["e-6", "B2"]]}
    long = ["an entry of more than sixteen bytes", "A1"]
    assert look_ups[zeros] == {
        "1": [long],
        "3": [long],
        "4": [["12345678", "A1"], long],
        "5": [["12345678", "A1"], long],
    }
    assert {version: made.rows for version in VERSIONS for made in [manifest(version)]} == {1: 28, 3: 28, 4: 32, 5: 32}
    assert manifest(5).end_state[Algorithm.MD5].checksum == MD5_END_STATE
    assert (sorted(VERSIONS), len(look_ups)) == ([1, 3, 4, 5], 36)


MD5_END_STATE = "bcc4d75b4e8af2e4547c4a2522b331ef"


@pytest.mark.parametrize("row", EXPECTED["rows"], ids=lambda row: f"{row['algorithm']}-{row['entry']!r}")
def test_row_checksums(row):  # type: ignore[no-untyped-def]
    """Both readers hash each row of the vectors to the expected checksum."""
    digest = bytes.fromhex(row["digest"])
    made = Rows.build(Algorithm(row["algorithm"]), [digest], [row["entry"]], [row["label"]])
    lanes = independent_reader.row_hash(row["algorithm"], digest, row["entry"], row["label"])
    assert str(checksum(made)) == row["checksum"] == "".join(f"{lane:016x}" for lane in lanes)


def test_steps_lead_from_version_to_version() -> None:
    """Each recent delta has the expected counts and leads from the end state before it to its own."""
    newest = manifest(5)
    assert [step.version for step in newest.recent] == [3, 4, 5]
    for before, step in zip((1, 3, 4), newest.recent, strict=True):
        assert step.previous.sha256 == VERSIONS[before]
        counts = {version: Counts(**counts) for version, counts in EXPECTED["counts"].items()}
        assert step.counts == {ref.algorithm: counts[str(step.version)] for ref in step.segments}
        for ref in step.segments:
            under = stack(manifest(before), ref.algorithm)
            effect = under.effect(segment(ref).rows())
            assert effect.counts == step.counts[ref.algorithm]
            assert str(under.totals().checksum + effect.change) == step.end_state[ref.algorithm].checksum


def test_folding_gives_the_stated_segment(tmp_path):  # type: ignore[no-untyped-def]
    """Whoever holds the inputs of a fold makes its output, byte for byte."""
    before, after = manifest(4), manifest(5)
    for fold in after.folds:
        (output,) = [ref for ref in after.stack if ref.sha256 == fold.output]
        inputs = before.segments_of(output.algorithm)
        assert tuple(ref.sha256 for ref in inputs) == fold.inputs
        made = write_segment(
            tmp_path / fold.output, output.algorithm, "base", stack(before, output.algorithm).effective(size=2)
        )
        assert made == output


def test_algorithms_that_no_reader_knows() -> None:
    """Unknown algorithms, an unknown field and labels of 4,096 bytes: both readers take them as they are."""
    vector = EXPECTED["open"]
    tables = {"example.open": independent_reader.read_list(FEED / "v1" / "example.open", vector["manifest"])}
    content = (FEED / manifest_path(ListName("example.open"), vector["manifest"])).read_bytes()
    assert b'"later":' in content
    made = parse(content)
    stacks = {}
    for algorithm in made.end_state:
        refs = made.segments_of(algorithm)
        paths = [FEED / segment_path(made.list, ref.sha256) for ref in refs]
        stacks[algorithm] = Stack(algorithm, [Segment.check(*pair) for pair in zip(paths, refs, strict=True)])
        assert state_of(stacks[algorithm].totals()) == made.end_state[algorithm]
    assert {algorithm: one.width for algorithm, one in stacks.items()} == {"tlsh2": 35, "vpdq": 33}
    for text, expected in vector["look_ups"].items():
        digest = Digest.parse(text)
        assert [list(pair) for pair in stacks[digest.algorithm].entries_of(digest.value)] == expected
        assert [[entry, label] for _, entry, label in independent_reader.look_up(tables, text)] == expected
    assert max(len(label) for found in vector["look_ups"].values() for _, label in found) == 4096
    assert (made.media, made.purpose, made.pinned) == ("video", "review", True)
    assert made.origin is not None
    assert (made.origin.kind, made.origin.whole, made.origin.answers) == ("stated", 6, "b" * 64)


@pytest.mark.parametrize("name", EXPECTED["refused"])
def test_both_readers_refuse_the_same_manifests(name):  # type: ignore[no-untyped-def]
    """An unknown critical feature, a form that is not canonical, a retired list with a stack, another format."""
    content = (VECTORS / "refused" / f"{name}.manifest.json").read_bytes()
    with pytest.raises(ManifestError):
        parse(content)
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it calls it
        independent_reader.read_manifest(content)


def test_both_readers_refuse_a_stack_of_two_widths() -> None:
    """Each segment is good; together they are not digests of one algorithm."""
    name, sha256 = ListName("example.mixed-widths"), EXPECTED["mixed_widths"]["manifest"]
    with pytest.raises(ValueError, match="one width"):
        independent_reader.read_list(FEED / "v1" / name, sha256)
    made = parse((FEED / manifest_path(name, sha256)).read_bytes())
    with pytest.raises(SegmentError) as caught:
        Stack(Algorithm("tlsh2"), [Segment.check(FEED / segment_path(name, ref.sha256), ref) for ref in made.stack])
    assert caught.value.fault is SegmentFault.WIDTH


def test_the_vectors_are_a_copy_that_a_matcher_opens(tmp_path):  # type: ignore[no-untyped-def]
    """Metadata, ``current.json`` and lists hold together; the retired list says since when, and is skipped."""
    copy = Path(shutil.copytree(FEED, tmp_path / "copy"))
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    matcher = Matcher.open(copy)
    assert matcher.versions == {"example.images": 4, "example.open": 1, "example.retired": 2}
    for text, by_version in EXPECTED["look_ups"].items():
        algorithm, _, digest = text.partition(":")
        assert [[hit.entry, hit.label] for hit in matcher.lookup(algorithm, digest)] == by_version["4"], text
    with pytest.raises(RetiredList):
        matcher.lookup("md5", "f" * 32, lists=["example.retired"])
    newest = matcher.generation.newest
    assert newest.publication is not None
    assert newest.audit is not None
    assert asdict(newest.publication) == EXPECTED["publication"]
    assert asdict(newest.audit) == EXPECTED["audit"]
    assert independent_reader.read_copy(copy).keys() == matcher.versions.keys()
    assert prove_copy(copy, None, datetime(2026, 1, 3, tzinfo=UTC)).faults == ()


def run(*arguments: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, TESTS / "independent_reader.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_reader_runs_as_a_program() -> None:
    """The independent reader prints what a pulled copy holds of a digest, and exits as ``syncd lookup`` does."""
    found = run(FEED, "pdq:" + "F" * 64)
    assert (found.returncode, found.stdout, found.stderr) == (0, "example.images\te-6\tB2\n", "")
    assert run(FEED, "pdq:" + "12" * 32).returncode == 10


def spoil(folder: Path, name: str) -> None:
    (path,) = [path for path in folder.rglob(name) if path.is_file()]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_independent_reader_proves_what_it_reads(tmp_path):  # type: ignore[no-untyped-def]
    """A changed segment, a changed manifest and a wrong end state are each noticed without syncd."""
    newest = manifest(4)
    for name, reason in ((f"{newest.stack[0].sha256}.arrow", "segment"), (f"{VERSIONS[4]}.manifest.json", "manifest")):
        shutil.copytree(FEED, tmp_path / reason)
        spoil(tmp_path / reason, name)
        with pytest.raises(ValueError, match=f"hash of (a|the) {reason}"):
            independent_reader.read_copy(tmp_path / reason)
    shutil.copytree(FEED, tmp_path / "drift")
    document = json.loads(encode(newest))
    document["end_state"]["md5"]["checksum"] = "0" * 32
    content = canonical(document)
    sha256 = hashlib.sha256(content).hexdigest()
    (tmp_path / "drift" / manifest_path(LIST, sha256)).write_bytes(content)
    with pytest.raises(ValueError, match="end state"):
        independent_reader.read_list(tmp_path / "drift" / "v1" / LIST, sha256)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\x7fé", max_size=3), inner),
    max_leaves=6,
)
LAYOUTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "sort_keys": st.booleans(),
        "ensure_ascii": st.booleans(),
        "separators": st.sampled_from([(",", ":"), (", ", ":")]),
    }
)


def outcome(read: Any, content: bytes) -> Any:
    try:
        return canonical(read(content))
    except ValueError:
        return None


@given(value=VALUES, layout=LAYOUTS, more=st.sampled_from(["", " ", "\n", "0"]))
def test_both_readers_agree_on_what_is_canonical(value, layout, more):  # type: ignore[no-untyped-def]
    """Any document is refused by both, or read by both as the same value, whose bytes it then has."""
    content = (json.dumps(value, **layout) + more).encode("utf-8", "surrogatepass")
    found = outcome(read_canonical, content)
    assert found in {None, content}
    assert outcome(independent_reader.read_json, content) == found


DIGESTS = st.sampled_from([bytes(20), b"\0" * 19 + b"\1", b"a" * 20, b"a" * 19 + b"\0", b"\xff" * 20])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
CHANGES = st.dictionaries(
    st.tuples(DIGESTS, TEXT | st.sampled_from(["", "e"])), st.none() | TEXT, min_size=1, max_size=8
)


def install(folder: Path, deltas: list[dict[tuple[bytes, str], str | None]]) -> tuple[Stack, str]:
    """Write a stack, its base from the first change, and the manifest over it."""
    name, refs = ListName("made"), []
    (folder / "v1" / name / "segments").mkdir(parents=True)
    for number, change in enumerate(deltas):
        rows = Rows.build(
            Algorithm.SHA1,
            [digest for digest, _ in change],
            [entry for _, entry in change],
            [label or "" for label in change.values()],
            [label is None for label in change.values()],
        )
        kind: Any = "delta" if number else "base"
        ref = write_segment(folder / "new", Algorithm.SHA1, kind, [rows.take(sort_order(rows))])
        if ref is not None:
            (folder / "new").rename(folder / segment_path(name, ref.sha256))
            refs.append(ref)
    made = Stack(Algorithm.SHA1, [Segment.check(folder / segment_path(name, ref.sha256), ref) for ref in refs])
    state = drop_empty({Algorithm.SHA1: state_of(made.totals())})
    created = manifest(1).created
    content = encode(Manifest(list=name, version=1, previous=None, created=created, end_state=state, stack=tuple(refs)))
    sha256 = hashlib.sha256(content).hexdigest()
    (folder / manifest_path(name, sha256)).write_bytes(content)
    return made, sha256


@settings(max_examples=40, deadline=None)
@given(deltas=st.lists(CHANGES, min_size=1, max_size=4))
def test_both_readers_agree_on_any_stack(tmp_path_factory, deltas):  # type: ignore[no-untyped-def]
    """Look-ups, row counts and checksums of a random stack are the same in both readers."""
    folder = tmp_path_factory.mktemp("made")
    made, sha256 = install(folder, deltas)
    lists = {"made": independent_reader.read_list(folder / "v1" / "made", sha256)}
    for digest in {digest for change in deltas for digest, _ in change} | {b"z" * 20}:
        found = independent_reader.look_up(lists, f"sha1:{digest.hex()}")
        assert [(entry, label) for _, entry, label in found] == made.entries_of(digest)
