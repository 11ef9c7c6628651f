"""Proof of the stored files: signatures, thresholds, hashes of manifests, lengths of segments.

The bytes of segments are proved once a day by `syncd.service.file_proof`, whose faults count here too. A fault is
reported, and the files are served regardless: matchers verify for themselves, and the last good snapshot always stays
available.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from syncd import events
from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.records import HeadRecord
from syncd.errors import MismatchError, StoreError, SyncdError
from syncd.event import Emit
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.proof import prove_manifest
from syncd.format.freshness import AgeVerdict
from syncd.report.judged import ListView, Overview
from syncd.report.proof import read_proof
from syncd.trust.strict import verify_published
from syncd.trust.values import TrustedFeed
from syncd.units import ago, count
from syncd.verify.feed import ROOT

Faults = dict[str, SyncdError]
"""Faults by list; ``""`` stands for the metadata."""


def prove_stored(folder: FeedFolder, heads: Iterable[HeadRecord]) -> Faults:
    """Prove the heads from the feed's own root, as a matcher does with its copy. Return the faults by list."""
    heads = tuple(heads)
    try:
        root = folder.read(ROOT)
        if root is None:
            raise StoreError(f"{folder.path(ROOT)} is missing", hint="restore it from a backup")
        trusted = verify_published(folder.metadata, root) if heads else None
    except SyncdError as error:
        return {"": error}
    return {head.list: fault for head in heads if trusted and (fault := _fault(folder, trusted, head))}


def _fault(folder: FeedFolder, trusted: TrustedFeed, head: HeadRecord) -> SyncdError | None:
    try:
        target = trusted.targets.get(layout.target_name(head.list))
        if target is None or (target.version, target.sha256) != (head.version, head.manifest_sha256):
            raise MismatchError(
                f"the catalog has {head.list} at version {head.version}, and the signed feed does not",
                hint="run `syncd verify`, which names every fault",
            )
        signed = prove_manifest(trusted, head.list, folder.manifest_bytes(head.list, head.manifest_sha256))
        missing = folder.missing(head.list, signed.manifest.stack)
        if missing:
            raise StoreError(
                f"{count(len(missing), 'segment')} of {head.list} missing or incomplete",
                hint="run `syncd sync`, which fetches them again",
            )
    except SyncdError as error:
        return error
    return None


class Health:
    """The result of the last proof. Safe to share between threads."""

    def __init__(self, folder: StateFolder, catalog: Catalog, emit: Emit) -> None:
        self._folder, self._catalog, self._emit = folder, catalog, emit
        self._lock = threading.Lock()
        self._faults: Faults | None = None

    @property
    def faults(self) -> Faults:
        """The faults of the last proof."""
        return self._faults or {}

    def prove(self) -> None:
        """Prove the stored files, and report faults that are new, and their end."""
        with self._lock:
            heads = self._catalog.heads()
            before, self._faults = (
                self._faults,
                {
                    **{fault.list: fault.error for fault in read_proof(self._folder, heads).faults},
                    **prove_stored(self._folder.feed, heads),
                },
            )
            reported = {name: error.message for name, error in (before or {}).items()}
            for name, error in self._faults.items():
                if reported.get(name) != error.message:
                    self._emit(events.StateNotProved(name, error.message, error.hint))
            if not self._faults and before != self._faults:
                self._emit(events.StateProved(len(heads)))

    def prove_again(self) -> None:
        """Prove again if there were faults: they may have been repaired."""
        if self._faults:
            self.prove()


def readiness(faults: Faults, overview: Overview, *, named: bool) -> tuple[bool, str]:
    """Return True if all stored files are proved, and a report; it names lists only if ``named``. Pure."""
    at_fault = len(overview.lists) if "" in faults else len(faults)
    stale = sum(view.stale for view in overview.lists)
    state = "not ready" if faults else "ready"
    lines = [f"{state}: {count(len(overview.lists), 'list')}, {at_fault} not proved, {stale} stale"]
    if named:
        for view in overview.lists:
            fault = "not proved, " if "" in faults or view.head.list in faults else ""
            age = f"{_verified(view)}{_AGED[view.freshness]}"
            lines.append(f"{view.head.list} version {view.head.version}: {fault}{age}")
    return not faults, "\n".join([*lines, ""])


_AGED: Final = {None: "", AgeVerdict.FRESH: "", AgeVerdict.WARN: ", late", AgeVerdict.STALE: ", stale"}


def _verified(view: ListView) -> str:
    if view.head.retired_at is not None:
        return f"retired on {view.head.retired_at:%Y-%m-%d}"
    return "never verified" if view.age is None else f"verified {ago(view.age)}"


class Recent:
    """The result of ``look``, kept for ``keep`` seconds, so that requests without a token cost few catalog reads."""

    def __init__(self, look: Callable[[], Overview], keep: float) -> None:
        self._look, self._keep = look, keep
        self._lock = threading.Lock()
        self._kept: tuple[float, Overview] | None = None

    def __call__(self) -> Overview:
        """Return the kept result, or look again if it is too old. Raises the same errors as ``look``."""
        with self._lock:
            now = time.monotonic()
            if self._kept is None or now - self._kept[0] >= self._keep:
                self._kept = (now, self._look())
            return self._kept[1]
