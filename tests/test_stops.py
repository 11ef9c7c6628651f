"""Stopped at any call that changes a file, or failed there: nothing is torn, and the same command completes it."""

from collections.abc import Iterator

import pytest

from stops.build import build, missing
from stops.lab import Lab
from stops.run import Plan, try_some
from stops.stories import STORIES

SEED = 15
POINTS = 1
"""Points of each story that are tried here; `make crash` tries more."""

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Processes with the library preloaded."""
    folder = tmp_path_factory.mktemp("stops")
    with Lab(build(folder), folder / "lab") as found:
        yield found


@pytest.mark.parametrize("name", STORIES)
def test_a_command_stopped_anywhere(lab: Lab, name: str) -> None:
    """Readers have the old list or the new one whole, proofs hold, and running it again completes the work."""
    (tried,) = try_some(lab, Plan([name], SEED, most=POINTS))
    assert tried.faults == []
    assert len(tried.calls) > 1
