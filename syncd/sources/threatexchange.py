"""Meta's ThreatExchange, the updates of one privacy group, as GIFCT's list is served too: ``type = "threatexchange"``.

The partner wants the token in the address, and repeats it in the links to next pages: no address is in a message or a
log, and the token is removed from answers before they are kept. Of a link only its cursor is followed. Deletions are
kept for 90 days; after 85 days without a poll everything is read again.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import JsonValue

from syncd.errors import ConfigError, SourceError
from syncd.fetch.http_errors import PEER_TROUBLE
from syncd.fetch.partner import PartnerCall, PartnerPeer
from syncd.format.manifest import Media
from syncd.model import Algorithm, ListName
from syncd.sources.documents import MOST_BYTES, parse_json
from syncd.sources.json_records import JsonRecordReader
from syncd.sources.partner import PartnerSource, Redaction, reached_at
from syncd.sources.statements import Page, PollRequest, Record
from syncd.sources.values import entry_key, read_fingerprint, text_of, whole_number

INDICATORS: Final = ListName("indicators")
STALE: Final = 85 * 86400
"""Seconds without a poll after which everything is read again: the partner keeps deletions for 90 days."""
OVERLAP: Final = 60
"""Seconds that a poll reads again."""
FIELDS: Final = (
    "id,indicator,type,last_updated,should_delete,descriptors{reactions,my_reactions,owner{id},tags,status,added_on}"
)

_TYPES: Final = {
    "HASH_PDQ": Algorithm.PDQ,
    "HASH_MD5": Algorithm.MD5,
    "HASH_VIDEO_MD5": Algorithm.MD5,
    "HASH_SHA1": Algorithm.SHA1,
    "HASH_SHA256": Algorithm.SHA256,
    "HASH_VIDEO_SHA256": Algorithm.SHA256,
}
_STATUSES: Final = frozenset({"MALICIOUS", "NON_MALICIOUS", "SUSPICIOUS", "UNKNOWN"})
_TOKEN: Final = re.compile(r"[0-9]{1,32}\|[A-Za-z0-9_-]{20,}")
_CURSORS: Final = ("after", "offset", "__paging_token")
_LONGEST_CURSOR: Final = 2000


@dataclass(frozen=True, kw_only=True)
class ThreatExchange(PartnerSource):
    """One privacy group; ``url`` includes the version of the Graph API."""

    MEDIA: ClassVar[Mapping[ListName, Media]] = {INDICATORS: "any"}

    group: str
    """the number of the privacy group"""
    token_file: Path
    lists: tuple[ListName, ...] = (INDICATORS,)
    page_size: int = 500
    type: Literal["threatexchange"] = "threatexchange"

    @property
    def shape(self) -> JsonValue:
        """See `StatedSource.shape`."""
        return {"of": super().shape, "group": self.group}

    def secrets(self) -> Mapping[str, Path]:
        """Return the files with secrets, by their names for messages."""
        return {"token": self.token_file}

    def read_secrets(self) -> dict[str, str]:
        """Return the token. Raises `ConfigError`, also if it is not one of an app."""
        found = super().read_secrets()
        if not _TOKEN.fullmatch(found["token"].replace("%7C", "|")):
            raise ConfigError(
                f"the token of source {self.name}: not an app's token",
                hint="write the number of the app, '|', and its secret, in one line",
            )
        return {"token": found["token"].replace("%7C", "|")}

    def check(self) -> None:
        """Check that the token is one. Raises `ConfigError`."""
        self.read_secrets()

    @contextmanager
    def poll(self, request: PollRequest) -> Iterator["ThreatExchangePoll"]:
        """See `StatedSource.poll`."""
        token = self.read_secrets()["token"]
        with self.connected(request, {}) as peer:
            yield ThreatExchangePoll(self, peer, request, token)


class IndicatorReader(JsonRecordReader):
    """Reads updates of indicators."""

    def _record(self, item: Mapping[str, Any]) -> Record | None:
        entry = entry_key(text_of(item, "id"), self.aside)
        if entry is None:
            return None
        removed = item.get("should_delete") is True
        opinions = [] if removed else self._opinions(item.get("descriptors"))
        tags = sorted({tag for opinion in opinions for tag in _tags(opinion)})
        fingerprint = None
        if opinions and self._takes(opinions, tags):
            kind = text_of(item, "type")
            if kind in _TYPES:
                fingerprint = read_fingerprint(_TYPES[kind], text_of(item, "indicator"), self.aside)
            else:
                self.aside.unknown("type of indicator", kind)
        return self._stated(INDICATORS, entry, ",".join(tags), fingerprint)

    def _opinions(self, descriptors: object) -> list[dict[str, Any]]:
        """Return the descriptors with an owner that is taken. Those without one are a fault of the partner's."""
        data = descriptors.get("data") if isinstance(descriptors, dict) else None
        found = []
        for one in data if isinstance(data, list) else ():
            owner = _owner(one)
            if not owner:
                self.aside.add("descriptor without an owner")
            elif self._selection.takes_member(owner):
                found.append(one)
        return found

    def _takes(self, opinions: list[dict[str, Any]], tags: list[str]) -> bool:
        statuses = [text_of(one, "status") for one in opinions]
        for status in statuses:
            if status not in _STATUSES:
                self.aside.unknown("status", status)
        if not self._selection.takes_statuses(statuses) or not self._selection.takes_classifications(tags or [""]):
            return False
        in_favour = _voters(opinions, "MALICIOUS", "HELPFUL")
        against = _voters(opinions, "NON_MALICIOUS", "DISAGREE_WITH_TAGS")
        return self._selection.takes_votes(len(in_favour), len(against))


class ThreatExchangePoll:
    """One walk through the updates since the checkpoint."""

    def __init__(self, source: ThreatExchange, peer: PartnerPeer, request: PollRequest, token: str) -> None:
        self._source, self._peer, self._token = source, peer, token
        self._redact = TokenRedaction(token)
        self._reader = IndicatorReader(source.selection)
        self._now = int(request.now.timestamp())
        reached, at = reached_at(request.checkpoint, "updated")
        self.whole = reached is None or not self._now - STALE < at <= self._now + STALE
        self._newest = 0 if self.whole or reached is None else reached
        self._start = max(0, self._newest - OVERLAP)
        self._done = 0

    @property
    def checkpoint(self) -> JsonValue:
        """The time of the newest update, and that of this poll."""
        return {"updated": min(self._newest, self._now), "at": self._now}

    @property
    def set_aside(self) -> Mapping[str, int]:
        """See `Poll.set_aside`."""
        return self._redact.reasons(self._reader.aside.counts)

    def pages(self) -> Iterator[Page]:
        """See `Poll.pages`."""
        cursor: dict[str, str] = {}
        seen = set[str]()
        while True:
            body, found = self._ask(cursor)
            data = found.get("data")
            if not isinstance(data, list):
                raise SourceError("threat_updates: the answer has no data", hint=PEER_TROUBLE)
            self._done += len(data)
            for one in data:
                if isinstance(one, dict):
                    self._newest = max(self._newest, whole_number(one.get("last_updated")) or 0)
            yield Page(self._reader.read(data), self._redact(body), self._done)
            paging = found.get("paging")
            following = paging.get("next") if isinstance(paging, dict) else None
            if not isinstance(following, str) or not following:
                return
            cursor = _cursor(following)
            if str(cursor) in seen:
                raise SourceError("threat_updates: the pages lead in a circle", hint=PEER_TROUBLE)
            seen.add(str(cursor))

    def _ask(self, cursor: Mapping[str, str]) -> tuple[bytes, dict[str, Any]]:
        query = {"access_token": self._token, "limit": str(self._source.page_size), "fields": FIELDS}
        if not self.whole:
            query["start_time"] = str(self._start)
        call = PartnerCall.of("threat_updates", f"{self._source.group}/threat_updates/", {**query, **cursor})
        return self._peer.ask(call, MOST_BYTES, lambda body: (body, parse_json(body, "threat_updates")))


class TokenRedaction(Redaction):
    """Removes the token also if JSON or an address escapes some of its characters."""

    def __init__(self, token: str) -> None:
        super().__init__(token)
        forms = (rf"(?:{re.escape(one)}|\\u00{ord(one):02x}|%{ord(one):02x})" for one in token.partition("|")[2])
        self._escaped = re.compile("".join(forms).encode(), re.IGNORECASE)

    def __call__(self, body: bytes) -> bytes:
        """Return the body without the token and its secret half."""
        return self._escaped.sub(b"***", super().__call__(body))


def _owner(descriptor: object) -> str:
    owner = descriptor.get("owner") if isinstance(descriptor, dict) else None
    return text_of(owner, "id") if isinstance(owner, dict) else ""


def _tags(descriptor: Mapping[str, Any]) -> Iterator[str]:
    tags = descriptor.get("tags")
    data = tags.get("data") if isinstance(tags, dict) else tags
    for tag in data if isinstance(data, list) else ():
        text = text_of(tag, "text") if isinstance(tag, dict) else tag
        if isinstance(text, str) and text:
            yield text


def _voters(opinions: list[dict[str, Any]], status: str, reaction: str) -> set[str]:
    """Return the members with an opinion: owners by status, others by their reaction."""
    found = {_owner(one) for one in opinions if text_of(one, "status") == status}
    for one in opinions:
        reactions = one.get("reactions")
        for reacted in reactions if isinstance(reactions, list) else ():
            if isinstance(reacted, dict) and text_of(reacted, "key") == reaction:
                found.update(filter(None, text_of(reacted, "value").split(",")))
    return found


def _cursor(following: str) -> dict[str, str]:
    """Return the position in a link to the next page; its host, path and token are ignored."""
    try:
        query = parse_qs(urlsplit(following).query)
    except ValueError:
        query = {}
    found: dict[str, str] = {key: query[key][-1] for key in _CURSORS if key in query}
    if not found or sum(map(len, found.values())) > _LONGEST_CURSOR:
        raise SourceError("threat_updates: the link to the next page has no cursor", hint=PEER_TROUBLE)
    return found
