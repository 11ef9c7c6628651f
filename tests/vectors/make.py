"""Make the test vectors of ``docs/format.md``, and the JSON Schema of manifests.

    python tests/vectors/make.py           # into the source tree
    python tests/vectors/make.py FOLDER    # all of it under another folder

Writes ``feed/`` (a pulled copy), ``refused/``, ``expected.json`` and ``docs/manifest.schema.json``. The keys that sign
the copy follow from their names, so trust nothing by them. The answers come from a plain dictionary to which the same
changes are applied, not from a stack. The bytes of the segments are those of the locked pyarrow. No digest here is of
any real file: each is made of a short text.
"""

import hashlib
import json
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Signer

from syncd.feed.layout import manifest_path, segment_path, target_name
from syncd.format.canonical import canonical
from syncd.format.checksum import checksum
from syncd.format.freshness import MaxAge
from syncd.format.manifest import (
    EndState,
    Fold,
    Manifest,
    ManifestRef,
    Origin,
    RetirementNotice,
    SegmentRef,
    Step,
    Withheld,
    encode,
)
from syncd.format.rows import Rows, sort_order
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.format.writer import write_segment
from syncd.model import KNOWN_ALGORITHMS, Algorithm, AuditHead, Counts, ListName
from syncd.trust.repository import Freshness, Repository, SignedTarget, create
from syncd.trust.values import PublicationId

HERE: Final = Path(__file__).parent
LIST: Final = ListName("example.images")
OPEN: Final = ListName("example.open")
RETIRED: Final = ListName("example.retired")
MIXED: Final = ListName("example.mixed-widths")
CREATED: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ALGORITHMS: Final = (Algorithm.MD5, Algorithm.PDQ, Algorithm.SHA1, Algorithm.SHA256)

Change = dict[tuple[str, str], str | None]
"""(name of a digest, entry) -> label; None removes"""

BASE: Final[Change] = {
    ("one", "e-1"): "A1",
    ("two", "e-2"): "A1",
    ("two", "e-3"): "B2",
    ("three", ""): "B2",
    ("zeros", "an entry of more than sixteen bytes"): "A1",
    ("ends in zero", "e-5"): "é",
    ("ones", "e-6"): "A1",
}
FIRST: Final[Change] = {
    ("four", "é-7"): "C",
    ("two", "e-2"): None,
    ("ones", "e-6"): "B2",
    ("one", "e-1"): "A1",
    ("never there", "e-8"): None,
}
SECOND: Final[Change] = {
    ("two", "e-2"): "C",
    ("three", ""): None,
    ("four", "é-7"): None,
    ("four", "nul\0in it"): "",
    ("zeros", "12345678"): "A1",
}
COUNTS: Final = (
    Counts(added=1, removed=1, relabelled=1, unchanged=1, absent=1),
    Counts(added=3, removed=2),
)


def digest_of(algorithm: Algorithm, name: str) -> bytes:
    """A digest made of a text; three of them hold the bytes that programs get wrong."""
    width = algorithm.width
    made = hashlib.shake_128(f"{algorithm} {name}".encode()).digest(width)
    return {"zeros": bytes(width), "ones": b"\xff" * width, "ends in zero": made[:-2] + b"\0\0"}.get(name, made)


def rows_of(algorithm: Algorithm, change: Change) -> Rows:
    """The rows of a change, sorted."""
    digests, entries = [digest_of(algorithm, name) for name, _ in change], [entry for _, entry in change]
    labels, removed = [label or "" for label in change.values()], [label is None for label in change.values()]
    rows = Rows.build(algorithm, digests, entries, labels, removed)
    return rows.take(sort_order(rows))


def apply(state: Change, change: Change) -> Change:
    """The entries in force after a change."""
    return {key: label for key, label in (state | change).items() if label is not None}


STATES: Final = (BASE, apply(BASE, FIRST), apply(apply(BASE, FIRST), SECOND))


def end_states(state: Change) -> dict[Algorithm, EndState]:
    """Count and checksum for each algorithm: all hold the same entries."""
    return {a: EndState(rows=len(state), checksum=str(checksum(rows_of(a, state)))) for a in ALGORITHMS}


class Maker:
    """Writes the files of one list under one folder, by content."""

    def __init__(self, folder: Path, name: ListName = LIST) -> None:
        self.folder, self.name = folder, name

    def install(self, path: str, content: bytes) -> None:
        """Write one file."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def segment(self, algorithm: Algorithm, kind: Any, rows: Rows) -> SegmentRef:
        """Write rows as a segment, prove it, and name it by its hash."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "segment"
            ref = write_segment(path, algorithm, kind, [rows])
            assert ref is not None
            Segment.check(path, ref)
            self.install(segment_path(self.name, ref.sha256), path.read_bytes())
        return ref

    def open(self, ref: SegmentRef) -> Segment:
        """Open what `segment` wrote."""
        return Segment.open(self.folder / segment_path(self.name, ref.sha256), ref)

    def manifest(self, **fields: Any) -> ManifestRef:
        """Write the next manifest."""
        created = CREATED + timedelta(hours=fields["version"])
        return self.document(json.loads(encode(Manifest(list=self.name, created=created, **fields))))

    def document(self, document: dict[str, Any]) -> ManifestRef:
        """Write a manifest as it is, whatever it holds."""
        content = canonical(document)
        sha256 = hashlib.sha256(content).hexdigest()
        self.install(manifest_path(self.name, sha256), content)
        return ManifestRef(version=document["version"], sha256=sha256)


def make_feed(maker: Maker) -> list[ManifestRef]:
    """Version 1 is a base, 3 and 4 each add a delta (2 was never published), 5 folds without changing anything."""
    bases = [maker.segment(a, "base", rows_of(a, BASE)) for a in ALGORITHMS]
    published = [maker.manifest(version=1, previous=None, end_state=end_states(BASE), stack=tuple(bases))]
    stacks = {ref.algorithm: [ref] for ref in bases}
    steps: list[Step] = []
    for version, change, counts, state in zip((3, 4), (FIRST, SECOND), COUNTS, STATES[1:], strict=True):
        deltas = [maker.segment(a, "delta", rows_of(a, change)) for a in ALGORITHMS]
        for ref in deltas:
            stacks[ref.algorithm].append(ref)
        steps.append(step(version, published[-1], deltas, counts, state))
        published.append(publish(maker, version, published[-1], stacks, steps, state))
    folds = [fold(maker, a, stacks[a]) for a in ALGORITHMS]
    steps.append(step(5, published[-1], [], Counts(), STATES[-1]))
    folded = {ref.algorithm: [ref] for ref, _ in folds}
    named = tuple(record for _, record in folds)
    published.append(publish(maker, 5, published[-1], folded, steps, STATES[-1], folds=named, min_root=2))
    return published


def step(version: int, previous: ManifestRef, deltas: list[SegmentRef], counts: Counts, state: Change) -> Step:
    """One recent delta."""
    counted = {ref.algorithm: counts for ref in deltas}
    return Step(version=version, previous=previous, segments=tuple(deltas), counts=counted, end_state=end_states(state))


def publish(
    maker: Maker,
    version: int,
    previous: ManifestRef,
    stacks: dict[Algorithm, list[SegmentRef]],
    steps: list[Step],
    state: Change,
    **more: Any,
) -> ManifestRef:
    """Write a manifest that names ``stacks``."""
    return maker.manifest(
        version=version,
        previous=previous,
        end_state=end_states(state),
        stack=tuple(ref for a in ALGORITHMS for ref in stacks[a]),
        recent=tuple(steps),
        origin=Origin(serial=version * 10, manifest=hashlib.sha256(b"an upstream manifest").hexdigest()),
        **more,
    )


def fold(maker: Maker, algorithm: Algorithm, stack: list[SegmentRef]) -> tuple[SegmentRef, Fold]:
    """A base of the rows in force."""
    effective = list(Stack(algorithm, [maker.open(ref) for ref in stack]).effective())
    assert len(effective) == 1
    ref = maker.segment(algorithm, "base", effective[0])
    return ref, Fold(output=ref.sha256, inputs=tuple(ref.sha256 for ref in stack))


def look_ups(algorithm: Algorithm) -> dict[str, dict[str, list[list[str]]]]:
    """For each digest that occurs, and one that does not: the entries in force after each state."""
    names = sorted({name for change in (BASE, FIRST, SECOND) for name, _ in change} | {"unknown"})
    return {
        f"{algorithm}:{digest_of(algorithm, name).hex()}": {
            str(version): sorted([entry, label or ""] for (n, entry), label in state.items() if n == name)
            for version, state in zip((1, 3, 4, 5), (*STATES, STATES[-1]), strict=True)
        }
        for name in names
    }


def row_vectors() -> list[dict[str, str]]:
    """The checksum of single rows: every algorithm, and texts around the eight bytes of a word."""
    entries = ["", "1", "1234567", "12345678", "123456789", "é", "nul\0", "an entry of more than sixteen bytes"]
    cases = [
        (a, "one", entry, "A1") for a in KNOWN_ALGORITHMS[:6] for entry in entries
    ]  # frozen before vpdq had a name
    cases += [(Algorithm.MD5, name, "e", label) for name in ("zeros", "ones", "ends in zero") for label in ("", "é")]
    return [
        {
            "algorithm": algorithm,
            "digest": digest_of(algorithm, name).hex(),
            "entry": entry,
            "label": label,
            "checksum": str(checksum(rows_of(algorithm, {(name, entry): label}))),
        }
        for algorithm, name, entry, label in cases
    ]


TLSH: Final = Algorithm("tlsh2")
FRAMES: Final = Algorithm("vpdq")
LONG: Final = ";".join(f"tag-{number:04}" for number in range(455)).ljust(4096, ".")
WIDE: Final[dict[Algorithm, Change]] = {
    TLSH: {("\0" * 35, "zeros"): "A1", ("a" * 34 + "\0", "ends in zero"): LONG, ("a" * 35, "é"): "A1"},
    FRAMES: {("b" * 32 + "\x64", "frame"): "A1"},
}
"""By algorithm that syncd does not know: (digest as text, entry) -> label."""


def wide_rows(algorithm: Algorithm, change: Change) -> Rows:
    """Rows whose digests are given as text."""
    keys = list(change)
    digests, labels = [digest.encode() for digest, _ in keys], [label or "" for label in change.values()]
    rows = Rows.build(algorithm, digests, [entry for _, entry in keys], labels)
    return rows.take(sort_order(rows))


def make_open(maker: Maker) -> ManifestRef:
    """A list of algorithms that no reader need know, whose manifest says all that one can, and more."""
    refs = tuple(maker.segment(a, "base", wide_rows(a, change)) for a, change in WIDE.items())
    made = Manifest(
        list=maker.name,
        created=CREATED,
        version=1,
        previous=None,
        end_state={
            a: EndState(rows=len(change), checksum=str(checksum(wide_rows(a, change)))) for a, change in WIDE.items()
        },
        stack=refs,
        origin=Origin(serial=7, manifest="a" * 64, kind="stated", whole=6, answers="b" * 64),
        withheld={TLSH: Withheld(additions=1, removals=2, relabels=3, suppressed=4)},
        pinned=True,
        media="video",
        purpose="review",
        max_age=MaxAge(warn=86400, critical=172800),
        audit=AuditHead(9, "c" * 64),
    )
    document = json.loads(encode(made))
    document["later"] = {"null": None, "text": "é\x7f\n", "numbers": [0, -1, 9007199254740991]}
    document["stack"][0]["later"] = []
    return maker.document(document)


def make_retired(maker: Maker) -> ManifestRef:
    """Version 1 is a base, version 2 retires the list."""
    ref = maker.segment(Algorithm.MD5, "base", rows_of(Algorithm.MD5, STATES[1]))
    state = {Algorithm.MD5: end_states(STATES[1])[Algorithm.MD5]}
    first = maker.manifest(version=1, previous=None, end_state=state, stack=(ref,))
    since = CREATED + timedelta(hours=2)
    return maker.manifest(version=2, previous=first, end_state={}, stack=(), retired=RetirementNotice(since=since))


def make_mixed(maker: Maker) -> ManifestRef:
    """A stack whose segments, each good, have digests of different widths."""
    base = maker.segment(TLSH, "base", wide_rows(TLSH, {("a" * 35, "e"): "A1"}))
    delta = maker.segment(TLSH, "delta", wide_rows(TLSH, {("b" * 34, "f"): "A1"}))
    state = EndState(rows=2, checksum="0" * 32)
    return maker.manifest(version=1, previous=None, end_state={TLSH: state}, stack=(base, delta))


def refused(good: dict[str, Any]) -> dict[str, tuple[bytes, str]]:
    """Manifests that every reader refuses, and why."""
    text = canonical(good).decode()
    retired = {"since": "2026-01-02T05:04:05Z"}
    return {
        "critical": (canonical({**good, "critical": ["row-signatures"]}), "a feature that no reader of today knows"),
        "field-twice": (text.replace('"version":', '"version":9,"version":').encode(), "a field is there twice"),
        "white-space": (text.replace('":', '": ', 1).encode(), "not canonical"),
        "fraction": (canonical({**good, "later": 0}).replace(b'"later":0', b'"later":0.5'), "not an integer"),
        "escape": (canonical({**good, "later": "e"}).replace(b'"later":"e"', b'"later":"\\u0065"'), "not canonical"),
        "large-number": (canonical({**good, "later": 1 << 53}), "a number beyond 53 bits"),
        "retired-with-a-stack": (canonical({**good, "retired": retired}), "a retired list has an empty stack"),
        "format-2": (canonical({**good, "format": 2}), "another format"),
    }


def sign(heads: dict[ListName, tuple[ManifestRef, int]]) -> tuple[dict[str, bytes], dict[str, int]]:
    """The signed metadata of a copy that holds these manifests, and its versions by role."""
    keys = {role: (signer(role),) for role in ("root", "targets", "snapshot", "timestamp", "lists")}
    publication = PublicationId(1, "0123456789abcdef0123456789abcdef")
    first = create(keys, keys, 1, CREATED, lambda: publication)
    files = dict(first.files)
    targets = {}
    for name, (ref, length) in heads.items():
        target = SignedTarget(target_name(name), ref.version, ref.sha256, length)
        targets[target.name] = target
    freshness = {str(name): Freshness(CREATED, ref.version) for name, (ref, _) in heads.items()}
    repository = Repository.load(files.get, lambda: publication)
    update = repository.publish(targets, freshness, keys, CREATED, audit=AuditHead(9, "c" * 64))
    versions = repository.after(update).versions
    files |= dict(update.files)
    named = {f"{version}.{role}.json" for role, version in versions.items() if role != "timestamp"}
    kept = {name: content for name, content in files.items() if name in named}
    return {**kept, f"{versions['timestamp']}.timestamp.json": files["timestamp.json"]}, versions


def signer(role: str) -> Signer:
    """The key of a role, made of its name."""
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(role.encode()).digest())
    return CryptoSigner(private)


def make(folder: Path) -> None:
    """Write everything under ``folder``."""
    feed = folder / "feed"
    published = make_feed(Maker(feed))
    others = {OPEN: make_open(Maker(feed, OPEN)), RETIRED: make_retired(Maker(feed, RETIRED))}
    mixed = make_mixed(Maker(feed, MIXED))
    newest = {LIST: published[-2], **others}
    lengths = {name: (feed / manifest_path(name, ref.sha256)).stat().st_size for name, ref in newest.items()}
    metadata, vouching = sign({name: (ref, lengths[name]) for name, ref in newest.items()})
    for name, content in metadata.items():
        Maker(feed).install(f"metadata/{name}", content)
    Maker(feed).install("root.json", metadata["1.root.json"])
    Maker(feed).install("current.json", current(newest, vouching, metadata["1.root.json"]))
    good = json.loads((feed / manifest_path(LIST, published[0].sha256)).read_bytes())
    for name, (content, _) in refused(good).items():
        Maker(folder).install(f"refused/{name}.manifest.json", content)
    expected = {
        "list": LIST,
        "manifests": {str(ref.version): ref.sha256 for ref in published},
        "counts": {str(version): asdict(counts) for version, counts in zip((3, 4), COUNTS, strict=True)},
        "look_ups": {digest: found for a in ALGORITHMS for digest, found in look_ups(a).items()},
        "rows": row_vectors(),
        "open": {
            "manifest": others[OPEN].sha256,
            "look_ups": {
                f"{a}:{digest.encode().hex()}": [[entry, label]]
                for a, change in WIDE.items()
                for (digest, entry), label in change.items()
            },
        },
        "retired": {"manifest": others[RETIRED].sha256, "since": "2026-01-02T05:04:05Z"},
        "mixed_widths": {"manifest": mixed.sha256},
        "refused": {name: why for name, (_, why) in refused(good).items()},
        "publication": {"epoch": 1, "id": "0123456789abcdef0123456789abcdef"},
        "audit": {"records": 9, "head": "c" * 64},
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True, ensure_ascii=True) + "\n")


def current(newest: dict[ListName, ManifestRef], vouching: dict[str, int], root: bytes) -> bytes:
    """``current.json``, written without syncd's own code for it, and with a member that no reader knows."""
    lists = {
        name: {
            "version": ref.version,
            "manifest": ref.sha256,
            "metadata": vouching,
            "verified_at": "2026-01-02T03:04:05Z",
            "retired": {"since": "2026-01-02T05:04:05Z"} if name == RETIRED else None,
        }
        for name, ref in newest.items()
    }
    members = {
        "format": 1,
        "generation": 3,
        "feed": hashlib.sha256(root).hexdigest(),
        "updated": "2026-01-02T08:04:05Z",
        "metadata": vouching,
        "lists": lists,
        "later": "é",
    }
    return canonical({**members, "checksum": hashlib.sha256(canonical(members)).hexdigest()})


def described() -> str:
    """The JSON Schema of a manifest: fields that have a default may be absent, unknown ones are allowed."""
    made = Manifest.model_json_schema(mode="validation")
    for count in made["$defs"]["Counts"]["properties"].values():
        count["minimum"] = 0
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **made}, indent=2) + "\n"


def main() -> None:
    """Write everything, into the source tree or under one folder."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    docs = folder if len(sys.argv) > 1 else HERE.parent.parent / "docs"
    make(folder)
    (docs / "manifest.schema.json").write_text(described())


if __name__ == "__main__":
    main()
