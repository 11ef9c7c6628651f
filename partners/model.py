"""The records of a partner, and what happens to them: the truth that lists are compared with."""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

FIRST = 1_760_000_000
"""The model's clock at the beginning: seconds, October 2025."""


@dataclass(frozen=True)
class Stated:
    """One record in its latest state."""

    number: int
    version: int
    changed: int
    """seconds"""
    deleted: bool = False

    def hexadecimal(self, algorithm: str) -> str:
        """Return the digest that this state of the record has under an algorithm."""
        width = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64, "pdq": 32, "photodna": 144}[algorithm]
        return hashlib.shake_256(f"{algorithm} {self.number} {self.version}".encode()).hexdigest(width)


@dataclass
class Model:
    """All records by number, deleted ones included."""

    now: int = FIRST
    records: dict[int, Stated] = field(default_factory=dict)

    @property
    def time(self) -> datetime:
        """The model's clock."""
        return datetime.fromtimestamp(self.now, UTC)

    def tick(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds

    def put(self, number: int) -> None:
        """Add a record, change it, or create it again after a deletion."""
        old = self.records.get(number)
        self.records[number] = Stated(number, old.version + 1 if old else 0, self.now)

    def delete(self, number: int) -> None:
        """Delete a record, if there is one."""
        if number in self.records:
            self.records[number] = replace(self.records[number], changed=self.now, deleted=True)

    def forget(self, before: int) -> None:
        """Forget deletions of a time before."""
        for number, stated in list(self.records.items()):
            if stated.deleted and stated.changed < before:
                del self.records[number]

    @property
    def live(self) -> list[Stated]:
        """The records that are not deleted."""
        return [stated for stated in self.records.values() if not stated.deleted]
