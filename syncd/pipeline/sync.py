"""One sync of one source: call the steps of the road in order, and report the outcome.

verify -> plan -> stage -> gate -> compose -> publish. A fault in one list does not stop the others.
"""

import time
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from syncd.catalog.records import Position
from syncd.errors import StoreError, SyncdError, as_known, kind_of, worst_error
from syncd.feed import garbage, layout
from syncd.feed.folder import TRUST, FeedFolder
from syncd.feed.snapshot import keeping_maps
from syncd.fetch import Meter
from syncd.files import sha256_file
from syncd.locks import lock
from syncd.model import ListName
from syncd.outcomes import Lane, Outcome
from syncd.pipeline.canary_check import CanaryCheck
from syncd.pipeline.heads import ListState
from syncd.pipeline.held import WaitingUpdate, held_of, left_of, waiting_of
from syncd.pipeline.limits_of_age import states_others
from syncd.pipeline.list_outcomes import ListOutcomes
from syncd.pipeline.local_damage import LocalDamage
from syncd.pipeline.names import check_head_name, check_room
from syncd.pipeline.outcome import ListOutcome, SyncOutcome, set_aside_by
from syncd.pipeline.preparation import LocalList, Prepare, Prepared, Progress, Request, VerifiedSource
from syncd.pipeline.prepare import prepare
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.recount import recount
from syncd.pipeline.timestamp import check_clock, is_confirmed_by, sign_if_due
from syncd.pipeline.values import Over, Staged, Stated, Unchanged, Update, UpToDate, Waiting
from syncd.pipeline.wire import encode_staged
from syncd.sources.source import Source
from syncd.sources.statements import StatedSource
from syncd.trust.overlong import LateExpiry, read_overlong

PATIENCE: Final = 10.0
"""Seconds to wait for the source's lock, which the removal of old files holds briefly."""

Clock = Callable[[], datetime]


def sync_source(
    publisher: Publisher,
    source: Source,
    clock: Clock,
    progress: Progress | None = None,
    *,
    dry_run: bool = False,
    prepared_by: Prepare = prepare,
    sync_id: str | None = None,
) -> SyncOutcome:
    """Bring one source up to date. Every `SyncdError` ends in the outcome, and published versions stay.

    ``prepared_by`` does the half that parses foreign bytes. Judging, signing and committing happen here.
    """
    folder = publisher.folder.source(source.name)
    sync = _Sync(
        publisher=publisher,
        source=source,
        folder=folder,
        clock=clock,
        progress=progress or _silent,
        sync_id=sync_id or new_sync_id(),
        dry_run=dry_run,
        prepared_by=prepared_by,
    )
    try:
        with lock(folder.lock, f"a sync of {source.name}", PATIENCE):
            return sync.run()
    except SyncdError as error:  # another sync of it runs, or the catalog cannot be written
        sync.outcomes.explain(error)
        return SyncOutcome(sync.sync_id, source.name, tuple(sync.lists), bytes=sync.meter.total, error=error)


def new_sync_id() -> str:
    """Return a new, unique name for a sync."""
    return uuid.uuid4().hex


def _silent(stage: str, done: int, total: int) -> None:
    del stage, done, total


@dataclass
class _Sync:
    publisher: Publisher
    source: Source
    folder: FeedFolder
    clock: Clock
    progress: Progress
    sync_id: str
    dry_run: bool
    prepared_by: Prepare
    meter: Meter = field(default_factory=Meter)
    lists: list[ListOutcome] = field(default_factory=list)
    _states: dict[ListName, ListState] = field(default_factory=dict)
    """each list as it stood when the sync began; only this sync moves its origin"""
    _changed: bool = False
    """true once any list has a new version"""
    _verified_at: datetime | None = None
    """when this sync had verified the source, or read one that signs nothing to its end"""
    _late_expiry: LateExpiry | None = None
    """of the source's timestamp, if it is new and its expiry does not count in full"""
    _set_aside: Mapping[str, int] = field(default_factory=dict)
    """by reason: what an adapter could not use"""
    _waiting: dict[ListName, WaitingUpdate] = field(default_factory=dict)
    """whole lists of a source that signs nothing, which did not become origins"""
    _moved: set[ListName] = field(default_factory=set)
    """lists whose head or origin this sync moved"""
    _brought_up: set[ListName] = field(default_factory=set)
    """lists that have a new version because of a changed known-good file"""

    def __post_init__(self) -> None:
        self.outcomes = ListOutcomes(self.publisher, self.source.name)
        self._canaries = CanaryCheck(self.publisher, self.source.name)
        self._damage = LocalDamage(self.publisher.folder, self.source.name, dry_run=self.dry_run)

    def run(self) -> SyncOutcome:
        catalog = self.publisher.catalog
        started = time.monotonic()
        catalog.begin_sync(self.sync_id, self.source.name, self.clock(), dry_run=self.dry_run)
        failure: SyncdError | None = None
        try:
            with keeping_maps():
                self._follow()
                if self._damage.mended:
                    self._follow(self._damage.mended)
        except Exception as fault:  # noqa: BLE001 - the catalog must record how the sync ended
            failure = as_known(fault)
            self.outcomes.explain(failure)
        self._note_canaries()
        failure = self._state_limits() or failure  # even if the source is down: the operator may have raised them
        failure = self._sign_if_due() or failure  # even if the source is down: matchers see that we are not
        lists = tuple(self.lists)
        told = [result.error for result in lists]
        seconds = time.monotonic() - started
        outcome = SyncOutcome(
            self.sync_id,
            self.source.name,
            lists,
            seconds=seconds,
            bytes=self.meter.total,
            error=failure,
            warnings=tuple(fault for fault in self._canaries.faults.values() if fault not in told),
            late_expiry=self._late_expiry,
            mended=tuple(self._damage.mended.values()),
            canaries=tuple(self._canaries.missing),
            opened=tuple(hold for settled in self._canaries.settled for hold in settled.opened),
            ended=tuple(hold for settled in self._canaries.settled for hold in settled.ended),
            set_aside=self._set_aside,
        )
        worst = worst_error(error for error in (failure, *(result.error for result in lists)) if error)
        message = worst.message if worst else ""
        held_for = tuple(dict.fromkeys(reason for result in lists for reason in result.reasons))
        catalog.finish_sync(
            self.sync_id,
            outcome.outcome,
            reasons=(kind_of(worst),) if worst else held_for,
            message=message,
            now=self.clock(),
            received=self.meter.total,
            faults=outcome.faults,
        )
        return outcome

    def _follow(self, only: Collection[ListName] | None = None) -> None:
        """Verify the source, and judge its lists: all, or ``only`` some."""
        catalog, name = self.publisher.catalog, self.source.name
        catalog.note_attempt(name, self.clock())
        memory = catalog.source(name).memory
        self.source.check_trust(memory)
        request = Request(self.source, self.folder.root, memory, self._held(), self.clock())
        known = read_overlong(self.folder.work / TRUST)
        with closing(self.prepared_by(request, self.progress, self.meter)) as preparing:
            for step in preparing:
                if isinstance(step, VerifiedSource):
                    self.source.check_trust(step.memory)  # a compromised worker must not change the trusted root
                    self._verified_at = self.clock()
                    self._set_aside = set_aside_by(step.set_aside)
                    catalog.note_verified(name, step.memory, self._verified_at)
                    overlong = read_overlong(self.folder.work / TRUST)
                    if overlong and (known is None or known.version != overlong.version):
                        self._late_expiry = overlong.late
                    continue
                if only is None:
                    self.lists.append(self._list(step, request.of(step.name)))
                elif step.name in only:
                    again = self._list(step, request.of(step.name))
                    self.lists = [again if one.list == again.list else one for one in self.lists]
        if self._changed and garbage.is_due(self.publisher.collector.ledger(self.source.name), self.clock()):
            self.publisher.collect_garbage(self.source.name, self.clock())

    def _held(self) -> dict[ListName, LocalList]:
        """Return the held state of each of this source's lists, and the part of it that is still on this disk."""
        followed = [origin for origin in self.publisher.catalog.origins() if origin.source == self.source.name]
        self._states = {origin.list: self.publisher.list_state(origin.source, origin.list) for origin in followed}
        for name, state in () if self.dry_run else tuple(self._states.items()):
            self._bring_up_known_good(name, state)
        catalog = self.publisher.catalog
        if isinstance(self.source, StatedSource):
            for name in self.source.kinds.keys() - self._states.keys():  # the first version of a list may wait
                self._states[name] = self.publisher.list_state(self.source.name, name)
            waiting = {name: waiting_of(catalog, state) for name, state in self._states.items()}
            self._waiting = {name: update for name, update in waiting.items() if update is not None}
        return {
            name: held_of(state, left_of(catalog, state), self._waiting.get(name))
            for name, state in self._states.items()
        }

    def _bring_up_known_good(self, name: ListName, state: ListState) -> None:
        """Put the configured known-good digests in force on a list whose files are here."""
        wanted, mark = self._canaries.wanted(name), state.mark
        if wanted is None or mark is None or wanted.name == mark.known_good:
            return
        if left_of(self.publisher.catalog, state) is not Over.ORIGIN:
            return
        if self._canaries.bring_up(state, self.clock()):
            self._states[name] = self.publisher.list_state(self.source.name, name)
            self._moved.add(name)
            if self._canaries.settled[-1].changes_head:
                self._changed = True
                self._brought_up.add(name)

    def _note_canaries(self) -> None:
        """Record which canaries are missing now, and remove old readings of known-good files."""
        if self.dry_run:
            return
        try:
            for origin in self.publisher.catalog.origins():
                if origin.source == self.source.name:
                    self._canaries.note(origin.list, changed=origin.list in self._moved)
            self._canaries.collect()
        except SyncdError as error:  # the lists were published: what is said about them must not fail the sync
            self._canaries.faults[self.folder.root] = error

    def _state_limits(self) -> SyncdError | None:
        """Publish the limits of the lists that state others; return the error that prevents it."""
        ages = self.source.ages
        if ages is None or self.dry_run:
            return None
        heads = ((name, state.head) for name, state in self._states.items() if state.head)
        try:
            if any(states_others(head, ages.stated(name)) for name, head in heads):
                check_clock(self.publisher, self.clock(), self._is_confirmed)
                self._changed |= bool(self.publisher.state_limits(self.source.name, ages, self.clock()))
        except SyncdError as error:
            self.outcomes.explain(error)
            return error
        return None

    def _sign_if_due(self) -> SyncdError | None:
        """Sign the timestamp unless this sync just did; return the error that prevents it.

        It is due once an hour: then records of old syncs are removed too, of sources that never publish as well.
        """
        try:
            if self.dry_run or self._changed:
                return None
            if sign_if_due(self.publisher, self.clock(), (self.source.ages,), confirmed=self._is_confirmed):
                self.publisher.collector.records(self.clock())
        except SyncdError as error:
            self.outcomes.explain(error)
            return error
        return None

    def _is_confirmed(self, now: datetime) -> bool:
        """Return True if this sync verified the source, and its timestamp says that the clock is right."""
        return self._verified_at is not None and is_confirmed_by(self.folder, now)

    def _list(self, prepared: Prepared, held: LocalList) -> ListOutcome:
        """Judge and publish one prepared list."""
        name = prepared.name
        try:
            check_head_name(self.source.name, name)
            match prepared.result:
                case SyncdError() as refused:
                    raise refused
                case UpToDate():
                    outcome = self._up_to_date(name, held)
                case Unchanged(position=position):
                    outcome = self._unchanged(name, held, position)
                case Waiting():
                    outcome = self._nothing_new(name, held.fork.version if held.fork else 0)
                case Staged() as staged:
                    outcome = self._judge(name, staged)
            return self.outcomes.with_known_good(outcome, brought_up=name in self._brought_up)
        except Exception as fault:  # noqa: BLE001 - a fault in one list must not stop the others
            error = self._damage.behind(fault, self._states.get(name)) or as_known(fault)
            return self.outcomes.failed(name, error)

    def _unchanged(self, name: ListName, held: LocalList, position: Position) -> ListOutcome:
        """Record that a partner that signs nothing was read to the end, and stated nothing new of a list."""
        origin, serial = self._states[name].origin, held.ref.version if held.ref else 0
        if self.dry_run:
            return self._nothing_new(name, serial)
        at = self._verified_at or self.clock()
        if held.waiting is not None:
            waiting = self._waiting[name]
            staged = replace(waiting.staged, vouched=replace(waiting.stated, position=position, at=at))
            self.publisher.catalog.replace_staged(waiting.number, encode_staged(staged))
        elif origin is not None:
            self.publisher.catalog.note_polled(origin, position, at)
        return self._still(name, serial)

    def _judge(self, name: ListName, staged: Staged) -> ListOutcome:
        staged = self._vouched(name, staged)
        state = self._states.get(name) or self.publisher.list_state(self.source.name, name)
        if state.origin is None:
            followed = [(origin.source, origin.list) for origin in self.publisher.catalog.origins()]
            check_room(self.source.name, name, followed)
        update = recount(
            staged,
            state.basis_under(staged.candidate.over),
            self.folder,
            source=self.source.name,
            name=name,
            before=state.origin.manifest_sha256 if state.origin else None,
            caps=self.source.caps,
            serial=state.origin.serial if state.origin else 0,
        )
        if state.origin is None:
            self._canaries.check_first(state)
        if self.dry_run:
            reasons = self.publisher.judge_update(update, self.clock())
            outcome = Outcome.HELD if reasons else Outcome.STAGED
            return self.outcomes.judged(name, staged, outcome, reasons, held=self._is_held(name))
        return self._publish(name, update)

    def _vouched(self, name: ListName, staged: Staged) -> Staged:
        """Check that an update is vouched for as its source does it; put the time of the poll into a stated one."""
        stated = staged.vouched if isinstance(staged.vouched, Stated) else None
        if (stated is not None) is not isinstance(self.source, StatedSource):
            raise StoreError(
                f"the worker process staged {name} as another kind of source would",
                hint="nothing of it was used; if it happens again, keep this partner's files and report it as a bug",
            )
        if stated is None:
            return staged
        answers = layout.answers_path(name, stated.answers)
        if sha256_file(self.folder.path(answers)) != stated.answers:
            raise StoreError(f"the answers that state {name} were altered on this disk", hint="sync again")
        if not self.dry_run:
            self.folder.store.secure(answers)  # before a commit that names them
        return replace(staged, vouched=replace(stated, at=self._verified_at or self.clock()))

    def _is_held(self, name: ListName) -> bool:
        state = self._states.get(name)
        return state is not None and state.origin is not None

    def _publish(self, name: ListName, update: Update) -> ListOutcome:
        self.progress("publish", 0, 0)
        limits = self.source.ages.stated(name) if self.source.ages else None
        staged = update.candidate
        self.folder.secure(name, (*staged.stack, *staged.delta))  # before a commit that names them
        settled = self.publisher.publish_update(update, self.clock(), self.sync_id, limits)
        self._moved.add(name)
        good = Outcome.PUBLISHED if settled.changes_head else Outcome.UP_TO_DATE
        outcome = self.outcomes.judged(
            name,
            update.staged,
            Outcome.HELD if settled.reasons else good,
            settled.reasons,
            settled.version,
            held=self._is_held(name),
        )
        outcome = replace(outcome, opened=settled.opened, ended=settled.ended, known_good=settled.known_good)
        if settled.changes_head:
            self._changed = True
            self.progress("compact", 0, 0)
            self.publisher.compact_if_due(settled, self.clock())
        return outcome

    def _up_to_date(self, name: ListName, held: LocalList) -> ListOutcome:
        serial = held.ref.version if held.ref else 0
        if not self.dry_run:
            self.publisher.catalog.touch_verified(self.source.name, {name: serial}, self.clock())
            return self._still(name, serial)
        return self._nothing_new(name, serial)

    def _still(self, name: ListName, serial: int) -> ListOutcome:
        """Judge again what waits of a list that has nothing new."""
        if any(hold.lane is not Lane.BOTH for hold in self._states[name].open_holds):
            again = self._judge_again(name, serial)
            if again is not None:
                return again
        return self._nothing_new(name, serial)

    def _judge_again(self, name: ListName, serial: int) -> ListOutcome | None:
        """Judge rows that wait under the limits as they are now; return None if all of them wait on."""
        settled = self.publisher.judge_again(self.source.name, name, self.clock())
        if not settled.ended:
            return None
        self._moved.add(name)
        self._states[name] = self.publisher.list_state(self.source.name, name)
        if settled.changes_head:
            self._changed = True
            self.publisher.compact_if_due(settled, self.clock())
        outcome = self._nothing_new(name, serial)
        good = Outcome.PUBLISHED if settled.changes_head else Outcome.UP_TO_DATE
        return replace(outcome, outcome=outcome.outcome if outcome.reasons else good, ended=settled.ended)

    def _nothing_new(self, name: ListName, serial: int) -> ListOutcome:
        holds = self._states[name].open_holds if name in self._states else ()
        return self.outcomes.nothing_new(name, serial, holds)
