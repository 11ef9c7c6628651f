"""Segments of a stack that a copy has not folded yet, and reads from the inputs of the fold until then.

Folding a large list takes as long as reading and writing it. A newer version need not wait for that, since the inputs
of a fold give the same rows as its output.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from syncd.feed.folder import FeedFolder
from syncd.format.manifest import Manifest, SegmentRef

Unfolded = Mapping[str, tuple[SegmentRef, ...]]
"""The inputs that are read in place of segments that are not folded here yet, by the SHA-256 of the segment."""
NOTHING_UNFOLDED: Final[Unfolded] = MappingProxyType({})


def stack_here(folder: FeedFolder, manifest: Manifest, unfolded: Unfolded) -> tuple[SegmentRef, ...]:
    """Return the segments to read for a version: its stack, with the inputs of each segment that is still to be folded.

    An entry of ``unfolded`` is used only if the signed manifest names the same inputs.
    """
    if not unfolded:
        return manifest.stack
    signed = {recipe.output: recipe.inputs for recipe in manifest.folds}
    stack: list[SegmentRef] = []
    for ref in manifest.stack:
        inputs = unfolded.get(ref.sha256, ())
        agreed = inputs and tuple(used.sha256 for used in inputs) == signed.get(ref.sha256)
        stack += inputs if agreed and folder.missing(manifest.list, [ref]) else (ref,)
    return tuple(stack)
