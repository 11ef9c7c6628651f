"""Who pulled what: a stand-in."""

from datetime import datetime
from typing import Any


class Pulls:
    """Counts what is sent to whom."""

    def __init__(self, catalog: Any) -> None:
        del catalog

    def note(self, visitor_name: str, path: str, sent: int) -> None:
        """Count one answer."""

    def flush(self, now: datetime) -> None:
        """Write what the hour brought."""
