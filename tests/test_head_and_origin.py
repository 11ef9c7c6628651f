"""Head and origin, by property: whatever partner and operator do, ``head = origin + withheld``, and nothing held leaks.

A model keeps both as dictionaries; the real ones are a partner's feed, a state folder and its catalog.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from list_world import ListWorld
from syncd.catalog.decisions import HoldState
from syncd.format.manifest import Withheld
from syncd.format.rows import Mask, Rows, sort_order
from syncd.format.stack import Resolved
from syncd.model import Algorithm
from syncd.outcomes import Lane
from syncd.pipeline.compose import Composed, Passing, Touched, compose, withheld

MD5 = Algorithm.MD5
Key = tuple[bytes, str]
List = dict[Key, str]

KEYS: list[Key] = [(bytes([digest]) * 16, entry) for digest in range(1, 6) for entry in ("", "e")]
LABELS = ["A", "B"]
FUZZ = bool(os.environ.get("SYNCD_FUZZ"))
"""`make fuzz`: many more cases"""
DELTAS = 1000 if FUZZ else 120
"""120 are enough for every size of fold"""
STORIES = 200 if FUZZ else 40


def lists() -> st.SearchStrategy[List]:
    """Small lists over few keys, so that everything meets everything."""
    return st.dictionaries(st.sampled_from(KEYS), st.sampled_from(LABELS), max_size=len(KEYS))


def resolved(keys: list[Key], held: List) -> Resolved:
    """What a stack with the rows ``held`` would answer for ``keys``."""
    present = np.array([key in held for key in keys], bool)
    there = [key for key in keys if key in held]
    return Resolved(present, rows_of({key: held[key] for key in there}, there))


def rows_of(held: List, order: list[Key]) -> Rows:
    return Rows.build(MD5, [key[0] for key in order], [key[1] for key in order], [held[key] for key in order])


def mask(keys: list[Key], chosen: set[Key]) -> Mask:
    return np.array([key in chosen for key in keys], bool)


def applied(held: List, delta: Rows) -> List:
    """A list after a delta."""
    after = dict(held)
    for position in range(len(delta)):
        key = (delta.digests[position].ljust(16, b"\0"), delta.entries[position].as_py())
        if delta.removed[position]:
            after.pop(key, None)
        else:
            after[key] = delta.labels[delta.codes[position]]
    return after


@st.composite
def cases(draw: Callable[[st.SearchStrategy[Any]], Any]) -> dict[str, Any]:
    """An origin and a head that differ in any way, and who stands where for each key."""
    some = st.sets(st.sampled_from(KEYS))
    return {
        "origin": draw(lists()),
        "head": draw(lists()),
        "touched": sorted(draw(st.sets(st.sampled_from(KEYS), min_size=1))),
        "suppressed": draw(some),
        "refused": draw(some),
        "additions": draw(st.one_of(st.just(set(KEYS)), st.just(set()), some)),
        "removals": draw(st.one_of(st.just(set(KEYS)), st.just(set()), some)),
        "owed": draw(some),
    }


def composed(case: dict[str, Any]) -> tuple[Touched, Composed]:
    keys = case["touched"]
    touched = Touched(
        Rows.build(MD5, [key[0] for key in keys], [key[1] for key in keys], [""] * len(keys)),
        resolved(keys, case["origin"]),
        resolved(keys, case["head"]),
        mask(keys, case["suppressed"]),
        mask(keys, case["refused"]),
    )
    passing = Passing(mask(keys, case["additions"]), mask(keys, case["removals"]))
    return touched, compose(touched, passing, mask(keys, case["owed"]))


def wanted(case: dict[str, Any], key: Key) -> str | None:
    return None if key in case["suppressed"] else case["origin"].get(key)


@settings(max_examples=400, deadline=None)
@given(case=cases())
def test_one_rule_key_by_key(case: dict[str, Any]) -> None:
    """A lane that passes takes what is wanted, one that holds keeps what is; untouched keys stay as they are."""
    _, result = composed(case)
    after = applied(case["head"], result.head)
    for key in KEYS:
        is_, want = case["head"].get(key), wanted(case, key)
        if key not in case["touched"] or want == is_:
            assert after.get(key) == is_
        elif want is None:
            forced = key in case["suppressed"]
            free = key in case["removals"] and key not in case["refused"]
            assert after.get(key) == (None if forced or free else is_)
        else:
            free = key in case["additions"] and key not in case["refused"]
            assert after.get(key) == (want if free else is_)


@settings(max_examples=400, deadline=None)
@given(case=cases())
def test_the_head_and_what_is_owed_give_the_origin(case: dict[str, Any]) -> None:
    """Of the touched keys: the next head, with what goes on top of owed, is the origin; rows that were owed and are
    met say so."""
    _, result = composed(case)
    after = applied(case["head"], result.head)
    turned = applied(after, result.owed)
    named = {
        (digest.ljust(16, b"\0"), entry.as_py())
        for digest, entry in zip(result.owed.digests, result.owed.entries, strict=True)
    }
    for key in case["touched"]:
        if after.get(key) != case["origin"].get(key) or key in case["owed"]:
            assert key in named
        assert turned.get(key) == case["origin"].get(key)
        assert bool(result.differs[case["touched"].index(key)]) == (after.get(key) != case["origin"].get(key))


@settings(max_examples=400, deadline=None)
@given(case=cases())
def test_counts_are_those_of_the_rows(case: dict[str, Any]) -> None:
    """What waits, what is refused, what is suppressed and by how much the head grows are counted exactly."""
    touched, result = composed(case)
    after = applied(case["head"], result.head)
    assert result.growth == len(after) - len(case["head"])
    expected = {"waiting": [0, 0, 0, 0], "refused": [0, 0, 0, 0]}
    for key in case["touched"]:
        if key in case["suppressed"]:
            expected["waiting"][3] += key in case["origin"]
            continue
        is_, want = after.get(key), case["origin"].get(key)
        if is_ != want:
            kind = 1 if want is None else 2 if is_ is not None else 0
            expected["refused" if key in case["refused"] else "waiting"][kind] += 1
    names = ("additions", "removals", "relabels", "suppressed")
    assert result.waiting == Withheld(**dict(zip(names, expected["waiting"], strict=True)))
    assert result.refused == Withheld(**dict(zip(names, expected["refused"], strict=True)))
    nothing = {**case, "additions": set(), "removals": set()}
    before = withheld(touched)
    kept = composed(nothing)[1]
    if not case["suppressed"]:  # a suppression takes effect whatever the lanes say
        assert before == (kept.waiting, kept.refused)


@settings(max_examples=200, deadline=None)
@given(case=cases())
def test_rows_come_sorted(case: dict[str, Any]) -> None:
    """Every part can be written as a segment as it is."""
    _, result = composed(case)
    for rows in (result.head, result.owed, result.added, result.removed):
        assert (sort_order(rows) == np.arange(len(rows))).all()


# the same with files, over time


def actions() -> st.SearchStrategy[list[Any]]:
    """What partner, gate and operator may do, in any order."""
    label = st.one_of(st.none(), st.sampled_from(LABELS))
    step = st.dictionaries(st.sampled_from(KEYS), label, min_size=1, max_size=4)
    lanes = st.sets(st.sampled_from([Lane.ADDITIONS, Lane.REMOVALS]))
    return st.lists(
        st.one_of(
            st.tuples(st.just("update"), st.lists(step, min_size=1, max_size=3), lanes),
            st.tuples(st.just("fork"), st.lists(step, min_size=1, max_size=2)),
            st.tuples(st.just("release"), st.integers(0, 3)),
            st.tuples(st.just("discard"), st.integers(0, 3)),
            st.tuples(st.just("compact"), st.booleans()),
            st.tuples(st.just("lose"), lists()),
            st.tuples(st.just("suppress"), st.sampled_from(KEYS), st.booleans()),
            st.tuples(st.just("unsuppress"), st.integers(0, 3)),
            st.tuples(st.just("know"), st.sets(st.sampled_from([key[0] for key in KEYS]), max_size=3)),
            st.tuples(st.just("rollback"), st.integers(0, 5), st.booleans()),
            st.tuples(st.just("unpin"), lanes),
        ),
        min_size=1,
        max_size=9,
    )


@settings(max_examples=STORIES, deadline=None)
@given(first=lists().filter(bool), done=actions())
def test_head_and_origin_over_time(tmp_path_factory: pytest.TempPathFactory, first: List, done: list[Any]) -> None:
    """After every act the origin is what the partner states, the head is what was let through, and counts are exact.

    What is suppressed or known to be good is in the head after none of them. While the list is pinned, the head is the
    older version, but for what the partner has removed since.
    """
    note(f"{first}")
    world = ListWorld(tmp_path_factory.mktemp("list"))
    world.first(first)
    world.check()
    for act, *given_ in done:
        note(f"{act} {given_}")
        open_or_discarded = [one for one in world.state.holds if act == "release" or one.state is HoldState.OPEN]
        match act:
            case "update":
                world.update(*given_)
            case "fork":
                world.update(given_[0], forked=True)
            case "compact":
                world.compact(everything=given_[0])
            case "lose":
                world.lose(given_[0])
            case "suppress" | "unsuppress" | "know" | "rollback" | "unpin":
                correct(world, act, given_)
            case _ if open_or_discarded:
                hold = open_or_discarded[given_[0] % len(open_or_discarded)]
                if hold.lane is not Lane.BOTH or hold.state is HoldState.OPEN:
                    world.end(hold.id, release=act == "release")
        world.check()


def correct(world: ListWorld, act: str, given_: list[Any]) -> None:
    """The operator suppresses, ends a suppression, changes the known-good file, rolls back, or ends that."""
    if act == "rollback":
        world.rollback(given_[0], exact=given_[1])
    elif act == "unpin":
        world.unpin(given_[0])
    elif act == "suppress":
        world.suppress(given_[0], whole=given_[1])
    elif act == "know":
        world.know(given_[0])
    elif world.suppressions:
        world.unsuppress(world.suppressions[given_[0] % len(world.suppressions)])


def published_as_made(world: ListWorld) -> bool:
    """Whether the last update's segments are the partner's own."""
    return bool(world.as_made)


def test_segments_go_out_as_the_partner_made_them_beside_what_waits(tmp_path: Path) -> None:
    """An update that compose alters in no row is published byte for byte, also while something else is withheld."""
    world = ListWorld(tmp_path)
    world.first(dict.fromkeys(KEYS, "A"))
    world.update([{KEYS[0]: "B", KEYS[1]: None}], {Lane.ADDITIONS})
    assert not published_as_made(world)
    world.update([{KEYS[2]: None}, {KEYS[3]: None}])
    assert published_as_made(world)
    world.update([{KEYS[0]: None, KEYS[4]: None}])
    world.check()


def test_stacks_stay_short_beside_something_refused(tmp_path: Path) -> None:
    """After one entry is kept out for good and many deltas, both stacks are short, and one base lies on the disk."""
    world = ListWorld(tmp_path)
    rows = {(number.to_bytes(16, "big"), ""): "A" for number in range(1, 400)}
    world.first(rows)
    kept = next(iter(rows))
    world.update([{kept: None}], {Lane.REMOVALS})
    world.end(1, release=False)
    for number in range(1000, 1000 + DELTAS):
        world.update([{(number.to_bytes(16, "big"), ""): "B"}])
        assert published_as_made(world)
        world.compact(everything=False)
        assert world.head
        assert len(world.head.stack) <= 24
        assert len(world.state.stack) <= 25
    world.check()
    assert kept in world.served
    assert [ref.kind for ref in world.state.stack].count("base") == 1
