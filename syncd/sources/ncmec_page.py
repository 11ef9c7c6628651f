"""The answers of NCMEC's Hash Sharing API, version 2: XML. Pure.

An entry is a child of ``images`` or ``videos``; the order of its own children varies. `Entries` are in the order of the
answer, which is not that of time.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from syncd.errors import SourceError
from syncd.fetch.http_errors import PEER_TROUBLE
from syncd.model import Algorithm, ListName
from syncd.sources.documents import parse_xml
from syncd.sources.partner import IMAGES, VIDEOS
from syncd.sources.selection import RecordSelection
from syncd.sources.statements import Fingerprint
from syncd.sources.values import SetAside, clean_label, entry_key, read_fingerprint, sha256_of, unique

INLINE: Final = {
    "MD5": Algorithm.MD5,
    "SHA1": Algorithm.SHA1,
    "PDQ": Algorithm.PDQ,
    "PDNA": Algorithm.PHOTODNA,
}
"""Fingerprints whose text is a digest that syncd knows, by the API's names."""
NETCLEAN: Final = "NETCLEAN"
"""A fingerprint whose text has no public form: it is carried by the SHA-256 of its text."""
LINKED: Final = {
    "VIDENTIFIER": "videntifier",
    "TMK_PDQF": "tmk_pdqf",
    "SSVH_PDNA": "ssvh_pdna",
    "SSVH_SAFER_HASH": "ssvh_safer_hash",
}
"""Large fingerprints, which come as links, and the first part of their algorithms' names."""
FINGERPRINTS: Final = (*INLINE, NETCLEAN, *LINKED)
"""All that may be configured."""

_NAMES: Final = {"TMKSAFERHASH": "SSVH_SAFER_HASH", **{name.replace("_", ""): name for name in FINGERPRINTS}}
"""Names without ``_``, ``-`` and case. The documentation also prints TMK_SAFER_HASH."""
_LISTS: Final = frozenset({"images", "videos"})
_KINDS: Final = {"image": (IMAGES, False), "video": (VIDEOS, False)} | {
    "deletedimage": (IMAGES, True),
    "deletedvideo": (VIDEOS, True),
}
_NEXT: Final = re.compile(r"/[\x21-\x7e]{0,4000}")
_START: Final = re.compile(r"[?&]start=([0-9]{1,12})(?:&|$)")
_MAX: Final = re.compile(r"[?&]max=([0-9]{1,12})(?:&|$)")


class Link(NamedTuple):
    """A large fingerprint that has to be fetched."""

    name: str
    """as in `LINKED`"""
    target: str


class NcmecEntry(NamedTuple):
    """The latest state of one entry, as far as it is taken."""

    list: ListName
    entry: str
    label: str
    fingerprints: tuple[Fingerprint, ...]
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Entries:
    """One page of entries, parsed but not read yet."""

    parts: tuple[Any, ...]
    """the elements of the answer"""
    read: int
    """entries in the answer, taken or not"""
    next: str
    """the target of the next page; "" if this is the last one"""
    ahead: int
    """the number of entries on the pages that follow, as ``next`` states it; 0 if it does not"""


def parse_page(body: bytes) -> Entries:
    """Parse a page. Raises `CutShortError`, `FeedError`, `SourceError`."""
    root = parse_xml(body, "entries")
    if _local(root.tag) != "queryResult":
        raise SourceError("entries: the answer is not a queryResult", hint=PEER_TROUBLE)
    read, following = 0, ""
    for part in root:
        name = _local(part.tag)
        if name in _LISTS:
            read += len(part)
        elif name == "paging":
            following = next(((child.text or "").strip() for child in part if _local(child.tag) == "next"), "")
    if following and not _NEXT.fullmatch(following):
        raise SourceError("entries: the link to the next page is not a path", hint=PEER_TROUBLE)
    start, last = _START.search(following), _MAX.search(following)
    ahead = max(0, int(last[1]) - int(start[1]) + 1) if start and last else 0
    return Entries(tuple(root), read, following, ahead)


class NcmecReader:
    """Reads pages as one source is configured: its lists, fingerprints and filters."""

    def __init__(self, lists: frozenset[ListName], wanted: frozenset[str], selection: RecordSelection) -> None:
        self._lists, self._wanted, self._selection = lists, wanted, selection
        self.aside = SetAside()

    def read(self, page: Entries) -> list[NcmecEntry]:
        """Return the entries of a page, as far as they are taken."""
        entries: list[NcmecEntry] = []
        for part in page.parts:
            name = _local(part.tag)
            if name in _LISTS:
                entries.extend(self._entries(part))
            elif name != "paging":
                self.aside.unknown("part of an answer", name)
        return entries

    def _entries(self, part: Any) -> Iterator[NcmecEntry]:
        for child in part:
            kind = _local(child.tag)
            name, deleted = _KINDS.get(kind.lower(), (None, False))
            if name is None:
                self.aside.unknown("kind of entry", kind)
            elif name in self._lists and (entry := self._entry(child, name, deleted)):
                yield entry

    def _entry(self, element: Any, name: ListName, deleted: bool) -> NcmecEntry | None:
        member = own = label = ""
        fingerprints = feedback = None
        for child in element:
            match _local(child.tag):
                case "member":
                    member = child.get("id", "")
                case "id":
                    own = (child.text or "").strip()
                case "classification":
                    label = (child.text or "").strip()
                case "fingerprints":
                    fingerprints = child
                case "feedback":
                    feedback = child
                case "timestamp":
                    pass
                case other:
                    self.aside.unknown("field", other)
        key = entry_key(f"{member}/{own}" if member and own else "", self.aside)
        if key is None:
            return None
        taken = self._selection.takes_member(member) and self._selection.takes_classifications([label])
        if deleted or fingerprints is None or not taken:
            return NcmecEntry(name, key, "", (), ())
        votes = _votes(feedback) if feedback is not None and self._selection.counts_votes else {}
        found, links = self._fingerprints(fingerprints, votes)
        return NcmecEntry(name, key, clean_label(label, self.aside), found, links)

    def _fingerprints(
        self, element: Any, votes: dict[str, tuple[set[str], set[str]]]
    ) -> tuple[tuple[Fingerprint, ...], tuple[Link, ...]]:
        found: list[Fingerprint | None] = []
        links: list[Link] = []
        for child in element:
            tag, text, target = _local(child.tag), child.text, child.get("href")
            name = _api_name(tag)
            if not (text and text.strip()) and not target:
                continue  # neither text nor link: not a fingerprint
            if name not in self._wanted:
                if name in FINGERPRINTS:
                    self.aside.add(f"{name}: not among the configured fingerprints")
                else:
                    self.aside.unknown("fingerprint", tag)
                continue
            in_favour, against = votes.get(name, _NO_VOTES)
            if not self._selection.takes_votes(len(in_favour), len(against)):
                continue
            if name in INLINE and text:
                found.append(read_fingerprint(INLINE[name], text, self.aside))
            elif name == NETCLEAN and text:
                found.append(sha256_of("netclean", text.strip().encode()))
            elif name in LINKED and target and _NEXT.fullmatch(target):
                links.append(Link(LINKED[name], target))
            else:
                self.aside.add(f"{name}: neither a digest nor a link to one")
        return unique(found), tuple(dict.fromkeys(links))


_NO_VOTES: Final[tuple[set[str], set[str]]] = (set(), set())


def _votes(feedback: Any) -> dict[str, tuple[set[str], set[str]]]:
    """Return the members in favour and against, by the API's name of the fingerprint.

    The members of a reason may be beside it or in it, and their number need not be that of the reasons: every member
    anywhere in a negative block has voted against.
    """
    votes: dict[str, tuple[set[str], set[str]]] = {}
    for block in feedback:
        tag = _local(block.tag)
        if tag not in {"affirmativeFeedback", "negativeFeedback"}:
            continue
        both = votes.setdefault(_api_name(block.get("type", "")), (set(), set()))
        side = both[tag == "negativeFeedback"]
        side.update(child.get("id", "") for child in block.iter("{*}member"))
    return votes


@lru_cache(maxsize=1024)
def _local(tag: Any) -> str:
    """Return the name of an element without its namespace."""
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


@lru_cache(maxsize=1024)
def _api_name(name: str) -> str:
    """Return the API's name of a fingerprint from any of its spellings; the same text if it is not known."""
    return _NAMES.get(name.replace("_", "").replace("-", "").replace("+", "").upper(), name)
