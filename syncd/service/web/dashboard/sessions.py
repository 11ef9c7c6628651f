"""Who is signed in: in memory only, so that a restart signs everybody out. Safe to share between threads."""

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
"""Sessions at a time; one more ends the oldest."""
FAILURES: Final = 10
"""Wrong tokens from one address that are answered within `WITHIN`."""
FAILURES_OF_ALL: Final = 100
"""The same, from anywhere: so few that guessing is hopeless, and so many that one who guesses keeps nobody else out."""
WITHIN: Final = timedelta(minutes=1)

Random = Callable[[int], str]
"""So many random bytes, as text for a cookie."""


@dataclass(frozen=True)
class _Session:
    visitor: Visitor
    until: datetime


class Sessions:
    """Sessions by the hash of their id, so that the ids themselves are in browsers only."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        is_in_force: Callable[[Visitor], bool],
        random: Random = secrets.token_urlsafe,
    ) -> None:
        self._clock, self._is_in_force, self._random = clock, is_in_force, random
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self._turn = threading.Lock()

    def open(self, visitor: Visitor) -> str:
        """Sign somebody in; returns the session's id, of 256 random bits."""
        made = self._random(32)
        with self._turn:
            while len(self._sessions) >= MOST:
                self._sessions.popitem(last=False)
            self._sessions[_key(made)] = _Session(visitor, self._clock() + LASTS)
        return made

    def is_open(self, session: str) -> bool:
        """Whether that session is in force: not ended, not over, and begun with a token that still holds."""
        with self._turn:
            found = self._sessions.get(_key(session))
            if found is None:
                return False
            if self._clock() < found.until and self._is_in_force(found.visitor):
                return True
            del self._sessions[_key(session)]
            return False

    def close(self, session: str) -> None:
        """Sign out."""
        with self._turn:
            self._sessions.pop(_key(session), None)


class Attempts:
    """Wrong tokens of the last minute: who guesses waits, and everybody does only where many do. Nobody is kept waiting
    for an answer."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._failed: deque[tuple[datetime, str]] = deque(maxlen=FAILURES_OF_ALL)
        self._turn = threading.Lock()

    def wait(self, address: str) -> int:
        """Seconds until another attempt from there is answered; 0: now."""
        with self._turn:
            now, network = self._clock(), _network(address)
            if self._failed and now < self._failed[-1][0]:
                self._failed.clear()  # the clock was set back: they would keep everybody out until it is there again
            own = [at for at, whose in self._failed if whose == network]
            return max(_left(own, FAILURES, now), _left([at for at, _ in self._failed], FAILURES_OF_ALL, now))

    def failed(self, address: str) -> None:
        """One was wrong."""
        with self._turn:
            self._failed.append((self._clock(), _network(address)))


def _left(failed: Sequence[datetime], most: int, now: datetime) -> int:
    """Seconds until fewer than ``most`` of them are of the last minute."""
    left = failed[-most] + WITHIN - now if len(failed) >= most else timedelta()
    return max(0, -(-left // timedelta(seconds=1)))


def _network(address: str) -> str:
    """What is one client's: an address of IPv4; of IPv6 all that share 64 bits (RFC 6177, section 2)."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if found.version == 4:  # noqa: PLR2004 - as the class says it
        return address
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))


def _key(session: str) -> bytes:
    return hashlib.sha256(session.encode()).digest()
