"""Proving files again that were proved when they were installed: a disk may silently damage them later.

A pass reads every segment of the current versions and compares its SHA-256, then recomputes each list's end state from
its rows. It works in small pieces and calls a `Pause` after each, which sleeps to leave disk and processor to others.
Its record is a small file, so that a pass continues after a restart, and other processes see when the last pass ended
and which faults it found. A fault stays in the record until a pull or a sync has replaced the damaged file.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.errors import FeedError, MismatchError, SegmentError, SegmentFault, StoreError, SyncdError
from syncd.feed.folder import FeedFolder
from syncd.feed.proof_record import FoundFault, HeldVersion, RecordStore
from syncd.feed.snapshot import open_stacks
from syncd.feed.unfolded import stack_here
from syncd.files import open_regular, storage
from syncd.format.arrow import check_length
from syncd.format.delta import drop_empty, whole_state
from syncd.format.manifest import Manifest, SegmentRef
from syncd.model import ListName

_PIECE: Final = 4 << 20
"""Bytes read at a time."""
_SHARE: Final = 0.1
"""Share of the time in which a background pass works; the rest of the time it sleeps."""
_SHORTEST_REST: Final = 0.005
_LONGEST_REST: Final = 1.0
_DAMAGED: Final = (
    "it was damaged on this disk: the next pull or sync fetches it again; if this happens more than once, check the "
    "disk and the memory of this machine"
)
_DRIFTED: Final = (
    "its files are the signed ones, so the publisher signed a wrong end state: report it to the feed's operator; "
    "look-ups answer from its rows"
)

Pause = Callable[[int], None]
"""Called after each piece of work with its size in bytes. May sleep. Raises `InterruptedPass` to end the pass."""


class InterruptedPass(Exception):  # noqa: N818 - not an error: the pass was asked to stop, and continues later
    """The pass was asked to stop."""


class LowPriority:
    """A `Pause` for the background: sleeps nine times as long as it works, and ends the pass once ``stop`` is set."""

    def __init__(self, stop: threading.Event, timer: Callable[[], float] = time.monotonic) -> None:
        self._stop, self._timer = stop, timer
        self._since = timer()

    def __call__(self, size: int) -> None:
        """Sleep after a piece of work."""
        del size
        worked = self._timer() - self._since
        if self._stop.wait(min(max(worked * (1 / _SHARE - 1), _SHORTEST_REST), _LONGEST_REST)):
            raise InterruptedPass
        self._since = self._timer()


@dataclass(frozen=True)
class ProofPass:
    """One pass over the current versions in ``folder``."""

    folder: FeedFolder
    records: RecordStore
    pause: Pause
    clock: Callable[[], datetime]
    rest: Callable[[], Iterable[Sequence[FoundFault]]] = tuple
    """proves further files of the pass, once the versions are proved"""

    def run(self, versions: Callable[[], Sequence[HeldVersion]]) -> Iterator[Sequence[FoundFault]]:
        """Prove the current ``versions`` and the rest; yield the faults of each list, once they are recorded.

        ``versions`` is called again after each list, because a publication or a pull may replace them meanwhile. Raises
        `InterruptedPass` if ``pause`` does, and `StoreError` if the record cannot be written.
        """
        self.records.write(self.records.read().continued(self.clock()))
        done: set[ListName] = set()
        while version := next((held for held in versions() if held.name not in done), None):
            faults = self._prove(version)
            if faults and version not in versions():  # replaced meanwhile, and its files perhaps removed
                continue
            done.add(version.name)
            self.records.write(self.records.read().with_faults(version.name, faults))
            yield faults
        yield from self.rest()
        self.records.write(self.records.read().ended(self.clock()))

    def _prove(self, version: HeldVersion) -> list[FoundFault]:
        try:
            manifest = self.folder.manifest(version.name, version.manifest)
        except (FeedError, StoreError) as error:
            return [FoundFault.of(version, "manifest", error)]
        stack = stack_here(self.folder, manifest, version.unfolded)
        faults = list(self._prove_segments(version, stack))
        if not faults:
            try:
                prove_end_state(self.folder, manifest, stack, self.pause)
            except SyncdError as error:
                faults.append(FoundFault.of(version, "end state", error))
        return faults

    def _prove_segments(self, version: HeldVersion, stack: Sequence[SegmentRef]) -> Iterator[FoundFault]:
        proved = set(self.records.read().proved)
        for ref in {ref.sha256: ref for ref in stack if ref.sha256 not in proved}.values():
            try:
                prove_segment(self.folder.segment_path(version.name, ref), ref, self.pause)
            except SyncdError as error:
                yield FoundFault.of(version, "segment", error, ref.sha256)
            else:
                self.records.write(self.records.read().with_proved(ref.sha256))


def prove_segment(path: Path, ref: SegmentRef, pause: Pause) -> None:
    """Read a segment in pieces and compare its length and SHA-256. Raises `SegmentError` and `StoreError`."""
    try:
        check_length(path, ref)
        if hash_in_pieces(path, pause) != ref.sha256:
            raise SegmentError(path, SegmentFault.HASH, "its content no longer matches the SHA-256 in its name")
    except SegmentError as error:
        error.hint = _DAMAGED
        raise


def hash_in_pieces(path: Path, pause: Pause) -> str:
    """Return the SHA-256 of a file in hex. Raises `StoreError`."""
    digest = hashlib.sha256()
    with storage(path, "read"), open_regular(path) as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            pause(len(piece))
    return digest.hexdigest()


def prove_end_state(folder: FeedFolder, manifest: Manifest, stack: Sequence[SegmentRef], pause: Pause) -> None:
    """Recompute the end state of a list whose segments are proved. Raises `MismatchError`, and as `open_stacks`."""
    stacks = open_stacks(folder, manifest.list, stack)
    segments = [segment for stack in stacks.values() for segment in stack.segments]

    def read(rows: int) -> None:
        for segment in segments:  # otherwise the whole list would count as memory of this process
            segment.release_pages()
        pause(rows)

    computed = {algorithm: whole_state(stack, read)[0] for algorithm, stack in stacks.items()}
    if drop_empty(computed) != dict(manifest.end_state):
        raise MismatchError(f"the rows of version {manifest.version} do not give the signed end state", hint=_DRIFTED)
