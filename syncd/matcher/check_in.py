"""Telling the operator's API which versions this host or process has loaded."""

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
from syncd.matcher.threads import Poller, Wait, Wake
from syncd.model import ListName

EVERY: Final = 300.0
"""Seconds after which the same is told again."""

_INSTANCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_LONGEST: Final = 64
_DEADLINE: Final = 10.0
_SECONDS_TO_END: Final = 1.0

Send = Callable[[Endpoint, str, Mapping[ListName, int], Deadline], None]


def checked_instance(name: str) -> str:
    """Return ``name`` if an instance may be called so; raises `UsageError`."""
    if not _INSTANCE.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name an instance",
            hint="use letters, digits, '.', '_', ':' and '-', at most 64, the first a letter or digit",
        )
    return name


def host_instance(host: str | None = None) -> str:
    """The name of this host, cleaned to what an instance may be called."""
    name = re.sub(r"[^A-Za-z0-9._:-]", "-", socket.gethostname() if host is None else host)
    return re.sub(r"^[^A-Za-z0-9]+", "", name)[:_LONGEST] or "host"


def process_instance(name: str, pid: int | None = None) -> str:
    """``name`` with the number of this process: two of one host are two instances."""
    number = f".{os.getpid() if pid is None else pid}"
    return name[: _LONGEST - len(number)] + number


class CheckIn:
    """Tells the API at ``endpoint`` what `report` was told, after each change and every five minutes or so.

    It has a thread of its own: a server that is slow to listen holds nothing up. What fails is told at the next
    occasion, and to nobody else.
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
        self._deadline = Deadline(_DEADLINE)
        self._wake = Wake()
        self._poller = Poller(
            self._tell, EVERY, wait or self._wake.wait, name="syncd-check-in", interrupt=self._interrupt
        )
        self._poller.start()

    def report(self, loaded: Mapping[ListName, int]) -> None:
        """These versions are loaded now. Returns at once."""
        if loaded != self._loaded:
            self._loaded = dict(loaded)
            self._wake()

    def close(self) -> None:
        """Stop at once. A thread that is still connecting ends by itself within seconds."""
        self._poller.stop(_SECONDS_TO_END)

    def leave(self) -> None:
        """In a forked child: let go of the parent's connection."""
        self._deadline.close_inherited()

    def _interrupt(self) -> None:
        self._deadline.end()
        self._wake()

    def _tell(self) -> float:
        self._deadline = Deadline(_DEADLINE)
        if self._loaded is not None and not self._poller.stopping:
            # The operator sees that nothing comes; the copy is as good as ever.
            with contextlib.suppress(SyncdError):
                self._send(self._endpoint, self._instance, self._loaded, self._deadline)
        return vary(EVERY, JITTER, self._rng())
