"""Every kind of source, as it is handed to the worker process: JSON with its ``type``."""

from typing import Annotated

from pydantic import Discriminator, GetPydanticSchema

from syncd.sources.drop import Drop
from syncd.sources.ncmec import Ncmec
from syncd.sources.signed_feed import SignedFeed
from syncd.sources.source import Source
from syncd.sources.stopncii import StopNcii
from syncd.sources.tcap import Tcap
from syncd.sources.threatexchange import ThreatExchange

AnyKind = Annotated[SignedFeed | Drop | Ncmec | StopNcii | Tcap | ThreatExchange, Discriminator("type")]
"""Every kind of source."""
AnySource = Annotated[Source, GetPydanticSchema(lambda _source, handler: handler.generate_schema(AnyKind))]
"""A `Source` that pydantic writes with its ``type``, and reads and validates as a value of that kind."""
