"""The keys that every table ``[sources.NAME]`` has, whatever its type."""

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from syncd.errors import nearest
from syncd.format.freshness import CRITICAL_AFTER_WARN, FARTHEST, MaxAge, SourceAges, usual_warn
from syncd.limits import GateTable
from syncd.model import LIST_NAME, ListName
from syncd.settings import Interval, Lists, Seconds

if TYPE_CHECKING:
    from syncd.sources.source import Source

_LONGER: Final = "give a longer one; without it, the limits follow from the interval (docs/configuration.md)"


Distance = Annotated[int, Field(ge=0, le=FARTHEST)]


class AgeTable(BaseModel):
    """``[sources.NAME.ages.LIST]``: the limits of the age of one list. A source has the same keys for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_age_warn: Seconds | None = None
    max_age_critical: Seconds | None = None


class SourceTable(BaseModel):
    """The keys of every source, whatever its type, and the methods that the rest of syncd uses."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: str
    interval: Interval = 600.0
    deadline: Seconds = 600.0
    lists: Lists = ()
    gate: GateTable = GateTable()
    max_age_warn: Seconds | None = None
    max_age_critical: Seconds | None = None
    ages: dict[str, AgeTable] = {}
    max_distance: Distance = FARTHEST
    distances: dict[str, Distance] = {}

    @property
    @abstractmethod
    def place(self) -> str:
        """The address or folder of the source, for display; never contains a secret."""

    @abstractmethod
    def source(self, name: str) -> "Source":
        """Return the source to sync."""

    @property
    def is_complete(self) -> bool:
        """False if a required file was left out, because only the service has that credential."""
        return all(getattr(self, key) is not None for key, one in type(self).model_fields.items() if one.is_required())

    def secrets(self) -> dict[str, Path]:
        """Return the files that contain secrets, by key."""
        return {}

    def client_certificate(self) -> Path | None:
        """Return the certificate that we present to the source, if any."""
        return None

    def fault(self) -> tuple[str, str, str] | None:
        """Return a key that does not fit the others, with message and hint; None if all fit."""
        for name, key in [(name, "ages") for name in self.ages] + [(name, "distances") for name in self.distances]:
            if not LIST_NAME.fullmatch(name) or (self.lists and name not in self.lists):
                hint = nearest(name, self.lists, "list") if self.lists else "write the list's name at the source"
                return f"{key}.{name}", "not a list of this source", hint
        for where, table in {"": AgeTable(), **{f"ages.{name}.": own for name, own in self.ages.items()}}.items():
            warn, critical = self._limits(table)
            if warn < 2 * self.interval:
                return f"{where}max_age_warn", "less than two intervals: no list could stay below it", _LONGER
            if critical < warn:
                return f"{where}max_age_critical", "less than max_age_warn", _LONGER
        return self.gate.fault()

    def max_ages(self) -> SourceAges:
        """Return the limits of the source's lists."""
        of_lists = {ListName(name): _max_age(self._limits(own)) for name, own in self.ages.items()}
        distances = {ListName(name): distance for name, distance in self.distances.items()}
        return SourceAges(_max_age(self._limits(AgeTable())), of_lists, self.max_distance, distances)

    def _limits(self, table: AgeTable) -> tuple[int, int]:
        """Return the limits that a table gives. Keys that it lacks are those of the source, or follow its interval."""
        warn = table.max_age_warn or self.max_age_warn or usual_warn(self.interval)
        critical = table.max_age_critical or self.max_age_critical or warn + CRITICAL_AFTER_WARN
        return int(warn), int(critical)


def _max_age(limits: tuple[int, int]) -> MaxAge:
    warn, critical = limits
    return MaxAge(warn=warn, critical=critical)
