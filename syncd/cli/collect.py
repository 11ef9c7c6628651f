"""``syncd gc``."""

from typing import Annotated

import typer

from syncd.cli.operator import ConfigFile, Document, carry_out, load_config
from syncd.cli.output import JsonFlag, note, print_json, say, show_table
from syncd.units import count


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove old files and records now, as syncs do once an hour.

    The limits are in [retention] of the configuration. Whatever the limits, nothing is removed that a current version
    needs, a matcher that reported lately, an origin, or an open or discarded hold. A file goes once nothing has named
    it for a day (`grace`); until then it is shown as waiting. The audit log is shortened by syncs only. If `syncd run`
    holds the state, that daemon does it.

    \b
    Exit codes:
      0   done
      1   storage
      2   not set up
      6   another command holds the state

    \b
    Example:
      syncd gc --dry-run
    """
    settings = load_config(config)
    done = carry_out(settings, {"do": "gc", "dry_run": dry_run}, signs=False)["collected"]
    if as_json:
        print_json(done)
    else:
        _show(done)


def _show(done: Document) -> None:
    gone = "would go" if done["dry_run"] else "removed"
    rows = [(gone, *_cells(one)) for one in done["removed"]] + [("waiting", *_cells(one)) for one in done["waiting"]]
    if rows:
        show_table(("", "where", "kind", "count#", "MB#"), rows)
    for source in done["skipped"]:
        note(f"source {source} is being synced: its files were left alone", kind="note")
    size = f"{done['bytes'] / 1e6:,.1f} MB"
    say(f"{gone}: {count(done['files'], 'file')} ({size}), {count(done['records'], 'record')}")


def _cells(one: Document) -> tuple[str, ...]:
    size = "" if one["bytes"] is None else f"{one['bytes'] / 1e6:,.1f}"
    return one["where"], one["kind"], f"{one['count']:,}", size
