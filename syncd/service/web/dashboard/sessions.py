"""Sessions of signed-in operators, in memory only: a restart signs everybody out. Safe to share between threads."""

import hashlib
import ipaddress
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncd.service.access import Visitor

LASTS: Final = timedelta(hours=12)
MOST: Final = 256
"""Most sessions at a time; another one ends the oldest."""
FAILURES: Final = 10
"""Wrong tokens from one address that are answered within `WITHIN`; more must wait."""
FAILURES_OF_ALL: Final = 100
"""The same for all addresses: few enough to make guessing hopeless, enough that one guesser locks out nobody."""
WITHIN: Final = timedelta(minutes=1)

Random = Callable[[int], str]
"""Returns N random bytes, as text for a cookie."""


@dataclass(frozen=True)
class _Session:
    visitor: Visitor
    until: datetime


class Sessions:
    """Sessions by the hash of their id, so that only browsers have the ids themselves."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        is_in_force: Callable[[Visitor], bool],
        random: Random = secrets.token_urlsafe,
    ) -> None:
        self._clock, self._is_in_force, self._random = clock, is_in_force, random
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, visitor: Visitor) -> str:
        """Open a session, and return its id of 256 random bits."""
        made = self._random(32)
        with self._lock:
            while len(self._sessions) >= MOST:
                self._sessions.popitem(last=False)
            self._sessions[_key(made)] = _Session(visitor, self._clock() + LASTS)
        return made

    def is_open(self, session: str) -> bool:
        """Return True if the session was not closed, has not expired, and its token is still valid."""
        with self._lock:
            open_session = self._sessions.get(_key(session))
            if open_session is None:
                return False
            if self._clock() < open_session.until and self._is_in_force(open_session.visitor):
                return True
            del self._sessions[_key(session)]
            return False

    def close(self, session: str) -> None:
        """Close a session."""
        with self._lock:
            self._sessions.pop(_key(session), None)


class Attempts:
    """Wrong tokens of the last minute. An address with too many must wait, and everybody if there are very many.

    No answer is delayed: the answer says how long to wait.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._failed: deque[tuple[datetime, str]] = deque(maxlen=FAILURES_OF_ALL)
        self._lock = threading.Lock()

    def wait(self, address: str) -> int:
        """Return the seconds until an attempt from ``address`` is checked; 0 means now."""
        with self._lock:
            now, network = self._clock(), _network(address)
            if self._failed and now < self._failed[-1][0]:
                self._failed.clear()  # the clock was set back: these would lock everybody out until it has caught up
            own = [at for at, origin in self._failed if origin == network]
            return max(_left(own, FAILURES, now), _left([at for at, _ in self._failed], FAILURES_OF_ALL, now))

    def failed(self, address: str) -> None:
        """Count a wrong token."""
        with self._lock:
            self._failed.append((self._clock(), _network(address)))


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


def _key(session: str) -> bytes:
    return hashlib.sha256(session.encode()).digest()
