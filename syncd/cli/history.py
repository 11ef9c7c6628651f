"""``syncd diff``."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli.arguments import LARGEST
from syncd.cli.operator import ConfigFile, load_config, state_folder
from syncd.cli.output import JsonFlag, print_json, say, show_table
from syncd.units import count

if TYPE_CHECKING:
    from syncd.model import Counts
    from syncd.report.history import Difference


def diff(
    name: Annotated[str, typer.Argument(metavar="LIST", help="A published list, such as iwf.images.")],
    old: Annotated[int, typer.Argument(metavar="V1", min=1, max=LARGEST, help="A version.")],
    new: Annotated[int, typer.Argument(metavar="V2", min=1, max=LARGEST, help="The version to compare with it.")],
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Count what changed between two published versions of a list.

    By algorithm and label, net: what came and went in between is not counted. An addition or another label counts under
    the new label, a removal under the old one. No entry is ever shown. Versions whose files are no longer kept (all but
    the newest 16, after a day) cannot be compared.

    \b
    Exit codes:
      0   shown
      1   storage
      2   there is no such list or version, or its files are gone
      6   the state folder is another user's

    \b
    Example:
      syncd diff iwf.images 41 44
    """
    from syncd.catalog.catalog import Catalog
    from syncd.model import list_name
    from syncd.report import history

    folder = state_folder(load_config(config))
    with Catalog.open(folder.catalog) as catalog:
        found = history.diff(catalog, folder.feed, list_name(name), old, new)
    if as_json:
        print_json(_document(found))
    else:
        _show(found)


def _document(found: "Difference") -> dict[str, Any]:
    return {
        "list": found.list,
        "old": found.old,
        "new": found.new,
        "rows_old": found.rows_old,
        "rows_new": found.rows_new,
        "how": found.how,
        "counts": {str(algorithm): _counts(counts) for algorithm, counts in found.counts.items()},
        "labels": {
            str(algorithm): {label: _counts(counts) for label, counts in labels.items()}
            for algorithm, labels in found.labels.items()
        },
    }


def _counts(counts: "Counts") -> dict[str, int]:
    return {kind: count for kind, count in asdict(counts).items() if kind in {"added", "removed", "relabelled"}}


def _show(found: "Difference") -> None:
    old, new = count(found.rows_old, "row"), count(found.rows_new, "row")
    say(f"{found.list}: version {found.old} ({old}) to {found.new} ({new})")
    rows = [
        (str(algorithm), label, f"{one.added:,}", f"{one.removed:,}", f"{one.relabelled:,}")
        for algorithm, labels in found.labels.items()
        for label, one in labels.items()
    ]
    if rows:
        show_table(("algorithm", "label~", "added#", "removed#", "relabelled#"), rows)
    else:
        say("nothing differs")
