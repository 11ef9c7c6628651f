"""The tokens that a mirror admits: those that its upstream states, as hashes, kept on disk for a restart without it.

They are asked for every 20 seconds, and at once when the upstream's events say that they changed. While the upstream
cannot be reached, the mirror goes on with the tokens that it knows. It receives no newer version either, so a token
that was revoked meanwhile reads nothing that was published after the last confirmation (docs/adr/0029).
"""

import random
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from syncd import events
from syncd.errors import HttpStatusError, SourceError, StoreError, SyncdError
from syncd.event import Emit
from syncd.fetch.api import MAX_ACCESS, fetch_access
from syncd.fetch.backoff import JITTER, vary
from syncd.fetch.endpoint import Deadline, Endpoint
from syncd.files import PRIVATE_FILE, install_bytes, read_bytes, storage
from syncd.format.manifest import Sha256
from syncd.matcher.news import REFUSALS
from syncd.matcher.threads import Poller, WakeSignal
from syncd.mirror.replica import Scope
from syncd.model import LIST_NAME, ListName

EVERY: Final = 20.0
"""Seconds between two questions. With the time for an answer they keep the promise of `CONFIRMED_WITHIN`."""
CONFIRMED_WITHIN: Final = 60.0
"""Seconds within which a revocation arrives while the upstream can be reached; after that long without an answer the
mirror reports that its tokens are not confirmed."""
ANSWER_WITHIN: Final = 10.0

_List = Annotated[ListName, StringConstraints(pattern=f"^{LIST_NAME.pattern}$")]


class TokenHolder(BaseModel):
    """A matcher or a further mirror, with the SHA-256 of its token. A `syncd.service.access.PermittedMatcher`."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: Annotated[str, StringConstraints(max_length=64)]
    token_sha256: Sha256
    lists: tuple[_List, ...] | None
    mirror: bool = False


class AccessTable(BaseModel):
    """The upstream's answer: the lists of this mirror (None: all), and who may read them."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    lists: tuple[_List, ...] | None
    matchers: tuple[TokenHolder, ...]


_NOBODY: Final = AccessTable(lists=(), matchers=())


class UpstreamTokens:
    """The tokens in force, as the upstream's API at ``endpoint`` last stated them; ``file`` keeps them.

    ``on_change``: called after each change, in the thread that notices it. Safe to share between threads.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        file: Path,
        clock: Callable[[], datetime],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint, self._file, self._clock, self._timer = endpoint, file, clock, timer
        self._table: AccessTable | None = None
        self._tag = ""
        self._lock = threading.Lock()
        self._confirmed = timer()
        self.confirmed_at: datetime | None = None
        """when the upstream last confirmed the tokens; None: not since the start"""
        self.on_change: Callable[[], None] = lambda: None

    @property
    def known(self) -> bool:
        """True if the upstream has ever stated the tokens."""
        return self._table is not None

    @property
    def scope(self) -> Scope:
        """The lists that this mirror may read; None: all."""
        table = self._table or _NOBODY
        return None if table.lists is None else frozenset(table.lists)

    def matchers(self) -> tuple[TokenHolder, ...]:
        """Return those whose token is in force."""
        return (self._table or _NOBODY).matchers

    @property
    def unconfirmed_for(self) -> float:
        """The seconds since the last confirmation, or since the start if there was none."""
        return self._timer() - self._confirmed

    def load(self) -> None:
        """Read the tokens that an earlier run kept. A damaged file counts as none. Raises `StoreError`."""
        with storage(self._file, "read"):
            exists = self._file.exists()
        if exists:
            try:
                self._table = AccessTable.model_validate_json(read_bytes(self._file, MAX_ACCESS))
            except ValidationError:
                self._table = None

    def refresh(self, deadline: Deadline) -> None:
        """Ask the upstream. Raises `SourceError`, and `StoreError` if a change cannot be kept; it is in force then.

        If the upstream refuses this mirror's own token, nobody is admitted any more.
        """
        with self._lock:
            try:
                answer = fetch_access(self._endpoint, self._tag, deadline)
            except HttpStatusError as error:
                if error.status in REFUSALS and not error.page:
                    self._put_in_force(_NOBODY, "")
                raise
            if answer is not None:
                self._put_in_force(_read(answer[0]), answer[1])
            self._confirmed, self.confirmed_at = self._timer(), self._clock()

    def _put_in_force(self, table: AccessTable, tag: str) -> None:
        self._tag = tag
        if table != self._table:
            self._table = table
            self.on_change()  # first: a disk that is full must not keep a revoked token in force
            install_bytes(self._file, table.model_dump_json().encode(), PRIVATE_FILE)


def _read(content: bytes) -> AccessTable:
    try:
        return AccessTable.model_validate_json(content)
    except ValidationError:
        raise SourceError(
            "the upstream's answer about tokens cannot be read",
            hint="use the same version of syncd at the mirror and at its upstream",
        ) from None


class TokenWatch:
    """The thread that keeps `UpstreamTokens` up to date, and reports when they are not confirmed."""

    def __init__(self, tokens: UpstreamTokens, emit: Emit) -> None:
        self._tokens, self._emit = tokens, emit
        self._wake_signal = WakeSignal()
        self._deadline = Deadline(ANSWER_WITHIN)
        self._reported = ""
        self._poller = Poller(self.look, 0.0, self._wake_signal.wait, name="syncd-tokens", interrupt=self._interrupt)

    def start(self) -> None:
        """Start the thread."""
        self._poller.start()

    def look_now(self) -> None:
        """Ask the upstream now."""
        self._wake_signal.set()

    def close(self) -> None:
        """End the thread."""
        self._poller.stop(1.0)

    def _interrupt(self) -> None:
        self._deadline.end()
        self._wake_signal.set()

    def look(self) -> float:
        """Ask the upstream once; return the seconds until the next question."""
        self._deadline = Deadline(ANSWER_WITHIN)
        try:
            if not self._poller.stopping:
                self._tokens.refresh(self._deadline)
        except SyncdError as error:
            if not self._poller.stopping:
                self._report(error)
        else:
            self._confirmed()
        return vary(EVERY, JITTER, random.random())  # noqa: S311 - spreads load, guards nothing

    def _report(self, error: SyncdError) -> None:
        """Report a refusal or a failure of the disk at once, an upstream that cannot be reached after a while; once."""
        seconds = self._tokens.unconfirmed_for
        refused = isinstance(error, HttpStatusError) and error.status in REFUSALS
        kind = "refused" if refused else "disk" if isinstance(error, StoreError) else "unreachable"
        if kind == self._reported or (kind == "unreachable" and seconds <= CONFIRMED_WITHIN):
            return
        self._reported = kind
        if refused:
            self._emit(events.MirrorRefused(error.message, error.hint))
        else:
            self._emit(events.TokensNotConfirmed(error.message, error.hint, round(seconds)))

    def _confirmed(self) -> None:
        if self._reported:
            self._reported = ""
            self._emit(events.TokensConfirmed(len(self._tokens.matchers())))
