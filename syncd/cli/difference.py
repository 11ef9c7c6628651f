"""The difference between two versions of a list as a table: for ``syncd diff`` and ``syncd feed diff``."""

from collections.abc import Mapping
from typing import Any

from syncd.cli.output import say, show_table
from syncd.units import count


def show_difference(difference: Mapping[str, Any]) -> None:
    """Print the document of a `syncd.feed.difference.Difference`: counts by algorithm and label, never rows."""
    old, new = count(difference["rows_old"], "row"), count(difference["rows_new"], "row")
    say(f"{difference['list']}: version {difference['old']} ({old}) to {difference['new']} ({new})")
    if not show_changes(difference["labels"]):
        say("nothing differs")


def show_changes(labels: Mapping[str, Mapping[str, Any]]) -> bool:
    """Print changes by algorithm and label; return False if there are none."""
    rows = [
        (algorithm, label, f"{counts['added']:,}", f"{counts['removed']:,}", f"{counts['relabelled']:,}")
        for algorithm, found in labels.items()
        for label, counts in found.items()
    ]
    if rows:
        show_table(("algorithm", "label~", "added#", "removed#", "relabelled#"), rows)
    return bool(rows)
