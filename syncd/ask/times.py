"""Times as people write them in a question: a time, or a duration ago."""

from datetime import UTC, datetime, timedelta

from syncd.errors import UsageError
from syncd.settings import parse_duration


def instant(text: str) -> datetime | None:
    """Parse a time, in UTC unless it names a zone. None if it is not a time."""
    try:
        parsed = datetime.fromisoformat(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def time_or_ago(text: str, name: str, now: datetime) -> datetime:
    """Parse a time, or a duration before ``now``. ``name``: of the option or field. Raises `UsageError`."""
    if (given := instant(text)) is not None:
        return given
    try:
        return now - timedelta(seconds=parse_duration(text))
    except (UsageError, OverflowError):
        raise UsageError(
            f"{name} is neither a time nor a duration",
            hint="for example 2026-11-01, 2026-11-01T09:30 (UTC unless it names a zone), 90s, 10m, 24h or 7d",
        ) from None
