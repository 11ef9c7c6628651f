"""A partner's list files: CSV, JSON, outputs of tools, compressed or not."""

from fuzz.scratch import emptied, written
from syncd.listfile.load import load_rows
from syncd.listfile.profile import Profile
from syncd.model import Algorithm


def one(content: bytes) -> None:
    """Read rows to add, with and without the algorithm; then with bad rows set aside."""
    path = written("list", content)
    profile = Profile(algorithm=Algorithm.MD5) if len(content) % 2 else Profile()
    skip_bad = emptied("bad") / "bad.csv" if len(content) % 3 else None
    load_rows(path, emptied("rows"), skip_bad=skip_bad, profile=profile)
