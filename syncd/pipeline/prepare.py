"""The first half of the road: read a source, and stage its lists.

This half parses foreign bytes, writes only below the source's own folder, and holds no keys.
"""

from syncd.fetch import Meter
from syncd.pipeline.preparation import Preparing, Progress, Request
from syncd.pipeline.signed import prepare_signed
from syncd.pipeline.stated import prepare_stated
from syncd.sources.signed_feed import SignedFeed
from syncd.sources.statements import StatedSource


def prepare(request: Request, progress: Progress, meter: Meter) -> Preparing:
    """Prepare a source; see `syncd.pipeline.preparation.Prepare`."""
    match request.source:
        case SignedFeed() as feed:
            yield from prepare_signed(feed, request, progress, meter)
        case StatedSource() as stated:
            yield from prepare_stated(stated, request, progress, meter)
        case other:
            raise TypeError(f"no sync knows how to prepare a source of type {other.type!r}")
