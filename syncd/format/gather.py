"""Taking many rows out of columns: a row at a time where they lie scattered, run by run where they lie in runs.

Two states of a list differ in few rows, so what one takes out of the other are long runs of neighbours; copying runs
costs a tenth of picking rows, and one single run costs nothing.
"""

from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Value = TypeVar("Value", bound=np.generic)
_ROWS_A_RUN: Final = 64
"""Fewer rows a run than this on average, and picking them one by one is quicker."""


class Gather:
    """Some positions in a column, to be taken out of one column after the other."""

    def __init__(self, index: NDArray[np.int64]) -> None:
        self._index = index
        self._runs = _runs(index)

    def values(self, column: NDArray[Value]) -> NDArray[Value]:
        """The values at the positions, in that order; a view where they are one run."""
        if self._runs is None:
            return column[self._index]
        if len(self._runs) == 1:
            start, stop = self._runs[0]
            return column[start:stop]
        return np.concatenate([column[start:stop] for start, stop in self._runs])

    def entries(self, column: Any) -> Any:
        """The same, of an Arrow array."""
        if self._runs is None:
            return column.take(pa.array(self._index))
        slices = [column.slice(start, stop - start) for start, stop in self._runs]
        return slices[0] if len(slices) == 1 else pa.concat_arrays(slices)


def _runs(index: NDArray[np.int64]) -> list[tuple[int, int]] | None:
    """``index`` as runs [start, stop) of neighbours; None where that would be many."""
    breaks = np.flatnonzero(np.diff(index) != 1) + 1
    if not len(index) or (len(breaks) + 1) * _ROWS_A_RUN > max(len(index), _ROWS_A_RUN):
        return None
    first = np.concatenate([[0], breaks])
    lengths = np.diff(np.concatenate([first, [len(index)]]))
    starts = index[first]
    return list(zip(starts.tolist(), (starts + lengths).tolist(), strict=True))
