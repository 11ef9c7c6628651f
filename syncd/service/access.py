"""Who may: tokens of matchers, of the operator and of what collects metrics.

Only SHA-256 of tokens are held. A token has 256 random bits, so its hash needs no salt, and looking the hash up tells a
patient listener nothing of use: who could choose the hash could forge the token.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.model import ListName

_SCHEME: Final = b"bearer "


class Kind(StrEnum):
    """What a visitor comes for."""

    MATCHER = "matcher"
    OPERATOR = "operator"
    METRICS = "metrics"


@dataclass(frozen=True)
class Visitor:
    """Somebody whose token is in force. ``lists``: those that it may read; None: all."""

    name: str
    kind: Kind
    lists: frozenset[ListName] | None
    key: bytes = field(default=b"", repr=False, compare=False)
    """under which `Access` knows it"""

    def may_read(self, name: str) -> bool:
        """Whether that list is in scope, published or not."""
        return self.lists is None or name in self.lists


class Access:
    """Says who holds a token. Safe to share between threads; asking never waits."""

    def __init__(self, catalog: Catalog, operator_token: str | None = None, metrics_token: str | None = None) -> None:
        self._catalog = catalog
        self._own: Mapping[bytes, Visitor] = dict(_own(operator_token, metrics_token))
        self._matchers: Mapping[bytes, Visitor] = {}
        self._visitors: Mapping[bytes, Visitor] = {}
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._turn = threading.Lock()
        self.reload()

    def admit(self, authorization: bytes) -> Visitor | None:
        """Who sent this value of the Authorization header (RFC 6750, section 2.1); None: nobody whom we know."""
        if authorization[:7].lower() != _SCHEME:
            return None
        return self._visitors.get(hashlib.sha256(authorization[7:].strip()).digest())

    def admit_operator(self, token: str) -> Visitor | None:
        """The operator, where that is the token of it."""
        found = self._visitors.get(_key(token))
        return found if found is not None and found.kind is Kind.OPERATOR else None

    def is_in_force(self, visitor: Visitor) -> bool:
        """Whether the token by which it was admitted still admits it, to the same lists."""
        return self._visitors.get(visitor.key) == visitor

    def reload(self) -> None:
        """Read the matchers from the catalog again and tell who listens. Raises `StoreError`: all stays as it was."""
        with self._turn:
            self._matchers = dict(_matchers(self._catalog))
            self._visitors = {**self._matchers, **self._own}
        self._tell()

    def let_in(self, name: str, lists: Iterable[ListName] | None, token: str) -> None:
        """Put the token of a matcher in force, and tell who listens. As `drop`, nothing here can fail."""
        key = _key(token)
        with self._turn:
            self._matchers = {**self._matchers, key: _matcher(name, lists, key)}
            self._visitors = {**self._matchers, **self._own}
        self._tell()

    def drop(self, name: str) -> None:
        """Put the token of a matcher out of force, and tell who listens. Reads nothing, so that nothing can fail."""
        with self._turn:
            self._matchers = {key: one for key, one in self._matchers.items() if one.name != name}
            self._visitors = {**self._matchers, **self._own}
        self._tell()

    def set_tokens(self, operator: str | None, metrics: str | None) -> None:
        """Put other tokens of our own in force; None: there is no such visitor."""
        with self._turn:
            self._own = dict(_own(operator, metrics))
            self._visitors = {**self._matchers, **self._own}
        self._tell()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called after each change, in whatever thread makes it."""
        with self._turn:
            self._listeners = (*self._listeners, callback)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def _matchers(catalog: Catalog) -> Iterator[tuple[bytes, Visitor]]:
    for one in catalog.matchers():
        key = bytes.fromhex(one.token_sha256)
        yield key, _matcher(one.name, one.lists, key)


def _matcher(name: str, lists: Iterable[ListName] | None, key: bytes) -> Visitor:
    return Visitor(name, Kind.MATCHER, None if lists is None else frozenset(lists), key)


def _own(operator: str | None, metrics: str | None) -> Iterator[tuple[bytes, Visitor]]:
    if metrics:
        yield _key(metrics), Visitor("metrics", Kind.METRICS, frozenset(), _key(metrics))
    if operator:
        yield _key(operator), Visitor("operator", Kind.OPERATOR, None, _key(operator))


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
