"""Free ports of this machine."""

import contextlib
import socket


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody uses yet."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
