"""Options and messages about the folders of the offline keys, shared by ``syncd init`` and ``syncd feed init``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from syncd.cli.arguments import MOST_KEYS
from syncd.cli.output import note, say
from syncd.errors import UsageError

OfflineFolders = Annotated[
    list[Path],
    typer.Option(
        "--offline-keys",
        metavar="DIR",
        help="The keys to keep off this machine; created if DIR has none. If given once for each custodian, each DIR "
        "gets one root key.",
    ),
]
KeyCount = Annotated[
    int | None,
    typer.Option("--keys", metavar="N", min=1, max=MOST_KEYS, help="Number of root keys to create; usually 3."),
]


def number_of(folders: Sequence[Path], keys: int | None) -> int:
    """Return the number of root keys: as many as there are folders, unless a single folder gets several."""
    if len(set(folders)) != len(folders):
        raise UsageError("a folder of offline keys is given twice", hint="name one folder for each custodian")
    if len(folders) > 1 and keys not in {None, len(folders)}:
        raise UsageError(
            f"{keys} root keys cannot be divided among {len(folders)} folders",
            hint="leave --keys out: each folder gets one root key",
        )
    return keys or len(folders)


def show_offline(folders: Sequence[Path]) -> None:
    """Print the folders of the offline keys."""
    say(f"offline keys  {folders[0]}  (take them off this machine)")
    for folder in folders[1:]:
        say(f"              {folder}  (of another custodian)")


def note_system_disk(folders: Sequence[Path], beside: Path) -> bool:
    """Warn about offline keys on the system's disk or on that of the online keys; return True if there are any."""
    disks = {Path("/").stat().st_dev, beside.stat().st_dev}
    here = [folder for folder in folders if folder.exists() and folder.stat().st_dev in disks]
    if here:
        note(
            f"the offline keys in {', '.join(map(str, here))} are on a disk of this machine: an attacker who takes it "
            "over could sign new keys with them",
            hint="copy each folder to removable storage of its own, read it back there, then `shred -u` the files here",
        )
    return bool(here)
