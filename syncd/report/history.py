"""The difference between two published versions of a list: counts, never rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from syncd.catalog.catalog import Catalog
from syncd.catalog.records import VersionRecord
from syncd.errors import UsageError
from syncd.feed.folder import FeedFolder
from syncd.feed.snapshot import open_stacks
from syncd.format import manifest as manifests
from syncd.format.delta import difference
from syncd.format.manifest import Manifest, ManifestRef, SegmentRef
from syncd.format.rows import Rows
from syncd.format.stack import Stack, merge_deltas
from syncd.model import Algorithm, Counts, ListName
from syncd.report.document import counts_document
from syncd.units import count, stamp

_SHOWN = 5


@dataclass(frozen=True)
class Difference:
    """The net difference between versions ``old`` and ``new``: rows that came and went in between are not counted.

    ``labels`` counts additions and relabellings under the new label, removals under the old one. ``rows_old`` and
    ``rows_new`` are the entries of each version.
    """

    list: ListName
    old: int
    new: int
    how: Literal["deltas", "stacks"]
    counts: Mapping[Algorithm, Counts]
    labels: Mapping[Algorithm, Mapping[str, Counts]]
    rows_old: int
    rows_new: int


def diff(catalog: Catalog, feed: FeedFolder, name: ListName, old: int, new: int) -> Difference:
    """Compare two published versions, in either order; by deltas if these lead from one to the other.

    Raises `UsageError` if there is no such list or version, or if files of one are gone, `StoreError`.
    """
    before, after = _version(catalog, name, old), _version(catalog, name, new)
    steps = _delta(catalog, before, after)
    if steps is not None and not feed.missing(name, steps):
        changes = _by_deltas(feed, before, steps)
    else:
        steps = None
        changes = _by_stacks(feed, before, after)
    counts: dict[Algorithm, Counts] = {}
    labels: dict[Algorithm, dict[str, Counts]] = {}
    for stack, rows in changes:
        effect = stack.effect(rows)
        counts[stack.algorithm] = _effective(effect.counts)
        labels[stack.algorithm] = {
            label: _effective(count) for label, count in sorted(effect.by_label.items()) if count.effective
        }
    counts = {algorithm: count for algorithm, count in counts.items() if count.effective}
    labels = {algorithm: labels[algorithm] for algorithm in counts}
    how: Literal["deltas", "stacks"] = "stacks" if steps is None else "deltas"
    return Difference(name, old, new, how, counts, labels, rows_old=before.rows, rows_new=after.rows)


def _version(catalog: Catalog, name: ListName, version: int) -> Manifest:
    record = catalog.version(name, version)
    if record is None:
        raise UsageError(f"{name} has no version {version}", hint=_known(catalog, name))
    return manifests.parse(record.manifest)


def _known(catalog: Catalog, name: ListName) -> str:
    known = [str(record.version) for record in catalog.versions(name, _SHOWN)]
    if known:
        return f"its newest versions are {', '.join(known)}; `syncd snapshots {name}` shows all"
    lists = ", ".join(head.list for head in catalog.heads())
    return f"there is no such list; published lists: {lists or 'none'}"


def _delta(catalog: Catalog, before: Manifest, after: Manifest) -> tuple[SegmentRef, ...] | None:
    """Return the segments of the deltas from one version to the other; None if the deltas do not reach."""
    kept = catalog.version(before.list, before.version)
    if kept is None or before.version == after.version:
        return () if kept else None
    steps = after.steps_from(ManifestRef(version=before.version, sha256=kept.manifest_sha256))
    return None if steps is None else tuple(ref for step in steps for ref in step.segments)


def _by_deltas(feed: FeedFolder, before: Manifest, delta: Sequence[SegmentRef]) -> Iterator[tuple[Stack, Rows]]:
    changes = open_stacks(feed, before.list, delta)
    stacks = _stacks(feed, before, [ref for ref in before.stack if ref.algorithm in changes])
    for algorithm, change in changes.items():
        yield stacks.get(algorithm, Stack(algorithm, [])), merge_deltas(algorithm, change.segments)


def _by_stacks(feed: FeedFolder, before: Manifest, after: Manifest) -> Iterator[tuple[Stack, Rows]]:
    """Compare the whole stacks, which reads both versions completely."""
    old, new = _stacks(feed, before, before.stack), _stacks(feed, after, after.stack)
    for algorithm in sorted({*old, *new}):
        empty = Stack(algorithm, [])
        below = old.get(algorithm, empty)
        yield below, difference(below, new.get(algorithm, empty))


def _stacks(feed: FeedFolder, manifest: Manifest, refs: Sequence[SegmentRef]) -> Mapping[Algorithm, Stack]:
    missing = feed.missing(manifest.list, refs)
    if missing:
        raise UsageError(
            f"{feed.root} no longer has {count(len(missing), 'file')} of {manifest.list} version {manifest.version}",
            hint="compare newer versions; `syncd snapshots` shows the counts of older ones",
        )
    return open_stacks(feed, manifest.list, refs)


def _effective(counts: Counts) -> Counts:
    return Counts(added=counts.added, relabelled=counts.relabelled, removed=counts.removed)


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


def difference_document(difference: Difference) -> dict[str, Any]:
    """Return a difference as JSON: counts, never rows."""
    return {
        "list": difference.list,
        "old": difference.old,
        "new": difference.new,
        "rows_old": difference.rows_old,
        "rows_new": difference.rows_new,
        "how": difference.how,
        "counts": {str(algorithm): _counts_document(counts) for algorithm, counts in difference.counts.items()},
        "labels": {
            str(algorithm): {label: _counts_document(counts) for label, counts in labels.items()}
            for algorithm, labels in difference.labels.items()
        },
    }


def _counts_document(counts: Counts) -> dict[str, int]:
    return {kind: number for kind, number in asdict(counts).items() if kind in {"added", "removed", "relabelled"}}
