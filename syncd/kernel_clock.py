"""The kernel's statement on whether this host's clock is synchronised. Reads only."""

import ctypes
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from syncd.units import CLOCK_TOLERANCE

_UNSYNCHRONISED: Final = 0x0040
"""STA_UNSYNC of ``<sys/timex.h>``: set at boot, cleared by a time daemon, set again if that is silent for too long."""
_PADDING: Final = 512
"""Bytes reserved for the remaining fields; more than ``struct timex`` has on any platform."""


class _Timex(ctypes.Structure):
    """The start of ``struct timex``, see adjtimex(2). ``modes`` 0: the call changes nothing."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("rest", ctypes.c_char * _PADDING),
    )


@dataclass(frozen=True)
class KernelClock:
    """The kernel's judgement of the clock."""

    synchronised: bool | None
    """None if it cannot be read here, for example in a sandbox"""
    error: timedelta = timedelta(0)
    """the largest error that the kernel assumes, if the clock is synchronised"""
    at: datetime | None = None
    """the time by the kernel's clock, to the second; None if it cannot be read here"""

    def vouches_for(self, now: datetime) -> bool:
        """Return True if the clock is synchronised, and ``now`` was read from it and not from a simulated clock."""
        return bool(self.synchronised) and self.at is not None and abs(now - self.at) <= CLOCK_TOLERANCE

    @property
    def words(self) -> str:
        """The judgement in words."""
        if self.synchronised is None:
            return "it is not known whether this clock is synchronised: the kernel cannot be asked here"
        if not self.synchronised:
            return "the kernel says that this clock is not synchronised"
        return f"the kernel says that this clock is synchronised, to within {self.error.total_seconds():.3f} s"


def kernel_clock() -> KernelClock:
    """Ask the kernel with adjtimex(2)."""
    found = _Timex()
    call = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    if call is None or call(ctypes.byref(found)) < 0:
        return KernelClock(None)
    synchronised = not found.status & _UNSYNCHRONISED
    error = timedelta(microseconds=found.maxerror) if synchronised else timedelta(0)
    return KernelClock(synchronised, error, datetime.fromtimestamp(found.seconds, UTC))
