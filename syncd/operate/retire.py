"""Retiring a list: publish its last, empty version, and forget the origin that it followed."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from syncd.acts import Retired
from syncd.catalog.changes import HeadNote, OriginDrop, Records
from syncd.catalog.decisions import HoldEnd, HoldRecord, HoldState
from syncd.catalog.records import AuditEntry, HeadRecord, own_name
from syncd.errors import RefusedError, StoreError
from syncd.feed.locked import FeedLock
from syncd.locks import lock
from syncd.model import ListName
from syncd.operate.checks import check_reason, published_head
from syncd.pipeline.heads import ListState
from syncd.pipeline.next_version import retirement
from syncd.pipeline.publisher import Publisher
from syncd.publish.publication import Proposal
from syncd.sources.source import Source
from syncd.units import stamp


@dataclass(frozen=True)
class Retirement:
    """A list that was retired."""

    list: ListName
    source: str
    version: int
    """the version that states the retirement"""
    retired_at: datetime
    ended: tuple[HoldRecord, ...] = ()
    """the holds that ended with it"""

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "list": self.list,
            "source": self.source,
            "version": self.version,
            "retired_at": stamp(self.retired_at),
            "holds_ended": len(self.ended),
        }


def retire(
    publisher: Publisher, name: ListName, sources: Iterable[Source], *, actor: str, reason: str, now: datetime
) -> Retirement:
    """Retire a published list: its next version is retired and empty, its origin is forgotten, its holds end.

    ``sources``: the configured ones. A sync that follows the list again undoes this with a higher version.
    Raises `UsageError` if there is no such list or no reason is given, `RefusedError` if a source follows it or it is
    retired already, `StoreError`.
    """
    check_reason(reason)
    head = published_head(publisher.catalog, name)
    if head.retired_at is not None:
        raise _retired_already(head)
    _check_not_followed(head, own_name(name), sources)
    entry = AuditEntry(now, actor, Retired(name, reason))

    def act(held: FeedLock) -> tuple[int, tuple[HoldEnd, ...]]:
        state = publisher.list_state(head.source, own_name(name))
        change = retirement(state, now)
        if change is None:
            raise _retired_already(published_head(publisher.catalog, name))
        ended = tuple(
            HoldEnd(hold.id, hold.state, HoldState.WITHDRAWN, actor, reason) for hold in _holds(publisher, state)
        )
        origin = state.origin
        dropped = (OriginDrop(origin.source, origin.list, origin.revision),) if origin else ()
        note = HeadNote(head.source, None, "retired", counts=change.counts, labels={}, reference=True)
        records = Records(notes={name: note}, dropped=dropped, ended=ended, audit=(entry,))
        (manifest,) = publisher.core.publish(held, Proposal("retire", (change,), records=records), now)
        return manifest.version, ended

    version, ended = publisher.with_lock(f"retiring {name}", act)
    _collect(publisher, head, now)
    holds = tuple(hold for end in ended if (hold := publisher.catalog.hold(end.id)) is not None)
    return Retirement(name, head.source, version, now, holds)


def _collect(publisher: Publisher, head: HeadRecord, now: datetime) -> None:
    """Remove the list's files as far as possible now. If that fails or the source is being synced, a later run does."""
    purpose, source = f"removing old files of {head.list}", publisher.folder.source(head.source)
    with suppress(RefusedError, StoreError), lock(source.lock, purpose):
        publisher.collect_garbage(head.source, now)


def _holds(publisher: Publisher, state: ListState) -> tuple[HoldRecord, ...]:
    """Return the holds that end with a list: of its rows, and of known-good files that would change it."""
    of_files = (hold for hold in publisher.catalog.holds(state.name) if hold.is_of_known_good_file)
    return (*state.holds, *of_files)


def _check_not_followed(head: HeadRecord, own: ListName, sources: Iterable[Source]) -> None:
    """Raise `RefusedError` if a source follows the list: the next sync would publish it again."""
    source = next((source for source in sources if source.name == head.source), None)
    if source is None or (source.lists and own not in source.lists):
        return
    others = f"name its other lists in `lists`, without {own}"
    how = f"take {own} out of its `lists`" if source.lists else others
    raise RefusedError(
        f"source {head.source} follows {own}: the next sync would publish it again",
        hint=f"in the configuration {how}, or remove [sources.{head.source}]; if a daemon runs, reload it; then run "
        "this again; nothing was changed",
        serving=f"{head.list} version {head.version}",
    )


def _retired_already(head: HeadRecord) -> RefusedError:
    since = f" on {head.retired_at:%Y-%m-%d}" if head.retired_at else ""
    return RefusedError(
        f"{head.list} was already retired{since}",
        hint="`syncd audit` shows who retired it, and why; nothing was changed",
        serving=f"{head.list} version {head.version}, which states that it is retired",
    )
