"""A limit on wrong tokens: an address that sent too many has to wait."""

import ipaddress
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

FAILURES: Final = 10
"""Wrong tokens from one address that are answered at once in a period of `WITHIN`; further ones must wait."""
FAILURES_OF_ALL: Final = 100
"""The same for all addresses together: few enough that guessing is hopeless, many enough that a single address that
guesses does not lock out the others."""
WITHIN: Final = timedelta(minutes=1)
MOST_ADDRESSES: Final = 1024
"""Most addresses that are remembered; beyond that the one whose last failure is oldest is forgotten."""

Scope = Mapping[str, Any]
"""A request's ASGI scope."""


class Attempts:
    """Wrong tokens of the last minute. An address that sent too many must wait; if there were very many, all must.

    No answer is delayed: it states how long to wait. Safe to share between threads.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._of_all: deque[datetime] = deque(maxlen=FAILURES_OF_ALL)
        self._by_network: OrderedDict[str, deque[datetime]] = OrderedDict()
        self._new: deque[str] = deque(maxlen=FAILURES_OF_ALL)
        self._lock = threading.Lock()

    def wait(self, address: str) -> int:
        """Return the seconds until an attempt from ``address`` is checked; 0 means now."""
        with self._lock:
            return max(self._wait_of(address), _left(self._of_all, FAILURES_OF_ALL, self._clock()))

    def wait_alone(self, address: str) -> int:
        """Return the same, but count only attempts from ``address`` itself."""
        with self._lock:
            return self._wait_of(address)

    def failed(self, address: str) -> None:
        """Count a wrong token."""
        with self._lock:
            network = _network(address)
            self._count(network, self._clock())
            self._new.append(network)

    def new(self) -> tuple[str, ...]:
        """Return the networks of the wrong tokens since the last call, for other daemons; () if there were none."""
        with self._lock:
            found = tuple(self._new)
            self._new.clear()
        return found

    def failed_elsewhere(self, network: str, ago: timedelta) -> None:
        """Count a wrong token that another daemon was sent."""
        with self._lock:
            self._count(network, self._clock() - ago)

    def _count(self, network: str, at: datetime) -> None:
        own = self._by_network.setdefault(network, deque(maxlen=FAILURES))
        for failed in (own, self._of_all):
            latest = failed and at < failed[-1]
            failed.append(at)
            if latest:  # those of other daemons come later than ours
                in_order = sorted(failed)
                failed.clear()
                failed.extend(in_order)
        self._by_network.move_to_end(network)
        if len(self._by_network) > MOST_ADDRESSES:
            self._by_network.popitem(last=False)

    def _wait_of(self, address: str) -> int:
        now = self._clock()
        if self._of_all and now < self._of_all[-1]:  # the clock was set back
            self._of_all.clear()  # otherwise these failures would lock everybody out until it has caught up
            self._by_network.clear()
        return _left(self._by_network.get(_network(address), ()), FAILURES, now)


def peer_of(scope: Scope, *, behind_proxy: bool) -> str:
    """Return the client's address; "" if it has none. Behind a proxy, the last of ``X-Forwarded-For``: the proxy's own.

    The client sent the addresses before it, and may send anything.
    """
    stated = b",".join(headers_of(scope, b"x-forwarded-for")).rpartition(b",")[2].strip() if behind_proxy else b""
    try:
        return str(ipaddress.ip_address(stated.decode("latin-1")))
    except ValueError:
        return str(scope["client"][0]) if scope.get("client") else ""


def headers_of(scope: Scope, name: bytes) -> list[bytes]:
    """Return the values of a request's headers with this lower-case name."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return [value for key, value in headers if key == name]


def _left(failed: Sequence[datetime], most: int, now: datetime) -> int:
    """Return the seconds until fewer than ``most`` of the failures are within the last minute."""
    left = failed[-most] + WITHIN - now if len(failed) >= most else timedelta()
    return max(0, -(-left // timedelta(seconds=1)))


def _network(address: str) -> str:
    """Return the network of one client: the IPv4 address, or the IPv6 /64 (RFC 6177, section 2)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if parsed.version == 4:  # noqa: PLR2004 - IPv4
        return address
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
