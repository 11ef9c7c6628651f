"""Tech Against Terrorism's hash list, TCAP version 2: ``type = "tcap"``. Terrorist content, not child abuse.

Records come in the order of their last change, and each page states the position after its last record. The next page
is asked for from there, because a number of records to skip would miss one whenever a record changes meanwhile; if a
page states no new position, ``next`` is followed: its limit, offset and order, never its host.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import JsonValue

from syncd.errors import HttpStatusError, SourceError
from syncd.fetch.http_errors import PEER_TROUBLE
from syncd.fetch.partner import PartnerCall, PartnerPeer
from syncd.format.manifest import Media
from syncd.model import Algorithm, ListName
from syncd.sources.documents import MOST_BYTES, parse_json
from syncd.sources.json_records import JsonRecordReader
from syncd.sources.partner import PartnerSource, Redaction
from syncd.sources.statements import Page, PollRequest, Record
from syncd.sources.values import entry_key, read_fingerprint, text_of

CONTENT: Final = ListName("content")

_ALGORITHMS: Final = {
    "MD5": Algorithm.MD5,
    "SHA256": Algorithm.SHA256,
    "SHA512": Algorithm.SHA512,
    "PDQ": Algorithm.PDQ,
}
_EXPIRED: Final = frozenset({401, 403})
_LONGEST_POSITION: Final = 128
_DIGITS: Final = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True)
class Tcap(PartnerSource):
    """The list of all ideologies, with our account."""

    MEDIA: ClassVar[Mapping[ListName, Media]] = {CONTENT: "any"}

    username: str
    password_file: Path
    lists: tuple[ListName, ...] = (CONTENT,)
    page_size: int = 1000
    list_path: str = "hash-list/v2/all"
    """below the address; the public client uses ``api/hash-list/v2/all``"""
    type: Literal["tcap"] = "tcap"

    def secrets(self) -> Mapping[str, Path]:
        """Return the files with secrets, by their names for messages."""
        return {"password": self.password_file}

    @contextmanager
    def poll(self, request: PollRequest) -> Iterator["TcapPoll"]:
        """See `StatedSource.poll`."""
        password = self.read_secrets()["password"]
        with self.connected(request, {}) as peer:
            yield TcapPoll(self, peer, request, password)


class TcapReader(JsonRecordReader):
    """Reads the items of ``results``."""

    FIELDS = frozenset(
        {"id", "hash_digest", "algorithm", "ideology", "file_type", "deleted", "updated_on", "created_on"}
    )

    def _record(self, item: Mapping[str, Any]) -> Record | None:
        entry = entry_key(text_of(item, "id"), self.aside)
        if entry is None:
            return None
        ideology = text_of(item, "ideology")
        fingerprint = None
        if item.get("deleted") is not True and self._selection.takes_classifications([ideology]):
            algorithm = text_of(item, "algorithm")
            known = _ALGORITHMS.get(algorithm.upper().replace("-", ""))
            if known is None:
                self.aside.unknown("algorithm", algorithm)
            else:
                fingerprint = read_fingerprint(known, text_of(item, "hash_digest"), self.aside)
        return self._stated(CONTENT, entry, ideology, fingerprint)


class TcapPoll:
    """One walk through the records that changed since the checkpoint."""

    def __init__(self, source: Tcap, peer: PartnerPeer, request: PollRequest, password: str) -> None:
        self._source, self._peer, self._password = source, peer, password
        self._reader = TcapReader(source.selection)
        self._token = ""
        stated = request.checkpoint
        after = stated.get("after") if isinstance(stated, dict) else None
        self._after = after if isinstance(after, str) else ""
        self.whole = not self._after
        self._done = 0

    @property
    def checkpoint(self) -> JsonValue:
        """The position after the last record."""
        return {"after": self._after}

    @property
    def set_aside(self) -> Mapping[str, int]:
        """See `Poll.set_aside`."""
        return Redaction(self._password, self._token).reasons(self._reader.aside.counts)

    def pages(self) -> Iterator[Page]:
        """See `Poll.pages`."""
        first = {"limit": str(self._source.page_size), "offset": "0", "order": "asc"}
        place, seen = first, set[tuple[str, str]]()
        while True:
            body, found = self._ask({**place, "after": self._after})
            results = found.get("results")
            if not isinstance(results, list):
                raise SourceError("the hash list: the answer has no results", hint=PEER_TROUBLE)
            self._done += len(results)
            page = self._reader.read(results)
            yield Page(page, Redaction(self._password, self._token)(body), self._done)
            following, before = found.get("next"), self._after
            self._reach(found)
            if not isinstance(following, str) or not following:
                return
            place = first if self._after != before else _place(following, place)
            if (at := (self._after, place["offset"])) in seen:
                raise SourceError("the hash list: the pages lead in a circle", hint=PEER_TROUBLE)
            seen.add(at)

    def _reach(self, found: Mapping[str, Any]) -> None:
        """Move to the position that a page states; an empty one says nothing."""
        stated = text_of(found, "checkpoint")
        if stated and stated.isascii() and stated.isprintable() and len(stated) <= _LONGEST_POSITION:
            self._after = stated

    def _ask(self, query: dict[str, str]) -> tuple[bytes, dict[str, Any]]:
        """Fetch a page, with a new log-in if the last one has expired: it lasts some minutes."""
        if self._token:
            try:
                return self._page(query)
            except HttpStatusError as error:
                if error.status not in _EXPIRED:
                    raise
        self._token = self._log_in()
        return self._page(query)

    def _page(self, query: dict[str, str]) -> tuple[bytes, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self._token}"}
        call = PartnerCall.of("the hash list", self._source.list_path, query, headers)
        return self._peer.ask(call, MOST_BYTES, lambda body: (body, parse_json(body, "the hash list")))

    def _log_in(self) -> str:
        form = {"username": self._source.username, "password": self._password, "resend": "False"}
        call = PartnerCall("the log-in", "token-auth/tcap/", form=form)
        token = text_of(self._peer.ask(call, MOST_BYTES, lambda body: parse_json(body, "the log-in")), "token")
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise SourceError("the log-in: the answer has no token", hint=PEER_TROUBLE)
        return token


def _place(following: str, place: Mapping[str, str]) -> dict[str, str]:
    """Return limit, offset and order of a link to the next page; all else of it is ignored."""
    try:
        query = parse_qs(urlsplit(following).query)
        stated = {key: query[key][-1] for key in ("limit", "offset", "order") if key in query}
    except ValueError:
        stated = {}
    offset, limit = _number(stated.get("offset", "")), _number(stated.get("limit", ""))
    if offset is None or offset <= int(place["offset"]) or stated.get("order", "asc") != "asc":
        raise SourceError("the hash list: the link to the next page leads nowhere", hint=PEER_TROUBLE)
    return {"limit": str(limit) if limit else place["limit"], "offset": str(offset), "order": "asc"}


def _number(text: str) -> int | None:
    return int(text) if _DIGITS.fullmatch(text) else None
