"""The limits of a list in its manifests: of its age, and of near matches. If they change, they get a version."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from syncd.catalog.changes import HeadNote, Records
from syncd.catalog.records import OriginRecord, head_name
from syncd.format.freshness import SourceAges, StatedLimits
from syncd.format.manifest import Manifest
from syncd.model import ListName
from syncd.pipeline.settle.result import Settled
from syncd.publish.change import ListChange
from syncd.publish.publication import Proposal


def stating(settled: Settled, limits: StatedLimits | None) -> Settled:
    """Return a settled update whose versions state ``limits``; None: those of the version before."""
    proposal = settled.proposal
    if proposal is None or limits is None:
        return settled
    changes = tuple(
        replace(change, max_age=limits.max_age, max_distance=limits.max_distance) for change in proposal.changes
    )
    return replace(settled, proposal=replace(proposal, changes=changes))


def states_others(manifest: Manifest, limits: StatedLimits) -> bool:
    """Return True if a published list states other limits than ``limits``."""
    stated = manifest.max_age, manifest.max_distance
    return manifest.retired is None and stated != (limits.max_age, limits.max_distance)


def restated(
    origins: Iterable[OriginRecord], heads: Mapping[ListName, Manifest], ages: SourceAges
) -> Proposal[Records] | None:
    """Propose a version with the same end state for each list that states other limits; None if there is no such list.

    ``origins``: of the source to which ``ages`` belong; ``heads``: the manifests in force.
    """
    changes, notes = [], {}
    for origin in origins:
        name, limits = head_name(origin.source, origin.list), ages.stated(origin.list)
        manifest = heads.get(name)
        if manifest is not None and states_others(manifest, limits):
            changes.append(_restating(manifest, limits))
            notes[name] = HeadNote(origin.source, origin.serial, "limits")
    return Proposal("limits", tuple(changes), records=Records(notes=notes)) if changes else None


def _restating(manifest: Manifest, limits: StatedLimits) -> ListChange:
    return ListChange(
        manifest.list,
        segments=(),
        counts={},
        end_state=manifest.end_state,
        stack=manifest.stack,
        origin=manifest.origin,
        withheld=manifest.withheld,
        max_age=limits.max_age,
        max_distance=limits.max_distance,
    )
