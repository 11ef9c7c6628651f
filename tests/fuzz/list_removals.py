"""A partner's files of rows to remove."""

from fuzz.scratch import emptied, written
from syncd.listfile.load import load_removals


def one(content: bytes) -> None:
    """Read rows to remove."""
    skip_bad = emptied("bad") / "bad.csv" if len(content) % 3 else None
    load_removals(written("list", content), emptied("rows"), skip_bad=skip_bad)
