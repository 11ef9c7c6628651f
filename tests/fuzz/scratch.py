"""A folder for targets that read files, in memory if the machine has one there."""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

VARIABLE: Final = "FUZZ_FOLDER"
"""Names the folder, if another process removes it."""
_MEMORY: Final = Path("/dev/shm")


def in_memory() -> Path | None:
    """Return a folder in memory; None if the machine has none."""
    return _MEMORY if os.access(_MEMORY, os.W_OK) else None


@cache
def _folder() -> Path:
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=in_memory()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def written(name: str, content: bytes) -> Path:
    """Write a file, and return its path."""
    path = _folder() / name
    path.write_bytes(content)
    return path


def emptied(name: str) -> Path:
    """Return an empty folder."""
    path = _folder() / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path
