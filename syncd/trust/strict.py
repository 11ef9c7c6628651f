"""Verification that leaves no byte unproved, for `syncd verify`.

`verify_offline` proves what a reader relies on: enough signatures over what the metadata says. Bytes that change none
of that stay unseen: white space, or a signature beyond the threshold. Files that other metadata names by hash have no
such bytes; roots and the timestamp have. Here every signature must hold, and the text be laid out as it was written.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from tuf.api.metadata import Key, Metadata, Root, Timestamp

from syncd.errors import MismatchError, TrustError
from syncd.trust.offline import Read, parse, verify_offline
from syncd.trust.values import TrustedFeed


def verify_exactly(read: Read, names: Mapping[str, int], root: bytes) -> TrustedFeed:
    """As `verify_offline`, and refuses any other altered byte. The pinned ``root`` is taken as it is."""
    trusted = verify_offline(read, names, root)
    before = parse(Root, root, "the pinned root").signed
    for version in range(before.version + 1, trusted.versions["root"] + 1):
        name = f"{version}.root.json"
        found = parse(Root, trusted.files[name], name)
        _check_exact(name, trusted.files[name], found, (before, found.signed), "root")
        before = found.signed
    name = f"{trusted.versions['timestamp']}.timestamp.json"
    _check_exact(name, trusted.files[name], parse(Timestamp, trusted.files[name], name), (before,), "timestamp")
    return trusted


def first_version(root: bytes) -> int:
    """The version of a pinned root that is signed by its own threshold; raises `TrustError` where it is none."""
    version = parse(Root, root, "the root").signed.version
    verify_root(root)
    return version


def verify_root(root: bytes) -> None:
    """Prove that a root is what it calls itself: signed by enough of the keys that it names. Raises `TrustError`."""
    found = parse(Root, root, "the root")
    missing = {"root", "timestamp", "snapshot", "targets"} - found.signed.roles.keys()
    if missing or not found.signed.consistent_snapshot:
        raise TrustError("the root is not that of a syncd feed", hint="is it the file that the publisher gave out?")
    good = [key for key in _keys(found.signed, "root").values() if _signs(found, key)]
    threshold = found.signed.roles["root"].threshold
    if len(good) < threshold:
        raise TrustError(
            f"the root is signed by {len(good)} of its own keys and requires {threshold}",
            hint="the file is damaged or forged: ask the publisher for it again, out of band",
        )


def _check_exact(name: str, content: bytes, found: Metadata[Any], delegators: Iterable[Root], role: str) -> None:
    if content not in _layouts(content) or json.loads(content) != found.to_dict():
        raise MismatchError(f"{name} is not laid out as it was signed", hint="it was altered: fetch or restore it")
    allowed = {keyid: key for delegator in delegators for keyid, key in _keys(delegator, role).items()}
    for keyid, signature in found.signatures.items():
        lower = signature.signature == signature.signature.lower()
        if keyid not in allowed or not lower or not _signs(found, allowed[keyid]):
            raise TrustError(
                f"{name} carries a signature that does not hold", hint="it was altered: fetch or restore it"
            )


def _layouts(content: bytes) -> tuple[bytes, ...]:
    """The two layouts in use: one space of indent a level, and canonical."""
    value = json.loads(content)
    return (
        json.dumps(value, indent=1, separators=(",", ": "), sort_keys=True).encode(),
        json.dumps(value, separators=(",", ":"), sort_keys=True).encode(),
    )


def _keys(root: Root, role: str) -> dict[str, Key]:
    return {keyid: root.keys[keyid] for keyid in root.roles[role].keyids if keyid in root.keys}


def _signs(metadata: Metadata[Any], key: Key) -> bool:
    signature = metadata.signatures.get(key.keyid)
    if signature is None:
        return False
    try:
        key.verify_signature(signature, metadata.signed_bytes)
    except (UnverifiedSignatureError, VerificationError):
        return False
    return True
