"""Sessions of signed-in operators, in memory only: a restart signs everybody out. Safe to share between threads.

`SharedSessions` also keeps them in a catalog that several daemons share.
"""

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncd.service.access import Visitor

LASTS: Final = timedelta(hours=12)
MOST: Final = 256
"""Most sessions at a time; another one ends the oldest."""

Random = Callable[[int], str]
"""Returns N random bytes, as text for a cookie."""


@dataclass(frozen=True)
class OpenSession:
    """A session in force."""

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
        self._sessions: OrderedDict[bytes, OpenSession] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, visitor: Visitor) -> str:
        """Open a session, and return its id of 256 random bits."""
        made = self._random(32)
        with self._lock:
            while len(self._sessions) >= MOST:
                self._sessions.popitem(last=False)
            self._sessions[key_of(made)] = OpenSession(visitor, self._clock() + LASTS)
        return made

    def is_open(self, session: str) -> bool:
        """Return True if the session was not closed, has not expired, and its token is still valid."""
        return self.visitor(session) is not None

    def visitor(self, session: str) -> Visitor | None:
        """Return whose session this is; None if it is not open."""
        with self._lock:
            key = key_of(session)
            open_session = self._sessions.get(key)
            if open_session is None:
                return None
            if self._is_valid(open_session):
                return open_session.visitor
            del self._sessions[key]
            self._ended(key)
            return None

    def close(self, session: str) -> None:
        """Close a session."""
        with self._lock:
            self._sessions.pop(key_of(session), None)

    def _is_valid(self, session: OpenSession) -> bool:
        return self._clock() < session.until and self._is_in_force(session.visitor)

    def _ended(self, key: bytes) -> None:
        """Note that a session ended by itself. Called with the lock held."""


def key_of(session: str) -> bytes:
    """Return the hash of a session's id."""
    return hashlib.sha256(session.encode()).digest()
