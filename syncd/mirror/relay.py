"""Passing check-ins on: a mirror keeps the newest one of each instance, and sends them upstream in batches.

While the upstream cannot be reached they wait, up to `MOST_WAITING`. One that has waited for longer than an instance
takes to check in again is dropped: the instance has sent a newer one, or is gone.
"""

import json
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from syncd.errors import SourceError
from syncd.fetch.api import pass_check_ins
from syncd.fetch.backoff import backoff
from syncd.fetch.endpoint import Deadline, Endpoint
from syncd.matcher.check_in import EVERY
from syncd.matcher.threads import Poller, Wait, WakeSignal
from syncd.model import ListName

MOST_WAITING: Final = 100_000
GATHER: Final = 0.5
"""Seconds from the first check-in to the batch: after a publication many come at once."""
_FRESH_FOR: Final = EVERY * 1.25
"""Seconds after which an instance has checked in again, with its jitter."""
_MOST_BYTES: Final = 60_000
"""Of one batch: the upstream takes 64 KiB."""
_MOST: Final = 1000
_SEND_WITHIN: Final = 10.0
_LAST_WITHIN: Final = 1.0
_RETRY: Final = 5.0
_IDLE: Final = 3600.0

SendBatch = Callable[[Endpoint, bytes, Deadline], None]


@dataclass(frozen=True)
class WaitingCheckin:
    """A check-in that is still to be passed on."""

    document: bytes
    """as a member of the batch"""
    ends: bool
    """true if the instance has ended: it will not check in again"""
    at: float
    """of the timer"""


class CheckinRelay:
    """A `syncd.service.web.readers.CheckinDesk` that passes check-ins on to the API at ``endpoint``."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        send: SendBatch = pass_check_ins,
        wait: Wait | None = None,
        timer: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._endpoint, self._send, self._timer, self._rng = endpoint, send, timer, rng
        self._waiting: OrderedDict[tuple[str, str], WaitingCheckin] = OrderedDict()
        self._lock = threading.Lock()
        self._wake_signal = WakeSignal()
        self._deadline = Deadline(_SEND_WITHIN)
        self._failures = 0
        self._gathering = False
        self.passed = self.dropped = 0
        """numbers of check-ins since the start"""
        self._poller = Poller(
            self.step, 0.0, wait or self._wake_signal.wait, name="syncd-relay", interrupt=self._interrupt
        )

    def start(self) -> None:
        """Start the thread."""
        self._poller.start()

    @property
    def waiting(self) -> int:
        """The number of check-ins that are still to be passed on."""
        with self._lock:
            return len(self._waiting)

    def never_published(self, lists: Mapping[ListName, int]) -> tuple[ListName, ...]:
        """Return (): only the operator knows which versions it published. See `CheckinDesk`."""
        del lists
        return ()

    def note(
        self, visitor_name: str, instance: str, lists: Mapping[ListName, int], now: datetime, via: str = ""
    ) -> None:
        """See `CheckinDesk`."""
        del now
        document: dict[str, Any] = {"matcher": visitor_name, "instance": instance, "lists": dict(lists), "via": via}
        checkin = WaitingCheckin(json.dumps(document, separators=(",", ":")).encode(), not lists, self._timer())
        with self._lock:
            first = not self._waiting
            self._waiting[visitor_name, instance] = checkin
            self._waiting.move_to_end((visitor_name, instance))
            if len(self._waiting) > MOST_WAITING:
                self._waiting.popitem(last=False)
                self.dropped += 1
        if first:
            self._wake_signal.set()

    def step(self) -> float:
        """Send what waits; return the seconds until the next step."""
        if self._poller.stopping or not self.waiting:
            return _IDLE
        if not self._gathering and not self._failures:
            self._gathering = True
            return GATHER
        self._gathering = False
        self._deadline = Deadline(_SEND_WITHIN)
        try:
            self._send_all()
        except SourceError as error:
            self._failures += 1
            return backoff(error, min(self._failures, 4), _RETRY, self._rng())
        self._failures = 0
        return _IDLE

    def close(self) -> None:
        """Stop, and make one more attempt to pass on what waits. Takes 2 seconds at most."""
        self._poller.stop(_LAST_WITHIN)
        self._deadline = Deadline(_LAST_WITHIN)
        try:
            self._send_all()
        except SourceError:  # the instances check in again, here or elsewhere
            self.dropped += self.waiting

    def _interrupt(self) -> None:
        self._deadline.end()
        self._wake_signal.set()

    def _send_all(self) -> None:
        while batch := self._batch():
            content = b'{"checkins":[' + b",".join(checkin.document for checkin in batch.values()) + b"]}"
            self._send(self._endpoint, content, self._deadline)
            with self._lock:
                for key, checkin in batch.items():
                    if self._waiting.get(key) is checkin:  # a newer one came meanwhile
                        del self._waiting[key]
            self.passed += len(batch)

    def _batch(self) -> dict[tuple[str, str], WaitingCheckin]:
        """Return the check-ins that waited longest, as many as fit; those that are too old are dropped."""
        found: dict[tuple[str, str], WaitingCheckin] = {}
        size, now = 0, self._timer()
        with self._lock:
            for key, checkin in list(self._waiting.items()):
                if not checkin.ends and now - checkin.at > _FRESH_FOR:
                    del self._waiting[key]
                    self.dropped += 1
                    continue
                size += len(checkin.document) + 1
                if size > _MOST_BYTES or len(found) >= _MOST:
                    break
                found[key] = checkin
        return found
