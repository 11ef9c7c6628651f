"""Reads what `/metrics` answers."""

from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

from syncd.service.metrics.scrape import Metrics
from web_site import METRICS, Running, bearer

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


class Scrape:
    """One answer."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {one.name: one for one in text_string_to_metric_families(text)}
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        """The value of one series; None where there is none."""
        return self._samples.get((name, frozenset(labels.items())))

    def ones(self, name: str, label: str, **labels: str) -> list[str]:
        """The values of a label for which a series is 1."""
        found = [(dict(key[1]), value) for key, value in self._samples.items() if key[0] == name]
        return [one[label] for one, value in found if value == 1 and labels.items() <= one.items()]

    def __len__(self) -> int:
        return len(self._samples)


def scrape(metrics: Metrics) -> Scrape:
    """Without HTTP."""
    return Scrape(metrics.text("")[0].decode())


def scrape_site(web: Running) -> Scrape:
    """As Prometheus does."""
    answer = httpx.get(f"{web.url}/metrics", headers=bearer(METRICS))
    assert answer.status_code == 200
    return Scrape(answer.text)
