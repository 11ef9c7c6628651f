"""Stacks against a plain dictionary: the oracle that needs no cleverness."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.format.checksum import Checksum, checksum
from syncd.format.rows import Rows, concatenate, sort_order
from syncd.format.segment import Segment
from syncd.format.stack import Stack, merge_deltas
from syncd.format.writer import write_segment
from syncd.model import Algorithm, Counts

ALGORITHM = Algorithm.MD5
Table = dict[tuple[bytes, str], str]
Change = dict[tuple[bytes, str], str | None]  # None removes

# few digests, with NULs and shared prefixes, so that collisions of every kind happen often
digests = st.sampled_from(
    [bytes(16), b"\0" * 15 + b"\1", b"\1" + bytes(15), b"a" * 16, b"a" * 15 + b"\0", b"a" * 15 + b"b", b"\xff" * 16]
)
entries = st.sampled_from(["", "e", "e1", "e10", "é", "entry-of-more-than-eight-bytes", "\x00x"])
labels = st.sampled_from(["A", "B", "", "É"])
changes = st.dictionaries(st.tuples(digests, entries), st.one_of(labels, st.none()), min_size=1, max_size=20)
tables = st.dictionaries(st.tuples(digests, entries), labels, min_size=1, max_size=30)


def rows_of(change: Change | Table) -> Rows:
    keys = list(change)
    rows = Rows.build(
        ALGORITHM,
        [digest for digest, _ in keys],
        [entry for _, entry in keys],
        [change[key] or "" for key in keys],
        [change[key] is None for key in keys],
    )
    return rows.take(sort_order(rows))


def segment_of(folder: Path, number: int, rows: Rows, kind: str) -> Segment:
    path = folder / f"{number}.arrow"
    path.unlink(missing_ok=True)
    ref = write_segment(path, ALGORITHM, "base" if kind == "base" else "delta", [rows])
    assert ref is not None
    return Segment.check(path, ref)


def stack_of(folder: Path, base: Table, deltas: list[Change]) -> tuple[Stack, Table]:
    segments = [segment_of(folder, 0, rows_of(base), "base")] if base else []
    state = dict(base)
    for number, delta in enumerate(deltas, 1):
        segments.append(segment_of(folder, number, rows_of(delta), "delta"))
        apply(state, delta)
    return Stack(ALGORITHM, segments), state


def apply(state: Table, delta: Change) -> Counts:
    counts = dict.fromkeys(("added", "relabelled", "unchanged", "removed", "absent"), 0)
    for key, label in delta.items():
        if label is None:
            counts["removed" if key in state else "absent"] += 1
            state.pop(key, None)
        else:
            kind = "added" if key not in state else "unchanged" if state[key] == label else "relabelled"
            counts[kind] += 1
            state[key] = label
    return Counts(**counts)


def as_table(rows: Rows) -> Table:
    width = rows.algorithm.width
    return {
        (digest.ljust(width, b"\0"), entry): rows.labels[code]
        for digest, entry, code in zip(rows.digests.tolist(), rows.entries.to_pylist(), rows.codes, strict=True)
    }


@settings(max_examples=60, deadline=None)
@given(base=st.one_of(st.just({}), tables), deltas=st.lists(changes, max_size=4))
def test_a_stack_holds_what_its_deltas_applied_in_order_give(tmp_path_factory, base, deltas):  # type: ignore[no-untyped-def]
    """Deltas applied in order equal the full list: look-ups, batches, order and checksum alike."""
    stack, expected = stack_of(tmp_path_factory.mktemp("stack"), base, deltas)
    effective = list(stack.effective(size=3))
    found: Table = {}
    for part in effective:
        found |= as_table(part)
    assert found == expected
    assert list(found) == sorted(expected, key=lambda key: (key[0], key[1].encode()))
    asked = sorted({digest for digest, _ in (*base, *expected)} | {b"z" * 16, bytes(16)})
    for digest in asked:
        assert stack.entries_of(digest) == sorted(
            (entry, label) for (held, entry), label in expected.items() if held == digest
        )
    mask = stack.contains(np.array(asked, dtype="S16"))
    assert mask.tolist() == [any(held == digest for held, _ in expected) for digest in asked]
    totals = stack.totals()
    assert (totals.rows, totals.checksum) == (len(expected), checksum(rows_of(expected)) if expected else Checksum())


@settings(max_examples=60, deadline=None)
@given(base=tables, deltas=st.lists(changes, max_size=2), delta=changes)
def test_the_effect_of_a_delta_is_exact(tmp_path_factory, base, deltas, delta):  # type: ignore[no-untyped-def]
    """Counts and checksum change, found by looking up only the delta's rows, are those of the whole list."""
    stack, state = stack_of(tmp_path_factory.mktemp("stack"), base, deltas)
    before = checksum(rows_of(state)) if state else Checksum()
    effect = stack.effect(rows_of(delta))
    counts = apply(state, delta)
    assert effect.counts == counts
    assert sum(effect.by_label.values(), Counts()) == counts
    assert before + effect.change == (checksum(rows_of(state)) if state else Checksum())


@settings(max_examples=60, deadline=None)
@given(deltas=st.lists(changes, min_size=2, max_size=5), cut=st.integers(1, 4))
def test_merging_deltas_is_associative(tmp_path_factory, deltas, cut):  # type: ignore[no-untyped-def]
    """Deltas merged in two halves equal deltas merged at once."""
    folder = tmp_path_factory.mktemp("merge")
    segments = [segment_of(folder, number, rows_of(delta), "delta") for number, delta in enumerate(deltas)]
    cut = min(cut, len(segments) - 1)
    halves = [merge_deltas(ALGORITHM, part) for part in (segments[:cut], segments[cut:])]
    halved = [segment_of(folder, 100 + number, half, "delta") for number, half in enumerate(halves)]
    direct = segment_of(folder, 200, merge_deltas(ALGORITHM, segments), "delta")
    assert segment_of(folder, 201, merge_deltas(ALGORITHM, halved), "delta").ref == direct.ref


@given(table=tables)
def test_the_checksum_does_not_depend_on_order(table):  # type: ignore[no-untyped-def]
    """Rows in any order, in any parts, give one checksum."""
    rows = rows_of(table)
    backwards = rows.take(np.arange(len(rows))[::-1])
    assert checksum(backwards) == checksum(rows)
    parts = [rows.slice(number, number + 1) for number in range(len(rows))]
    assert sum((checksum(part) for part in parts), Checksum()) == checksum(rows)
    assert checksum(concatenate(parts)) == checksum(rows)


def test_rows_that_swap_entries_or_labels_change_the_checksum() -> None:
    """The checksum sees which entry and which label belong to which digest."""
    straight = rows_of({(b"a" * 16, "1"): "A", (b"b" * 16, "2"): "B"})
    entries_swapped = rows_of({(b"a" * 16, "2"): "A", (b"b" * 16, "1"): "B"})
    labels_swapped = rows_of({(b"a" * 16, "1"): "B", (b"b" * 16, "2"): "A"})
    assert len({checksum(rows) for rows in (straight, entries_swapped, labels_swapped)}) == 3
