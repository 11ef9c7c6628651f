"""Every kind of source, as one value that can be read back from JSON."""

from typing import Annotated

from pydantic import Discriminator, GetPydanticSchema

from syncd.sources.signed_feed import SignedFeed
from syncd.sources.source import Source

_Kind = Annotated[SignedFeed, Discriminator("type")]
"""A union as soon as there is a second."""

AnySource = Annotated[Source, GetPydanticSchema(lambda _source, handler: handler.generate_schema(_Kind))]
"""A `Source` that pydantic writes with its ``type``, and reads and checks as a value of that kind."""
