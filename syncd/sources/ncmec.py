"""NCMEC's Hash Sharing API, version 2: ``type = "ncmec"``.

The partner is asked for ranges of time. Entries are not in time order within a range, so only a range that was read to
its end counts, and the checkpoint is the end of the last one. Pages are positions in the range: an entry that changes
while it is read leaves the range, the rest moves up, and one may be missed. So a range whose pages hold fewer entries
than the first one announced is halved and read again; a range of a single page cannot be cut in this way.
"""

import base64
import enum
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import JsonValue

from syncd.errors import HttpStatusError, SourceError
from syncd.fetch.http_errors import PEER_TROUBLE
from syncd.fetch.partner import PartnerCall, PartnerPeer
from syncd.format.manifest import Media
from syncd.model import ListName
from syncd.sources.ahead import ReadAhead
from syncd.sources.documents import MOST_BYTES
from syncd.sources.ncmec_page import INLINE, Entries, Link, NcmecEntry, NcmecReader, parse_page
from syncd.sources.partner import IMAGES, VIDEOS, PartnerSource, Redaction, words
from syncd.sources.statements import Fingerprint, Page, PollRequest, Record
from syncd.sources.values import sha256_of

SETTLED: Final = 5
"""Seconds before now at which a poll ends, so that its last second is over at the partner."""
OVERLAP: Final = 60
"""Seconds that a poll reads again: ``from`` is exclusive, times are whole seconds, and two clocks differ."""
PAGING: Final = 6 * 3600.0
"""Seconds for which the links of one range are followed. The partner keeps them for 12 hours."""

_MOST_FINGERPRINT: Final = 64 << 20
_GONE: Final = frozenset({400, 404, 410})
"""Answers to a link that has expired."""
_TRIES: Final = 3
"""How often a range is read that cannot be halved."""


@dataclass(frozen=True, kw_only=True)
class Ncmec(PartnerSource):
    """One environment of the API, such as the one for industry; each has its own address and credentials."""

    MEDIA: ClassVar[Mapping[ListName, Media]] = {IMAGES: "image", VIDEOS: "video"}

    username: str
    password_file: Path
    lists: tuple[ListName, ...] = (IMAGES, VIDEOS)
    fingerprints: tuple[str, ...] = tuple(INLINE)
    """by the API's names; large ones are fetched one by one"""
    largest_range: int = 100_000
    """the most entries of one range of time; ranges with more are halved"""
    type: Literal["ncmec"] = "ncmec"

    @property
    def shape(self) -> JsonValue:
        """See `StatedSource.shape`."""
        return {"of": super().shape, "fingerprints": words(self.fingerprints)}

    def secrets(self) -> Mapping[str, Path]:
        """Return the files with secrets, by their names for messages."""
        return {"password": self.password_file}

    @contextmanager
    def poll(self, request: PollRequest) -> Iterator["NcmecPoll"]:
        """See `StatedSource.poll`."""
        password = self.read_secrets()["password"]
        basic = base64.b64encode(f"{self.username}:{password}".encode()).decode("ascii")
        with self.connected(request, {"Authorization": f"Basic {basic}"}) as peer:
            yield NcmecPoll(self, peer, request, Redaction(password, basic))


class _RangeEnd(enum.Enum):
    """How reading a range ended."""

    READ = enum.auto()
    TOO_LARGE = enum.auto()
    CHANGED = enum.auto()
    """fewer entries came than the first page announced"""
    EXPIRED = enum.auto()
    """a link to the next page is too old"""
    EARLIER = enum.auto()
    """the poll has to end earlier than it was going to: nothing was read"""


class NcmecPoll:
    """One walk through the ranges of time since the checkpoint."""

    def __init__(
        self,
        source: Ncmec,
        peer: PartnerPeer,
        request: PollRequest,
        redact: Redaction,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peer, self._redact, self._clock = peer, redact, clock
        self._reader = NcmecReader(frozenset(source.lists), frozenset(source.fingerprints), source.selection)
        self._largest = source.largest_range
        now = int(request.now.timestamp())
        reached = _seconds(request.checkpoint)
        # A checkpoint in the future was made while our clock was ahead: what it left out is not known.
        self.whole = reached is None or reached > now + OVERLAP
        self._begin = 0 if self.whole or reached is None else max(0, reached - OVERLAP)
        self._end = max(now - SETTLED, 1 if self.whole or reached is None else reached)
        self._done = 0

    @property
    def checkpoint(self) -> JsonValue:
        """The end of the last range."""
        return {"to": _stamp(self._end)}

    @property
    def set_aside(self) -> Mapping[str, int]:
        """See `Poll.set_aside`. Entries that are read twice are counted twice."""
        return self._redact.reasons(self._reader.aside.counts)

    def pages(self) -> Iterator[Page]:
        """See `Poll.pages`."""
        begin, seconds, tries = self._begin, max(1, self._end - self._begin), 0
        while begin < self._end:
            stop = min(begin + seconds, self._end)
            ended = yield from self._range(begin, stop)
            if ended is _RangeEnd.EARLIER:
                continue
            if ended is not _RangeEnd.READ and stop - begin > 1:
                seconds = (stop - begin) // 2
                continue
            if ended is not _RangeEnd.READ and (tries := tries + 1) < _TRIES:
                continue
            if ended is _RangeEnd.EXPIRED:
                raise SourceError("entries: the links to the next pages are not accepted", hint=PEER_TROUBLE)
            if ended is _RangeEnd.CHANGED:
                self._reader.aside.add("second with entries that changed while it was read")
            begin, seconds, tries = stop, 2 * seconds, 0

    def _range(self, begin: int, stop: int) -> Generator[Page, None, "_RangeEnd"]:
        """Read one range, unless it is too large."""
        started = self._clock()
        body, entries = self._ask(begin, stop)
        if self._partner_is_behind(stop):
            return _RangeEnd.EARLIER
        expected = entries.read + entries.ahead
        if expected > self._largest and stop - begin > 1:
            return _RangeEnd.TOO_LARGE
        read, seen = entries.read, {entries.next}
        with ReadAhead(self._peer) as ahead:
            while entries.next:
                if self._clock() - started > PAGING:
                    return _RangeEnd.EXPIRED
                answer = ahead.start(partial(self._follow, entries.next))
                yield self._page(body, entries)
                try:
                    body, entries = answer()
                except HttpStatusError as error:
                    if error.status in _GONE:
                        return _RangeEnd.EXPIRED
                    raise
                if entries.next in seen:
                    raise SourceError("entries: the links to the next pages lead in a circle", hint=PEER_TROUBLE)
                seen.add(entries.next)
                read += entries.read
            yield self._page(body, entries)
        return _RangeEnd.READ if read >= expected else _RangeEnd.CHANGED

    def _partner_is_behind(self, stop: int) -> bool:
        """Return True if ``stop`` is not over yet by the partner's clock; the poll then ends earlier."""
        stated = self._peer.server_time
        if stated is None or stop <= (settled := max(self._begin + 1, int(stated.timestamp()) - SETTLED)):
            return False
        self._end = settled
        return True

    def _ask(self, begin: int, stop: int) -> tuple[bytes, Entries]:
        query = {"from": _stamp(begin), "to": _stamp(stop)}
        return self._peer.ask(PartnerCall.of("entries", "v2/entries", query), MOST_BYTES, _parsed)

    def _follow(self, target: str) -> tuple[bytes, Entries]:
        return self._peer.ask(PartnerCall("entries", target), MOST_BYTES, _parsed)

    def _page(self, body: bytes, entries: Entries) -> Page:
        self._done += entries.read
        records = [self._record(entry) for entry in self._reader.read(entries)]
        return Page(records, self._redact(body), self._done, self._done + entries.ahead)

    def _record(self, entry: NcmecEntry) -> Record:
        large = tuple(found for link in entry.links if (found := self._large(link)))
        return Record(entry.list, entry.entry, entry.label, entry.fingerprints + large)

    def _large(self, link: Link) -> Fingerprint | None:
        """Fetch a large fingerprint. It is carried as its SHA-256: format 1 has at most 1,024 bytes for a digest."""
        try:
            content = self._peer.ask(PartnerCall("a large fingerprint", link.target), _MOST_FINGERPRINT, bytes)
        except HttpStatusError as error:
            if error.status not in _GONE:
                raise
            content = b""
        if not content:
            self._reader.aside.add(f"{link.name}: nothing at its link")
            return None
        return sha256_of(link.name, content)


def _parsed(body: bytes) -> tuple[bytes, Entries]:
    return body, parse_page(body)


def _stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(checkpoint: JsonValue) -> int | None:
    """Return the time of a checkpoint; None without one, or if it cannot be read: then everything is read."""
    if isinstance(checkpoint, dict) and isinstance(stated := checkpoint.get("to"), str):
        try:
            return int(datetime.strptime(stated, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
        except ValueError:
            return None
    return None
