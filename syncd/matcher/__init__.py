"""What a matching service imports."""

from syncd.matcher.matcher import ListStatus, Matcher
from syncd.model import Hit

__all__ = ["Hit", "ListStatus", "Matcher"]
