"""Checks that acts of operators share."""

from syncd.catalog.catalog import Catalog
from syncd.catalog.records import HeadRecord
from syncd.errors import UsageError, nearest
from syncd.model import ListName


def check_reason(reason: str) -> None:
    """Raise `UsageError` if no reason is given."""
    if not reason.strip():
        raise UsageError("a reason is needed", hint="give it with --reason; the audit log records it")


def published_head(catalog: Catalog, name: ListName) -> HeadRecord:
    """Return the head of a list. Raises `UsageError`, whose hint names the nearest, if there is no such list."""
    head = catalog.head(name)
    if head is None:
        known = [other.list for other in catalog.heads()]
        raise UsageError(f"there is no list {name}", hint=nearest(name, known, "list"))
    return head
