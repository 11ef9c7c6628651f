"""Proving the operator's state: the catalog, the published feed, the origins, and that they agree."""

import hashlib
import json
from datetime import datetime

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.records import RETRUSTED, HeadRecord, OriginRecord, VersionRecord
from syncd.errors import MismatchError, StoreError
from syncd.feed import layout
from syncd.feed.garbage import KEPT_VERSIONS
from syncd.feed.shared import catch_up
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest
from syncd.model import ListName
from syncd.pipeline.heads import ListState, named_segments, read_state
from syncd.verify.chain import Chain, ChainedVersion
from syncd.verify.feed import Prover, feed_into
from syncd.verify.history import prove_history
from syncd.verify.stated import prove_stated
from syncd.verify.tally import Progress, Proof, Tally, content_stamp, prove_steadily

_RESTORE = "restore it from a backup, then `syncd recover --above N`"


def prove_state(
    folder: StateFolder,
    root: bytes | None,
    now: datetime,
    progress: Progress | None = None,
    *,
    deep: bool = False,
    kept: int = KEPT_VERSIONS,
) -> Proof:
    """Prove a state folder from ``root`` (by default its feed's own) to the last byte.

    ``deep``: replay the history that it keeps. ``kept``: versions whose files are kept, as the configuration says.

    Raises `UsageError` if it is not a state folder, and `StoreError` if the catalog cannot be opened.
    """
    folder.check_set_up()
    if folder.bucket is not None and folder.feed.here(layout.TIMESTAMP) is None:
        catch_up(folder.feed)  # the cache of this machine is empty or lost
    with Catalog.open(folder.catalog) as catalog:
        return prove_steadily(
            folder.root,
            lambda tally: _StateProof(folder, catalog, tally, now, deep=deep).prove(root, min(kept, KEPT_VERSIONS)),
            lambda: (content_stamp(folder.feed.path(layout.TIMESTAMP)), catalog.origins()),
            progress,
        )


class _StateProof:
    def __init__(self, folder: StateFolder, catalog: Catalog, tally: Tally, now: datetime, *, deep: bool) -> None:
        self._folder, self._catalog, self._tally, self._now, self._deep = folder, catalog, tally, now, deep
        self._where = layout.CATALOG_FILE if folder.database is None else str(folder.database)

    def prove(self, root: bytes | None, kept: int) -> None:
        damage = self._catalog.damage()
        for fault in damage:
            with self._tally.attempt(self._where):
                raise StoreError(f"the catalog is damaged: {fault}", hint=_RESTORE)
        if damage:
            return
        prover = Prover(self._folder.feed, self._tally, "feed/", deep=self._deep, kept=kept)
        feed = feed_into(prover, root, self._now, self._folder.root)
        published = feed[1] if feed else {}
        heads = self._catalog.heads()
        for head in heads:
            self._head(head, published.get(head.list))
        if feed:
            for name in sorted(published.keys() - {head.list for head in heads}):
                self._tally.notes.append(f"feed/: {name} is signed, but not in the catalog")
        for origin in self._catalog.origins():
            self._origin(origin)
        prove_stated(self._folder, self._catalog, self._tally)
        prove_history(self._folder, self._catalog, self._tally)
        if self._catalog.pending():
            self._tally.notes.append("a publication is committed but not installed yet: the next sync installs it")

    def _head(self, head: HeadRecord, published: Manifest | None) -> None:
        newest = self._versions(head)
        with self._tally.attempt(f"feed/{layout.manifest_path(head.list, head.manifest_sha256)}"):
            if self._catalog.pending():
                return
            content = self._folder.feed.manifest_bytes(head.list, head.manifest_sha256)
            if newest and content != newest.manifest:
                raise MismatchError(f"the manifest of {head.list} is not the one in the catalog", hint=_RESTORE)
            if published and published.version != head.version:
                raise MismatchError(
                    f"the feed has {head.list} at version {published.version}, the catalog at {head.version}",
                    hint=f"if an older catalog was restored, run `syncd recover --above N`; otherwise {_RESTORE}",
                )
            self._evidence(manifests.parse(content))

    def _versions(self, head: HeadRecord) -> VersionRecord | None:
        """Check the recorded versions of a list, oldest first; return the newest.

        Older ones than the first of `Catalog.first_kept` are single versions that matchers needed.
        """
        first, chain = self._catalog.first_kept(head.list), Chain(head.list)
        newest: VersionRecord | None = None
        for version in self._catalog.each_version(head.list):
            with self._tally.attempt(self._where, head.list, version.version):
                _check_version(version)
                if self._deep:
                    chain.add(ChainedVersion(manifests.parse(version.manifest), version.manifest_sha256))
                if newest is not None and newest.version >= first:
                    _check_chain(version, newest)
            newest = version
        with self._tally.attempt(self._where, head.list):
            if newest is None or (newest.version, newest.manifest_sha256) != (head.version, head.manifest_sha256):
                raise StoreError(f"the newest version of {head.list} is not its head", hint=_RESTORE)
        return newest

    def _evidence(self, manifest: Manifest) -> None:
        """Check that the evidence holds the upstream's manifest that the head names as its origin."""
        kept = manifest.origin.evidence if manifest.origin else None
        feed = self._folder.feed
        content = feed.read(layout.evidence_path(manifest.list, kept.sha256), kept.length) if kept else None
        if manifest.origin is None or content is None:
            return
        if _manifest_sha256_in(content) != manifest.origin.manifest:
            raise MismatchError(f"the evidence of {manifest.list} belongs to another version", hint=_RESTORE)

    def _origin(self, origin: OriginRecord) -> None:
        what = f"{origin.list} of source {origin.source}"
        with self._tally.attempt(self._where):
            signed = _recorded_manifest(origin, what)
            if origin.serial not in {RETRUSTED, signed.version} or dict(origin.end_state) != dict(signed.end_state):
                raise StoreError(f"the record of {what} does not match its manifest", hint=_RESTORE)
        prover = Prover(self._folder.source(origin.source), self._tally, f"sources/{origin.source}/")
        before = len(self._tally.faults)
        state: ListState | None = None
        with self._tally.attempt(self._where):
            state = read_state(self._folder, self._catalog, origin.source, origin.list)
        if state is None:  # its head's manifest cannot be read, so the origin's segments are unknown
            return
        named = tuple(dict.fromkeys(named_segments(state)))
        prover.segments(origin.list, iter(named), needed=named)
        if len(self._tally.faults) == before:  # head and owed rows together give the origin's end state
            with prover.attempt(f"v1/{origin.list}"):
                prover.end_state(ListName(origin.list), state.stack, origin.end_state, what)


def _manifest_sha256_in(evidence: bytes) -> str | None:
    """Return the hash of the manifest in a file of evidence; None if the file is malformed."""
    try:
        return hashlib.sha256(json.loads(evidence)["manifest"].encode()).hexdigest()
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _recorded_manifest(record: OriginRecord | VersionRecord, what: str) -> Manifest:
    """Return a manifest from the catalog; raises `StoreError` if it does not have the recorded hash."""
    if hashlib.sha256(record.manifest).hexdigest() != record.manifest_sha256:
        raise StoreError(f"the manifest of {what} was altered", hint=_RESTORE)
    return manifests.parse(record.manifest)


def _check_version(version: VersionRecord) -> None:
    what = f"{version.list} version {version.version}"
    manifest = _recorded_manifest(version, what)
    if (manifest.list, manifest.version, manifest.rows) != (version.list, version.version, version.rows):
        raise StoreError(f"the record of {what} does not match its manifest", hint=_RESTORE)


def _check_chain(newer: VersionRecord, older: VersionRecord) -> None:
    previous = manifests.parse(newer.manifest).previous
    if previous is not None and previous.version > older.version:
        raise StoreError(f"{newer.list} version {previous.version} is missing from the catalog", hint=_RESTORE)
    if previous is None or (previous.version, previous.sha256) != (older.version, older.manifest_sha256):
        raise StoreError(
            f"{newer.list} version {newer.version} does not descend from version {older.version}", hint=_RESTORE
        )
