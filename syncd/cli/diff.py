"""``syncd diff``."""

from dataclasses import asdict
from typing import Annotated

import typer

from syncd.cli.arguments import LARGEST, PublishedList
from syncd.cli.operator import ConfigFile, load_config, open_catalog, state_folder
from syncd.cli.output import JsonFlag, print_json, say, show_table
from syncd.model import Counts, list_name
from syncd.units import count


def diff(
    name: PublishedList,
    old: Annotated[int, typer.Argument(metavar="V1", min=1, max=LARGEST, help="A version.")],
    new: Annotated[int, typer.Argument(metavar="V2", min=1, max=LARGEST, help="The version to compare with it.")],
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Count the changes between two published versions of a list.

    By algorithm and label, net: a row that was added and removed again in between is not counted. An addition or a
    relabelled row counts under the new label, a removal under the old one. Entries are never shown. Versions whose
    files are deleted (all but the newest 16, after a day) cannot be compared.

    \b
    Exit codes:
      0   shown
      1   storage
      2   there is no such list or version, or its files are deleted
      6   the state folder belongs to another user

    \b
    Example:
      syncd diff iwf.images 41 44
    """
    from syncd.report import history  # SQLAlchemy: not needed for the help

    folder = state_folder(load_config(config))
    with open_catalog(folder) as catalog:
        difference = history.diff(catalog, folder.feed, list_name(name), old, new)
    if as_json:
        print_json(
            {
                "list": difference.list,
                "old": difference.old,
                "new": difference.new,
                "rows_old": difference.rows_old,
                "rows_new": difference.rows_new,
                "how": difference.how,
                "counts": {str(algorithm): _counts(counts) for algorithm, counts in difference.counts.items()},
                "labels": {
                    str(algorithm): {label: _counts(counts) for label, counts in labels.items()}
                    for algorithm, labels in difference.labels.items()
                },
            }
        )
        return
    rows_old, rows_new = count(difference.rows_old, "row"), count(difference.rows_new, "row")
    say(f"{difference.list}: version {difference.old} ({rows_old}) to {difference.new} ({rows_new})")
    rows = [
        (str(algorithm), label, f"{counts.added:,}", f"{counts.removed:,}", f"{counts.relabelled:,}")
        for algorithm, labels in difference.labels.items()
        for label, counts in labels.items()
    ]
    if rows:
        show_table(("algorithm", "label~", "added#", "removed#", "relabelled#"), rows)
    else:
        say("nothing differs")


def _counts(counts: Counts) -> dict[str, int]:
    return {kind: number for kind, number in asdict(counts).items() if kind in {"added", "removed", "relabelled"}}
