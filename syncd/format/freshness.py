"""Freshness: how old the verified state of a list is, against its limits; and what else an operator states. Pure.

The age of a list is the time since its upstream was last verified. The manifest's ``max_age`` states the ages from
which readers warn, and from which the list counts as stale. Operator and matchers judge with this module.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from syncd.model import ListName
from syncd.units import clock_is_behind, span

_MISSED_SYNCS: Final = 3
_LEAST_WARN: Final = 3600
CRITICAL_AFTER_WARN: Final = 6 * 3600
"""Seconds between the two limits, if only the first is known."""
_PARTS: Final = 4

_SECONDS: Final = 1 << 53


FARTHEST: Final = 63
"""The largest distance of a near match, in bits, and that of a list for which the operator states none."""


class MaxAge(BaseModel):
    """The ages of ``verified_at``, in seconds, at which readers report a warning and a critical state."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    warn: Annotated[int, Field(ge=1, lt=_SECONDS)]
    critical: Annotated[int, Field(ge=1, lt=_SECONDS)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.warn > self.critical:
            raise ValueError("warn must not be more than critical")
        return self


UNSTATED: Final = MaxAge(warn=48 * 3600, critical=48 * 3600)
"""A reader's limits for a list whose manifest states none: the validity of a feed's timestamp."""


class AgeVerdict(enum.StrEnum):
    """The judgement of a list's age."""

    FRESH = "fresh"
    WARN = "warn"
    """at least as old as the first limit"""
    STALE = "stale"
    """at least as old as the second limit, or of unknown age"""


@dataclass(frozen=True)
class StatedLimits:
    """The limits that a list's manifest states to its readers."""

    max_age: MaxAge
    max_distance: int = FARTHEST
    """the most bits in which a near match may differ"""


@dataclass(frozen=True)
class SourceAges:
    """The limits of one source's lists: of their ages, and of the distance of near matches."""

    usual: MaxAge
    lists: Mapping[ListName, MaxAge] = field(default_factory=dict)
    """those of lists with limits of their own, by the list's name at the source"""
    usual_distance: int = FARTHEST
    distances: Mapping[ListName, int] = field(default_factory=dict)
    """those of lists with a distance of their own"""

    def stated(self, own_name: ListName) -> StatedLimits:
        """Return what the manifest of a list states."""
        return StatedLimits(self.of(own_name), self.distances.get(own_name, self.usual_distance))

    def of(self, own_name: ListName) -> MaxAge:
        """Return the limits of the age of a list."""
        return self.lists.get(own_name, self.usual)

    @property
    def sign_after(self) -> timedelta:
        """The age at which a timestamp is signed again, so that matchers learn of a verification before they warn."""
        return timedelta(seconds=min(limits.warn for limits in (self.usual, *self.lists.values())) / _PARTS)


def usual_warn(interval: float) -> int:
    """Return the first limit of a source that is synced every ``interval`` seconds."""
    return max(_LEAST_WARN, int(_MISSED_SYNCS * interval))


def usual_limits(interval: float) -> MaxAge:
    """Return the limits of a source that is synced every ``interval`` seconds and has no others."""
    warn = usual_warn(interval)
    return MaxAge(warn=warn, critical=warn + CRITICAL_AFTER_WARN)


def judge_age(age: timedelta | None, limits: MaxAge) -> AgeVerdict:
    """Judge an age. It is unknown if it is None, or so far below zero that the local clock must be wrong."""
    if age is None or clock_is_behind(age) or age >= timedelta(seconds=limits.critical):
        return AgeVerdict.STALE
    return AgeVerdict.WARN if age >= timedelta(seconds=limits.warn) else AgeVerdict.FRESH


def limit_in_words(seconds: int) -> str:
    """Format a limit for people."""
    return span(timedelta(seconds=seconds))
