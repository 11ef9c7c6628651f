"""Fixtures for stories."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina

from world import World


@pytest.fixture(autouse=True)
def _no_waiting_between_attempts() -> Iterator[None]:
    """Retries happen, at once."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A partner, an operator and a matcher that know one another."""
    return World(tmp_path)
