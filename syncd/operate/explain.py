"""Explaining a digest: which list and entry supported it when, who stated, signed or suppressed it, and who used it.

Everything is read from the operator's own state: the history, the heads in force, holds, suppressions and check-ins.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.decisions import HoldRecord, Suppression
from syncd.catalog.folder import StateFolder
from syncd.catalog.history_records import HistoryKind, HistoryRecord, Load
from syncd.catalog.records import HeadRecord
from syncd.errors import SegmentError, StoreError, UsageError
from syncd.feed.folder import FeedFolder
from syncd.feed.snapshot import open_segment
from syncd.format import manifest as manifests
from syncd.format.manifest import SegmentRef
from syncd.history.files import HistoryFolder
from syncd.history.search import Found, Gap, Supported, find, supported
from syncd.history.timeline import EntryChange, EntryEvent, Replay, in_force, label_in
from syncd.model import Algorithm, Digest, ListName
from syncd.operate.explained import (
    ExplainedEntry,
    ExplainedList,
    ExplainedMatcher,
    Explanation,
)
from syncd.units import day

_ATTEMPTS: Final = 3
"""Attempts while a list is published under our hands."""


def explain(
    state: StateFolder,
    catalog: Catalog,
    digest: Digest,
    now: datetime,
    *,
    at: datetime | None = None,
) -> Explanation:
    """Explain a digest, now or at a time.

    Raises `UsageError` if the time is in the future, or if no list has or had digests of this algorithm and width;
    `StoreError` if the catalog or a published file cannot be read. Files of the history that cannot be read are gaps.
    """
    if at is not None and at > now:
        raise UsageError(f"{day(at)} UTC is in the future", hint="leave --at out to ask about the present")
    heads = catalog.heads()
    names = [head.list for head in heads]
    suppressions = catalog.suppressions_of(digest.algorithm, digest.value.hex())
    loads = _loaded_now(catalog) if at is None else catalog.loads_at(names, at)
    explained = [_list(state, catalog, head, digest, at, loads=loads, suppressions=suppressions) for head in heads]
    if not any(one.ever for one in explained):
        _check_algorithm(state, catalog, heads, digest)
    return Explanation(
        digest,
        at,
        tuple(one for one in explained if one.ever),
        tuple(one for one in explained if not one.ever),
        suppressions,
        catalog.first_load(),
    )


def _list(
    state: StateFolder,
    catalog: Catalog,
    head: HeadRecord,
    digest: Digest,
    at: datetime | None,
    *,
    loads: Sequence[Load],
    suppressions: Sequence[Suppression],
) -> ExplainedList:
    name = head.list
    first = catalog.first_history(name)
    complete = first is not None and first.kind is HistoryKind.FIRST
    found, replay, now = _replayed(state, catalog, name, digest, complete=complete)
    wrong = replay.contradictions(now)
    gaps = [*found.gaps]
    if wrong and not gaps:
        gaps.append(Gap(name, f"the history of {name} does not lead to what is in force: rows of it were lost"))
    version = _version_at(catalog, head, at)
    events = {entry: tuple(one.events) for entry, one in replay.entries.items() if one.events}
    events |= {entry: () for entry in now if entry not in events}
    entries = tuple(
        _entry(entry, happened, now, version, complete=complete, lost=bool(gaps), at_present=at is None)
        for entry, happened in sorted(events.items())
    )
    answers = [one.in_force for one in entries]
    unknown = at is not None and (bool(gaps) or (version is None and not complete))
    return ExplainedList(
        list=name,
        source=head.source,
        version=version,
        in_force=None if unknown else _any(answers),
        known_from=first,
        complete=complete,
        retired_at=head.retired_at,
        entries=entries,
        matchers=_matchers(name, loads, events, now, None if gaps else first, complete=complete),
        holds=tuple(hold for hold in catalog.holds(name) if _keeps_back(state, hold, digest)),
        suppressions=tuple(one for one in suppressions if one.covers(name)),
        gaps=tuple(gaps),
    )


def _entry(
    entry: str,
    events: tuple[EntryEvent, ...],
    now: Supported,
    version: int | None,
    *,
    complete: bool,
    lost: bool,
    at_present: bool,
) -> ExplainedEntry:
    """``lost``: rows of the history are missing, so that the past is unknown, whatever the others say."""
    past = None if lost else in_force(events, entry in now, version, complete=complete)
    had = entry in now if at_present else past
    label = now.get(entry) if at_present else label_in(events, now.get(entry), version) if had else None
    return ExplainedEntry(
        entry=entry,
        label=label if had else next((event.label for event in reversed(events) if event.label is not None), None),
        in_force=had,
        events=events,
        since_before=not complete and _was_there(events),
    )


def _replayed(
    state: StateFolder, catalog: Catalog, name: ListName, digest: Digest, *, complete: bool
) -> tuple[Found, Replay, Supported]:
    """Play the history, and look up the digest in the head in force. Again if a publication came in between."""
    for _ in range(_ATTEMPTS - 1):
        before = catalog.head(name)
        found = find(state, catalog, name, digest)
        now = _in_head(state.feed, catalog, name, digest)
        replay = Replay(complete).run(found)
        if not replay.contradictions(now) or catalog.head(name) == before:
            return found, replay, now
    found = find(state, catalog, name, digest)
    return found, Replay(complete).run(found), _in_head(state.feed, catalog, name, digest)


def _in_head(feed: FeedFolder, catalog: Catalog, name: ListName, digest: Digest) -> Supported:
    """Return the entries that support a digest in the version in force."""
    refs = (ref for ref in _stack(catalog, name) if ref.algorithm == digest.algorithm)
    return supported((open_segment(feed.segment_path(name, ref), ref) for ref in refs), digest.value)


def _stack(catalog: Catalog, name: ListName) -> tuple[SegmentRef, ...]:
    head = catalog.head(name)
    version = catalog.version(name, head.version) if head else None
    return manifests.parse(version.manifest).stack if version else ()


def _keeps_back(state: StateFolder, hold: HoldRecord, digest: Digest) -> bool:
    """Return True if the rows of a hold name the digest. False if they were lost: the next sync holds them again."""
    source, own_name = state.source(hold.source), ListName(hold.list.removeprefix(f"{hold.source}."))
    try:
        for ref in hold.segments:
            if ref.algorithm == digest.algorithm:
                segment = open_segment(source.segment_path(own_name, ref), ref)
                start, stop = segment.row_range(digest.value) if segment.width == len(digest.value) else (0, 0)
                if stop > start:
                    return True
    except (StoreError, SegmentError):
        pass
    return False


def _version_at(catalog: Catalog, head: HeadRecord, at: datetime | None) -> int | None:
    if at is None:
        return head.version
    record = catalog.history_at(head.list, at)
    return record.version if record else None


def _was_there(events: Sequence[EntryEvent]) -> bool:
    """Return True if an entry was in force already where an incomplete history begins."""
    first = next((event for event in events if event.version is not None), None)
    return not events or (first is not None and not first.certain and first.change is not EntryChange.ADDED)


def _any(answers: Iterable[bool | None]) -> bool | None:
    known = set(answers)
    return True if True in known else None if None in known else False


def _matchers(
    name: ListName,
    loads: Iterable[Load],
    events: Mapping[str, tuple[EntryEvent, ...]],
    now: Supported,
    first: HistoryRecord | None,
    *,
    complete: bool,
) -> tuple[ExplainedMatcher, ...]:
    """Return the versions that matchers had, each with whether the digest was in force in it."""
    had = Counter((load.matcher, load.version) for load in loads if load.list == name)
    return tuple(
        ExplainedMatcher(matcher, version, instances, _in_version(version, events, now, first, complete=complete))
        for (matcher, version), instances in sorted(had.items())
    )


def _in_version(
    version: int,
    events: Mapping[str, tuple[EntryEvent, ...]],
    now: Supported,
    first: HistoryRecord | None,
    *,
    complete: bool,
) -> bool | None:
    if first is None or version < (first.version or 0):  # older than the history, or rows of it were lost
        return None
    return _any(in_force(some, entry in now, version, complete=complete) for entry, some in events.items())


def _loaded_now(catalog: Catalog) -> tuple[Load, ...]:
    return tuple(Load(one.list, one.matcher, one.instance, one.loaded_at, one.version) for one in catalog.loaded())


def _check_algorithm(state: StateFolder, catalog: Catalog, heads: Sequence[HeadRecord], digest: Digest) -> None:
    """Raise `UsageError` if no list has or had digests of this algorithm, or only of another width."""
    algorithm, width = digest.algorithm, len(digest.value)
    known, widths = set[Algorithm](), set[int]()
    for head in heads:
        stack = _stack(catalog, head.list)
        refs = list(stack)
        records = (*catalog.unfolded_history(head.list), *catalog.history_states(head.list))
        refs += [ref for record in records for ref in record.segments]
        known |= {ref.algorithm for ref in refs}
        months = HistoryFolder(state.history).months(head.list)
        known |= {file.of[0] for file in months}
        widths |= {file.of[1] for file in months if file.of[0] == algorithm}
        if algorithm.known_width is None:
            mine = (ref for ref in stack if ref.algorithm == algorithm)
            widths |= {open_segment(state.feed.segment_path(head.list, ref), ref).width for ref in mine}
    if algorithm not in known:
        raise UsageError(
            f"no list has or had {algorithm} digests",
            hint=f"the lists have: {', '.join(sorted(known)) or 'no digest yet'}",
        )
    if algorithm.known_width is None and widths and width not in widths:
        stated = " or ".join(str(2 * one) for one in sorted(widths))
        raise UsageError(
            f"not a {algorithm} digest: {2 * width} hexadecimal digits", hint=f"{algorithm} has {stated} digits here"
        )
