"""A batch is what publishing takes, whatever its rows came from."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.errors import UsageError
from syncd.feed.signed import load_repository
from syncd.format.batch import Batch, Changes, Removals, WholeList
from syncd.format.rows import Rows, sort_order
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.format.writer import write_segment
from syncd.model import Algorithm
from syncd.publish import author
from syncd.publish.draft import ListDraft
from syncd.publish.request import Published
from world import IMAGES, World

SHA256, MD5 = Algorithm.SHA256, Algorithm.MD5

Entry = tuple[Algorithm, int, str]
"""algorithm, a number that the digest is made from, entry"""


def digest(algorithm: Algorithm, number: int) -> bytes:
    """The digest of a number."""
    return hashlib.new(algorithm, str(number).encode()).digest()


def columns(rows: dict[Entry, str], *, removed: bool = False) -> dict[Algorithm, Rows]:
    """Rows with their labels, as sorted columns by algorithm."""
    found = {}
    for algorithm in sorted({one for one, _, _ in rows}):
        keys = [key for key in rows if key[0] == algorithm]
        digests, labels = [digest(algorithm, number) for _, number, _ in keys], [rows[key] for key in keys]
        made = Rows.build(algorithm, digests, [entry for _, _, entry in keys], labels, [removed] * len(keys))
        found[algorithm] = made.take(sort_order(made))
    return found


def whole(rows: dict[Entry, str], scratch: Path) -> WholeList:
    """A whole list, written to the scratch folder."""
    segments = {}
    for algorithm, some in columns(rows).items():
        path = scratch / f"{algorithm}.whole"
        ref = write_segment(path, algorithm, "base", [some])
        assert ref
        segments[algorithm] = Segment.open(path, ref)
    return WholeList(segments)


def publish(world: World, batch: Batch) -> Published:
    """The partner publishes a batch that was made elsewhere."""
    return author.publish_batch(world.partner, IMAGES, lambda _: batch, world.partner_signers(), world.clock())


def published(world: World) -> set[tuple[Algorithm, bytes, str, str]]:
    """All that is in force, straight from the segments."""
    current = author.open_list(world.partner, load_repository(world.partner), IMAGES)
    assert current
    return {
        (algorithm, bytes(some), entry, rows.labels[code])
        for algorithm, stack in current.stacks.items()
        for rows in stack.effective()
        for some, entry, code in zip(rows.digests, rows.entries.to_pylist(), rows.codes, strict=True)
    }


def as_published(rows: dict[Entry, str]) -> set[tuple[Algorithm, bytes, str, str]]:
    """The same of a model."""
    return {(one, digest(one, number), entry, label) for (one, number, entry), label in rows.items()}


FIRST = {(SHA256, 1, "a"): "A", (SHA256, 1, "b"): "A", (SHA256, 2, "b"): "B", (MD5, 1, "a"): "A"}


def test_rows_in_memory_are_published(world: World) -> None:
    """No file is read: rows are added, given another label and removed as columns."""
    assert publish(world, Changes(add=columns(FIRST))).rows == 4
    gone = columns({(SHA256, 2, "b"): ""}, removed=True)
    done = publish(world, Changes(add=columns({(SHA256, 1, "a"): "C", (SHA256, 3, ""): "A"}), remove=Removals(gone)))
    assert (done.version, done.rows, done.needless) == (2, 4, 0)
    left = {**FIRST, (SHA256, 1, "a"): "C", (SHA256, 3, ""): "A"}
    del left[SHA256, 2, "b"]
    assert published(world) == as_published(left)


def test_a_whole_list_is_published_from_scratch_segments(world: World, tmp_path: Path) -> None:
    """What it no longer has is removed, under every algorithm; the same once more is no new version."""
    publish(world, whole(FIRST, tmp_path))
    left = {(SHA256, 2, "b"): "B", (SHA256, 9, "z"): "Z"}
    assert publish(world, whole(left, tmp_path)).version == 2
    assert published(world) == as_published(left)
    assert not publish(world, whole(left, tmp_path)).changed


def test_removals_may_name_a_digest_or_an_entry_alone(world: World) -> None:
    """They are looked up in the list in force; what is not there is counted."""
    publish(world, Changes(add=columns(FIRST)))
    digests = {SHA256: np.array([digest(SHA256, 1)], "S32")}
    assert publish(world, Changes(remove=Removals(digests=digests))).rows == 2
    done = publish(world, Changes(remove=Removals(entries=("b", "none"), entries_under={MD5: ("a",)})))
    assert (done.rows, done.needless) == (0, 1)


@pytest.mark.parametrize("kind", ["add", "remove"])
def test_columns_out_of_order_are_a_bug(kind: str) -> None:
    """So are repeats, rows of another algorithm, and rows that do the other thing."""
    rows = columns({(SHA256, 1, "a"): "", (SHA256, 2, "a"): ""}, removed=kind == "remove")[SHA256]
    back, twice = rows.take(np.array([1, 0])), rows.take(np.array([0, 0]))
    other = rows.as_removals() if kind == "add" else columns({(SHA256, 1, "a"): ""})[SHA256]
    for algorithm, wrong in ((SHA256, back), (SHA256, twice), (SHA256, other), (MD5, rows)):
        with pytest.raises(ValueError, match=f"rows to {kind} under"):
            Changes({algorithm: wrong}) if kind == "add" else Changes(remove=Removals({algorithm: wrong}))


def test_an_entry_is_not_added_and_removed_at_once(world: World) -> None:
    """Nothing says which was meant."""
    add, gone = columns({(SHA256, 1, "a"): "A"}), columns({(SHA256, 1, "a"): ""}, removed=True)
    with pytest.raises(UsageError, match="1 sha256 row both added and removed"):
        publish(world, Changes(add, Removals(gone)))


def test_a_whole_list_without_rows_is_refused(world: World) -> None:
    """An export that failed must not empty the list."""
    publish(world, Changes(add=columns(FIRST)))
    with pytest.raises(UsageError, match="the whole list would be empty"):
        publish(world, WholeList({}))


entries = st.tuples(st.sampled_from([SHA256, MD5]), st.integers(0, 3), st.sampled_from(["", "a", "b"]))
lists = st.dictionaries(entries, st.sampled_from(["A", "B"]), max_size=8)


@settings(max_examples=60, deadline=None)
@given(held=lists.filter(bool), new=lists.filter(bool))
def test_a_whole_list_and_its_changes_make_the_same_delta(
    tmp_path_factory: pytest.TempPathFactory, held: dict[Entry, str], new: dict[Entry, str]
) -> None:
    """Whichever of the two a partner states."""
    folder = tmp_path_factory.mktemp("batch")
    current = whole(held, folder)
    stacks = {algorithm: Stack(algorithm, [segment]) for algorithm, segment in current.segments.items()}
    (folder / "new").mkdir()
    gone = columns(dict.fromkeys(held.keys() - new.keys(), ""), removed=True)
    deltas = []
    for batch in (whole(new, folder / "new"), Changes(columns(new), Removals(gone))):
        draft = ListDraft(folder, _Held(stacks))  # type: ignore[arg-type]  # stacks are all it looks at here
        draft.apply(batch)
        deltas.append({one: flat(rows) for one, rows in draft._deltas.items() if len(rows)})
    assert deltas[0] == deltas[1]


class _Held:
    def __init__(self, stacks: dict[Algorithm, Stack]) -> None:
        self.stacks = stacks


def flat(rows: Rows) -> list[tuple[bytes, str, str, bool]]:
    """Rows as Python values."""
    labels = [rows.labels[code] for code in rows.codes]
    return list(zip(map(bytes, rows.digests), rows.entries.to_pylist(), labels, rows.removed.tolist(), strict=True))
