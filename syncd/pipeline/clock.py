"""The times in an operator's state that later clocks, signatures and ages are compared with. Pure.

Kept apart so that `syncd status` can import it quickly.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime

from syncd.catalog.records import OriginRecord, SourceState, head_name
from syncd.clock import ClockReading
from syncd.errors import StoreError
from syncd.sources.feed_memory import clock_floor
from syncd.trust.signatures import signatures


def state_readings(
    expiries: Mapping[str, datetime], sources: Iterable[SourceState], origins: Iterable[OriginRecord]
) -> Iterator[ClockReading]:
    """Yield the times at which our metadata was signed and sources were verified. ``expiries``: of each role."""
    yield from signatures(expiries)
    for origin in origins:
        yield ClockReading(f"the verification of {head_name(origin.source, origin.list)}", origin.verified_at)
    for source in sources:
        floor = None
        with suppress(StoreError):  # the next sync reports it; the other times are still shown
            floor = clock_floor(source.memory)
        if floor is not None:
            yield ClockReading(f"the clock floor of source {source.name}", floor)
