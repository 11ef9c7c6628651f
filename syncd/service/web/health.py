"""Whether what is stored is proved: signatures, thresholds, the hashes of manifests, the lengths of segments.

Not the bytes of segments: `syncd verify` proves those. What fails is told and served all the same: matchers verify for
themselves, and the last good snapshot is sacred.
"""

import threading
import time
from collections.abc import Callable, Iterable

from syncd import events
from syncd.catalog.catalog import Catalog
from syncd.catalog.records import HeadRecord
from syncd.errors import MismatchError, StoreError, SyncdError
from syncd.event import Emit
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.proof import prove_manifest
from syncd.report.overview import ListView, Overview
from syncd.trust.strict import verify_published
from syncd.trust.values import TrustedFeed
from syncd.units import ago, count
from syncd.verify.feed import ROOT

Faults = dict[str, SyncdError]
"""By list; ``""``: the metadata."""


def prove_stored(folder: FeedFolder, heads: Iterable[HeadRecord]) -> Faults:
    """Prove the heads from the feed's own root, as a matcher does that opens a copy; what is wrong, by list."""
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
                f"the feed does not have {head.list} at version {head.version}, as the catalog says",
                hint="run `syncd verify`, which names all faults",
            )
        signed = prove_manifest(trusted, head.list, folder.manifest_bytes(head.list, head.manifest_sha256))
        missing = folder.missing(head.list, signed.manifest.stack)
        if missing:
            raise StoreError(
                f"{count(len(missing), 'segment')} of {head.list} missing or cut",
                hint="`syncd sync` fetches them again",
            )
    except SyncdError as error:
        return error
    return None


class Health:
    """What `prove` found last. Safe to share between threads."""

    def __init__(self, folder: FeedFolder, catalog: Catalog, emit: Emit) -> None:
        self._folder, self._catalog, self._emit = folder, catalog, emit
        self._turn = threading.Lock()
        self._faults: Faults | None = None

    @property
    def faults(self) -> Faults:
        """What is wrong, by list."""
        return self._faults or {}

    def prove(self) -> None:
        """Look, and tell what is new of it."""
        with self._turn:
            heads = self._catalog.heads()
            before, self._faults = self._faults, prove_stored(self._folder, heads)
            told = {name: error.message for name, error in (before or {}).items()}
            for name, error in self._faults.items():
                if told.get(name) != error.message:
                    self._emit(events.StateNotProved(name, error.message, error.hint))
            if not self._faults and before != self._faults:
                self._emit(events.StateProved(len(heads)))

    def prove_again(self) -> None:
        """Look again where something was wrong: it may have been put right."""
        if self._faults:
            self.prove()


def readiness(faults: Faults, found: Overview, *, named: bool) -> tuple[bool, str]:
    """Whether all that is stored is proved, and how old it is, in words; with names only for those let in. Pure."""
    at_fault = len(found.lists) if "" in faults else len(faults)
    stale = sum(one.stale for one in found.lists)
    lines = [
        f"{'not ready' if faults else 'ready'}: {count(len(found.lists), 'list')}, {at_fault} not proved, {stale} stale"
    ]
    if named:
        for one in found.lists:
            wrong = "not proved, " if "" in faults or one.head.list in faults else ""
            stands = f"{_verified(one)}{', stale' if one.stale else ''}"
            lines.append(f"{one.head.list} version {one.head.version}: {wrong}{stands}")
    return not faults, "\n".join([*lines, ""])


def _verified(one: ListView) -> str:
    if one.head.retired_at is not None:
        return f"retired on {one.head.retired_at:%Y-%m-%d}"
    return "never verified" if one.age is None else f"verified {ago(one.age)}"


class Recent:
    """What ``look`` gave, for a second: whoever asks without a token shall not make us read the catalog all day."""

    def __init__(self, look: Callable[[], Overview], keep: float) -> None:
        self._look, self._keep = look, keep
        self._turn = threading.Lock()
        self._held: tuple[float, Overview] | None = None

    def __call__(self) -> Overview:
        """Look, or not. Raises what ``look`` raises."""
        with self._turn:
            now = time.monotonic()
            if self._held is None or now - self._held[0] >= self._keep:
                self._held = (now, self._look())
            return self._held[1]
