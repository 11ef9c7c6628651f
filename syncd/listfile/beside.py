"""Checksums and signatures that partners put beside a list file."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

from syncd.errors import UsageError

_MOST: Final = 1 << 20
_LINES: Final = (
    re.compile(rb"\\?(?P<digest>[0-9a-fA-F]{64})(?:[ \t]+\*?(?P<name>.*))?"),
    re.compile(rb"\\?SHA2?-?256 ?\((?P<name>.*)\) ?= (?P<digest>[0-9a-fA-F]{64})", re.IGNORECASE),
)
"""the output of sha256sum, or a digest alone; the output of BSD sha256 and openssl"""
SIGNATURE: Final = ".sig"
_OTHERS: Final = (".asc", ".minisig", ".p7s")


def check_digest(path: Path, stream: IO[bytes]) -> None:
    """Compare a file with the SHA-256 in ``FILE.sha256``, if there is one, and go back to its beginning.

    Raises `UsageError` if they differ, or if the checksum cannot be read.
    """
    checksum = beside(path, ".sha256")
    if checksum is None:
        return
    wanted = _stated(checksum, os.fsencode(path.name))
    try:
        found = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type] # it reads
        stream.seek(0)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", hint="copy it again") from error
    if found != wanted:
        raise UsageError(
            f"{path.name} does not match the checksum in {checksum.name}: it was cut off, altered, or is another "
            "version",
            hint="fetch both again; nothing was published",
        )


def beside(path: Path, suffix: str) -> Path | None:
    """Return the file beside a list file that has its name and this suffix, if there is one."""
    if not path.name or str(path) == "-":
        return None
    found = path.with_name(path.name + suffix)
    return found if os.path.isfile(found) else None  # noqa: PTH113 - no error for a name that is too long


def _stated(checksum: Path, name: bytes) -> str:
    """Return the digest that a file of checksums states for ``name``; a digest alone is of any name."""
    try:
        with checksum.open("rb") as stream:
            lines = stream.read(_MOST).splitlines()
    except OSError as error:
        raise UsageError(
            f"cannot read {checksum}: {error.strerror or error}", hint="make it readable, or remove it"
        ) from error
    for found in (pattern.fullmatch(line.strip()) for line in lines for pattern in _LINES):
        if found and (found["name"] is None or os.path.basename(found["name"]) == name):  # noqa: PTH119 - bytes
            return found["digest"].decode().lower()
    raise UsageError(
        f"{checksum.name} has no SHA-256 of this file",
        hint="it is checked because it is beside the file: correct it, or remove it",
    )


def unchecked_signatures(paths: Iterable[Path], *, signer: bool) -> list[Path]:
    """Return the signatures beside these files that are not checked, because that needs the key of the signer.

    ``signer``: that key is known, and checks those of openssl.
    """
    suffixes = _OTHERS if signer else (SIGNATURE, *_OTHERS)
    found = (beside(path, suffix) for path in paths for suffix in suffixes)
    return [signature for signature in found if signature is not None]
