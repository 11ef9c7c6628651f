"""Who is signed in: in memory only, so that a restart signs everybody out. Safe to share between threads."""

import hashlib
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncd.service.access import Visitor

LASTS: Final = timedelta(hours=12)
MOST: Final = 256
"""Sessions at a time; one more ends the oldest."""
FAILURES: Final = 10
"""Wrong tokens that are answered within `WITHIN`."""
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
    """Wrong tokens of the last minute, whoever showed them: guessing is slowed for all, and nobody is kept waiting."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._failed: deque[datetime] = deque(maxlen=FAILURES)
        self._turn = threading.Lock()

    def wait(self) -> int:
        """Seconds until another attempt is answered; 0: now."""
        with self._turn:
            if len(self._failed) < FAILURES:
                return 0
            now = self._clock()
            if now < self._failed[-1]:  # the clock was set back: they would keep everybody out until it is there again
                self._failed.clear()
                return 0
            left = self._failed[0] + WITHIN - now
            return max(0, -(-left // timedelta(seconds=1)))

    def failed(self) -> None:
        """One was wrong."""
        with self._turn:
            self._failed.append(self._clock())


def _key(session: str) -> bytes:
    return hashlib.sha256(session.encode()).digest()
