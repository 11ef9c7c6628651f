"""Sessions that several daemons share through the catalog: opened at one, each is open at all, and closed at all.

The catalog has hashes of their ids, and for each a proof of the token that opened it: a hash of both the id and the
token, from which nobody can guess either. Each daemon has the tokens of operators in its own configuration.
"""

import hashlib
import hmac
import re
import secrets
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.sign_in_records import StoredSession
from syncd.errors import StoreError
from syncd.service.access import Visitor
from syncd.service.web.dashboard.sessions import MOST, OpenSession, Random, Sessions, key_of

MOST_RECALLS: Final = 20
"""Most look-ups in the catalog in a second: a client can invent any number of sessions."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class _Elsewhere:
    """A session of the catalog. Only its id shows which token it belongs to."""

    proof: str = field(repr=False)
    until: datetime


class SharedSessions(Sessions):
    """The sessions of one of several daemons. `look`, to be called every second, keeps up with the others."""

    def __init__(
        self,
        catalog: Catalog,
        people: Callable[[], Iterable[Visitor]],
        clock: Callable[[], datetime],
        is_in_force: Callable[[Visitor], bool],
        random: Random = secrets.token_urlsafe,
    ) -> None:
        """``people``: returns the operators and viewers whose tokens are in force."""
        super().__init__(clock, is_in_force, random)
        self._catalog, self._people = catalog, people
        self._elsewhere: dict[bytes, _Elsewhere] = {}
        self._opened: dict[bytes, str] = {}
        """sessions that the catalog does not have yet, with their proofs"""
        self._closed: set[bytes] = set()
        """closed sessions that the catalog may still have"""
        self._stored: set[bytes] = set()
        """sessions known here that the catalog has, or had"""
        self._exchange = threading.Lock()
        self._recalls: tuple[datetime, int] | None = None

    def open(self, visitor: Visitor) -> str:
        """Open a session at all daemons, and return its id. If the catalog cannot be written, `look` tries again."""
        made = super().open(visitor)
        with self._lock:
            self._opened[key_of(made)] = _proof(made, visitor)
        self._try_to_store()
        return made

    def close(self, session: str) -> None:
        """Close a session at all daemons: at this one now, at the others within a second."""
        super().close(session)
        with self._lock:
            self._ended(key_of(session))
        self._try_to_store()

    def visitor(self, session: str) -> Visitor | None:
        """Return whose session this is; None if it is not open. Reads no file."""
        key = key_of(session)
        with self._lock:
            other = None if key in self._sessions else self._elsewhere.get(key)
        if other is not None:
            self._adopt(session, other)
        return super().visitor(session)

    def is_known(self, session: str) -> bool:
        """Return True if there is no need to `recall` this: it is known here, or is not an id."""
        key = key_of(session)
        with self._lock:
            return key in self._sessions or key in self._elsewhere or not _ID.fullmatch(session)

    def recall(self, session: str) -> None:
        """Look in the catalog for a session that another daemon opened within the last second."""
        key = key_of(session)
        with self._exchange, suppress(StoreError):  # then it counts as unknown
            stored = self._catalog.stored_session(key.hex()) if self._may_recall() else None
            if stored is not None:
                with self._lock:
                    if key not in self._closed:
                        self._elsewhere[key] = self._from(stored)

    def look(self) -> None:
        """Exchange sessions with the catalog. Raises `StoreError`."""
        with self._lock:
            for key in [key for key, session in self._sessions.items() if not self._is_valid(session)]:
                del self._sessions[key]
                self._ended(key)
        with self._exchange:
            self._store()
            with self._lock:
                stored = set(self._stored)
            found = {bytes.fromhex(one.id_sha256): self._from(one) for one in self._catalog.stored_sessions()}
            with self._lock:
                for key in stored - found.keys():  # closed at another daemon
                    self._sessions.pop(key, None)
                    self._stored.discard(key)
                self._elsewhere = {key: one for key, one in found.items() if key not in self._closed}

    def _ended(self, key: bytes) -> None:
        self._closed.add(key)
        self._opened.pop(key, None)
        self._elsewhere.pop(key, None)

    def _adopt(self, session: str, other: _Elsewhere) -> None:
        whose = (one for one in self._people() if hmac.compare_digest(_proof(session, one), other.proof))
        visitor = next(whose, None)
        if visitor is not None:
            with self._lock:
                self._sessions[key_of(session)] = OpenSession(visitor, other.until)
                self._stored.add(key_of(session))

    def _try_to_store(self) -> None:
        with self._exchange, suppress(StoreError):
            self._store()

    def _store(self) -> None:
        """Write what was opened and closed here."""
        now = self._clock()
        with self._lock:
            closed = set(self._closed)
            opened = {key: proof for key, proof in self._opened.items() if key in self._sessions}
            left = {key: (self._sessions[key].until - now) // timedelta(milliseconds=1) for key in opened}
        if not opened and not closed:
            return
        new = [StoredSession(key.hex(), proof, left[key]) for key, proof in opened.items()]
        self._catalog.store_sessions(new, [key.hex() for key in closed], MOST)
        with self._lock:
            self._closed -= closed
            self._stored = (self._stored | opened.keys()) - closed
            for key in opened:
                self._opened.pop(key, None)

    def _from(self, stored: StoredSession) -> _Elsewhere:
        return _Elsewhere(stored.proof, self._clock() + timedelta(milliseconds=stored.left))

    def _may_recall(self) -> bool:
        now = self._clock()
        began, number = self._recalls or (now, 0)
        if not timedelta() <= now - began < _SECOND:
            began, number = now, 0
        self._recalls = began, number + 1
        return number < MOST_RECALLS


def _proof(session: str, visitor: Visitor) -> str:
    return hmac.new(session.encode(), visitor.key, hashlib.sha256).hexdigest()
