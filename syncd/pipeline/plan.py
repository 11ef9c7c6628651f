"""What to fetch: nothing, some deltas, or the whole list. Pure; every doubt falls to `Full`."""

from syncd.errors import EquivocationError, RollbackError
from syncd.format.manifest import Manifest, ManifestRef
from syncd.pipeline.values import Deltas, Full, FullReason, Plan, UpToDate


def plan(
    held: ManifestRef | None, upstream: Manifest, sha256: str, *, complete: bool = True, retrusted: bool = False
) -> Plan:
    """Decide how to get from ``held`` to ``upstream`` (whose hash is ``sha256``). Pure.

    ``complete``: every held segment is still here. ``retrusted``: what is held was signed under a root that is trusted
    no more, so its number says nothing. Raises `RollbackError` and `EquivocationError`.
    """
    if retrusted:
        return Full(FullReason.RETRUSTED)
    if held is None:
        return Full(FullReason.FIRST)
    if upstream.version < held.version:
        raise RollbackError(
            f"{upstream.list} went back from serial {held.version} to {upstream.version}",
            hint="the partner restored an old state or somebody replays it; ask the partner out of band",
        )
    if upstream.version == held.version and sha256 != held.sha256:
        raise EquivocationError(
            f"{upstream.list} serial {held.version} was signed twice with different content",
            hint="keep the evidence and call the partner: its keys may be in other hands",
        )
    if upstream.version == held.version:
        return UpToDate() if complete else Full(FullReason.LOCAL_LOSS)
    steps = upstream.steps_from(held)
    if steps is None and _contradicts(held, upstream):
        return Full(FullReason.FORKED)  # also where segments were lost: to lose some must not open the gate
    if not complete:
        return Full(FullReason.LOCAL_LOSS)
    return Full(FullReason.CHAIN_GAP) if steps is None else Deltas(steps)


def _contradicts(held: ManifestRef, upstream: Manifest) -> bool:
    """Whether the chain of recent deltas reaches back past ``held`` without going through it."""
    return any(step.previous.version <= held.version for step in upstream.recent)
