"""The difference between two published versions of a list: counts, never rows."""

from typing import Any

from syncd.catalog.catalog import Catalog
from syncd.catalog.records import VersionRecord
from syncd.errors import UsageError
from syncd.feed.difference import ComparedVersions, Difference
from syncd.feed.folder import FeedFolder
from syncd.format import manifest as manifests
from syncd.model import ListName
from syncd.report.document import counts_document
from syncd.units import stamp

_SHOWN = 5


def diff(catalog: Catalog, feed: FeedFolder, name: ListName, old: int, new: int) -> Difference:
    """Count what differs between two published versions. Raises as `compared` and `ComparedVersions.difference`."""
    return compared(catalog, feed, name, old, new).difference()


def compared(catalog: Catalog, feed: FeedFolder, name: ListName, old: int, new: int) -> ComparedVersions:
    """Return two published versions, in either order, to be compared.

    Raises `UsageError` if there is no such list or version, `StoreError`.
    """
    before, after = _version(catalog, name, old), _version(catalog, name, new)
    manifest, following = manifests.parse(before.manifest), manifests.parse(after.manifest)
    return ComparedVersions(feed, manifest, before.manifest_sha256, following)


def _version(catalog: Catalog, name: ListName, version: int) -> VersionRecord:
    record = catalog.version(name, version)
    if record is None:
        raise UsageError(f"{name} has no version {version}", hint=_known(catalog, name))
    return record


def _known(catalog: Catalog, name: ListName) -> str:
    known = [str(record.version) for record in catalog.versions(name, _SHOWN)]
    if known:
        return f"its newest versions are {', '.join(known)}; `syncd snapshots {name}` shows all"
    lists = ", ".join(head.list for head in catalog.heads())
    return f"there is no such list; published lists: {lists or 'none'}"


def version_document(version: VersionRecord) -> dict[str, Any]:
    """Return one published version as JSON."""
    return {
        "version": version.version,
        "created_at": stamp(version.created_at),
        "rows": version.rows,
        "counts": counts_document(version.counts),
        "plan": version.plan,
        "sync_id": version.sync_id,
        "manifest": version.manifest_sha256,
    }
