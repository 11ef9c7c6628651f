"""StopNCII's hash exchange: ``type = "stopncii"``.

Hashes come from people who fear that their intimate images are shared; hardly any was reviewed. Withdrawn and deleted
ones are removed. The checkpoint is the one that the last page of a finished run states; it can fall from page to page,
and a falling one is not followed. After 30 days without a poll everything is read again.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import JsonValue

from syncd.errors import SourceError, TruncatedError
from syncd.fetch.http_errors import PEER_TROUBLE
from syncd.fetch.partner import PartnerCall, PartnerPeer
from syncd.format.manifest import Media, Purpose
from syncd.model import Algorithm, ListName
from syncd.sources.ahead import ReadAhead
from syncd.sources.documents import MOST_BYTES, parse_json
from syncd.sources.json_records import JsonRecordReader
from syncd.sources.partner import IMAGES, VIDEOS, PartnerSource, Redaction, reached_at
from syncd.sources.selection import RecordSelection
from syncd.sources.statements import Fingerprint, Page, PollRequest, Record
from syncd.sources.values import read_fingerprint, sha256_of, text_of, whole_number

OTHER: Final = ListName("other")
"""Hashes of types that name neither images nor videos."""
FROM_THE_BEGINNING: Final = 10
"""The start time that stands for everything."""
STALE: Final = 30 * 86400
"""Seconds without a poll after which the partner no longer states every withdrawal."""

_TYPES: Final = {"ImagePDQ": (IMAGES, Algorithm.PDQ), "VideoMD5": (VIDEOS, Algorithm.MD5)}
_WITHOUT_DIGEST: Final = frozenset({"VideoTMK", "Text", "URL", "Unknown"})
"""Documented types whose values have no public form."""
_WORD: Final = re.compile("[A-Za-z][A-Za-z0-9]{0,23}")
_IN_FORCE: Final = frozenset({"unknown", "received", "active"})
_REMOVED: Final = frozenset({"withdrawn", "deleted"})
_FEEDBACK: Final = frozenset(
    {"Unknown", "None", "QualityUnknown", "PendingReview", "Blocked", "NotBlocked", "Withdrawn", "Deleted", "Undefined"}
)
_HALVINGS: Final = 4


@dataclass(frozen=True, kw_only=True)
class StopNcii(PartnerSource):
    """The exchange, with our two keys."""

    MEDIA: ClassVar[Mapping[ListName, Media]] = {IMAGES: "image", VIDEOS: "video", OTHER: "any"}
    MAPPING: ClassVar[int] = 2

    function_key_file: Path
    """the key of the call FetchHashes"""
    subscription_key_file: Path
    lists: tuple[ListName, ...] = (IMAGES, VIDEOS, OTHER)
    purpose: Purpose = "review"
    page_size: int = 800
    type: Literal["stopncii"] = "stopncii"

    def secrets(self) -> Mapping[str, Path]:
        """Return the files with secrets, by their names for messages."""
        return {"function key": self.function_key_file, "subscription key": self.subscription_key_file}

    @contextmanager
    def poll(self, request: PollRequest) -> Iterator["StopNciiPoll"]:
        """See `StatedSource.poll`."""
        keys = self.read_secrets()
        headers = {
            "x-functions-key": keys["function key"],
            "Ocp-Apim-Subscription-Key": keys["subscription key"],
        }
        with self.connected(request, headers) as peer:
            yield StopNciiPoll(self, peer, request, Redaction(*keys.values()))


class StopNciiReader(JsonRecordReader):
    """Reads the items of ``hashRecords``."""

    FIELDS = frozenset(
        {"lastModtimestamp", "signalType", "hashValue", "hashStatus", "caseNumbers", "CSPFeedbacks", "hashRegions"}
    )

    def __init__(self, lists: frozenset[ListName], selection: RecordSelection) -> None:
        super().__init__(selection)
        self._lists = lists

    def _record(self, item: Mapping[str, Any]) -> Record | None:
        kind = text_of(item, "signalType")
        name, algorithm = _TYPES.get(kind, (_list_of(kind), None))
        value = text_of(item, "hashValue").strip()
        if name not in self._lists:
            return None
        if not value:
            self.aside.add("record without a hash")
            return None
        if algorithm is not None:
            value = value.lower()
        status = text_of(item, "hashStatus")
        removed = status.casefold() in _REMOVED
        if not removed and status.casefold() not in _IN_FORCE:
            self.aside.unknown("status", status)
        in_favour, against = self._votes(item.get("CSPFeedbacks"))
        fingerprint = None
        taken = self._selection.takes_statuses([status]) and self._selection.takes_votes(in_favour, against)
        if taken and not removed:
            fingerprint = self._fingerprint(kind, algorithm, value)
        return self._stated(name, _entry(kind, value), status, fingerprint)

    def _fingerprint(self, kind: str, algorithm: Algorithm | None, value: str) -> Fingerprint | None:
        """Return the digest of a known type; of another one, whose form is not known, that of its text."""
        if algorithm is not None:
            return read_fingerprint(algorithm, value, self.aside)
        if kind in _WITHOUT_DIGEST:
            self.aside.add(f"hash of type {kind}, carried by the SHA-256 of its text")
        else:
            self.aside.unknown("type of hash", kind)
        return sha256_of(_word(kind), value.encode(errors="replace"))

    def _votes(self, feedback: object) -> tuple[int, int]:
        """Return how many members have blocked after review, and how many have not."""
        sides: dict[str, set[str]] = {"Blocked": set(), "NotBlocked": set()}
        for number, one in enumerate(feedback if isinstance(feedback, list) else ()):
            value = text_of(one, "feedbackValue") if isinstance(one, dict) else ""
            if value in sides:
                sides[value].add(text_of(one, "source") or f"#{number}")
            elif value not in _FEEDBACK:
                self.aside.unknown("feedback", value)
        return len(sides["Blocked"]), len(sides["NotBlocked"])


def _list_of(kind: str) -> ListName:
    """Return the list of a type that is not known: it begins with the kind of its media."""
    return IMAGES if kind.startswith("Image") else VIDEOS if kind.startswith("Video") else OTHER


def _word(kind: str) -> str:
    """Return a type as a part of a name; "unnamed" if it is not a short word and could be a digest."""
    return kind.lower() if _WORD.fullmatch(kind) else "unnamed"


def _entry(kind: str, value: str) -> str:
    """Return the entry of a hash.

    The partner's key is the type and the hash itself, which must not stand in an entry: entries are shown.
    """
    named, keyed = (kind, value) if _WORD.fullmatch(kind) else ("unnamed", f"{kind}/{value}")
    return f"{named}/{hashlib.sha256(keyed.encode(errors='replace')).hexdigest()[:32]}"


class StopNciiPoll:
    """One run through everything that changed since the checkpoint."""

    def __init__(self, source: StopNcii, peer: PartnerPeer, request: PollRequest, redact: Redaction) -> None:
        self._peer, self._redact = peer, redact
        self._reader = StopNciiReader(frozenset(source.lists), source.selection)
        self._size = source.page_size
        self._now = int(request.now.timestamp())
        reached, at = reached_at(request.checkpoint, "next")
        self.whole = reached is None or not self._now - STALE < at <= self._now + STALE
        self._start = FROM_THE_BEGINNING if self.whole or reached is None else reached
        self._next = self._start
        self._done = self._cut_off = 0

    @property
    def checkpoint(self) -> JsonValue:
        """The time from which to ask next, and that of this poll."""
        return {"next": self._next, "at": self._now}

    @property
    def set_aside(self) -> Mapping[str, int]:
        """See `Poll.set_aside`."""
        cut_off = {"page that came cut off": self._cut_off} if self._cut_off else {}
        return self._redact.reasons(self._reader.aside.counts) | cut_off

    def pages(self) -> Iterator[Page]:
        """See `Poll.pages`."""
        seen, more = set[str](), True
        with ReadAhead(self._peer) as ahead:
            answer = ahead.start(partial(self._ask, ""))
            while more:
                body, found = answer()
                records = found.get("hashRecords")
                if not isinstance(records, list):
                    raise SourceError("FetchHashes: the answer has no hashRecords", hint=PEER_TROUBLE)
                more, token = found.get("hasMoreRecords") is True, text_of(found, "nextPageToken")
                if more and (not token or token in seen):
                    raise SourceError("FetchHashes: more pages are announced, without a way to them", hint=PEER_TROUBLE)
                seen.add(token)
                if more:
                    answer = ahead.start(partial(self._ask, token))
                self._done += len(records)
                yield Page(self._reader.read(records), self._redact(body), self._done)
                if not more:
                    self._reach(whole_number(found.get("nextSetTimestamp")))

    def _reach(self, stated: int | None) -> None:
        """Move the checkpoint to the one that the last page states: neither back nor beyond now."""
        if stated is None:
            raise SourceError("FetchHashes: the last page has no nextSetTimestamp", hint=PEER_TROUBLE)
        if stated < self._next:
            self._reader.aside.add("nextSetTimestamp before the one that was reached")
        self._next = max(self._next, min(stated, self._now))

    def _ask(self, token: str) -> tuple[bytes, dict[str, Any]]:
        """Fetch a page. One that comes cut off is asked for again with half as many records."""
        for _ in range(_HALVINGS):
            query = {"startTimestamp": str(self._start), "pageSize": str(self._size)}
            body = self._peer.ask(
                PartnerCall.of("FetchHashes", "FetchHashes", query | ({"nextPageToken": token} if token else {})),
                MOST_BYTES,
                bytes,
            )
            try:
                return body, parse_json(body, "FetchHashes")
            except TruncatedError:
                self._cut_off += 1
                self._size = max(1, self._size // 2)
        raise TruncatedError(
            f"FetchHashes: a page is not well-formed JSON, even with only {2 * self._size} records",
            hint="the fault is at the partner: report it there; nothing is skipped, and the next sync tries again",
        )
