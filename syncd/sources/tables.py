"""``[sources.NAME]``: one class of table for each type of source, chosen by the key ``type``.

To add a type, add its class here and list it in `TABLES` and `AnyTable`; list the source that it makes in
`syncd.sources.kinds`. Every command reads the configuration, so heavy modules are imported only to make a source.
"""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.limits import GateTable
from syncd.settings import GivenFile, Interval, Lists, Seconds, Url, named_files

if TYPE_CHECKING:
    from syncd.sources.signed_feed import SignedFeed
    from syncd.sources.source import Source


class SourceTable(BaseModel):
    """The keys of every source, whatever its type, and the methods that the rest of syncd uses."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: str
    interval: Interval = 600.0
    deadline: Seconds = 600.0
    lists: Lists = ()
    gate: GateTable = GateTable()

    @property
    @abstractmethod
    def place(self) -> str:
        """The address or folder of the source, for display; never contains a secret."""

    @abstractmethod
    def source(self, name: str) -> "Source":
        """Return the source to sync."""

    def secrets(self) -> dict[str, Path]:
        """Return the files that contain secrets, by key."""
        return {}

    def client_certificate(self) -> Path | None:
        """Return the certificate that we present to the source, if any."""
        return None

    def fault(self) -> tuple[str, str, str] | None:
        """Return a key that does not fit the others, with message and hint; None if all fit."""
        return None


class FeedSource(SourceTable):
    """``type = "feed"``: a partner that publishes a signed feed."""

    type: Literal["feed"] = "feed"
    url: Url
    root: GivenFile
    token_file: GivenFile | None = None
    client_cert: GivenFile | None = None
    client_key: GivenFile | None = None
    ca: GivenFile | None = None
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
            deadline=self.deadline,
            caps=Caps(rows=self.max_rows, length=self.max_bytes),
        )

    def secrets(self) -> dict[str, Path]:
        """Return the files that contain secrets, by key. Without a key file, the certificate's may hold the key."""
        return named_files(self, "token_file", "client_key" if self.client_key else "client_cert")

    def client_certificate(self) -> Path | None:
        """Return the client certificate that we present to the feed's server, if any."""
        return self.client_cert

    def fault(self) -> tuple[str, str, str] | None:
        """Report a client key without its certificate, which cannot be used."""
        if self.client_key and not self.client_cert:
            return "client_key", "given without client_cert", "give both, or neither"
        return None


TABLES: Final[Mapping[str, type[SourceTable]]] = {"feed": FeedSource}
"""By their ``type`` in the configuration."""


def _type_of(table: Any) -> str:
    """Return the type that chooses the table's class; the default is the signed feed, which was the first."""
    if isinstance(table, Mapping):
        return str(table.get("type", "feed"))
    return str(getattr(table, "type", "feed"))


AnyTable = Annotated[Annotated[FeedSource, Tag("feed")], Discriminator(_type_of)]
"""A table of any type; to become a union with the second one."""
