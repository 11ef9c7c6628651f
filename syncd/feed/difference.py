"""The difference between two versions of a list whose files are in a feed: counts, and the rows for a private file."""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from syncd.errors import UsageError
from syncd.feed.folder import FeedFolder
from syncd.feed.snapshot import open_stacks
from syncd.files import PRIVATE_FILE, storage
from syncd.format.delta import difference
from syncd.format.manifest import Manifest, ManifestRef, SegmentRef
from syncd.format.rows import Rows
from syncd.format.stack import Stack, merge_deltas
from syncd.model import Algorithm, Counts, ListName
from syncd.units import count

_COLUMNS = ("change", "algorithm", "digest", "entry", "label", "old_label")
_SOME = 1 << 14
"""Rows made into text at a time."""


Change = tuple[Stack, Rows]
"""Rows of one algorithm, and the stack that they change."""


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

    def document(self) -> dict[str, Any]:
        """Return the difference as JSON: counts, never rows."""
        return {
            "list": self.list,
            "old": self.old,
            "new": self.new,
            "rows_old": self.rows_old,
            "rows_new": self.rows_new,
            "how": self.how,
            "counts": changes_document(self.counts),
            "labels": {str(algorithm): changes_document(labels) for algorithm, labels in self.labels.items()},
        }


@dataclass(frozen=True)
class ComparedVersions:
    """Two versions of a list, to be compared by the deltas between them if these reach, otherwise by their stacks."""

    feed: FeedFolder
    before: Manifest
    before_sha256: str
    after: Manifest

    def difference(self) -> Difference:
        """Count what differs. Raises `UsageError` if files of a version are gone, and `StoreError`."""
        counts, labels = count_changes(self._changes())
        return Difference(
            list=self.before.list,
            old=self.before.version,
            new=self.after.version,
            how="stacks" if self._delta() is None else "deltas",
            counts=counts,
            labels=labels,
            rows_old=self.before.rows,
            rows_new=self.after.rows,
        )

    def write_rows(self, path: Path) -> int:
        """Write the rows that differ as `write_changes`, and raise as that and `difference`."""
        return write_changes(path, self._changes())

    def _changes(self) -> Iterator[Change]:
        """Yield, by algorithm, the stack before and the rows that turn it into the one after."""
        steps = self._delta()
        return self._by_stacks() if steps is None else self._by_deltas(steps)

    def _delta(self) -> tuple[SegmentRef, ...] | None:
        """Return the segments of the deltas from one version to the other; None if the deltas do not reach."""
        if self.before.version == self.after.version:
            return ()
        steps = self.after.steps_from(ManifestRef(version=self.before.version, sha256=self.before_sha256))
        if steps is None:
            return None
        refs = tuple(ref for step in steps for ref in step.segments)
        return None if self.feed.missing(self.before.list, refs) else refs

    def _by_deltas(self, delta: Sequence[SegmentRef]) -> Iterator[Change]:
        changes = open_stacks(self.feed, self.before.list, delta)
        stacks = self._stacks(self.before, [ref for ref in self.before.stack if ref.algorithm in changes])
        for algorithm, change in sorted(changes.items()):
            yield stacks.get(algorithm, Stack(algorithm, [])), merge_deltas(algorithm, change.segments)

    def _by_stacks(self) -> Iterator[Change]:
        """Compare the whole stacks, which reads both versions completely."""
        old, new = (self._stacks(manifest, manifest.stack) for manifest in (self.before, self.after))
        for algorithm in sorted({*old, *new}):
            empty = Stack(algorithm, [])
            below = old.get(algorithm, empty)
            yield below, difference(below, new.get(algorithm, empty))

    def _stacks(self, manifest: Manifest, refs: Sequence[SegmentRef]) -> Mapping[Algorithm, Stack]:
        missing = self.feed.missing(manifest.list, refs)
        if missing:
            raise UsageError(
                f"{self.feed.root} no longer has {count(len(missing), 'file')} of {manifest.list} "
                f"version {manifest.version}",
                hint=f"compare newer versions; `syncd snapshots {manifest.list}` shows the counts of older ones",
            )
        return open_stacks(self.feed, manifest.list, refs)


def count_changes(
    changes: Iterable[Change],
) -> tuple[dict[Algorithm, Counts], dict[Algorithm, dict[str, Counts]]]:
    """Count the rows that change something, by algorithm, and by algorithm and label."""
    counts: dict[Algorithm, Counts] = {}
    labels: dict[Algorithm, dict[str, Counts]] = {}
    for stack, rows in changes:
        effect, algorithm = stack.effect(rows), stack.algorithm
        counts[algorithm] = counts.get(algorithm, Counts()) + _effective(effect.counts)
        by_label = labels.setdefault(algorithm, {})
        for label, found in effect.by_label.items():
            by_label[label] = by_label.get(label, Counts()) + _effective(found)
    counts = {algorithm: found for algorithm, found in counts.items() if found.effective}
    return counts, {
        algorithm: {label: found for label, found in sorted(labels[algorithm].items()) if found.effective}
        for algorithm in counts
    }


def write_changes(path: Path, changes: Iterable[Change]) -> int:
    """Write the rows that change something to a new CSV file with mode 0600; return their number.

    Columns: ``change`` (added, removed or relabelled), ``algorithm``, ``digest``, ``entry``, ``label`` and, of
    relabelled rows, ``old_label``. Raises `UsageError` if ``path`` exists, and `StoreError`.
    """
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists already", hint="name a file that does not exist; nothing was written")
    written = 0
    with storage(path, "write"):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        with storage(path, "write"), open(descriptor, "w", encoding="utf-8", newline="") as stream:  # noqa: PTH123 - a descriptor, for its mode and O_EXCL
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(_COLUMNS)
            for stack, rows in changes:
                for start in range(0, len(rows), _SOME):
                    for line in _lines(stack, rows.slice(start, start + _SOME)):
                        writer.writerow(line)
                        written += 1
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return written


def _effective(counts: Counts) -> Counts:
    return Counts(added=counts.added, relabelled=counts.relabelled, removed=counts.removed)


def changes_document(counts: Mapping[Any, Counts]) -> dict[str, dict[str, int]]:
    """Return the changes by algorithm or label as JSON."""
    return {
        str(key): {"added": found.added, "relabelled": found.relabelled, "removed": found.removed}
        for key, found in counts.items()
    }


def _lines(stack: Stack, rows: Rows) -> Iterator[tuple[str, ...]]:
    """Yield the rows that change something as text."""
    resolved = stack.resolve(rows)
    old = iter(resolved.current.labels[code] for code in resolved.current.codes.tolist())
    digests = rows.digests.dtype.itemsize
    packed = rows.digests.tobytes()
    entries = rows.entries.to_pylist()
    codes, removals, present = rows.codes.tolist(), rows.removed.tolist(), resolved.present.tolist()
    for number, entry in enumerate(entries):
        digest = packed[number * digests : (number + 1) * digests].hex()
        was = next(old) if present[number] else None
        label = rows.labels[codes[number]]
        if removals[number]:
            if was is not None:
                yield "removed", stack.algorithm, digest, entry, was, ""
        elif was is None:
            yield "added", stack.algorithm, digest, entry, label, ""
        elif was != label:
            yield "relabelled", stack.algorithm, digest, entry, label, was
