"""``syncd diff``."""

from typing import Annotated

import typer

from syncd.cli.arguments import LARGEST, PublishedList
from syncd.cli.difference import show_difference
from syncd.cli.operator import ConfigFile, ask_document, load_config
from syncd.cli.output import JsonFlag, print_json, utc_now
from syncd.model import list_name


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
    files are deleted (all but the newest 16, after a day) cannot be compared. Members of the group syncd-operators ask
    the running daemon; the owner of the state reads it.

    \b
    Exit codes:
      0   shown
      1   storage
      2   there is no such list or version, or its files are deleted
      6   you are neither an operator of the daemon nor the owner of the state

    \b
    Example:
      syncd diff iwf.images 41 44
    """
    asked = {"list": list_name(name), "old": old, "new": new}
    document, _ = ask_document(load_config(config), "diff", asked, utc_now())
    if as_json:
        print_json(document)
    else:
        show_difference(document)
