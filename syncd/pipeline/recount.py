"""Counting a worker's candidate again in the publishing process: a worker parses hostile bytes and may be wrong, or
taken over.
"""

from syncd.errors import StoreError
from syncd.feed.folder import FeedFolder
from syncd.format.caps import Caps
from syncd.format.delta import drop_empty, state_of
from syncd.format.manifest import ManifestRef
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.model import Algorithm, ListName
from syncd.pipeline.counting import Counting, nonzero, whole_labels
from syncd.pipeline.values import Basis, Candidate, Over, Signed, Staged, Update


def recount(
    staged: Staged,
    basis: Basis,
    folder: FeedFolder,
    *,
    source: str,
    name: ListName,
    before: str | None,
    caps: Caps,
    serial: int = 0,
) -> Update:
    """Prove a candidate's delta, count it over ``basis``, and return the update.

    ``folder`` is the source's own; ``before`` is the hash of the origin's manifest that the candidate was staged over.
    A signed candidate over nothing is a whole stack, which is judged by its signed counts; a stated one is counted like
    any other. ``serial``: the origin's. Raises `SegmentError`, and `StoreError` if the counts differ from the staged
    ones.
    """
    candidate = staged.candidate
    if isinstance(staged.vouched, Signed):
        _check_signed(candidate, staged.vouched, name)
    else:
        _check_stated(candidate, before, serial, name)
    if candidate.over is Over.NOTHING:
        if not isinstance(staged.vouched, Signed):
            _recount_whole(candidate, folder, name, caps)
        growth = {
            algorithm: {label: count.growth for label, count in labels.items()}
            for algorithm, labels in candidate.labels.items()
        }
        return Update(source, name, staged, before, growth)
    counting = Counting.over(basis)
    counting.apply([Segment.check(folder.segment_path(name, ref), ref, caps) for ref in candidate.delta])
    if nonzero(counting.counts) != nonzero(candidate.counts) or counting.states != drop_empty(candidate.end_state):
        raise _unlike(name)
    if counting.labels != dict(candidate.labels):
        raise _unlike(name)
    if not isinstance(staged.vouched, Signed) and candidate.manifest.stack != (*basis.refs, *candidate.delta):
        raise _unlike(name)
    return Update(source, name, staged, before, counting.growth, counting.resolved)


def _check_signed(candidate: Candidate, vouched: Signed, name: ListName) -> None:
    """Check that the worker's statement of the new state is the one that the partner signed."""
    upstream = vouched.signed.manifest
    whole = candidate.over is Over.NOTHING and candidate.stack != upstream.stack
    if drop_empty(candidate.end_state) != dict(upstream.end_state) or whole or _is_inconsistent(candidate):
        raise _unlike(name)


def _check_stated(candidate: Candidate, before: str | None, serial: int, name: ListName) -> None:
    """Check that the manifest that the worker made is the origin's next one, and states the new state."""
    made = candidate.manifest
    expected = None if before is None else ManifestRef(version=serial, sha256=before)
    follows = (made.list, made.version, made.previous) == (name, serial + 1, expected)
    ours = made.origin is None and made.retired is None and not made.recent and not made.folds
    whole = candidate.over is Over.NOTHING and candidate.stack != made.stack
    if not follows or not ours or whole or dict(made.end_state) != drop_empty(candidate.end_state):
        raise _unlike(name)
    if candidate.forked or _is_inconsistent(candidate):
        raise _unlike(name)


def _recount_whole(candidate: Candidate, folder: FeedFolder, name: ListName, caps: Caps) -> None:
    """Prove and count a whole stack, whose counts nobody signed. Reads it once, in little memory."""
    segments: dict[Algorithm, list[Segment]] = {}
    for ref in candidate.stack:
        segments.setdefault(ref.algorithm, []).append(Segment.check(folder.segment_path(name, ref), ref, caps))
    totals = {algorithm: Stack(algorithm, some).totals() for algorithm, some in segments.items()}
    states = drop_empty({algorithm: state_of(total) for algorithm, total in totals.items()})
    if states != drop_empty(candidate.end_state) or whole_labels(totals) != dict(candidate.labels):
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
