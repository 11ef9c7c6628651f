"""Limits of the past that is kept, as the configuration sets them in ``[retention]``. A plain value."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final


@dataclass(frozen=True)
class RetentionLimits:
    """The limits of the past that is kept. ``docs/configuration.md`` explains each, and what is kept beyond it."""

    versions: int = 1000
    """records of a list's versions in the catalog, each with its manifest (about 10 kB)"""
    published_versions: int = 16
    """versions of a list whose files stay in the feed, including the current one"""
    deltas: int = 64
    """versions of a list whose deltas stay in the feed; the current manifest names that many in any case"""
    evidence: int = 16
    """versions of a list whose evidence of the upstream stays in the feed"""
    syncs: int = 10_000
    """records of each source's syncs"""
    holds: int = 1000
    """ended holds"""
    publications: int = 20
    """commits of the ledger, each with the signed files"""
    answers: timedelta = timedelta(days=90)
    """age of the oldest raw answers of partners that sign nothing; those behind a list's present state stay"""
    grace: timedelta = timedelta(hours=24)
    """from when a file is first found unnamed to its removal"""
    matchers: timedelta = timedelta(days=30)
    """since its last check-in, a matcher's loaded versions are kept"""
    audit: timedelta | None = None
    """age of the oldest records of the audit log; None: they are kept forever"""


DEFAULTS: Final = RetentionLimits()
