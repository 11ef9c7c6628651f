"""Preparing a signed feed: verify, plan, fetch and stage its lists."""

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from syncd.errors import FeedError, StoreError, SyncdError, as_known, kind_of
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.follow import Follower
from syncd.feed.proof import SignedManifest, check_fresh, evidence, target_of
from syncd.feed.snapshot import open_stacks
from syncd.fetch import Meter
from syncd.files import install_bytes, install_file, sha256_file, storage
from syncd.format.manifest import ManifestRef, SegmentRef
from syncd.format.segment import Segment
from syncd.model import ListName
from syncd.pipeline import plan, stage
from syncd.pipeline.names import check_head_name, check_room
from syncd.pipeline.preparation import LocalList, Prepared, Preparing, Progress, Request, VerifiedSource
from syncd.pipeline.values import (
    Basis,
    Candidate,
    Deltas,
    Full,
    FullReason,
    Over,
    Plan,
    Signed,
    Staged,
    UpToDate,
    Waiting,
)
from syncd.sources.feed_memory import FeedMemory
from syncd.sources.signed_feed import SignedFeed
from syncd.trust.era import forget_if_earlier
from syncd.trust.values import TrustedFeed

_KEPT_EVIDENCE: Final = 16
_PRIVATE: Final = 0o600


def prepare_signed(feed: SignedFeed, request: Request, progress: Progress, meter: Meter) -> Preparing:
    """Prepare a signed feed; see `syncd.pipeline.preparation.Prepare`."""
    folder, memory = FeedFolder(request.folder), FeedMemory.of(request.memory)
    with feed.follow(folder, meter) as follower:
        progress("verify", 0, 0)
        forget_if_earlier(follower.trust_folder, memory.retrusts)
        trusted = follower.refresh(memory.floors, request.now)
        yield VerifiedSource(memory.verified(trusted.floors, follower.root_sha256).as_json())
        preparation = Preparation(folder, follower, trusted, progress, request.now)
        followed = {(feed.name, held) for held in request.held}
        for name in feed.lists or _all_lists(request, trusted):
            result: UpToDate | Waiting | Staged | SyncdError
            try:
                check_head_name(feed.name, name)
                check_room(feed.name, name, followed)
                followed.add((feed.name, name))
                result = preparation.prepare(name, request.of(name))
            except Exception as fault:  # noqa: BLE001 - a fault in one list must not stop the others
                result = as_known(fault)
            yield Prepared(name, result)


def _all_lists(request: Request, trusted: TrustedFeed) -> list[ListName]:
    """Return the lists of the feed and those that we follow, so that a list missing from the feed is an error."""
    return sorted({*request.held, *filter(None, map(layout.list_of, trusted.targets))})


def _plan(held: LocalList, signed: SignedManifest) -> Plan:
    """Plan, taking a known fork into account: a manifest whose deltas do not reach back cannot reveal the fork."""
    upstream = signed.manifest
    planned = plan.plan(held.ref, upstream, signed.sha256, complete=held.complete, retrusted=held.retrusted)
    unproved = planned in [Full(FullReason.CHAIN_GAP), Full(FullReason.LOCAL_LOSS)]
    if held.fork and held.ref and unproved and held.ref.version < upstream.version:
        descends = upstream.steps_from(held.ref) is not None
        return planned if descends else Full(FullReason.FORKED)
    return planned


@dataclass
class Preparation:
    """The preparation of one source's lists, from metadata that was verified once."""

    folder: FeedFolder
    follower: Follower
    trusted: TrustedFeed
    progress: Progress
    now: datetime

    def prepare(self, name: ListName, held: LocalList) -> UpToDate | Waiting | Staged:
        """Fetch the newest version of a list and stage it. Raises `FeedError`, `SourceError`, `StoreError`.

        The signed documents of a rejected version are kept as private evidence.
        """
        check_fresh(self.trusted, name, self.now)
        target = target_of(self.trusted, name)
        newest = ManifestRef(version=target.version, sha256=target.sha256)
        if held.complete and held.ref == newest:
            return UpToDate()  # the signed manifest is the held one: it is not even fetched
        if held.fork == newest:
            return Waiting()
        signed = self.follower.manifest(self.trusted, name)
        try:
            with self.folder.discard_scratch_if_full():
                return self._stage(name, held, signed)
        except FeedError as error:
            with contextlib.suppress(StoreError):  # a full disk must not hide the rejection
                paths = {self.folder.segment_path(name, ref): ref.sha256 for ref in held.stack}
                if all(sha256_file(path) == sha256 for path, sha256 in paths.items()):  # or our own disk is to blame
                    self._keep(name, signed, error)
            raise

    def _stage(self, name: ListName, held: LocalList, signed: SignedManifest) -> UpToDate | Waiting | Staged:
        if held.fork_waits and held.fork and signed.manifest.steps_from(held.fork) is not None:
            return Waiting()  # it descends from a waiting version, and is taken after the release of that one
        planned = _plan(held, signed)
        match planned:
            case UpToDate():
                return planned
            case Deltas():
                candidate = self._deltas(name, held, signed, planned)
            case Full():
                candidate = self._full(name, held, signed, planned)
        return Staged(candidate, Signed(signed, evidence(self.trusted, signed)))

    def _deltas(self, name: ListName, held: LocalList, signed: SignedManifest, planned: Deltas) -> Candidate:
        self._fetch(name, [ref for step in planned.steps for ref in step.segments])
        basis = self._basis(name, held) or Basis()
        rows = sum(ref.rows for step in planned.steps for ref in step.segments)
        counted = self._counted({"stage": rows})

        def opened(ref: SegmentRef) -> Segment:
            return Segment.open(self.folder.segment_path(name, ref), ref)

        return stage.stage_deltas(basis, planned.steps, signed.manifest, signed.sha256, opened, counted)

    def _full(self, name: ListName, held: LocalList, signed: SignedManifest, planned: Full) -> Candidate:
        self._fetch(name, list(signed.manifest.stack))
        stacks = open_stacks(self.folder, name, signed.manifest.stack)
        basis, new = self._basis(name, held), signed.manifest
        bases = sum(len(stack.base) for stack in stacks.values() if stack.base)
        counted = self._counted({"stage": bases, "compare": new.rows + (basis.rows if basis else 0)})
        candidate, written = stage.stage_full(
            basis,
            stacks,
            upstream=new,
            sha256=signed.sha256,
            reason=planned.reason,
            scratch=self.folder.make_staging(),
            counted=counted,
            over=held.over,
        )
        for path, ref in zip(written, candidate.delta, strict=True):
            install_file(path, self.folder.path(layout.segment_path(name, ref.sha256)))
        return candidate

    def _basis(self, name: ListName, held: LocalList) -> Basis | None:
        if held.over is Over.NOTHING:
            return None
        return Basis(held.stack, open_stacks(self.folder, name, held.stack), held.end_state)

    def _fetch(self, name: ListName, refs: list[SegmentRef]) -> None:
        wanted = list({ref.sha256: ref for ref in refs}.values())
        total = sum(ref.length for ref in self.folder.missing(name, wanted))
        rows = sum(ref.rows for ref in self.folder.missing(name, wanted))
        counted = self._counted({"fetch": total, "check": rows})
        self.follower.fetch(name, wanted, partial(counted, "fetch"), partial(counted, "check"))

    def _counted(self, totals: Mapping[str, int]) -> Callable[[str, int], None]:
        """Return a callback that adds up the bytes or rows done in each stage, and reports progress."""
        done = dict.fromkeys(totals, 0)

        def count(stage: str, more: int) -> None:
            done[stage] += more
            self.progress(stage, done[stage], totals[stage])

        return count

    def _keep(self, name: ListName, signed: SignedManifest, error: FeedError) -> None:
        """Keep the signed documents of a rejected version as evidence for talking to the partner; the newest 16."""
        folder = self.folder.work / "rejected"
        document = json.loads(evidence(self.trusted, signed))
        content = {"at": f"{self.now:%Y-%m-%dT%H:%M:%SZ}", "error": kind_of(error), **document}
        kept = f"{name}.{signed.manifest.version}.{signed.sha256[:16]}.json"
        install_bytes(folder / kept, json.dumps(content, sort_keys=True).encode(), mode=_PRIVATE)
        with storage(folder, "clean"):
            oldest = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
            for path in oldest[:-_KEPT_EVIDENCE]:
                path.unlink()
