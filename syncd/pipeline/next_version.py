"""The output of a publication of one list: segments, and the records of head and origin that name them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from syncd.catalog.changes import HeadNote, OriginMove, Records
from syncd.catalog.decisions import HoldEnd, HoldRecord, HoldState, UpdateRecord
from syncd.catalog.records import AnswersRecord, AuditEntry, OriginRecord
from syncd.feed import layout
from syncd.feed.snapshot import open_segment
from syncd.format import manifest as manifests
from syncd.format.manifest import FileRef, Manifest, Origin, SegmentRef
from syncd.format.writer import write_segment
from syncd.model import Counts
from syncd.outcomes import HoldReason, Lane
from syncd.pipeline.counting import Counting
from syncd.pipeline.heads import ListState
from syncd.pipeline.keyed import Labels, RowsBy, together, union
from syncd.pipeline.move import Move
from syncd.pipeline.pending import labels_after
from syncd.pipeline.values import Hold, Over, Stated, Update, Verdict
from syncd.publish.change import ListChange
from syncd.publish.publication import Proposal

_LANES: Final = (Lane.ADDITIONS, Lane.REMOVALS)


@dataclass(frozen=True)
class SettleContext:
    """The inputs of a publication of one list, besides its state."""

    now: datetime
    encode: Callable[[Update], bytes]
    """serialises a waiting update for the catalog"""
    sync_id: str | None = None
    audit: tuple[AuditEntry, ...] = ()
    actor: str = ""
    reason: str = ""

    def ended(self, hold: HoldRecord, state: HoldState) -> HoldEnd:
        """Return the end of a hold, with actor and reason if an operator asked for it."""
        asked = state in {HoldState.RELEASED, HoldState.DISCARDED}
        return HoldEnd(hold.id, hold.state, state, self.actor if asked else "", self.reason if asked else "")


class NextVersion:
    """The segments that one publication writes, and the records of head and origin that name them."""

    def __init__(self, state: ListState, move: Move, context: SettleContext) -> None:
        self._state, self._move, self._context = state, move, context
        self._writer = RowWriter(state)
        self.labels: Labels | None = None

    def origin(self, moved: OriginRecord) -> OriginRecord:
        """Return the next origin: ``moved`` with its ``owed``, refused rows and counts."""
        state, move = self._state, self._move
        waiting, discarded = move.waiting, move.discarded
        differ = moved.pin is not None or bool(together(waiting, discarded))
        changed = move.refused_after()
        held = state.origin
        owed = (*(held.owed if held else ()), *self._writer.write(move.owed_rows(), public=False)) if differ else ()
        kept = [ref for ref in (held.refused if held else ()) if ref.algorithm not in changed]
        rows = {algorithm: some for algorithm, some in changed.items() if len(some)}
        refused = (*kept, *self._writer.write(rows, public=False))
        return replace(moved, owed=owed, refused=refused, waiting=waiting, discarded=discarded)

    def change(self, origin: OriginRecord, update: Update | None) -> ListChange | None:
        """Return the head's change; None if it stays as it is."""
        state, move = self._state, self._move
        rows, upstream = move.head_rows(), upstream_of(origin)
        if state.head is None:
            return None
        alike = origin.pin is None and not lacks_rows(origin)
        if alike and upstream.retired is not None:
            self.labels = {}
            return retirement(state, self._context.now, origin)
        moved = state.head.pinned != (origin.pin is not None)
        if not rows and not moved and not (alike and state.head.retired):
            return None
        intact = [ref for ref in update.candidate.delta if not move.is_altered(ref.algorithm)] if update else []
        take_over(state, intact)
        as_made = {ref.algorithm for ref in intact}
        beside = {
            algorithm: move.rows_beside_update(algorithm) if algorithm in as_made else some
            for algorithm, some in rows.items()
        }
        own = self._writer.write({algorithm: some for algorithm, some in beside.items() if len(some)}, public=True)
        segments = (*intact, *own)
        counted = self._counted(update, segments, alike=not own and not (state.origin and state.origin.owed))
        self.labels = labels_after(state.head_labels, counted.growth)
        return ListChange(
            list=state.name,
            segments=segments,
            counts=counted.counts,
            end_state=counted.states,
            stack=(*state.head.stack, *segments),
            origin=origin_of(state, origin, whole=alike),
            withheld=together(origin.waiting, origin.discarded),
            pinned=origin.pin is not None,
            media=upstream.media,
            purpose=upstream.purpose,
        )

    def holds(self, source: str, verdict: Verdict) -> tuple[HoldRecord, ...]:
        """Return a hold for each lane that keeps back touched rows, and write these rows."""
        holds = []
        for lane, judged in zip(_LANES, (verdict.additions, verdict.removals), strict=True):
            rows = self._move.waiting_rows(lane)
            if isinstance(judged, Hold) and HoldReason.KNOWN_GOOD in judged.reasons and lane is Lane.ADDITIONS:
                rows = union([rows, self._move.kept_out()])  # to be looked at, though no release publishes them
            if isinstance(judged, Hold) and rows:
                hold = HoldRecord(
                    list=self._state.name,
                    source=source,
                    lane=lane,
                    reasons=judged.reasons,
                    findings=judged.findings,
                    segments=self._writer.write(rows, public=False),
                    rows=sum(map(len, rows.values())),
                    opened_at=self._context.now,
                    sync_id=self._context.sync_id,
                )
                holds.append(hold)
        return tuple(holds)

    def _counted(self, update: Update | None, segments: Sequence[SegmentRef], *, alike: bool) -> Counting:
        """Count the effect of ``segments`` on the head.

        ``alike``: head and origin were equal and get the same segments, so the update's own counts hold.
        """
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


class RowWriter:
    """Writes rows as deltas into a source's folder."""

    def __init__(self, state: ListState) -> None:
        self._state = state
        self._scratch: Path | None = None
        self._written = 0

    def write(self, rows: RowsBy, *, public: bool) -> tuple[SegmentRef, ...]:
        """Write one delta for each algorithm, and link it into the feed if it is ``public``."""
        state = self._state
        refs = []
        for algorithm, some in sorted(rows.items()):
            self._scratch = self._scratch or state.feed.make_staging()
            self._written += 1
            path = self._scratch / f"composed-{self._written}"
            ref = write_segment(path, algorithm, "delta", [some])
            if ref is None:
                continue
            state.source.store.adopt(path, layout.segment_path(state.own_name, ref.sha256))
            refs.append(ref)
        if public:
            take_over(state, refs)
        return tuple(refs)


def retirement(state: ListState, since: datetime, origin: OriginRecord | None = None) -> ListChange | None:
    """Return the change that retires a list and empties it; None if it is retired already.

    ``origin``: the upstream's version that retired it; None if our operator did.
    """
    if state.head is not None and state.head.retired is not None:
        return None
    before = state.head.end_state if state.head else {}
    upstream = upstream_of(origin) if origin else None
    return ListChange(
        list=state.name,
        segments=(),
        counts={algorithm: Counts(removed=held.rows) for algorithm, held in before.items()},
        end_state={},
        stack=(),
        origin=origin_of(state, origin, whole=True) if origin else None,
        retired=since,
        media=upstream.media if upstream else None,
        purpose=upstream.purpose if upstream else None,
    )


def with_labels(origin: OriginRecord, labels: Labels, head: Labels | None, state: ListState) -> OriginRecord:
    """Return an origin with its entries by label, once the head has those in ``head`` (None: the present ones)."""
    return replace(origin, labels=None if labels == (state.head_labels if head is None else head) else labels)


def upstream_of(origin: OriginRecord) -> Manifest:
    """Return the partner's manifest of an origin."""
    return manifests.parse(origin.manifest)


def take_over(state: ListState, refs: Iterable[SegmentRef]) -> None:
    """Link segments of the source's folder into the feed."""
    for ref in state.feed.missing(state.name, {ref.sha256: ref for ref in refs}.values()):
        own, published = (layout.segment_path(name, ref.sha256) for name in (state.own_name, state.name))
        state.feed.store.link(state.source.store, own, published)


def proposal_of(
    state: ListState,
    change: ListChange | None,
    origin: OriginRecord,
    context: SettleContext,
    note: HeadNote,
    *,
    ended: Iterable[HoldEnd],
    opened: tuple[HoldRecord, ...] = (),
    waiting: UpdateRecord | None = None,
    update: Update | None = None,
) -> Proposal[Records]:
    """Return the proposal of a change with its records. Without a change only the records are committed.

    ``update`` moves the origin; ``waiting`` is the record to which ``opened`` holds belong.
    """
    candidate = update.candidate if update else None
    delta, over_head = (candidate.delta, candidate.over is Over.HEAD) if candidate else ((), False)
    records = Records(
        origins=(OriginMove(origin, state.origin.revision if state.origin else 0, delta, over_head),),
        notes={state.name: note} if change else {},
        audit=context.audit,
        update=waiting,
        opened=opened,
        ended=tuple(ended),
        answers=answers_of(update) if update else (),
    )
    if change is None:
        return Proposal("origin", records=records, visible=False)
    evidence = change.origin.evidence if change.origin else None
    content = origin.evidence
    files = ((layout.evidence_path(state.name, evidence.sha256), content),) if evidence and content else ()
    return Proposal("publish", (change,), files, records=records)


def origin_of(state: ListState, origin: OriginRecord, *, whole: bool) -> Origin:
    """Return the origin to state in the head's next manifest. A list that was once only stated stays ``stated``."""
    upstream = upstream_of(origin)
    before = state.head.origin if state.head else None
    last = 0 if before is None else before.serial if before.whole is None else before.whole
    return Origin(
        serial=origin.serial or upstream.version,
        manifest=origin.manifest_sha256,
        evidence=_evidence_ref(state, origin),
        kind="stated" if origin.answers else upstream.origin.kind if upstream.origin else "signed",
        whole=None if whole else last,
        answers=origin.answers,
    )


def _evidence_ref(state: ListState, origin: OriginRecord) -> FileRef | None:
    if origin.evidence is not None:
        return FileRef(sha256=sha256(origin.evidence).hexdigest(), length=len(origin.evidence))
    before = state.head.origin if state.head else None
    return before.evidence if before and before.manifest == origin.manifest_sha256 else None


def lacks_rows(origin: OriginRecord) -> bool:
    """Return True if rows of the origin wait or were discarded. Suppressed rows do not count."""
    both = together(origin.waiting, origin.discarded)
    return any(counts.additions or counts.removals or counts.relabels for counts in both.values())


def moved_origin(state: ListState, update: Update, context: SettleContext) -> OriginRecord:
    """Return the origin that an update leads to, with the part that the partner states."""
    staged, candidate = update.staged, update.candidate
    stated = staged.vouched if isinstance(staged.vouched, Stated) else None
    return OriginRecord(
        source=update.source,
        list=update.list,
        serial=candidate.ref.version,
        manifest_sha256=candidate.sha256,
        manifest=staged.content,
        end_state=candidate.end_state,
        verified_at=stated.at if stated else context.now,
        evidence=staged.evidence,
        pin=state.origin.pin if state.origin else None,
        revision=(state.origin.revision if state.origin else 0) + 1,
        position=stated.position if stated else None,
        answers=stated.answers if stated else None,
    )


def answers_of(update: Update) -> tuple[AnswersRecord, ...]:
    """Return the record of the raw answers that state an update; () if it is signed."""
    vouched = update.staged.vouched
    if not isinstance(vouched, Stated):
        return ()
    return (AnswersRecord(update.source, update.list, vouched.answers, vouched.at),)


def update_record(update: Update, context: SettleContext) -> UpdateRecord:
    """Return the catalog's record of a waiting update."""
    candidate = update.candidate
    return UpdateRecord(
        list=candidate.manifest.list,
        serial=candidate.ref.version,
        manifest_sha256=candidate.sha256,
        staged=context.encode(update),
        created_at=context.now,
    )
