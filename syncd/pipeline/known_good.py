"""Digests that are never published: built in, or listed in a file of the operator's.

A file may have millions of rows. It is read once, into segments in ``<state>/known-good/<SHA-256 of the file>/``, which
are mapped afterwards. The last good reading of a file stays in force while the file cannot be used.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from syncd.errors import ConfigError, StoreError, SyncdError, UsageError
from syncd.feed.snapshot import open_segment
from syncd.files import (
    PRIVATE_FILE,
    check_writers,
    install_bytes,
    install_file,
    make_folder,
    read_bytes,
    remove_temporaries,
    sha256_file,
    storage,
)
from syncd.format.manifest import SegmentRef
from syncd.format.meaningless import is_meaningless, meaningless_digests
from syncd.format.rows import Digests, Mask, as_digests
from syncd.format.search import DigestSearch
from syncd.format.stack import Stack
from syncd.listfile.digests import load_digests
from syncd.locks import lock, lock_if_free
from syncd.model import Algorithm, Digest

BUILT_IN: Final = "1"
"""The name of the built-in digests; increment it if they change."""
_PRIVATE: Final = 0o700
_INDEX: Final = "index.json"
_SCRATCH: Final = ".work"
_READINGS: Final = "files.json"
_MAX_INDEX: Final = 1 << 20
_CHUNK: Final = 1 << 20
_PATIENCE: Final = 600.0
"""Seconds to wait while another sync reads a known-good file."""

DigestsBy = Mapping[Algorithm, Digests]


def _nothing() -> DigestsBy:
    return {}


@dataclass(frozen=True)
class KnownGood:
    """The digests that must not be in the heads of some lists. Files are opened when they are first needed."""

    name: str = ""
    """what it consists of; empty: nothing at all, as for lists that an older syncd published"""
    refs: tuple[SegmentRef, ...] = field(default=(), repr=False)
    """the segments of the operator's file"""
    _open: Callable[[], DigestsBy] = field(default=_nothing, repr=False, compare=False)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the operator's file; empty if there is none."""
        return self.name.partition(":")[2]

    @cached_property
    def listed(self) -> DigestsBy:
        """The digests of the operator's file, sorted and unique. Raises `StoreError` if they were lost."""
        return self._open() if self.sha256 else {}

    @cached_property
    def _searches(self) -> Mapping[Algorithm, DigestSearch]:
        return {algorithm: DigestSearch(digests) for algorithm, digests in self.listed.items()}

    def mask(self, algorithm: Algorithm, digests: Digests) -> Mask:
        """Mark the digests that must not be published. O(k log n)."""
        if not self.name or not len(digests):
            return np.zeros(len(digests), bool)
        found = is_meaningless(algorithm, digests)
        search = self._searches.get(algorithm)
        if search is not None and search.digests.dtype == digests.dtype:
            found |= search.find(digests)[1]
        return found

    def why(self, digest: Digest) -> str:
        """Return why a digest is never published: "built in", "known-good file", or "" if it may be."""
        if not self.name:
            return ""
        one = as_digests([digest.value])
        if is_meaningless(digest.algorithm, one).any():
            return "built in"
        return "known-good file" if self.mask(digest.algorithm, one).any() else ""

    def on(self, algorithm: Algorithm, stack: Stack) -> Digests:
        """Return the digests, sorted, that a whole stack lists: the shorter of the two is searched in the other."""
        width = stack.width
        if not self.name or width is None:
            return as_digests(())
        built_in = as_digests(meaningless_digests(algorithm, width))
        found = {digest.ljust(width, b"\0") for digest in built_in[stack.contains(built_in)]}
        listed = self.listed.get(algorithm)
        if listed is not None and listed.dtype.itemsize == width:
            rows = sum(len(segment) for segment in stack.segments)
            if len(listed) <= rows:
                parts = (listed[start : start + _CHUNK] for start in range(0, len(listed), _CHUNK))
                named = [part[stack.contains(part)] for part in parts]
            else:
                named = [part.digests[self._searches[algorithm].find(part.digests)[1]] for part in stack.effective()]
            found |= {digest.ljust(width, b"\0") for part in named for digest in part}
        return as_digests(found)


NOTHING_KNOWN: Final = KnownGood()
ONLY_BUILT_IN: Final = KnownGood(BUILT_IN)


@dataclass(frozen=True)
class KnownGoodFolder:
    """The folder with the readings of known-good files, mode 0700."""

    root: Path

    def named(self, name: str) -> KnownGood:
        """Return the digests that a `KnownGood.name` stands for. Their files are not opened yet."""
        known = {NOTHING_KNOWN.name: NOTHING_KNOWN, ONLY_BUILT_IN.name: ONLY_BUILT_IN}.get(name)
        return known or KnownGood(name, self._refs(name.partition(":")[2]), lambda: self._map(name.partition(":")[2]))

    def reading(self, refs: tuple[SegmentRef, ...]) -> KnownGood | None:
        """Return the digests of the known-good file with these segments; None if the segments were removed."""
        names = (f"{BUILT_IN}:{path.name}" for path in self.root.glob("*") if path.is_dir())
        return next((known for known in map(self.named, names) if known.refs == refs), None)

    def is_lost(self, known: KnownGood) -> bool:
        """Return True if the segments of a file's digests are no longer here."""
        return bool(known.sha256) and not self._refs(known.sha256)

    def last_good(self, path: Path | None) -> KnownGood:
        """Return what is never published while the file at ``path`` is configured, by its last good reading."""
        reading = self._readings().get(str(path)) if path else None
        return self.named(f"{BUILT_IN}:{reading['sha256']}") if reading else ONLY_BUILT_IN

    def read(self, path: Path, owners: Collection[int] = ()) -> KnownGood:
        """Return what is never published while the file at ``path`` is configured; read the file if it has changed.

        ``owners``: users who may own it, besides root. Raises `ConfigError` if it cannot be used, `StoreError`.
        """
        check_writers(path, owners, "known-good file")
        state = _state_of(path)
        reading = self._readings().get(str(path))
        if reading and reading["state"] == state and self._refs(reading["sha256"]):
            return self.named(f"{BUILT_IN}:{reading['sha256']}")
        make_folder(self.root, _PRIVATE)
        with lock(self._lock, "reading a known-good file", _PATIENCE):
            self._remove_temporaries()
            sha256 = _sha256(path)
            if not self._refs(sha256):
                self._build(path, sha256)
            self._install(_READINGS, {**self._readings(), str(path): {"state": state, "sha256": sha256}})
        return self.named(f"{BUILT_IN}:{sha256}")

    def collect(self, paths: Iterable[Path], names: Iterable[str]) -> None:
        """Remove the readings that are neither of one of the configured files nor in force under one of ``names``.

        Leaves everything alone while a file is read: the next sync removes it.
        """
        with self._unless_read() as free:
            if free:
                self._remove_temporaries()
                self._remove_unnamed({str(path) for path in paths}, names)

    def remove_left_over(self) -> None:
        """Remove files that a killed process left half-written, unless a file is read now. Raises `StoreError`."""
        with self._unless_read() as free:
            if free:
                self._remove_temporaries()

    @contextmanager
    def _unless_read(self) -> Iterator[bool]:
        """Hold the lock and yield True; yield False if no file was ever read, or one is read now."""
        if not self.root.exists():
            yield False
            return
        with lock_if_free(self._lock, "removing old readings of known-good files") as free:
            yield free

    @property
    def _lock(self) -> Path:
        return self.root / "lock"

    def _remove_temporaries(self) -> None:
        remove_temporaries(self.root)
        for folder in self.root.glob("*/"):
            remove_temporaries(folder)
            shutil.rmtree(folder / _SCRATCH, ignore_errors=True)

    def _remove_unnamed(self, configured: Collection[str], names: Iterable[str]) -> None:
        readings = {path: reading for path, reading in self._readings().items() if path in configured}
        kept = {reading["sha256"] for reading in readings.values()} | {name.partition(":")[2] for name in names}
        if any(path.is_dir() and path.name not in kept for path in self.root.glob("*")):
            self._install(_READINGS, readings)
            for path in self.root.glob("*"):
                if path.is_dir() and path.name not in kept:
                    shutil.rmtree(path, ignore_errors=True)

    def _build(self, path: Path, sha256: str) -> None:
        """Read a file into segments; the index is written last, and completes the reading."""
        folder = make_folder(self.root / sha256, _PRIVATE)
        scratch = make_folder(folder / _SCRATCH, _PRIVATE)
        try:
            refs = []
            for segment in load_digests(path, scratch).values():
                refs.append(segment.ref)
                install_file(segment.path, self._path(sha256, segment.ref), PRIVATE_FILE)
            if not refs:
                raise UsageError("it names no digest")
            if _sha256(path) != sha256:
                raise ConfigError(f"{path} changed while it was read", hint="the next sync reads it again")
            self._install(f"{sha256}/{_INDEX}", [ref.model_dump(mode="json") for ref in refs])
        except UsageError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ConfigError(f"known-good file {path}: {error.message}", hint=_CORRECT) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _path(self, sha256: str, ref: SegmentRef) -> Path:
        return self.root / sha256 / f"{ref.algorithm}.arrow"

    def _map(self, sha256: str) -> DigestsBy:
        refs = self._refs(sha256)
        if not refs:
            raise StoreError(
                "the digests of a known-good file in force are missing on this disk",
                hint=f"run `syncd sync`: it reads the file again; they were in {self.root / sha256}",
            )
        return {ref.algorithm: open_segment(self._path(sha256, ref), ref).digests for ref in refs}

    def _refs(self, sha256: str) -> tuple[SegmentRef, ...]:
        """Return the segments of a reading; none if it is not here or not whole."""
        document = self._load(f"{sha256}/{_INDEX}") if sha256 else None
        try:
            refs = tuple(SegmentRef.model_validate(one) for one in document or ())
        except ValueError:
            return ()
        with storage(self.root, "look at"):
            paths = [(self._path(sha256, ref), ref) for ref in refs]
            whole = all(path.is_file() and path.stat().st_size == ref.length for path, ref in paths)
        return refs if whole else ()

    def _readings(self) -> dict[str, Any]:
        """Return by path the last good reading of each known-good file."""
        document = self._load(_READINGS)
        if not isinstance(document, dict):
            return {}
        whole = {"state", "sha256"}
        return {path: one for path, one in document.items() if isinstance(one, dict) and whole <= one.keys()}

    def _load(self, name: str) -> Any:
        with suppress(ValueError):  # a damaged one is made again
            if (self.root / name).exists():
                return json.loads(read_bytes(self.root / name, _MAX_INDEX))
        return None

    def _install(self, name: str, document: Any) -> None:
        make_folder(self.root, _PRIVATE)
        install_bytes(self.root / name, json.dumps(document, sort_keys=True).encode(), PRIVATE_FILE)


def read_aside(path: Path, state: Path, owners: Collection[int], *, whole: bool) -> KnownGood:
    """Return what a known-good file names, without installing anything, to check it.

    ``whole``: read the file, unless the folder ``state`` has a reading of it. Raises `ConfigError`, `StoreError`.
    """
    check_writers(path, owners, "known-good file")
    sha256 = _sha256(path) if whole else ""
    held = KnownGoodFolder(state / "known-good").named(f"{BUILT_IN}:{sha256}") if whole else ONLY_BUILT_IN
    if not whole or held.refs:
        return held
    with tempfile.TemporaryDirectory() as scratch:
        known = KnownGoodFolder(Path(scratch)).read(path, owners)
        listed = known.listed  # the maps outlive the folder
    return KnownGood(known.name, known.refs, lambda: listed)


_CORRECT: Final = "correct the file; its last good reading stays in force, but a list's first version needs one"


def _state_of(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _sha256(path: Path) -> str:
    try:
        return sha256_file(path)
    except SyncdError as error:
        raise ConfigError(f"known-good file: {error.message}", hint=_CORRECT) from error
