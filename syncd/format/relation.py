"""The rule between two versions of a list: how a signed manifest relates to the version that a reader holds.

A source's plan, a pull and a load each decide for themselves what to do about it; how the two relate is decided here.
"""

import enum
from dataclasses import dataclass

from syncd.format.manifest import Manifest, ManifestRef, Step


class Relation(enum.Enum):
    """How a manifest relates to a version held."""

    SAME = enum.auto()
    """the very manifest that is held"""
    OLDER = enum.auto()
    """a lower version: a replay, or a signer that went back to a backup"""
    CONTRADICTS = enum.auto()
    """the version that is held with other content: a number was signed twice"""
    FOLLOWS = enum.auto()
    """newer, and its recent deltas lead here from the version held"""
    FORKED = enum.auto()
    """newer, but its recent deltas reach back past the version held without going through it"""
    TOO_FAR = enum.auto()
    """newer, and its recent deltas do not reach back to the version held: whether it descends from it is not stated"""


@dataclass(frozen=True)
class Related:
    """A relation, and for `Relation.FOLLOWS` the deltas to apply to the version held, oldest first."""

    relation: Relation
    steps: tuple[Step, ...] = ()


def relate(held: ManifestRef, manifest: Manifest, sha256: str) -> Related:
    """Return how ``manifest``, whose bytes have the hash ``sha256``, relates to the version ``held``. Pure."""
    if sha256 == held.sha256:
        return Related(Relation.SAME)
    if manifest.version < held.version:
        return Related(Relation.OLDER)
    if manifest.version == held.version:
        return Related(Relation.CONTRADICTS)
    steps = manifest.steps_from(held)
    if steps is not None:
        return Related(Relation.FOLLOWS, steps)
    reaches = any(step.previous.version <= held.version for step in manifest.recent)
    return Related(Relation.FORKED if reaches else Relation.TOO_FAR)
