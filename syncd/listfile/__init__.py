"""Reading list files: CSV or NDJSON in, sorted segments or removals out. A bad row is named by line and column.

::

    text ──> parsers ──> values ──> buckets ──> collect ──> load
    (blocks)  (columns)   (judged)   (sorted)    (segments)   (columns, counts)

`ListFiles` makes a `syncd.format.batch.Batch` of them, which can be published.
"""

from syncd.listfile.files import ListFiles
from syncd.listfile.load import LoadedRemovals, LoadedRows, Progress, load_removals, load_rows

__all__ = ["ListFiles", "LoadedRemovals", "LoadedRows", "Progress", "load_removals", "load_rows"]
