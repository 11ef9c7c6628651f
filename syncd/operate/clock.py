"""Accepting the present clock after a clock that was ahead has left times in the future: by a person, or without one.

Without a person it takes two witnesses. The kernel says that the clock is synchronised, which it no longer says once
somebody has set the clock by hand; and no partner's newest timestamp lies in the future, as it would if our clock had
been put back by a time server that lies.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from syncd import acts
from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.records import AuditEntry
from syncd.clock import ACCEPT, ClockFault, ClockReading, check_accepted, clock_fault, in_future, newest_past
from syncd.errors import RefusedError, StoreError, SyncdError
from syncd.feed.folder import TRUST
from syncd.feed.signed import load_repository
from syncd.kernel_clock import KernelClock
from syncd.locks import lock, lock_if_free
from syncd.operate.checks import check_reason
from syncd.pipeline.clock import state_readings
from syncd.pipeline.publisher import Publisher
from syncd.sources.feed_memory import FeedMemory, clock_floor
from syncd.trust.client import stored_expiries
from syncd.trust.values import lifetime, signed_at
from syncd.units import day, stamp

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
    reason: str
    """as recorded in the audit log"""

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
    ours, partners = _readings(publisher)
    online = _online(ours)
    left = clock_fault((reading for reading in ours if reading.offline), now)
    if left and not in_future(online, now):
        raise RefusedError(f"only the offline keys can correct this: {left.why}", hint=left.to_do)
    replaced = check_accepted(time, online, (*ours, *partners), now)
    with ExitStack() as locks:
        for name in _ahead(catalog, now):
            locks.enter_context(lock(folder.source(name).lock, "accepting the clock", _PATIENCE))
        return _accept(publisher, time, replaced, left, actor=actor, reason=reason, now=now)


def accept_synchronised(publisher: Publisher, kernel: KernelClock, now: datetime) -> ClockAcceptance | None:
    """Accept the present clock without a person, if the kernel and the partners' timestamps show that it is right.

    Return None, and change nothing, if the kernel does not vouch for ``now``; if a partner's newest timestamp lies in
    the future too, so that the present clock may be the one that is wrong; if a sync of a source whose clock floor is
    in the future still runs; or if nothing that the online keys can correct lies in the future. The new time is never
    before a verification or signature that is not in the future. Raises as `accept_clock`.
    """
    if not kernel.vouches_for(now):
        return None
    ours, partners = _readings(publisher)
    replaced = in_future(_online(ours), now)
    if not replaced or in_future(partners, now):
        return None
    newest = newest_past((*ours, *partners), now)
    time = max(now, newest.at) if newest else now  # clocks may differ by some minutes
    left = clock_fault((reading for reading in ours if reading.offline), now)
    with ExitStack() as locks:
        for name in _ahead(publisher.catalog, now):
            source = publisher.folder.source(name)
            if not locks.enter_context(lock_if_free(source.lock, "accepting the clock")):
                return None
        reason = f"no person: {kernel.words}"
        return _accept(publisher, time, replaced, left, actor=acts.AUTOMATIC, reason=reason, now=now)


def _accept(
    publisher: Publisher,
    time: datetime,
    replaced: tuple[ClockReading, ...],
    left: ClockFault | None,
    *,
    actor: str,
    reason: str,
    now: datetime,
) -> ClockAcceptance:
    """Replace the times and sign again. The caller holds the locks of the sources whose clock floor is replaced."""
    catalog = publisher.catalog
    memories = {name: memory.with_clock(time).as_json() for name, memory in _ahead(catalog, now).items()}
    act = acts.AcceptedClock(stamp(time), stamp(replaced[0].at), tuple(memories), reason)
    if all(reading.role for reading in replaced):  # recorded with the signature, since one that fails is tried again
        publisher.resign(now, AuditEntry(now, actor, act))
    else:
        catalog.accept_clock(time, memories, now, AuditEntry(now, actor, act))
        publisher.resign(now)
    return ClockAcceptance(time, replaced, tuple(memories), now, left, reason)


@dataclass(frozen=True)
class SignedBehind:
    """An act that was signed by a clock behind times of the state: it is wrong now, or was ahead before."""

    furthest: ClockReading
    now: datetime

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        expires = self.now + lifetime("timestamp")
        return {
            "behind_seconds": int(self.furthest.ahead(self.now).total_seconds()),
            "message": f"{self.furthest.in_words(self.now)}: if this host's clock is wrong, matchers refuse what was "
            f"signed now from {day(expires)} UTC on, and keep the version that they have",
            "to_do": "correct the clock: the daemon then signs again within a minute, without one `syncd sync` does; "
            f"{ACCEPT}",
        }


class SignatureWatch:
    """Finds out whether an act was signed by a clock that is behind times of the state. Made before the act."""

    def __init__(self, publisher: Publisher, now: datetime) -> None:
        self._publisher, self._now = publisher, now
        self._version, self._ahead = 0, tuple[ClockReading, ...]()
        with suppress(StoreError):  # the act itself reports it
            self._version = _timestamp_version(publisher)
            self._ahead = in_future(_online(_readings(publisher)[0]), now)

    def signed_behind(self) -> SignedBehind | None:
        """Return the warning about the act; None if the clock is not behind, or nothing was signed."""
        with suppress(StoreError):
            if self._ahead and _timestamp_version(self._publisher) != self._version:
                return SignedBehind(self._ahead[0], self._now)
        return None


def _timestamp_version(publisher: Publisher) -> int:
    return load_repository(publisher.folder.feed).versions["timestamp"]


def _readings(publisher: Publisher) -> tuple[tuple[ClockReading, ...], tuple[ClockReading, ...]]:
    """Return the times of our own state, and those that partners signed."""
    catalog = publisher.catalog
    signed = load_repository(publisher.folder.feed).expiries()
    ours = tuple(state_readings(signed, catalog.source_states(), catalog.origins()))
    return ours, tuple(_of_partners(publisher.folder, catalog))


def _online(ours: Iterable[ClockReading]) -> tuple[ClockReading, ...]:
    """Return the times that can be replaced without offline keys."""
    return tuple(reading for reading in ours if not reading.offline)


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
