"""One list's next publication: of an update, of a hold that is released or discarded.

Judged and composed from the state that the publication finds, so that a sync that lost a race is judged again and
fetches nothing again. Segments are written here; signing and committing are the publication core's.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np

from syncd.catalog.records import (
    AuditEntry,
    HeadNote,
    HoldEnd,
    HoldRecord,
    HoldState,
    OriginMove,
    OriginRecord,
    Records,
    UpdateRecord,
)
from syncd.errors import RefusedError, StoreError
from syncd.feed import layout
from syncd.feed.snapshot import open_segment
from syncd.format import manifest as manifests
from syncd.format.manifest import FileRef, Manifest, Origin, SegmentRef
from syncd.format.writer import write_segment
from syncd.model import Algorithm, Counts
from syncd.outcomes import HoldReason, Lane
from syncd.pipeline import gate
from syncd.pipeline.compose import Passing
from syncd.pipeline.counting import Counting
from syncd.pipeline.heads import (
    Labels,
    ListState,
    Move,
    RowsBy,
    keys_among,
    lane_counts,
    pending,
    together,
    union,
)
from syncd.pipeline.values import Hold, Over, Pending, Update, Verdict
from syncd.publish.change import ListChange
from syncd.publish.publication import Proposal

_LANES: Final = (Lane.ADDITIONS, Lane.REMOVALS)


@dataclass(frozen=True)
class Context:
    """What a publication of one list is told, beside its state."""

    now: datetime
    encode: Callable[[Update], bytes]
    """writes an update that waits, for the catalog"""
    sync_id: str | None = None
    audit: tuple[AuditEntry, ...] = ()
    actor: str = ""
    reason: str = ""

    def ended(self, hold: HoldRecord, state: HoldState) -> HoldEnd:
        """A hold that ends, by whoever asked, if anybody did."""
        asked = state in {HoldState.RELEASED, HoldState.DISCARDED}
        return HoldEnd(hold.id, hold.state, state, self.actor if asked else "", self.reason if asked else "")


@dataclass(frozen=True)
class Settled:
    """What a publication of one list comes to. ``proposal`` None: nothing changes, not even a record."""

    proposal: Proposal[Records] | None
    reasons: tuple[HoldReason, ...] = ()
    """why something of the list waits, of this update or from before"""
    released: int = 0
    """rows of a released or discarded hold that were still wanted"""
    opened: tuple[HoldRecord, ...] = ()
    """the holds that were opened, once they are committed"""
    ended: tuple[HoldRecord, ...] = ()
    """the holds that ended, once that is committed"""
    version: Manifest | None = None
    """the list's new version, once it is committed"""

    @property
    def changes_head(self) -> bool:
        """True if the list gets a new version."""
        return self.proposal is not None and bool(self.proposal.changes)


def settle_update(
    state: ListState,
    update: Update,
    context: Context,
    accepted: Collection[HoldReason] = (),
    released: HoldRecord | None = None,
) -> Settled:
    """Judge an update and compose what may go live of it.

    ``accepted``: reasons that an operator released with the hold ``released``. Raises `RefusedError` if the origin is
    not the one that the update was prepared over.
    """
    before = state.origin.manifest_sha256 if state.origin else None
    if before != update.before:
        raise RefusedError(f"{state.name} moved while its update was prepared", hint="the next sync starts from there")
    candidate = update.candidate
    if candidate.over is Over.NOTHING:
        return _settle_whole(state, update, context, accepted, released)
    closed = state.closed()
    if candidate.over is Over.HEAD:
        closed = _closed_by_loss(state)
        state = _without_owed(state)
    move = Move(state)
    segments = [open_segment(state.path(ref), ref) for ref in candidate.delta]
    move.touch_update(segments)
    retired = candidate.manifest.retired is not None
    judged = pending(_rows(state), move.if_all_wait(), forked=candidate.forked, retired=retired)
    verdict = gate.judge(judged, closed, accepted)
    if HoldReason.FORKED in verdict.reasons:
        return _hold_whole(state, update, context, verdict.reasons, released)
    move.compose(_lanes(verdict))
    draft = _Draft(state, move, context)
    opened = draft.holds(update, verdict)
    lost = candidate.over is Over.HEAD
    ended = [
        *(_ended_loss(state, context) if lost else _withdrawn(state, move, context)),
        *_ended_whole(state, released, context),
    ]
    origin = draft.origin(_moved(state, update, context))
    change = draft.change(origin, update)
    record = _record(update, context) if opened else None
    note = HeadNote(
        update.source,
        origin.serial,
        candidate.plan,
        context.sync_id,
        change.counts if change else {},
        draft.labels,
    )
    proposal = _proposal(state, change, origin, context, note, ended=ended, opened=opened, update=record)
    return Settled(proposal, _reasons(state, opened, ended), released.rows if released else 0)


def settle_release(state: ListState, hold: HoldRecord, context: Context) -> Settled:
    """Let the rows of a hold go live, exactly those, each only if it is still wanted.

    What joined its lane later is judged on its own. Raises `StoreError` if the rows were lost on this disk.
    """
    rows = state.rows_of(hold)
    move, others = Move(state), _others(state, hold)
    move.touch_rows(rows, _none(rows))
    wanted = move.still_wanted(rows)
    move.compose(_some(wanted, hold.lane))
    return _settle_rows(state, hold, HoldState.RELEASED, context, rows, move, others, wanted)


def settle_discard(state: ListState, hold: HoldRecord, context: Context) -> Settled:
    """Refuse the rows of a hold: they stay out, and neither hold nor page any more. Raises as `settle_release`."""
    rows = state.rows_of(hold)
    move, others = Move(state), _others(state, hold)
    move.touch_rows(rows, _none(rows))
    wanted = move.still_wanted(rows)
    move = Move(state)
    move.touch_rows(rows, wanted)
    move.compose(_some(_none(rows), hold.lane))
    return _settle_rows(state, hold, HoldState.DISCARDED, context, rows, move, others, wanted)


def settle_whole_discard(hold: HoldRecord, context: Context) -> Settled:
    """Drop an update whose identity was in doubt. The origin stays, and that very version is not held again."""
    records = Records(audit=context.audit, ended=(context.ended(hold, HoldState.DISCARDED),))
    return Settled(Proposal("discard", records=records, visible=False), released=hold.rows)


def _settle_rows(
    state: ListState,
    hold: HoldRecord,
    as_: HoldState,
    context: Context,
    rows: RowsBy,
    move: Move,
    others: tuple[HoldRecord, ...],
    wanted: Mapping[Algorithm, np.ndarray],
) -> Settled:
    """Finish a release or a discard: judge what else waits in the lane, and take it along if it passes on its own."""
    ended = [context.ended(hold, as_)]
    if others and _passes_alone(state, move, hold.lane):
        every = union([rows, *(state.rows_of(one) for one in others)])
        mine = keys_among(every, rows)
        move = Move(state)
        refuse = as_ is HoldState.DISCARDED
        move.touch_rows(every, {a: mask & refuse for a, mask in mine.items()})
        still = move.still_wanted(every)
        move.compose(_some({a: still[a] & (~mine[a] if refuse else True) for a in every}, hold.lane))
        ended += [context.ended(one, HoldState.PASSED) for one in others]
    over = {one.id for one in ended}
    ended += [one for one in _withdrawn(state, move, context) if one.id not in over]
    draft = _Draft(state, move, context)
    held = state.origin
    if held is None:
        raise StoreError(f"the catalog has no origin of {state.name}", hint="run `syncd verify`")
    origin = draft.origin(replace(held, revision=held.revision + 1))
    change = draft.change(origin, None)
    plan = "release" if as_ is HoldState.RELEASED else "discard"
    note = HeadNote(held.source, origin.serial, plan, None, change.counts if change else {}, draft.labels)
    proposal = _proposal(state, change, origin, context, note, ended=ended)
    return Settled(proposal, _reasons(state, (), ended), sum(int(mask.sum()) for mask in wanted.values()))


def _passes_alone(state: ListState, move: Move, lane: Lane) -> bool:
    """True if what waits in a lane, without the hold that ends, would not be held."""
    retired = state.origin is not None and _upstream(state.origin).retired is not None
    verdict = gate.judge(pending(_rows(state) + move.growth, move.waiting, retired=retired))
    return not isinstance(verdict.additions if lane is Lane.ADDITIONS else verdict.removals, Hold)


def _settle_whole(
    state: ListState,
    update: Update,
    context: Context,
    accepted: Collection[HoldReason],
    released: HoldRecord | None,
) -> Settled:
    """Publish a whole stack: the first version, or one after the head's segments were lost as well.

    What waited or was refused cannot be told apart in it: then it waits as a whole.
    """
    candidate, upstream = update.candidate, update.candidate.manifest
    rows = sum(one.rows for one in candidate.end_state.values())
    retired = upstream.retired is not None
    judged = Pending(_rows(state), rows, {}, forked=candidate.forked, retired=retired)
    closed = _closed_by_loss(state) if state.head else {}
    verdict = gate.judge(judged, closed, accepted)
    if verdict.reasons:
        return _hold_whole(state, update, context, verdict.reasons, released)
    origin = replace(_moved(state, update, context), owed=(), refused=(), waiting={}, discarded={})
    change: ListChange | None = ListChange(
        list=state.name,
        segments=(),
        counts=candidate.counts,
        end_state=candidate.end_state,
        stack=candidate.stack,
        origin=_origin_of(state, origin, whole=True),
        whole=state.head is not None,
        media=upstream.media,
        purpose=upstream.purpose,
    )
    if upstream.retired is not None:  # of a list that was never published, matchers need no warning
        since = context.now if state.head else upstream.retired.since
        change = retirement(state, since, origin)
    _take_over(state, candidate.stack)
    labels = {a: {label: n for label, n in grown.items() if n} for a, grown in update.growth.items()}
    note = HeadNote(update.source, origin.serial, candidate.plan, context.sync_id, {}, labels)
    ended = [*_ended_loss(state, context), *_ended_whole(state, released, context)]
    proposal = _proposal(state, change, origin, context, note, ended=ended)
    return Settled(proposal, _reasons(state, (), ended), released.rows if released else 0)


def _hold_whole(
    state: ListState,
    update: Update,
    context: Context,
    reasons: tuple[HoldReason, ...],
    released: HoldRecord | None,
) -> Settled:
    """Have a whole update wait. Origin and head stay where they are."""
    candidate = update.candidate
    record = _record(update, context)
    others = [hold for hold in state.holds_of(Lane.BOTH) if released is None or hold.id != released.id]
    if any(hold.segments == _held_segments(update) for hold in others):
        return Settled(None, reasons)
    hold = HoldRecord(
        list=state.name,
        source=update.source,
        lane=Lane.BOTH,
        reasons=reasons,
        segments=_held_segments(update),
        rows=sum(count.effective for count in candidate.counts.values()),
        opened_at=context.now,
        sync_id=context.sync_id,
    )
    ended = [context.ended(one, HoldState.REPLACED) for one in state.holds_of(Lane.BOTH)]
    moves: tuple[OriginMove, ...] = ()
    if state.origin is not None and candidate.forked:
        forked = replace(state.origin, fork=candidate.ref, revision=state.origin.revision + 1)
        moves = (OriginMove(forked, state.origin.revision),)
    records = Records(moves, audit=context.audit, update=record, opened=(hold,), ended=tuple(ended))
    return Settled(Proposal("hold", records=records, visible=False), reasons)


def _held_segments(update: Update) -> tuple[SegmentRef, ...]:
    candidate = update.candidate
    return candidate.stack if candidate.over is Over.NOTHING else candidate.delta


class _Draft:
    """What one publication writes: segments, and the records of head and origin that name them."""

    def __init__(self, state: ListState, move: Move, context: Context) -> None:
        self._state, self._move, self._context = state, move, context
        self._scratch: Path | None = None
        self._written = 0
        self.labels: Labels | None = None

    def origin(self, moved: OriginRecord) -> OriginRecord:
        """The next origin: ``moved``, with what the head then lacks of it."""
        state, move = self._state, self._move
        waiting, discarded = move.waiting, move.discarded
        differ = bool(together(waiting, discarded))
        changed = move.refused_after()
        held = state.origin
        owed = (*(held.owed if held else ()), *self._write(move.owed_rows(), public=False)) if differ else ()
        kept = [ref for ref in (held.refused if held else ()) if ref.algorithm not in changed]
        rows = {algorithm: some for algorithm, some in changed.items() if len(some)}
        refused = (*kept, *self._write(rows, public=False))
        return replace(moved, owed=owed, refused=refused, waiting=waiting, discarded=discarded)

    def change(self, origin: OriginRecord, update: Update | None) -> ListChange | None:
        """The head's change; None if it stays as it is."""
        state, move = self._state, self._move
        rows, upstream = move.head_rows(), _upstream(origin)
        if state.head is None:
            return None
        alike = not lacks_rows(origin)
        if alike and upstream.retired is not None:
            self.labels = {}
            return retirement(state, self._context.now, origin)
        if not rows and not (alike and state.head.retired):
            return None
        intact = [ref for ref in update.candidate.delta if not move.is_altered(ref.algorithm)] if update else []
        _take_over(state, intact)
        as_made = {ref.algorithm for ref in intact}
        own = self._write(
            {algorithm: some for algorithm, some in rows.items() if algorithm not in as_made}, public=True
        )
        segments = (*intact, *own)
        counted = self._counted(update, segments, alike=not own and not (state.origin and state.origin.owed))
        self.labels = _labels_after(self._labels_before(), counted.growth)
        return ListChange(
            list=state.name,
            segments=segments,
            counts=counted.counts,
            end_state=counted.states,
            stack=(*state.head.stack, *segments),
            origin=_origin_of(state, origin, whole=not lacks_rows(origin)),
            withheld=together(origin.waiting, origin.discarded),
            media=upstream.media,
            purpose=upstream.purpose,
        )

    def holds(self, update: Update, verdict: Verdict) -> tuple[HoldRecord, ...]:
        """The holds of the lanes that keep back something of what was touched, with their rows written."""
        found = []
        for lane, judged in zip(_LANES, (verdict.additions, verdict.removals), strict=True):
            rows = self._move.waiting_rows(lane)
            if isinstance(judged, Hold) and rows:
                hold = HoldRecord(
                    list=self._state.name,
                    source=update.source,
                    lane=lane,
                    reasons=judged.reasons,
                    segments=self._write(rows, public=False),
                    rows=sum(map(len, rows.values())),
                    opened_at=self._context.now,
                    sync_id=self._context.sync_id,
                )
                found.append(hold)
        return tuple(found)

    def _counted(self, update: Update | None, segments: Sequence[SegmentRef], *, alike: bool) -> Counting:
        """What the segments do to the head. ``alike``: head and origin were the same, and so is what is put on them."""
        if update is not None and alike:
            candidate = update.candidate
            return Counting(
                refs=(),
                stacks={},
                end_state=dict(candidate.end_state),
                counts=dict(candidate.counts),
                growth={algorithm: dict(grown) for algorithm, grown in update.growth.items()},
            )
        counting = Counting.over(self._state.head_basis)
        counting.apply(open_segment(self._state.path(ref), ref) for ref in segments)
        return counting

    def _labels_before(self) -> Labels:
        if self._state.labels is not None:
            return self._state.labels
        stacks = self._state.head_basis.stacks  # once for each list that an older syncd published
        return {algorithm: stack.amount().by_label for algorithm, stack in stacks.items()}

    def _write(self, rows: RowsBy, *, public: bool) -> tuple[SegmentRef, ...]:
        """Write rows as deltas: into the source's folder, and into the feed as well if they are ``public``."""
        state = self._state
        found = []
        for algorithm, some in sorted(rows.items()):
            self._scratch = self._scratch or state.feed.make_staging()
            self._written += 1
            path = self._scratch / f"composed-{self._written}"
            ref = write_segment(path, algorithm, "delta", [some])
            if ref is None:
                continue
            state.source.store.adopt(path, layout.segment_path(state.own_name, ref.sha256))
            found.append(ref)
        if public:
            _take_over(state, found)
        return tuple(found)


def retirement(state: ListState, since: datetime, origin: OriginRecord | None = None) -> ListChange | None:
    """Return the change that ends a list: nothing is left of it; None if it is retired already.

    ``origin``: the upstream's version that retired it; None: its operator did.
    """
    if state.head is not None and state.head.retired is not None:
        return None
    before = state.head.end_state if state.head else {}
    upstream = _upstream(origin) if origin else None
    return ListChange(
        list=state.name,
        segments=(),
        counts={algorithm: Counts(removed=held.rows) for algorithm, held in before.items()},
        end_state={},
        stack=(),
        origin=_origin_of(state, origin, whole=True) if origin else None,
        retired=since,
        media=upstream.media if upstream else None,
        purpose=upstream.purpose if upstream else None,
    )


def _upstream(origin: OriginRecord) -> Manifest:
    return manifests.parse(origin.manifest)


def _take_over(state: ListState, refs: Iterable[SegmentRef]) -> None:
    """Give segments of the source's folder a place in the feed, as they are."""
    for ref in state.feed.missing(state.name, {ref.sha256: ref for ref in refs}.values()):
        state.feed.store.link(state.path(ref), layout.segment_path(state.name, ref.sha256))


def _proposal(
    state: ListState,
    change: ListChange | None,
    origin: OriginRecord,
    context: Context,
    note: HeadNote,
    *,
    ended: Iterable[HoldEnd],
    opened: tuple[HoldRecord, ...] = (),
    update: UpdateRecord | None = None,
) -> Proposal[Records]:
    records = Records(
        origins=(OriginMove(origin, state.origin.revision if state.origin else 0),),
        notes={state.name: note} if change else {},
        audit=context.audit,
        update=update,
        opened=opened,
        ended=tuple(ended),
    )
    if change is None:
        return Proposal("origin", records=records, visible=False)
    evidence = change.origin.evidence if change.origin else None
    content = origin.evidence
    files = ((layout.evidence_path(state.name, evidence.sha256), content),) if evidence and content else ()
    return Proposal("publish", (change,), files, records=records)


def _origin_of(state: ListState, origin: OriginRecord, *, whole: bool) -> Origin:
    """Where the head's next version comes from. A list made from one that is only stated stays so."""
    upstream = _upstream(origin)
    before = state.head.origin if state.head else None
    last = 0 if before is None else before.serial if before.whole is None else before.whole
    return Origin(
        serial=origin.serial or upstream.version,
        manifest=origin.manifest_sha256,
        evidence=_evidence_ref(state, origin),
        kind=upstream.origin.kind if upstream.origin else "signed",
        whole=None if whole else last,
    )


def _evidence_ref(state: ListState, origin: OriginRecord) -> FileRef | None:
    if origin.evidence is not None:
        return FileRef(sha256=sha256(origin.evidence).hexdigest(), length=len(origin.evidence))
    before = state.head.origin if state.head else None
    return before.evidence if before and before.manifest == origin.manifest_sha256 else None


def lacks_rows(origin: OriginRecord) -> bool:
    """True if rows of the origin wait or were discarded; suppressed ones are the operator's own matter."""
    both = together(origin.waiting, origin.discarded)
    return any(one.additions or one.removals or one.relabels for one in both.values())


def _moved(state: ListState, update: Update, context: Context) -> OriginRecord:
    """The origin that an update leads to, as far as the partner states it."""
    staged, candidate = update.staged, update.candidate
    return OriginRecord(
        source=update.source,
        list=update.list,
        serial=candidate.ref.version,
        manifest_sha256=candidate.sha256,
        manifest=staged.content,
        end_state=candidate.end_state,
        verified_at=context.now,
        evidence=staged.evidence,
        revision=(state.origin.revision if state.origin else 0) + 1,
    )


def _record(update: Update, context: Context) -> UpdateRecord:
    candidate = update.candidate
    return UpdateRecord(
        list=candidate.manifest.list,
        serial=candidate.ref.version,
        manifest_sha256=candidate.sha256,
        staged=context.encode(update),
        created_at=context.now,
    )


def _withdrawn(state: ListState, move: Move, context: Context) -> list[HoldEnd]:
    """The holds of lanes of which nothing waits, or is refused, any more: the partner took it back."""
    left = {HoldState.OPEN: lane_counts(move.waiting), HoldState.DISCARDED: lane_counts(move.discarded)}
    return [
        context.ended(hold, HoldState.WITHDRAWN)
        for hold in state.holds
        if hold.lane is not Lane.BOTH and not left[hold.state][hold.lane]
    ]


def _ended_whole(state: ListState, released: HoldRecord | None, context: Context) -> list[HoldEnd]:
    """The holds of whole updates, once the origin moves: one was released, or the partner went on without it.

    Discarded ones end as well: what they would change is another version than the one held from now on.
    """
    return [
        context.ended(hold, HoldState.RELEASED if released and hold.id == released.id else HoldState.WITHDRAWN)
        for hold in state.holds
        if hold.lane is Lane.BOTH
    ]


def _ended_loss(state: ListState, context: Context) -> list[HoldEnd]:
    """The holds whose rows were lost on this disk: what still waits is held again."""
    return [context.ended(hold, HoldState.REPLACED) for hold in state.holds if hold.lane is not Lane.BOTH]


def _closed_by_loss(state: ListState) -> dict[Lane, tuple[HoldReason, ...]]:
    """Why lanes are closed if the rows of holds were lost: losing files never opens the gate."""
    found = state.closed()
    for hold in state.holds:
        if hold.state is HoldState.DISCARDED and hold.lane is not Lane.BOTH and state.origin and state.origin.discarded:
            found[hold.lane] = (*found.get(hold.lane, ()), *hold.reasons)
    return found


def _without_owed(state: ListState) -> ListState:
    """The state as if head and origin were alike: what they differed by was lost."""
    if state.origin is None:
        return state
    alike = replace(
        state.origin,
        owed=(),
        refused=(),
        waiting={},
        discarded={},
        end_state=state.head.end_state if state.head else {},
    )
    return replace(state, origin=alike)


def _reasons(state: ListState, opened: Iterable[HoldRecord], ended: Iterable[HoldEnd]) -> tuple[HoldReason, ...]:
    over = {one.id for one in ended}
    waiting = [*(hold for hold in state.open_holds if hold.id not in over), *opened]
    return tuple(dict.fromkeys(reason for hold in waiting for reason in hold.reasons))


def _others(state: ListState, hold: HoldRecord) -> tuple[HoldRecord, ...]:
    return tuple(one for one in state.holds_of(hold.lane) if one.id != hold.id)


def _rows(state: ListState) -> int:
    return state.head.rows if state.head else 0


def _lanes(verdict: Verdict) -> Callable[[Algorithm, int], Passing]:
    additions, removals = not isinstance(verdict.additions, Hold), not isinstance(verdict.removals, Hold)
    return lambda _, count: Passing(np.full(count, additions), np.full(count, removals))


def _some(chosen: Mapping[Algorithm, np.ndarray], lane: Lane) -> Callable[[Algorithm, int], Passing]:
    """The chosen keys of one lane."""

    def passing(algorithm: Algorithm, count: int) -> Passing:
        nothing = np.zeros(count, bool)
        return Passing(chosen[algorithm], nothing) if lane is Lane.ADDITIONS else Passing(nothing, chosen[algorithm])

    return passing


def _none(rows: RowsBy) -> dict[Algorithm, np.ndarray]:
    return {algorithm: np.zeros(len(some), bool) for algorithm, some in rows.items()}


def _labels_after(before: Labels, growth: Mapping[Algorithm, Mapping[str, int]]) -> Labels:
    """Entries by label, once they grew."""
    found = {algorithm: dict(labels) for algorithm, labels in before.items()}
    for algorithm, grown in growth.items():
        labels = found.setdefault(algorithm, {})
        for label, count in grown.items():
            labels[label] = labels.get(label, 0) + count
    return {
        algorithm: {label: count for label, count in sorted(labels.items()) if count}
        for algorithm, labels in sorted(found.items())
        if any(labels.values())
    }
