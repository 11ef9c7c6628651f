"""Validity of certificates, and expiry of partners' metadata. Files are read again if they have changed."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from syncd.catalog.folder import StateFolder
from syncd.certificates import ValidityPeriod
from syncd.config import Config
from syncd.errors import SyncdError
from syncd.feed.folder import TRUST
from syncd.service.metrics.state import seconds
from syncd.trust.client import stored_expiries
from syncd.trust.overlong import read_overlong
from syncd.trust.values import TOP_LEVEL_ROLES

T = TypeVar("T")
_Stamp = tuple[int, int, int]


class CachedRead(Generic[T]):
    """Caches ``read(path)`` until one of the files that it depends on changes. Safe to share between threads."""

    def __init__(self, read: Callable[[Path], T], depends_on: Sequence[str] = ("",)) -> None:
        """``depends_on`` are names of files below the path."""
        self._read, self._depends_on = read, depends_on
        self._known: dict[Path, tuple[tuple[_Stamp, ...], T]] = {}

    def __call__(self, path: Path) -> T | None:
        """Return the value for this path. None if it cannot be read."""
        try:
            stamps = tuple(_stamp(path / name) for name in self._depends_on)
            known = self._known.get(path)
            if known is None or known[0] != stamps:
                known = self._known[path] = (stamps, self._read(path))
        except (OSError, ValueError, SyncdError):
            return None
        return known[1]


def _stamp(path: Path) -> _Stamp:
    state = path.stat()
    return state.st_mtime_ns, state.st_size, state.st_ino


class ExpiryCollector(Collector):
    """Gauges of expiry times, except those of our own metadata.

    ``follows`` returns True if another daemon leads: then the partners' metadata on this disk may be old.
    """

    def __init__(
        self, folder: StateFolder, config: Callable[[], Config], follows: Callable[[], bool] = lambda: False
    ) -> None:
        self._folder, self._config, self._follows = folder, config, follows
        self._certificate = CachedRead(ValidityPeriod.of)
        self._metadata = CachedRead(stored_expiries, [f"{role}.json" for role in TOP_LEVEL_ROLES])

    def collect(self) -> Iterator[Metric]:
        """Read the files, then yield the gauges."""
        config = self._config()
        yield from self._certificates(config)
        yield self._partners(config)

    def _certificates(self, config: Config) -> Iterator[Metric]:
        begins = GaugeMetricFamily(
            "syncd_certificate_start_timestamp_seconds",
            "Latest start of validity in the chain of one of our certificates; 0 if it cannot be read.",
            labels=("use", "source"),
        )
        ends = GaugeMetricFamily(
            "syncd_certificate_expiry_timestamp_seconds",
            "Earliest expiry in the chain of one of our certificates; 0 if it cannot be read.",
            labels=("use", "source"),
        )
        for certificate in config.certificates():
            period = self._certificate(certificate.path)
            labels = (certificate.use, certificate.source)
            begins.add_metric(labels, seconds(period.begins if period else None))
            ends.add_metric(labels, seconds(period.ends if period else None))
        yield begins
        yield ends

    def _partners(self, config: Config) -> Metric:
        family = GaugeMetricFamily(
            "syncd_source_metadata_expiry_timestamp_seconds",
            "When the newest verified metadata of the source expires; for the roles of its lists, the earliest.",
            labels=("source", "role"),
        )
        for name in () if self._follows() else config.sources:
            folder = self._folder.source(name).work / TRUST
            for role, at in (self._metadata(folder) or {}).items():
                overlong = read_overlong(folder) if role == "timestamp" else None
                family.add_metric((name, role), seconds(overlong.until if overlong else at))
        return family
