"""The heads of the audit log that signed documents of the published feed state."""

import json
from collections.abc import Iterator
from typing import Any

from syncd.catalog.chain import StatedHead
from syncd.errors import StoreError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.model import AuditHead
from syncd.trust.repository import Repository


def stated_heads(feed: FeedFolder, repository: Repository) -> tuple[StatedHead, ...]:
    """Read the audit heads that the timestamp and each list's current manifest state.

    ``repository`` is the feed's verified metadata. A document of an older syncd states no head. Raises `StoreError`,
    `MismatchError`.
    """
    return tuple(_stated(feed, repository))


def _stated(feed: FeedFolder, repository: Repository) -> Iterator[StatedHead]:
    timestamp = _object(feed.metadata("timestamp.json") or b"{}")
    yield from _head("the timestamp", timestamp.get("signed"))
    for target in repository.targets().values():
        name = layout.list_of(target.name)
        if name is not None:
            where = f"{name} version {target.version}"
            yield from _head(where, _object(feed.manifest_bytes(name, target.sha256)))


def _object(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise StoreError("a signed document of the feed is not JSON", hint="run `syncd verify`")
    return document


def _head(where: str, document: Any) -> Iterator[StatedHead]:
    stated = document.get("audit") if isinstance(document, dict) else None
    match stated:
        case {"records": int(records), "head": str(head)}:
            yield StatedHead(where, AuditHead(records, head))
