"""Verification of every byte of metadata, for `syncd verify`.

`verify_offline` proves what a reader relies on: enough signatures over the content. It does not notice changes to bytes
that do not matter for that: white space, or signatures beyond the threshold. Files that other metadata names by hash
have no such bytes, but roots and the timestamp do. Here every signature must be valid, and the text must be formatted
as it was written.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from tuf.api.metadata import Key, Metadata, Root, Snapshot, Targets, Timestamp

from syncd.errors import MismatchError, TrustError
from syncd.trust.offline import Read, trusted_feed, verify_newest, verify_offline
from syncd.trust.parse import local_root_hint, parse
from syncd.trust.values import TIMESTAMP, TOP_LEVEL_ROLES, TrustedFeed, role_of

_KINDS: Final[Mapping[str, type[Any]]] = {"root": Root, "snapshot": Snapshot, "timestamp": Timestamp}
_ALTERED: Final = "it was altered: fetch it again, or restore it from a backup"


def verify_exactly(read: Read, names: Mapping[str, int], root: bytes) -> TrustedFeed:
    """Verify as `verify_offline`, but reject every altered byte. The pinned ``root`` is trusted as it is."""
    trusted = verify_offline(read, names, root)
    _check_every_signature(trusted, root)
    return trusted


def verify_published(read: Read, root: bytes) -> TrustedFeed:
    """Verify a published feed in the same way, from ``root`` to its newest root and ``timestamp.json``."""
    trusted = trusted_feed(verify_newest(read, root, verify_root(root)), clock=None)
    _check_every_signature(trusted, root)
    return trusted


def check_superseded(name: str, content: bytes, trusted: TrustedFeed, targets: Iterable[bytes]) -> None:
    """Prove a superseded metadata file: unaltered, and signed by keys that its role had at some time.

    ``targets``: all targets files at hand. Raises `TrustError`, `RollbackError`, `MismatchError`.
    """
    version, role = name.removesuffix(".json").split(".", 1)
    kind = _KINDS.get(role, Targets)
    metadata = parse(kind, content, name)
    delegators: list[Root | Targets] = [
        parse(Root, file, root).signed for root, file in trusted.files.items() if role_of(root) == "root"
    ]
    if role not in TOP_LEVEL_ROLES:
        delegators = [parse(Targets, file, "targets").signed for file in targets]
    _check_exact(name, content, metadata, delegators, role)
    if not metadata.signatures or metadata.signed.version != int(version):
        raise TrustError(f"{name} is not signed, or not the version in its name", hint=_ALTERED)


def verify_root(root: bytes) -> int:
    """Check that a root is signed by enough of the keys that it lists; return its version. Raises `TrustError`."""
    with local_root_hint():
        metadata = parse(Root, root, "the root")
    if set(TOP_LEVEL_ROLES) != metadata.signed.roles.keys() or not metadata.signed.consistent_snapshot:
        raise TrustError("the root is not that of a syncd feed", hint="use the root.json that the publisher handed out")
    valid = [key for key in _keys(metadata.signed, "root").values() if _is_valid(metadata, key)]
    threshold = metadata.signed.roles["root"].threshold
    if len(valid) < threshold:
        raise TrustError(
            f"the root is signed by {len(valid)} of its own keys but requires {threshold}",
            hint="the file is damaged or forged: ask the publisher for it again, out of band",
        )
    return metadata.signed.version


def _check_every_signature(trusted: TrustedFeed, root: bytes) -> None:
    before = parse(Root, root, "the pinned root").signed
    for version in range(before.version + 1, trusted.versions["root"] + 1):
        name = f"{version}.root.json"
        root_metadata = parse(Root, trusted.files[name], name)
        _check_exact(name, trusted.files[name], root_metadata, (before, root_metadata.signed), "root")
        before = root_metadata.signed
    name = f"{trusted.versions['timestamp']}.{TIMESTAMP}"
    _check_exact(name, trusted.files[name], parse(Timestamp, trusted.files[name], name), (before,), "timestamp")


def _check_exact(
    name: str, content: bytes, metadata: Metadata[Any], delegators: Iterable[Root | Targets], role: str
) -> None:
    if content not in _layouts(content) or json.loads(content) != metadata.to_dict():
        raise MismatchError(f"{name} is not formatted as it was when it was signed", hint=_ALTERED)
    allowed = {keyid: key for delegator in delegators for keyid, key in _keys(delegator, role).items()}
    for keyid, signature in metadata.signatures.items():
        lower = signature.signature == signature.signature.lower()
        if keyid not in allowed or not lower or not _is_valid(metadata, allowed[keyid]):
            raise TrustError(f"{name} carries an invalid signature", hint=_ALTERED)


def _layouts(content: bytes) -> tuple[bytes, bytes]:
    """Return the two layouts that python-tuf writes, with sorted keys: compact, and indented by one space a level."""
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


def _is_valid(metadata: Metadata[Any], key: Key) -> bool:
    signature = metadata.signatures.get(key.keyid)
    if signature is None:
        return False
    try:
        key.verify_signature(signature, metadata.signed_bytes)
    except (UnverifiedSignatureError, VerificationError):
        return False
    return True
