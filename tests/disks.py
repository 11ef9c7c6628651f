"""File systems of our own, for tests that run as root."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def root_only() -> None:
    """Skip the test where it is not root that runs it."""
    if os.geteuid() != 0:
        pytest.skip("mounting and changing users takes root")


@contextmanager
def mounted(target: Path, *options: str) -> Iterator[None]:
    """Mount for the length of a test."""
    root_only()
    found = subprocess.run(["mount", *options, str(target)], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"cannot mount here: {found.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(target)], check=True)
