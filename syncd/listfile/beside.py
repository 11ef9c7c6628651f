"""Checksums and signatures that partners put beside a list file."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from syncd.errors import UsageError

_CHUNK: Final = 1 << 20
_MOST: Final = 1 << 20
_DIGEST: Final = re.compile(rb"\\?([0-9a-fA-F]{64})(?:[ \t]+\*?(.*))?")
_SIGNATURES: Final = (".sig", ".asc", ".minisig", ".p7s")


def check_digest(path: Path, stream: IO[bytes]) -> None:
    """Compare a file with the SHA-256 in ``FILE.sha256``, if there is one, and go back to its beginning.

    Raises `UsageError` if they differ, or if the checksum cannot be read.
    """
    beside = path.with_name(path.name + ".sha256") if path.name and str(path) != "-" else None
    if beside is None or not beside.is_file():
        return
    wanted = _stated(beside, os.fsencode(path.name))
    found = hashlib.file_digest(stream, "sha256").hexdigest()
    stream.seek(0)
    if found != wanted:
        raise UsageError(
            f"{path.name} does not match the checksum in {beside.name}: it was cut off, altered, or is another version",
            hint="fetch both again; nothing was published",
        )


def _stated(beside: Path, name: bytes) -> str:
    """Return the digest that a file of checksums states for ``name``; a digest alone is of any name."""
    try:
        with beside.open("rb") as stream:
            lines = stream.read(_MOST).splitlines()
    except OSError as error:
        raise UsageError(
            f"cannot read {beside}: {error.strerror or error}", hint="make it readable, or remove it"
        ) from error
    matches = [found for line in lines if (found := _DIGEST.fullmatch(line.strip()))]
    for found in matches:
        if found[2] is None or os.path.basename(found[2]) == name:  # noqa: PTH119 - bytes
            return found[1].decode().lower()
    raise UsageError(
        f"{beside.name} has no SHA-256 of this file",
        hint="it is checked because it is beside the file: correct it, or remove it",
    )


def unchecked_signatures(paths: Iterator[Path]) -> list[Path]:
    """Return the signatures beside these files. They need a key of the signer, and so they are not checked."""
    return [
        beside for path in paths for suffix in _SIGNATURES if (beside := path.with_name(path.name + suffix)).is_file()
    ]
