"""``syncd init``."""

from pathlib import Path
from typing import Annotated

import typer

from syncd.catalog.folder import StateFolder
from syncd.cli.arguments import MOST_KEYS
from syncd.cli.operator import ConfigFile, actor, check_owner, load_config
from syncd.cli.output import say, utc_now


def init(
    offline_keys: Annotated[
        Path,
        typer.Option(metavar="DIR", help="The keys to keep off this machine; created if DIR has none."),
    ],
    state_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The state folder; default: state_dir of the configuration.")
    ] = None,
    keys: Annotated[int, typer.Option(min=1, max=MOST_KEYS, help="Number of root keys to create; usually 3.")] = 1,
    threshold: Annotated[int, typer.Option(min=1, help="How many of them must sign; usually 2.")] = 1,
    config: ConfigFile = None,
) -> None:
    """Set up an operator: folders, keys and a trust root.

    Matchers pin this root, not the partners'. Run this once, as the user that will run the syncs. Nothing is ever
    overwritten.

    \b
    Exit codes:
      0   set up
      1   storage
      2   already set up, or the keys would be inside the state folder
      6   the folder belongs to another user

    \b
    Example:
      syncd init --offline-keys /media/stick/keys --keys 3 --threshold 2
    """
    from syncd.operate import setup  # SQLAlchemy: not needed for the help

    folder = StateFolder(state_dir or load_config(config).state_dir)
    check_owner(folder.root)
    root = setup.init(folder, offline_keys, count=keys, threshold=threshold, now=utc_now(), actor=actor())
    say(f"state folder  {folder.root}")
    say(f"feed          {folder.feed.root}  (serve this folder to matchers)")
    say(f"trust root    {root}  (hand it to matchers, not through the feed)")
    say(f"offline keys  {offline_keys}  (take them off this machine)")
    say("next: name your sources in the configuration, then run `syncd sync`")
