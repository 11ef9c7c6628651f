"""NCMEC's Hash Sharing API, version 2, as far as it is read, and its votes.

Entries come in an order that has nothing to do with time. A page is a position in the range: an entry that changes
while a client pages leaves the range, and the others move up. ``next`` is evaluated as it comes, so a client that
changes ``to`` skips entries, as happened with the real one.
"""

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import parse_qs
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from partners.model import Model, Stated
from partners.server import Asked, FakePartner, Reply

NAMESPACE = "https://hashsharing.ncmec.org/hashsharing/v2"
USERNAME, PASSWORD = "example-esp", "correct-horse-battery"
MEMBERS = {"7": "Example Hotline", "9": "B"}
CLASSIFICATIONS = ("A1", "A2", "B1", "B2", "")
REASON = "01234567-0000-0000-0000-000000000000"

State = dict[tuple[str, str], tuple[str, frozenset[tuple[str, str]]]]
"""By list and entry: label, and (algorithm, hexadecimal) of each digest."""


def stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())


def kind_of(stated: Stated) -> str:
    return "video" if stated.number % 3 == 0 else "image"


def member_of(stated: Stated) -> str:
    return "7" if stated.number % 2 else "9"


def classification(stated: Stated) -> str:
    return CLASSIFICATIONS[(stated.number + stated.version) % len(CLASSIFICATIONS)]


def fingerprints(stated: Stated) -> dict[str, str]:
    """The digests of a state by algorithm; an update may carry fewer than the state before."""
    found = {"md5": stated.hexadecimal("md5")}
    if stated.version % 2 == 0:
        found["sha1"] = stated.hexadecimal("sha1")
    if kind_of(stated) == "image":
        found["pdq"] = stated.hexadecimal("pdq")
        if stated.number % 4 == 0:
            found["photodna"] = stated.hexadecimal("photodna")
    return found


class FakeNcmec(FakePartner):
    """The server. ``page`` entries make a page."""

    def __init__(self, model: Model, page: int = 1000) -> None:
        super().__init__(model)
        self.page = page
        self.base = "/hashsharing"
        self.votes: dict[int, str] = {}
        """XML of the feedback of an entry, by number"""
        self.more: dict[int, str] = {}
        """XML to add to the fingerprints of an entry"""
        self.extra = ""
        """XML to add to the images of the first page"""
        self.large: dict[str, bytes] = {}
        """large fingerprints by path"""
        self.upper = False
        self.received: list[tuple[str, str]] = []
        """votes: path, and the kind of vote with its reasons"""
        self.order: Callable[[Stated], object] = lambda stated: hashlib.md5(b"%d" % stated.number).digest()

    def restart(self, model: Model) -> None:
        super().restart(model)
        self.votes.clear()
        self.more.clear()

    @property
    def state(self) -> State:
        """The live entries as lists should have them."""
        return {
            (f"{kind_of(one)}s", f"{member_of(one)}/a-{one.number}"): (
                classification(one),
                frozenset(fingerprints(one).items()),
            )
            for one in self.model.live
        }

    def answer(self, asked: Asked) -> Reply:  # noqa: PLR0911 - one for each call
        token = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        if asked.headers.get("authorization") != f"Basic {token}":
            return Reply(b"", 401, {"WWW-Authenticate": "Basic"}, "text/plain")
        path = asked.path.removeprefix(self.base)
        if path in self.large:
            return Reply(self.large[path], kind="application/octet-stream")
        parts = path.strip("/").split("/")
        if parts[:1] != ["v2"]:
            return Reply(b"", 404)
        match parts[1:]:
            case ["status"]:
                body = f"<ipAddress>127.0.0.1</ipAddress><username>{USERNAME}</username>{self._member('7')}"
                return self._xml("status", body)
            case ["members"]:
                return self._xml("members", "".join(map(self._member, MEMBERS)))
            case ["entries"]:
                return self._entries(parse_qs(asked.target.partition("?")[2]))
            case ["feedback", kind, "reasons"]:
                reason = f'<reason guid="{REASON}" name="Not CSAM" type="{kind}"/>'
                return self._xml("reasons", f"<availableFeedbackReasons>{reason}</availableFeedbackReasons>")
            case ["entries", _, _, _, "feedback"] if asked.method == "PUT":
                self.received.append((path, " ".join(self._vote(asked.body))))
                return Reply(b"", kind="application/xml")
        return Reply(b"", 404)

    def _vote(self, body: bytes) -> list[str]:
        root = ElementTree.fromstring(body)
        found = [element.tag.partition("}")[2] for element in root]
        return found + [element.text or "" for element in root.iter(f"{{{NAMESPACE}}}guid")]

    def _member(self, number: str) -> str:
        return f'<member id="{number}">{MEMBERS[number]}</member>'

    def _xml(self, root: str, body: str) -> Reply:
        head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
        return Reply(f'{head}<{root} xmlns="{NAMESPACE}">{body}</{root}>'.encode(), kind="application/xml")

    def _entries(self, query: dict[str, list[str]]) -> Reply:
        begin, end = seconds(query["from"][0]), seconds(query["to"][0])
        inside = [one for one in self.model.records.values() if begin < one.changed <= end]
        inside.sort(key=self.order)  # type: ignore[arg-type]
        start = int(query.get("start", ["1"])[0])
        most = int(query.get("max", [str(len(inside))])[0])
        shown = inside[start - 1 : start - 1 + self.page]
        parts = []
        for kind in ("image", "video"):
            some = [one for one in shown if kind_of(one) == kind]
            newest = f' maxTimestamp="{stamp(max(one.changed for one in some))}"' if some else ""
            extra = self.extra if kind == "image" and some and start == 1 else ""
            parts.append(f'<{kind}s count="{len(some)}"{newest}>{"".join(map(self._entry, some))}{extra}</{kind}s>')
        following = start + self.page
        if following <= most:
            address = f"/v2/entries?from={stamp(begin)}&to={stamp(end)}&start={following}&size={self.page}&max={most}"
            parts.append(f"<paging><next>{escape(address)}</next></paging>")
        return self._xml("queryResult", "".join(parts))

    def _entry(self, one: Stated) -> str:
        kind, key = kind_of(one), f"<id>a-{one.number}</id>"
        member, time = self._member(member_of(one)), f"<timestamp>{stamp(one.changed)}</timestamp>"
        if one.deleted:
            return f"<deleted{kind.title()}>{member}{key}{time}</deleted{kind.title()}>"
        first, second = (key, time) if one.number % 2 else (time, key)
        label = classification(one)
        middle = f"<classification>{label}</classification>" if label else ""
        return (
            f"<{kind}>{member}{first}{second}{middle}{self._fingerprints(one)}{self.votes.get(one.number, '')}</{kind}>"
        )

    def _fingerprints(self, one: Stated) -> str:
        found = ""
        for algorithm, digest in fingerprints(one).items():
            tag, text = algorithm, digest.upper() if self.upper else digest
            if algorithm == "photodna":
                tag, text = "pdna", base64.b64encode(bytes.fromhex(digest)).decode() if one.number % 8 else text
            found += f"<{tag}>{text}</{tag}>"
        return f"<fingerprints>{found}{self.more.get(one.number, '')}</fingerprints>"
