"""The rule between two versions of a list: how a signed manifest relates to the version that a reader holds.

The relation is decided here. A source's plan, a pull and a load each decide what to do about it.
"""

import enum
from dataclasses import dataclass

from syncd.format.manifest import Manifest, ManifestRef, Step


class Relation(enum.Enum):
    """The relation of a manifest to the version held."""

    SAME = enum.auto()
    """the same manifest"""
    OLDER = enum.auto()
    """a lower version: a replay, or a signer restored from a backup"""
    CONTRADICTS = enum.auto()
    """the same version with other content: a version was signed twice"""
    FOLLOWS = enum.auto()
    """newer, and its recent deltas lead to it from the version held"""
    FORKED = enum.auto()
    """newer, but its recent deltas bypass the version held"""
    TOO_FAR = enum.auto()
    """newer, but its recent deltas do not reach back to the version held, so its descent is unknown"""


@dataclass(frozen=True)
class Related:
    """A relation and, if it is `Relation.FOLLOWS`, the deltas to apply to the version held, oldest first."""

    relation: Relation
    steps: tuple[Step, ...] = ()


def relate(held: ManifestRef, manifest: Manifest, sha256: str) -> Related:
    """Return the relation of ``manifest``, whose bytes have the hash ``sha256``, to the version ``held``. Pure."""
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
