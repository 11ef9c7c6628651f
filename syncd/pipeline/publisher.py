"""`Publisher`: the last step of the road, and every other change to what the operator publishes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from syncd.catalog.catalog import Catalog
from syncd.catalog.changes import HeadNote, OriginMove, Records
from syncd.catalog.folder import StateFolder
from syncd.catalog.place import check_place
from syncd.catalog.records import AuditEntry, head_name
from syncd.errors import RefusedError, StoreError, SyncdError
from syncd.feed import layout
from syncd.feed.layout import TIMESTAMP
from syncd.feed.locked import FeedLock
from syncd.feed.shared import catch_up
from syncd.feed.signed import load_repository
from syncd.format.freshness import SourceAges, StatedLimits
from syncd.format.manifest import Manifest
from syncd.history.keep import keep, prune
from syncd.limits import DEFAULT_LIMITS, ListLimits
from syncd.locks import is_locked, lock_if_free
from syncd.model import ListName
from syncd.outcomes import HoldReason
from syncd.pipeline.collector import Collector
from syncd.pipeline.heads import ListState, read_state
from syncd.pipeline.limits_of_age import restated, stating
from syncd.pipeline.next_version import SettleContext
from syncd.pipeline.owed import fold_owed
from syncd.pipeline.relink import link_to_source
from syncd.pipeline.settle.result import Settled
from syncd.pipeline.settle.update import settle_again, settle_update
from syncd.pipeline.values import Update
from syncd.pipeline.wire import encode_update
from syncd.publish.compact import FoldStacks, fold_due, is_fold_due
from syncd.publish.publication import Announce, FeedPublisher, Proposal, Resign, unannounced
from syncd.publish.rotate import online_signers
from syncd.retention import RetentionLimits
from syncd.trust.keys import Signers
from syncd.trust.values import signed_at

Done = TypeVar("Done")

LimitsOf = Callable[[str, ListName], ListLimits]


def no_configured_limits(source: str, name: ListName) -> ListLimits:
    """Return the default limits, for every list."""
    del source, name
    return DEFAULT_LIMITS


_PATIENCE: Final = 60.0
"""Seconds to wait while the sync of another source publishes into the same feed."""


@dataclass(frozen=True)
class Publisher:
    """The facade of publishing: the only way to change heads, origins and the feed's metadata in an operator's state.

    It judges and settles updates and holds, compacts lists, signs the timestamp, and says what is published now. The
    catalog is the ledger: the commit point is one of its transactions. Each act takes the lock of the feed, reads the
    state, and hands a finished proposal to `core`. `with_lock` and `core` are for acts that have no method here
    (recovery, retirement, backup).
    """

    folder: StateFolder
    catalog: Catalog
    signers: Signers
    announce: Announce = unannounced
    """is called with each new version of a head when readers can see it"""
    limits: LimitsOf = no_configured_limits
    """the gate's limits of a list, by its source and its name there"""
    second_operator: Callable[[], bool] = lambda: True
    """returns false if one operator may take any number of rows off a list"""
    retention: Callable[[], RetentionLimits] = RetentionLimits
    """returns the limits of the past that is kept, which may change while the daemon runs"""
    fold: FoldStacks = fold_due
    """folds the stacks of a head"""

    @property
    def core(self) -> FeedPublisher[Records]:
        """The publication core with this state's feed, catalog and signers."""
        return FeedPublisher(self.folder.feed, self.catalog, self.signers, self.announce)

    def with_lock(self, purpose: str, act: Callable[[FeedLock], Done]) -> Done:
        """Call ``act`` with the feed's lock held, after waiting for it. Raises as `syncd.feed.locked.with_lock`."""
        return self.core.with_lock(purpose, act, _PATIENCE)

    def publish_update(
        self, update: Update, now: datetime, sync_id: str, limits: StatedLimits | None = None
    ) -> Settled:
        """Judge an update and publish the part that passes; its version states ``limits`` (None: as before).

        Raises `RefusedError`, `StoreError`.
        """
        name = head_name(update.source, update.list)

        def settle(state: ListState) -> Settled:
            return stating(settle_update(state, update, SettleContext(now, encode_update, sync_id=sync_id)), limits)

        return self.settle(f"publishing {name}", update.source, update.list, settle, now)

    def judge_again(self, source: str, own_name: ListName, now: datetime) -> Settled:
        """Judge the waiting rows of a list again, and publish the lanes that pass now. Raises as `publish_update`."""

        def settle(state: ListState) -> Settled:
            return settle_again(state, SettleContext(now, encode_update))

        return self.settle(f"judging {own_name} of {source} again", source, own_name, settle, now)

    def state_limits(self, source: str, ages: SourceAges, now: datetime) -> tuple[Manifest, ...]:
        """Publish a version of each of a source's lists that states other limits. Return these versions.

        Raises `RefusedError`, `StoreError`.
        """

        def act(held: FeedLock) -> tuple[Manifest, ...]:
            origins = [origin for origin in self.catalog.origins() if origin.source == source]
            current = map(self.catalog.in_force, (head_name(source, origin.list) for origin in origins))
            proposal = restated(origins, {one.manifest.list: one.manifest for one in current if one}, ages)
            return self.core.publish(held, proposal, now) if proposal else ()

        return self.with_lock(f"stating the limits of {source}", act)

    def judge_update(self, update: Update, now: datetime) -> tuple[HoldReason, ...]:
        """Return the reasons for which an update would be held, for a dry run. Publishes and records nothing."""
        state = self.list_state(update.source, update.list, now)

        def act(_: FeedLock) -> tuple[HoldReason, ...]:
            with self._staging():
                return settle_update(state, update, SettleContext(now, encode_update)).reasons

        return self.with_lock(f"judging {state.name}", act)

    def settle(
        self, purpose: str, source: str, own_name: ListName, settle: Callable[[ListState], Settled], now: datetime
    ) -> Settled:
        """Publish the proposal that ``settle`` makes from the present state of a list.

        ``settle`` is called again if another process publishes first. Returns its result with the holds and the version
        as committed. Raises what ``settle`` raises, `RefusedError`, and `StoreError`.
        """

        def act(held: FeedLock) -> Settled:
            with self._staging():
                settled = settle(self.list_state(source, own_name, now))
            published = self.core.publish(held, settled.proposal, now) if settled.proposal else ()
            return replace(settled, version=published[0] if published else None)

        return self._with_holds(self.with_lock(purpose, act))

    def settle_lists(
        self, purpose: str, make: Callable[[], tuple[Sequence[Settled], Records]], now: datetime
    ) -> tuple[Settled, ...]:
        """Publish what ``make`` settles of any number of lists as one publication, with further records of it.

        Otherwise as `settle`.
        """

        def act(held: FeedLock) -> tuple[Settled, ...]:
            with self._staging():
                made, records = make()
            proposal = merged(purpose, [one.proposal for one in made if one.proposal], records)
            published = {manifest.list: manifest for manifest in self.core.publish(held, proposal, now)}
            return tuple(
                replace(one, version=published.get(one.proposal.changes[0].list))
                if one.proposal and one.proposal.changes
                else one
                for one in made
            )

        return tuple(map(self._with_holds, self.with_lock(purpose, act)))

    @contextmanager
    def _staging(self) -> Iterator[None]:
        """Remove staged files afterwards: they hold list rows in the clear. The caller holds the feed's lock."""
        try:
            yield
        finally:
            self.folder.feed.remove_staging()

    def _with_holds(self, settled: Settled) -> Settled:
        """Return a committed result with its holds as the catalog numbered them, and forget the oldest ended holds."""
        records = settled.proposal.records if settled.proposal else None
        if records is None:
            return settled
        if records.ended:
            self.catalog.prune_holds(self.retention().holds)
        lists = {hold.list for hold in records.opened}
        known = {hold.sha256: hold for name in lists for hold in self.catalog.holds(name)}  # the newest hold wins
        return replace(
            settled,
            opened=tuple(known[hold.sha256] for hold in records.opened if hold.sha256 in known),
            ended=tuple(hold for end in records.ended if (hold := self.catalog.hold(end.id)) is not None),
        )

    def list_state(self, source: str, own_name: ListName, now: datetime | None = None) -> ListState:
        """Return one list as the catalog and the disk have it now; without ``now`` not its past changes.

        Raises `StoreError`.
        """
        return read_state(self.folder, self.catalog, source, own_name, self.limits(source, own_name), now)

    def compact_after(self, settled: Settled, now: datetime) -> None:
        """Compact a list after an operator's act if it is due, unless a sync of its source does so. As `compact`."""
        records = settled.proposal.records if settled.proposal else None
        sources = {move.origin.source for move in records.origins} if records else set()
        if not any(is_locked(self.folder.source(name).lock) for name in sources):
            self.compact_if_due(settled, now)

    def compact_if_due(self, settled: Settled, now: datetime) -> None:
        """Compact a list after a new version if its stack is long, or if rows are owed. Raises as `compact`.

        If another thread or process is compacting it already, return: the next version folds the rest.
        """
        records = settled.proposal.records if settled.proposal else None
        if settled.version is None or records is None:
            return
        owed = any(move.origin.owed for move in records.origins)
        if not owed and not is_fold_due(settled.version.stack):
            return
        name = settled.version.list
        with lock_if_free(self.folder.folding(name), f"folding {name}") as free:
            if free:
                self.compact(name, now)

    def compact(self, name: ListName, now: datetime, *, everything: bool = False) -> Manifest | None:
        """Publish a version of a head with a shorter stack and the same end state; None if nothing is due.

        Segments are folded outside the feed's lock. The deltas in ``owed`` are carried over, and folded separately.
        Raises `RefusedError`, `StoreError`.
        """
        source, _, rest = name.partition(".")  # the name of a source has no dot
        own_name = ListName(rest)
        state = self.list_state(source, own_name)
        if state.head is None:
            return None
        if state.origin is not None and state.origin.owed:
            self._fold_owed(state, source, now)
        folded = self.fold(self.folder.feed, state.head, everything=everything)
        if not folded:
            return None

        def act(held: FeedLock) -> Manifest | None:
            newest = self.catalog.in_force(name)
            change = folded.change_of(newest.manifest) if newest else None
            if change is None:
                return None
            link_to_source(state, change.stack)
            serial = state.origin.serial if state.origin else None
            records = Records(notes={name: HeadNote(source, serial, "compaction")})
            return self.core.publish(held, Proposal("compact", (change,), records=records), now)[0]

        return self.with_lock(f"compacting {name}", act)

    def _fold_owed(self, state: ListState, source: str, now: datetime) -> None:
        """Fold the deltas in ``owed`` if there are many."""
        purpose = f"folding what is owed to {state.name}"
        with self.folder.feed.scratch(purpose) as scratch:
            folded = fold_owed(state, scratch)
        if not folded:
            return

        def act(held: FeedLock) -> None:
            origin = self.list_state(source, state.own_name).origin
            owed = folded.stack_of(origin.owed) if origin else None
            if origin is None or owed is None:
                return
            moved = replace(origin, owed=owed, revision=origin.revision + 1)
            records = Records((OriginMove(moved, origin.revision),))
            self.core.publish(held, Proposal("origin", records=records, visible=False), now)

        self.with_lock(purpose, act)

    def keep_history(self, now: datetime, retention: timedelta) -> None:
        """Link and fold the rows of new versions into the history, and forget what is older than ``retention``.

        If another process does it already, return. Raises `StoreError`.
        """
        with suppress(RefusedError):
            keep(self.folder, self.catalog, now)
            prune(self.folder, self.catalog, now, retention)

    @property
    def collector(self) -> Collector:
        """Removes old files and records of this state."""
        return Collector(self.folder, self.catalog, self.retention())

    def collect_garbage(self, source: str, now: datetime) -> None:
        """Remove old records, and old files of the feed and of one source. Raises as `Collector.after_sync`."""
        self.collector.after_sync(source, now)

    def resign(self, now: datetime, *audit: AuditEntry) -> None:
        """Sign the timestamp again, with the times of the last verifications, and commit audit entries with it.

        Raises `StoreError`, `RefusedError`.
        """
        proposal = Proposal("resign", records=Records(audit=audit) if audit else None)
        self.core.publish_fixed("signing the timestamp", proposal, now, _PATIENCE)

    def change_metadata(
        self, purpose: str, resign: Resign, now: datetime, *audit: AuditEntry, rotated: tuple[str, ...] = ()
    ) -> None:
        """Commit the metadata that ``resign`` signs, such as rotated keys or a renewed root, with audit entries.

        ``rotated``: the roles whose announced keys are in force with it.

        Does not wait for another publication: raises `RefusedError` at once. Raises `StoreError`.
        """
        proposal = Proposal("metadata", resign=resign, records=Records(audit=audit, rotated=rotated))
        self.core.publish_fixed(purpose, proposal, now)

    def last_signed(self) -> datetime:
        """Return the time at which the feed's timestamp was last signed. Raises `StoreError`."""
        return signed_at("timestamp", load_repository(self.folder.feed).expiries()["timestamp"])

    def served(self, source: str) -> dict[ListName, int]:
        """Return the version of each of a source's lists that readers get now. Raises `StoreError`.

        It is read from the feed, because the catalog may be one commit ahead.
        """
        targets = load_repository(self.folder.feed).targets().values()
        named = {layout.list_of(target.name): target.version for target in targets}
        return {name: version for name, version in named.items() if name and name.partition(".")[0] == source}


def merged(kind: str, proposals: Sequence[Proposal[Records]], records: Records) -> Proposal[Records]:
    """Return one proposal for several lists, with further records."""
    every = [*(proposal.records for proposal in proposals if proposal.records), records]
    joined = {
        name: tuple(value for some in every for value in getattr(some, name))
        for name in ("origins", "dropped", "opened", "ended", "suppressed", "corrected", "marks", "audit", "answers")
    }
    return Proposal(
        kind,
        tuple(change for proposal in proposals for change in proposal.changes),
        tuple(file for proposal in proposals for file in proposal.files),
        records=Records(
            **joined,
            notes={name: note for some in every for name, note in some.notes.items()},
            update=next((some.update for some in (records, *every) if some.update), None),
        ),
        visible=any(proposal.visible for proposal in proposals),
    )


@contextmanager
def open_publisher(
    folder: StateFolder,
    *,
    online: bool = True,
    credentials: Path | None = None,
    limits: LimitsOf = no_configured_limits,
    second_operator: Callable[[], bool] = lambda: True,
    retention: Callable[[], RetentionLimits] = RetentionLimits,
) -> Iterator[Publisher]:
    """Open the catalog and the online keys, and finish a publication that a crash interrupted.

    ``credentials``: the folder in which systemd provides credentials; keys there take precedence over those in
    ``folder``. Raises `UsageError`, `RefusedError`, `StoreError`.
    """
    with ExitStack() as opened:
        try:
            publisher = replace(
                _open_publisher(folder, opened), limits=limits, second_operator=second_operator, retention=retention
            )
            if online:
                signers = online_signers(folder.feed, folder.keys, credentials=credentials)
                publisher = replace(publisher, signers=signers)
        except SyncdError as error:
            error.serving = error.serving or f"{folder.feed.root} as it was published last"
            raise
        yield publisher


def _open_publisher(folder: StateFolder, opened: ExitStack) -> Publisher:
    folder.check_set_up()
    check_place(folder)
    publisher = Publisher(folder, opened.enter_context(Catalog.open(folder.catalog)), {})
    try:
        folder.feed.store.prove()
        publisher.core.finish(patience=_PATIENCE)  # before the roles are read: they name the keys to load
        if folder.bucket is not None:
            catch_up(folder.feed)
    except StoreError:
        if folder.bucket is None or folder.feed.here(TIMESTAMP) is None:
            raise  # a bucket that fails keeps nobody from reading and serving what is here; publishing tries it again
    folder.check_feed()
    return publisher
