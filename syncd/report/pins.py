"""Lists that were rolled back, and so are pinned to an older version, in words and for people."""

from dataclasses import dataclass
from datetime import datetime

from syncd.catalog.records import Pin
from syncd.model import ListName
from syncd.units import day


@dataclass(frozen=True)
class PinView:
    """A pin, and the list that has it. A pinned list is not current, so a person has to end it."""

    list: ListName
    pin: Pin

    @property
    def version(self) -> int:
        """The version that the list was rolled back to."""
        return self.pin.version

    @property
    def since(self) -> datetime:
        """The time of the rollback."""
        return self.pin.at

    @property
    def by(self) -> str:
        """The operator who rolled it back."""
        return self.pin.by

    @property
    def effect(self) -> str:
        """The partner's changes that still reach the list."""
        return "no change of the partner reaches it" if self.pin.exact else "only removals reach it"

    @property
    def why(self) -> str:
        """Why the list is not current."""
        since = f"pinned to version {self.version} since {day(self.since)} UTC by {self.by}"
        return f"{since} ({self.pin.reason}): {self.effect}"

    @property
    def to_do(self) -> str:
        """The command that ends it."""
        return f"`syncd unpin {self.list} --reason R` lets it follow its source again"
