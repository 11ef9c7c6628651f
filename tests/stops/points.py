"""The points of a command: each call with each fault, and the order in which to try them."""

import itertools
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from stops.processes import Call, How, Point


def points_of(calls: Sequence[Call]) -> list[Point]:
    """Return every point of a command, by its calls.

    A process that is killed after a call leaves what one leaves that is killed before the next, so only the last call
    is stopped after it; and a flush changes nothing that a killed process leaves.
    """
    points = []
    for number, call in enumerate(calls, 1):
        if call.kind != "sync":
            points.append(Point(number, How.BEFORE))
        if call.kind == "write" and call.length > 1:
            points.append(Point(number, How.TORN))
        if call.takes_space:
            points.append(Point(number, How.NO_SPACE))
        points.append(Point(number, How.IO_ERROR))
    return [*points, Point(len(calls), How.AFTER)] if calls else []


def states_after(calls: Sequence[Call], seen: Sequence[str]) -> Iterator[tuple[Point, str]]:
    """Yield every point that kills a command, with its state, except that after its last call.

    ``seen``: the states in which the command waited, before each call and after the first half of each write.
    """
    states = iter(seen)
    for number, call in enumerate(calls, 1):
        before = next(states)
        if call.kind != "sync":
            yield Point(number, How.BEFORE), before
        if call.kind == "write" and call.length > 1:
            yield Point(number, How.TORN), next(states)


def in_order(calls: Sequence[Call], seed: str) -> list[Point]:
    """Return all points, first one at each site, then a second one, and so on; else in random order.

    A site is a kind of call on a kind of file, with one fault. Points that stop the process and points that fail a
    call take turns.
    """
    rng = random.Random(seed)
    points = points_of(calls)
    at_site: Counter[tuple[str, str, How]] = Counter()
    kinds: list[list[tuple[int, Point]]] = [[], []]
    for point in rng.sample(points, len(points)):
        call = calls[point.at - 1]
        site = call.kind, _pattern(call.file), point.how
        kinds[point.how.kills].append((at_site[site], point))
        at_site[site] += 1
    rng.shuffle(kinds)
    turns = itertools.zip_longest(*(sorted(kind, key=lambda one: one[0]) for kind in kinds))
    return [one[1] for turn in turns for one in turn if one is not None]


def _pattern(file: str) -> str:
    """Return the name of a file without numbers, random names and digests."""
    return re.sub(r"\d+", "0", re.sub(r"[0-9a-f]{16,}", "X", file))
