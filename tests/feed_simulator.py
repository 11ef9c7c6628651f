"""A publisher and its server in memory: the fake is the peer, so that tests read as stories.

peer = MetadataPeer()
peer.publish("images", 1)
refresh(folder, peer.root, peer, floors=Floors(), now=NOW)
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from securesystemslib.signer import CryptoSigner, Signer

from syncd.errors import HttpStatusError, SyncdError
from syncd.trust.keys import Signers
from syncd.trust.repository import Freshness, MetadataUpdate, Repository, SignedTarget, create

NOW = datetime(2026, 11, 22, 17, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def new_key() -> Signer:
    """A fresh signer."""
    return CryptoSigner.generate_ed25519()


def target(name: str, version: int, content: bytes | None = None) -> SignedTarget:
    """The signed target of a list; ``content`` is its manifest (by default one made up from name and version)."""
    manifest = content if content is not None else f"manifest {version} of {name}".encode()
    return SignedTarget(f"v1/{name}/manifest.json", version, hashlib.sha256(manifest).hexdigest(), len(manifest))


class MetadataPeer:
    """A feed that signs on demand and serves what it signed; ``now`` is the publisher's clock.

    ``files`` may be tampered with; ``faults`` maps a path to the error that asking for it raises; ``cached`` is what a
    cache in between answers (None: 404) unless it is asked for fresh answers; ``requests`` and
    ``sent`` (bytes) record what a client cost.
    """

    def __init__(self, root_keys: int = 1, root_threshold: int = 1, now: datetime = NOW) -> None:
        self.now = now
        self.offline: dict[str, tuple[Signer, ...]] = {
            "root": tuple(new_key() for _ in range(root_keys)),
            "targets": (new_key(),),
        }
        self.online: dict[str, tuple[Signer, ...]] = {role: (new_key(),) for role in ("timestamp", "snapshot", "lists")}
        self.freshness: dict[str, Freshness] = {}
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, SyncdError] = {}
        self.cached: dict[str, bytes | None] = {}
        self.requests: list[str] = []
        self.sent = 0
        self.install(create(self.offline, self.online, root_threshold, now))

    @property
    def root(self) -> bytes:
        """The first root, as handed out of band."""
        return self.files["metadata/1.root.json"]

    @property
    def repository(self) -> Repository:
        """What is served now, loaded for signing."""
        return Repository.load(self.read)

    @property
    def signers(self) -> Signers:
        """Every online signer."""
        return self.online

    def read(self, name: str) -> bytes | None:
        """A metadata file by its name relative to ``metadata/``."""
        return self.files.get(f"metadata/{name}")

    def install(self, update: MetadataUpdate) -> None:
        """Serve an update."""
        self.files |= {f"metadata/{name}": content for name, content in update.files}

    def publish(self, name: str, version: int, content: bytes | None = None) -> None:
        """Publish a version of a list."""
        self.freshness[name] = Freshness(self.now, version)
        signed = target(name, version, content)
        self.install(self.repository.publish({signed.name: signed}, self.freshness, self.online, self.now))

    def resign(self) -> None:
        """Sign the timestamp again, as the publisher does hourly."""
        self.install(self.repository.resign(self.freshness, self.online, self.now))

    def rotate(self, role: str, *keys: Signer, threshold: int = 1) -> tuple[Signer, ...]:
        """Replace the keys of a role; returns the new ones."""
        fresh = keys or (new_key(),)
        update = self.repository.rotate(role, fresh, threshold, offline=self.offline, online=self.online, now=self.now)
        self.install(update)
        held = self.offline if role in self.offline else self.online
        held[role] = fresh
        return fresh

    def add_list_role(self, name: str, *keys: Signer, threshold: int = 1) -> None:
        """Give a list a role of its own."""
        role = f"list-{name}"
        update = self.repository.add_list_role(
            f"v1/{name}/manifest.json", role, keys, threshold, offline=self.offline, online=self.online, now=self.now
        )
        self.install(update)
        self.online[role] = keys

    def stream(self, path: str, limit: int, *, fresh: bool = False) -> Iterator[bytes]:
        """Serve one file."""
        self.requests.append(path)
        if path in self.faults:
            raise self.faults[path]
        served = self.files if fresh else {**self.files, **self.cached}
        content = served.get(path)
        if content is None:
            raise HttpStatusError(f"{path} answered 404", 404)
        content = content[: limit + 1]
        self.sent += len(content)
        yield content
