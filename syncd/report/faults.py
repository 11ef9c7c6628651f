"""What storage keeps a daemon from doing. It cannot be read in the catalog: that may be what cannot be written."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class StorageFault:
    """Something that storage kept from being done, or recorded, and that has not succeeded since."""

    what: str
    """``sync of SOURCE``, ``timestamp``, or the name of a chore"""
    since: datetime
    message: str
    to_do: str
