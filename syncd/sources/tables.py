"""``[sources.NAME]``: a table for each type of source, told apart by ``type``.

A new type is one more class here, named in `TABLES` and `AnyTable`, and the source that it makes, named in
`syncd.sources.kinds`. Every command reads the configuration: nothing heavy is imported before a table makes a source.
"""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.settings import GivenFile, Interval, Lists, Seconds, Url, named_files

if TYPE_CHECKING:
    from syncd.sources.signed_feed import SignedFeed
    from syncd.sources.source import Source


class SourceTable(BaseModel):
    """The keys that every source has, of whatever type, and what the rest of syncd asks of its table."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: str
    interval: Interval = 600.0
    deadline: Seconds = 600.0
    lists: Lists = ()

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the source is, for display: an address or a folder, never with a secret in it."""

    @abstractmethod
    def source(self, name: str) -> "Source":
        """The source as a sync takes it."""

    def secrets(self) -> dict[str, Path]:
        """The files with what nobody else may know, by their keys."""
        return {}

    def client_certificate(self) -> Path | None:
        """Our certificate that the source sees, if it sees one."""
        return None

    def fault(self) -> tuple[str, str, str] | None:
        """Key, what is wrong with it and what to do, if keys do not go together."""
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
        """The source as a sync takes it."""
        from syncd.sources.signed_feed import SignedFeed

        return SignedFeed(
            name,
            self.url,
            self.root,
            self.lists,
            self.token_file,
            self.ca,
            self.client_cert,
            self.client_key,
            self.deadline,
            Caps(rows=self.max_rows, length=self.max_bytes),
        )

    def secrets(self) -> dict[str, Path]:
        """The files with what nobody else may know; a certificate's may hold its private key."""
        return named_files(self, "token_file", "client_key" if self.client_key else "client_cert")

    def client_certificate(self) -> Path | None:
        """Our certificate."""
        return self.client_cert

    def fault(self) -> tuple[str, str, str] | None:
        """A key alone proves nothing."""
        if self.client_key and not self.client_cert:
            return "client_key", "given without client_cert", "give both, or neither"
        return None


TABLES: Final[Mapping[str, type[SourceTable]]] = {"feed": FeedSource}
"""By the word for it in the configuration."""


def _type_of(table: Any) -> str:
    """The word that chooses the table's class. Left out, it is the signed feed, which was the first."""
    if isinstance(table, Mapping):
        return str(table.get("type", "feed"))
    return str(getattr(table, "type", "feed"))


AnyTable = Annotated[Annotated[FeedSource, Tag("feed")], Discriminator(_type_of)]
"""A table of any type: a union as soon as there is a second."""
