"""Admits requests by their token, and limits wrong ones, on every route.

A wrong token is logged with the client's address and the route, never with the token. After ten within a minute from
one address, further tokens from there are answered 429 unread, except those of matchers, which have 256 random bits, so
that nobody can guess one. So a matcher whose token was revoked does not lock out the others behind the same address.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from syncd import events
from syncd.event import Emit
from syncd.service.access import READERS, Access, Kind, Visitor
from syncd.service.attempts import Attempts, Scope, headers_of, peer_of


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

        A matcher or mirror is admitted whatever happened before.
        """
        authorization = headers_of(scope, b"authorization")
        if not authorization:
            return TokenRefusal()
        visitor = self._access.admit(authorization[0])
        if visitor is not None and visitor.kind in READERS:
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
