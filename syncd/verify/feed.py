"""Proving a published feed, and the files that every kind of folder has."""

import re
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.errors import MismatchError, StoreError, TrustError, UsageError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.garbage import KEPT_VERSIONS, named_by_manifest
from syncd.feed.proof import SignedManifest, prove_manifest
from syncd.feed.unfolded import NOTHING_UNFOLDED, Unfolded, stack_here
from syncd.files import TEMPORARY_PREFIX, sha256_file, storage
from syncd.format.manifest import FileRef, Manifest
from syncd.model import ListName
from syncd.trust.strict import check_superseded, verify_published, verify_root
from syncd.trust.values import TrustedFeed, role_of
from syncd.verify.chain import ChainedVersion, ChainReplay, kept_manifests
from syncd.verify.modes import closed_to_group
from syncd.verify.prover import FolderProver, files_of
from syncd.verify.replay import replay
from syncd.verify.tally import ListProof, Progress, Proof, content_stamp, prove_steadily

ROOT: Final = "root.json"
_METADATA: Final = re.compile(r"metadata/[0-9]+\.[a-z][a-z0-9._-]*\.json")


class Prover(FolderProver):
    """Proves a folder of published files: a feed, the origins of a source, or a pulled copy."""

    def root(self, given: bytes | None) -> bytes | None:
        """Return the trust root: ``given`` out of band, or else the folder's own. Both must be the same."""
        own = None
        with self.attempt(ROOT):
            content = self.folder.read(ROOT)
            if content is None and given is None:
                hint = "bring it back from a mirror, a pulled copy or a backup, or give the trust root with --root"
                raise StoreError(f"{ROOT} is missing", hint=hint)
            if content is not None and given is not None and content != given:
                raise MismatchError(
                    f"{ROOT} is not the trust root that was given", hint="use the root that the copy was made with"
                )
            if content is not None:
                if given is None:
                    self._check_root(content)
                own = content
                self.done(ROOT)
        return given or own

    def _check_root(self, content: bytes) -> None:
        try:
            verify_root(content)
        except TrustError as error:
            raise MismatchError(
                f"{ROOT} is damaged: {error.message}",
                hint=f"restore it from a backup or a mirror; in a published feed, {layout.METADATA}/1.root.json has "
                "the same content",
            ) from error

    def metadata(self, trusted: TrustedFeed, root: bytes, now: datetime) -> None:
        """Count the files that prove ``trusted`` as proved. The first of them is the pinned root itself."""
        for name, content in trusted.files.items():
            file = f"{layout.METADATA}/{name}"
            if role_of(name) == "timestamp" and not self.folder.path(file).exists():
                file = layout.TIMESTAMP
            with self.attempt(file):
                if role_of(name) == "root" and content == root and self.folder.read(file) != root:
                    hint = "bring it back from a mirror, a pulled copy or a backup"
                    raise MismatchError(f"{file} is missing or was altered", hint=hint)
                self.done(file)
        for role in trusted.stale(now):
            self.tally.notes.append(f"the {role} metadata expired on {trusted.expires[role]:%Y-%m-%d %H:%M} UTC")

    def list(
        self,
        trusted: TrustedFeed,
        name: ListName,
        sha256: str,
        *,
        evidence: bool = False,
        unfolded: Unfolded = NOTHING_UNFOLDED,
    ) -> Manifest | None:
        """Prove one list: manifest, segments, end state, recent deltas. Return None if the manifest is at fault.

        ``unfolded``: segments that the copy still reads from their inputs.
        """
        file = layout.manifest_path(name, sha256)
        signed: SignedManifest | None = None
        with self.attempt(file):
            signed = prove_manifest(trusted, name, self.folder.manifest_bytes(name, sha256))
            self.done(file)
        if signed is None:
            return None
        before = len(self.tally.faults)
        stack = stack_here(self.folder, signed.manifest, unfolded)
        manifest = signed.manifest.model_copy(update={"stack": stack})
        self.segments(name, manifest.named_segments(), needed=stack)
        if evidence and manifest.origin and manifest.origin.evidence:
            self._evidence(name, manifest.origin.evidence)
        replayed = 0
        if len(self.tally.faults) == before:
            with self.attempt(file):
                self.end_state(name, manifest.stack, manifest.end_state, f"{name} version {manifest.version}")
                replayed = replay(self.folder, manifest)
        kept = self._history(manifest, sha256) if self.deep else None
        length = sum(ref.length for ref in manifest.stack)
        sound = len(self.tally.faults) == before
        self.tally.lists.append(
            ListProof(
                list=name,
                version=manifest.version,
                rows=manifest.rows,
                segments=len(manifest.stack),
                bytes=length,
                replayed=max(replayed, kept.applied) if kept else replayed,
                sound=sound,
                kept=kept.kept if kept else 1,
                recomputed=kept.versions if kept else 0,
            )
        )
        return manifest

    def _history(self, manifest: Manifest, sha256: str) -> ChainReplay:
        """Replay the kept versions of a list; check the segments that they name first."""
        name, versions = manifest.list, kept_manifests(self, ChainedVersion(manifest, sha256))
        for kept in versions:
            for file in named_by_manifest(kept.manifest, kept.sha256):
                self.tally.needed_by.setdefault(self.prefix + file, (name, kept.manifest.version))
        required = {kept.sha256 for kept in versions[-self.kept :]} if self.kept else set()
        found = ChainReplay(self, name, kept=len(versions))
        for kept in versions:
            stack = kept.manifest.stack if kept.sha256 in required else ()
            self.segments(name, kept.manifest.named_segments(), needed=stack)
            found.add(kept)
        return found

    def _evidence(self, name: ListName, ref: FileRef) -> None:
        file = layout.evidence_path(name, ref.sha256)
        with self.attempt(file):
            if self.folder.store.length(file) is None:
                raise StoreError(f"the evidence of {name} is missing", hint="restore it from a backup")
            self.folder.store.present(file)
            self._content(file, ref.sha256)

    def _content(self, file: str, sha256: str) -> None:
        if sha256_file(self.folder.path(file)) != sha256:
            raise MismatchError(f"{file} does not have the SHA-256 in its name", hint="remove it and fetch it again")
        self.done(file)

    def others(self, trusted: TrustedFeed | None) -> None:
        """Prove the remaining files as far as possible, and note the rest.

        A file named by its content must have it, and superseded metadata must be signed.
        """
        existing = {str(path.relative_to(self.folder.root)) for path in files_of(self.folder)}
        for file in sorted(existing - self.proved - self.faulty):
            named = layout.BY_CONTENT.fullmatch(file)
            with self.attempt(file):
                if named:
                    self._content(file, named["file"] or named["document"])
                elif trusted and _METADATA.fullmatch(file):
                    self._superseded(trusted, file)
                elif file not in {ROOT, layout.TIMESTAMP}:
                    kind = "left over from an interrupted write" if TEMPORARY_PREFIX in file else "unknown file"
                    self.tally.notes.append(f"{self.prefix}{file}: {kind}")

    def modes(self, top: Path) -> None:
        """Note which files the group cannot read. ``top``: as in `closed_to_group`."""
        with self.attempt(""), storage(self.folder.root, "read the modes in"):
            if closed := closed_to_group(top, self.folder.root):
                self.tally.notes.append(closed)

    def _superseded(self, trusted: TrustedFeed, file: str) -> None:
        named = self.folder.path(layout.METADATA).glob("*.targets.json")
        targets = [content for path in named if (content := self.folder.metadata(path.name)) is not None]
        content = self.folder.read(file)
        if content is not None:
            check_superseded(file.rpartition("/")[2], content, trusted, targets)
            self.done(file)


def prove_feed(
    path: Path, root: bytes | None, now: datetime, progress: Progress | None = None, *, deep: bool = False
) -> Proof:
    """Prove a published feed from ``root`` (by default its own) to the last byte. Raises `UsageError`.

    ``deep``: replay the history that it keeps.
    """
    folder = FeedFolder(path)
    if not folder.path(layout.TIMESTAMP).exists() and not folder.path(ROOT).exists():
        raise UsageError(
            f"{path} is not a feed, a pulled copy or a state folder",
            hint="check the path",
        )
    return prove_steadily(
        path,
        lambda tally: feed_into(Prover(folder, tally, deep=deep, kept=KEPT_VERSIONS), root, now, path),
        lambda: content_stamp(folder.path(layout.TIMESTAMP)),
        progress,
    )


def feed_into(
    prover: Prover, root: bytes | None, now: datetime, top: Path
) -> tuple[TrustedFeed, dict[ListName, Manifest]] | None:
    """Prove a published feed. Return its metadata and manifests, or None if the metadata is at fault.

    ``top``: as in `closed_to_group`.
    """
    trusted: TrustedFeed | None = None
    pinned = prover.root(root)
    with prover.attempt(layout.METADATA):
        if pinned is not None:
            trusted = verify_published(prover.folder.metadata, pinned)
            prover.metadata(trusted, pinned, now)
    manifests: dict[ListName, Manifest] = {}
    for target in trusted.targets.values() if trusted else ():
        name = layout.list_of(target.name)
        manifest = prover.list(trusted, name, target.sha256, evidence=True) if trusted and name else None
        if name and manifest:
            manifests[name] = manifest
    prover.others(trusted)
    prover.modes(top)
    return (trusted, manifests) if trusted else None
