"""Real hashes of this machine for the demo: of installed Python packages, of Debian packages, of files.

All are hashes of ordinary software. They are read from the lists that installers leave; files themselves are read only
if those lists are too short.
"""

import base64
import binascii
import csv
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DPKG: Final = Path("/var/lib/dpkg/info")
ENOUGH: Final = 30_000
_FOLDERS: Final = (sys.base_prefix, sys.prefix, "/usr/share", "/usr/lib")
_LARGEST: Final = 4 << 20


@dataclass(frozen=True)
class Known:
    """A file of this machine: its path, and its hash as the installer recorded it."""

    algorithm: str
    digest: str
    path: Path


def real_hashes(enough: int = ENOUGH) -> list[Known]:
    """Return at least ``enough`` different hashes, both SHA-256 and MD5; fewer if this machine has fewer files."""
    found: dict[tuple[str, str], Known] = {}
    for known in (*_python_records(), *_debian_sums()):
        found.setdefault((known.algorithm, known.digest), known)
    if len(found) < enough or len({known.algorithm for known in found.values()}) == 1:
        for known in _hashed_files():
            found.setdefault((known.algorithm, known.digest), known)
            if len(found) >= 2 * enough:
                break
    for algorithm in ("md5", "sha256"):  # an empty file is on no list
        found.pop((algorithm, hashlib.new(algorithm, b"", usedforsecurity=False).hexdigest()), None)
    return list(found.values())


def _python_records() -> Iterator[Known]:
    """Read the ``RECORD`` of every installed distribution (PEP 376, PEP 427): path, sha256=..., size."""
    for folder in {Path(entry) for entry in sys.path if entry.endswith("-packages")}:
        for record in sorted(folder.glob("*.dist-info/RECORD")):
            with record.open(newline="", encoding="utf-8", errors="replace") as stream:
                for line in csv.reader(stream):
                    if len(line) > 1 and line[1].startswith("sha256="):
                        yield from _decoded(line[1].removeprefix("sha256="), Path(os.path.normpath(folder / line[0])))


def _decoded(text: str, path: Path) -> Iterator[Known]:
    try:
        digest = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return
    if len(digest) == hashlib.sha256().digest_size:
        yield Known("sha256", digest.hex(), path)


def _debian_sums() -> Iterator[Known]:
    """Read the ``*.md5sums`` of dpkg: digest, two spaces, path."""
    for sums in sorted(DPKG.glob("*.md5sums")):
        for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
            digest, _, path = line.partition("  ")
            if len(digest) == 2 * hashlib.md5(usedforsecurity=False).digest_size:
                yield Known("md5", digest, Path("/") / path)


def _hashed_files() -> Iterator[Known]:
    for path in _files(_FOLDERS):
        try:
            content = path.read_bytes() if path.stat().st_size <= _LARGEST else b""
        except OSError:
            continue
        if content:
            yield Known("sha256", hashlib.sha256(content).hexdigest(), path)
            yield Known("md5", hashlib.md5(content, usedforsecurity=False).hexdigest(), path)


def _files(folders: Iterable[str]) -> Iterator[Path]:
    for folder in dict.fromkeys(folders):
        for path in Path(folder).rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path


def still_there(known: Iterable[Known], count: int) -> list[Known]:
    """Return up to ``count`` files of both algorithms, from all over the list, that still have the recorded hash."""
    chosen: list[Known] = []
    by_algorithm: dict[str, list[Known]] = {}
    for file in known:
        by_algorithm.setdefault(file.algorithm, []).append(file)
    for files in by_algorithm.values():
        step = max(1, len(files) // 50)
        good = [file for file in files[::step] if _has_hash(file)]
        chosen += good[: max(1, count // len(by_algorithm))]
    return chosen


def entries_of(path: Path, known: Iterable[Known]) -> list[Known]:
    """Return every entry with a hash of this file: a file may be listed by SHA-256 and by MD5."""
    content = path.read_bytes()
    hashes = {(name, hashlib.new(name, content, usedforsecurity=False).hexdigest()) for name in ("md5", "sha256")}
    return [entry for entry in known if (entry.algorithm, entry.digest) in hashes]


def _has_hash(known: Known) -> bool:
    try:
        return hashlib.new(known.algorithm, known.path.read_bytes(), usedforsecurity=False).hexdigest() == known.digest
    except OSError:
        return False
