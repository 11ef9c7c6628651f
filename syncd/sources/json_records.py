"""Records of partners that answer in JSON: the part of reading them that is the same for all. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from syncd.model import ListName
from syncd.sources.selection import RecordSelection
from syncd.sources.statements import Fingerprint, Record
from syncd.sources.values import SetAside, clean_label


class JsonRecordReader(ABC):
    """Reads the items of an answer as one source is configured. Subclasses know the partner's form."""

    FIELDS: ClassVar[frozenset[str]] = frozenset()
    """the fields of an item; others are counted. Empty if the partner may be asked for more or fewer"""

    def __init__(self, selection: RecordSelection) -> None:
        self._selection = selection
        self.aside = SetAside()

    def read(self, items: Iterable[object]) -> list[Record]:
        """Return the records of the items that have one, in order."""
        return [record for item in items if (record := self._of_item(item)) is not None]

    def _of_item(self, item: object) -> Record | None:
        if not isinstance(item, dict):
            self.aside.add("record that is not an object")
            return None
        if self.FIELDS and not item.keys() <= self.FIELDS:
            for key in item.keys() - self.FIELDS:
                self.aside.unknown("field", key)
        return self._record(item)

    @abstractmethod
    def _record(self, item: Mapping[str, Any]) -> Record | None:
        """Return the record of an item; None if it has no key, or belongs to no configured list."""

    def _stated(self, name: ListName, entry: str, label: str, fingerprint: Fingerprint | None) -> Record:
        """Return a record as it stands now; without a usable fingerprint it is gone."""
        if fingerprint is None:
            return Record(name, entry, "", ())
        return Record(name, entry, clean_label(label, self.aside), (fingerprint,))
