"""When certificates, and the metadata of partners, expire. Files are read again only where they have changed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Generic, TypeVar

from cryptography.x509 import load_pem_x509_certificates
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from syncd.config import Config
from syncd.errors import SyncdError
from syncd.feed.folder import TRUST
from syncd.files import read_bytes
from syncd.pipeline.folder import StateFolder
from syncd.service.metrics.state import seconds
from syncd.trust.stored import stored_expiries
from syncd.trust.values import TOP_LEVEL_ROLES

_MAX_CERTIFICATE: Final = 1 << 20

T = TypeVar("T")


@dataclass(frozen=True)
class Certificate:
    """A certificate of ours, and what it is for."""

    use: str
    """``server``: what matchers see; ``client``: what a source sees"""
    source: str
    path: Path


def certificates(config: Config) -> Iterator[Certificate]:
    """All that the configuration names, but for authorities."""
    if config.serve is not None and config.serve.tls_cert is not None:
        yield Certificate("server", "", config.serve.tls_cert)
    for name, source in config.sources.items():
        if source.client_cert is not None:
            yield Certificate("client", name, source.client_cert)


def certificate_expiry(path: Path) -> datetime:
    """When the first of a PEM file to expire does (RFC 5280, 4.1.2.5). Raises `StoreError`, `ValueError`."""
    return min(one.not_valid_after_utc for one in load_pem_x509_certificates(read_bytes(path, _MAX_CERTIFICATE)))


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
    """Gauges of what expires and is no metadata of ours."""

    def __init__(self, folder: StateFolder, config: Callable[[], Config]) -> None:
        self._folder, self._config = folder, config
        self._certificate = Remembered(certificate_expiry)
        self._metadata = Remembered(stored_expiries, [f"{role}.json" for role in TOP_LEVEL_ROLES])

    def collect(self) -> Iterator[Metric]:
        """Look, then tell."""
        config = self._config()
        yield self._certificates(config)
        yield self._partners(config)

    def _certificates(self, config: Config) -> Metric:
        family = GaugeMetricFamily(
            "syncd_certificate_expiry_timestamp_seconds",
            "When a certificate of ours, or one of the chain it comes with, expires; 0: it cannot be read.",
            labels=("use", "source"),
        )
        for one in certificates(config):
            family.add_metric((one.use, one.source), seconds(self._certificate(one.path)))
        return family

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
