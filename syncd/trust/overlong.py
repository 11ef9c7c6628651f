"""Timestamps that state an expiry far too late: their signer's clock was ahead, or ours is behind.

Only the expiry of the timestamp reveals a feed that is no longer signed, or a mirror that replays an old state. So a
timestamp counts at most for `COUNTED` after our clock first verified it. Metadata of other roles is named, by its hash,
in a timestamp that counts: how long it is valid is its signer's choice.

The record of such a timestamp is a file beside the client's metadata. It exists only while the feed has such a one.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import ConfigDict, TypeAdapter, ValidationError

from syncd import files
from syncd.clock import CORRECT
from syncd.errors import ExpiredError
from syncd.units import day, span

COUNTED: Final = timedelta(days=30)
"""The longest time for which a timestamp counts after it was first verified: fifteen times the lifetime that syncd
gives it."""
TO_DO: Final = f"{CORRECT}; if it is right, ask the publisher, whose clock was ahead, to correct it and sign again"
_RECORD: Final = ".overlong"
"""The name of the record; no role can have this name."""
_MAX_RECORD: Final = 4096


@dataclass(frozen=True)
class LateExpiry:
    """An expiry that is far too late, and the time until which the timestamp that states it counts."""

    expires: datetime
    until: datetime

    @property
    def excess(self) -> timedelta:
        """The part of the validity that does not count."""
        return self.expires - self.until

    @property
    def why(self) -> str:
        """The fault, in words."""
        return (
            f"its timestamp is valid for far too long, until {day(self.expires)} UTC: it counts only until "
            f"{day(self.until)} UTC"
        )


@dataclass(frozen=True)
class OverlongTimestamp:
    """The newest timestamp of a feed, if its stated expiry does not count in full."""

    __pydantic_config__ = ConfigDict(extra="ignore")
    version: int
    expires: datetime
    """as it states"""
    since: datetime
    """when our clock first verified it"""
    ended: bool = False
    """true once `until` has passed: the timestamp then stays expired, even when the stated expiry comes near"""

    @property
    def until(self) -> datetime:
        """The time from which it counts as expired."""
        return min(self.expires, self.since + COUNTED)

    @property
    def late(self) -> LateExpiry:
        """Its expiry, stated and counted."""
        return LateExpiry(self.expires, self.until)

    @property
    def error(self) -> ExpiredError:
        """The rejection of a feed with this timestamp, once it has ended."""
        return ExpiredError(f"the feed was not signed again for {span(COUNTED)}, and {self.late.why}", hint=TO_DO)


_DOCUMENT: Final = TypeAdapter(OverlongTimestamp)


def judge_lifetime(
    known: OverlongTimestamp | None, version: int, expires: datetime, now: datetime
) -> OverlongTimestamp | None:
    """Judge the newest timestamp; return None if its expiry counts in full. Pure. ``known``: the record so far."""
    if known is not None and known.version != version:
        known = None
    if known is not None and known.ended:
        return known
    if expires - now <= COUNTED:  # also if our clock was far behind when it was recorded
        return None
    found = OverlongTimestamp(version, expires, min(known.since, now) if known else now)
    return replace(found, ended=now >= found.until)


def record_lifetime(folder: Path, version: int, expires: datetime, now: datetime) -> OverlongTimestamp | None:
    """Judge the timestamp that was verified in ``folder``, and record the judgement. Raises `StoreError`."""
    before = read_overlong(folder)
    after = judge_lifetime(before, version, expires, now)
    if after is None and before is not None:
        with files.storage(folder, "clean"):
            folder.joinpath(_RECORD).unlink(missing_ok=True)
    elif after is not None and after != before:
        files.install_bytes(folder / _RECORD, _DOCUMENT.dump_json(after))
    return after


def read_overlong(folder: Path) -> OverlongTimestamp | None:
    """Return the record in a metadata client's folder; None if the timestamp counts in full, or it is damaged.

    Raises `StoreError`.
    """
    path = folder / _RECORD
    with files.storage(path, "read"):
        if not path.is_file():
            return None
    try:
        return _DOCUMENT.validate_json(files.read_bytes(path, _MAX_RECORD))
    except ValidationError:  # the next refresh writes it again
        return None
