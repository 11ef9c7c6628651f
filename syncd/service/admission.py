"""Admits requests by their token, and limits wrong ones, on every route.

A wrong token is logged with the client's address and the route, never with the token. After ten within a minute from
one address, further tokens from there are answered 429 unread, except those of matchers, which have 256 random bits, so
that nobody can guess one. So a matcher whose token was revoked does not lock out the others behind the same address.
"""

import ipaddress
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from syncd import events
from syncd.event import Emit
from syncd.service.access import Access, Kind, Visitor

FAILURES: Final = 10
"""Wrong tokens from one address that are answered within `WITHIN`; more must wait."""
FAILURES_OF_ALL: Final = 100
"""The same for all addresses: few enough to make guessing hopeless, enough that one guesser locks out nobody."""
WITHIN: Final = timedelta(minutes=1)
MOST_ADDRESSES: Final = 1024
"""Most addresses that are remembered; another one makes room for itself."""

Scope = Mapping[str, Any]
"""A request's ASGI scope."""


class Attempts:
    """Wrong tokens of the last minute. An address with too many must wait, and everybody if there are very many.

    No answer is delayed: the answer says how long to wait. Safe to share between threads.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._of_all: deque[datetime] = deque(maxlen=FAILURES_OF_ALL)
        self._by_network: OrderedDict[str, deque[datetime]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, address: str) -> int:
        """Return the seconds until an attempt from ``address`` is checked; 0 means now."""
        with self._lock:
            return max(self._wait_of(address), _left(self._of_all, FAILURES_OF_ALL, self._clock()))

    def wait_alone(self, address: str) -> int:
        """Return the same, whatever the attempts from other addresses."""
        with self._lock:
            return self._wait_of(address)

    def failed(self, address: str) -> None:
        """Count a wrong token."""
        with self._lock:
            network, now = _network(address), self._clock()
            own = self._by_network.setdefault(network, deque(maxlen=FAILURES))
            own.append(now)
            self._of_all.append(now)
            self._by_network.move_to_end(network)
            if len(self._by_network) > MOST_ADDRESSES:
                self._by_network.popitem(last=False)

    def _wait_of(self, address: str) -> int:
        now = self._clock()
        if self._of_all and now < self._of_all[-1]:  # the clock was set back
            self._of_all.clear()  # or these would lock everybody out until it has caught up
            self._by_network.clear()
        return _left(self._by_network.get(_network(address), ()), FAILURES, now)


@dataclass(frozen=True)
class TokenRefusal:
    """Why a request is not admitted. ``wait``: the seconds until its token is read; 0: it has none, or a wrong one."""

    wait: int = 0


class Admission:
    """Admits requests to the routes of the HTTP side. Safe to share between threads."""

    def __init__(
        self, access: Access, clock: Callable[[], datetime], emit: Emit, behind_proxy: Callable[[], bool]
    ) -> None:
        self._access, self._emit, self._behind_proxy = access, emit, behind_proxy
        self.attempts = Attempts(clock)

    def admit(self, scope: Scope, route: str) -> Visitor | TokenRefusal:
        """Return the holder of the token in the Authorization header. ``route``: for the log, never the client's text.

        A matcher is admitted whatever happened before.
        """
        authorization = _headers(scope, b"authorization")
        if not authorization:
            return TokenRefusal()
        visitor = self._access.admit(authorization[0])
        if visitor is not None and visitor.kind is Kind.MATCHER:
            return visitor
        peer = self.peer(scope)
        wait = self._wait(peer, visitor)
        if wait:
            return TokenRefusal(wait)
        if visitor is None:
            self.refuse(peer, route)
        return visitor or TokenRefusal()

    def refuse(self, peer: str, route: str) -> None:
        """Count and log a wrong token."""
        self.attempts.failed(peer)
        self._emit(events.TokenRefused(peer, route))

    def peer(self, scope: Scope) -> str:
        """Return the client's address."""
        return peer_of(scope, behind_proxy=self._behind_proxy())

    def _wait(self, peer: str, visitor: Visitor | None) -> int:
        """Return the seconds to wait: the same for a person's token as for a wrong one, or the answer would tell which.

        Guessers elsewhere never keep out metrics collectors.
        """
        alone = visitor is not None and visitor.kind is Kind.METRICS
        return self.attempts.wait_alone(peer) if alone else self.attempts.wait(peer)


def peer_of(scope: Scope, *, behind_proxy: bool) -> str:
    """Return the client's address; "" if it has none. Behind a proxy, the last of ``X-Forwarded-For``: the proxy's own.

    The client sent the addresses before it, and may send anything.
    """
    stated = b",".join(_headers(scope, b"x-forwarded-for")).rpartition(b",")[2].strip() if behind_proxy else b""
    try:
        return str(ipaddress.ip_address(stated.decode("latin-1")))
    except ValueError:
        return str(scope["client"][0]) if scope.get("client") else ""


def _headers(scope: Scope, name: bytes) -> list[bytes]:
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
