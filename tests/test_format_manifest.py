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
from syncd.format.canonical import canonical, read_canonical
from syncd.format.manifest import (
    MAX_MANIFEST_BYTES,
    RECENT,
    EndState,
    Manifest,
    ManifestRef,
    SegmentRef,
    Step,
    encode,
    now_in_seconds,
    parse,
)
from syncd.model import KNOWN_ALGORITHMS, LIST_NAME, Algorithm, Counts, ListName

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
    algorithm=st.sampled_from(KNOWN_ALGORITHMS),
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
    "no list": (lambda d: d.pop("list"), "list: Field required"),
    "no list name": (lambda d: d.update(list="Images"), "list: String should match"),
    "a path for a list name": (lambda d: d.update(list="a/b"), "list: String should match"),
    "a line end in a list name": (lambda d: d.update(list="a\n"), "list: String should match"),
    "a long list name": (lambda d: d.update(list="a" * 65), "list: String should match"),
    "version nought": (lambda d: d.update(version=0), "version: Input should be greater"),
    "a version that doubles cannot hold": (lambda d: d.update(version=2**53), "a number has more than 53 bits"),
    "a fraction": (lambda d: d.update(version=9.5), "not an integer"),
    "previous not older": (lambda d: d["previous"].update(version=9), "previous must be an older version"),
    "a short hash": (lambda d: d["previous"].update(sha256="ab"), "previous.sha256: String should match"),
    "a hash in capitals": (lambda d: d["stack"][0].update(sha256="A" * 64), "stack.0.sha256"),
    "a line end after a hash": (lambda d: d["stack"][0].update(sha256="a" * 64 + "\n"), "stack.0.sha256"),
    "a time with fractions": (lambda d: d.update(created="2026-01-02T03:04:05.5Z"), "created: Value error, a time"),
    "a time elsewhere": (lambda d: d.update(created="2026-01-02T03:04:05+01:00"), "created: Value error, a time"),
    "a time nowhere": (lambda d: d.update(created="2026-01-02T03:04:05"), "created: Value error, a time"),
    "no name of an algorithm": (lambda d: d["stack"][0].update(algorithm="CRC"), "stack.0.algorithm"),
    "an algorithm with a dot": (lambda d: d["stack"][0].update(algorithm="a.b"), "stack.0.algorithm"),
    "an algorithm of 33 letters": (lambda d: d["stack"][0].update(algorithm="a" * 33), "stack.0.algorithm"),
    "an unknown kind": (lambda d: d["stack"][0].update(kind="patch"), "stack.0.kind"),
    "negative length": (lambda d: d["stack"][0].update(length=-1), "stack.0.length"),
    "a base over a delta": (lambda d: d["stack"].reverse(), "one base, which comes first"),
    "two bases": (lambda d: d["stack"][1].update(kind="base", sha256="a" * 64), "one base, which comes first"),
    "a base that removes": (lambda d: d["stack"][0].update(removals=1), "has no removals"),
    "more removals than rows": (
        lambda d: d["stack"][1].update(removals=6, sha256="a" * 64),
        "more removals than rows",
    ),
    "a segment described in two ways": (
        lambda d: d["recent"][0]["segments"][0].update(length=1),
        "described identically",
    ),
    "an end state without a stack": (lambda d: d.update(stack=[]), "must belong to an algorithm in the stack"),
    "an end state of nothing": (lambda d: d["end_state"]["md5"].update(rows=0), "must not be in the end state"),
    "an end state of no algorithm": (lambda d: d["end_state"].update(CRC=d["end_state"]["md5"]), "end_state"),
    "a short checksum": (lambda d: d["end_state"]["md5"].update(checksum="ab"), "end_state.md5.checksum"),
    "another newest end state": (
        lambda d: d["end_state"]["md5"].update(rows=8),
        "must lead to this version's end state",
    ),
    "recent that stops short": (lambda d: d["recent"].pop(), "must lead to this version's end state"),
    "recent on another previous": (lambda d: d["previous"].update(sha256="a" * 64), "apply to the previous manifest"),
    "recent with a gap": (lambda d: d["recent"].pop(1), "must be consecutive"),
    "recent out of order": (lambda d: d["recent"].insert(0, d["recent"][1]), "must be consecutive"),
    "a delta to an older version": (
        lambda d: d["recent"][0].update(version=5, previous=d["previous"]),
        "newer version",
    ),
    "a base among recent deltas": (
        lambda d: d["recent"][1]["segments"][0].update(kind="base", sha256="a" * 64),
        "of kind delta",
    ),
    "a negative count": (lambda d: d["recent"][0]["counts"]["md5"].update(added=-1), "not be negative"),
    "a fold of nothing": (lambda d: d.update(folds=[{"output": "a" * 64, "inputs": []}]), "folds.0.inputs"),
    "a fold of itself": (lambda d: d.update(folds=[fold("a", "b", "a")]), "folded from itself"),
    "folds in a ring": (lambda d: d.update(folds=[fold("a", "b"), fold("b", "a")]), "oldest first"),
    "too many folds": (lambda d: d.update(folds=[fold("a", "b")] * 65), "folds: Tuple should have at most 64"),
    "an origin without a serial": (lambda d: d.update(origin={"manifest": "a" * 64}), "origin.serial"),
    "a retired list with a stack": (lambda d: d.update(retired={"since": "2026-01-02T03:04:05Z"}), "empty stack"),
    "a list that was never retired": (lambda d: d.update(retired=True), "retired"),
    "a medium that format 1 has not": (lambda d: d.update(media="audio"), "media"),
    "a purpose that format 1 has not": (lambda d: d.update(purpose="draft"), "purpose"),
    "a warning after the alarm": (
        lambda d: d.update(max_age={"warn": 2, "critical": 1}),
        "warn must not be more than critical",
    ),
    "an age without an alarm": (lambda d: d.update(max_age={"warn": 2}), "max_age.critical"),
    "an audit log of less than nothing": (lambda d: d.update(audit={"records": -1, "head": "a" * 64}), "audit"),
    "an audit log without a hash": (lambda d: d.update(audit={"records": 1, "head": "A" * 64}), "audit"),
    "less than nothing withheld": (lambda d: d.update(withheld={"md5": {"additions": -1}}), "withheld.md5.additions"),
    "pinned to a number": (lambda d: d.update(pinned=1), "pinned"),
    "an origin nobody vouches for": (
        lambda d: d.update(origin={"serial": 1, "manifest": "a" * 64, "kind": "guessed"}),
        "origin.kind",
    ),
    "a feature that is none": (lambda d: d.update(critical=[""]), "does not know"),
    "features that are no list": (lambda d: d.update(critical="signatures"), "critical"),
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
    "a field out of order": lambda c: c.replace(b'"absent":0,', b'"absent":0,"abseny":0,"aa":0,', 1),
    "an unknown field twice": lambda c: c.replace(b'"format":1', b'"fooo":1,"fooo":1,"format":1'),
    "a fraction in an unknown field": lambda c: c.replace(b'"format":1', b'"fooo":1.5,"format":1'),
    "a a number has more than 53 bits in an unknown field": lambda c: c.replace(
        b'"format":1', b'"fooo":9007199254740992,"format":1'
    ),
    "a name that is not ASCII": lambda c: c[:-1] + ',"zé":1}'.encode(),
    "an escape in an unknown field": lambda c: c.replace(b'"format":1', b'"fooo":"\\u00e9","format":1'),
    "minus nought": lambda c: c.replace(b'"format":1', b'"fooo":-0,"format":1'),
    "thirty-three levels": lambda c: c.replace(b'"format":1', b'"fooo":' + b"[" * 32 + b"]" * 32 + b',"format":1'),
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


LEVELS = 32 - 1


def test_the_deepest_manifest_is_read() -> None:
    """A document has up to 32 levels, in all readers alike."""
    assert parse(canonical({**document(), "fooo": json.loads("[" * LEVELS + "]" * LEVELS)})) == manifest()


@pytest.mark.parametrize(
    "left_out",
    ["folds", "origin", "min_root", "critical", "withheld", "pinned", "retired", "media", "max_age", "audit"],
)
def test_an_absent_field_has_its_default(left_out):  # type: ignore[no-untyped-def]
    """A writer may leave a default out or state it: both are canonical, and mean the same."""
    fields = Manifest.model_fields[left_out]
    stated = json.loads(json.dumps(fields.get_default(call_default_factory=True)))
    without = {name: value for name, value in document().items() if name != left_out}
    assert parse(canonical(without)) == parse(canonical({**without, left_out: stated})) == manifest()


def test_defaults_of_later_fields_are_not_written() -> None:
    """A manifest that says nothing new is written in the bytes of before: its hash stays."""
    stated = {"serial": 3, "manifest": "a" * 64, "evidence": None}
    content = canonical({**document(), "origin": stated})
    assert encode(parse(content)) == content
    assert b"critical" not in content


def test_every_field_of_a_manifest_is_written_and_read() -> None:
    """What a publisher says of withheld changes, its audit log and its origin arrives."""
    said = {
        "critical": [],
        "withheld": {"md5": {"additions": 1, "removals": 2, "relabels": 3, "suppressed": 4}},
        "pinned": True,
        "media": "video",
        "purpose": "review",
        "max_age": {"warn": 86400, "critical": 172800},
        "audit": {"records": 7, "head": "b" * 64},
        "origin": {
            "serial": 3,
            "manifest": "a" * 64,
            "evidence": None,
            "kind": "stated",
            "whole": 2,
            "answers": "c" * 64,
        },
    }
    made = parse(canonical({**document(), **said}))
    assert {**json.loads(encode(made)), "critical": []} == {**document(), **said}
    assert parse(encode(made)) == made


def test_a_retired_list_is_an_empty_one() -> None:
    """A retired version has neither stack nor end state nor recent deltas, and says since when."""
    empty = {"stack": [], "end_state": {}, "recent": [], "retired": {"since": "2026-01-02T03:04:05Z"}}
    made = parse(canonical({**document(), **empty}))
    assert made.retired is not None
    assert made.retired.since == CREATED
    assert made.rows == 0
    assert parse(encode(made)) == made


def test_a_feature_that_is_not_known_is_refused_in_words() -> None:
    """Whatever else a newer manifest changes, the reader says that it is too old, and which feature it lacks."""
    newer = {**document(), "critical": ["row-signatures"], "stack": "elsewhere"}
    with pytest.raises(ManifestError, match="needs a newer syncd: this one does not know row-signatures") as caught:
        parse(canonical(newer))
    assert "update syncd" in caught.value.hint


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz_", max_size=5), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any) -> list[Json]:
    """Every object of a document whose fields have fixed names."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    here = [value] if isinstance(value, dict) and not {"md5"} & value.keys() else []
    return here + [place for one in inner for place in places(one)]


@given(data=st.data(), name=st.text("abcxyz-_", min_size=1, max_size=9).map("x-{}".format), value=JSON)
def test_unknown_fields_are_ignored_everywhere(data, name, value):  # type: ignore[no-untyped-def]
    """A field that this reader does not know changes nothing, in whatever object it is, and whatever it holds."""
    more = document()
    data.draw(st.sampled_from(places(more)))[name] = value
    assert parse(canonical(more)) == manifest()


@given(value=JSON)
def test_canonical_form_is_one(value):  # type: ignore[no-untyped-def]
    """What is written canonically is read as the same value, and no other layout of it is."""
    assert read_canonical(canonical(value)) == value
    for other in (json.dumps(value, indent=1), json.dumps(value) + " "):
        with pytest.raises(ValueError, match="canonical"):
            read_canonical(other.encode() + b" " * (other.encode() == canonical(value)))


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{}", b"\xff", b'"', b"[" * 100_000, b'{"a":"\\ud800"}'])
def test_other_documents_are_refused(content):  # type: ignore[no-untyped-def]
    """Anything that is no manifest at all is refused without an exception of its own."""
    with pytest.raises(ManifestError):
        parse(content)


def test_a_manifest_has_a_largest_size() -> None:
    """A document over the cap is refused before it is read."""
    with pytest.raises(ManifestError, match="at most 1048576 are accepted"):
        parse(b" " * (MAX_MANIFEST_BYTES + 1))


def test_an_error_shows_little_of_what_was_sent() -> None:
    """A field's name from the sender cannot fill a log or forge a line of it."""
    with pytest.raises(ManifestError) as caught:
        parse(canonical({**document(), "withheld": {"x\n" + "y" * 1000: 1}}))
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
