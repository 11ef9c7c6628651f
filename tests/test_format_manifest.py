"""Manifests: what is written is read, and what is not exactly a manifest is refused."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import ManifestError
from syncd.format.manifest import (
    MAX_MANIFEST_BYTES,
    RECENT,
    EndState,
    Manifest,
    ManifestRef,
    SegmentRef,
    Step,
    canonical,
    encode,
    now_in_seconds,
    parse,
)
from syncd.model import LIST_NAME, Algorithm, Counts, ListName

Json = dict[str, Any]
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NONE = "0" * 32


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def manifest_ref(version: int) -> ManifestRef:
    return ManifestRef(version=version, sha256=sha(f"manifest {version}"))


def segment_ref(name: str, kind: Any = "delta", algorithm: Algorithm = Algorithm.MD5, removals: int = 0) -> SegmentRef:
    return SegmentRef(sha256=sha(name), length=1000, algorithm=algorithm, kind=kind, rows=5, removals=removals)


def state(rows: int) -> dict[Algorithm, EndState]:
    return {Algorithm.MD5: EndState(rows=rows, checksum=f"{rows:032x}")}


def step(version: int, previous: int) -> Step:
    counts = {Algorithm.MD5: Counts(added=5)}
    segments = (segment_ref(f"delta {version}"),)
    return Step(
        version=version, previous=manifest_ref(previous), segments=segments, counts=counts, end_state=state(version)
    )


def manifest() -> Manifest:
    """Version 9 of a list whose versions were 2, 5, 6 and 9."""
    return Manifest(
        list=ListName("images"),
        version=9,
        previous=manifest_ref(6),
        created=CREATED,
        end_state=state(9),
        stack=(segment_ref("base", "base"), *(segment_ref(f"delta {version}") for version in (5, 6, 9))),
        recent=(step(5, 2), step(6, 5), step(9, 6)),
    )


def document() -> Json:
    decoded: Json = json.loads(encode(manifest()))
    return decoded


def test_the_smallest_manifest_is_this() -> None:
    """The bytes of a manifest are canonical JSON, every field present, times in whole seconds of UTC."""
    first = Manifest(list=ListName("a"), version=1, previous=None, created=CREATED, end_state={}, stack=())
    assert encode(first) == (
        b'{"created":"2026-01-02T03:04:05Z","end_state":{},"folds":[],"format":1,"list":"a","min_root":1,'
        b'"origin":null,"previous":null,"recent":[],"stack":[],"version":1}'
    )
    assert parse(encode(first)) == first


REFS = st.builds(
    ManifestRef, version=st.integers(1, 2**53 - 1), sha256=st.binary(min_size=32, max_size=32).map(bytes.hex)
)


@given(
    name=st.from_regex(LIST_NAME, fullmatch=True).filter(str.isascii),
    previous=st.none() | REFS,
    created=st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - made aware
    rows=st.integers(1, 2**53 - 1),
    algorithm=st.sampled_from(Algorithm),
)
def test_what_is_encoded_is_parsed(name, previous, created, rows, algorithm):  # type: ignore[no-untyped-def]
    """Encoding and parsing are each other's inverse."""
    ref = SegmentRef(sha256=sha(name), length=rows, algorithm=algorithm, kind="base", rows=rows, removals=0)
    made = Manifest(
        list=name,
        version=2**53 - 1 if previous is None else min(previous.version + 1, 2**53 - 1),
        previous=previous if previous is None or previous.version < 2**53 - 1 else None,
        created=now_in_seconds(created),
        end_state={algorithm: EndState(rows=rows, checksum=sha(name)[:32])},
        stack=(ref,),
    )
    assert parse(encode(made)) == made
    assert encode(parse(encode(made))) == encode(made)
    assert made.rows == rows


def fold(output: str, *inputs: str) -> Json:
    return {"output": sha(output), "inputs": [sha(name) for name in inputs]}


Spoil = Callable[[Json], Any]
REFUSED: dict[str, tuple[Spoil, str]] = {
    "a later format": (lambda d: d.update(format=2), "format: Input should be 1"),
    "a field that format 1 has not": (lambda d: d.update(more=1), "more: Extra inputs"),
    "no list": (lambda d: d.pop("list"), "list: Field required"),
    "no list name": (lambda d: d.update(list="Images"), "list: String should match"),
    "a path for a list name": (lambda d: d.update(list="a/b"), "list: String should match"),
    "a line end in a list name": (lambda d: d.update(list="a\n"), "list: String should match"),
    "a long list name": (lambda d: d.update(list="a" * 65), "list: String should match"),
    "version nought": (lambda d: d.update(version=0), "version: Input should be greater"),
    "a version that doubles cannot hold": (lambda d: d.update(version=2**53), "version: Input should be less"),
    "a fraction": (lambda d: d.update(version=9.5), "version"),
    "previous not older": (lambda d: d["previous"].update(version=9), "previous must be an older version"),
    "a short hash": (lambda d: d["previous"].update(sha256="ab"), "previous.sha256: String should match"),
    "a hash in capitals": (lambda d: d["stack"][0].update(sha256="A" * 64), "stack.0.sha256"),
    "a line end after a hash": (lambda d: d["stack"][0].update(sha256="a" * 64 + "\n"), "stack.0.sha256"),
    "a time with fractions": (lambda d: d.update(created="2026-01-02T03:04:05.5Z"), "created: Value error, a time"),
    "a time elsewhere": (lambda d: d.update(created="2026-01-02T03:04:05+01:00"), "created: Value error, a time"),
    "a time nowhere": (lambda d: d.update(created="2026-01-02T03:04:05"), "created: Value error, a time"),
    "an unknown algorithm": (lambda d: d["stack"][0].update(algorithm="crc32"), "stack.0.algorithm"),
    "an unknown kind": (lambda d: d["stack"][0].update(kind="patch"), "stack.0.kind"),
    "negative length": (lambda d: d["stack"][0].update(length=-1), "stack.0.length"),
    "a base over a delta": (lambda d: d["stack"].reverse(), "a base comes first"),
    "two bases": (lambda d: d["stack"][1].update(kind="base", sha256="a" * 64), "a base comes first"),
    "a base that removes": (lambda d: d["stack"][0].update(removals=1), "removes nothing"),
    "more removals than rows": (
        lambda d: d["stack"][1].update(removals=6, sha256="a" * 64),
        "no more removals than rows",
    ),
    "a segment described in two ways": (lambda d: d["recent"][0]["segments"][0].update(length=1), "in one way"),
    "an end state without a stack": (lambda d: d.update(stack=[]), "an end state has a stack"),
    "an end state of nothing": (lambda d: d["end_state"]["md5"].update(rows=0), "is left out of the end state"),
    "an end state of an unknown algorithm": (lambda d: d["end_state"].update(crc=d["end_state"]["md5"]), "end_state"),
    "a short checksum": (lambda d: d["end_state"]["md5"].update(checksum="ab"), "end_state.md5.checksum"),
    "another newest end state": (lambda d: d["end_state"]["md5"].update(rows=8), "must give this version's end state"),
    "recent that stops short": (lambda d: d["recent"].pop(), "must give this version's end state"),
    "recent on another previous": (lambda d: d["previous"].update(sha256="a" * 64), "apply to the previous manifest"),
    "recent with a gap": (lambda d: d["recent"].pop(1), "must be consecutive"),
    "recent out of order": (lambda d: d["recent"].insert(0, d["recent"][1]), "must be consecutive"),
    "a delta to an older version": (
        lambda d: d["recent"][0].update(version=5, previous=d["previous"]),
        "newer version",
    ),
    "a base among recent deltas": (
        lambda d: d["recent"][1]["segments"][0].update(kind="base", sha256="a" * 64),
        "of the kind delta",
    ),
    "a negative count": (lambda d: d["recent"][0]["counts"]["md5"].update(added=-1), "not negative"),
    "a fold of nothing": (lambda d: d.update(folds=[{"output": "a" * 64, "inputs": []}]), "folds.0.inputs"),
    "a fold of itself": (lambda d: d.update(folds=[fold("a", "b", "a")]), "made of itself"),
    "folds in a ring": (lambda d: d.update(folds=[fold("a", "b"), fold("b", "a")]), "oldest first"),
    "too many folds": (lambda d: d.update(folds=[fold("a", "b")] * 65), "folds: Tuple should have at most 64"),
    "an origin without a serial": (lambda d: d.update(origin={"manifest": "a" * 64}), "origin.serial"),
    "no trusted root so old": (lambda d: d.update(min_root=0), "min_root"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_whatever_is_not_a_manifest_is_refused(fault):  # type: ignore[no-untyped-def]
    """Each fault has a message that names the place and the reason."""
    spoil, reason = REFUSED[fault]
    spoiled = document()
    spoil(spoiled)
    with pytest.raises(ManifestError) as caught:
        parse(canonical(spoiled))
    assert reason in str(caught.value)


def test_too_many_recent_deltas_are_refused() -> None:
    """A manifest names at most 64 recent deltas, so that its size is bounded."""
    refs = {"version": RECENT + 3, "previous": manifest_ref(RECENT + 2), "end_state": state(RECENT + 3)}
    good = manifest().model_copy(update={**refs, "recent": tuple(step(n + 1, n) for n in range(3, RECENT + 3))})
    assert RECENT == 64
    assert len(parse(encode(good)).recent) == 64
    more = good.model_copy(update={"recent": (step(3, 2), *good.recent)})
    with pytest.raises(ManifestError, match="recent"):
        parse(encode(more))


NOT_CANONICAL: dict[str, Callable[[bytes], bytes]] = {
    "white space": lambda c: c.replace(b":", b": ", 1),
    "a line end": lambda c: c + b"\n",
    "another order": lambda c: json.dumps(dict(reversed(json.loads(c).items())), separators=(",", ":")).encode(),
    "a field twice": lambda c: c.replace(b'"format":1', b'"format":1,"format":1'),
    "a field left out": lambda c: c.replace(b'"folds":[],', b""),
    "a count left out": lambda c: c.replace(b'"absent":0,', b"", 1),
    "a count that is none": lambda c: c.replace(b'"absent":0,', b'"absent":0,"abseny":0,', 1),
    "a number as text": lambda c: c.replace(b'"version":9', b'"version":"9"'),
    "a number as a fraction": lambda c: c.replace(b'"version":9', b'"version":9.0'),
    "an escape that is not needed": lambda c: c.replace(b'"images"', b'"\\u0069mages"'),
    "a time in another form": lambda c: c.replace(b"05Z", b"05+00:00"),
    "a time as a number": lambda c: c.replace(b'"2026-01-02T03:04:05Z"', b"1767323045"),
}


@pytest.mark.parametrize("form", NOT_CANONICAL)
def test_another_form_of_the_same_manifest_is_refused(form):  # type: ignore[no-untyped-def]
    """One manifest has one form, so that its hash is its name."""
    content = encode(manifest())
    spoiled = NOT_CANONICAL[form](content)
    assert spoiled != content
    with pytest.raises(ManifestError):
        parse(spoiled)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{}", b"\xff", b'"', b"[" * 100_000, b'{"a":"\\ud800"}'])
def test_other_documents_are_refused(content):  # type: ignore[no-untyped-def]
    """Anything that is no manifest at all is refused without an exception of its own."""
    with pytest.raises(ManifestError):
        parse(content)


def test_a_manifest_has_a_largest_size() -> None:
    """A document over the cap is refused before it is read."""
    with pytest.raises(ManifestError, match="exceeds the cap of 1048576"):
        parse(b" " * (MAX_MANIFEST_BYTES + 1))


def test_an_error_shows_little_of_what_was_sent() -> None:
    """A field's name from the sender cannot fill a log or forge a line of it."""
    with pytest.raises(ManifestError) as caught:
        parse(canonical({**document(), "x\n" + "y" * 1000: 1}))
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_a_delta_may_come_again() -> None:
    """An entry added, withdrawn and added again is the same file twice in a stack, and that is a good manifest."""
    made = manifest()
    again = made.model_copy(update={"stack": (*made.stack, made.stack[1])})
    assert parse(encode(again)).stack[1] == parse(encode(again)).stack[-1]
    assert len(list(again.named_segments())) == 4


def test_steps_lead_from_where_a_follower_stands() -> None:
    """A follower at a recent version gets the deltas after it, oldest first; one that is elsewhere gets none."""
    made = manifest()
    assert made.steps_from(manifest_ref(6)) == (step(9, 6),)
    assert made.steps_from(manifest_ref(5)) == (step(6, 5), step(9, 6))
    assert made.steps_from(manifest_ref(2)) == (step(5, 2), step(6, 5), step(9, 6))
    assert made.steps_from(manifest_ref(1)) is None  # before the oldest
    assert made.steps_from(manifest_ref(4)) is None  # never published
    assert made.steps_from(manifest_ref(9)) is None  # this one
    assert made.steps_from(manifest_ref(10)) is None  # newer
    assert made.steps_from(ManifestRef(version=6, sha256="a" * 64)) is None  # another branch
    assert made.model_copy(update={"recent": ()}).steps_from(manifest_ref(6)) is None


def test_named_segments_are_each_named_once() -> None:
    """The stack and the recent deltas share files; whoever fetches them fetches each once."""
    made = manifest()
    assert [ref.sha256 for ref in made.named_segments()] == [
        sha("base"),
        sha("delta 5"),
        sha("delta 6"),
        sha("delta 9"),
    ]
    assert made.segments_of(Algorithm.MD5) == made.stack
    assert made.segments_of(Algorithm.PDQ) == ()


def test_times_are_whole_seconds_of_utc() -> None:
    """A moment anywhere becomes the second of UTC that a manifest states."""
    moment = datetime(2026, 1, 2, 5, 4, 5, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert now_in_seconds(moment) == CREATED
