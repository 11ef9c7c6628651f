"""When certificates are valid, and the metadata of partners expires. Files are read again where they have changed."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from syncd.catalog.folder import StateFolder
from syncd.certificates import Period
from syncd.config import Config
from syncd.errors import SyncdError
from syncd.feed.folder import TRUST
from syncd.service.metrics.state import seconds
from syncd.trust.client import stored_expiries
from syncd.trust.values import TOP_LEVEL_ROLES

T = TypeVar("T")


_Mark = tuple[tuple[int, int, int], ...]


class Remembered(Generic[T]):
    """What ``read`` makes of a path, until one of the files that it depends on changes. Threads may share it."""

    def __init__(self, read: Callable[[Path], T], depends_on: Sequence[str] = ("",)) -> None:
        """``depends_on`` names the files below the path."""
        self._read, self._depends_on = read, depends_on
        self._known: dict[Path, tuple[_Mark, T]] = {}

    def __call__(self, path: Path) -> T | None:
        """Of this path; None where it cannot be read."""
        try:
            mark = tuple(_mark(path / one) for one in self._depends_on)
            known = self._known.get(path)
            if known is None or known[0] != mark:
                known = self._known[path] = (mark, self._read(path))
        except (OSError, ValueError, SyncdError):
            return None
        return known[1]


def _mark(path: Path) -> tuple[int, int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size, state.st_ino


class ExpiryCollector(Collector):
    """Gauges of what is valid for a time and is no metadata of ours."""

    def __init__(self, folder: StateFolder, config: Callable[[], Config]) -> None:
        self._folder, self._config = folder, config
        self._certificate = Remembered(Period.of)
        self._metadata = Remembered(stored_expiries, [f"{role}.json" for role in TOP_LEVEL_ROLES])

    def collect(self) -> Iterator[Metric]:
        """Look, then tell."""
        config = self._config()
        yield from self._certificates(config)
        yield self._partners(config)

    def _certificates(self, config: Config) -> Iterator[Metric]:
        begins = GaugeMetricFamily(
            "syncd_certificate_start_timestamp_seconds",
            "When a certificate of ours, with all of the chain it comes with, becomes valid; 0: it cannot be read.",
            labels=("use", "source"),
        )
        ends = GaugeMetricFamily(
            "syncd_certificate_expiry_timestamp_seconds",
            "When a certificate of ours, or one of the chain it comes with, expires; 0: it cannot be read.",
            labels=("use", "source"),
        )
        for one in config.certificates():
            period = self._certificate(one.path)
            begins.add_metric((one.use, one.source), seconds(period.begins if period else None))
            ends.add_metric((one.use, one.source), seconds(period.ends if period else None))
        yield begins
        yield ends

    def _partners(self, config: Config) -> Metric:
        family = GaugeMetricFamily(
            "syncd_source_metadata_expiry_timestamp_seconds",
            "When the newest verified metadata of a source expires; of its roles for lists, the soonest.",
            labels=("source", "role"),
        )
        for name in config.sources:
            for role, at in (self._metadata(self._folder.source(name).work / TRUST) or {}).items():
                family.add_metric((name, role), seconds(at))
        return family
