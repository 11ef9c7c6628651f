"""The question whether digests are on the published lists, now or in an older version."""

from datetime import datetime
from typing import Any

from syncd.ask.question import Answers, AskedState, Question
from syncd.catalog.records import OriginRecord, head_name
from syncd.feed.snapshot import Snapshot
from syncd.format.freshness import UNSTATED, AgeVerdict, judge_age
from syncd.model import Digest, ListName, list_name
from syncd.report.lookup import VersionChoice, chosen_versions, find, opened
from syncd.units import stamp


class LookupQuestion(Question):
    """``digests``: each ``ALG:HEX``. ``version`` needs one list; ``lists``: () for all that are published."""

    digests: tuple[str, ...]
    lists: tuple[str, ...] = ()
    version: int | None = None
    at: datetime | None = None

    def answers(self, state: AskedState) -> Answers:
        """See `Question`. ``hits`` follow the order of ``digests``; null: no list holds digests of that algorithm."""
        choice = VersionChoice(tuple(map(list_name, self.lists)), self.version, self.at)
        feed = state.folder.feed
        snapshots = opened(feed, chosen_versions(state.catalog, feed, choice, state.now))
        hits = find(snapshots, [Digest.parse(text) for text in self.digests])
        verified = self._verified(state)
        yield {
            "document": {
                "lists": [_list_document(one, verified.get(one.manifest.list), state.now) for one in snapshots],
                "algorithms": sorted({algorithm for one in snapshots for algorithm in one.stacks}),
                "hits": [None if found is None else [hit._asdict() for hit in found] for found in hits],
            }
        }
        return 0

    def _verified(self, state: AskedState) -> dict[ListName, OriginRecord]:
        """Return the origins of the lists; none for an older version, whose age means nothing."""
        if self.version is not None or self.at is not None:
            return {}
        return {head_name(origin.source, origin.list): origin for origin in state.catalog.origins()}


def _list_document(snapshot: Snapshot, origin: OriginRecord | None, now: datetime) -> dict[str, Any]:
    manifest = snapshot.manifest
    serial = manifest.origin.serial if manifest.origin else None
    age = now - origin.verified_at if origin else None
    stale = age is not None and judge_age(age, manifest.max_age or UNSTATED) is AgeVerdict.STALE
    return {
        "list": manifest.list,
        "version": manifest.version,
        "rows": manifest.rows,
        "serial": origin.serial if origin else serial,
        "created_at": stamp(manifest.created),
        "verified_at": stamp(origin.verified_at) if origin else None,
        "age_seconds": int(age.total_seconds()) if age is not None else None,
        "stale": stale,
        "expired": [],
        "retired": stamp(manifest.retired.since) if manifest.retired else None,
    }
