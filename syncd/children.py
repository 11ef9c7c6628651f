"""Processes that work for the daemon: how they begin, and the lines that they answer with."""

import ctypes
import os
import resource
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO, Final

NICENESS: Final = 10
"""Their work must not slow the daemon down."""

_PR_SET_PDEATHSIG: Final = 1
_BLOCK: Final = 1 << 16


def become_child() -> BinaryIO:
    """Make this process a child of the daemon, and return the stream of its answers, which was standard output."""
    # We die if the daemon is killed, so that no old child writes into a folder that the next daemon works in.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGHUP):  # meant for the daemon
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would contain digests, and a worker's credentials
    with suppress(OSError):
        os.nice(NICENESS)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # library output must not mix with our answers
    return answers


def read_lines(descriptor: int, patience: Callable[[], float], longest: int = sys.maxsize) -> Iterator[bytes | None]:
    """Yield whole lines until the pipe ends, and None each time that ``patience`` seconds pass without data.

    Raises `ValueError` if a line is longer than ``longest`` bytes.
    """
    buffer = bytearray()
    ready = select.poll()  # select(2) fails above descriptor 1,023; a daemon with many clients has more
    ready.register(descriptor, select.POLLIN)
    while True:
        if not ready.poll(max(0.0, patience()) * 1e3):
            yield None
            continue
        block = os.read(descriptor, _BLOCK)
        if not block:
            return
        buffer += block
        *lines, rest = buffer.split(b"\n")
        buffer = bytearray(rest)
        yield from map(bytes, lines)
        if len(buffer) > longest:
            raise ValueError(f"a line of more than {longest:,} bytes")
