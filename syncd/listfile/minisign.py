"""Signatures of minisign (https://jedisct1.github.io/minisign/): Ed25519, over a file or over its BLAKE2b-512."""

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from syncd.errors import UsageError

SUFFIX: Final = ".minisig"
_MOST: Final = 1 << 16
_WHOLE, _HASHED = b"Ed", b"ED"
_KEY: Final = 42
"""bytes of a public key: two of the algorithm, eight of its number, 32 of the key"""
_SIGNATURE: Final = 74
_GLOBAL: Final = 64
_TRUSTED: Final = b"trusted comment: "
_LARGEST_WHOLE: Final = 64 << 20
"""bytes of a file whose signature is over the file itself: minisign signs the hash of large ones"""


def check_minisign(path: Path, signature: Path, public_key: Path) -> None:
    """Check a signature of a file, with the trusted comment in it. Raises `UsageError`."""
    number, key = _public_key(public_key)
    content = _content(signature)
    try:
        _, signed, comment, over_comment = content.splitlines()[:4]
        packed, last = base64.b64decode(signed, validate=True), base64.b64decode(over_comment, validate=True)
        algorithm, signer, own = packed[:2], packed[2:10], packed[10:]
        if len(packed) != _SIGNATURE or len(last) != _GLOBAL or not comment.startswith(_TRUSTED):
            raise ValueError
    except (ValueError, binascii.Error):
        raise UsageError(f"{signature.name} is not a signature of minisign", hint="fetch it again") from None
    try:
        if signer != number or algorithm not in {_WHOLE, _HASHED}:
            raise InvalidSignature
        key.verify(own, _message(path, algorithm))
        key.verify(last, own + comment.removeprefix(_TRUSTED))
    except InvalidSignature:
        raise UsageError(
            f"{signature.name} is not a signature of {path.name} by the key in {public_key.name}",
            hint="the file was cut off, altered, or signed with another key: ask the partner",
        ) from None


def _message(path: Path, algorithm: bytes) -> bytes:
    try:
        with path.open("rb") as stream:
            if algorithm == _HASHED:
                return hashlib.file_digest(stream, "blake2b").digest()
            content = stream.read(_LARGEST_WHOLE + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", hint="make it readable") from error
    if len(content) > _LARGEST_WHOLE:
        raise UsageError(f"{path.name} is too large for this signature", hint="sign it without minisign's option -l")
    return content


def _public_key(path: Path) -> tuple[bytes, Ed25519PublicKey]:
    """Return the number of a public key and the key. Its file may have a comment in the first line."""
    lines = _content(path).split()
    try:
        packed = base64.b64decode(lines[-1], validate=True)
        if len(packed) != _KEY or packed[:2] != _WHOLE:
            raise ValueError
        return packed[2:10], Ed25519PublicKey.from_public_bytes(packed[10:])
    except (ValueError, IndexError, binascii.Error):
        raise UsageError(f"{path} is not a public key of minisign", hint="name the file minisign.pub") from None


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MOST)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", hint="make it readable") from error
