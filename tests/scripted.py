"""A partner that signs nothing, in memory: it keeps a log of what it stated, and a source reads it page by page.

Everything after the adapter is real: the road, files, the catalog, keys. Faults are asked for in advance.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import JsonValue

from syncd.errors import SourceError
from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.format.freshness import SourceAges
from syncd.model import Algorithm, ListName
from syncd.sources.source import Memory, check_kind
from syncd.sources.statements import Fingerprint, ListKind, Page, PollRequest, Record

IMAGES, VIDEOS = ListName("images"), ListName("videos")
SHA256, MD5 = Algorithm.SHA256, Algorithm.MD5


def fingerprint(number: int, algorithm: Algorithm = SHA256) -> Fingerprint:
    """A fingerprint made from a number."""
    return Fingerprint(algorithm, number.to_bytes(4, "big") * (algorithm.width // 4))


def record(
    entry: str, *numbers: int, label: str = "A", name: ListName = IMAGES, algorithm: Algorithm = SHA256
) -> Record:
    """A record whose fingerprints are made from numbers; without numbers it is gone."""
    return Record(name, entry, label, tuple(fingerprint(number, algorithm) for number in numbers))


@dataclass
class ScriptedPartner:
    """What the partner states, in order. ``forgotten``: positions before it can no longer be asked for."""

    log: list[Record] = field(default_factory=list)
    forgotten: int = 0
    trimmed: int = 0
    """positions before the first record of the log"""
    page: int = 2
    cut_after: int | None = None
    """records after which the next poll fails, once"""
    asked: list[JsonValue] = field(default_factory=list)
    """the checkpoint of each poll"""

    def state(self, *records: Record) -> None:
        """State further records."""
        self.log += records

    def forget(self) -> None:
        """Forget tombstones and superseded records: a reader that has not read to here yet must read all again."""
        end = self.trimmed + len(self.log)
        last = {(one.list, one.entry): one for one in self.log}
        self.log[:] = [one for one in last.values() if one.fingerprints]
        self.trimmed, self.forgotten = end - len(self.log), end

    def content(self, name: ListName = IMAGES) -> dict[tuple[str, bytes, str], str]:
        """The list as the model has it: labels by (algorithm, digest, entry)."""
        last = {(one.list, one.entry): one for one in self.log}
        return {
            (algorithm, digest, entry): one.label
            for (of, entry), one in last.items()
            if of == name
            for algorithm, digest in one.fingerprints
        }


@dataclass
class ScriptedPoll:
    """One walk through the log: see `syncd.sources.statements.Poll`."""

    partner: ScriptedPartner
    start: int
    whole: bool
    checkpoint: JsonValue = None
    set_aside: Mapping[str, int] = field(default_factory=dict)

    def pages(self) -> Iterator[Page]:
        """Yield the records since the start, some at a time."""
        log, size = list(self.partner.log), self.partner.page
        for at in range(self.start, len(log), size):
            cut = self.partner.cut_after
            if cut is not None and at + size > cut:
                self.partner.cut_after = None
                raise SourceError("the partner cut a page")
            records = log[at : at + size]
            yield Page(records, repr([one.entry for one in records]).encode(), at + len(records), len(log))
        self.checkpoint = {"at": self.partner.trimmed + len(log)}


@dataclass(frozen=True)
class ScriptedSource:
    """The operator's configuration of the partner: see `syncd.sources.statements.StatedSource`."""

    partner: ScriptedPartner = field(repr=False)
    name: str = "ncp"
    shape: JsonValue = None
    kinds: Mapping[ListName, ListKind] = field(default_factory=lambda: {IMAGES: ListKind("image")})
    deadline: float = 20.0
    caps: Caps = DEFAULT_CAPS
    ages: SourceAges | None = None
    type: str = "scripted"

    @property
    def lists(self) -> tuple[ListName, ...]:
        """All lists."""
        return tuple(self.kinds)

    def check(self) -> None:
        """Nothing to check."""

    def check_trust(self, memory: Memory) -> None:
        """As every source that signs nothing."""
        check_kind(self, memory)

    @contextmanager
    def poll(self, request: PollRequest) -> Iterator[ScriptedPoll]:
        """Walk the log from the checkpoint, or from the beginning if it is too old."""
        self.partner.asked.append(request.checkpoint)
        at = request.checkpoint["at"] if isinstance(request.checkpoint, dict) else None
        assert at is None or isinstance(at, int)
        whole = at is None or at < self.partner.forgotten
        yield ScriptedPoll(self.partner, 0 if whole or at is None else at - self.partner.trimmed, whole)
