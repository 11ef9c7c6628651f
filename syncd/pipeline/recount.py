"""Counting a worker's candidate again in the publishing process: a worker parses hostile bytes and may be wrong, or
taken over.
"""

from syncd.errors import StoreError
from syncd.feed.folder import FeedFolder
from syncd.format.caps import Caps
from syncd.format.delta import drop_empty
from syncd.format.segment import Segment
from syncd.model import ListName
from syncd.pipeline.counting import Counting, nonzero
from syncd.pipeline.values import Basis, Candidate, Over, Signed, Staged, Update


def recount(
    staged: Staged, basis: Basis, folder: FeedFolder, *, source: str, name: ListName, before: str | None, caps: Caps
) -> Update:
    """Prove a candidate's delta, count it over ``basis``, and return the update.

    ``folder`` is the source's own; ``before`` is the hash of the origin's manifest that the candidate was staged over.
    A candidate over nothing is a whole stack, which is judged by its signed counts. Raises `SegmentError`, and
    `StoreError` if the counts differ from the staged ones.
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
    if nonzero(counting.counts) != nonzero(candidate.counts) or counting.states != drop_empty(candidate.end_state):
        raise _unlike(name)
    return Update(source, name, staged, before, counting.growth, counting.resolved)


def _check_signed(staged: Staged, name: ListName) -> None:
    """Check that the worker's statement of the new state is the one that the partner signed."""
    candidate = staged.candidate
    if not isinstance(staged.vouched, Signed):
        return
    upstream = staged.vouched.signed.manifest
    whole = candidate.over is Over.NOTHING and candidate.stack != upstream.stack
    if drop_empty(candidate.end_state) != dict(upstream.end_state) or whole or _is_inconsistent(candidate):
        raise _unlike(name)


def _is_inconsistent(candidate: Candidate) -> bool:
    """Return True if the counts of a whole stack contradict its end state."""
    if candidate.over is not Over.NOTHING:
        return False
    rows = {algorithm: state.rows for algorithm, state in candidate.end_state.items()}
    return {algorithm: count.added for algorithm, count in candidate.counts.items() if count.added} != rows


def _unlike(name: ListName) -> StoreError:
    return StoreError(
        f"the worker process staged {name} wrongly: counting it again gives another result",
        hint="nothing of it was used; if it happens again, keep this partner's files and report it as a bug",
    )
