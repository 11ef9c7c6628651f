"""The configuration."""

from fuzz.scratch import written
from syncd.config_file import load


def one(content: bytes) -> None:
    """Read a configuration."""
    load(written("syncd.toml", content))
