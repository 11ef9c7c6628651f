"""``syncd diff``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from syncd.cli.arguments import LARGEST, PublishedList, not_a_stream
from syncd.cli.difference import show_difference
from syncd.cli.operator import ConfigFile, Document, actor, ask_document, load_config, open_catalog, state_folder
from syncd.cli.output import JsonFlag, print_json, say, utc_now
from syncd.model import ListName, list_name
from syncd.units import count


def diff(
    name: PublishedList,
    old: Annotated[int, typer.Argument(metavar="V1", min=1, max=LARGEST, help="A version.")],
    new: Annotated[int, typer.Argument(metavar="V2", min=1, max=LARGEST, help="The version to compare with it.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", callback=not_a_stream, help="Write the rows that differ to a new file, mode 0600."
        ),
    ] = None,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Count the changes between two published versions of a list.

    By algorithm and label, net: a row that was added and removed again in between is not counted. An addition or a
    relabelled row counts under the new label, a removal under the old one. Entries are never shown; with --out the
    owner of the state can write them to a file: CSV of change,algorithm,digest,entry,label,old_label. The audit log
    records that. Versions whose files are deleted (all but the newest 16, after a day) cannot be compared. Members of
    the group syncd-operators ask the running daemon; the owner of the state reads it.

    \b
    Exit codes:
      0   shown
      1   storage
      2   there is no such list or version, its files are deleted, or FILE exists
      6   you are neither an operator of the daemon nor the owner of the state,
          or with --out: not the owner

    \b
    Example:
      syncd diff iwf.images 41 44
    """
    listed, settings = list_name(name), load_config(config)
    if out is not None:
        _write_rows(settings, listed, (old, new), out, as_json=as_json)
        return
    document, _ = ask_document(settings, "diff", {"list": listed, "old": old, "new": new}, utc_now())
    _show(document, None, as_json=as_json)


def _write_rows(settings: Any, name: ListName, versions: tuple[int, int], out: Path, *, as_json: bool) -> None:
    # SQLAlchemy and numpy: not needed if the daemon answers
    from syncd.operate.disclose import disclose
    from syncd.report.history import compared

    folder = state_folder(settings, daemon_could=False)
    with open_catalog(folder) as catalog:
        found = compared(catalog, folder.feed, name, *versions)
        document = found.difference().document()
        what = f"version {versions[0]} to {versions[1]}"
        rows = disclose(folder, catalog, out, found.write_rows, name=name, what=what, actor=actor(), now=utc_now())
    _show({**document, "out": str(out)}, rows, as_json=as_json)


def _show(document: Document, written: int | None, *, as_json: bool) -> None:
    if as_json:
        print_json({"out": None, **document})
        return
    show_difference(document)
    if written is not None:
        say(f"{count(written, 'row')} written to {document['out']}")
