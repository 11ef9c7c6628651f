"""What systemd is told: sd_notify(3), by hand, since it is one datagram."""

import os
import socket
from collections.abc import Mapping
from typing import Final

from syncd.errors import StoreError

_WITHIN: Final = 1.0
"""Seconds for systemd to have room for a word: work does not wait for it."""


def notify(environment: Mapping[str, str], *states: str) -> bool:
    """Send ``NAME=value`` lines to ``NOTIFY_SOCKET``; False where nobody listens. Raises `StoreError`.

    An address that begins with ``@`` is in the abstract namespace (sd_notify(3)).
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    name = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(_WITHIN)
            sender.connect(name)
            sender.sendall("\n".join(state.replace("\n", " ") for state in states).encode())
    except OSError as error:
        raise StoreError(
            f"cannot tell systemd: {error.strerror or error}", hint="NOTIFY_SOCKET is set, but nobody listens there"
        ) from error
    return True


def watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """How often systemd wants a sign of life at the latest (sd_watchdog_enabled(3)); None: not from this process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    wanted = environment.get("WATCHDOG_USEC", "")
    return int(wanted) / 1e6 if wanted.isdecimal() and int(wanted) else None
