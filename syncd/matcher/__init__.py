"""The public API for matching services."""

from syncd.errors import AlgorithmNotHeld, RetiredList, StaleList
from syncd.format.freshness import AgeVerdict
from syncd.matcher.feed import Feed
from syncd.matcher.matcher import Matcher
from syncd.matcher.near import NearHit
from syncd.matcher.status import ListStatus
from syncd.matcher.video import VideoHit, VideoRule
from syncd.model import Hit

__all__ = [
    "AgeVerdict",
    "AlgorithmNotHeld",
    "Feed",
    "Hit",
    "ListStatus",
    "Matcher",
    "NearHit",
    "RetiredList",
    "StaleList",
    "VideoHit",
    "VideoRule",
]
