"""Opening the operator's state for work, and publishing from it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.records import AuditEntry, HeadNote, OriginMove, Records, head_name
from syncd.errors import RefusedError, SyncdError
from syncd.feed import garbage, layout
from syncd.feed.signed import load_repository
from syncd.files import lock, sha256_file
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest, SegmentRef
from syncd.model import ListName
from syncd.outcomes import HoldReason
from syncd.pipeline.heads import ListState, named_segments, read_state
from syncd.pipeline.next_version import SettleContext
from syncd.pipeline.owed import fold_owed
from syncd.pipeline.settle import (
    Settled,
    settle_update,
)
from syncd.pipeline.values import Over, Update
from syncd.pipeline.wire import encode_staged
from syncd.publish import author
from syncd.publish.compact import fold_due, is_fold_due
from syncd.publish.ledger import CurrentVersion
from syncd.publish.publication import Announce, FeedPublisher, Proposal, Resign, Start, unannounced
from syncd.publish.rotate import online_signers
from syncd.store.store import Store
from syncd.trust.keys import Signers
from syncd.trust.values import lifetime

_KEPT_PUBLICATIONS: Final = 20
_KEPT_HOLDS: Final = 1000
"""Holds that ended, which the catalog remembers."""
_KEPT_RECORDS: Final = 1000
"""Versions of a list that the catalog remembers, each with its manifest (some 10 kB)."""
_PATIENCE: Final = 60.0
"""Seconds to wait for another source's sync that publishes into the same feed."""


@dataclass(frozen=True)
class Publisher:
    """Publishes heads. The catalog is the ledger: the commit point is one of its transactions."""

    folder: StateFolder
    catalog: Catalog
    signers: Signers
    announce: Announce = unannounced
    """receives each version of a head once readers can see it"""

    @property
    def press(self) -> FeedPublisher[Records]:
        """The publication core, on this state's feed and catalog."""
        return FeedPublisher(self.folder.feed, self.catalog, self.signers, self.announce, _PATIENCE)

    def publish_update(self, update: Update, now: datetime, sync_id: str) -> Settled:
        """Judge an update and publish what passes. Raises `RefusedError`, `StoreError`."""
        name = head_name(update.source, update.list)

        def settle(state: ListState) -> Settled:
            return settle_update(state, update, SettleContext(now, encode_staged, sync_id=sync_id))

        return self.settle(f"publishing {name}", update.source, update.list, settle, now)

    def judge_update(self, update: Update, now: datetime) -> tuple[HoldReason, ...]:
        """Say for what reasons an update would be held, and change nothing."""
        state = self.list_state(update.source, update.list)
        with lock(self.folder.feed.lock, f"judging {state.name}", _PATIENCE), self._staging():
            return settle_update(state, update, SettleContext(now, encode_staged)).reasons

    def settle(
        self, purpose: str, source: str, own_name: ListName, settle: Callable[[ListState], Settled], now: datetime
    ) -> Settled:
        """Publish what ``settle`` makes of the list as it stands then. Raises as ``settle``, and `StoreError`."""
        found = Settled(None)

        def propose(_: Start[Records]) -> Proposal[Records] | None:
            nonlocal found
            with self._staging():
                found = settle(self.list_state(source, own_name))
            return found.proposal

        published = self.press.publish(purpose, propose, now)
        return replace(self._with_holds(found), version=published[0] if published else None)

    @contextmanager
    def _staging(self) -> Iterator[None]:
        """Remove what was staged, which is rows in the clear. Call with the feed's lock held."""
        try:
            yield
        finally:
            self.folder.feed.remove_staging()

    def _with_holds(self, settled: Settled) -> Settled:
        """A publication that was committed, with its holds as the catalog numbered them."""
        records = settled.proposal.records if settled.proposal else None
        if records is None:
            return settled
        if records.ended:
            self.catalog.prune_holds(_KEPT_HOLDS)
        known = {hold.sha256: hold for one in records.opened for hold in self.catalog.holds(one.list)}  # newest last
        return replace(
            settled,
            opened=tuple(known[one.sha256] for one in records.opened if one.sha256 in known),
            ended=tuple(hold for one in records.ended if (hold := self.catalog.hold(one.id)) is not None),
        )

    def list_state(self, source: str, own_name: ListName) -> ListState:
        """One list as a publication finds it."""
        return read_state(self.folder, self.catalog, source, own_name)

    def compact_if_due(self, settled: Settled, now: datetime) -> None:
        """Compact a list that has a new version, if its stack, or what is owed to its origin, has become long."""
        records = settled.proposal.records if settled.proposal else None
        if settled.version is None or records is None:
            return
        owed = any(move.origin.owed for move in records.origins)
        if owed or is_fold_due(settled.version.stack):
            self.compact(settled.version.list, now)

    def compact(self, name: ListName, now: datetime, *, everything: bool = False) -> Manifest | None:
        """Publish a version of a head with a shorter stack and the same end state; None if nothing is due.

        Folding takes place outside the feed's lock. What is owed to the origin is carried, and folded apart.
        """
        source, own_name = self._source_of(name)
        state = self.list_state(source, own_name)
        if state.head is None:
            return None
        if state.origin is not None and state.origin.owed:
            self._fold_owed(state, source, now)
        folded = fold_due(self.folder.feed, state.head, everything=everything)
        if not folded:
            return None

        def propose(start: Start[Records]) -> Proposal[Records] | None:
            newest = start.current(name)
            change = folded.change_of(newest.manifest) if newest else None
            if change is None:
                return None
            self._link_to_source(state, change.stack)
            serial = state.origin.serial if state.origin else None
            return Proposal("compact", (change,), records=Records(notes={name: HeadNote(source, serial, "compaction")}))

        manifests = self.press.publish(f"compacting {name}", propose, now)
        return manifests[0] if manifests else None

    def _source_of(self, name: ListName) -> tuple[str, ListName]:
        """The source of a published list, and what that calls it: the name of a source has no dot."""
        source, _, own_name = name.partition(".")
        return source, ListName(own_name)

    def _fold_owed(self, state: ListState, source: str, now: datetime) -> None:
        """Fold what is owed to an origin, if it has come to many deltas."""
        purpose = f"folding what is owed to {state.name}"
        with self.folder.feed.scratch(purpose) as scratch:
            folded = fold_owed(state, scratch)
        if not folded:
            return

        def propose(_: Start[Records]) -> Proposal[Records] | None:
            origin = self.list_state(source, state.own_name).origin
            owed = folded.stack_of(origin.owed) if origin else None
            if origin is None or owed is None:
                return None
            moved = replace(origin, owed=owed, revision=origin.revision + 1)
            return Proposal("origin", records=Records((OriginMove(moved, origin.revision),)), visible=False)

        self.press.publish(purpose, propose, now)

    def _link_to_source(self, state: ListState, refs: Iterable[SegmentRef]) -> None:
        """The origin's stack begins with the head's: its folder has them too."""
        for ref in state.source.missing(state.own_name, {ref.sha256: ref for ref in refs}.values()):
            path = layout.segment_path(state.own_name, ref.sha256)
            state.source.store.link(state.feed.segment_path(state.name, ref), path)

    def relink(self, state: ListState) -> Over:
        """Have head and origin take back from each other, by content, files that one of them lost; say what is left.

        The feed takes those of the version in force alone. If anything that is private was lost (what the head lacks of
        the origin, refused rows, rows of holds), head and origin have to be compared anew.
        """
        head = state.head.stack if state.head else ()
        for ref in state.source.missing(state.own_name, head):
            path = layout.segment_path(state.own_name, ref.sha256)
            _take_back(state.feed.segment_path(state.name, ref), state.source.store, path, ref)
        for ref in state.feed.missing(state.name, head):
            _take_back(state.path(ref), state.feed.store, layout.segment_path(state.name, ref.sha256), ref)
        if state.origin is None or state.source.missing(state.own_name, head):
            return Over.NOTHING
        held = [ref for hold in state.open_holds for ref in hold.segments]
        private = (*state.origin.owed, *state.origin.refused, *held)
        return Over.HEAD if state.source.missing(state.own_name, private) else Over.ORIGIN

    def collect_garbage(self, source: str, now: datetime) -> None:
        """Remove what no kept version names, in the feed and in one source's origins, whose lock the caller holds."""
        author.collect_garbage(self.folder.feed, now, _PATIENCE)
        self.catalog.prune_publications(_KEPT_PUBLICATIONS)
        for head in self.catalog.heads():
            self.catalog.prune_versions(head.list, _KEPT_RECORDS)
        folder = self.folder.source(source)
        garbage.collect(folder, self._named_of(source), now)
        garbage.remove_old_parts(folder.downloads, now)
        self.collect_leftovers(now)

    def collect_leftovers(self, now: datetime) -> None:
        """Remove what is left of sources of which nothing is followed: no sync of theirs will do it.

        A source that is being synced is passed over: its first list may be on its way. Raises `StoreError`.
        """
        followed = {origin.source for origin in self.catalog.origins()}
        for name in sorted(path.name for path in self.folder.root.glob("sources/*")):
            if name not in followed:
                folder = self.folder.source(name)
                with suppress(RefusedError), lock(folder.lock, f"removing old files of {name}"):
                    garbage.collect(folder, (), now)
                    garbage.remove_old_parts(folder.downloads, now)

    def _named_of(self, source: str) -> set[str]:
        """The files that a source's folder needs."""
        return {
            layout.segment_path(origin.list, ref.sha256)
            for origin in self.catalog.origins()
            if origin.source == source
            for ref in named_segments(self.list_state(source, origin.list))
        }

    def resign(self, now: datetime) -> None:
        """Sign the timestamp again, with when each upstream was last verified. Raises `StoreError`, `RefusedError`."""
        self.press.publish("signing the timestamp", lambda _: Proposal("resign"), now)

    def change_metadata(self, purpose: str, resign: Resign, now: datetime, *audit: AuditEntry) -> None:
        """Commit what ``resign`` signs on top of the feed's metadata: rotated keys, a renewed root."""
        press = replace(self.press, patience=0.0)
        records = Records(audit=audit)
        press.publish(purpose, lambda _: Proposal("metadata", resign=resign, records=records), now)

    def last_signed(self) -> datetime:
        """When the feed's timestamp was last signed."""
        return load_repository(self.folder.feed).expiries()["timestamp"] - lifetime("timestamp")

    def served(self, source: str) -> dict[ListName, int]:
        """The version of each list of a source that readers are given now: the feed's word, since the catalog may be
        one commit ahead. Raises `StoreError`."""
        targets = load_repository(self.folder.feed).targets().values()
        named = {layout.list_of(target.name): target.version for target in targets}
        return {name: version for name, version in named.items() if name and name.partition(".")[0] == source}

    def current(self, name: ListName) -> CurrentVersion | None:
        """The version of a head that is in force."""
        head = self.catalog.head(name)
        version = self.catalog.version(name, head.version) if head else None
        return CurrentVersion(manifests.parse(version.manifest), version.manifest_sha256) if version else None


def _take_back(kept: Path, store: Store, path: str, ref: SegmentRef) -> None:
    """Put a segment that was lost back from its other place. Not a damaged one: the partner may have it whole."""
    if kept.exists() and sha256_file(kept) == ref.sha256:
        store.link(kept, path)


@contextmanager
def open_publisher(folder: StateFolder, *, online: bool = True, credentials: Path | None = None) -> Iterator[Publisher]:
    """Open the catalog and the online keys, and finish what a crash interrupted.

    ``credentials``: where systemd hands them over; keys that are there are used rather than those in ``folder``.
    Raises `UsageError`, `RefusedError`, `StoreError`.
    """
    with ExitStack() as opened:
        try:
            publisher = _open_publisher(folder, opened)
            if online:
                signers = online_signers(folder.feed, folder.keys, credentials=credentials)
                publisher = replace(publisher, signers=signers)
        except SyncdError as error:
            error.serving = error.serving or f"{folder.feed.root} as it was published last"
            raise
        yield publisher


def _open_publisher(folder: StateFolder, opened: ExitStack) -> Publisher:
    folder.check_set_up()
    publisher = Publisher(folder, opened.enter_context(Catalog.open(folder.catalog)), {})
    publisher.press.finish()  # before the roles are read, which tell what keys to load
    folder.check_feed()
    return publisher
