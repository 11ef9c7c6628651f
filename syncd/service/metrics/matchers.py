"""Who has loaded what, as gauges."""

from typing import Final

from syncd.service.metrics.state import Gauge

MATCHER_GAUGES: Final[tuple[Gauge, ...]] = ()
