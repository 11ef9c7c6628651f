"""``syncd snapshots``."""

from datetime import datetime
from typing import Annotated, Final

import typer

from syncd.cli.arguments import LARGEST, PublishedList
from syncd.cli.operator import ConfigFile, Document, ask_document, load_config
from syncd.cli.output import JsonFlag, print_json, show_table, utc_now
from syncd.model import list_name
from syncd.units import day

_LIMIT: Final = 20


def snapshots(
    name: PublishedList,
    limit: Annotated[int, typer.Option(min=1, max=LARGEST, help="Number of versions to show.")] = _LIMIT,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the published versions of a list, newest first.

    Members of the group syncd-operators ask the running daemon; the owner of the state reads it.

    \b
    Exit codes:
      0   shown
      1   storage
      2   there is no such list
      6   you are neither an operator of the daemon nor the owner of the state

    \b
    Example:
      syncd snapshots iwf.images
    """
    listed = list_name(name)
    asked = {"list": listed, "limit": limit}
    document, _ = ask_document(load_config(config), "snapshots", asked, utc_now(), quick=True)
    if as_json:
        print_json(document)
        return
    columns = ("version#", "created (UTC)~", "rows#", "added#", "removed#", "relabelled#", "plan")
    show_table(columns, [_snapshot_row(version) for version in document["snapshots"]])


def _snapshot_row(version: Document) -> tuple[str, ...]:
    counts = version["counts"].values()
    changes = tuple(f"{sum(count[kind] for count in counts):,}" for kind in ("added", "removed", "relabelled"))
    created = day(datetime.fromisoformat(version["created_at"]))
    return (
        str(version["version"]),
        created,
        f"{version['rows']:,}",
        *(changes if counts else ("", "", "")),
        version["plan"],
    )
