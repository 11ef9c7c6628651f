"""The metadata that one machine keeps of a feed belongs to one trust: that since the source was last retrusted.

The catalog says how often a source was retrusted. Another machine, which kept what it had verified before, finds out by
that number when it follows the feed next.
"""

import shutil
from pathlib import Path
from typing import Final

from syncd.files import PRIVATE_FILE, install_bytes, make_folder, read_bytes, storage

_MARK: Final = "retrusts"
_MAX_MARK: Final = 20


def forget(folder: Path) -> None:
    """Remove the kept metadata of a feed. Raises `StoreError`."""
    with storage(folder, "remove"):
        if folder.exists():
            shutil.rmtree(folder)


def forget_if_earlier(folder: Path, retrusts: int) -> None:
    """Remove the kept metadata unless it was verified since the last of so many retrusts. Raises `StoreError`."""
    mark, expected = folder / _MARK, str(retrusts).encode()
    with storage(mark, "read"):
        kept = read_bytes(mark, _MAX_MARK) if mark.exists() else b"0"
    if kept != expected:
        forget(folder)
        make_folder(folder)
        install_bytes(mark, expected, PRIVATE_FILE)
