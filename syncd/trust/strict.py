"""Verification that leaves no byte unproved, for `syncd verify`.

`verify_offline` proves what a reader relies on: enough signatures over what the metadata says. Bytes that change none
of that stay unseen: white space, or a signature beyond the threshold. Files that other metadata names by hash have no
such bytes; roots and the timestamp have. Here every signature must hold, and the text be laid out as it was written.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from tuf.api.metadata import Key, Metadata, Root, Snapshot, Targets, Timestamp

from syncd.errors import MismatchError, StoreError, TrustError
from syncd.trust.offline import Read, trusted_feed, verify, verify_offline
from syncd.trust.parse import local_root_hint, parse
from syncd.trust.values import TOP_LEVEL_ROLES, TrustedFeed, role_of

_TIMESTAMP: Final = "timestamp.json"
_KINDS: Final[Mapping[str, type[Any]]] = {"root": Root, "snapshot": Snapshot, "timestamp": Timestamp}
_ALTERED: Final = "it was altered: fetch it again, or restore it from a backup"


def verify_exactly(read: Read, names: Mapping[str, int], root: bytes) -> TrustedFeed:
    """As `verify_offline`, and refuses any other altered byte. The pinned ``root`` is taken as it is."""
    trusted = verify_offline(read, names, root)
    _check_every_signature(trusted, root)
    return trusted


def verify_published(read: Read, root: bytes) -> TrustedFeed:
    """The same for a feed as it is published: the newest root there is, and the one ``timestamp.json``."""
    newest = verify_root(root)
    while read(f"{newest + 1}.root.json") is not None:
        newest += 1
    if read(f"{newest + 2}.root.json") is not None:
        raise StoreError(f"the metadata file {newest + 1}.root.json is missing", hint="restore it from a backup")
    content = read(_TIMESTAMP)
    if content is None:
        raise StoreError(f"the metadata file {_TIMESTAMP} is missing", hint="restore it from a backup")
    version = parse(Timestamp, content, _TIMESTAMP).signed.version
    named = {f"{version}.{_TIMESTAMP}": content}
    trusted = trusted_feed(verify(lambda name: named.get(name) or read(name), root, newest, version), clock=None)
    _check_every_signature(trusted, root)
    return trusted


def check_superseded(name: str, content: bytes, trusted: TrustedFeed, targets: Iterable[bytes]) -> None:
    """Prove a metadata file that newer ones replaced: signed, as it is, by keys that its role had at some time.

    ``targets``: every targets file at hand. Raises `TrustError`, `RollbackError`, `MismatchError`.
    """
    version, role = name.removesuffix(".json").split(".", 1)
    kind = _KINDS.get(role, Targets)
    found = parse(kind, content, name)
    delegators: list[Root | Targets] = [
        parse(Root, file, each).signed for each, file in trusted.files.items() if role_of(each) == "root"
    ]
    if role not in TOP_LEVEL_ROLES:
        delegators = [parse(Targets, file, "targets").signed for file in targets]
    _check_exact(name, content, found, delegators, role)
    if not found.signatures or found.signed.version != int(version):
        raise TrustError(f"{name} is not what its name says", hint=_ALTERED)


def verify_root(root: bytes) -> int:
    """Prove that a root is what it calls itself, signed by enough of the keys that it names; returns its version.

    Raises `TrustError`.
    """
    with local_root_hint():
        found = parse(Root, root, "the root")
    if set(TOP_LEVEL_ROLES) != found.signed.roles.keys() or not found.signed.consistent_snapshot:
        raise TrustError("the root is not that of a syncd feed", hint="is it the file that the publisher gave out?")
    good = [key for key in _keys(found.signed, "root").values() if _holds(found, key)]
    threshold = found.signed.roles["root"].threshold
    if len(good) < threshold:
        raise TrustError(
            f"the root is signed by {len(good)} of its own keys and requires {threshold}",
            hint="the file is damaged or forged: ask the publisher for it again, out of band",
        )
    return found.signed.version


def _check_every_signature(trusted: TrustedFeed, root: bytes) -> None:
    before = parse(Root, root, "the pinned root").signed
    for version in range(before.version + 1, trusted.versions["root"] + 1):
        name = f"{version}.root.json"
        found = parse(Root, trusted.files[name], name)
        _check_exact(name, trusted.files[name], found, (before, found.signed), "root")
        before = found.signed
    name = f"{trusted.versions['timestamp']}.{_TIMESTAMP}"
    _check_exact(name, trusted.files[name], parse(Timestamp, trusted.files[name], name), (before,), "timestamp")


def _check_exact(
    name: str, content: bytes, found: Metadata[Any], delegators: Iterable[Root | Targets], role: str
) -> None:
    if content not in _layouts(content) or json.loads(content) != found.to_dict():
        raise MismatchError(f"{name} is not laid out as it was signed", hint=_ALTERED)
    allowed = {keyid: key for delegator in delegators for keyid, key in _keys(delegator, role).items()}
    for keyid, signature in found.signatures.items():
        lower = signature.signature == signature.signature.lower()
        if keyid not in allowed or not lower or not _holds(found, allowed[keyid]):
            raise TrustError(f"{name} carries a signature that does not hold", hint=_ALTERED)


def _layouts(content: bytes) -> tuple[bytes, bytes]:
    """The two layouts that python-tuf writes: compact, and one space of indent a level. Keys are sorted in both."""
    value = json.loads(content)
    return (
        json.dumps(value, separators=(",", ":"), sort_keys=True).encode(),
        json.dumps(value, indent=1, separators=(",", ": "), sort_keys=True).encode(),
    )


def _keys(delegator: Root | Targets, role: str) -> dict[str, Key]:
    if isinstance(delegator, Root):
        keyids, keys = delegator.roles[role].keyids, delegator.keys
    elif delegator.delegations is None or role not in (delegator.delegations.roles or {}):
        return {}
    else:
        keyids, keys = delegator.get_delegated_role(role).keyids, delegator.delegations.keys
    return {keyid: keys[keyid] for keyid in keyids if keyid in keys}


def _holds(metadata: Metadata[Any], key: Key) -> bool:
    signature = metadata.signatures.get(key.keyid)
    if signature is None:
        return False
    try:
        key.verify_signature(signature, metadata.signed_bytes)
    except (UnverifiedSignatureError, VerificationError):
        return False
    return True
