"""``[sources.NAME]`` of partners that sign nothing: one class of table for each type."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from syncd.model import ListName
from syncd.settings import Classifications, GivenFile, ProxyUrl, Seconds, Url, Words, named_files
from syncd.sources.source_table import SourceTable

if TYPE_CHECKING:
    from syncd.sources.ncmec import Ncmec
    from syncd.sources.stopncii import StopNcii
    from syncd.sources.tcap import Tcap
    from syncd.sources.threatexchange import ThreatExchange

Purpose = Literal["live", "review", "test"]
"""As in `syncd.format.manifest`, which is heavy."""
NcmecFingerprint = Literal[
    "MD5", "SHA1", "PDQ", "PDNA", "NETCLEAN", "VIDENTIFIER", "TMK_PDQF", "SSVH_PDNA", "SSVH_SAFER_HASH"
]
"""As in `syncd.sources.ncmec_page`."""


PageSize = Annotated[int, Field(ge=1, le=10_000)]
UserName = Annotated[str, Field(pattern=r"^[^:\x00-\x1f]+$")]


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

    LISTS: ClassVar[tuple[str, ...]] = ("images", "videos", "other")
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
