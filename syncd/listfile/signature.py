"""Signatures beside list files: ``FILE.sig``, as openssl makes them with the private key of a partner::

openssl dgst -sha256 -sign key.pem -out list.csv.sig list.csv              # RSA, elliptic curves
openssl pkeyutl -sign -rawin -inkey key.pem -in list.csv -out list.csv.sig # Ed25519
"""

import base64
import binascii
import hashlib
import mmap
import os
from pathlib import Path
from typing import IO, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from syncd.errors import UsageError
from syncd.listfile.beside import SIGNATURE, beside
from syncd.listfile.unpack import shown

_MOST: Final = 64 << 10
_PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey


def check_signature(path: Path, stream: IO[bytes], signer: Path) -> None:
    """Check ``FILE.sig`` by the public key in the file ``signer``, and go back to the beginning of ``stream``.

    Raises `UsageError` if there is no signature, if it is not valid, or if the key cannot be read.
    """
    key = _public_key(signer)
    found = beside(path, SIGNATURE) if stream.seekable() else None
    if found is None:
        to_do = f"put {path.name}{SIGNATURE} beside it" if stream.seekable() and path.name != "-" else "give a file"
        raise UsageError(
            f"{shown(path)} has no signature beside it, and a signer is named",
            hint=f"{to_do}, or leave out --signer; nothing was published",
        )
    try:
        valid = any(_is_valid(key, signature, stream) for signature in _forms(_content(found)))
        stream.seek(0)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", hint="copy it again") from error
    if not valid:
        raise UsageError(
            f"{found.name} is not a signature of {path.name} by the key in {signer.name}: the file was cut off, "
            "altered, or is another version",
            hint="fetch both again, or name the key of the signer; nothing was published",
        )


def _public_key(path: Path) -> _PublicKey:
    try:
        key = load_pem_public_key(_content(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is not a public key in PEM", hint=_KINDS) from error
    if not isinstance(key, _PublicKey):
        raise UsageError(f"{path} is a key of another kind", hint=_KINDS)
    return key


_KINDS: Final = "name a public key: Ed25519, RSA, or of an elliptic curve"


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MOST)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", hint="make it readable") from error


def _forms(content: bytes) -> list[bytes]:
    """Return a signature as it is, and out of base64 if it may be that."""
    try:
        return [content, base64.b64decode(b"".join(content.split()), validate=True)]
    except binascii.Error:
        return [content]


def _is_valid(key: _PublicKey, signature: bytes, stream: IO[bytes]) -> bool:
    try:
        if isinstance(key, Ed25519PublicKey):
            _verify_whole(key, signature, stream)
            return True
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").digest()  # type: ignore[arg-type] # it reads
        if isinstance(key, RSAPublicKey):
            key.verify(signature, digest, PKCS1v15(), Prehashed(SHA256()))
        else:
            key.verify(signature, digest, ECDSA(Prehashed(SHA256())))
    except InvalidSignature:
        return False
    return True


def _verify_whole(key: Ed25519PublicKey, signature: bytes, stream: IO[bytes]) -> None:
    """Verify a signature of a whole file, which is mapped: it may be larger than memory. Raises `InvalidSignature`."""
    if not os.fstat(stream.fileno()).st_size:
        key.verify(signature, b"")
        return
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
        key.verify(signature, content)
