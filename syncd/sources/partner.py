"""The common part of the adapters for partners that sign nothing.

Each is a frozen dataclass of plain values, as every source. Secrets are in files, which a poll reads; they are sent in
headers if the partner takes them there, and they are in no message and in no answer that is kept.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Final

from pydantic import JsonValue

from syncd.fetch import Deadline, Endpoint
from syncd.fetch.partner import PartnerPeer
from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.format.freshness import SourceAges
from syncd.format.manifest import Media, Purpose
from syncd.model import ListName
from syncd.sources.credentials import secret
from syncd.sources.selection import NO_FILTER, RecordFilter, RecordSelection
from syncd.sources.source import Memory, check_kind
from syncd.sources.statements import ListKind, PollRequest
from syncd.sources.values import whole_number

IMAGES: Final = ListName("images")
VIDEOS: Final = ListName("videos")

_SHORTEST_REDACTED: Final = 8
_REDACTED: Final = b"***"


@dataclass(frozen=True, kw_only=True)
class PartnerSource:
    """The configuration that every adapter has."""

    MEDIA: ClassVar[Mapping[ListName, Media]]
    """every list of the partner"""
    MAPPING: ClassVar[int] = 1
    """the edition of the rules that turn this partner's records into rows: a change of it fetches everything again"""

    name: str
    url: str
    lists: tuple[ListName, ...]
    purpose: Purpose = "live"
    include: RecordFilter = NO_FILTER
    exclude: RecordFilter = NO_FILTER
    ca: Path | None = None
    proxy: str | None = None
    deadline: float = 7200.0
    """seconds that a whole poll may take: the first one reads everything"""
    caps: Caps = DEFAULT_CAPS
    ages: SourceAges | None = None

    @property
    def type(self) -> str:
        """Its kind, as in the configuration."""
        raise NotImplementedError

    @property
    def kinds(self) -> Mapping[ListName, ListKind]:
        """See `StatedSource.kinds`."""
        return {name: ListKind(self.MEDIA[name], self.purpose) for name in self.lists}

    @property
    def shape(self) -> JsonValue:
        """See `StatedSource.shape`."""
        return {
            "mapping": self.MAPPING,
            "url": self.url,
            "lists": words(self.lists),
            "include": _plain(self.include),
            "exclude": _plain(self.exclude),
        }

    @property
    def selection(self) -> RecordSelection:
        """The filters, ready to use."""
        return RecordSelection(self.include, self.exclude)

    def secrets(self) -> Mapping[str, Path]:
        """Return the files with secrets, by their names for messages."""
        raise NotImplementedError

    def check(self) -> None:
        """Check that every configured file can be used. Raises `ConfigError`."""
        for what, path in self.secrets().items():
            self._secret(what, path)

    def check_trust(self, memory: Memory) -> None:
        """See `Source.check_trust`: there is nothing to trust except the connection."""
        check_kind(self, memory)

    def read_secrets(self) -> dict[str, str]:
        """Return the secrets by their names. Raises `ConfigError`."""
        return {what: self._secret(what, path) for what, path in self.secrets().items()}

    def _secret(self, what: str, path: Path) -> str:
        return secret(path, f"the {what} of source {self.name}")

    @contextmanager
    def connected(self, request: PollRequest, headers: Mapping[str, str]) -> Iterator[PartnerPeer]:
        """Open the connections of one poll. Raises `UsageError`."""
        endpoint = Endpoint(self.url, ca=self.ca, proxy=self.proxy)
        with PartnerPeer(endpoint, Deadline(self.deadline), headers=headers, meter=request.meter) as peer:
            yield peer


class Redaction:
    """Removes secrets from answers before they are kept: a partner may repeat what we sent."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = [text.encode() for text in secrets if len(text) >= _SHORTEST_REDACTED]

    def __call__(self, body: bytes) -> bytes:
        """Return the body without the secrets."""
        for text in self._secrets:
            body = body.replace(text, _REDACTED)
        return body

    def reasons(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return counts by reason without the secrets: a partner may repeat one as the name of a field."""
        return {self(reason.encode()).decode(): count for reason, count in counts.items()}


def reached_at(checkpoint: JsonValue, key: str) -> tuple[int | None, int]:
    """Return the position ``key`` of a checkpoint, and the time of its poll; None if it cannot be read."""
    if isinstance(checkpoint, dict):
        reached, at = whole_number(checkpoint.get(key)), whole_number(checkpoint.get("at"))
        if reached is not None and at is not None:
            return reached, at
    return None, 0


def words(found: Iterable[str]) -> JsonValue:
    """Return words in any order as a value of `StatedSource.shape`."""
    return [*sorted(found)]


def _plain(filters: RecordFilter) -> dict[str, JsonValue]:
    return {key: words(value) if isinstance(value, tuple) else value for key, value in asdict(filters).items()}
