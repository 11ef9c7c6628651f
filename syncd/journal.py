"""Lines for systemd's journal: each begins with its priority, which the journal takes off (sd-daemon(3))."""

import os
from collections.abc import Mapping
from typing import Final, TextIO

CRITICAL, ERROR, WARNING, INFO = 2, 3, 4, 6
"""Priorities of syslog(3), as `journalctl -p` takes them."""

_STREAM: Final = "JOURNAL_STREAM"
"""The variable in which systemd names the device and inode of the service's connection (systemd.exec(5))."""


def is_journal(stream: TextIO, variables: Mapping[str, str] = os.environ) -> bool:
    """Return True if a stream of this process goes straight to the journal, and not to a file or pipe in between."""
    named = variables.get(_STREAM)
    if not named:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or not a file
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def with_priority(text: str, priority: int) -> str:
    """Return lines with their priority in front of each."""
    return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))
