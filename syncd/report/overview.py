"""The overview that `syncd status`, the dashboard, `/metrics` and monitoring probes all show.

`read` gathers it from the catalog and small files. `syncd.report.judged` says what it means.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from syncd.catalog.catalog import Catalog
from syncd.catalog.decisions import HoldState
from syncd.catalog.folder import StateFolder
from syncd.catalog.records import LoadedVersion, head_name
from syncd.certificates import views as certificate_views
from syncd.clock import clock_fault
from syncd.feed.folder import TRUST
from syncd.feed.signed import load_repository
from syncd.format.freshness import SourceAges
from syncd.pipeline.clock import state_readings
from syncd.report import lagging
from syncd.report.expiry import expiries
from syncd.report.fleet import Answering, fleet_view
from syncd.report.judged import ListView, Overview, SourceView
from syncd.report.lagging import MatcherView
from syncd.report.proof import read_proof
from syncd.report.recorded import last_and_running
from syncd.report.suppressions import read_suppressions
from syncd.settings import Certificate
from syncd.trust.overlong import read_overlong


def read(
    folder: StateFolder,
    catalog: Catalog,
    intervals: Mapping[str, float],
    now: datetime,
    certificates: Iterable[Certificate] = (),
    loaded: Iterable[LoadedVersion] | None = None,
    *,
    ages: Mapping[str, SourceAges] | None = None,
    answering: Answering | None = None,
) -> Overview:
    """Gather the overview. ``intervals``: seconds between syncs, for each configured source.

    ``ages``: the limits of the ages of their lists; if None, those that follow from the intervals.

    ``loaded``: the versions from the latest check-ins; if None, those in the catalog, which is some seconds behind.

    ``answering``: the daemon that asks, if it is one of several.

    Reads the catalog and small files only, whatever the size of the lists. Raises `StoreError`, `UsageError`.
    """
    folder.check_feed()
    repository = load_repository(folder.feed)
    state = catalog.fleet()
    fleet = fleet_view(state, answering) if state else None
    follows = fleet is not None and fleet.follows
    heads = catalog.heads()
    names = dict.fromkeys((*intervals, *(head.source for head in heads)))
    sources = {
        name: replace(_source(folder, catalog, name, intervals.get(name), follows=follows), ages=(ages or {}).get(name))
        for name in names
    }
    following = catalog.origins()
    origins = {head_name(origin.source, origin.list): origin for origin in following}
    rows, ended = catalog.head_rows(), catalog.last_hold_ends()
    canaries = catalog.canary_notes()
    holds = [hold for hold in catalog.holds() if hold.state is HoldState.OPEN]
    lists = tuple(
        ListView(
            head=head,
            rows=rows.get(head.list, 0),
            origin=origins.get(head.list),
            source=sources[head.source],
            now=now,
            holds=tuple(hold for hold in holds if hold.list == head.list),
            hold_ended_at=ended.get(head.list),
            canaries=canaries.get(head.list),
        )
        for head in heads
    )
    roles = tuple(expiries(repository.versions, repository.expiries(), now))
    matchers = matcher_views(catalog, now, loaded)
    needed = {*intervals, *(view.head.source for view in lists if not view.over)}
    shown = tuple(source for name, source in sources.items() if name in needed)
    return Overview(
        now=now,
        lists=lists,
        sources=shown,
        roles=roles,
        matchers=matchers,
        certificates=certificate_views(certificates, now),
        suppressions=read_suppressions(catalog, now),
        clock=clock_fault(state_readings(repository.expiries(), catalog.source_states(), following), now),
        proof=read_proof(folder, heads),
        first_holds=tuple(hold for hold in holds if hold.list not in {head.list for head in heads}),
        fleet=fleet,
    )


def matcher_views(
    catalog: Catalog, now: datetime, loaded: Iterable[LoadedVersion] | None = None
) -> tuple[MatcherView, ...]:
    """Return the permitted matchers and their instances. ``loaded`` as in `read`. Raises `StoreError`."""
    due = catalog.due_versions(now - lagging.BEHIND_AFTER)
    return lagging.views(catalog.matchers(), catalog.loaded() if loaded is None else loaded, due, now)


def _source(folder: StateFolder, catalog: Catalog, name: str, interval: float | None, *, follows: bool) -> SourceView:
    """``follows``: another daemon leads, so the files that its syncs leave are not here, or are old."""
    known = catalog.source(name)
    last, running = last_and_running(folder, catalog, name)
    overlong = None if follows else read_overlong(folder.source(name).work / TRUST)
    return SourceView(
        name=name,
        interval=None if interval is None else timedelta(seconds=interval),
        last=last,
        next_run_at=known.next_run_at,
        cool_down_until=known.cool_down_until,
        failures=known.failures,
        last_success_at=catalog.last_success(name),
        running=running,
        late_expiry=overlong.late if overlong else None,
    )
