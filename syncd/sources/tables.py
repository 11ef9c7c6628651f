"""``[sources.NAME]``: one class of table for each type of source, chosen by the key ``type``.

To add a type, add its class here and list it in `TABLES` and `AnyTable`; list the source that it makes in
`syncd.sources.kinds`. Every command reads the configuration, so heavy modules are imported only to make a source.
"""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from syncd.errors import nearest
from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.format.freshness import CRITICAL_AFTER_WARN, MaxAge, SourceAges, usual_warn
from syncd.limits import GateTable
from syncd.model import LIST_NAME, ListName
from syncd.settings import (
    AbsolutePath,
    Classifications,
    GivenFile,
    Interval,
    Lists,
    ProxyUrl,
    RedirectHosts,
    Seconds,
    Url,
    Words,
    named_files,
)

if TYPE_CHECKING:
    from syncd.sources.drop import Drop
    from syncd.sources.ncmec import Ncmec
    from syncd.sources.signed_feed import SignedFeed
    from syncd.sources.source import Source
    from syncd.sources.stopncii import StopNcii
    from syncd.sources.tcap import Tcap
    from syncd.sources.threatexchange import ThreatExchange


_LONGER: Final = "give a longer one; without it, the limits follow from the interval (docs/configuration.md)"


Purpose = Literal["live", "review", "test"]
"""As in `syncd.format.manifest`, which is heavy."""
NcmecFingerprint = Literal["MD5", "SHA1", "PDQ", "PDNA", "VIDENTIFIER", "TMK_PDQF", "SSVH_PDNA", "SSVH_SAFER_HASH"]
"""As in `syncd.sources.ncmec_page`."""


PageSize = Annotated[int, Field(ge=1, le=10_000)]
UserName = Annotated[str, Field(pattern=r"^[^:\x00-\x1f]+$")]


class AgeTable(BaseModel):
    """``[sources.NAME.ages.LIST]``: the limits of the age of one list. A source has the same keys for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_age_warn: Seconds | None = None
    max_age_critical: Seconds | None = None


class SourceTable(BaseModel):
    """The keys of every source, whatever its type, and the methods that the rest of syncd uses."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: str
    interval: Interval = 600.0
    deadline: Seconds = 600.0
    lists: Lists = ()
    gate: GateTable = GateTable()
    max_age_warn: Seconds | None = None
    max_age_critical: Seconds | None = None
    ages: dict[str, AgeTable] = {}

    @property
    @abstractmethod
    def place(self) -> str:
        """The address or folder of the source, for display; never contains a secret."""

    @abstractmethod
    def source(self, name: str) -> "Source":
        """Return the source to sync."""

    @property
    def is_complete(self) -> bool:
        """False if a required file was left out, because only the service has that credential."""
        return all(getattr(self, key) is not None for key, one in type(self).model_fields.items() if one.is_required())

    def secrets(self) -> dict[str, Path]:
        """Return the files that contain secrets, by key."""
        return {}

    def client_certificate(self) -> Path | None:
        """Return the certificate that we present to the source, if any."""
        return None

    def fault(self) -> tuple[str, str, str] | None:
        """Return a key that does not fit the others, with message and hint; None if all fit."""
        for name in self.ages:
            if not LIST_NAME.fullmatch(name) or (self.lists and name not in self.lists):
                hint = nearest(name, self.lists, "list") if self.lists else "write the list's name at the source"
                return f"ages.{name}", "not a list of this source", hint
        for where, table in {"": AgeTable(), **{f"ages.{name}.": own for name, own in self.ages.items()}}.items():
            warn, critical = self._limits(table)
            if warn < 2 * self.interval:
                return f"{where}max_age_warn", "less than two intervals: no list could stay below it", _LONGER
            if critical < warn:
                return f"{where}max_age_critical", "less than max_age_warn", _LONGER
        return self.gate.fault()

    def max_ages(self) -> SourceAges:
        """Return the limits of the ages of the source's lists."""
        of_lists = {ListName(name): _max_age(self._limits(own)) for name, own in self.ages.items()}
        return SourceAges(_max_age(self._limits(AgeTable())), of_lists)

    def _limits(self, table: AgeTable) -> tuple[int, int]:
        """Return the limits that a table gives. Keys that it lacks are those of the source, or follow its interval."""
        warn = table.max_age_warn or self.max_age_warn or usual_warn(self.interval)
        critical = table.max_age_critical or self.max_age_critical or warn + CRITICAL_AFTER_WARN
        return int(warn), int(critical)


class FeedSource(SourceTable):
    """``type = "feed"``: a partner that publishes a signed feed."""

    type: Literal["feed"] = "feed"
    url: Url
    root: GivenFile
    token_file: GivenFile | None = None
    client_cert: GivenFile | None = None
    client_key: GivenFile | None = None
    ca: GivenFile | None = None
    proxy: ProxyUrl | None = None
    redirects: RedirectHosts = ()
    max_rows: Annotated[int, Field(gt=0)] = DEFAULT_CAPS.rows
    max_bytes: Annotated[int, Field(gt=0)] = DEFAULT_CAPS.length

    @property
    def place(self) -> str:
        """The feed's address."""
        return self.url

    def source(self, name: str) -> "SignedFeed":
        """Return the source to sync."""
        from syncd.sources.signed_feed import SignedFeed  # heavy: most commands only read the configuration

        return SignedFeed(
            name=name,
            url=self.url,
            root=self.root,
            lists=self.lists,
            token_file=self.token_file,
            ca=self.ca,
            client_cert=self.client_cert,
            client_key=self.client_key,
            proxy=self.proxy,
            redirects=self.redirects,
            deadline=self.deadline,
            caps=Caps(rows=self.max_rows, length=self.max_bytes),
            ages=self.max_ages(),
        )

    def secrets(self) -> dict[str, Path]:
        """Return the files that contain secrets, by key. Without a key file, the certificate's may hold the key."""
        return named_files(self, "token_file", "client_key" if self.client_key else "client_cert")

    def client_certificate(self) -> Path | None:
        """Return the client certificate that we present to the feed's server, if any."""
        return self.client_cert

    def fault(self) -> tuple[str, str, str] | None:
        """Report keys that cannot be used together: a client key alone, a proxy without https."""
        if self.client_key and not self.client_cert:
            return "client_key", "given without client_cert", "give both, or neither"
        if self.proxy and not self.url.lower().startswith("https:"):
            return "proxy", "a proxy is only for a url with https://", "leave it out: it would see all that is fetched"
        return super().fault()


class FilterTable(BaseModel):
    """``[sources.NAME.include]`` and ``[sources.NAME.exclude]``: records to take, or not, in the partner's words."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    members: Words = ()
    classifications: Classifications = ()
    statuses: Words = ()
    votes: Annotated[int, Field(ge=0)] = 0


class PartnerTable(SourceTable):
    """The keys of every partner that signs nothing."""

    LISTS: ClassVar[tuple[str, ...]]
    """the lists that this type of partner has"""
    FILTERS: ClassVar[tuple[str, ...]]
    """the filters that its records have values for"""

    url: Url
    ca: GivenFile | None = None
    proxy: ProxyUrl | None = None
    purpose: Purpose = "live"
    include: FilterTable = FilterTable()
    exclude: FilterTable = FilterTable()
    deadline: Seconds = 7200.0

    @property
    def place(self) -> str:
        """The partner's address."""
        return self.url

    def fault(self) -> tuple[str, str, str] | None:
        """Report an address that is not a server's, and lists and filters that this type of partner does not have."""
        if not self.url.lower().startswith(("https:", "http:")):
            return "url", "not the address of a server", "use https://host/path"
        if self.proxy and not self.url.lower().startswith("https:"):
            return "proxy", "a proxy is only for a url with https://", "leave it out: it would see all that is fetched"
        for name in self.lists:
            if name not in self.LISTS:
                return "lists", f"{name} is not a list of type {self.type}", f"its lists: {', '.join(self.LISTS)}"
        for side in ("include", "exclude"):
            for key in sorted(getattr(self, side).model_fields_set - set(self.FILTERS)):
                return f"{side}.{key}", f"not a filter of type {self.type}", f"its filters: {', '.join(self.FILTERS)}"
        return super().fault()

    def _common(self, name: str) -> dict[str, Any]:
        """Return the fields that every adapter has."""
        from syncd.sources.selection import RecordFilter  # only a command that syncs needs it

        return {
            "name": name,
            "url": self.url,
            "lists": self.lists or tuple(map(ListName, self.LISTS)),
            "purpose": self.purpose,
            "include": RecordFilter(**self.include.model_dump()),
            "exclude": RecordFilter(**self.exclude.model_dump()),
            "ca": self.ca,
            "proxy": self.proxy,
            "deadline": self.deadline,
            "ages": self.max_ages(),
        }


class NcmecTable(PartnerTable):
    """``type = "ncmec"``: one environment of NCMEC's Hash Sharing API."""

    LISTS: ClassVar[tuple[str, ...]] = ("images", "videos")
    FILTERS: ClassVar[tuple[str, ...]] = ("members", "classifications", "votes")

    type: Literal["ncmec"] = "ncmec"
    username: UserName
    password_file: GivenFile
    fingerprints: tuple[NcmecFingerprint, ...] = ("MD5", "SHA1", "PDQ", "PDNA")

    def source(self, name: str) -> "Ncmec":
        """Return the source to sync."""
        from syncd.sources.ncmec import Ncmec  # heavy: most commands only read the configuration

        return Ncmec(
            **self._common(name),
            username=self.username,
            password_file=self.password_file,
            fingerprints=self.fingerprints,
        )

    def secrets(self) -> dict[str, Path]:
        """Return the files that contain secrets, by key."""
        return named_files(self, "password_file")


class StopNciiTable(PartnerTable):
    """``type = "stopncii"``: StopNCII's hash exchange."""

    LISTS: ClassVar[tuple[str, ...]] = ("images", "videos")
    FILTERS: ClassVar[tuple[str, ...]] = ("statuses", "votes")

    type: Literal["stopncii"] = "stopncii"
    url: Url = "https://api.stopncii.org/v1"
    function_key_file: GivenFile
    subscription_key_file: GivenFile
    purpose: Purpose = "review"
    page_size: PageSize = 800

    def source(self, name: str) -> "StopNcii":
        """Return the source to sync."""
        from syncd.sources.stopncii import StopNcii  # heavy: most commands only read the configuration

        return StopNcii(
            **self._common(name),
            function_key_file=self.function_key_file,
            subscription_key_file=self.subscription_key_file,
            page_size=self.page_size,
        )

    def secrets(self) -> dict[str, Path]:
        """Return the files that contain secrets, by key."""
        return named_files(self, "function_key_file", "subscription_key_file")


class TcapTable(PartnerTable):
    """``type = "tcap"``: the hash list of Tech Against Terrorism."""

    LISTS: ClassVar[tuple[str, ...]] = ("content",)
    FILTERS: ClassVar[tuple[str, ...]] = ("classifications",)

    type: Literal["tcap"] = "tcap"
    url: Url = "https://app.terrorismanalytics.org"
    username: UserName
    password_file: GivenFile
    page_size: PageSize = 1000
    list_path: Annotated[str, Field(pattern="^[a-z0-9-]+(/[a-z0-9-]+)*$")] = "hash-list/v2/all"

    def source(self, name: str) -> "Tcap":
        """Return the source to sync."""
        from syncd.sources.tcap import Tcap  # heavy: most commands only read the configuration

        return Tcap(
            **self._common(name),
            username=self.username,
            password_file=self.password_file,
            page_size=self.page_size,
            list_path=self.list_path,
        )

    def secrets(self) -> dict[str, Path]:
        """Return the files that contain secrets, by key."""
        return named_files(self, "password_file")


class ThreatExchangeTable(PartnerTable):
    """``type = "threatexchange"``: one privacy group of Meta's ThreatExchange."""

    LISTS: ClassVar[tuple[str, ...]] = ("indicators",)
    FILTERS: ClassVar[tuple[str, ...]] = ("members", "classifications", "statuses", "votes")

    type: Literal["threatexchange"] = "threatexchange"
    url: Url = "https://graph.facebook.com/v21.0"
    group: Annotated[str, Field(pattern="^[0-9]{1,32}$", coerce_numbers_to_str=True)]
    token_file: GivenFile
    page_size: PageSize = 500

    def source(self, name: str) -> "ThreatExchange":
        """Return the source to sync."""
        from syncd.sources.threatexchange import ThreatExchange  # heavy: most commands only read the configuration

        return ThreatExchange(
            **self._common(name), group=self.group, token_file=self.token_file, page_size=self.page_size
        )

    def secrets(self) -> dict[str, Path]:
        """Return the files that contain secrets, by key."""
        return named_files(self, "token_file")


def _max_age(limits: tuple[int, int]) -> MaxAge:
    warn, critical = limits
    return MaxAge(warn=warn, critical=critical)


class DropTable(SourceTable):
    """``type = "drop"``: files that a partner drops into a folder, or one file at an https address."""

    type: Literal["drop"] = "drop"
    folder: AbsolutePath | None = None
    url: Url | None = None
    mode: Literal["full", "increments"] = "full"
    complete: Literal["checksum", "rename"] = "checksum"
    files: str = "*"
    profile: str | None = None
    map: str | None = None
    delimiter: str | None = None
    algorithm: str | None = None
    minisign_key: GivenFile | None = None
    openpgp_keyring: GivenFile | None = None
    ca: GivenFile | None = None
    proxy: ProxyUrl | None = None
    media: Literal["image", "video", "any"] = "any"
    purpose: Literal["live", "review", "test"] = "live"
    deadline: Seconds = 3600.0

    @property
    def place(self) -> str:
        """The folder or the address."""
        return self.url or str(self.folder)

    def source(self, name: str) -> "Drop":
        """Return the source to sync."""
        from syncd.sources.drop import Drop  # heavy: most commands only read the configuration

        same = ("folder", "url", "mode", "complete", "files", "profile", "map", "delimiter", "algorithm", "media")
        more = ("minisign_key", "openpgp_keyring", "ca", "proxy", "purpose", "deadline")
        values = {key: getattr(self, key) for key in (*same, *more)}
        return Drop(name=name, list=ListName(self.lists[0]), ages=self.max_ages(), **values)

    def fault(self) -> tuple[str, str, str] | None:
        """Report keys that cannot be used together."""
        if len(self.lists) != 1:
            return "lists", "a drop has exactly one list", 'name it: lists = ["images"]'
        if (self.folder is None) == (self.url is None):
            return "folder", "a drop needs a folder or a url", "give one of the two"
        if self.url is not None and self.mode == "increments":
            return "mode", "increments need a folder", 'give folder instead of url, or mode = "full"'
        return super().fault()


TABLES: Final[Mapping[str, type[SourceTable]]] = {
    "feed": FeedSource,
    "drop": DropTable,
    "ncmec": NcmecTable,
    "stopncii": StopNciiTable,
    "tcap": TcapTable,
    "threatexchange": ThreatExchangeTable,
}
"""By their ``type`` in the configuration."""


def _type_of(table: Any) -> str:
    """Return the type that chooses the table's class; the default is the signed feed, which was the first."""
    if isinstance(table, Mapping):
        return str(table.get("type", "feed"))
    return str(getattr(table, "type", "feed"))


AnyTable = Annotated[
    Annotated[FeedSource, Tag("feed")]
    | Annotated[DropTable, Tag("drop")]
    | Annotated[NcmecTable, Tag("ncmec")]
    | Annotated[StopNciiTable, Tag("stopncii")]
    | Annotated[TcapTable, Tag("tcap")]
    | Annotated[ThreatExchangeTable, Tag("threatexchange")],
    Discriminator(_type_of),
]
"""A table of any type."""
