"""``syncd gc``: removing old files and records now."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from syncd.acts import RemovedOldFiles
from syncd.feed.garbage import FileCount
from syncd.pipeline.collector import Cleanup
from syncd.pipeline.known_good import KnownGoodFolder
from syncd.pipeline.publisher import Publisher


def collect(publisher: Publisher, *, actor: str, now: datetime, dry_run: bool = False) -> Cleanup:
    """Remove files and records beyond the limits of retention, and record who did; a dry run only counts them.

    Raises `RefusedError` if the feed stays locked, `StoreError`.
    """
    done = publisher.collector.everything(now, dry_run=dry_run)
    if not dry_run:
        KnownGoodFolder(publisher.folder.known_good).remove_left_over()
        publisher.catalog.append(actor, RemovedOldFiles(done.files.files, done.files.bytes, done.record_count), now)
    return done


def cleanup_document(done: Cleanup, *, dry_run: bool) -> dict[str, Any]:
    """Return what was removed, and what waits, as JSON."""
    total = done.files
    return {
        "dry_run": dry_run,
        "files": total.files,
        "bytes": total.bytes,
        "records": done.record_count,
        "removed": [
            *_files("feed", done.feed.removed),
            *_files(
                "sources", {**done.sources.removed, **({"downloads": done.downloads} if done.downloads.files else {})}
            ),
            *(
                {"where": "catalog", "kind": kind, "count": count.records, "bytes": count.bytes}
                for kind, count in sorted(done.records.items())
                if count.records
            ),
        ],
        "waiting": [
            *_files("feed", done.feed.waiting),
            *_files("sources", done.sources.waiting),
            *(
                [{"where": "catalog", "kind": "audit", "count": done.old_audit, "bytes": None}]
                if done.old_audit
                else []
            ),
        ],
        "skipped": list(done.skipped),
    }


def _files(where: str, counts: Mapping[str, FileCount]) -> list[dict[str, Any]]:
    return [
        {"where": where, "kind": kind, "count": count.files, "bytes": count.bytes}
        for kind, count in sorted(counts.items())
    ]
