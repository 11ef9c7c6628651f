"""One sync of one source: call the steps of the road in order, and report the outcome.

verify -> plan -> stage -> gate -> compose -> publish. A fault in one list does not stop the others.
"""

import time
import uuid
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from syncd.catalog.decisions import HoldState
from syncd.catalog.records import RETRUSTED, head_name
from syncd.clock import ACCEPT
from syncd.errors import RefusedError, SourceError, StoreError, SyncdError, as_known, kind_of, worst_error
from syncd.feed import garbage
from syncd.feed.folder import TRUST, FeedFolder
from syncd.feed.snapshot import keeping_maps
from syncd.fetch import Meter
from syncd.files import DamagedError
from syncd.format.freshness import SourceAges
from syncd.format.manifest import Manifest, ManifestRef
from syncd.locks import lock
from syncd.model import ListName
from syncd.outcomes import HoldReason, Lane, Outcome
from syncd.pipeline.canary_check import CanaryCheck
from syncd.pipeline.heads import ListState
from syncd.pipeline.limits_of_age import states_others
from syncd.pipeline.mend import damaged_segments, mend
from syncd.pipeline.names import check_head_name, check_room
from syncd.pipeline.outcome import ListOutcome, MendedList, SyncOutcome
from syncd.pipeline.prepare import LocalList, Prepare, Prepared, Progress, Request, VerifiedSource, prepare
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.recount import recount
from syncd.pipeline.relink import relink
from syncd.pipeline.values import Over, Staged, Update, UpToDate, Waiting
from syncd.publish import author
from syncd.sources.source import Source
from syncd.trust.client import stored_expiries
from syncd.trust.overlong import LateExpiry, read_overlong
from syncd.trust.values import signed_at
from syncd.units import clock_is_behind

RESIGN_AFTER: Final = timedelta(hours=1)
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
        sync.explain(error)
        return SyncOutcome(sync.sync_id, source.name, tuple(sync.lists), bytes=sync.meter.total, error=error)


def new_sync_id() -> str:
    """Return a new, unique name for a sync."""
    return uuid.uuid4().hex


def sign_if_due(
    publisher: Publisher,
    now: datetime,
    sources: Iterable[SourceAges | None] = (),
    *,
    confirmed: Callable[[datetime], bool] = lambda _now: False,
) -> bool:
    """Sign the timestamp if it is an hour old, so that matchers learn when each upstream was last verified.

    It is signed more often if lists of ``sources`` would otherwise look older than they may be.

    A signature or verification dated in the future was made by a clock that ran ahead, and is corrected at once.
    Returns True if signing was due. Raises `StoreError`, and `RefusedError` if the last signature is so far ahead that
    the present clock may be wrong (its signature would expire at once), unless the clock is ``confirmed``.
    """
    last = publisher.last_signed()
    if not (clock_is_behind(now - last) and confirmed(now)):
        author.check_timestamp(last, now, ACCEPT)
    corrected = publisher.catalog.correct_verified(now)
    sign_after = min((RESIGN_AFTER, *(ages.sign_after for ages in sources if ages)))
    due = corrected or clock_is_behind(now - last) or now - last >= sign_after
    if due:
        publisher.resign(now)
    return due


def held_of(state: ListState, left: Callable[[ListState], Over]) -> LocalList:
    """Return the held state of a list. ``left`` returns the part of it that is still on this disk."""
    origin = state.origin
    if origin is None:
        return LocalList()
    retrusted = origin.serial == RETRUSTED
    over = left(state)
    basis = {
        Over.ORIGIN: (state.stack, origin.end_state),
        Over.HEAD: (state.head.stack, state.head.end_state) if state.head else ((), {}),
        Over.NOTHING: ((), {}),
    }
    stack, end_state = basis[over]
    return LocalList(
        ref=None if retrusted else ManifestRef(version=origin.serial, sha256=origin.manifest_sha256),
        retrusted=retrusted,
        over=over,
        stack=stack,
        end_state=end_state,
        rows=origin.rows,
        fork=origin.fork,
        fork_waits=bool(state.holds_of(Lane.BOTH)),
    )


_DAMAGED_HERE: Final = "run `syncd sync`, which fetches it again; the partner is not to blame"
_MENDED: Final = (
    "nothing: it was replaced with a sound copy, or fetched from the partner again; if this happens more than once, "
    "check the disk and the memory of this machine"
)


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
    _verified: bool = False
    """true once this sync has verified the source"""
    _late_expiry: LateExpiry | None = None
    """of the source's timestamp, if it is new and its expiry does not count in full"""
    _moved: set[ListName] = field(default_factory=set)
    """lists whose head or origin this sync moved"""
    _brought_up: set[ListName] = field(default_factory=set)
    """lists that have a new version because of a changed known-good file"""
    _again: set[ListName] = field(default_factory=set)
    """lists with damaged local segments, which are fetched again by this sync"""
    _mended: list[MendedList] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._canaries = CanaryCheck(self.publisher, self.source.name)

    def run(self) -> SyncOutcome:
        catalog = self.publisher.catalog
        started = time.monotonic()
        catalog.begin_sync(self.sync_id, self.source.name, self.clock(), dry_run=self.dry_run)
        failure: SyncdError | None = None
        try:
            with keeping_maps():
                self._follow()
                if self._again:
                    self._follow(self._again)
        except Exception as fault:  # noqa: BLE001 - the catalog must record how the sync ended
            failure = as_known(fault)
            self.explain(failure)
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
            mended=tuple(self._mended),
            canaries=tuple(self._canaries.missing),
            opened=tuple(hold for settled in self._canaries.settled for hold in settled.opened),
            ended=tuple(hold for settled in self._canaries.settled for hold in settled.ended),
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

    def explain(self, error: SyncdError, name: ListName | None = None) -> None:
        """Fill in an error's ``serving`` with the versions that are still served."""
        try:
            served = self.publisher.served(self.source.name)
        except SyncdError:
            error.serving = f"{self.publisher.folder.feed.root} as it was published last"
            return
        if name is not None:
            published = head_name(self.source.name, name)
            served = {published: served[published]} if published in served else {}
        versions = ", ".join(f"{published} version {version}" for published, version in sorted(served.items()))
        error.serving = versions or "nothing of this source yet"

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
                    catalog.note_verified(name, step.memory, self.clock())
                    self._verified = True
                    overlong = read_overlong(self.folder.work / TRUST)
                    if overlong and (known is None or known.version != overlong.version):
                        self._late_expiry = overlong.late
                    continue
                if only is None:
                    self.lists.append(self._list(step, request.of(step.name)))
                elif step.name in only:
                    again = self._list(step, request.of(step.name))
                    self.lists = [again if one.list == again.list else one for one in self.lists]
        if self._changed and garbage.is_due(self.folder, self.clock()):
            self.publisher.collect_garbage(self.source.name, self.clock())

    def _held(self) -> dict[ListName, LocalList]:
        """Return the held state of each of this source's lists, and the part of it that is still on this disk."""
        followed = [origin for origin in self.publisher.catalog.origins() if origin.source == self.source.name]
        self._states = {origin.list: self.publisher.list_state(origin.source, origin.list) for origin in followed}
        for name, state in () if self.dry_run else tuple(self._states.items()):
            self._bring_up_known_good(name, state)
        return {name: held_of(state, self._left) for name, state in self._states.items()}

    def _bring_up_known_good(self, name: ListName, state: ListState) -> None:
        """Put the configured known-good digests in force on a list whose files are here."""
        wanted, mark = self._canaries.wanted(name), state.mark
        if wanted is None or mark is None or wanted.name == mark.known_good or self._left(state) is not Over.ORIGIN:
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

    def _left(self, state: ListState) -> Over:
        try:
            return relink(self.publisher.catalog, state)
        except StoreError:  # one list's files must not stop the others: fetching again replaces them
            return Over.NOTHING

    def _state_limits(self) -> SyncdError | None:
        """Publish the limits of age of the lists that state others; return the error that prevents it."""
        ages = self.source.ages
        if ages is None or self.dry_run:
            return None
        heads = ((name, state.head) for name, state in self._states.items() if state.head)
        try:
            if any(states_others(head, ages.of(name)) for name, head in heads):
                self._changed |= bool(self.publisher.state_limits(self.source.name, ages, self.clock()))
        except SyncdError as error:
            self.explain(error)
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
            self.explain(error)
            return error
        return None

    def _is_confirmed(self, now: datetime) -> bool:
        """Return True if this sync verified the source's timestamp, and it is valid now and not from the future."""
        expires = stored_expiries(self.folder.work / TRUST).get("timestamp") if self._verified else None
        return expires is not None and now < expires and not clock_is_behind(now - signed_at("timestamp", expires))

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
                case Waiting():
                    outcome = self._nothing_new(name, held.fork.version if held.fork else 0)
                case Staged() as staged:
                    outcome = self._judge(name, staged)
            return self._with_known_good(name, outcome)
        except Exception as fault:  # noqa: BLE001 - a fault in one list must not stop the others
            error = self._local_damage(name, fault) or as_known(fault)
            self.explain(error, name)
            version, rows = self._served(name)
            published = head_name(self.source.name, name)
            return ListOutcome(published, error.outcome, version, rows=rows, error=error)

    def _local_damage(self, name: ListName, fault: Exception) -> SyncdError | None:
        """Return the damage on our own disk that may have caused a fault, after its repair; None if there is none.

        Our rows and the partner's delta are counted together, so damage here looks like a wrong delta.
        """
        state = self._states.get(name)
        if state is None or name in self._again or isinstance(fault, SourceError | RefusedError):
            return None
        try:
            damaged = damaged_segments(state)
            if damaged and not self.dry_run:
                mend(self.publisher.folder, self.source.name, state.name, [ref.sha256 for ref in damaged])
        except SyncdError as error:
            return error
        if not damaged:
            return None
        names = ", ".join(f"{ref.sha256}.arrow" for ref in damaged)
        fault = DamagedError(f"{state.name} was damaged on this disk: {names}", hint=_DAMAGED_HERE)
        if not self.dry_run:
            self._again.add(name)
            self._mended.append(MendedList(state.name, DamagedError(fault.message, hint=_MENDED)))
        return fault

    def _judge(self, name: ListName, staged: Staged) -> ListOutcome:
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
        )
        if state.origin is None:
            self._canaries.check_first(state)
        if self.dry_run:
            reasons = self.publisher.judge_update(update, self.clock())
            return self._outcome(name, staged, Outcome.HELD if reasons else Outcome.STAGED, reasons)
        return self._publish(name, update)

    def _publish(self, name: ListName, update: Update) -> ListOutcome:
        self.progress("publish", 0, 0)
        max_age = self.source.ages.of(name) if self.source.ages else None
        settled = self.publisher.publish_update(update, self.clock(), self.sync_id, max_age)
        self._moved.add(name)
        good = Outcome.PUBLISHED if settled.changes_head else Outcome.UP_TO_DATE
        outcome = self._outcome(
            name, update.staged, Outcome.HELD if settled.reasons else good, settled.reasons, settled.version
        )
        outcome = replace(outcome, opened=settled.opened, ended=settled.ended, known_good=settled.known_good)
        if settled.changes_head:
            self._changed = True
            self.progress("compact", 0, 0)
            self.publisher.compact_if_due(settled, self.clock())
        return outcome

    def _with_known_good(self, name: ListName, outcome: ListOutcome) -> ListOutcome:
        """Add to an outcome that a changed known-good file changed the list, or that its hold is open."""
        holds = self.publisher.catalog.holds(outcome.list)
        waiting = tuple(hold for hold in holds if hold.is_of_known_good_file and hold.state is HoldState.OPEN)
        if waiting:
            reasons = dict.fromkeys((*outcome.reasons, *(reason for hold in waiting for reason in hold.reasons)))
            return replace(outcome, outcome=Outcome.HELD, reasons=tuple(reasons), holds=(*outcome.holds, *waiting))
        if outcome.outcome is Outcome.UP_TO_DATE and name in self._brought_up:
            return replace(outcome, outcome=Outcome.PUBLISHED)
        return outcome

    def _served(self, name: ListName) -> tuple[int | None, int]:
        """Return the version that is served now, and its number of entries."""
        published = head_name(self.source.name, name)
        head = self.publisher.catalog.head(published)
        return (head.version, self.publisher.catalog.head_rows()[published]) if head else (None, 0)

    def _up_to_date(self, name: ListName, held: LocalList) -> ListOutcome:
        serial = held.ref.version if held.ref else 0
        if not self.dry_run:
            self.publisher.catalog.touch_verified(self.source.name, {name: serial}, self.clock())
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
        """Return the outcome of a list without a new version. Open holds stay open."""
        published = head_name(self.source.name, name)
        holds = self._states[name].open_holds if name in self._states else ()
        reasons = tuple(dict.fromkeys(reason for hold in holds for reason in hold.reasons))
        outcome = Outcome.HELD if reasons else Outcome.UP_TO_DATE
        version, rows = self._served(name)
        return ListOutcome(
            list=published,
            outcome=outcome,
            version=version,
            serial=serial,
            plan="up_to_date",
            rows=rows,
            reasons=reasons,
            holds=holds,
        )

    def _outcome(
        self,
        name: ListName,
        staged: Staged,
        outcome: Outcome,
        reasons: tuple[HoldReason, ...] = (),
        published: Manifest | None = None,
    ) -> ListOutcome:
        candidate = staged.candidate
        comparable = candidate.over is not Over.NOTHING or name not in self._states  # else what is held was lost
        version, rows = (published.version, published.rows) if published else self._served(name)
        return ListOutcome(
            list=head_name(self.source.name, name),
            outcome=outcome,
            version=version,
            serial=candidate.ref.version,
            plan=candidate.plan,
            counts=candidate.counts if comparable else {},
            labels=candidate.labels if comparable else {},
            rows=candidate.rows if outcome is Outcome.STAGED else rows,
            reasons=reasons,
            holds=self.publisher.list_state(self.source.name, name).open_holds if reasons else (),
        )
