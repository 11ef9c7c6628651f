"""Reporting the loaded versions of this host or process to the operator's API."""

import contextlib
import os
import random
import re
import socket
from collections.abc import Callable, Mapping
from typing import Final

from syncd.errors import SyncdError, UsageError
from syncd.fetch.api import check_in
from syncd.fetch.backoff import JITTER, vary
from syncd.fetch.endpoint import Deadline, Endpoint
from syncd.matcher.pace import Random
from syncd.matcher.threads import Conversation, Poller, Wait, WakeSignal
from syncd.model import ListName

EVERY: Final = 300.0
"""Seconds between two reports if nothing changes."""

_INSTANCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_LONGEST: Final = 64
_DEADLINE: Final = 10.0
_LEAVE_WITHIN: Final = 3.0
"""Seconds for the last report: a slow server must not keep a process from ending."""
_AGAIN: Final = 5.0
"""Seconds until the first report that failed is repeated; the pause doubles with each failure, up to `EVERY`."""

Send = Callable[[Endpoint, str, Mapping[ListName, int], Deadline], None]


def checked_instance(name: str) -> str:
    """Return ``name`` if it is a valid instance name. Raises `UsageError`."""
    if not _INSTANCE.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid instance name",
            hint="use at most 64 letters, digits, '.', '_', ':' and '-', starting with a letter or digit",
        )
    return name


def host_instance(host: str | None = None) -> str:
    """Return the name of this host, with characters replaced that an instance name may not have."""
    name = re.sub(r"[^A-Za-z0-9._:-]", "-", socket.gethostname() if host is None else host)
    return re.sub(r"^[^A-Za-z0-9]+", "", name)[:_LONGEST] or "host"


def process_instance(name: str, pid: int | None = None) -> str:
    """Return ``name`` with the id of this process: each process of a host is an instance."""
    suffix = f".{pid or os.getpid()}"
    return name[: _LONGEST - len(suffix)] + suffix


class CheckIn(Conversation):
    """Sends the versions given to `report` to the API at ``endpoint``, after each change and about every five minutes.

    It has its own thread, so a slow server delays nothing else. A report that fails is repeated after seconds, then
    less and less often; the failure is not shown.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        instance: str,
        *,
        send: Send = check_in,
        wait: Wait | None = None,
        rng: Random = random.random,
    ) -> None:
        self._endpoint, self._instance, self._send, self._rng = endpoint, checked_instance(instance), send, rng
        self._loaded: Mapping[ListName, int] | None = None
        self._failures = 0
        self._reported = False
        """true once this instance may be known to the operator"""
        self._deadline = Deadline(_DEADLINE)
        self._wake_signal = WakeSignal()
        self._poller = Poller(
            self._send_report, EVERY, wait or self._wake_signal.wait, name="syncd-check-in", interrupt=self._interrupt
        )
        self._poller.start()

    def report(self, loaded: Mapping[ListName, int]) -> None:
        """Report that these versions are loaded now. Returns at once."""
        if loaded != self._loaded:
            self._loaded = dict(loaded)
            self._wake_signal.set()

    def close(self) -> None:
        """Stop, and report that this instance has ended, so that it never counts as silent. Takes 4 seconds at most."""
        super().close()
        if self._reported:
            self._reported = False
            with contextlib.suppress(SyncdError):  # if it fails, this counts as silent until `syncd matchers forget`
                self._send(self._endpoint, self._instance, {}, Deadline(_LEAVE_WITHIN))

    def _interrupt(self) -> None:
        self._deadline.end()
        self._wake_signal.set()

    def _send_report(self) -> float:
        self._deadline = Deadline(_DEADLINE)
        if self._loaded is not None and not self._poller.stopping:
            self._reported = True
            try:
                self._send(self._endpoint, self._instance, self._loaded, self._deadline)
                self._failures = 0
            except SyncdError:  # the operator sees that reports are missing; the copy itself is not affected
                self._failures += 1
        pause = min(EVERY, _AGAIN * 2 ** min(self._failures - 1, 16)) if self._failures else EVERY
        return vary(pause, JITTER, self._rng())
