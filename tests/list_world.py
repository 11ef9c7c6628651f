"""One list between a partner and an operator, without signatures and SQL: files, and the records that a catalog keeps.

`ListWorld` does what the publication core and the catalog do with a `Settled`, and keeps beside it what each row ought
to be, as dictionaries.
"""

import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncd.catalog.decisions import HoldRecord, HoldState, KnownGoodMark, Suppression
from syncd.catalog.records import OriginRecord, Pin
from syncd.feed.folder import FeedFolder
from syncd.feed.layout import segment_path
from syncd.feed.proof import SignedManifest
from syncd.format import manifest as manifests
from syncd.format.caps import DEFAULT_CAPS
from syncd.format.checksum import Checksum
from syncd.format.manifest import Manifest, SegmentRef
from syncd.format.rows import Rows, as_digests, sort_order
from syncd.format.segment import Segment
from syncd.format.stack import Stack, Totals
from syncd.format.writer import write_segment
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import Finding, HoldReason, Lane
from syncd.pipeline import gate
from syncd.pipeline.counting import Counting
from syncd.pipeline.heads import ListState, Pinned
from syncd.pipeline.known_good import BUILT_IN, ONLY_BUILT_IN, KnownGood
from syncd.pipeline.next_version import SettleContext
from syncd.pipeline.owed import fold_owed
from syncd.pipeline.recount import recount
from syncd.pipeline.settle.correction import settle_correction
from syncd.pipeline.settle.hold import settle_discard, settle_release, settle_whole_discard
from syncd.pipeline.settle.known_good import KnownGoodChange, settle_known_good
from syncd.pipeline.settle.pin import settle_pin
from syncd.pipeline.settle.result import Settled
from syncd.pipeline.settle.update import settle_update
from syncd.pipeline.suppressed import SuppressedKeys
from syncd.pipeline.values import Candidate, Over, Pending, Signed, Staged, Update, Verdict
from syncd.pipeline.values import Hold as Held
from syncd.publish.change import next_manifest
from syncd.publish.compact import fold_due
from syncd.publish.ledger import CurrentVersion

MD5 = Algorithm.MD5
NAME, OWN = ListName("iwf.images"), ListName("images")
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

Key = tuple[bytes, str]
List = dict[Key, str]
Change = Mapping[Key, str | None]
"""By key the label to add it under; None: to remove."""


def rows_of(change: Change) -> Rows:
    """A change as sorted rows."""
    keys = list(change)
    removed = [change[key] is None for key in keys]
    rows = Rows.build(
        MD5, [one[0] for one in keys], [one[1] for one in keys], [change[key] or "" for key in keys], removed
    )
    return rows.take(sort_order(rows))


def content(stack: Stack | None) -> List:
    """The entries in force."""
    found: List = {}
    for rows in stack.effective() if stack else ():
        for position, digest in enumerate(rows.digests):
            found[digest.ljust(16, b"\0"), rows.entries[position].as_py()] = rows.labels[rows.codes[position]]
    return found


@dataclass
class ListWorld:
    """The list, as it is and as it ought to be."""

    base: Path
    head: Manifest | None = None
    origin: OriginRecord | None = None
    holds: dict[int, HoldRecord] = field(default_factory=dict)
    updates: dict[int, Staged] = field(default_factory=dict)
    labels: Mapping[Algorithm, Mapping[str, int]] | None = field(default_factory=dict)
    serial: int = 0
    stated: List = field(default_factory=dict)
    """what the origin ought to be"""
    served: List = field(default_factory=dict)
    """what the head ought to be"""
    refused: set[Key] = field(default_factory=set)
    waiting: dict[int, dict[Key, str | None]] = field(default_factory=dict)
    """rows of the open and discarded holds"""
    suppressions: list[Suppression] = field(default_factory=list)
    known_good: KnownGood = ONLY_BUILT_IN
    pinned: tuple[List, bool] | None = None
    """the rows of the version that the list is pinned to, and whether exactly"""
    past: dict[int, tuple[Manifest, List]] = field(default_factory=dict)
    """by version: the heads so far, and their rows"""
    as_made: bool | None = None
    """whether the last update's segments were published as the partner made them"""
    _pending: Staged | None = None

    def __post_init__(self) -> None:
        self.feed, self.source = FeedFolder(self.base / "feed"), FeedFolder(self.base / "source")

    @property
    def state(self) -> ListState:
        """As the catalog would have it."""
        alive = [one for one in self.holds.values() if one.state in {HoldState.OPEN, HoldState.DISCARDED}]
        return ListState(
            name=NAME,
            own_name=OWN,
            feed=self.feed,
            source=self.source,
            head=self.head,
            origin=self.origin,
            holds=tuple(alive),
            labels=self.labels,
            suppressed=SuppressedKeys(tuple(self.suppressions), self.known_good),
            mark=KnownGoodMark(NAME, self.known_good.name),
        )

    def hidden(self, key: Key) -> bool:
        """Whether a key must not be in the head, whatever the partner says."""
        known = {digest.ljust(16, b"\0") for digest in self.known_good.listed.get(MD5, ())}
        mine = [one.entry for one in self.suppressions if bytes.fromhex(one.digest) == key[0]]
        return key[0] in known or None in mine or key[1] in mine

    def wanted(self, key: Key) -> str | None:
        """The label that the head should have a key under, but for what is hidden; None: it should not have it."""
        if self.pinned is None:
            return self.stated.get(key)
        rows, exact = self.pinned
        return rows.get(key) if exact or key in self.stated else None

    def rollback(self, number: int, *, exact: bool) -> None:
        """An operator rolls the list back to one of its past versions."""
        older = [version for version in self.past if self.head and version < self.head.version]
        if not older:
            return
        version = older[number % len(older)]
        manifest, rows = self.past[version]
        for ref in self.source.missing(OWN, manifest.stack):
            self.source.store.link(self.feed.store, segment_path(NAME, ref.sha256), segment_path(OWN, ref.sha256))
        state = self.state
        pin = Pin(version, manifest.stack, exact, "op", "because", NOW)
        self._take(settle_pin(state, pin, Pinned(state.opened(manifest.stack), exact), self._context()))
        self.pinned = (rows, exact)
        self.refused.clear()
        for key in {*self.served, *rows}:
            self._serve(key, self.wanted(key))

    def unpin(self, held: Iterable[Lane]) -> None:
        """The list follows its source again; the gate holds the lanes ``held`` of what returns."""
        if self.pinned is None:
            return
        state, self.pinned = self.state, None
        closed = set(held) | ({Lane.REMOVALS} if self._empties() else set())
        with nervous(held):
            self._take(settle_pin(state, None, None, self._context()))
        self._flow({*self.stated, *self.served} - self.refused, closed)

    def _flow(self, keys: Iterable[Key], closed: Container[Lane]) -> None:
        """Make the head as it should be, but for the lanes that are closed."""
        for key in keys:
            want, is_ = self.wanted(key), self.served.get(key)
            lane = Lane.REMOVALS if want is None else Lane.ADDITIONS
            if want != is_ and lane not in closed:
                self._serve(key, want)

    def suppress(self, key: Key, *, whole: bool) -> None:
        """An operator suppresses a digest, or one entry of it."""
        number = 1 + max((one.id for one in self.suppressions), default=0)
        one = Suppression(
            id=number,
            algorithm=MD5,
            digest=key[0].hex(),
            entry=None if whole else key[1],
            list=None,
            reason="because",
            author="op",
            created_at=NOW,
            expires_at=None,
            salt="",
        )
        self._correct(key, [*self.suppressions, one])

    def unsuppress(self, one: Suppression) -> None:
        """An operator ends a suppression."""
        key = (bytes.fromhex(one.digest), "")
        self._correct(key, [other for other in self.suppressions if other is not one])

    def _correct(self, key: Key, after: list[Suppression]) -> None:
        before, kept = self._hidden(), self._kept()
        keys = SuppressedKeys(tuple(after), self.known_good)
        self._take(settle_correction(self.state, {MD5: as_digests([key[0]])}, keys, self._context(), "suppress"))
        self.suppressions = after
        self._show(before - kept)

    def know(self, digests: set[bytes]) -> None:
        """The operator's known-good file has other digests."""
        before, kept = self._hidden(), self._kept()
        name = hashlib.sha256(b"".join(sorted(digests))).hexdigest()
        known = KnownGood(f"{BUILT_IN}:{name}", (), lambda: {MD5: as_digests(digests)} if digests else {})
        change = KnownGoodChange(self.state, known)
        self._take(settle_known_good(change, (), self._context(), second_operator=False))
        self.known_good = known
        self._show(before - kept)

    def _hidden(self) -> set[Key]:
        """The keys that the head lacks because they are hidden."""
        keys = {*self.stated, *(self.pinned[0] if self.pinned else ())}
        return {key for key in keys if self.hidden(key) and self.wanted(key)}

    def _kept(self) -> set[Key]:
        """The keys that open holds or refusals keep as they are."""
        held = [self.waiting[one.id] for one in self.state.open_holds if one.lane is not Lane.BOTH]
        return {key for rows in held for key in rows} | self.refused

    def _show(self, back: set[Key]) -> None:
        """Take off what is hidden now; show those of the keys that were hidden and are so no longer."""
        for key in [*self.served]:
            self._serve(key, self.served[key])
        for key in back:
            if key in self.stated:
                self._serve(key, self.wanted(key))
            elif not self.hidden(key):
                self.refused.add(key)  # the list is pinned exactly, and the partner has removed it

    def first(self, rows: List) -> None:
        """The first version, whole."""
        ref = self._write(rows_of(rows), "base")
        stack = Stack(MD5, [Segment.open(self.state.path(ref), ref)])
        totals = stack.totals()
        state = {MD5: manifests.EndState(rows=totals.rows, checksum=str(totals.checksum))}
        counting = Counting((ref,), {}, dict(state))
        counting.counts[MD5] = counting.counts.get(MD5) or _added(len(rows))
        counting.labels[MD5] = {label: _added(count) for label, count in totals.by_label.items()}
        self._settle(self._update(self._candidate(counting, (), Over.NOTHING, stack=(ref,))))
        self.stated = dict(rows)
        self.served = {key: label for key, label in rows.items() if not self.hidden(key)}

    def update(self, steps: Iterable[Change], held: Iterable[Lane] = (), *, forked: bool = False) -> None:
        """The partner publishes some steps; the gate holds the lanes ``held`` of them."""
        before = self.state
        counting = Counting.over(before.basis)
        refs = [self._write(rows_of(step), "delta") for step in steps if step]
        counting.apply([Segment.open(before.path(ref), ref) for ref in refs])
        merged: dict[Key, str | None] = {}
        for step in steps:
            merged.update(step)
        closed = {one.lane for one in before.open_holds} | set(held)
        update = self._update(self._candidate(counting, tuple(refs), Over.ORIGIN, forked=forked))
        head = self.head
        with nervous(held):
            self._settle(update)
        if forked:
            return
        self._expect(merged, closed)
        if self.head is not head and self.head and head:
            self.as_made = self.head.recent[-1].segments[: len(refs)] == tuple(refs)
        else:
            self.as_made = None

    def _expect(self, merged: Change, closed: set[Lane], *, accepted: bool = False) -> None:
        """Move what ought to be."""
        for key, label in merged.items():
            self.refused.discard(key)
            if label is None:
                self.stated.pop(key, None)
            else:
                self.stated[key] = label
        closed = closed | ({Lane.REMOVALS} if self._empties() and not accepted else set())
        self._flow(merged, closed)

    def _empties(self) -> bool:
        """Whether the list would be left without an entry if all that waits passed."""
        left = {
            key
            for key in {*self.stated, *self.served, *(self.pinned[0] if self.pinned else ())}
            if (self.served.get(key) if key in self.refused else self.wanted(key)) and not self.hidden(key)
        }
        return bool(self.served) and not left

    def _serve(self, key: Key, label: str | None) -> None:
        if label is None or self.hidden(key):
            self.served.pop(key, None)
        else:
            self.served[key] = label

    def end(self, number: int, *, release: bool) -> None:
        """An operator releases or discards a hold."""
        state, hold = self.state, self.holds[number]
        rows = dict(self.waiting[number])
        context = replace(self._context(), actor="op", reason="because")
        if hold.lane is Lane.BOTH:
            self._end_whole(state, hold, context, release=release)
            return
        others = [one.id for one in state.holds_of(hold.lane) if one.id != number]
        settled = (settle_release if release else settle_discard)(state, hold, context)
        self._take(settled)
        for key, label in rows.items():
            if self.wanted(key) != label or self.served.get(key) == label:
                if release:
                    self.refused.discard(key)
                continue
            if release:
                self.refused.discard(key)
                self._serve(key, label)
            else:
                self.refused.add(key)
        passed = [one for one in others if self.holds[one].state is HoldState.PASSED]
        for other in passed:
            for key, label in self.waiting[other].items():
                if self.wanted(key) == label and key not in self.refused:
                    self._serve(key, label)

    def _end_whole(self, state: ListState, hold: HoldRecord, context: SettleContext, *, release: bool) -> None:
        if not release:
            self._take(settle_whole_discard(hold, context))
            return
        staged = self.updates[hold.update_id]
        before = state.origin.manifest_sha256 if state.origin else None
        update = recount(staged, state.basis, self.source, source="iwf", name=OWN, before=before, caps=DEFAULT_CAPS)
        merged = {
            key: label
            for ref in staged.candidate.delta
            for key, label in self.change_of(Segment.open(state.path(ref), ref)).items()
        }
        emptied = HoldReason.EMPTIED in hold.reasons
        self._take(settle_update(state, update, context, hold.reasons, hold))
        self._expect(merged, set(), accepted=emptied)

    def change_of(self, segment: Segment) -> dict[Key, str | None]:
        """A delta as a change."""
        rows = segment.rows()
        return {
            (digest.ljust(16, b"\0"), rows.entries[at].as_py()): None
            if rows.removed[at]
            else rows.labels[rows.codes[at]]
            for at, digest in enumerate(rows.digests)
        }

    def compact(self, *, everything: bool) -> None:
        """Fold head and owed, as after a publication."""
        with self.feed.scratch("test") as scratch:
            folded = fold_owed(self.state, scratch)
        if folded and self.origin:
            owed = folded.stack_of(self.origin.owed)
            assert owed is not None
            self.origin = replace(self.origin, owed=owed)
        if self.head is None:
            return
        folds = fold_due(self.feed, self.head, everything=everything)
        change = folds.change_of(self.head) if folds else None
        if change:
            for ref in self.source.missing(OWN, change.stack):
                self.source.store.link(self.feed.store, segment_path(NAME, ref.sha256), segment_path(OWN, ref.sha256))
            self.head = next_manifest(self._current(), change, created=NOW, min_root=1)

    def lose(self, rows: List) -> None:
        """What the head lacks of the origin is lost on this disk; the next sync fetches the whole list, ``rows``."""
        state = self.state
        assert state.head
        counting = Counting.over(state.head_basis)
        head = content(state.head_basis.stacks.get(MD5))
        change: dict[Key, str | None] = {key: label for key, label in rows.items() if head.get(key) != label}
        change |= {key: None for key in head if key not in rows}
        refs = [self._write(rows_of(change), "delta")] if change else []
        counting.apply([Segment.open(state.path(ref), ref) for ref in refs])
        waiting = [ref for one in state.holds if one.lane is Lane.BOTH for ref in one.segments]
        pin = state.origin.pin.stack if state.origin and state.origin.pin else ()
        kept = {ref.sha256 for ref in (*refs, *state.head.stack, *waiting, *pin)}
        for ref in state.origin.owed if state.origin else ():
            if ref.sha256 not in kept:
                state.path(ref).unlink(missing_ok=True)
        closed = {
            one.lane
            for one in state.holds
            if one.lane is not Lane.BOTH and (one.state is HoldState.OPEN or self._differ(self.refused))
        }
        self._settle(self._update(self._candidate(counting, tuple(refs), Over.HEAD)))
        self.refused.clear()
        self.stated = dict(rows)
        closed |= {Lane.REMOVALS} if self._empties() else set()
        self._flow({*self.served, *rows}, closed)

    def _differ(self, keys: Iterable[Key]) -> bool:
        return any(self.wanted(key) != self.served.get(key) for key in keys if not self.hidden(key))

    def _candidate(
        self,
        counting: Counting,
        delta: tuple[SegmentRef, ...],
        over: Over,
        *,
        stack: tuple[SegmentRef, ...] = (),
        forked: bool = False,
    ) -> Candidate:
        self.serial += 1
        upstream = Manifest(
            list=OWN,
            version=self.serial,
            previous=None,
            created=NOW,
            end_state=counting.states,
            stack=stack or (*self.state.stack, *delta),
        )
        sha256 = hashlib.sha256(manifests.encode(upstream)).hexdigest()
        return Candidate(
            upstream, sha256, "deltas", forked, delta, counting.counts, counting.labels, counting.states, stack, over
        )

    def _update(self, candidate: Candidate) -> Update:
        state = self.state
        signed = SignedManifest(candidate.manifest, candidate.sha256, manifests.encode(candidate.manifest))
        basis = state.head_basis if candidate.over is Over.HEAD else state.basis
        before = state.origin.manifest_sha256 if state.origin else None
        self._pending = Staged(candidate, Signed(signed, b"evidence"))
        return recount(self._pending, basis, self.source, source="iwf", name=OWN, before=before, caps=DEFAULT_CAPS)

    def _context(self) -> SettleContext:
        return SettleContext(NOW, lambda _: b"", sync_id="5afe")

    def _settle(self, update: Update) -> None:
        self._take(settle_update(self.state, update, self._context()))

    def _take(self, settled: Settled) -> None:
        """What the publication core and the catalog do."""
        if settled.proposal is None:
            return
        records = settled.proposal.records
        assert records
        for move in records.origins:
            assert move.before == (self.origin.revision if self.origin else 0)
            self.origin = move.origin
        for ended in records.ended:
            assert self.holds[ended.id].state is ended.before
            self.holds[ended.id] = replace(self.holds[ended.id], state=ended.state)
        for hold in records.opened:
            number = len(self.holds) + 1
            assert self._pending
            self.updates[number] = self._pending
            self.holds[number] = replace(hold, id=number, update_id=number)
            rows: dict[Key, str | None] = {}
            for ref in hold.segments:
                rows |= self.change_of(Segment.open(self.state.path(ref), ref))
            self.waiting[number] = rows
        for change in settled.proposal.changes:
            self.head = next_manifest(self._current(), change, created=NOW, min_root=1)
            note = records.notes[NAME]
            self.labels = note.labels if note.labels is not None else self.labels

    def _current(self) -> CurrentVersion | None:
        return (
            None
            if self.head is None
            else CurrentVersion(self.head, hashlib.sha256(manifests.encode(self.head)).hexdigest())
        )

    def _write(self, rows: Rows, kind: str) -> SegmentRef:
        path = self.source.make_staging() / "made"
        ref = write_segment(path, MD5, kind, [rows])  # type: ignore[arg-type]  # one of the two
        assert ref
        self.source.store.adopt(path, segment_path(OWN, ref.sha256))
        return ref

    def check(self) -> None:
        """See that everything is as it ought to be, from the rows themselves."""
        state = self.state
        assert state.head
        assert state.origin
        assert content(state.head_basis.stacks.get(MD5)) == self.served
        assert content(state.basis.stacks.get(MD5)) == self.stated
        for basis, rows in ((state.head_basis, self.served), (state.basis, self.stated)):
            stack = basis.stacks.get(MD5)
            totals = stack.totals() if stack else Totals({}, Checksum())
            stated = basis.end_state.get(MD5)
            assert totals.rows == len(rows) == (stated.rows if stated else 0)
            assert stated is None or stated.checksum == str(totals.checksum)
        self.past[state.head.version] = (state.head, dict(self.served))
        self._check_counts()
        if self.labels is not None:
            expected = {label: list(self.served.values()).count(label) for label in set(self.served.values())}
            assert dict(self.labels.get(MD5, {})) == expected
        bases = [ref for ref in (*state.head.stack, *state.origin.owed) if ref.kind == "base"]
        assert len(bases) <= 1

    def _check_counts(self) -> None:
        assert self.origin
        assert not any(self.hidden(key) for key in self.served)
        hidden = [key for key in self.stated if self.hidden(key)]
        assert sum(one.suppressed for one in self.origin.waiting.values()) == len(hidden)
        found = {"waiting": [0, 0, 0], "refused": [0, 0, 0]}
        pinned = set(self.pinned[0]) if self.pinned else set()
        for key in {key for key in {*self.served, *self.stated, *pinned} if not self.hidden(key)}:
            want, is_ = self.wanted(key), self.served.get(key)
            if want != is_:
                kind = 1 if want is None else 2 if is_ is not None else 0
                found["refused" if key in self.refused else "waiting"][kind] += 1
        for name, counts in (("waiting", self.origin.waiting), ("refused", self.origin.discarded)):
            one = counts.get(MD5)
            assert found[name] == ([one.additions, one.removals, one.relabels] if one else [0, 0, 0]), name


def _added(count: int) -> Counts:
    return Counts(added=count)


@contextmanager
def nervous(lanes: Iterable[Lane]) -> Iterator[None]:
    """A gate that holds these lanes whatever comes."""
    real, chosen = gate.judge, set(lanes)

    def judge(pending: Pending, *others: object) -> Verdict:
        found = real(pending, *others)  # type: ignore[arg-type]  # as they were given
        reasons = Held((Finding(HoldReason.SERIAL_JUMP, rows=1 << 40),))  # above any limit, so it holds on
        return Verdict(
            reasons if Lane.ADDITIONS in chosen else found.additions,
            reasons if Lane.REMOVALS in chosen else found.removals,
        )

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("syncd.pipeline.gate.judge", judge)
        yield
