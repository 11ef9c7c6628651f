"""The union of all kinds of sources, as a type that pydantic reads from JSON."""

from typing import Annotated

from pydantic import Discriminator, GetPydanticSchema

from syncd.sources.signed_feed import SignedFeed
from syncd.sources.source import Source

_Kind = Annotated[SignedFeed, Discriminator("type")]
"""To become a union with the second kind."""

AnySource = Annotated[Source, GetPydanticSchema(lambda _source, handler: handler.generate_schema(_Kind))]
"""A `Source` that pydantic writes with its ``type``, and reads and validates as a value of that kind."""
