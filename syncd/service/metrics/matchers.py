"""Who has loaded what, as gauges: by matcher, never by instance, since whoever holds a token can make these up."""

from collections.abc import Callable, Iterator
from typing import Final

from syncd.report.lagging import InstanceList, MatcherView
from syncd.service.metrics.state import Gauge, Sample, StateSample, seconds


def _each(value: Callable[[MatcherView], float]) -> Callable[[StateSample], Iterator[Sample]]:
    def samples(found: StateSample) -> Iterator[Sample]:
        return (((one.matcher.name,), value(one)) for one in found.overview.matchers)

    return samples


def _each_list(value: Callable[[list[InstanceList]], float]) -> Callable[[StateSample], Iterator[Sample]]:
    def samples(found: StateSample) -> Iterator[Sample]:
        for matcher in found.overview.matchers:
            by_list: dict[str, list[InstanceList]] = {}
            for one in (each for instance in matcher.instances for each in instance.standings):
                by_list.setdefault(one.loaded.list, []).append(one)
            yield from (((matcher.matcher.name, name), value(by_list[name])) for name in sorted(by_list))

    return samples


def _behind(one: InstanceList) -> int:
    return max(0, (one.due or 0) - one.loaded.version)


_MATCHER: Final = ("matcher",)
_LOADED: Final = ("matcher", "list")

MATCHER_GAUGES: Final = (
    Gauge(
        "syncd_matcher_instances",
        "Instances (processes, hosts) that have checked in within seven days.",
        _MATCHER,
        _each(lambda one: len(one.instances)),
    ),
    Gauge(
        "syncd_matcher_instances_silent",
        "Of these, those that have not for 15 minutes.",
        _MATCHER,
        _each(lambda one: sum(each.silent for each in one.instances)),
    ),
    Gauge(
        "syncd_matcher_checkin_timestamp_seconds",
        "When any of them checked in last; 0: never.",
        _MATCHER,
        _each(lambda one: seconds(one.seen_at)),
    ),
    Gauge(
        "syncd_matcher_loaded_version",
        "The oldest version of the list that any of them has loaded.",
        _LOADED,
        _each_list(lambda found: min(one.loaded.version for one in found)),
    ),
    Gauge(
        "syncd_matcher_versions_behind",
        "By how many versions it is older than the one published 5 minutes ago.",
        _LOADED,
        _each_list(lambda found: max(map(_behind, found))),
    ),
    Gauge(
        "syncd_matcher_instances_behind",
        "Instances that check in, and have not loaded what was published 5 minutes ago.",
        _LOADED,
        _each_list(lambda found: sum(one.behind and not one.silent for one in found)),
    ),
)
"""All that is told of matchers."""
