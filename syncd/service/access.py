"""Who may: a stand-in until tokens of matchers are in the catalog."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from syncd.model import ListName


class Kind(StrEnum):
    """What a token is for."""

    MATCHER = "matcher"
    OPERATOR = "operator"
    METRICS = "metrics"


@dataclass(frozen=True)
class Visitor:
    """Whoever showed a token. ``lists``: what it may read; None: all."""

    name: str
    kind: Kind
    lists: frozenset[ListName] | None = None

    def may_read(self, name: ListName) -> bool:
        """Whether a list is in its scope."""
        return self.lists is None or name in self.lists


class Access:
    """Admits by token."""

    def __init__(self, catalog: Any, operator_token: str | None, metrics_token: str | None) -> None:
        del catalog
        self._told: list[Callable[[], None]] = []
        self.set_tokens(operator_token, metrics_token)

    def set_tokens(self, operator: str | None, metrics: str | None) -> None:
        """Put other tokens in force."""
        both = ((operator, Kind.OPERATOR), (metrics, Kind.METRICS))
        self._known = {
            hashlib.sha256(token.encode()).digest(): Visitor(str(kind), kind) for token, kind in both if token
        }

    def admit(self, authorization: bytes) -> Visitor | None:
        """Whose token this is."""
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        return self._known.get(hashlib.sha256(token.strip()).digest())

    def admit_operator(self, token: str) -> Visitor | None:
        """The operator, where this is the token."""
        found = self.admit(b"Bearer " + token.encode())
        return found if found and found.kind is Kind.OPERATOR else None

    def is_in_force(self, visitor: Visitor) -> bool:
        """Whether it would still be admitted."""
        return visitor in self._known.values()

    def reload(self) -> None:
        """Read the catalog again."""
        for told in self._told:
            told()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Be told after each reload."""
        self._told.append(callback)
