"""Accepting the present clock after a clock that was ahead has left times in the future."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from syncd import acts
from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.records import AuditEntry
from syncd.clock import ClockFault, ClockReading, check_accepted, clock_fault, in_future
from syncd.errors import RefusedError, SyncdError
from syncd.feed.folder import TRUST
from syncd.feed.signed import load_repository
from syncd.locks import lock
from syncd.operate.checks import check_reason
from syncd.pipeline.clock import state_readings
from syncd.pipeline.publisher import Publisher
from syncd.sources.feed_memory import FeedMemory, clock_floor
from syncd.trust.client import stored_expiries
from syncd.trust.values import signed_at
from syncd.units import stamp

_PATIENCE: Final = 10.0
"""Seconds to wait for a running sync of a source. It ends soon: while the floor is in the future, it is refused."""


@dataclass(frozen=True)
class ClockAcceptance:
    """The result of accepting a clock."""

    time: datetime
    replaced: tuple[ClockReading, ...]
    """the times that lay in the future, the furthest first"""
    sources: tuple[str, ...]
    """the sources whose clock floor is now ``time``"""
    signed_at: datetime
    """when timestamp, and each online role whose signature lay in the future, were signed again"""
    left: ClockFault | None
    """signatures in the future that only the offline keys can replace"""

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "time": stamp(self.time),
            "replaced": [
                {
                    "what": reading.what,
                    "before": stamp(reading.at),
                    "after": stamp(self.signed_at if reading.role else self.time),
                }
                for reading in self.replaced
            ],
            "sources": list(self.sources),
            "act": f"{self.left.why}: {self.left.to_do}" if self.left else None,
        }


def accept_clock(publisher: Publisher, time: datetime, *, reason: str, actor: str, now: datetime) -> ClockAcceptance:
    """Replace clock floors and verification times in the future with ``time``, and sign the timestamp again.

    The floors of versions stay. Snapshot and list roles that were signed in the future are signed again as well. Raises
    `UsageError` if there is no reason, or if ``time`` is in the future or before a verification or signature that is
    not; `RefusedError` if nothing that this can replace lies in the future, or if a sync does not end; `StoreError`.
    """
    check_reason(reason)
    folder, catalog = publisher.folder, publisher.catalog
    signed = load_repository(folder.feed).expiries()
    readings = tuple(state_readings(signed, catalog.source_states(), catalog.origins()))
    online = tuple(reading for reading in readings if not reading.offline)
    left = clock_fault((reading for reading in readings if reading.offline), now)
    if left and not in_future(online, now):
        raise RefusedError(f"only the offline keys can correct this: {left.why}", hint=left.to_do)
    replaced = check_accepted(time, online, (*readings, *_of_partners(folder, catalog)), now)
    with ExitStack() as locks:
        ahead = _ahead(catalog, now)
        for name in ahead:
            locks.enter_context(lock(folder.source(name).lock, "accepting the clock", _PATIENCE))
        memories = {name: memory.with_clock(time).as_json() for name, memory in _ahead(catalog, now).items()}
        act = acts.AcceptedClock(stamp(time), stamp(replaced[0].at), tuple(memories), reason)
        catalog.accept_clock(time, memories, now, AuditEntry(now, actor, act))
    publisher.resign(now)
    return ClockAcceptance(time, replaced, tuple(memories), now, left)


def _of_partners(folder: StateFolder, catalog: Catalog) -> Iterator[ClockReading]:
    """Yield the time, by the partner's clock, at which each source's newest verified timestamp was signed."""
    for source in catalog.source_states():
        expires = None
        with suppress(SyncdError):  # it is damaged: the next sync replaces it
            expires = stored_expiries(folder.source(source.name).work / TRUST).get("timestamp")
        if expires is not None:
            yield ClockReading(f"the timestamp of source {source.name}", signed_at("timestamp", expires))


def _ahead(catalog: Catalog, now: datetime) -> dict[str, FeedMemory]:
    """Return the memories of the sources whose clock floor lies in the future."""
    floors = ((source, clock_floor(source.memory)) for source in catalog.source_states())
    return {
        source.name: FeedMemory.of(source.memory)
        for source, floor in floors
        if floor and in_future([ClockReading(source.name, floor)], now)
    }
