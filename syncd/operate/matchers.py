"""Letting matchers pull, and letting them pull no more."""

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from syncd.acts import AddedMatcher, RevokedMatcher
from syncd.catalog.catalog import Catalog
from syncd.catalog.records import AuditEntry, MatcherRecord
from syncd.errors import UsageError
from syncd.model import ListName, list_name

TOKEN_PREFIX: Final = "syncd_"  # noqa: S105 - so that whoever finds a token knows what it opens
_TOKEN_BYTES: Final = 32
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SOMEBODY_ELSE: Final = frozenset({"operator", "metrics", "root"})
"""Who pulls is named in the audit log beside who gave orders. One of such a name may be there since before."""


@dataclass(frozen=True)
class Added:
    """A matcher that may pull from now on, and its token, which nobody keeps."""

    name: str
    lists: tuple[ListName, ...] | None
    not_published: tuple[ListName, ...]
    """lists of these that there are not, as yet"""
    token: str = field(repr=False)

    def document(self) -> dict[str, Any]:
        """All of it but the token."""
        return {"name": self.name, "lists": self.lists, "not_published": self.not_published}


def new_token(random: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """``syncd_`` and 43 characters: 32 random bytes in base64url without padding (RFC 4648, section 5)."""
    return TOKEN_PREFIX + base64.urlsafe_b64encode(random(_TOKEN_BYTES)).rstrip(b"=").decode()


def add(catalog: Catalog, name: str, lists: Iterable[str], *, asked_by: str, now: datetime, token: str) -> Added:
    """Let ``name`` pull ``lists`` (none: all) by ``token``, of which the hash alone is stored.

    Raises `UsageError` where a name is none, reserved or in force already, `StoreError`.
    """
    _check_name(name)
    scope = tuple(sorted({list_name(one) for one in lists})) or None
    published = {head.list for head in catalog.heads()}
    sha256 = hashlib.sha256(token.encode()).hexdigest()
    act = AddedMatcher(name, scope)
    catalog.add_matcher(MatcherRecord(name, sha256, scope, now, asked_by), AuditEntry(now, asked_by, act))
    return Added(name, scope, tuple(one for one in scope or () if one not in published), token)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            "that is not a matcher's name",  # not repeated: it may be a token, put there by mistake
            hint="use lower-case letters, digits, '.', '_' and '-', at most 64, the first a letter or digit",
        )
    if name in _SOMEBODY_ELSE:
        raise UsageError(
            f"no matcher may be named {name}: in the audit log it would read as somebody else",
            hint=f"take another name, such as {name}-web; nothing was changed",
        )


def revoke(catalog: Catalog, name: str, *, asked_by: str, now: datetime) -> None:
    """Let ``name`` pull no more. Raises `UsageError` where there is no such matcher, `StoreError`."""
    catalog.revoke_matcher(name, AuditEntry(now, asked_by, RevokedMatcher(name)))
