"""A backup that exists is whole, whenever the command that wrote it was stopped."""

import shutil
import tarfile
from pathlib import Path

from stops.processes import Command, Processes


def check_backup(base: Path, processes: Processes, clock: int) -> list[str]:
    """Unpack ``backup.tar``, if there is one, and prove it."""
    backup, restored = base / "backup.tar", base.parent / "restored"
    if not backup.exists():
        return []
    shutil.rmtree(restored, ignore_errors=True)
    with tarfile.open(backup) as tar:
        tar.extractall(restored, filter="data")
    (ended,) = processes.run(base, Command(("verify", str(restored))), clock=clock)
    return [] if ended.code == 0 else [f"the backup is not whole: {ended}"]
