"""What lets the tests take less time, and changes nothing of what they try."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.engine import Engine
from sqlalchemy.util import LRUCache

_IN_MEMORY: Final = Path("/dev/shm")
_ROOM: Final = 6 << 30


def share_statements() -> None:
    """Let every engine of this process find the SQL statements that another one compiled."""
    compiled: LRUCache[Any, Any] = LRUCache(10_000)
    Engine._compiled_cache = property(lambda _: compiled, lambda _, own: None)  # type: ignore[assignment]
    # The dialect is a part of the key, by its identity. All of ours of one kind are alike.
    for kind in (SQLiteDialect, PGDialect_psycopg):
        kind.__hash__ = lambda self: hash(type(self))  # type: ignore[method-assign]
        kind.__eq__ = lambda one, other: type(one) is type(other)  # type: ignore[method-assign]


def folder_in_memory() -> Path | None:
    """Make a folder for everything that tests write, in memory, where a flush costs nothing; None if there is no room.

    Programs have to run there too.
    """
    if not os.access(_IN_MEMORY, os.W_OK):
        return None
    no_programs = os.statvfs(_IN_MEMORY).f_flag & os.ST_NOEXEC
    if no_programs or shutil.disk_usage(_IN_MEMORY).free < _ROOM:
        return None
    folder = Path(tempfile.mkdtemp(prefix="syncd-tests-", dir=_IN_MEMORY))
    folder.chmod(0o755)  # servers and commands of other users work below it, as they do below /tmp
    return folder


def slow_first(names: list[str]) -> list[str]:
    """Return the names of modules in the order in which to run them, so that no worker is left with a long one."""
    return sorted(names, key=lambda name: _SLOW.index(name) if name in _SLOW else len(_SLOW))


_SLOW: Final = (
    "test_systemd",
    "test_example_fleet",
    "test_bucket_road",
    "test_rollback",
    "test_retention",
    "test_stops",
    "test_fuzz",
    "test_crash",
    "test_history_keep",
    "test_daemon",
    "test_questions",
    "test_mirror",
    "test_partner_road",
    "test_partner_kills",
    "test_partner_week",
    "test_cli_streams",
    "test_bucket",
    "test_road",
    "test_cli_suppress",
    "test_holds",
    "test_cures",
    "test_dashboard_browser",
    "test_cluster",
    "test_rotate_several",
    "test_repair_several",
    "test_restore_fleet",
    "test_install",
)
"""Modules that take longest."""
