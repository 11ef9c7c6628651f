"""Reports to systemd: readiness, status and watchdog, over sd_notify(3). Written out here, since it is one datagram."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from syncd.errors import StoreError, SyncdError

_BEAT: Final = 10.0
_SEND_WITHIN: Final = 1.0
"""Seconds to wait if systemd's socket is full: work does not wait for it."""


class SystemdStatus:
    """Keeps systemd informed of one daemon.

    ``answers`` returns True if the daemon answers within the given seconds; ``describe`` returns its status in words.
    """

    def __init__(
        self, environment: Mapping[str, str], answers: Callable[[float], bool], describe: Callable[[], str]
    ) -> None:
        self._environment, self._answers, self._describe = environment, answers, describe
        self.beat: Final = (watchdog_seconds(environment) or 3 * _BEAT) / 3
        """seconds between two watchdog messages"""
        self._last_beat = time.monotonic()

    def note_beat(self) -> None:
        """Record that the scheduler runs its jobs. This is one of them."""
        self._last_beat = time.monotonic()

    def feed_watchdog(self) -> None:
        """Feed the watchdog, but only if the scheduler runs its jobs and the daemon answers."""
        if time.monotonic() - self._last_beat < 3 * self.beat and self._answers(self.beat):
            self.send("WATCHDOG=1")

    def send(self, *states: str) -> None:
        """Send ``NAME=value`` states. A failure is ignored: systemd restarts a service that it no longer hears."""
        with suppress(SyncdError):
            notify(self._environment, *states)

    def send_status(self, *states: str) -> None:
        """Send ``states`` and the status in words."""
        self.send(*states, f"STATUS={self._describe()}")


def notify(environment: Mapping[str, str], *states: str) -> bool:
    """Send ``NAME=value`` lines to ``NOTIFY_SOCKET``. Return False if that is not set. Raises `StoreError`.

    An address that begins with ``@`` is in the abstract namespace (sd_notify(3)).
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    name = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(_SEND_WITHIN)
            sender.connect(name)
            sender.sendall("\n".join(state.replace("\n", " ") for state in states).encode())
    except OSError as error:
        raise StoreError(
            f"cannot notify systemd: {error.strerror or error}",
            hint="NOTIFY_SOCKET is set, but nothing takes messages at that address",
        ) from error
    return True


def watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """Return systemd's watchdog timeout in seconds (sd_watchdog_enabled(3)). None if it does not watch this process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    wanted = environment.get("WATCHDOG_USEC", "")
    return int(wanted) / 1e6 if wanted.isdecimal() and int(wanted) else None
