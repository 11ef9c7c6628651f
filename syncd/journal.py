"""Lines for systemd's journal. Each begins with its priority, which the journal removes (sd-daemon(3))."""

import os
from collections.abc import Mapping
from typing import Final, TextIO

CRITICAL, ERROR, WARNING, INFO = 2, 3, 4, 6
"""Priorities of syslog(3), which `journalctl -p` filters by."""

_STREAM: Final = "JOURNAL_STREAM"
"""The variable in which systemd names the device and inode of the service's connection (systemd.exec(5))."""


def is_journal(stream: TextIO, variables: Mapping[str, str] = os.environ) -> bool:
    """Return True if a stream of this process is connected directly to the journal, not to a file or a pipe."""
    named = variables.get(_STREAM)
    if not named:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or not a file
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def with_priority(text: str, priority: int) -> str:
    """Return ``text`` with the priority in front of each line."""
    return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))
