"""The files of a mirror: those of the upstream's feed, byte for byte.

An update installs the files of a state first and ``timestamp.json``, which makes the state visible, last and at once.
If any file of any list in scope cannot be fetched or proved, the state before stays: a reader never finds half a
version. Nothing is folded, and nothing is written that the upstream did not sign.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from shlex import quote
from typing import Final

from syncd.errors import FeedError, MismatchError, SourceError, SyncdError, UsageError, as_known
from syncd.feed import garbage, layout
from syncd.feed.folder import FeedFolder
from syncd.feed.follow import Follower
from syncd.feed.offer import ROOT
from syncd.feed.proof import SignedManifest, check_follows, prove_manifest, target_of
from syncd.feed.proof_record import HeldVersion
from syncd.fetch import Deadline, Endpoint, Peer, open_peer
from syncd.files import PRIVATE_FILE, install_bytes, install_file, make_folder, storage
from syncd.format.manifest import ManifestRef
from syncd.matcher.pull import ListPull, PullResult
from syncd.matcher.reproof import distrust_damaged, forget_repaired
from syncd.model import ListName
from syncd.trust.strict import verify_published
from syncd.trust.values import TIMESTAMP, Floors, TrustedFeed, role_of

Scope = frozenset[ListName] | None
"""Lists to mirror; None: all."""

_MARK: Final = "mirror.json"
"""In the private folder: marks a folder as that of a mirror, and names its root."""
_MAX_MARK: Final = 4096
_CLOCK: Final = "then start the mirror again"


@dataclass(frozen=True)
class ServedState:
    """The state that ``timestamp.json`` makes visible: the version of each list in scope, and what vouches for it."""

    lists: Mapping[ListName, ManifestRef] = field(default_factory=dict)
    trusted: TrustedFeed | None = None

    @property
    def versions(self) -> Mapping[ListName, int]:
        """The version of each list."""
        return {name: ref.version for name, ref in self.lists.items()}

    @property
    def words(self) -> str:
        """The versions, for errors."""
        return ", ".join(f"{name} version {ref.version}" for name, ref in sorted(self.lists.items())) or "nothing yet"


class Replica:
    """The folder of a mirror. Its caller holds the folder's lock; one thread updates it, others read `served`."""

    def __init__(self, feed: FeedFolder, root: bytes) -> None:
        self.feed, self._root = feed, root
        self.served = ServedState()

    def prepare(self) -> None:
        """Make the folder, or check that it is a mirror's with the same root. Raises `UsageError`, `StoreError`."""
        mark = json.dumps({"format": 1, "root": hashlib.sha256(self._root).hexdigest()}).encode()
        held = self.feed.read_private(_MARK, _MAX_MARK)
        if held is None:
            self._check_empty()
            make_folder(self.feed.work, 0o700)
            install_bytes(self.feed.work / _MARK, mark, PRIVATE_FILE)
        elif held != mark:
            raise UsageError(
                f"{self.feed.root} was mirrored with another root",
                hint="give that root, or mirror into an empty directory; nothing was changed",
            )

    def _check_empty(self) -> None:
        root = self.feed.root
        with storage(root, "list the files in"):
            if root.exists() and not root.is_dir():
                raise UsageError(f"{root} is not a directory", hint="name an empty directory, or that of a mirror")
            names = {path.name for path in root.iterdir()} if root.exists() else set()
        if names - {self.feed.work.name}:
            raise UsageError(
                f"{root} is neither empty nor the folder of a mirror",
                hint=f"name an empty directory; `ls {quote(str(root))}` shows what is there",
            )

    def load(self, scope: Scope) -> None:
        """Read what is served. Raises the error if it cannot be proved; it is served all the same."""
        if self.feed.store.length(layout.TIMESTAMP) is not None:
            trusted = verify_published(self.feed.metadata, self._root)
            self.served = ServedState(self._lists(trusted, scope), trusted)

    def _lists(self, trusted: TrustedFeed, scope: Scope) -> Mapping[ListName, ManifestRef]:
        found = {}
        for name in names_in(trusted, scope):
            target = target_of(trusted, name)
            if self.feed.store.length(layout.manifest_path(name, target.sha256)) is not None:
                found[name] = ManifestRef(version=target.version, sha256=target.sha256)
        return found

    def held_versions(self, feed: FeedFolder) -> Sequence[HeldVersion]:
        """Return the versions that are served, for the daily proof of their files."""
        del feed
        return [HeldVersion(name, ref.sha256) for name, ref in sorted(self.served.lists.items())]

    def update(self, endpoint: Endpoint, scope: Scope, now: datetime, deadline: Deadline) -> PullResult:
        """Bring the folder to the upstream's newest state, if every file of it can be had and proved.

        A fault of a list is in `PullResult.errors`, and the state before stays. A fault in the metadata is raised:
        `SourceError`, `TrustError`, `RefusedError`, `StoreError`. Damaged files are fetched again.
        """
        try:
            known = distrust_damaged(self.feed)
            with open_peer(endpoint, deadline) as peer:
                result = _ReplicaUpdate(self, self._root, peer).run(scope, now)
            forget_repaired(self.feed, {name: ref.sha256 for name, ref in self.served.lists.items()}, known)
            return result
        except SyncdError as error:
            error.serving = error.serving or self.served.words
            raise


def names_in(trusted: TrustedFeed, scope: Scope) -> list[ListName]:
    """Return the lists of a feed that are in scope, sorted."""
    names = filter(None, map(layout.list_of, trusted.targets))
    return sorted(name for name in names if scope is None or name in scope)


class _ReplicaUpdate:
    def __init__(self, replica: Replica, root: bytes, peer: Peer) -> None:
        self._replica, self._feed, self._root, self._peer = replica, replica.feed, root, peer
        self._follower = Follower(self._feed, root, peer, clock_cure=_CLOCK)

    def run(self, scope: Scope, now: datetime) -> PullResult:
        served = self._replica.served
        trusted = self._follower.refresh(served.trusted.floors if served.trusted else Floors(), now)
        signed: dict[ListName, SignedManifest] = {}
        outcomes = [self._list(trusted, name, signed) for name in names_in(trusted, scope)]
        if any(outcome.error for outcome in outcomes):
            before = served.versions
            stay = [ListPull(one.list, one.before, before.get(one.list), error=one.error) for one in outcomes]
            return PullResult(tuple(stay), self._follower.received, trusted)
        self._make_visible(trusted, signed)
        self._collect(trusted, now)
        return PullResult(tuple(outcomes), self._follower.received, trusted)

    def _list(self, trusted: TrustedFeed, name: ListName, signed: dict[ListName, SignedManifest]) -> ListPull:
        """Bring every file of a list's newest version into the folder, the manifest last."""
        held = self._replica.served.lists.get(name)
        before = held.version if held else None
        try:
            found = self._manifest(trusted, name)
            forked = check_follows(held, found)
            self._follower.fetch(name, tuple(found.manifest.named_segments()))
            self._evidence(name, found)
            self._feed.store.put(layout.manifest_path(name, found.sha256), found.content)
        except Exception as fault:  # noqa: BLE001 - the faults of other lists are reported as well
            error = as_known(fault)
            error.serving = f"{self._replica.served.words}: a mirror goes on only with all its lists"
            return ListPull(name, before, before, error=error)
        signed[name] = found
        retired = found.manifest.retired.since if found.manifest.retired else None
        return ListPull(name, before, found.manifest.version, forked, retired=retired)

    def _manifest(self, trusted: TrustedFeed, name: ListName) -> SignedManifest:
        """Return the newest manifest; fetch it only if it is not here."""
        content = self._feed.read(layout.manifest_path(name, target_of(trusted, name).sha256))
        if content is not None:
            with contextlib.suppress(MismatchError):  # damaged on this disk
                return prove_manifest(trusted, name, content)
        return self._follower.manifest(trusted, name)

    def _evidence(self, name: ListName, signed: SignedManifest) -> None:
        """Fetch the evidence of a version. No matcher needs it, so a failure delays nothing, and it is tried again."""
        ref = signed.manifest.origin.evidence if signed.manifest.origin else None
        path = layout.evidence_path(name, ref.sha256) if ref else ""
        if ref is None or self._feed.store.length(path) == ref.length:
            return
        staged = make_folder(self._feed.downloads, 0o700) / ref.sha256
        with contextlib.suppress(SourceError, FeedError):
            self._peer.download(path, staged, ref.length, ref.sha256)
            install_file(staged, self._feed.path(path))

    def _make_visible(self, trusted: TrustedFeed, signed: Mapping[ListName, SignedManifest]) -> None:
        """Install the signed metadata, ``timestamp.json`` last: only then does a reader find the new state."""
        put = self._feed.store.put
        timestamp = b""
        for name, content in sorted(trusted.files.items(), key=lambda file: role_of(file[0]) == "root"):
            if role_of(name) == "timestamp":
                timestamp = content
            else:
                put(f"{layout.METADATA}/{name}", content)
        put(ROOT, self._root)
        if self._feed.read(layout.TIMESTAMP) != timestamp:
            install_bytes(self._feed.path(layout.TIMESTAMP), timestamp)
        lists = {name: found.ref for name, found in signed.items()}
        self._replica.served = ServedState(lists, trusted)

    def _collect(self, trusted: TrustedFeed, now: datetime) -> None:
        """Remove, once an hour, files that no state of the last day needed."""
        if not garbage.is_due(garbage.FileLedger(self._feed), now):
            return
        heads = {name: ref.sha256 for name, ref in self._replica.served.lists.items()}
        metadata = chain([TIMESTAMP], (name for name in trusted.files if role_of(name) != "timestamp"))
        garbage.collect(self._feed, garbage.named_by_feed(self._feed, heads, metadata, kept=0), now)
        garbage.remove_old_parts(self._feed.downloads, now)
