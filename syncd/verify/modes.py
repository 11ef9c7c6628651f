"""Modes of published files: finds those that their group cannot read although it may enter the folder."""

import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Final

_READ: Final = stat.S_IRGRP
_ENTER: Final = stat.S_IRGRP | stat.S_IXGRP


def closed_to_group(top: Path, folder: Path) -> str:
    """Return the warning about files of a feed or copy, ``folder``, that its group cannot read; '' if there are none.

    ``top``: the folder itself, or the state folder that holds it. If ``top`` is closed to its group, everything below
    it is meant to be. Hidden names are private and ignored, as are files that vanish meanwhile. Raises `OSError`.
    """
    if top.stat().st_mode & stat.S_IXGRP == 0:
        return ""
    closed = list(_closed(folder))
    if not closed:
        return ""
    more = f" and {len(closed) - 1:,} more are" if len(closed) > 1 else " is"
    return (
        f"{closed[0]}{more} closed to the group of {folder}, so a web server or matcher of that group cannot read "
        f"them: run `find {quote(str(folder))} -name '.*' -prune -o -exec chmod g+rX {{}} +`"
    )


def _closed(path: Path) -> Iterator[Path]:
    try:
        mode = path.lstat().st_mode
        needed = _ENTER if stat.S_ISDIR(mode) else _READ
        if not stat.S_ISLNK(mode) and mode & needed != needed:
            yield path
        if stat.S_ISDIR(mode):
            for below in sorted(path.iterdir()):
                if not below.name.startswith("."):
                    yield from _closed(below)
    except FileNotFoundError:
        return
