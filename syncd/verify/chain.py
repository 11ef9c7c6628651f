"""``verify --deep``: the kept history of a list, replayed from its oldest version.

Each signed manifest names the one before it by hash, and repeats up to 64 deltas with the end states that they lead to.
So the head alone vouches for all that is kept. `kept_manifests` follows the hashes on the disk, `Chain` compares what
the manifests say of each other, and `ChainReplay` applies each delta to the rows of the version before it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from syncd.errors import MismatchError
from syncd.feed import layout
from syncd.format.delta import drop_empty
from syncd.format.manifest import EndState, Manifest, ManifestRef, SegmentRef, Step
from syncd.model import Algorithm, ListName
from syncd.verify.prover import FolderProver
from syncd.verify.replay import DRIFTED, applied

_RESTORE: Final = "restore the file from a backup, or from a mirror of this feed"


@dataclass(frozen=True)
class ChainedVersion:
    """One kept version of a list."""

    manifest: Manifest
    sha256: str

    @property
    def ref(self) -> ManifestRef:
        """Its version and hash."""
        return ManifestRef(version=self.manifest.version, sha256=self.sha256)

    @property
    def step(self) -> Step | None:
        """The delta that leads to it; None if there is none, and followers load the whole stack."""
        step = self.manifest.recent[-1] if self.manifest.recent else None
        return step if step is not None and step.version == self.manifest.version else None


@dataclass
class Chain:
    """Compares what the manifests of a list state of each other. Add them in order."""

    list: ListName
    refs: dict[int, str] = field(default_factory=dict)
    """the hash of each version, as the manifests so far state it"""
    _end_states: dict[int, Mapping[Algorithm, EndState]] = field(default_factory=dict)

    def add(self, kept: ChainedVersion) -> None:
        """Add the next version. Raises `MismatchError` if it does not fit those before."""
        manifest = kept.manifest
        what = f"{self.list} version {manifest.version}"
        if self.refs.setdefault(manifest.version, kept.sha256) != kept.sha256:
            raise MismatchError(f"{what} is not the one that newer versions descend from", hint=_RESTORE)
        for version, stated in [(manifest.version, manifest.end_state), *_end_states(manifest)]:
            if dict(self._end_states.setdefault(version, stated)) != dict(stated):
                raise MismatchError(
                    f"{what} and another kept version state different end states of version {version}", hint=DRIFTED
                )
        for ref in _older(manifest):
            if self.refs.setdefault(ref.version, ref.sha256) != ref.sha256:
                raise MismatchError(
                    f"{what} and another kept version name different manifests as version {ref.version}", hint=DRIFTED
                )

    def next_version(self, below: int, known: Mapping[str, object]) -> int | None:
        """Return the newest version below ``below`` whose manifest is among the ``known`` hashes."""
        return max(
            (version for version, sha256 in self.refs.items() if version < below and sha256 in known), default=None
        )


def _older(manifest: Manifest) -> Iterator[ManifestRef]:
    if manifest.previous is not None:
        yield manifest.previous
    for step in manifest.recent:
        yield step.previous


def _end_states(manifest: Manifest) -> Iterator[tuple[int, Mapping[Algorithm, EndState]]]:
    for step in manifest.recent:
        yield step.version, step.end_state


def kept_manifests(prover: FolderProver, head: ChainedVersion) -> tuple[ChainedVersion, ...]:
    """Return the versions of a list that a folder holds, oldest first; record faults of their manifests.

    A feed has published each of its versions, so one that is missing among the newest ``prover.kept`` is a fault if an
    older one of these is here. A pulled copy skips versions; garbage collection removes the oldest.
    """
    name = head.manifest.list
    here = {path.name.partition(".")[0]: path for path in prover.folder.path(f"v1/{name}").glob("*.manifest.json")}
    chain, found, damaged = Chain(name), list[ChainedVersion](), set[int]()
    version: int | None = head.manifest.version
    kept: ChainedVersion | None = head
    while version is not None:
        if kept is not None:
            found.append(kept)
            with prover.attempt(layout.manifest_path(name, kept.sha256), name, version):
                chain.add(kept)
        else:
            damaged.add(version)
        version = chain.next_version(version, here)
        kept = _read(prover, name, version, chain.refs[version]) if version is not None else None
    _report_missing(prover, chain, found, damaged)
    return tuple(reversed(found))


def _read(prover: FolderProver, name: ListName, version: int, sha256: str) -> ChainedVersion | None:
    file = layout.manifest_path(name, sha256)
    with prover.attempt(file, name, version):
        kept = ChainedVersion(prover.folder.manifest(name, sha256), sha256)
        if kept.manifest.version != version or kept.manifest.list != name:
            raise MismatchError(f"{file} is not the manifest of {name} version {version}", hint=DRIFTED)
        prover.done(file)
        return kept
    return None


def _report_missing(prover: FolderProver, chain: Chain, found: Sequence[ChainedVersion], damaged: set[int]) -> None:
    if prover.kept is None:
        return
    newest = sorted(chain.refs, reverse=True)[: prover.kept]
    held = {kept.manifest.version for kept in found} | damaged
    oldest = min((version for version in newest if version in held), default=0)
    for version in newest:
        if version > oldest and version not in held:
            with prover.attempt(layout.manifest_path(chain.list, chain.refs[version]), chain.list, version):
                raise MismatchError(
                    f"the manifest of {chain.list} version {version} is missing, but older versions are here",
                    hint=_RESTORE,
                )


@dataclass
class ChainReplay:
    """Recomputes the end states of a list's kept versions. Add them oldest first."""

    prover: FolderProver
    list: ListName
    kept: int
    """versions to add"""
    versions: int = 0
    """versions whose end state was recomputed from rows"""
    applied: int = 0
    """deltas that were applied"""
    _before: ChainedVersion | None = None
    """the version before, if all its rows are here"""

    def add(self, kept: ChainedVersion) -> None:
        """Recompute one version, and record a fault if it does not have the signed end state and counts.

        A version whose segments are not all here, or are damaged, is passed over.
        """
        manifest, before = kept.manifest, self._before
        self._before = None
        if not self._is_whole(manifest.stack):
            return
        with self.prover.attempt(layout.manifest_path(self.list, kept.sha256), self.list, manifest.version):
            self._before = kept  # its signed end state is the basis of the next one: each fault is reported once
            self.versions += 1
            step = kept.step
            if before is not None and step is not None and step.previous == before.ref:
                self._apply(kept, step, before)
                if manifest.stack == (*before.manifest.stack, *step.segments):
                    return
            self._read_all(manifest)

    def _apply(self, kept: ChainedVersion, step: Step, before: ChainedVersion) -> None:
        with self.prover.tally.reading_again(step.segments):
            state, counts = applied(self.prover.folder, before.manifest, step.segments)
        self.applied += 1
        what = f"the delta of {self.list} version {kept.manifest.version} does not give the signed"
        if drop_empty(state) != dict(kept.manifest.end_state):
            raise MismatchError(f"{what} end state", hint=DRIFTED)
        if counts != {algorithm: count for algorithm, count in step.counts.items() if count.rows}:
            raise MismatchError(f"{what} counts", hint=DRIFTED)

    def _read_all(self, manifest: Manifest) -> None:
        what = f"{self.list} version {manifest.version}"
        with self.prover.tally.reading_again(manifest.stack):
            self.prover.end_state(self.list, manifest.stack, manifest.end_state, what)

    def _is_whole(self, stack: Sequence[SegmentRef]) -> bool:
        faulty = self.prover.faulty
        files = {layout.segment_path(self.list, ref.sha256): ref for ref in stack}
        return not (files.keys() & faulty) and not self.prover.folder.missing(self.list, files.values())
