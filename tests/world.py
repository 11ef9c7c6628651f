"""A small world for stories: a partner that publishes, an operator that syncs, a matcher that pulls.

Everything is real (files, keys, signatures, the catalog); only the clock is ours, and the line between them is a
folder, or whatever peer a test puts in its place.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.database_address import DatabaseAddress
from syncd.feed.folder import FeedFolder
from syncd.fetch import Endpoint
from syncd.limits import DEFAULT_LIMITS, ListLimits
from syncd.listfile import ListFiles
from syncd.matcher import Matcher
from syncd.matcher.pull import PullResult, pull
from syncd.model import Hit, ListName
from syncd.operate.setup import init
from syncd.pipeline.outcome import SyncOutcome
from syncd.pipeline.publisher import Publisher, open_publisher
from syncd.pipeline.sync import sync_source
from syncd.publish import author
from syncd.publish.request import Published
from syncd.service.leading import lead_alone
from syncd.sources.signed_feed import SignedFeed
from syncd.store.settings import BucketSettings
from syncd.trust import keys

IMAGES = ListName("images")
HEAD = ListName("iwf.images")
START = datetime(2026, 1, 1, 12, tzinfo=UTC)

Row = tuple[str, str, str, str]
"""algorithm, digest, entry, label"""


def row(number: int, label: str = "A", algorithm: str = "sha256") -> Row:
    """A row made from a number: entry ``e<number>``."""
    return (algorithm, hashlib.new(algorithm, str(number).encode()).hexdigest(), f"e{number}", label)


def rows(start: int, stop: int) -> list[Row]:
    """Rows of several numbers, labelled A, B and C in turn."""
    return [row(number, "ABC"[number % 3]) for number in range(start, stop)]


@dataclass
class Clock:
    """A clock that stands still until it is told to go on."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **kinds: float) -> None:
        """Let time pass, as `timedelta` takes it."""
        self.now += timedelta(**kinds)


@dataclass
class World:
    """Partner, operator and matcher in one folder; one that is there already is opened."""

    base: Path
    clock: Clock = field(default_factory=Clock)
    url: str = ""
    """where the operator finds the partner; the folder itself unless a test says otherwise"""
    signers: keys.Signers = field(default_factory=dict)
    """what the partner signs with; by default the online keys on disk"""
    limits: ListLimits = DEFAULT_LIMITS
    """the operator's limits, for every list"""
    bucket: BucketSettings | None = None
    """the operator's store, if it is not the state folder"""
    database: DatabaseAddress | None = None
    """the operator's catalog; None: a file in the state folder"""

    def __post_init__(self) -> None:
        self.partner = FeedFolder(self.base / "partner")
        self.partner_keys = self.base / "partner.keys"
        self.partner_offline = self.base / "partner-offline"
        self.root = self.partner.path(author.ROOT_FILE)
        self.state = StateFolder(self.base / "state", self.bucket, self.database)
        self.offline = self.base / "operator-offline"
        self.operator_root = self.state.feed.path(author.ROOT_FILE)
        self.copy = self.base / "copy"
        self.mirror = self.base / "mirror"
        self.url = self.url or self.partner.root.as_uri()
        if not self.base.joinpath("partner").exists():
            self._make()

    def _make(self) -> None:
        author.init(self.partner.root, self.partner_offline, self.partner_keys, count=1, threshold=1, now=self.clock())
        init(self.state, self.offline, count=1, threshold=1, now=self.clock())

    def publish(
        self, *, full: Iterable[Row] = (), add: Iterable[Row] = (), remove: Iterable[Row] = (), name: ListName = IMAGES
    ) -> Published:
        """The partner publishes."""
        files = ListFiles(
            full=self._file("full", full), add=self._file("add", add), remove=self._file("remove", remove)
        )
        return author.publish_batch(self.partner, name, files.read, self.partner_signers(), self.clock())

    def partner_signers(self) -> keys.Signers:
        """The partner's online keys."""
        return self.signers or keys.load_signers(self.partner_keys, keys.ONLINE_ROLES)

    def _file(self, kind: str, content: Iterable[Row]) -> Path | None:
        lines = [",".join(one) for one in content]
        if not lines:
            return None
        path = self.base / f"{kind}-{os.getpid()}.csv"
        path.write_text("\n".join(["algorithm,digest,entry,label", *lines, ""]))
        return path

    def source(self, **changes: object) -> SignedFeed:
        """The operator's configuration of the partner."""
        settings: dict[str, object] = {"name": "iwf", "url": self.url, "root": self.root, "deadline": 20.0, **changes}
        return SignedFeed(**settings)  # type: ignore[arg-type]  # values as a test gives them

    @contextmanager
    def publisher(self) -> Iterator[Publisher]:
        """The operator's state, open."""
        with (
            open_publisher(self.state, limits=lambda _source, _name: self.limits) as publisher,
            self._leading(publisher.catalog),
        ):
            yield publisher

    def _leading(self, catalog: Catalog) -> AbstractContextManager[None]:
        """Lead, as commands do, once one of them has led: before that anybody may publish."""
        led = catalog.leader() if self.database else None
        if led is None or led.in_force:
            return nullcontext()
        return lead_alone(catalog, "a test", self.state.store_place)

    def sync(self, *, dry_run: bool = False, **changes: object) -> SyncOutcome:
        """The operator syncs."""
        with self.publisher() as publisher:
            return sync_source(publisher, self.source(**changes), self.clock, dry_run=dry_run)

    def pull(self, url: str = "") -> PullResult:
        """The matcher's host pulls."""
        endpoint = Endpoint(url or self.state.feed.root.as_uri())
        return pull(endpoint, self.operator_root.read_bytes(), self.copy, now=self.clock(), deadline=20.0)

    def follow(self, url: str = "", *, deadline: float = 20.0) -> PullResult:
        """A matcher's host that pulls straight from the partner."""
        return pull(Endpoint(url or self.url), self.root.read_bytes(), self.mirror, now=self.clock(), deadline=deadline)

    def matcher(self) -> Matcher:
        """A matcher on the pulled copy."""
        return Matcher.open(self.copy, clock=self.clock)

    def hits(self, number: int, matcher: Matcher | None = None) -> list[Hit]:
        """What a matcher answers for the digest of a number."""
        return (matcher or self.matcher()).lookup("sha256", row(number)[1])
