"""Reading list files: a partner's file in, sorted segments or removals out. A bad row is named by line and column.

::

    unpack ──> text ──> detect ──> parsers ──> values ──> buckets ──> collect ──> load
    (UTF-8)  (blocks)   (form)    (columns)  (judged)   (sorted)    (segments)  (columns, counts)

``documents`` turns JSON documents into lines; ``profile`` gives the places of the values in files of other columns,
which ``header`` and ``selection`` find for ``tables``, and ``tools`` for the output of hash tools. ``causes`` and
``first_line`` say why a file is refused. `ListFiles` makes a `syncd.format.batch.Batch`, which can be published.
"""

from syncd.listfile.files import ListFiles
from syncd.listfile.load import LoadedRemovals, LoadedRows, Progress, load_removals, load_rows

__all__ = ["ListFiles", "LoadedRemovals", "LoadedRows", "Progress", "load_removals", "load_rows"]
