"""What pages show, as it was read at one time."""

from collections.abc import Sequence
from dataclasses import dataclass

from syncd.catalog.records import MatcherRecord, VersionSummary
from syncd.pipeline.laggards import Standing
from syncd.pipeline.overview import Overview
from syncd.service.web.dashboard.tasks import Task

History = Sequence[VersionSummary]
"""Versions of a list, by number."""


@dataclass(frozen=True)
class Found:
    """How everything stands, what needs a person, and the matchers."""

    overview: Overview
    tasks: Sequence[Task]
    matchers: Sequence[MatcherRecord]
    """who may pull"""
    standings: Sequence[Standing]
    """what each instance of them has loaded, by matcher, instance and list"""
