"""``syncd snapshots``."""

from typing import Annotated, Final

import typer

from syncd.catalog.records import VersionRecord
from syncd.cli.arguments import LARGEST, PublishedList
from syncd.cli.operator import ConfigFile, load_config, open_catalog, state_folder
from syncd.cli.output import JsonFlag, print_json, show_table
from syncd.errors import UsageError, nearest
from syncd.model import Counts, list_name
from syncd.report.document import counts_document
from syncd.units import day, stamp

_LIMIT: Final = 20


def snapshots(
    name: PublishedList,
    limit: Annotated[int, typer.Option(min=1, max=LARGEST, help="Number of versions to show.")] = _LIMIT,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the published versions of a list, newest first.

    \b
    Exit codes:
      0   shown
      1   storage
      2   there is no such list
      6   the state folder belongs to another user

    \b
    Example:
      syncd snapshots iwf.images
    """
    listed = list_name(name)
    with open_catalog(state_folder(load_config(config))) as catalog:
        versions = catalog.versions(listed, limit)
        known = [head.list for head in catalog.heads()]
    if not versions:
        raise UsageError(f"there is no list {listed}", hint=nearest(listed, known, "list"))
    if as_json:
        documents = [
            {
                "version": version.version,
                "created_at": stamp(version.created_at),
                "rows": version.rows,
                "counts": counts_document(version.counts),
                "plan": version.plan,
                "sync_id": version.sync_id,
                "manifest": version.manifest_sha256,
            }
            for version in versions
        ]
        print_json({"list": listed, "snapshots": documents})
        return
    columns = ("version#", "created (UTC)~", "rows#", "added#", "removed#", "relabelled#", "plan")
    show_table(columns, [_snapshot_row(version) for version in versions])


def _snapshot_row(version: VersionRecord) -> tuple[str, ...]:
    total = sum(version.counts.values(), Counts())
    changes = (f"{total.added:,}", f"{total.removed:,}", f"{total.relabelled:,}") if version.counts else ("", "", "")
    return str(version.version), day(version.created_at), f"{version.rows:,}", *changes, version.plan
