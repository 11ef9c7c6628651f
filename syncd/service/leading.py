"""Leading: of several daemons that share a catalog, one syncs and publishes, and the others stand by.

The leader holds a lease in the catalog and renews it at a third of its length. A leader that cannot renew it in time
stops working; if it is itself stopped in the meantime, the epoch in the catalog refuses whatever it still publishes.
"""

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

from syncd import events
from syncd.catalog.catalog import Catalog
from syncd.catalog.fleet_records import DaemonRecord
from syncd.errors import NotLeadingError, StoreError, SyncdError, not_leading
from syncd.event import Emit

LEASE: Final = 15.0
"""Seconds that a leader leads after each renewal. Another daemon has to lead within 30 seconds after a crash: this
lease, the time between two attempts, and the take-over fit into them."""
_RENEW_EVERY: Final = LEASE / 3
"""Seconds between two renewals, and between two descriptions of itself."""
_LOOK_EVERY: Final = 1.0
"""Seconds between two looks whether somebody leads."""
_MARGIN: Final = 1.0
"""Seconds by which the leader believes its lease to end earlier: clocks of two machines differ in speed."""

_NOT_BEGUN: Final = "it could not begin its work"


def since_boot() -> float:
    """Return seconds on a clock that also goes on while the process is stopped or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Work:
    """The work of a leader, and what a daemon needs for it."""

    begin: Callable[[int], None]
    """starts the work in the given epoch; raises `SyncdError` if it cannot"""
    end: Callable[[], None]
    """stops it; returns once nothing of it runs any more"""
    unable: Callable[[], str]
    """returns why it could not be done; "" if it could"""
    keys: Callable[[], tuple[str, ...]]
    """returns the ids of the online keys at hand"""
    serves: Callable[[], int]
    """returns the newest publication that readers of this daemon get"""


class Leading:
    """The part that one daemon has in leading. Safe to share between threads."""

    def __init__(
        self,
        catalog: Catalog,
        daemon: DaemonRecord,
        store: str,
        work: Work,
        emit: Emit,
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self._catalog, self._daemon, self._store, self._work = catalog, daemon, store, work
        self._emit, self._clock = emit, clock
        self._lock = threading.Lock()
        self._epoch: int | None = None
        self._until = 0.0
        self._not_before = self._noted_at = -LEASE
        self._working: threading.Thread | None = None
        self._why, self._unable_before = "", False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="syncd-leading", daemon=True)

    def epoch(self) -> int | None:
        """Return the epoch in which this daemon leads now; None if it does not, or its lease has ended."""
        with self._lock:
            return self._epoch if self._clock() < self._until else None

    def start(self) -> None:
        """Begin to look after the lease."""
        self._thread.start()

    def stop(self) -> None:
        """Give up the lease, so that another daemon leads at once. Call once all work has ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_RENEW_EVERY)
        with self._lock:
            epoch, self._epoch = self._epoch, None
        with suppress(StoreError):  # the lease ends by itself
            if epoch is not None:
                self._catalog.give_up_lead(epoch)
            self._catalog.forget_daemon(self._daemon.id)

    def look(self) -> None:
        """Renew the lease, or try to lead. Raises `StoreError`."""
        with self._lock:
            epoch = self._epoch
        due = self._clock() >= self._noted_at + _RENEW_EVERY
        if due:
            self._noted_at = self._clock()
        if epoch is None and self._working is None and self._clock() >= self._not_before:
            self._try()
        elif epoch is not None and (due or self._clock() >= self._until):
            self._renew(epoch)
        if due:
            self._note()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except SyncdError as error:
                self._tell(error.message, error.hint)
            except Exception as error:  # noqa: BLE001 - without this thread nobody would lead
                self._emit(events.InternalError.of(error, "leading"))
            self._stop.wait(_LOOK_EVERY)

    def _renew(self, epoch: int) -> None:
        asked = self._clock()
        try:
            renewed = self._catalog.renew_lead(epoch, LEASE)
        except StoreError as error:
            if self._clock() >= self._until:
                self._lose(epoch, error.message)
            raise
        if not renewed:
            self._lose(epoch, "another daemon has taken over")
            return
        with self._lock:
            self._until = asked + LEASE - _MARGIN
        self._why = ""

    def _try(self) -> None:
        why = self._work.unable()
        if why:
            self._tell(why, "until then another daemon has to lead")
            return
        before = self._catalog.leader()
        if before is not None and before.in_force and before.owner != self._daemon.id:
            return  # read first: a transaction that writes, each second, would block others
        asked = self._clock()
        led = self._catalog.lead(self._daemon.id, self._daemon.host, self._store, LEASE)
        if led is None:
            self._why = ""
            return
        with self._lock:
            self._epoch, self._until = led.epoch, asked + LEASE - _MARGIN
        self._why = ""
        self._emit(events.LeadingBegan(led.epoch, self._daemon.host))
        # In a thread of its own, since it may take longer than the lease.
        self._working = threading.Thread(target=self._begin, args=(led.epoch,), name="syncd-lead", daemon=True)
        self._working.start()

    def _begin(self, epoch: int) -> None:
        try:
            self._work.begin(epoch)
        except NotLeadingError:
            pass  # the next look finds that it was lost
        except SyncdError as error:
            self._tell(error.message, error.hint)
            self._give_up(epoch, _NOT_BEGUN)
        except Exception as error:  # noqa: BLE001 - a bug must not leave a leader that does not work
            self._emit(events.InternalError.of(error, "beginning to lead"))
            self._give_up(epoch, _NOT_BEGUN)

    def _give_up(self, epoch: int, why: str) -> None:
        """Let another daemon try, and wait for as long as a lease lasts."""
        self._not_before = self._clock() + LEASE
        with suppress(StoreError):  # it ends by itself
            self._catalog.give_up_lead(epoch)
        self._lose(epoch, why)

    def _lose(self, epoch: int, why: str) -> None:
        with self._lock:
            if self._epoch != epoch:
                return
            self._epoch = None
        self._emit(events.LeadingEnded(epoch, why))
        self._working = threading.Thread(target=self._end, name="syncd-lead-end", daemon=True)
        self._working.start()

    def _end(self) -> None:
        try:
            self._work.end()
        except Exception as error:  # noqa: BLE001 - else this daemon would never lead again
            self._emit(events.InternalError.of(error, "ceasing to lead"))
        self._working = None

    def _note(self) -> None:
        unable = self._work.unable()
        described = replace(
            self._daemon,
            unable=unable,
            keys=self._work.keys(),
            claims=self.epoch() or 0,
            serves=self._work.serves(),
        )
        self._catalog.note_daemon(described)
        self._step_down_if(unable)

    def _step_down_if(self, unable: str) -> None:
        """Let another daemon lead if this one cannot sign, twice in a row: a key service may fail for a moment."""
        epoch = self.epoch()
        if unable and self._unable_before and epoch is not None:
            self._tell(unable, "until then another daemon has to lead")
            self._give_up(epoch, unable)
        self._unable_before = bool(unable)

    def _tell(self, message: str, hint: str) -> None:
        """Log a reason not to lead, once as long as it stays the same."""
        if message != self._why:
            self._why = message
            self._emit(events.CannotLead(message, hint))


@contextmanager
def lead_alone(catalog: Catalog, command: str, store: str, *, take_over: bool = False) -> Iterator[None]:
    """Lead as long as a command works that no daemon carries out.

    ``take_over``: also if a daemon leads. It publishes nothing more, and may lead again afterwards. Raises
    `NotLeadingError` if a daemon leads, or another command; `ConfigError` if its store is another one; `StoreError`.
    """
    catalog.check_store(store)
    asked, host = since_boot(), socket.gethostname()
    led = catalog.lead(f"{command} {secrets.token_hex(8)}", host, store, LEASE, take_over=take_over)
    if led is None:
        now = catalog.leader()
        raise not_leading(now.host if now else "")
    until, stop = [asked + LEASE - _MARGIN], threading.Event()

    def renew() -> None:
        while not stop.wait(_RENEW_EVERY):
            begun = since_boot()
            with suppress(StoreError):
                if not catalog.renew_lead(led.epoch, LEASE):
                    return
                until[0] = begun + LEASE - _MARGIN

    thread = threading.Thread(target=renew, name="syncd-leading", daemon=True)
    thread.start()
    catalog.epoch = lambda: led.epoch if since_boot() < until[0] else None
    try:
        yield
    finally:
        stop.set()
        catalog.epoch = lambda: None
        with suppress(StoreError):  # it ends by itself
            catalog.give_up_lead(led.epoch)
