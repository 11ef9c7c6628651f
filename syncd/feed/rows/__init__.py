"""Reading list files: CSV or NDJSON in, sorted segments or what to remove out; a bad row named by line and column.

::

    text ──> parsers ──> values ──> buckets ──> collect ──> load
    (blocks)  (columns)   (judged)   (sorted)    (segments)   (what publishing takes)
"""

from syncd.feed.rows.load import Loaded, Progress, Removals, load_removals, load_rows

__all__ = ["Loaded", "Progress", "Removals", "load_removals", "load_rows"]
