"""What pages show, as it was read at one time."""

from collections.abc import Sequence
from dataclasses import dataclass

from syncd.catalog.records import VersionSummary
from syncd.report.overview import Overview
from syncd.service.web.dashboard.tasks import Task

History = Sequence[VersionSummary]
"""Versions of a list, by number."""


@dataclass(frozen=True)
class Found:
    """How everything stands, and what needs a person."""

    overview: Overview
    tasks: Sequence[Task]
