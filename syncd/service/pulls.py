"""Pulls by matcher and list, summed up by the hour for the audit log."""

import re
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from syncd.acts import Pulled
from syncd.catalog.catalog import Catalog
from syncd.catalog.records import AuditEntry
from syncd.model import LIST_NAME

OTHER_LISTS: Final = "*"
"""Subject under which lists are counted together if there are too many to count apart."""

_MAX_COUNTS: Final = 10_000
_PATH: Final = re.compile(
    rf"v1/({LIST_NAME.pattern})/(?:(segments/[^/]+\.arrow)|([^/]+\.manifest\.json)|evidence/[^/]+)"
)


@dataclass
class _Count:
    manifests: int = 0
    segments: int = 0
    bytes: int = 0

    def add(self, other: "_Count") -> None:
        self.manifests += other.manifests
        self.segments += other.segments
        self.bytes += other.bytes


class Pulls:
    """Counts the bytes and files of each list sent to each matcher. Safe to share between threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._counts: dict[tuple[str, str], _Count] = {}
        self._lock = threading.Lock()
        self._hour: datetime | None = None

    def note(self, visitor_name: str, path: str, sent: int) -> None:
        """Count an answer of ``sent`` bytes for ``path`` below the feed, such as ``v1/iwf.images/segments/...arrow``.

        Metadata that all matchers share is not counted, nor are empty answers.
        """
        match = _PATH.fullmatch(path.lstrip("/"))
        if match is None or sent <= 0:
            return
        name, segment, manifest = match.groups()
        self._add((visitor_name, name), _Count(int(manifest is not None), int(segment is not None), sent))

    def flush(self, now: datetime, *, final: bool = False) -> None:
        """Write the hour that has ended into the audit log, one entry per matcher and list.

        If ``final``, write the current hour too: no other flush will come.
        Raises `StoreError`; the counts are kept and written by the next flush.
        """
        hour = now.replace(minute=0, second=0, microsecond=0)
        with self._lock:
            self._hour = self._hour or hour
            if self._hour == hour and not final:
                return
            counts, self._counts = self._counts, {}
        try:
            if counts:
                self._catalog.append_all(
                    AuditEntry(now, matcher, Pulled(name, count.manifests, count.segments, count.bytes))
                    for (matcher, name), count in sorted(counts.items())
                )
        except BaseException:
            for key, count in counts.items():
                self._add(key, count)
            raise
        self._hour = hour

    def _add(self, key: tuple[str, str], count: _Count) -> None:
        with self._lock:
            if key not in self._counts and len(self._counts) >= _MAX_COUNTS:
                key = (key[0], OTHER_LISTS)
            self._counts.setdefault(key, _Count()).add(count)
