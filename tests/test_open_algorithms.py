"""Algorithms that syncd does not know by name: proved, carried, folded and matched exactly, whatever their width."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import independent_reader
from command_line import syncd
from signing import publish_change
from syncd.errors import SegmentError, SegmentFault, UsageError, kind_of
from syncd.feed.signed import load_repository
from syncd.files import install_file
from syncd.format.checksum import Checksum
from syncd.format.delta import difference, whole_state
from syncd.format.manifest import EndState, SegmentRef
from syncd.format.rows import Rows, sort_order
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.format.writer import fold, write_segment
from syncd.matcher import Matcher
from syncd.model import Algorithm, Counts, Digest, Hit, ListName
from syncd.publish import author
from syncd.publish.change import ListChange
from world import IMAGES, World, row

NEW = Algorithm("tlsh2")
WIDTH = 35
WIDTHS = [1, 2, 3, 4, 7, 8, 9, 31, 33, 35, 40, 1024]

Change = dict[tuple[bytes, str], str | None]


def rows_of(change: Change, algorithm: Algorithm = NEW) -> Rows:
    """The sorted rows of a change; None removes."""
    labels, removed = [label or "" for label in change.values()], [label is None for label in change.values()]
    rows = Rows.build(algorithm, [key[0] for key in change], [key[1] for key in change], labels, removed)
    return rows.take(sort_order(rows))


def segment_of(folder: Path, number: int, change: Change) -> Segment:
    """A change as a segment, proved; the first is a base."""
    path = folder / f"{number}.arrow"
    ref = write_segment(path, NEW, "delta" if number else "base", [rows_of(change)])
    assert ref is not None
    return Segment.check(path, ref)


@st.composite
def changes(draw: st.DrawFn) -> tuple[int, list[Change]]:
    """Some changes of digests of one width, many of them with shared prefixes and NULs."""
    width = draw(st.sampled_from(WIDTHS))
    short = st.binary(max_size=min(width, 9))
    digest = st.one_of(
        short.map(lambda text: text.ljust(width, b"\0")), short.map(lambda text: text.rjust(width, b"a"))
    )
    key = st.tuples(digest, st.sampled_from(["", "e", "f", "é"]))
    labels: st.SearchStrategy[str | None] = st.sampled_from(["", "A", "B"])
    first = st.dictionaries(key, labels, min_size=1, max_size=9)
    later = st.dictionaries(key, st.sampled_from(["", "A", None]), min_size=1, max_size=6)
    return width, [draw(first), *draw(st.lists(later, max_size=3))]


@settings(max_examples=80, deadline=None)
@given(made=changes())
def test_a_stack_of_any_width_holds_what_a_table_does(tmp_path_factory, made):  # type: ignore[no-untyped-def]
    """Look-ups, batches, counts, checksums, folds and differences of 1 to 1,024 bytes equal those of a plain table."""
    width, deltas = made
    folder = tmp_path_factory.mktemp("open")
    table: dict[tuple[bytes, str], str] = {}
    stack = Stack(NEW, [])
    for number, change in enumerate(deltas):
        effect = stack.effect(rows_of(change))
        assert effect.counts.added == len({key for key, label in change.items() if label is not None} - table.keys())
        table = {key: label for key, label in (table | change).items() if label is not None}
        stack = Stack(NEW, [*stack.segments, segment_of(folder, number, change)])
    assert stack.width == width
    asked = sorted({digest for change in deltas for digest, _ in change} | {b"z" * width, bytes(width)})
    for digest in asked:
        held = sorted((entry, label) for (one, entry), label in table.items() if one == digest)
        assert stack.entries_of(digest) == held
    batch = np.frombuffer(b"".join(asked), f"S{width}")
    assert stack.contains(batch).tolist() == [digest in {one for one, _ in table} for digest in asked]
    lanes = [independent_reader.row_hash(NEW, *key, label) for key, label in table.items()]
    total = sum((Checksum(*both) for both in lanes), Checksum())
    assert (stack.totals().rows, stack.totals().checksum) == (len(table), total)
    whole = fold(list(stack.segments), "base", folder / "whole.arrow")
    assert (whole is None) == (not table)
    if whole is not None:
        folded = Stack(NEW, [Segment.check(folder / "whole.arrow", whole)])
        assert folded.totals() == stack.totals()
        assert len(difference(stack, folded)) == len(difference(folded, stack)) == 0
        assert len(difference(Stack(NEW, []), folded)) == len(table)


@pytest.mark.parametrize("width", WIDTHS)
def test_digests_of_any_width_sort_as_bytes(width: int) -> None:
    """Also those of fewer bytes than a word."""
    values = [bytes([first]) * width for first in (5, 0, 255, 1)]
    made = Rows.build(NEW, values, ["e"] * 4, ["A"] * 4)
    assert sort_order(made).tolist() == [1, 3, 0, 2]


def test_segments_of_one_stack_have_one_width(tmp_path: Path) -> None:
    """No manifest can say a width, so that whoever reads the segments proves it."""
    one, other = segment_of(tmp_path, 0, {(b"a" * 9, ""): "A"}), segment_of(tmp_path, 1, {(b"a" * 10, ""): "A"})
    with pytest.raises(SegmentError, match="tlsh2 digests of 10 and of 9 bytes cannot be combined"):
        Stack(NEW, [one, other])
    with pytest.raises(SegmentError, match="digests of 10 and of 9 bytes cannot be combined"):
        difference(Stack(NEW, [one]), Stack(NEW, [other]))
    with pytest.raises(UsageError, match="a tlsh2 digest has 10 bytes; 9 are expected"):
        write_segment(tmp_path / "both", NEW, "base", [one.rows(), other.rows()])


def test_a_digest_has_one_to_1024_bytes(tmp_path: Path) -> None:
    """A segment of wider digests is refused; so is text of such a width."""
    ref = write_segment(tmp_path / "wide.arrow", NEW, "base", [rows_of({(b"a" * 1025, ""): "A"})])
    assert ref is not None
    with pytest.raises(SegmentError, match="digests of 1,025 bytes; format 1 allows 1 to 1024"):
        Segment.check(tmp_path / "wide.arrow", ref)
    assert Digest.parse("tlsh2:" + "Aa" * 1024) == Digest(NEW, b"\xaa" * 1024)
    for text in ("tlsh2:", "tlsh2:abc", "tlsh2:zz", "tlsh2:" + "aa" * 1025, "TLSH 2:aa", "-a:aa", "a" * 33 + ":aa"):
        with pytest.raises(UsageError):
            Digest.parse(text)


def publish_new(world: World, change: Change, name: ListName = IMAGES, *, honest: bool = True) -> None:
    """The partner publishes rows of an algorithm that syncd does not know."""
    repository = load_repository(world.partner)
    before = author.open_list(world.partner, repository, name)
    stack = before.stacks.get(NEW, Stack(NEW, [])) if before else Stack(NEW, [])
    path = world.base / "new.arrow"
    ref = write_segment(path, NEW, "delta" if before else "base", [rows_of(change)])
    assert ref is not None
    counts = {NEW: stack.effect(rows_of(change)).counts} if honest else {NEW: Counts(added=len(change))}
    install_file(path, world.partner.segment_path(name, ref))
    segment = Segment.open(world.partner.segment_path(name, ref), ref)
    state, _ = whole_state(Stack(NEW, [*stack.segments, segment] if honest else [segment]))
    states: dict[Algorithm, EndState] = {**(before.manifest.end_state if before else {}), NEW: state}
    refs: tuple[SegmentRef, ...] = (*(before.manifest.stack if before else ()), ref)
    publish_change(world, ListChange(name, (ref,) if before else (), counts, states, refs))


def test_an_unknown_algorithm_takes_the_whole_road(world: World) -> None:
    """Published, synced, pulled, verified and matched: beside a list of a known one, and from a delta on."""
    held, gone, added = b"\1" * WIDTH, b"\2" * (WIDTH - 1) + b"\0", b"\3" * WIDTH
    world.publish(full=[row(1)])
    publish_new(world, {(held, "h"): "A", (gone, "g"): "B"})
    assert world.sync().exit_code == 0
    world.pull()
    matcher = world.matcher()
    assert matcher.lookup("tlsh2", gone) == [Hit(ListName("iwf.images"), 1, "g", "B")]
    assert matcher.algorithms == ("sha256", "tlsh2")
    world.clock.forward(hours=1)
    publish_new(world, {(gone, "g"): None, (added, "a"): "C"})
    outcome = world.sync()
    assert outcome.exit_code == 0
    (synced,) = outcome.lists
    assert synced.counts == {NEW: Counts(added=1, removed=1)}
    world.pull()
    assert matcher.reload()
    assert matcher.lookup("tlsh2", gone) == []
    assert matcher.lookup("tlsh2", added.hex().upper()) == [Hit(ListName("iwf.images"), 2, "a", "C")]
    assert matcher.lookup("tlsh2", np.frombuffer(held, f"S{WIDTH}")[0])
    assert matcher.lookup_many("tlsh2", [held, gone, added]).tolist() == [True, False, True]
    ran = syncd("lookup", world.copy, f"tlsh2:{added.hex()}")
    assert ran.code == 0
    assert ran.err.endswith("note: tlsh2 digests are compared exactly; near matches are not found\n")
    assert syncd("verify", world.copy).code == 0
    assert syncd("verify", world.partner.root).code == 0


def test_a_matcher_tells_no_such_algorithm_from_no_match(standing: World) -> None:
    """A name that no list holds is an error; a digest that is not listed is an empty answer."""
    with pytest.raises(UsageError, match="unknown algorithm"):
        standing.matcher().lookup("tlsh2", bytes(WIDTH))
    publish_new(standing, {(b"\1" * WIDTH, "h"): "A"}, ListName("tlsh"))
    standing.follow()
    matcher = Matcher.open(standing.mirror, clock=standing.clock)
    assert matcher.lookup("tlsh2", bytes(WIDTH)) == []
    with pytest.raises(UsageError, match="a tlsh2 digest has 35 bytes, not 3 bytes"):
        matcher.lookup("tlsh2", "aaaaaa")


def test_lists_may_differ_in_the_width_of_a_name(world: World) -> None:
    """What one feed calls by a name is each list's own: a digest is looked up in the lists of its width."""
    publish_new(world, {(b"\1" * 3, "three"): "A"}, ListName("narrow"))
    publish_new(world, {(b"\1" * 5, "five"): "A"}, ListName("wide"))
    world.follow()
    matcher = Matcher.open(world.mirror, clock=world.clock)
    assert [hit.entry for hit in matcher.lookup("tlsh2", b"\1" * 3)] == ["three"]
    assert [hit.entry for hit in matcher.lookup("tlsh2", b"\1" * 5)] == ["five"]
    assert matcher.lookup_many("tlsh2", [b"\1" * 5, b"\2" * 5]).tolist() == [True, False]
    assert matcher.lookup_many("tlsh2", np.full((1, 3), 1, np.uint8)).tolist() == [True]
    with pytest.raises(UsageError, match="a tlsh2 digest has 3 or 5 bytes, not 4 bytes"):
        matcher.lookup("tlsh2", b"\1" * 4)


def test_a_delta_of_another_width_is_refused(world: World) -> None:
    """By a pull and by a sync: what was held goes on."""
    publish_new(world, {(b"\1" * 3, "three"): "A"})
    world.follow()
    assert world.sync().exit_code == 0
    publish_new(world, {(b"\1" * 5, "five"): "A"}, honest=False)
    world.clock.forward(minutes=5)
    assert [kind_of(error) for error in world.follow().errors] == [SegmentFault.WIDTH]
    assert world.sync().exit_code == 4
    matcher = Matcher.open(world.mirror, clock=world.clock)
    assert [hit.entry for hit in matcher.lookup("tlsh2", b"\1" * 3)] == ["three"]


def test_labels_of_4096_bytes_take_the_whole_road(world: World) -> None:
    """A partner's sorted tags are one label."""
    label = ";".join(f"tag-{number:04}" for number in range(455)).ljust(4096, "x")
    assert len(label) == 4096
    world.publish(full=[(*row(1)[:3], label)])
    assert world.sync().exit_code == 0
    world.pull()
    (hit,) = world.hits(1)
    assert hit.label == label
