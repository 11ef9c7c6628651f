"""Partners that sign nothing, by property: whatever happens in between, what is published equals what they state."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from scripted import IMAGES, MD5, SHA256, VIDEOS, record
from syncd.catalog.catalog import Catalog
from syncd.sources.statements import ListKind
from test_stated import StatedWorld

STORIES = 300 if os.environ.get("SYNCD_FUZZ") else 12
BOTH = {IMAGES: ListKind("image"), VIDEOS: ListKind("video")}

RECORDS = st.builds(
    lambda entry, numbers, label, name, algorithm: record(
        f"m/{entry}", *sorted(numbers), label=label, name=name, algorithm=algorithm
    ),
    st.integers(1, 4),
    st.sets(st.integers(1, 5), max_size=3),
    st.sampled_from("AB"),
    st.sampled_from([IMAGES, VIDEOS]),
    st.sampled_from([SHA256, MD5]),
)
STEPS = st.one_of(
    st.tuples(st.just("state"), st.lists(RECORDS, min_size=1, max_size=6)),
    st.tuples(st.just("sync"), st.none()),
    st.tuples(st.just("cut"), st.integers(0, 6)),
    st.tuples(st.just("crash"), st.tuples(st.integers(0, 3), st.booleans())),
    st.tuples(st.just("forget"), st.none()),
    st.tuples(st.just("reshape"), st.none()),
)


class Killed(BaseException):
    """The process ended here."""


@contextmanager
def killed_at(commit: int, *, after: bool) -> Iterator[None]:
    """Kill the process at a commit of its sync, before or after it."""
    whole, left = Catalog.commit, [commit]

    def commit_or_die(catalog: Catalog, what: Any) -> int:
        left[0] -= 1
        if left[0] >= 0:
            return whole(catalog, what)
        if after:
            whole(catalog, what)
        raise Killed

    with patch.object(Catalog, "commit", commit_or_die):
        try:
            yield
        except Killed:
            return


@pytest.mark.timeout(900)
@settings(max_examples=STORIES, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(steps=st.lists(STEPS, min_size=3, max_size=14))
def test_the_head_is_what_the_partner_states(tmp_path_factory: Any, steps: list[tuple[str, Any]]) -> None:
    """Additions, updates, deletions, re-creations, cut polls, kills, forgotten deletions and other filters."""
    base: Path = tmp_path_factory.mktemp("story")
    world = StatedWorld(base)
    source = replace(world.source, kinds=BOTH)
    for name in BOTH:  # an emptied list would be held
        world.partner.state(record("m/kept", 9, name=name))
    for kind, value in steps:
        note(f"{kind} {value!r}")
        match kind:
            case "state":
                world.partner.state(*value)
            case "cut":
                world.partner.cut_after = value
            case "forget":
                world.partner.forget()
            case "reshape":
                source = replace(source, shape=0 if source.shape else 1)
            case "crash":
                with killed_at(value[0], after=value[1]):
                    world.sync(source)
            case _:
                if world.sync(source).error is None:
                    check(world)
    world.partner.cut_after = None
    assert world.sync(source).error is None
    check(world)
    assert world.sync(source).error is None
    assert world.partner.asked[-1] == {"at": world.partner.trimmed + len(world.partner.log)}


def check(world: StatedWorld) -> None:
    """Compare both lists with the model."""
    for name in BOTH:
        with world.publisher() as publisher:
            published = publisher.catalog.head(f"ncp.{name}")  # type: ignore[arg-type]  # a list name
        expected = world.partner.content(name)
        if published is None:
            assert not expected
        else:
            assert world.content(name) == expected
