"""The protocol of a source that signs nothing: records that a partner states, in pages, and the checkpoint after them.

An adapter of this protocol is also a `syncd.sources.source.Source`. It only reads: the road turns records into a batch,
and keeps the raw answers as private evidence. Of an entry, the last record of a poll wins, and a repeated one changes
nothing, so an adapter that was interrupted starts again from its last checkpoint.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from pydantic import JsonValue

from syncd.fetch import Meter
from syncd.format.batch import Batch
from syncd.format.manifest import Media, Purpose
from syncd.model import Algorithm, ListName
from syncd.sources.source import Source


class Fingerprint(NamedTuple):
    """One digest of a record, in the exact width of its algorithm if that is known."""

    algorithm: Algorithm
    digest: bytes


class Record(NamedTuple):
    """A partner's record as it stands now. It replaces its predecessor whole; without fingerprints it is gone."""

    list: ListName
    entry: str
    """the partner's own key; at most 256 bytes in UTF-8"""
    label: str
    """the partner's own words; at most 4,096 bytes in UTF-8"""
    fingerprints: tuple[Fingerprint, ...]


@dataclass(frozen=True)
class Page:
    """One answer of the partner."""

    records: Sequence[Record] = field(repr=False)
    answer: bytes = field(repr=False)
    """the raw body without secrets, which is kept as private evidence"""
    done: int = 0
    """records read so far, for progress"""
    total: int = 0
    """records expected in all; 0 if not known"""


class Poll(Protocol):
    """One walk through the partner's answers, from a checkpoint to now."""

    @property
    def whole(self) -> bool:
        """True if the pages state the whole content: a row that they do not state is removed. Known from the start.

        Always true without a checkpoint. True with one if it is too old to be used; then it is ignored.
        """

    def pages(self) -> Iterator[Page]:
        """Yield the pages, to the end. Raises `SourceError`, `FeedError`: then nothing of the poll is used."""

    @property
    def checkpoint(self) -> JsonValue:
        """The position from which the partner is asked next time. Valid once `pages` has ended; contains no secret."""

    @property
    def set_aside(self) -> Mapping[str, int]:
        """Fingerprints and fields that were not used, counted by a short reason for people; never a digest."""


@dataclass(frozen=True)
class StatedFile:
    """One file of a partner as a batch, and the file itself, which is kept as private evidence."""

    list: ListName
    batch: Batch
    path: Path | None
    """None for the empty list to which the first increments apply"""
    set_aside: Mapping[str, int] = field(default_factory=dict)
    """as in `Poll`"""


@runtime_checkable
class FilePoll(Protocol):
    """One look at a partner's files, from a checkpoint to now: a poll of batches instead of records."""

    def files(self) -> Iterator[StatedFile]:
        """Yield the new files in order, to the end. Raises as `Poll.pages`.

        Without a checkpoint the first of each list is a whole list. A file may be removed once the next is asked for;
        the columns of its batch stay in the scratch folder.
        """

    @property
    def checkpoint(self) -> JsonValue:
        """As in `Poll`."""


@dataclass(frozen=True)
class PollRequest:
    """The input of a poll."""

    checkpoint: JsonValue
    """that of the last poll whose records are all durable; None: from the start"""
    now: datetime
    scratch: Path
    """an empty private folder for large answers, removed afterwards"""
    meter: Meter
    """counts every byte received"""


@dataclass(frozen=True)
class ListKind:
    """The media and purpose of a list, for its manifest."""

    media: Media = "any"
    purpose: Purpose = "live"


@runtime_checkable
class StatedSource(Source, Protocol):
    """A source whose lists nobody signs."""

    @property
    def kinds(self) -> Mapping[ListName, ListKind]:
        """Every list that this source has as it is configured."""

    @property
    def shape(self) -> JsonValue:
        """All of the configuration that decides which rows its lists have: filters, lists, mapping.

        If it differs from that of the last poll, the next one starts from the beginning and replaces the lists.
        """

    def poll(self, request: PollRequest) -> AbstractContextManager[Poll]:
        """Open a poll; a source of files opens a `FilePoll`. Raises `UsageError`, `ConfigError`, `SourceError`."""
