"""The public API for matching services."""

from syncd.matcher.feed import Feed
from syncd.matcher.matcher import Matcher
from syncd.matcher.status import ListStatus
from syncd.model import Hit

__all__ = ["Feed", "Hit", "ListStatus", "Matcher"]
