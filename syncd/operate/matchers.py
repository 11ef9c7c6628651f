"""Permitting matchers to pull, and revoking the permission."""

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from syncd.acts import AUTOMATIC, AddedMatcher, RevokedMatcher
from syncd.catalog.catalog import Catalog
from syncd.catalog.records import AuditEntry, MatcherRecord
from syncd.errors import UsageError
from syncd.model import ListName, list_name

TOKEN_PREFIX: Final = "syncd_"  # noqa: S105 - so that anyone who finds a token can tell what it is for
_TOKEN_BYTES: Final = 32
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RESERVED: Final = frozenset({"operator", "metrics", "root", AUTOMATIC})
"""Names that the audit log uses for other actors. A matcher that an older syncd added may have one of them."""


@dataclass(frozen=True)
class Added:
    """A new matcher and its token, which is not stored anywhere."""

    name: str
    lists: tuple[ListName, ...] | None
    not_published: tuple[ListName, ...]
    """those of ``lists`` that are not published yet"""
    token: str = field(repr=False)
    mirror: bool = False

    def document(self) -> dict[str, Any]:
        """Return it as JSON, without the token."""
        return {"name": self.name, "lists": self.lists, "not_published": self.not_published, "mirror": self.mirror}


def new_token(random: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Return ``syncd_`` and 43 characters: 32 random bytes in base64url without padding (RFC 4648, section 5)."""
    return TOKEN_PREFIX + base64.urlsafe_b64encode(random(_TOKEN_BYTES)).rstrip(b"=").decode()


def add(
    catalog: Catalog,
    name: str,
    lists: Iterable[str],
    *,
    asked_by: str,
    now: datetime,
    token: str,
    operators: Collection[str] = (),
    mirror: bool = False,
) -> Added:
    """Permit matcher ``name`` to pull ``lists`` (if empty: all) with ``token``. Only the token's hash is stored.

    ``mirror``: it is a mirror, which may also learn the hashes of the other tokens, and pass check-ins on.
    ``operators``: the names in ``[operators]``, which are reserved. Raises `UsageError` if a name is not valid, is
    reserved or is in use already, `StoreError`.
    """
    _check_name(name, operators)
    scope = tuple(sorted({list_name(text) for text in lists})) or None
    published = {head.list for head in catalog.heads()}
    sha256 = hashlib.sha256(token.encode()).hexdigest()
    record = MatcherRecord(name, sha256, scope, now, asked_by, mirror=mirror)
    catalog.add_matcher(record, AuditEntry(now, asked_by, AddedMatcher(name, scope, mirror)))
    return Added(name, scope, tuple(wanted for wanted in scope or () if wanted not in published), token, mirror)


def _check_name(name: str, operators: Collection[str]) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            "that is not a matcher's name",  # not repeated: it may be a token, entered by mistake
            hint="use lower-case letters, digits, '.', '_' and '-', at most 64, the first a letter or digit",
        )
    if name in _RESERVED or name in operators:
        raise UsageError(
            f"no matcher can be named {name}: the audit log uses that name for another actor",
            hint=f"take another name, such as {name}-web; nothing was changed",
        )


def revoke(catalog: Catalog, name: str, *, asked_by: str, now: datetime) -> None:
    """Revoke the permission of ``name`` to pull. Raises `UsageError` if there is no such matcher, `StoreError`."""
    catalog.revoke_matcher(name, AuditEntry(now, asked_by, RevokedMatcher(name)))
