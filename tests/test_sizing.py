"""The page that says how many machines serve how many matchers."""

from dataclasses import replace
from pathlib import Path

from benchmarks.sizing import AT_ONE, page, plan, read

PAGE = (Path(__file__).parents[1] / "docs" / "scale.md").read_text()


def test_the_page_is_computed_from_the_measured_costs() -> None:
    """Each table is the one that `python -m benchmarks.sizing` prints; the commit that was measured is named."""
    costs = read()
    for table in page(costs).split("\n\n"):
        assert table in PAGE
    assert f"commit {costs.commit}" in PAGE


def test_a_plan_keeps_to_the_limits_of_its_servers() -> None:
    """As few mirrors as their streams allow, and each reader's work at its own server."""
    costs = replace(read(), pull=5.0, event=0.0, tls=0.0, published_to_answered=1.0, published_to_answered_direct=0.5)
    small, large = plan(1_000, costs), plan(100_000, costs)
    assert (small.mirrors, small.each, small.seconds) == (0, 1_000, 5.5)
    assert (large.mirrors, large.each) == (56, 1_786)
    assert large.each <= AT_ONE
    assert large.seconds == 1.0 + 1_786 * 5.0 / 1e3
