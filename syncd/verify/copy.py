"""Proving a pulled copy."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from syncd.clock import ACCEPT_IN_COPY, CORRECT
from syncd.errors import MismatchError, StoreError
from syncd.feed import layout
from syncd.feed.near_indexes import index_files
from syncd.files import sha256_file
from syncd.format.derived import MADE_AGAIN
from syncd.format.manifest import SegmentRef
from syncd.format.near_index import write_near_index
from syncd.format.segment import Segment
from syncd.matcher.copy import CURRENT, PROOF, CurrentFile, copy_at, read_current
from syncd.model import ListName
from syncd.trust.strict import verify_exactly
from syncd.trust.values import TrustedFeed
from syncd.units import clock_is_behind, span
from syncd.verify.feed import Prover
from syncd.verify.tally import Progress, Proof, content_stamp, prove_steadily


def prove_copy(
    path: Path, root: bytes | None, now: datetime, progress: Progress | None = None, *, deep: bool = False
) -> Proof:
    """Prove the copy in ``path`` from ``root`` (by default the one it was pulled with). Raises `UsageError`.

    A fault in one list does not keep the others from being proved. ``deep``: replay the history that it keeps.
    """
    folder = copy_at(path)
    return prove_steadily(
        path,
        lambda tally: _CopyProof(Prover(folder, tally, deep=deep), root, now).prove(),
        lambda: content_stamp(folder.path(CURRENT)),
        progress,
    )


class _CopyProof:
    def __init__(self, prover: Prover, root: bytes | None, now: datetime) -> None:
        self._prover, self._given, self._now = prover, root, now
        self._proved: dict[tuple[tuple[str, int], ...], TrustedFeed] = {}

    def prove(self) -> None:
        prover = self._prover
        root = prover.root(self._given)
        current: CurrentFile | None = None
        with prover.attempt(CURRENT):
            current = self._current()
        if root is None or current is None:
            return
        newest = self._trusted(current.metadata, root)
        segments: dict[str, tuple[ListName, SegmentRef]] = {}
        for name, held in sorted(current.lists.items()):
            trusted = self._trusted(held.metadata, root)
            if trusted is not None:
                proved = prover.list(trusted, name, held.manifest, unfolded=held.unfolded)
                segments |= {ref.sha256: (name, ref) for ref in proved.named_segments()} if proved else {}
                with prover.attempt(CURRENT):
                    if proved is not None and proved.version != held.version:
                        raise MismatchError(
                            f"{CURRENT} states another version of {name} than its manifest", hint="pull again"
                        )
        for path, sha256 in index_files(prover.folder):
            if sha256 in segments:
                self._near_index(path, *segments[sha256])
        prover.others(newest)
        prover.modes(prover.folder.root)

    def _near_index(self, path: Path, name: ListName, ref: SegmentRef) -> None:
        """Derive a near index from its segment again, and compare the files."""
        folder, file = self._prover.folder, str(path.relative_to(self._prover.folder.root))
        with self._prover.attempt(file), folder.scratch("proving a near index") as scratch:
            again = scratch / path.name
            write_near_index(again, Segment.open(folder.segment_path(name, ref), ref))
            if sha256_file(again) != sha256_file(path):
                raise MismatchError(
                    f"{file} is not the index that its segment gives",
                    hint=f"remove it: {MADE_AGAIN}",
                )
            self._prover.done(file)

    def _current(self) -> CurrentFile:
        folder = self._prover.folder
        current = read_current(folder)
        if current is None:
            raise MismatchError(f"{CURRENT} is missing", hint="pull again: that writes it")
        if clock_is_behind(self._now - current.updated):
            raise StoreError(
                f"{CURRENT} was written {span(current.updated - self._now)} in the future",
                hint=f"{CORRECT}; {ACCEPT_IN_COPY}",
            )
        self._prover.done(CURRENT)
        self._prover.skip(PROOF)
        return current

    def _trusted(self, versions: Mapping[str, int], root: bytes) -> TrustedFeed | None:
        """Return the signed metadata of these versions, proved once; None if it is at fault."""
        key = tuple(sorted(versions.items()))
        if key not in self._proved:
            with self._prover.attempt(layout.METADATA):
                trusted = verify_exactly(self._prover.folder.metadata, versions, root)
                self._prover.metadata(trusted, root, self._now)
                self._proved[key] = trusted
        return self._proved.get(key)
