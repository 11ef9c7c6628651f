"""Make the test vectors of ``docs/format.md``, and the JSON Schema of manifests.

    python tests/vectors/make.py           # into the source tree
    python tests/vectors/make.py FOLDER    # all of it under another folder

Writes ``feed/`` (a pulled copy without metadata), ``expected.json`` and ``docs/manifest.schema.json``. The answers come
from a plain dictionary to which the same changes are applied, not from a stack. The bytes of the segments are those
of the locked pyarrow. No digest here is of any real file: each is made of a short text.
"""

import hashlib
import json
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from syncd.feed.layout import manifest_path, segment_path
from syncd.format.canonical import canonical
from syncd.format.checksum import checksum
from syncd.format.manifest import (
    EndState,
    Fold,
    Manifest,
    ManifestRef,
    Origin,
    SegmentRef,
    Step,
    encode,
)
from syncd.format.rows import Rows, sort_order
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.format.writer import write_segment
from syncd.model import KNOWN_ALGORITHMS, Algorithm, Counts, ListName

HERE: Final = Path(__file__).parent
LIST: Final = ListName("example.images")
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
    """Writes the feed's files under one folder, by content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
            self.install(segment_path(LIST, ref.sha256), path.read_bytes())
        return ref

    def open(self, ref: SegmentRef) -> Segment:
        """Open what `segment` wrote."""
        return Segment.open(self.folder / segment_path(LIST, ref.sha256), ref)

    def manifest(self, **fields: Any) -> ManifestRef:
        """Write the next manifest."""
        version: int = fields["version"]
        made = Manifest(list=LIST, created=CREATED + timedelta(hours=version), **fields)
        content = encode(made)
        sha256 = hashlib.sha256(content).hexdigest()
        self.install(manifest_path(LIST, sha256), content)
        return ManifestRef(version=version, sha256=sha256)


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
    cases = [(a, "one", entry, "A1") for a in KNOWN_ALGORITHMS for entry in entries]
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


def make(folder: Path) -> None:
    """Write everything under ``folder``."""
    published = make_feed(Maker(folder / "feed"))
    newest = published[-2]
    vouching = {"root": 1, "timestamp": 10, "snapshot": 8, "targets": 1, "lists": 8}
    state = {"version": newest.version, "manifest": newest.sha256, "metadata": vouching}
    current = {"format": 1, "updated": "2026-01-02T08:04:05Z", "metadata": vouching, "lists": {LIST: state}}
    (folder / "feed" / "current.json").write_bytes(canonical(current))
    expected = {
        "list": LIST,
        "manifests": {str(ref.version): ref.sha256 for ref in published},
        "counts": {str(version): asdict(counts) for version, counts in zip((3, 4), COUNTS, strict=True)},
        "look_ups": {digest: found for a in ALGORITHMS for digest, found in look_ups(a).items()},
        "rows": row_vectors(),
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True, ensure_ascii=True) + "\n")


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
