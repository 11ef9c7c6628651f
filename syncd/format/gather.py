"""Taking many rows out of columns: row by row if they are scattered, run by run if they lie together.

Two states of a list differ in few rows, so the rows taken are mostly long runs of neighbours. Copying runs costs a
tenth of picking single rows, and a single run is a view that costs nothing.
"""

from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Value = TypeVar("Value", bound=np.generic)
_ROWS_A_RUN: Final = 64
"""Average rows a run below which picking single rows is faster."""


class Gather:
    """A set of positions, to be taken out of several columns."""

    def __init__(self, index: NDArray[np.int64]) -> None:
        self._index = index
        self._runs = _runs(index)

    def values(self, column: NDArray[Value]) -> NDArray[Value]:
        """Return the values at the positions, in that order; a view if they are one run."""
        if self._runs is None:
            return column[self._index]
        if len(self._runs) == 1:
            start, stop = self._runs[0]
            return column[start:stop]
        return np.concatenate([column[start:stop] for start, stop in self._runs])

    def entries(self, column: Any) -> Any:
        """Return the same of an Arrow array."""
        if self._runs is None:
            index = np.ascontiguousarray(self._index, np.int64)
            # pa.array would import numpy.ma: 10 ms in a new process
            return column.take(pa.Array.from_buffers(pa.int64(), len(index), [None, pa.py_buffer(index)]))
        slices = [column.slice(start, stop - start) for start, stop in self._runs]
        return slices[0] if len(slices) == 1 else pa.concat_arrays(slices)


def _runs(index: NDArray[np.int64]) -> list[tuple[int, int]] | None:
    """Return ``index`` as runs [start, stop) of neighbours; None if there would be too many."""
    breaks = np.flatnonzero(np.diff(index) != 1) + 1
    if not len(index) or (len(breaks) + 1) * _ROWS_A_RUN > max(len(index), _ROWS_A_RUN):
        return None
    first = np.concatenate([[0], breaks])
    lengths = np.diff(np.concatenate([first, [len(index)]]))
    starts = index[first]
    return list(zip(starts.tolist(), (starts + lengths).tolist(), strict=True))
