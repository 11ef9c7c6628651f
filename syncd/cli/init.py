"""``syncd init``."""

from pathlib import Path
from typing import Annotated

import typer

from syncd.catalog.folder import StateFolder
from syncd.cli.first_keys import KeyCount, OfflineFolders, note_system_disk, number_of, show_offline
from syncd.cli.operator import ConfigFile, actor, check_owner
from syncd.cli.output import JsonFlag, print_json, say, utc_now
from syncd.config import Config
from syncd.config_file import load


def init(
    offline_keys: OfflineFolders,
    state_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The state folder; default: state_dir of the configuration.")
    ] = None,
    keys: KeyCount = None,
    threshold: Annotated[int, typer.Option(min=1, help="How many of them must sign; usually 2.")] = 1,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
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

    folder = _folder(state_dir, config)
    check_owner(folder.root)
    root = setup.init(
        folder,
        offline_keys[0],
        count=number_of(offline_keys, keys),
        threshold=threshold,
        now=utc_now(),
        actor=actor(),
        custodians=offline_keys[1:],
    )
    on_disk = note_system_disk(offline_keys, folder.root)
    if as_json:
        print_json(
            {
                "state_dir": folder.root,
                "feed": folder.feed.root,
                "root": root,
                "offline_keys": [str(one) for one in offline_keys],
                "on_system_disk": on_disk,
            }
        )
        return
    say(f"state folder  {folder.root}")
    say(f"feed          {folder.feed.root}  (serve this folder to matchers)")
    say(f"trust root    {root}  (hand it to matchers, not through the feed)")
    show_offline(offline_keys)
    say("next: name your sources in the configuration, then run `syncd sync`")


def _folder(state_dir: Path | None, config: Path | None) -> StateFolder:
    """Return the state folder to set up, with its bucket and database if the configuration is of this folder."""
    if state_dir is None:
        settings: Config = load(config)
        return StateFolder(settings.state_dir, settings.bucket, settings.database)
    named = load(config) if config else None
    same = named is not None and named.state_dir == state_dir.absolute()
    return StateFolder(state_dir, named.bucket, named.database) if named and same else StateFolder(state_dir)
