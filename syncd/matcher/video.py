"""Videos that match by their frames (vPDQ): how many frames of each are near frames of the other.

A listed video is an entry of algorithm ``vpdq``. Each of its rows is one frame: the PDQ of the frame, 32 bytes, and one
byte for its quality. (Meta, vPDQ: https://github.com/facebook/ThreatExchange/tree/main/vpdq, "Matching".)
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from syncd.errors import UsageError
from syncd.format.rows import Rows
from syncd.matcher.load import SearchSet
from syncd.matcher.near import DISTANCE, NearMatching, check_distance
from syncd.model import ListName

_PDQ: Final = 32
_BEST: Final = 100


@dataclass(frozen=True)
class VideoRule:
    """When two videos match. The defaults are those of the public vPDQ example. Raises `UsageError`."""

    distance: int = DISTANCE
    """bits in which two matching frames may differ"""
    quality: int = 50
    """frames of lower quality, of either video, are ignored"""
    asked_share: float = 0.8
    """share of the frames of the video asked about that must match, 0 to 1"""
    listed_share: float = 0.0
    """share of the frames of the listed video that must match, 0 to 1"""

    def __post_init__(self) -> None:
        check_distance(self.distance)
        if not 0 <= self.quality <= _BEST:
            raise UsageError(f"a quality of {self.quality} is not possible", hint="give a number from 0 to 100")
        for share in (self.asked_share, self.listed_share):
            if not 0 <= share <= 1:
                raise UsageError(f"a share of {share} is not possible", hint="give a fraction from 0 to 1")


USUAL: Final = VideoRule()


class VideoHit(NamedTuple):
    """One listed video that matches."""

    list: ListName
    version: int
    entry: str
    label: str
    asked_share: float
    """share of the frames asked about that are near a frame of the listed video"""
    listed_share: float
    """share of the frames of the listed video that are near a frame asked about"""


def checked_frames(frames: Iterable[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    """Return the frames of a video. Raises `UsageError`, without repeating a digest."""
    checked = list(frames)
    for number, frame in enumerate(checked, 1):
        try:
            digest, quality = frame
            valid = type(digest) is bytes and len(digest) == _PDQ and 0 <= quality <= _BEST
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise UsageError(
                f"frame {number} is not a pair of digest and quality",
                hint="give a PDQ of 32 bytes and a quality from 0 to 100 for each frame",
            )
    return checked


def match_video(
    matching: NearMatching,
    search_set: SearchSet,
    stated: Mapping[ListName, int],
    frames: list[tuple[bytes, int]],
    rule: VideoRule,
) -> list[VideoHit]:
    """Return the listed videos that match ``frames``, the best first; ``stated`` is as in `NearMatching.near`."""
    asked = sorted({digest for digest, quality in frames if quality >= rule.quality})
    if not asked:
        return []
    padded = np.frombuffer(
        b"".join(digest.ljust(search_set.width, b"\xff") for digest in asked), f"S{search_set.width}"
    )
    matched: dict[tuple[ListName, str], set[int]] = defaultdict(set)
    near: dict[tuple[ListName, str], set[bytes]] = defaultdict(set)
    labels: dict[tuple[ListName, str], tuple[int, str]] = {}
    for number, hits in enumerate(matching.near(search_set, stated, padded, rule.distance)):
        for hit in hits:
            if hit.digest[_PDQ] >= rule.quality:
                video = hit.list, hit.entry
                matched[video].add(number)
                near[video].add(hit.digest[:_PDQ])
                labels[video] = hit.version, hit.label
    enough = {video for video, numbers in matched.items() if len(numbers) / len(asked) >= rule.asked_share}
    found = []
    for name, _, stack in search_set.stacks:
        entries = sorted(entry for of, entry in enough if of == name)
        if not entries:
            continue
        frames_of = _frames_of(stack.rows_with_entries(entries), rule.quality)
        for entry in entries:
            video = name, entry
            listed = len(near[video]) / max(1, len(frames_of[entry]))
            if listed >= rule.listed_share:
                version, label = labels[video]
                found.append(VideoHit(name, version, entry, label, len(matched[video]) / len(asked), listed))
    return sorted(found, key=lambda hit: (-hit.asked_share, -hit.listed_share, hit.list, hit.entry))


def _frames_of(rows: Rows, quality: int) -> dict[str, set[bytes]]:
    """Return the PDQ of the frames of each entry, without those of lower quality."""
    frames: dict[str, set[bytes]] = defaultdict(set)
    content, width = rows.digests.tobytes(), rows.width
    for number, entry in enumerate(rows.entries.to_pylist()):
        digest = content[number * width : (number + 1) * width]
        if digest[_PDQ] >= quality:
            frames[entry].add(digest[:_PDQ])
    return frames
