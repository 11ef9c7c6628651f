"""Counting again what a worker staged, in the process that publishes: a worker that parses hostile bytes may be wrong,
or somebody else's.
"""

from collections.abc import Mapping

from syncd.errors import StoreError
from syncd.feed.folder import FeedFolder
from syncd.format.caps import Caps
from syncd.format.delta import drop_empty
from syncd.format.segment import Segment
from syncd.model import Algorithm, Counts, ListName
from syncd.pipeline.counting import Counting
from syncd.pipeline.values import Basis, Candidate, Over, Signed, Staged, Update


def recount(
    staged: Staged, basis: Basis, folder: FeedFolder, *, source: str, name: ListName, before: str | None, caps: Caps
) -> Update:
    """Prove the delta of a candidate, count it over ``basis``, and return the update.

    ``folder`` is the source's own, ``before`` the hash of the origin's manifest that the candidate was staged over.
    A candidate over nothing is a whole stack, which is judged by its signed counts. Raises `SegmentError`, and
    `StoreError` if the counts are not those that were staged.
    """
    candidate = staged.candidate
    _check_signed(staged, name)
    if candidate.over is Over.NOTHING:
        growth = {
            algorithm: {label: count.growth for label, count in labels.items()}
            for algorithm, labels in candidate.labels.items()
        }
        return Update(source, name, staged, before, growth)
    counting = Counting.over(basis)
    counting.apply([Segment.check(folder.segment_path(name, ref), ref, caps) for ref in candidate.delta])
    if _counted(counting.counts) != _counted(candidate.counts) or counting.states != drop_empty(candidate.end_state):
        raise _unlike(name)
    return Update(source, name, staged, before, counting.growth, counting.resolved)


def _check_signed(staged: Staged, name: ListName) -> None:
    """See that what the worker says of the new state is what the partner signed."""
    candidate = staged.candidate
    if not isinstance(staged.vouched, Signed):
        return
    upstream = staged.vouched.signed.manifest
    whole = candidate.over is Over.NOTHING and candidate.stack != upstream.stack
    if drop_empty(candidate.end_state) != dict(upstream.end_state) or whole or _lies(candidate):
        raise _unlike(name)


def _lies(candidate: Candidate) -> bool:
    """True if the counts of a whole stack are not those of the end state."""
    if candidate.over is not Over.NOTHING:
        return False
    rows = {algorithm: state.rows for algorithm, state in candidate.end_state.items()}
    return {algorithm: count.added for algorithm, count in candidate.counts.items() if count.added} != rows


def _counted(counts: Mapping[Algorithm, Counts]) -> dict[Algorithm, Counts]:
    return {algorithm: count for algorithm, count in counts.items() if count.rows}


def _unlike(name: ListName) -> StoreError:
    return StoreError(
        f"what the worker process staged of {name} is not what counting it here gives",
        hint="nothing of it was taken; if it happens again, look for what this partner sends, and report it",
    )
