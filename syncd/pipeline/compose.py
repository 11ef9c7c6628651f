"""Compose: from the next origin and the verdict to the head's next delta. Pure.

Where both lanes pass, head and origin do not differ, and the upstream's segments are published byte for byte.
"""

from syncd.format.manifest import FileRef, Manifest, Origin
from syncd.model import ListName
from syncd.pipeline.values import Candidate, Pass
from syncd.publish.change import ListChange


def compose(
    name: ListName, candidate: Candidate, passed: tuple[Pass, Pass], head: Manifest | None, evidence: FileRef | None
) -> ListChange | None:
    """Return the change of the head ``name``; None where it does not change. Pure.

    ``passed`` is the gate's word for both lanes: without it there is nothing to call this with. Which rows of a
    half-held update may flow is the policy's to say. A candidate with no delta over a head (what was held is lost, from
    the head as well) replaces its stack.
    """
    del passed
    if head is not None and not candidate.total.effective:
        return None
    whole = head is not None and not candidate.delta
    return ListChange(
        list=name,
        segments=candidate.delta if head else (),
        whole=whole,
        counts=candidate.counts,
        end_state=candidate.end_state,
        stack=(*head.stack, *candidate.delta) if head and not whole else candidate.stack,
        origin=_origin(candidate, evidence),
    )


def _origin(candidate: Candidate, evidence: FileRef | None) -> Origin:
    """What is stated by somebody who signs nothing stays so: a second syncd does not make it signed."""
    upstream = candidate.manifest.origin
    kind = upstream.kind if upstream else "signed"
    return Origin(serial=candidate.manifest.version, manifest=candidate.sha256, evidence=evidence, kind=kind)
