"""The limits of the gate, as configured for a source, a list, an algorithm or a label. ``docs/gate.md`` explains each.

::

    [sources.iwf.gate]                              every list of the source
    [sources.iwf.gate.lists.images]                 one list
    [sources.iwf.gate.lists.images.algorithms.pdq]  one algorithm of it; without ``lists.images``: of every list
    [sources.iwf.gate.lists.images.labels.A1]       one label

A table changes only the keys that it names: the rest is as in the table around it.
"""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from syncd.settings import GivenFile

Percent = Annotated[float, Field(ge=0, le=1_000_000)]
RowCount = Annotated[int, Field(ge=0, lt=1 << 63)]


class ChangeLimits(BaseModel):
    """The largest change that is not held: a percentage of the rows, or a number of rows if that allows more."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_removed_percent: Percent = 5.0
    max_removed_week_percent: Percent = 10.0
    max_removed_rows: RowCount = 50
    max_added_percent: Percent = 50.0
    max_added_week_percent: Percent = 100.0
    max_added_rows: RowCount = 1000
    max_relabelled_percent: Percent = 5.0
    max_relabelled_rows: RowCount = 50


class PartLimits(ChangeLimits):
    """The limits of a part of a list: an algorithm or a label."""

    min_rows: RowCount = 0
    max_rows: RowCount | None = None


class ListLimits(PartLimits):
    """The limits of a list, and of the algorithms and labels named in the configuration."""

    min_rows: RowCount = 1
    max_serial_jump: RowCount = 10_000
    known_algorithms: tuple[str, ...] = ()
    """empty: all"""
    known_labels: tuple[str, ...] = ()
    """empty: all"""
    must_have_file: GivenFile | None = None
    known_good_file: GivenFile | None = None
    """None: the one of ``[gate]``"""
    max_known_good: RowCount = 10
    algorithms: dict[str, PartLimits] = {}
    labels: dict[str, PartLimits] = {}

    def of_algorithm(self, algorithm: str) -> PartLimits:
        """Return the limits of one algorithm: the list's, except where its own table says otherwise."""
        return self._part(self.algorithms.get(algorithm))

    def of_label(self, label: str) -> PartLimits:
        """Return the limits of a label that has a table."""
        return self._part(self.labels[label])

    def _part(self, own: PartLimits | None) -> PartLimits:
        changes = {name: getattr(self, name) for name in ChangeLimits.model_fields}
        return PartLimits(**{**changes, **(_given(own) if own else {})})


class GateTable(ListLimits):
    """``[sources.NAME.gate]``: the limits of every list of a source, and of lists with a table of their own."""

    lists: dict[str, ListLimits] = {}

    def of_list(self, name: str) -> ListLimits:
        """Return the limits of one list, by its name at the source."""
        shared = {field: getattr(self, field) for field in ListLimits.model_fields}
        own = _given(self.lists[name]) if name in self.lists else {}
        for part in ("algorithms", "labels"):
            tables = dict(shared[part])
            for key, table in own.get(part, {}).items():
                tables[key] = PartLimits(**{**(_given(tables[key]) if key in tables else {}), **_given(table)})
            own[part] = tables
        return ListLimits(**{**shared, **own})

    def fault(self) -> tuple[str, str, str] | None:
        """Return a key that no list can meet, with message and hint; None if there is none."""
        for name in ("", *self.lists):
            limits = self.of_list(name)
            parts = {"": limits, **{f"algorithms.{one}.": limits.of_algorithm(one) for one in limits.algorithms}}
            parts |= {f"labels.{one}.": limits.of_label(one) for one in limits.labels}
            for part, table in parts.items():
                if table.max_rows is not None and table.max_rows < max(table.min_rows, 1):
                    where = f"gate.{f'lists.{name}.' if name else ''}{part}max_rows"
                    least = f"min_rows is {table.min_rows:,} there" if table.min_rows > 1 else "every list has a row"
                    return where, f"{table.max_rows:,} is too small: {least}", "raise it, or lower min_rows"
        return None


class EveryGate(BaseModel):
    """``[gate]``: keys for the gate of every source."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    known_good_file: GivenFile | None = None


DEFAULT_LIMITS: Final = ListLimits()
_UNLIMITED: Final = (1 << 63) - 1
NO_LIMITS: Final = GateTable.model_validate(
    {
        "min_rows": 0,
        "max_serial_jump": _UNLIMITED,
        "max_known_good": _UNLIMITED,
        **{name: _UNLIMITED for name in ChangeLimits.model_fields if name.endswith("_rows")},
    }
)
"""Limits that hold no change, only an emptied, retired or forked list."""


_ALONE: Final = 10
"""Rows of any list that one operator may take off it in a day, however small it is."""
_ALONE_AT_MOST: Final = 100
_ALONE_SHARE: Final = 0.001


def allowed_alone(rows: int) -> int:
    """Return how many rows of a list with ``rows`` one operator may take off it in 24 hours."""
    return min(_ALONE_AT_MOST, max(_ALONE, int(rows * _ALONE_SHARE)))


def _given(table: BaseModel) -> dict[str, Any]:
    """Return the keys that a table names itself."""
    return {name: getattr(table, name) for name in table.model_fields_set}
