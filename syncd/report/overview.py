"""How everything stands: what `syncd status`, the dashboard, `/metrics` and monitoring probes all show.

One look gathers it; what a person must act on, and why, is decided here and nowhere else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.records import (
    HeadRecord,
    HoldRecord,
    HoldState,
    LoadedVersion,
    OriginRecord,
    SyncFault,
    SyncRecord,
    head_name,
)
from syncd.certificates import Certificate, CertificateView
from syncd.certificates import views as certificate_views
from syncd.feed.signed import load_repository
from syncd.outcomes import Outcome, reasons_in_words
from syncd.report import lagging
from syncd.report.expiry import Expiry, expiries
from syncd.report.faults import StorageFault
from syncd.report.holds import hold_in_words, reasons_of
from syncd.report.lagging import MatcherView
from syncd.report.recorded import last_and_running
from syncd.units import clock_is_behind, in_words, span

_PATIENCE: Final = timedelta(hours=1)
_MISSED_SYNCS: Final = 3


def in_words_of(fault: SyncFault) -> str:
    """A fault of a sync as people read it."""
    return fault.message or reasons_in_words(fault.reasons) or f"the last sync was {in_words(fault.outcome)}"


@dataclass(frozen=True)
class SourceView:
    """One source: how its last sync ended, dry runs apart, and when the next is due."""

    name: str
    interval: timedelta | None
    """between syncs; None: it is no longer configured"""
    last: SyncRecord | None
    next_run_at: datetime | None = None
    """None: no daemon has planned one"""
    cool_down_until: datetime | None = None
    """it could not be reached, or asked for patience"""
    failures: int = 0
    """syncs in a row that did not reach it"""
    last_success_at: datetime | None = None
    """when a sync last verified all that is followed"""
    running: SyncRecord | None = None
    """the sync under way, dry or not; until it ends, all is judged by ``last``"""

    @property
    def configured(self) -> bool:
        """Whether anybody keeps it up to date."""
        return self.interval is not None

    @property
    def patience(self) -> timedelta | None:
        """How old its verified state may be; None: it is no longer configured."""
        return None if self.interval is None else max(_PATIENCE, _MISSED_SYNCS * self.interval)


@dataclass(frozen=True)
class ListView:
    """One published list."""

    head: HeadRecord
    rows: int
    origin: OriginRecord | None
    source: SourceView
    now: datetime
    holds: tuple[HoldRecord, ...] = ()
    """those that are open"""
    hold_ended_at: datetime | None = None
    """when a hold of it ended last; None: never"""

    @property
    def retired(self) -> bool:
        """True if it is no longer published: its age matters to nobody."""
        return self.head.retired_at is not None

    @property
    def over(self) -> bool:
        """True if it is retired, and no source may ever change it."""
        return self.retired and (self.origin is None or not self.source.configured)

    @property
    def age(self) -> timedelta | None:
        """How long ago the source was last proved to be in this state; None: never, or the list is retired."""
        return self.now - self.origin.verified_at if self.origin and not self.retired else None

    @property
    def stale(self) -> bool:
        """Whether nobody keeps it up to date any more."""
        patience = self.source.patience
        return not self.retired and (patience is None or (self.age is not None and self.age > patience))

    @property
    def fault(self) -> SyncFault | None:
        """What it came to in the last sync, where that was not good; else the holds that are open, if any are.

        A hold lasts until it is ended, whatever a later sync came to, and not longer. A retired list has faults of its
        own alone: another update of it waits, or was rejected.
        """
        last = self.source.last
        told = last.reported_faults if last and not self.over else {}
        whole = None if self.retired or self._verified_by(last) else told.get("")
        fault = told.get(self.head.list, whole)
        if fault is None or fault.outcome is Outcome.HELD:
            if self.holds:
                return SyncFault(Outcome.HELD, reasons_of(self.holds))
            return None if self._released_since(last) else fault
        return fault

    @property
    def held_for(self) -> tuple[str, ...]:
        """Why something of it waits for an operator; () if nothing does."""
        if self.holds:
            return reasons_of(self.holds)
        fault = self.fault
        return fault.reasons if fault and fault.outcome is Outcome.HELD else ()

    def _released_since(self, last: SyncRecord | None) -> bool:
        """True if what was held in the last sync no longer is."""
        return bool(last and self.hold_ended_at and self.hold_ended_at >= last.started_at)

    @property
    def outcome(self) -> Outcome | None:
        """What it came to in the last sync, or since; None: there was none."""
        last, fault = self.source.last, self.fault
        if self.over:
            return None
        if last is None or fault is not None:
            return fault.outcome if fault else None
        new = last.outcome is not Outcome.UP_TO_DATE and self.head.published_at >= last.started_at
        return Outcome.PUBLISHED if new else Outcome.UP_TO_DATE

    def _verified_by(self, last: SyncRecord | None) -> bool:
        return bool(last and self.origin and self.origin.verified_at > last.started_at)

    @property
    def why(self) -> str:
        """Why a person must act; '' where nobody must."""
        fault, held = self.fault, map(hold_in_words, self.holds)
        if self.over:
            return ""
        if not self.source.configured:
            return "; ".join([f"source {self.head.source} is no longer configured, so the list grows old", *held])
        if fault and fault.outcome is not Outcome.HELD:
            return "; ".join([in_words_of(fault), *held])
        if fault:
            return "; ".join(held) or in_words_of(fault)
        return self._why_old

    @property
    def _why_old(self) -> str:
        """Why a list that no sync found fault with is still not fresh; '' if it is."""
        patience = self.source.patience
        if self.age and clock_is_behind(self.age):
            return f"the local clock is {span(-self.age)} behind the last verification: set it"
        if self.age and patience is not None and self.age > patience:
            return f"not verified for {span(self.age)}: syncs do not run"
        return ""

    @property
    def cure(self) -> str:
        """What ends it, if `why` alone does not say; '' otherwise."""
        if self.source.configured or self.retired:
            return ""
        return f"configure it again, or let the list go: syncd retire {self.head.list} --reason R"


@dataclass(frozen=True)
class Untold:
    """A fault of a source's last sync that none of its published lists tells."""

    source: SourceView
    list: str
    """as it would be published; ``""``: the whole sync"""
    fault: SyncFault

    @property
    def why(self) -> str:
        """Why a person must act."""
        return f"{self.list} was never published: {in_words_of(self.fault)}" if self.list else in_words_of(self.fault)


@dataclass(frozen=True)
class Overview:
    """All of it, at one time."""

    now: datetime
    lists: tuple[ListView, ...]
    sources: tuple[SourceView, ...]
    """every configured one, and those that published lists come from which are not over"""
    roles: tuple[Expiry, ...]
    """of our own metadata, the soonest to expire first"""
    matchers: tuple[MatcherView, ...]
    """whose token is in force, and which versions they have loaded"""
    certificates: tuple[CertificateView, ...] = ()
    """of the server, and for sources; those that can be read"""
    faults: tuple[StorageFault, ...] = ()
    """what storage keeps a running daemon from doing, and the catalog may know nothing of"""

    @property
    def waiting(self) -> tuple[SourceView, ...]:
        """Configured sources of which nothing is published."""
        published = {one.head.source for one in self.lists if not one.over}
        return tuple(one for one in self.sources if one.configured and one.name not in published)

    @property
    def untold(self) -> tuple[Untold, ...]:
        """Faults of configured sources, of which something is published, that no published list tells."""
        waiting = {one.name for one in self.waiting}
        return tuple(
            Untold(one, name, fault)
            for one in self.sources
            if one.last and one.configured and one.name not in waiting
            for name, fault in one.last.reported_faults.items()
            if not self._tells(one, name, fault)
        )

    def _tells(self, source: SourceView, name: str, fault: SyncFault) -> bool:
        its = (one for one in self.lists if one.head.source == source.name)
        return any(one.fault == fault if name == "" else one.head.list == name for one in its)


def read(
    folder: StateFolder,
    catalog: Catalog,
    intervals: Mapping[str, float],
    now: datetime,
    certificates: Iterable[Certificate] = (),
    loaded: Iterable[LoadedVersion] | None = None,
) -> Overview:
    """Look at everything; ``intervals``: seconds between syncs, of each configured source.

    ``loaded``: what matchers said they have; None: what the catalog was told, some seconds later.

    Costs some reads of the catalog and of small files, whatever the size of the lists. Raises `StoreError`,
    `UsageError`.
    """
    repository = load_repository(folder.feed)
    heads = catalog.heads()
    names = dict.fromkeys((*intervals, *(head.source for head in heads)))
    sources = {name: _source(folder, catalog, name, intervals.get(name)) for name in names}
    origins = {head_name(one.source, one.list): one for one in catalog.origins()}
    rows, ended = catalog.head_rows(), catalog.last_hold_ends()
    holds = [one for one in catalog.holds() if one.state is HoldState.OPEN]
    lists = tuple(
        ListView(
            head,
            rows.get(head.list, 0),
            origins.get(head.list),
            sources[head.source],
            now,
            tuple(one for one in holds if one.list == head.list),
            ended.get(head.list),
        )
        for head in heads
    )
    roles = tuple(expiries(repository.versions, repository.expiries(), now))
    matchers = matcher_views(catalog, now, loaded)
    needed = {*intervals, *(one.head.source for one in lists if not one.over)}
    shown = tuple(one for name, one in sources.items() if name in needed)
    return Overview(now, lists, shown, roles, matchers, certificate_views(certificates, now))


def matcher_views(
    catalog: Catalog, now: datetime, loaded: Iterable[LoadedVersion] | None = None
) -> tuple[MatcherView, ...]:
    """Who may pull, and how their instances stand; ``loaded`` as in `read`. Raises `StoreError`."""
    due = catalog.due_versions(now - lagging.BEHIND_AFTER)
    return lagging.views(catalog.matchers(), catalog.loaded() if loaded is None else loaded, due, now)


def _source(folder: StateFolder, catalog: Catalog, name: str, interval: float | None) -> SourceView:
    known = catalog.source(name)
    last, running = last_and_running(folder, catalog, name)
    return SourceView(
        name,
        None if interval is None else timedelta(seconds=interval),
        last,
        known.next_run_at,
        known.cool_down_until,
        known.failures,
        catalog.last_success(name),
        running,
    )
