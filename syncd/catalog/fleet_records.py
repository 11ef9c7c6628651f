"""The records of several daemons that share one catalog. Times are milliseconds of the database's clock."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Leader:
    """The daemon that leads, or led last: the only one that syncs, publishes and removes old files."""

    epoch: int
    """rises with every change of the leader"""
    owner: str
    """the id of the daemon; "": nobody leads, because it stopped and said so"""
    host: str
    since: int
    until: int
    """the end of its lease, unless it renews it"""
    store: str
    """the place of the published files: all daemons must use the same"""
    now: int
    """when this was read"""

    @property
    def in_force(self) -> bool:
        """True if it leads now."""
        return bool(self.owner) and self.now < self.until


@dataclass(frozen=True)
class DaemonRecord:
    """One daemon, as it describes itself every few seconds."""

    id: str
    host: str
    pid: int
    version: str
    started_at: datetime
    unable: str = ""
    """why it cannot lead; "": it can"""
    keys: tuple[str, ...] = ()
    """the ids of the online keys that it holds"""
    claims: int = 0
    """the epoch in which it leads, as it believes; 0: it does not"""
    serves: int = 0
    """the newest publication that its readers get"""
    seen: int = 0


@dataclass(frozen=True)
class NextKeys:
    """New keys of an online role, announced to the daemons and not yet in force."""

    role: str
    keys: tuple[str, ...]
    """their ids"""
    threshold: int
    """how many of them must sign"""
    announced: int
    actor: str

    def lacking(self, daemons: Iterable[DaemonRecord]) -> tuple[DaemonRecord, ...]:
        """Return the daemons that can lead now and could not with these keys in force."""
        return tuple(one for one in daemons if not one.unable and len({*self.keys} & {*one.keys}) < self.threshold)


@dataclass(frozen=True)
class FleetState:
    """All daemons on one catalog at one time."""

    leader: Leader
    daemons: tuple[DaemonRecord, ...]
    """those seen in the last day, sorted by host"""
    overdue: Mapping[int, int]
    """by the newest publication that a daemon serves: when the next one was installed; absent if there is none"""
    next_keys: tuple[NextKeys, ...] = ()


@dataclass(frozen=True)
class PlacedOrder:
    """An order that waits for the leader."""

    id: int
    user: str
    body: str = field(repr=False)
    """as at the control socket; may name digests"""
