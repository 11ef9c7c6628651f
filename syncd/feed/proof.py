"""The proof of a manifest: a trusted role's signed statement, compared with the bytes. Pure."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from syncd.errors import (
    EquivocationError,
    ExpiredError,
    ManifestError,
    MismatchError,
    RollbackError,
    TrustError,
    UnknownListError,
    did_you_mean,
)
from syncd.feed import layout
from syncd.format import manifest as manifests
from syncd.format.canonical import canonical
from syncd.format.manifest import Manifest, ManifestRef
from syncd.format.relation import Relation, relate
from syncd.model import ListName
from syncd.trust.values import SignedTarget, TrustedFeed
from syncd.units import brief

_SHOWN: Final = 500
"""Most characters of list names in a hint: a feed may have thousands of lists."""


@dataclass(frozen=True)
class SignedManifest:
    """A manifest whose exact bytes a trusted role vouches for."""

    manifest: Manifest
    sha256: str
    content: bytes

    @property
    def ref(self) -> ManifestRef:
        """Its version and hash."""
        return ManifestRef(version=self.manifest.version, sha256=self.sha256)


def target_of(trusted: TrustedFeed, name: ListName) -> SignedTarget:
    """Return the signed statement about a list.

    Raises `UnknownListError`, which names the lists there are, and `ManifestError` if the version or length is beyond
    the format: a signer must not decide how much we fetch and keep in memory.
    """
    target = trusted.targets.get(layout.target_name(name))
    if target is None:
        known = sorted(filter(None, map(layout.list_of, trusted.targets)))
        shown = f"it has: {brief(', '.join(known), _SHOWN) or 'none yet'}; check the spelling, or ask its operator"
        raise UnknownListError(f"the feed has no list {name!r}", hint=did_you_mean(name, known) or shown)
    if target.version >= manifests.VERSIONS or target.length > manifests.MAX_MANIFEST_BYTES:
        raise ManifestError(
            f"the feed signs a manifest of {name} whose version or length is beyond the limits of format 1"
        )
    return target


def check_fresh(trusted: TrustedFeed, name: ListName, now: datetime) -> None:
    """Raise `ExpiredError` if the role that vouches for a list is expired; raises as `target_of`."""
    role = trusted.signed_by[target_of(trusted, name).name]
    if now >= trusted.expires[role]:
        raise ExpiredError(
            f"the feed's {role} metadata, which signs {name}, expired on {trusted.expires[role]:%Y-%m-%d %H:%M} UTC",
            hint="the publisher must sign it again; if you fetch from a mirror or cache, it may lag behind",
        )


def prove_manifest(trusted: TrustedFeed, name: ListName, content: bytes) -> SignedManifest:
    """Return ``content`` as the manifest that was signed for ``name``.

    Raises `MismatchError`, `ManifestError`, `TrustError`, and as `target_of`.
    """
    target = target_of(trusted, name)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != target.sha256 or len(content) != target.length:
        raise MismatchError(
            f"the manifest of {name} is not the one that was signed",
            hint="the copy at the peer was damaged or replaced",
        )
    manifest = manifests.parse(content)
    if manifest.list != name or manifest.version != target.version:
        raise ManifestError(
            f"the manifest signed as {name} version {target.version} names another list or version",
            hint="the publisher signed the wrong file, or its keys were stolen: call them",
        )
    if manifest.min_root > trusted.versions["root"]:
        raise TrustError(
            f"{name} needs root version {manifest.min_root}, but the peer serves only {trusted.versions['root']}",
            hint="the peer or a proxy withholds a key rotation; tell the peer's operator",
        )
    return SignedManifest(manifest, sha256, content)


def check_follows(held: ManifestRef | None, signed: SignedManifest) -> bool:
    """Return True if a manifest does not descend from the version ``held`` (None: none is).

    Raises `RollbackError` if it is older, and `EquivocationError` if it is the same version with other content.
    """
    if held is None:
        return False
    manifest = signed.manifest
    relation = relate(held, manifest, signed.sha256).relation
    if relation is Relation.OLDER:
        raise RollbackError(
            f"{manifest.list} went back from version {held.version} to {manifest.version}",
            hint="ask the feed's operator: the feed was restored from a backup (cured there by `syncd recover`), or an "
            "old one is being replayed",
        )
    if relation is Relation.CONTRADICTS:
        raise EquivocationError(
            f"{manifest.list} version {held.version} was signed twice with different content",
            hint="call the feed's operator: its keys may be stolen",
        )
    return relation is Relation.FORKED


def evidence(trusted: TrustedFeed, signed: SignedManifest) -> bytes:
    """Return the signed documents behind a manifest as one, in exact text, to show later who signed what."""
    metadata = {name: content.decode() for name, content in trusted.files.items()}
    return canonical({"manifest": signed.content.decode(), "metadata": metadata})


def signing_keys(content: bytes, name: ListName) -> tuple[str, ...]:
    """Return the ids of the keys that signed a list's manifest, from its evidence; () if it does not state them.

    The evidence was verified when it was made, so that this only reads it.
    """
    try:
        documents = [json.loads(text) for text in json.loads(content)["metadata"].values()]
        for document in documents:
            if layout.target_name(name) in document["signed"].get("targets", {}):
                return tuple(sorted(signature["keyid"] for signature in document["signatures"] if signature["sig"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return ()
