"""What changed between two published versions."""

import pytest

from syncd.errors import UsageError
from syncd.feed.difference import Difference
from syncd.model import Algorithm, Counts, ListName
from syncd.report.history import diff
from world import HEAD, IMAGES, World, row, rows

SHA256, MD5 = Algorithm.SHA256, Algorithm.MD5


@pytest.fixture
def running(world: World) -> World:
    """Four versions: 30 rows; 2 more and one fewer; a relabelling and an MD5; what version 2 added is gone again."""
    world.publish(full=rows(0, 30))
    world.sync()
    world.publish(add=[row(30, "B"), row(31, "B")], remove=[row(5)])
    world.sync()
    world.publish(add=[row(7, "Z"), row(1, "A", "md5")])
    world.sync()
    world.publish(remove=[row(30), row(31)])
    world.sync()
    return world


def compare(world: World, old: int, new: int, name: ListName = HEAD) -> Difference:
    with world.publisher() as publisher:
        return diff(publisher.catalog, world.state.feed, name, old, new)


def test_counts_by_algorithm_and_label(running: World) -> None:
    """A difference counts additions, removals and relabellings under their labels."""
    found = compare(running, 1, 3)
    assert found.how == "deltas"
    assert (found.rows_old, found.rows_new) == (30, 32)
    assert found.counts == {SHA256: Counts(added=2, relabelled=1, removed=1), MD5: Counts(added=1)}
    assert found.labels == {
        SHA256: {"B": Counts(added=2), "C": Counts(removed=1), "Z": Counts(relabelled=1)},
        MD5: {"A": Counts(added=1)},
    }


def test_what_came_and_went_is_not_counted(running: World) -> None:
    """A difference is net."""
    found = compare(running, 1, 4)
    assert found.counts[SHA256] == Counts(relabelled=1, removed=1)


def test_backwards(running: World) -> None:
    """The newer version may come first: what was added then counts as removed."""
    found = compare(running, 3, 1)
    assert found.how == "stacks"
    assert found.counts == {SHA256: Counts(added=1, relabelled=1, removed=2), MD5: Counts(removed=1)}
    assert found.labels[SHA256] == {"B": Counts(relabelled=1, removed=2), "C": Counts(added=1)}


def test_the_same_version(running: World) -> None:
    """A version does not differ from itself."""
    found = compare(running, 2, 2)
    assert (found.counts, found.labels, found.how) == ({}, {}, "deltas")


def test_deltas_and_stacks_agree(running: World) -> None:
    """Where the deltas are gone, comparing the stacks gives the same."""
    by_deltas = compare(running, 1, 3)
    with running.publisher() as publisher:
        publisher.compact(HEAD, running.clock(), everything=True)
        newest = publisher.catalog.versions(HEAD, 1)[0].version
    assert newest == 5
    for delta in running.state.feed.path(f"v1/{HEAD}/segments").iterdir():
        assert delta.stat().st_size
    found = compare(running, 1, 5)
    assert found.counts == compare(running, 1, 4).counts
    assert by_deltas.rows_new == 32


def test_a_version_whose_files_were_collected(running: World) -> None:
    """Versions whose segments are gone cannot be compared, and the error says so."""
    with running.publisher() as publisher:
        publisher.compact(HEAD, running.clock(), everything=True)
        head = publisher.list_state("iwf", IMAGES).head
    assert head is not None
    kept = {ref.sha256 for ref in head.stack}
    for path in running.state.feed.path(f"v1/{HEAD}/segments").iterdir():
        if path.stem not in kept:
            path.unlink()
    with pytest.raises(UsageError, match=r"no longer has 1 file of iwf\.images version 1$"):
        compare(running, 1, 5)


def test_unknown_versions_and_lists_are_named(running: World) -> None:
    """An unknown version is answered with those there are, an unknown list with the lists."""
    with pytest.raises(UsageError, match=r"iwf\.images has no version 9") as version:
        compare(running, 1, 9)
    assert version.value.hint == "its newest versions are 4, 3, 2, 1; `syncd snapshots iwf.images` shows all"
    with pytest.raises(UsageError) as unknown:
        compare(running, 1, 2, ListName("iwf.video"))
    assert unknown.value.hint == "there is no such list; published lists: iwf.images"
