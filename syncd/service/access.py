"""Access by token, for matchers, operators and metrics collectors.

Only SHA-256 hashes of tokens are held. A token has 256 random bits, so its hash needs no salt. The timing of a hash
look-up gives away nothing useful: a client that could choose the hash could also forge the token.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from syncd.model import ListName

_SCHEME: Final = b"bearer "


class Kind(StrEnum):
    """Role of a token."""

    MATCHER = "matcher"
    MIRROR = "mirror"
    """reads as a matcher does, learns which tokens are in force, and passes check-ins on"""
    VIEWER = "viewer"
    """sees all that an operator sees"""
    OPERATOR = "operator"
    """may act, too"""
    METRICS = "metrics"


READERS: Final = frozenset({Kind.MATCHER, Kind.MIRROR})
"""Those who pull lists. Their tokens have 256 random bits, so nobody can guess one."""
PEOPLE: Final = frozenset({Kind.VIEWER, Kind.OPERATOR})
"""Those who may see the state of everything."""
OPERATOR_NAME: Final = "operator"
"""The name of the holder of ``serve.operator_token_file``."""


@dataclass(frozen=True)
class PersonToken:
    """The token of a viewer or an operator."""

    name: str
    kind: Kind
    token: str = field(repr=False)


@dataclass(frozen=True)
class Visitor:
    """Holder of a token that is in force. ``lists`` are those that it may read; None means all."""

    name: str
    kind: Kind
    lists: frozenset[ListName] | None
    key: bytes = field(default=b"", repr=False, compare=False)
    """the SHA-256 of its token, by which `Access` finds it"""

    def may_read(self, name: str) -> bool:
        """Return True if the list is in scope, published or not."""
        return self.lists is None or name in self.lists


class PermittedMatcher(Protocol):
    """A matcher or mirror whose token is in force."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def token_sha256(self) -> str:
        """The SHA-256 of its token, in hex."""
        ...

    @property
    def lists(self) -> tuple[ListName, ...] | None:
        """The lists that it may read; None: all."""
        ...

    @property
    def mirror(self) -> bool:
        """True if it is a mirror."""
        ...


class KnownMatchers(Protocol):
    """The place that says which matchers are permitted: the catalog, or at a mirror its upstream."""

    def matchers(self) -> Iterable[PermittedMatcher]:
        """Return those whose token is in force. Raises `StoreError`."""
        ...


class Access:
    """Maps tokens to their holders. Safe to share between threads. Look-ups never wait."""

    def __init__(
        self,
        known: KnownMatchers,
        operator_token: str | None = None,
        metrics_token: str | None = None,
        people: Iterable[PersonToken] = (),
    ) -> None:
        self._known = known
        self._own: Mapping[bytes, Visitor] = dict(_own(operator_token, metrics_token, people))
        self._matchers: Mapping[bytes, Visitor] = {}
        self._visitors: Mapping[bytes, Visitor] = {}
        self._by_name: Mapping[str, Visitor] = {}
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._lock = threading.Lock()
        self.reload()

    def admit(self, authorization: bytes) -> Visitor | None:
        """Return the holder of the token in an Authorization header (RFC 6750, section 2.1). None if it is unknown."""
        if authorization[:7].lower() != _SCHEME:
            return None
        return self._visitors.get(hashlib.sha256(authorization[7:].strip()).digest())

    def admit_person(self, token: str) -> Visitor | None:
        """Return the operator or viewer who has this token; None if nobody has."""
        visitor = self._visitors.get(_key(token))
        return visitor if visitor is not None and visitor.kind in PEOPLE else None

    def reader(self, name: str) -> Visitor | None:
        """Return the matcher or mirror of this name whose token is in force; None if there is none."""
        return self._by_name.get(name)

    def readers(self) -> tuple[Visitor, ...]:
        """Return the matchers and mirrors whose token is in force, sorted by name."""
        return tuple(sorted(self._matchers.values(), key=lambda visitor: visitor.name))

    def people(self) -> frozenset[str]:
        """Return the names of operators and viewers."""
        return frozenset(visitor.name for visitor in self._own.values() if visitor.kind in PEOPLE)

    def signing_in(self) -> tuple[Visitor, ...]:
        """Return the operators and viewers, who may sign in."""
        return tuple(visitor for visitor in self._own.values() if visitor.kind in PEOPLE)

    def is_in_force(self, visitor: Visitor) -> bool:
        """Return True if the token that admitted this visitor is still in force, for the same lists."""
        return self._visitors.get(visitor.key) == visitor

    def reload(self) -> None:
        """Read the permitted matchers again and call the listeners. Raises `StoreError` and changes nothing."""
        with self._lock:
            self._matchers = dict(_matchers(self._known))
            self._put_in_force()
        self._call_listeners()

    def add(self, name: str, lists: Iterable[ListName] | None, token: str, *, mirror: bool = False) -> None:
        """Put the token of a matcher in force and call the listeners. Reads no file, so it cannot fail."""
        key = _key(token)
        with self._lock:
            self._matchers = {**self._matchers, key: _matcher(name, lists, key, mirror=mirror)}
            self._put_in_force()
        self._call_listeners()

    def revoke(self, name: str) -> None:
        """Revoke the token of a matcher and call the listeners. Reads no file, so it cannot fail."""
        with self._lock:
            self._matchers = {key: visitor for key, visitor in self._matchers.items() if visitor.name != name}
            self._put_in_force()
        self._call_listeners()

    def set_tokens(self, operator: str | None, metrics: str | None, people: Iterable[PersonToken] = ()) -> None:
        """Replace all tokens but those of matchers. None, or leaving a person out, revokes a token."""
        with self._lock:
            self._own = dict(_own(operator, metrics, people))
            self._put_in_force()
        self._call_listeners()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after each change, in the thread that makes the change."""
        with self._lock:
            self._listeners = (*self._listeners, callback)

    def _put_in_force(self) -> None:
        self._by_name = {visitor.name: visitor for visitor in self._matchers.values()}
        self._visitors = {**self._matchers, **self._own}

    def _call_listeners(self) -> None:
        for listener in self._listeners:
            listener()


def _matchers(known: KnownMatchers) -> Iterator[tuple[bytes, Visitor]]:
    for matcher in known.matchers():
        key = bytes.fromhex(matcher.token_sha256)
        yield key, _matcher(matcher.name, matcher.lists, key, mirror=matcher.mirror)


def _matcher(name: str, lists: Iterable[ListName] | None, key: bytes, *, mirror: bool) -> Visitor:
    return Visitor(name, Kind.MIRROR if mirror else Kind.MATCHER, None if lists is None else frozenset(lists), key)


def _own(operator: str | None, metrics: str | None, people: Iterable[PersonToken]) -> Iterator[tuple[bytes, Visitor]]:
    if metrics:
        yield _key(metrics), Visitor("metrics", Kind.METRICS, frozenset(), _key(metrics))
    for person in people:
        yield _key(person.token), Visitor(person.name, person.kind, None, _key(person.token))
    if operator:
        yield _key(operator), Visitor(OPERATOR_NAME, Kind.OPERATOR, None, _key(operator))


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
