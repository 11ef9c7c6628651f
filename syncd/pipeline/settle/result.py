"""The result of settling one list, and the parts that every kind of settling shares."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from syncd.catalog.changes import HeadNote, Records
from syncd.catalog.decisions import HoldEnd, HoldRecord, KnownGoodMark, UpdateRecord
from syncd.catalog.records import RETRUSTED, OriginRecord
from syncd.errors import StoreError
from syncd.format.manifest import Manifest
from syncd.format.segment import Segment
from syncd.format.stack import merge_deltas
from syncd.model import Algorithm, ListName
from syncd.outcomes import HoldReason
from syncd.pipeline.canaries import rows_of, segments_of
from syncd.pipeline.compose import Passing
from syncd.pipeline.heads import NOTHING_LEFT_OUT, LeftOut, ListState
from syncd.pipeline.keyed import keys_among, union
from syncd.pipeline.move import Move
from syncd.pipeline.next_version import NextVersion, SettleContext, proposal_of, with_labels
from syncd.pipeline.pending import limited_labels
from syncd.pipeline.values import Hold, Pending, Update, Verdict
from syncd.publish.publication import Proposal


@dataclass(frozen=True)
class Settled:
    """The result of settling one list. Without a ``proposal`` nothing changes, not even a record."""

    proposal: Proposal[Records] | None
    reasons: tuple[HoldReason, ...] = ()
    """why rows of the list wait, from this update or from before"""
    released: int = 0
    """rows of a released or discarded hold that were still wanted"""
    opened: tuple[HoldRecord, ...] = ()
    """the opened holds, once committed"""
    ended: tuple[HoldRecord, ...] = ()
    """the ended holds, once committed"""
    version: Manifest | None = None
    """the list's new version, once committed"""
    corrected: Mapping[ListName, int] = field(default_factory=dict)
    """the new version of each list that an act on suppressions changed, once committed"""
    returned: int = 0
    """entries that are no longer suppressed or known to be good, and return or wait to return"""
    known_good: Mapping[Algorithm, int] = field(default_factory=dict)
    """rows of this update that are kept out because they are known to be good"""
    left_out: LeftOut = NOTHING_LEFT_OUT
    """entries of the version that the list was rolled back to, and does not have"""

    @property
    def changes_head(self) -> bool:
        """True if the list gets a new version."""
        return self.proposal is not None and bool(self.proposal.changes)


def published(
    state: ListState,
    move: Move,
    context: SettleContext,
    ended: list[HoldEnd],
    plan: str,
    *,
    reference: bool = False,
    ours: bool = False,
    opened: tuple[HoldRecord, ...] = (),
) -> Settled:
    """Finish an act that leaves the origin where the partner has it."""
    held = state.origin
    if held is None:
        raise no_origin(state)
    draft = NextVersion(state, move, context)
    origin = draft.origin(replace(held, revision=held.revision + 1))
    change = draft.change(origin, None)
    origin = with_labels(origin, state.origin_labels, draft.labels, state)
    counts = change.counts if change else {}
    note = HeadNote(
        held.source,
        origin.serial,
        plan,
        None,
        counts,
        draft.labels,
        reference=reference,
        ours=ours,
        limited=limited_labels(state, draft.labels),
    )
    waiting = placeholder(state.name, held, context) if opened else None
    proposal = proposal_of(state, change, origin, context, note, ended=ended, opened=opened, waiting=waiting)
    return Settled(proposal, reasons_left(state, opened, ended))


def placeholder(name: ListName, origin: OriginRecord, context: SettleContext) -> UpdateRecord:
    """Return the record of the update to which the holds of an operator's act belong: nothing was fetched."""
    return UpdateRecord(name, origin.serial, origin.manifest_sha256, b"", context.now)


def marked(proposal: Proposal[Records], state: ListState) -> Proposal[Records]:
    """Return a proposal that compares all rows again, with the known-good digests that this applies."""
    known = state.suppressed.known_good.name
    if state.mark is not None and state.mark.known_good == known:
        return proposal
    mark = replace(state.mark or KnownGoodMark(state.name), known_good=known)
    return replace(proposal, records=replace(proposal.records or Records(), marks=(mark,)))


def reasons_left(state: ListState, opened: Iterable[HoldRecord], ended: Iterable[HoldEnd]) -> tuple[HoldReason, ...]:
    """Return why rows of a list still wait once some holds have opened and some have ended."""
    ended_ids = {end.id for end in ended}
    waiting = [*(hold for hold in state.open_holds if hold.id not in ended_ids), *opened]
    return tuple(dict.fromkeys(reason for hold in waiting for reason in hold.reasons))


def with_update(judged: Pending, state: ListState, update: Update) -> Pending:
    """Add to a pending difference the facts about the update as a whole."""
    candidate, before = update.candidate, state.origin.serial if state.origin else RETRUSTED
    jump = candidate.ref.version - before if before != RETRUSTED else 0
    retired = candidate.manifest.retired is not None
    return replace(judged, forked=candidate.forked, retired=retired, serial_jump=jump)


def with_canaries(
    judged: Pending,
    state: ListState,
    update: Update | Iterable[Segment] = (),
    known_good: Mapping[Algorithm, int] = MappingProxyType({}),
) -> Pending:
    """Add to a pending difference the canaries that it would change.

    ``update``: a whole one, or the segments of one over the origin.
    """
    must_have, missing = state.must_have, 0
    if must_have and isinstance(update, Update):
        missing = must_have.missing_from(segments_of(state.opened(update.candidate.stack)))
    elif must_have and not isinstance(update, Update):
        missing = _canaries_lost(state, update)
    return replace(judged, must_have=len(must_have), missing=missing, known_good=sum(known_good.values()))


def _canaries_lost(state: ListState, more: Iterable[Segment]) -> int:
    """Count the must-have digests of the head that it would lose if all that waits passed, and ``more`` with it."""
    must_have, more = state.must_have, tuple(more)
    head, origin = segments_of(state.head_basis.stacks), segments_of(state.basis.stacks, more)
    before = {algorithm: rows_of(head, algorithm, must_have) for algorithm in must_have.digests}
    after = {algorithm: rows_of(origin, algorithm, must_have) for algorithm in must_have.digests}
    after = {algorithm: rows.take(~state.suppressed.mask(algorithm, rows)) for algorithm, rows in after.items()}
    touched = keys_among(before, {a: merge_deltas(a, [s for s in more if s.algorithm == a]) for a in before})
    refused = {algorithm: mask & ~touched[algorithm] for algorithm, mask in keys_among(before, state.refused).items()}
    return must_have.lost(before, union([after, {a: rows.take(refused[a]) for a, rows in before.items()}]))


def lanes_that_pass(verdict: Verdict) -> Callable[[Algorithm, int], Passing]:
    """Let every key of a lane pass that the gate does not hold, for `Move.compose`."""
    additions, removals = not isinstance(verdict.additions, Hold), not isinstance(verdict.removals, Hold)
    return lambda _, count: Passing(np.full(count, additions), np.full(count, removals))


def no_origin(state: ListState) -> StoreError:
    """Return the error for a published list whose state at the partner is no longer in the catalog."""
    return StoreError(
        f"the catalog has no origin for {state.name}",
        hint="run `syncd sync`: it fetches the list again; then repeat this command",
        serving=f"{state.name} as it was published last",
    )
