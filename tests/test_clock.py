from datetime import timedelta

import pytest

from syncd.service.scheduler import WallClock
from world import START


@pytest.mark.parametrize(
    ("wall", "steady", "expected"),
    [(10, 10, None), (-3590, 10, 3600), (3610, 10, None), (6, 10, None), (10, 20, 10), (0, 5, None)],
)
def test_a_clock_set_back_is_noticed(wall: float, steady: float, expected: float | None) -> None:
    """By more than five seconds, and by how much; set forward, it is no matter, and each change is told once."""
    times = iter([START, *[START + timedelta(seconds=wall)] * 2])
    counts = iter([100.0, *[100.0 + steady] * 2])
    clock = WallClock(lambda: next(times), lambda: next(counts))
    assert clock.went_back() == (None if expected is None else timedelta(seconds=expected))
    assert clock.went_back() is None
