"""``syncd init``, and what the operator's commands share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli.arguments import MOST_KEYS
from syncd.cli.output import (
    say,
    utc_now,
)
from syncd.errors import RefusedError

if TYPE_CHECKING:
    from syncd.catalog.folder import StateFolder

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", readable=False, help="Default: $SYNCD_CONFIG, or /etc/syncd/syncd.toml."),
]


def init(
    offline_keys: Annotated[
        Path, typer.Option(metavar="DIR", help="The keys that stay off this machine; made where DIR has none.")
    ],
    state_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The state folder; default: state_dir of the configuration.")
    ] = None,
    keys: Annotated[int, typer.Option(min=1, max=MOST_KEYS, help="How many root keys to make; 3 is usual.")] = 1,
    threshold: Annotated[int, typer.Option(min=1, help="How many of them must sign; 2 is usual.")] = 1,
    config: ConfigFile = None,
) -> None:
    """Set up an operator: folders, keys, and a trust root.

    Matchers pin that root, not the partners'. Run this once, as the user that will run the syncs. Nothing is ever
    overwritten.

    \b
    Exit codes:
      0   set up
      1   storage
      2   set up already, or keys would lie in the state folder
      6   the folder is another user's

    \b
    Example:
      syncd init --offline-keys /media/stick/keys --keys 3 --threshold 2
    """
    from syncd.catalog.folder import StateFolder
    from syncd.operate.setup import init as set_up

    folder = StateFolder(state_dir or load_config(config).state_dir)
    check_owner(folder.root)
    root = set_up(folder, offline_keys, count=keys, threshold=threshold, now=utc_now())
    say(f"state folder  {folder.root}")
    say(f"feed          {folder.feed.root}  (serve this folder to matchers)")
    say(f"trust root    {root}  (hand it to matchers, not through the feed)")
    say(f"offline keys  {offline_keys}  (take them off this machine)")
    say("next: name your sources in the configuration, then run `syncd sync`")


def load_config(config: Path | None) -> Any:
    """The configuration, read when a command needs it."""
    from syncd.config_file import load

    return load(config)


def check_owner(folder: Path) -> None:
    """Another user's files in it, root's included, would lock the owner's next sync out."""
    if folder.exists() and folder.stat().st_uid != os.geteuid():
        import pwd

        try:
            owner = pwd.getpwuid(folder.stat().st_uid).pw_name
        except KeyError:
            owner = f"user {folder.stat().st_uid}"
        raise RefusedError(f"{folder} belongs to {owner}", hint=f"run this command as {owner}; nothing was changed")


def state_folder(config: Any) -> "StateFolder":
    """The state folder, set up and ours."""
    from syncd.catalog.folder import StateFolder

    folder = StateFolder(config.state_dir)
    check_owner(folder.root)
    folder.check_set_up()
    return folder


@contextmanager
def sole_writer(folder: "StateFolder", purpose: str = "syncd sync") -> Iterator[None]:
    """Nobody else changes the state meanwhile."""
    from syncd.files import lock

    with lock(folder.root / "lock", purpose):
        yield
