"""Which version each matcher has loaded: a stand-in."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from syncd.model import ListName


class Checkins:
    """Takes check-ins."""

    def __init__(self, catalog: Any, on_loaded: Callable[[ListName, float], None]) -> None:
        del catalog, on_loaded

    def note(self, visitor_name: str, instance: str, lists: Mapping[ListName, int], now: datetime) -> None:
        """Keep one in memory."""

    def flush(self) -> None:
        """Write them."""
