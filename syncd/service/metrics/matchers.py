"""Gauges of matchers. Labelled by matcher, never by instance: a client with a token can invent instance names."""

from collections.abc import Callable, Iterator
from typing import Final

from syncd.report.lagging import InstanceList, MatcherView
from syncd.service.metrics.state import Sample, StateGauge, StateSample, seconds


def _each(value: Callable[[MatcherView], float]) -> Callable[[StateSample], Iterator[Sample]]:
    def samples(state: StateSample) -> Iterator[Sample]:
        return (((matcher.matcher.name,), value(matcher)) for matcher in state.overview.matchers)

    return samples


def _each_list(value: Callable[[list[InstanceList]], float]) -> Callable[[StateSample], Iterator[Sample]]:
    def samples(state: StateSample) -> Iterator[Sample]:
        for matcher in state.overview.matchers:
            by_list: dict[str, list[InstanceList]] = {}
            for standing in (standing for instance in matcher.instances for standing in instance.standings):
                by_list.setdefault(standing.loaded.list, []).append(standing)
            yield from (((matcher.matcher.name, name), value(by_list[name])) for name in sorted(by_list))

    return samples


def _behind(standing: InstanceList) -> int:
    return max(0, (standing.due or 0) - standing.loaded.version)


_MATCHER: Final = ("matcher",)
_LOADED: Final = ("matcher", "list")

MATCHER_GAUGES: Final = (
    StateGauge(
        "syncd_matcher_instances",
        "Instances (processes, hosts) that checked in within the last seven days.",
        _MATCHER,
        _each(lambda matcher: len(matcher.instances)),
    ),
    StateGauge(
        "syncd_matcher_instances_silent",
        "Instances that have not checked in for 15 minutes.",
        _MATCHER,
        _each(lambda matcher: sum(instance.silent for instance in matcher.instances)),
    ),
    StateGauge(
        "syncd_matcher_checkin_timestamp_seconds",
        "When any instance last checked in; 0 if never.",
        _MATCHER,
        _each(lambda matcher: seconds(matcher.seen_at)),
    ),
    StateGauge(
        "syncd_matcher_loaded_version",
        "Oldest version of the list that any instance has loaded.",
        _LOADED,
        _each_list(lambda standings: min(standing.loaded.version for standing in standings)),
    ),
    StateGauge(
        "syncd_matcher_versions_behind",
        "Versions by which that one is behind the version published 5 minutes ago.",
        _LOADED,
        _each_list(lambda standings: max(map(_behind, standings))),
    ),
    StateGauge(
        "syncd_matcher_instances_behind",
        "Instances that check in but have not loaded the version published 5 minutes ago.",
        _LOADED,
        _each_list(lambda standings: sum(standing.behind and not standing.silent for standing in standings)),
    ),
)
"""All gauges of matchers."""
