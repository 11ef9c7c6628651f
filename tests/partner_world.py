"""Partners that sign nothing, as an operator has them: fake servers, a configuration file, the whole road, a matcher.

The time of the operator and the matcher is that of the partners.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from partners import ncmec, stopncii, tcap, threatexchange
from partners.drop import FILE, FakeDrop
from partners.model import Model
from partners.ncmec import FakeNcmec
from partners.server import FakePartner
from partners.stopncii import FakeStopNcii
from partners.tcap import FakeTcap
from partners.threatexchange import FakeThreatExchange
from syncd.catalog.records import OriginRecord, head_name
from syncd.config import Config
from syncd.config_file import load
from syncd.feed import layout
from syncd.format.manifest import Manifest
from syncd.limits import NO_LIMITS
from syncd.matcher import Matcher
from syncd.model import ListName
from syncd.pipeline.answers import read_answers
from syncd.pipeline.outcome import SyncOutcome
from syncd.pipeline.preparation import Prepare
from syncd.pipeline.prepare import prepare
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.sync import sync_source
from world import Clock, World

PAGE = 3
"""records of one page"""


class Row(NamedTuple):
    """One row that a partner states."""

    list: str
    algorithm: str
    digest: str
    """in hexadecimal"""
    entry: str
    label: str

    def __repr__(self) -> str:
        return f"Row({self.list}, {self.algorithm}, {self.digest[:8]}..., {self.entry}, {self.label})"


@dataclass(frozen=True)
class Kind:
    """One type of partner: its server, its table in the configuration, and what must never be seen of it."""

    word: str
    make: Callable[[Model], FakePartner]
    table: str
    """keys of ``[sources.NAME]``; {url} is the server, {folder} that of the secrets"""
    files: Mapping[str, str]
    """secrets by the names of their files"""
    rows: Callable[[Any], set[Row]]
    """all that the partner states now"""
    media: Mapping[str, str]
    """by list"""
    purpose: str = "live"
    narrow: str = ""
    """filters that take less"""
    takes: Callable[[Row], bool] = lambda _: True
    """those filters, for a row"""
    secrets: Sequence[str] = ()
    """text that is nowhere but in requests and in the files"""


def _in_form(fake: Any) -> set[Row]:
    return {
        Row(name, algorithm, digest, entry, label)
        for (name, entry), (label, digests) in fake.state.items()
        for algorithm, digest in digests
    }


def _of_stopncii(fake: FakeStopNcii) -> set[Row]:
    kinds = {"images": "ImagePDQ", "videos": "VideoMD5"}
    return {
        Row(name, algorithm, digest, f"{kinds[name]}/{hashlib.sha256(digest.encode()).hexdigest()[:32]}", label)
        for (name, digest), (label, algorithm) in fake.state.items()
    }


def _of_drop(fake: FakeDrop) -> set[Row]:
    return {
        Row("images", "sha256", one.hexadecimal("sha256"), f"e{one.number}", f"v{one.version}")
        for one in fake.model.live
    }


KINDS: Mapping[str, Kind] = {
    kind.word: kind
    for kind in (
        Kind(
            "ncmec",
            lambda model: FakeNcmec(model, page=PAGE),
            f'url = "{{url}}/hashsharing"\nusername = "{ncmec.USERNAME}"\n'
            'password_file = "{folder}/ncmec.password"\n',
            {"ncmec.password": ncmec.PASSWORD},
            _in_form,
            {"images": "image", "videos": "video"},
            narrow='[sources.{name}.exclude]\nclassifications = ["B1", ""]\n',
            takes=lambda row: row.label not in {"B1", ""},
            secrets=(ncmec.PASSWORD,),
        ),
        Kind(
            "stopncii",
            FakeStopNcii,
            'url = "{url}"\npage_size = {page}\nfunction_key_file = "{folder}/stopncii.function"\n'
            'subscription_key_file = "{folder}/stopncii.subscription"\n',
            {"stopncii.function": stopncii.FUNCTION_KEY, "stopncii.subscription": stopncii.SUBSCRIPTION_KEY},
            _of_stopncii,
            {"images": "image", "videos": "video"},
            purpose="review",
            narrow='[sources.{name}.include]\nstatuses = ["active", "Received"]\n',
            takes=lambda row: row.label in {"Active", "Received"},
            secrets=(stopncii.FUNCTION_KEY, stopncii.SUBSCRIPTION_KEY),
        ),
        Kind(
            "tcap",
            FakeTcap,
            f'url = "{{url}}"\npage_size = {{page}}\nusername = "{tcap.USERNAME}"\n'
            'password_file = "{folder}/tcap.password"\n',
            {"tcap.password": tcap.PASSWORD},
            _in_form,
            {"content": "any"},
            narrow='[sources.{name}.include]\nclassifications = ["far-right"]\n',
            takes=lambda row: row.label.lower() == "far-right",
            secrets=(tcap.PASSWORD, "token-0000"),
        ),
        Kind(
            "threatexchange",
            FakeThreatExchange,
            f'url = "{{url}}/v21.0"\ngroup = {threatexchange.GROUP}\ntoken_file = "{{folder}}/threatexchange.token"\n',
            {"threatexchange.token": threatexchange.TOKEN},
            _in_form,
            {"indicators": "any"},
            narrow='[sources.{name}.exclude]\nclassifications = ["abuse"]\n',
            takes=lambda row: "abuse" not in row.label.split(","),
            secrets=(threatexchange.SECRET,),
        ),
        Kind("drop", FakeDrop, f'url = "{{url}}{FILE}"\nlists = ["images"]\n', {}, _of_drop, {"images": "any"}),
    )
}


@dataclass
class Source:
    """A configured partner: its name in the configuration is the word of its type."""

    kind: Kind
    fake: FakePartner
    narrowed: bool = False
    """the filters of `Kind.narrow` are configured"""

    @property
    def name(self) -> str:
        return self.kind.word

    @property
    def rows(self) -> set[Row]:
        """What the operator should publish of what the partner states now."""
        return {row for row in self.kind.rows(self.fake) if not self.narrowed or self.kind.takes(row)}

    @property
    def lists(self) -> list[ListName]:
        return [ListName(name) for name in self.kind.media]

    def table(self, folder: Path, more: str = "") -> str:
        """Its part of the configuration."""
        head = f'[sources.{self.name}]\ntype = "{self.kind.word}"\n'
        filters = self.kind.narrow.format(name=self.name) if self.narrowed else ""
        return head + self.kind.table.format(url=self.fake.url, folder=folder, page=PAGE) + more + filters


@dataclass
class PartnerWorld:
    """An operator with some unsigned partners, and a matcher that pulls."""

    world: World
    sources: dict[str, Source]
    model: Model
    """of the first partner: its time is everybody's"""
    more: str = ""
    """further keys of each source"""
    outcomes: list[SyncOutcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.base = self.world.base
        self.config_file = self.base / "syncd.toml"
        self.world.limits = NO_LIMITS
        for source in self.sources.values():
            for name, text in source.kind.files.items():
                (self.base / name).write_text(f"{text}\n")
                (self.base / name).chmod(0o600)
        self.configure()

    @property
    def clock(self) -> Clock:
        return self.world.clock

    @property
    def secrets(self) -> set[str]:
        return {secret for source in self.sources.values() for secret in source.kind.secrets}

    def configure(self, more: str = "") -> None:
        """Write the configuration file."""
        tables = "".join(source.table(self.base, self.more) for source in self.sources.values())
        catalog = f'catalog = "{self.world.database.url}"\n' if self.world.database else ""
        self.config_file.write_text(
            f'{catalog}state_dir = "{self.world.state.root}"\ncontrol_socket = "{self.base}/c.sock"\n{more}{tables}'
        )

    def config(self) -> Config:
        """The configuration, read from its file."""
        return load(self.config_file)

    def tick(self, seconds: int) -> None:
        """Let time pass, for partners, operator and matcher."""
        now = self.model.now + seconds
        for source in self.sources.values():
            source.fake.model.now = now
        self.clock.now = self.model.time

    def sync(self, name: str = "", *, by: Prepare = prepare) -> SyncOutcome:
        """The operator syncs a source, as it is configured."""
        source = self.config().source(name or next(iter(self.sources)))
        with self.world.publisher() as publisher:
            outcome = sync_source(publisher, source, self.clock, prepared_by=by)
        self.outcomes.append(outcome)
        return outcome

    def published(self, name: str) -> set[Row]:
        """The rows of the published lists of a source."""
        with self.world.publisher() as publisher:
            return published(publisher, self.sources[name])

    def origin(self, name: str, own: ListName) -> OriginRecord:
        """The record of a list as its partner states it."""
        with self.world.publisher() as publisher:
            found = publisher.catalog.origin(name, own)
        assert found is not None
        return found

    def manifest(self, name: str, own: ListName) -> Manifest:
        """The manifest of a published list."""
        with self.world.publisher() as publisher:
            current = publisher.catalog.in_force(head_name(name, own))
        assert current is not None
        return current.manifest

    def answers(self, name: str, own: ListName) -> list[bytes]:
        """The raw answers behind the present state of a list."""
        origin = self.manifest(name, own).origin
        assert origin is not None
        assert origin.answers is not None
        store = self.world.state.source(name).store
        return list(read_answers(store.present(layout.answers_path(own, origin.answers))))

    def pull(self) -> Matcher:
        """The matcher's host pulls; returns a matcher on the copy."""
        assert not self.world.pull().errors
        return self.world.matcher()

    def matched(self, name: str, matcher: Matcher, rows: set[Row]) -> set[Row]:
        """Those of some rows, of a source, for which a matcher answers with the list, entry and label."""
        return {
            row
            for row in rows
            if row.algorithm in matcher.algorithms
            for hit in matcher.lookup(row.algorithm, row.digest)
            if (hit.list, hit.entry, hit.label) == (f"{name}.{row.list}", row.entry, row.label)
        }


def published(publisher: Publisher, source: Source) -> set[Row]:
    """The rows of the published lists of a source."""
    stacks = {
        own: publisher.list_state(source.name, own).head_basis.stacks
        for own in source.lists
        if publisher.catalog.head(head_name(source.name, own)) is not None
    }
    return {
        Row(own, str(algorithm), bytes(digest).ljust(rows.width, b"\0").hex(), entry, rows.labels[code])
        for own, by_algorithm in stacks.items()
        for algorithm, stack in by_algorithm.items()
        for rows in stack.effective()
        for digest, entry, code in zip(rows.digests, rows.entries.to_pylist(), rows.codes, strict=True)
    }


@contextlib.contextmanager
def partner_world(
    base: Path, *words: str, start: int | None = None, fill: int = 12, more: str = "", **world: Any
) -> Iterator[PartnerWorld]:
    """An operator with a partner of each type named, each with some records. ``start``: the time of the beginning."""
    with contextlib.ExitStack() as stack:
        sources: dict[str, Source] = {}
        for word in words:
            model = Model() if start is None else Model(start)
            sources[word] = Source(KINDS[word], stack.enter_context(KINDS[word].make(model).running()))
            for number in range(1, fill + 1):
                model.put(number)
                model.tick(2)
            model.tick(20)
        first = sources[words[0]].fake.model
        yield PartnerWorld(World(base, Clock(first.time), **world), sources, first, more)
