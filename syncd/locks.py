"""Locks between processes, each a file in the folder that it protects."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from syncd.errors import RefusedError
from syncd.files import PRIVATE_FILE, make_folder, storage

_POLL: Final = 0.05
"""Seconds between two attempts to take a lock."""


@contextlib.contextmanager
def lock(path: Path, purpose: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock at ``path``. Raises `RefusedError`, which names the process that holds it and its purpose.

    ``wait``: seconds to wait if another process holds it for short work. The kernel releases the lock when the process
    ends in any way. A child forked in the meantime does not share it.
    """
    make_folder(path.parent)
    with storage(path, "open lock"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        _lock_descriptors.add(descriptor)
    try:
        if not _acquire(descriptor, wait):
            raise RefusedError(
                f"{path.parent} is in use by {_holder(descriptor)}",
                hint="wait until it has finished; if it is a daemon, stop it (`systemctl stop syncd`) and run this "
                "again; nothing was changed",
            )
        with contextlib.suppress(OSError):  # only for messages: a full disk must not stop the work
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "purpose": purpose}).encode(), 0)
        yield
    finally:
        if descriptor in _lock_descriptors:  # false in a forked child
            _lock_descriptors.discard(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing alone would leave it to a child forked just now
            os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Return True if a process, this one included, holds the lock at ``path``."""
    with lock_if_free(path, "looking for a sync") as free:
        return not free


@contextlib.contextmanager
def lock_if_free(path: Path, purpose: str) -> Iterator[bool]:
    """Hold the lock at ``path`` and yield True; yield False if a process, this one included, holds it already."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(path, purpose))
        except RefusedError:
            yield False
            return
        yield True


_lock_descriptors: Final[set[int]] = set()
"""Locks of this process. A child forked by another thread would share them and hold them as long as it lives."""


def _close_inherited_locks() -> None:
    for descriptor in _lock_descriptors:
        os.close(descriptor)
    _lock_descriptors.clear()


os.register_at_fork(after_in_child=_close_inherited_locks)


def _acquire(descriptor: int, wait: float) -> bool:
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL)
        else:
            return True


def _holder(descriptor: int) -> str:
    try:
        held = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {held['pid']} ({held['purpose']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
