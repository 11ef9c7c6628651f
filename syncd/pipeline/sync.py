"""One sync of one source: calls the steps of the road in order, and tells what came of it.

verify -> plan -> stage -> gate -> compose -> publish. A fault in one list does not keep the others from going on.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from syncd.catalog.records import RETRUSTED, FloorsRecord, OriginRecord, Outcome, SourceState
from syncd.errors import FeedError, RefusedError, SourceError, SyncdError, worst_code
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.follow import Follower
from syncd.feed.proof import SignedManifest, evidence, target_of
from syncd.files import install_file, lock
from syncd.format.manifest import FileRef, ManifestRef, SegmentRef
from syncd.format.segment import Segment
from syncd.model import Algorithm, Counts, ListName
from syncd.pipeline import compose, gate, plan, stage
from syncd.pipeline.state import Publisher, head_name
from syncd.pipeline.values import Basis, Candidate, Deltas, Full, UpToDate
from syncd.sources.signed_feed import SignedFeed
from syncd.trust.values import Floors, TrustedFeed

RESIGN_AFTER: Final = timedelta(hours=1)

Clock = Callable[[], datetime]
Progress = Callable[[str, int, int], None]
"""Told the stage, how much of it is done, and of how much (0: not known)."""


@dataclass(frozen=True)
class ListOutcome:
    """What came of one list."""

    list: ListName
    outcome: Outcome
    version: int | None = None
    """what is served now"""
    serial: int | None = None
    plan: str = ""
    counts: Mapping[Algorithm, Counts] = field(default_factory=dict)
    labels: Mapping[Algorithm, Mapping[str, Counts]] = field(default_factory=dict)
    rows: int = 0
    reason: str = ""
    error: SyncdError | None = None

    @property
    def exit_code(self) -> int:
        """As the commands return it."""
        if self.error is not None:
            return self.error.exit_code
        return 3 if self.outcome is Outcome.HELD else 0


@dataclass(frozen=True)
class SyncOutcome:
    """What came of one sync. ``error`` is what kept the whole of it from going on."""

    sync_id: str
    source: str
    lists: tuple[ListOutcome, ...] = ()
    seconds: float = 0.0
    bytes: int = 0
    error: SyncdError | None = None

    @property
    def outcome(self) -> Outcome:
        """The worst, or where all went well, whether anything was published."""
        if self.error is not None:
            return outcome_of(self.error)
        code = self.exit_code
        worst = [one.outcome for one in self.lists if one.exit_code == code]
        return Outcome.PUBLISHED if Outcome.PUBLISHED in worst else worst[0] if worst else Outcome.UP_TO_DATE

    @property
    def exit_code(self) -> int:
        """Of several the first of 1, 4, 3, 6, 5, 0 that occurred."""
        return worst_code([error.exit_code for error in (self.error, *self.lists) if error])


def outcome_of(error: SyncdError) -> Outcome:
    """The outcome that an error ends in."""
    kinds = ((SourceError, Outcome.UNREACHABLE), (FeedError, Outcome.REJECTED), (RefusedError, Outcome.REFUSED))
    return next((outcome for kind, outcome in kinds if isinstance(error, kind)), Outcome.FAILED)


def sync_source(
    publisher: Publisher, source: SignedFeed, clock: Clock, progress: Progress | None = None, *, dry_run: bool = False
) -> SyncOutcome:
    """Bring one source up to date. Every `SyncdError` ends in the outcome, and what is published stays."""
    folder = publisher.folder.source(source.name)
    sync = _Sync(publisher, source, folder, clock, progress or _silent, uuid.uuid4().hex, dry_run)
    try:
        with lock(folder.lock, f"a sync of {source.name}"):
            return sync.run()
    except SyncdError as error:  # somebody else syncs it, or the catalog cannot be written
        sync.explain(error)
        return SyncOutcome(sync.sync_id, source.name, tuple(sync.lists), error=error)


def _silent(stage: str, done: int, total: int) -> None:
    del stage, done, total


@dataclass
class _Sync:
    publisher: Publisher
    source: SignedFeed
    folder: FeedFolder
    clock: Clock
    progress: Progress
    sync_id: str
    dry_run: bool
    received: int = 0
    lists: list[ListOutcome] = field(default_factory=list)

    def run(self) -> SyncOutcome:
        catalog = self.publisher.catalog
        started = time.monotonic()
        catalog.begin_sync(self.sync_id, self.source.name, self.clock())
        failure: SyncdError | None = None
        try:
            self._follow()
        except SyncdError as error:
            self.explain(error)
            failure = error
        lists = tuple(self.lists)
        seconds = time.monotonic() - started
        outcome = SyncOutcome(self.sync_id, self.source.name, lists, seconds, self.received, failure)
        faults = [error for error in (failure, *(one.error for one in lists)) if error]
        message = faults[0].message if faults else ""
        reason = type(faults[0]).__name__ if faults else ", ".join(one.reason for one in lists if one.reason)
        catalog.finish_sync(
            self.sync_id, outcome.outcome, reason=reason, message=message, now=self.clock(), received=self.received
        )
        return outcome

    def explain(self, error: SyncdError, name: ListName | None = None) -> None:
        """Say in an error what is still served."""
        try:
            served = self.publisher.served(self.source.name)
        except SyncdError:
            error.serving = f"{self.publisher.folder.feed.root} as it was published last"
            return
        if name is not None:
            published = head_name(self.source.name, name)
            served = {published: served[published]} if published in served else {}
        told = ", ".join(f"{one} version {version}" for one, version in sorted(served.items()))
        error.serving = told or "nothing of this source yet"

    def _follow(self) -> None:
        catalog, name = self.publisher.catalog, self.source.name
        catalog.note_attempt(name, self.clock())
        pinned = hashlib.sha256(self.source.root_bytes()).hexdigest()
        known = catalog.source(name)
        _check_pinned(name, known, pinned)
        with self.source.follow(self.folder) as follower:
            self.progress("verify", 0, 0)
            trusted = follower.refresh(_floors(known.floors), self.clock())
            catalog.note_verified(name, _floors_record(trusted.floors), pinned, self.clock())
            for one in self.source.lists or self._all_lists(trusted):
                self.lists.append(self._list(follower, trusted, one))
        self._sign_if_due()
        if any(one.outcome is Outcome.PUBLISHED for one in self.lists):
            self.publisher.collect_garbage(self.source.name, self.clock())

    def _all_lists(self, trusted: TrustedFeed) -> list[ListName]:
        """Those that the feed has, and those that we follow: one that it no longer has is not passed over."""
        followed = {one.list for one in self.publisher.catalog.origins() if one.source == self.source.name}
        return sorted({*followed, *filter(None, map(layout.list_of, trusted.targets))})

    def _sign_if_due(self) -> None:
        """Tell matchers at least hourly when the upstream was last verified, also where nothing changed."""
        if not self.dry_run and self.clock() - self.publisher.last_signed() >= RESIGN_AFTER:
            self.publisher.resign(self.clock())

    def _list(self, follower: Follower, trusted: TrustedFeed, name: ListName) -> ListOutcome:
        try:
            return self._road(follower, trusted, name)
        except SyncdError as error:
            self.explain(error, name)
            head = self.publisher.catalog.head(head_name(self.source.name, name))
            version = head.version if head else None
            return ListOutcome(head_name(self.source.name, name), outcome_of(error), version, error=error)

    def _road(self, follower: Follower, trusted: TrustedFeed, name: ListName) -> ListOutcome:
        origin = self.publisher.catalog.origin(self.source.name, name)
        retrusted = origin is not None and origin.serial == RETRUSTED
        held = ManifestRef(version=origin.serial, sha256=origin.manifest_sha256) if origin and not retrusted else None
        complete = origin is None or self.publisher.relink(origin)
        target = target_of(trusted, name)
        if origin and complete and held == ManifestRef(version=target.version, sha256=target.sha256):
            return self._up_to_date(name, held, origin.rows)  # the manifest signed is the one held: not asked for
        signed = follower.manifest(trusted, name)
        planned = plan.plan(held, signed.manifest, signed.sha256, complete=complete, retrusted=retrusted)
        if isinstance(planned, UpToDate):
            return self._up_to_date(name, signed.ref, signed.manifest.rows)
        candidate = self._stage(follower, name, origin if complete else None, signed, planned)
        if origin is not None and not complete:  # the gate compares with what was held, though its rows are gone
            candidate = replace(candidate, rows_before=origin.rows)
        verdict = gate.judge(candidate)
        passed = verdict.passed
        shown = self._outcome(name, candidate, Outcome.HELD, ", ".join(verdict.reasons))
        if passed is None or self.dry_run:
            return shown if passed is None else self._outcome(name, candidate, Outcome.STAGED, "")
        self.progress("publish", 0, 0)
        document = evidence(trusted, signed)
        kept = FileRef(sha256=hashlib.sha256(document).hexdigest(), length=len(document))
        head = self.publisher.current(head_name(self.source.name, name))
        change = compose.compose(
            head_name(self.source.name, name), candidate, passed, head.manifest if head else None, kept
        )
        next_origin = self._next_origin(name, candidate, signed)
        expected = origin.manifest_sha256 if origin else None
        if change is None:
            self.publisher.move_origin(next_origin, expected, self.clock())
            return self._outcome(name, candidate, Outcome.UP_TO_DATE, "")
        self.publisher.publish(
            change,
            next_origin,
            expected,
            evidence=document,
            plan=candidate.plan,
            sync_id=self.sync_id,
            now=self.clock(),
        )
        outcome = self._outcome(name, candidate, Outcome.PUBLISHED, "")
        self.progress("compact", 0, 0)
        self.publisher.compact(change.list, self.clock())
        return outcome

    def _up_to_date(self, name: ListName, held: ManifestRef, rows: int) -> ListOutcome:
        if not self.dry_run:
            self.publisher.catalog.touch_verified(self.source.name, {name: held.version}, self.clock())
        published = head_name(self.source.name, name)
        head = self.publisher.catalog.head(published)
        version = head.version if head else None
        return ListOutcome(published, Outcome.UP_TO_DATE, version, held.version, "up_to_date", rows=rows)

    def _stage(
        self,
        follower: Follower,
        name: ListName,
        origin: OriginRecord | None,
        signed: SignedManifest,
        planned: Deltas | Full,
    ) -> Candidate:
        basis = self._basis(origin)
        if isinstance(planned, Deltas):
            self._fetch(follower, name, [ref for step in planned.steps for ref in step.segments])
            self.progress("stage", 0, 0)
            return stage.stage_deltas(
                basis or Basis(), planned.steps, signed.manifest, signed.sha256, self._opener(name)
            )
        self._fetch(follower, name, list(signed.manifest.stack))
        self.progress("stage", 0, 0)
        stacks = self.folder.open_stacks(name, signed.manifest.stack)
        scratch = self.folder.make_staging()
        candidate, written = stage.stage_full(basis, stacks, signed.manifest, signed.sha256, planned.reason, scratch)
        for path, ref in zip(written, candidate.delta, strict=True):
            install_file(path, self.folder.segment_path(name, ref))
        return candidate

    def _basis(self, origin: OriginRecord | None) -> Basis | None:
        if origin is None:
            return None
        return Basis(origin.stack, self.folder.open_stacks(origin.list, origin.stack), origin.end_state)

    def _fetch(self, follower: Follower, name: ListName, refs: list[SegmentRef]) -> None:
        total = sum(ref.length for ref in self.folder.missing(name, refs))
        self.received += total
        done = 0

        def report(gained: int) -> None:
            nonlocal done
            done += gained
            self.progress("fetch", done, total)

        follower.fetch(name, refs, report)

    def _opener(self, name: ListName) -> Callable[[SegmentRef], Segment]:
        return lambda ref: Segment.open(self.folder.segment_path(name, ref), ref)

    def _next_origin(self, name: ListName, candidate: Candidate, signed: SignedManifest) -> OriginRecord:
        return OriginRecord(
            self.source.name,
            name,
            candidate.ref.version,
            candidate.sha256,
            signed.content,
            candidate.stack,
            candidate.end_state,
            self.clock(),
        )

    def _outcome(self, name: ListName, candidate: Candidate, outcome: Outcome, reason: str) -> ListOutcome:
        published = head_name(self.source.name, name)
        head = self.publisher.catalog.head(published)
        return ListOutcome(
            published,
            outcome,
            head.version if head else None,
            candidate.ref.version,
            candidate.plan,
            candidate.counts,
            candidate.labels,
            candidate.rows,
            reason,
        )


def _check_pinned(name: str, known: SourceState, pinned: str) -> None:
    """A root file that was replaced, by whomever, would be followed without a question."""
    if known.root_sha256 not in {None, pinned}:
        raise RefusedError(
            f"the root of source {name} is not the one that it was followed by",
            hint=f"if the partner gave out another, by a way that you trust: syncd retrust {name} --root F --reason R",
        )


def _floors(record: FloorsRecord) -> Floors:
    return Floors(record.root, record.timestamp, record.snapshot, dict(record.roles), record.clock)


def _floors_record(floors: Floors) -> FloorsRecord:
    return FloorsRecord(floors.root, floors.timestamp, floors.snapshot, dict(floors.roles), floors.clock)
