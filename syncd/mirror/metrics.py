"""The metrics of a mirror: ``docs/metrics.md`` explains each of them."""

from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from syncd.mirror.relay import CheckinRelay
from syncd.mirror.replica import Replica
from syncd.mirror.tokens import UpstreamTokens
from syncd.mirror.updates import Updates


class MirrorCollector(Collector):
    """Reads the state of a mirror at each scrape."""

    def __init__(self, replica: Replica, tokens: UpstreamTokens, relay: CheckinRelay, updates: Updates) -> None:
        self._replica, self._tokens, self._relay, self._updates = replica, tokens, relay, updates

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        served = self._replica.served
        version = GaugeMetricFamily("syncd_mirror_list_version", "Version of the list that is served.", labels=["list"])
        verified = GaugeMetricFamily(
            "syncd_mirror_list_verified_timestamp_seconds",
            "When the list was last verified at its source, as the served metadata state it.",
            labels=["list"],
        )
        for name, number in sorted(served.versions.items()):
            version.add_metric([name], number)
            fresh = served.trusted.freshness.get(name) if served.trusted else None
            verified.add_metric([name], seconds_of(fresh.verified_at if fresh else None))
        yield version
        yield verified
        yield GaugeMetricFamily(
            "syncd_mirror_update_timestamp_seconds",
            "When the mirror was last known to have the upstream's newest state; 0 if never since the start.",
            seconds_of(self._updates.succeeded_at),
        )
        yield CounterMetricFamily("syncd_mirror_update_failures", "Updates that failed.", self._updates.failures)
        yield CounterMetricFamily(
            "syncd_mirror_received_bytes", "Bytes received from the upstream's feed.", self._updates.received
        )
        yield GaugeMetricFamily(
            "syncd_mirror_tokens_confirmed_timestamp_seconds",
            "When the upstream last confirmed the tokens in force; 0 if never since the start.",
            seconds_of(self._tokens.confirmed_at),
        )
        yield GaugeMetricFamily("syncd_mirror_tokens", "Tokens in force.", len(self._tokens.matchers()))
        yield GaugeMetricFamily(
            "syncd_mirror_checkins_waiting", "Check-ins that are still to be passed on.", self._relay.waiting
        )
        yield CounterMetricFamily("syncd_mirror_checkins_passed", "Check-ins passed on.", self._relay.passed)
        yield CounterMetricFamily(
            "syncd_mirror_checkins_dropped",
            "Check-ins that could not be passed on in time.",
            self._relay.dropped,
        )


def seconds_of(at: datetime | None) -> float:
    """Return a time in seconds since 1970; 0 for none."""
    return at.timestamp() if at else 0.0
