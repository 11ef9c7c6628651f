"""``[sources.NAME]``: one class of table for each type of source, chosen by the key ``type``.

To add a type, add its class here or in `syncd.sources.partner_tables` and list it in `TABLES` and `AnyTable`; list the
source that it makes in `syncd.sources.kinds`. Every command reads the configuration, so heavy modules are imported
only to make a source.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Discriminator, Field, Tag

from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.model import ListName
from syncd.settings import AbsolutePath, GivenFile, ProxyUrl, RedirectHosts, Seconds, Url, named_files
from syncd.sources.partner_tables import NcmecTable, Purpose, StopNciiTable, TcapTable, ThreatExchangeTable
from syncd.sources.source_table import SourceTable

if TYPE_CHECKING:
    from syncd.sources.drop import Drop
    from syncd.sources.signed_feed import SignedFeed


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
    purpose: Purpose = "live"
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
