"""Plan what to fetch: nothing, some deltas, or the whole list. Pure. In any doubt the plan is `Full`."""

from syncd.errors import EquivocationError, RollbackError
from syncd.format.manifest import Manifest, ManifestRef
from syncd.format.relation import Relation, relate
from syncd.pipeline.values import Deltas, Full, FullReason, Plan, UpToDate


def plan(
    held: ManifestRef | None, upstream: Manifest, sha256: str, *, complete: bool = True, retrusted: bool = False
) -> Plan:
    """Decide how to get from ``held`` to ``upstream`` (whose hash is ``sha256``). Pure.

    ``complete``: every held segment is still on this disk. ``retrusted``: the held version was signed under a root that
    is no longer trusted, so its number means nothing. Raises `RollbackError`, `EquivocationError`.
    """
    if retrusted:
        return Full(FullReason.RETRUSTED)
    if held is None:
        return Full(FullReason.FIRST)
    related = relate(held, upstream, sha256)
    match related.relation:
        case Relation.OLDER:
            raise RollbackError(
                f"{upstream.list} went back from serial {held.version} to {upstream.version}",
                hint="the partner restored an old state or an attacker replays one: ask the partner out of band",
            )
        case Relation.CONTRADICTS:
            raise EquivocationError(
                f"{upstream.list} serial {held.version} was signed twice with different content",
                hint="keep the evidence and call the partner: its keys may be stolen",
            )
        case Relation.SAME:
            return UpToDate() if complete else Full(FullReason.LOCAL_LOSS)
        case Relation.FORKED:  # before LOCAL_LOSS: losing files must not open the gate
            return Full(FullReason.FORKED)
        case Relation.FOLLOWS if complete:
            return Deltas(related.steps)
    return Full(FullReason.CHAIN_GAP if complete else FullReason.LOCAL_LOSS)
