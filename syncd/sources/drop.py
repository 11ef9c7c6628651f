"""The source of a partner that drops files: into a folder of this machine, or at an https address.

Full lists: the newest complete file is the whole list. Increments: each file's name has a number, its place in the
sequence, and says ``full``, ``add`` or ``remove``; no number may be missing.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue

from syncd.errors import ConfigError, FeedError, HttpStatusError, SourceError, UsageError
from syncd.fetch import Deadline, Endpoint, Peer, open_peer
from syncd.files import sha256_file, storage
from syncd.format.batch import Batch, WholeList
from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.format.freshness import SourceAges
from syncd.format.manifest import Media, Purpose
from syncd.listfile import ListFiles
from syncd.listfile.beside import beside
from syncd.listfile.minisign import SUFFIX as MINISIG
from syncd.listfile.minisign import check_minisign
from syncd.listfile.openpgp import SUFFIXES, check_openpgp
from syncd.listfile.profile import Profile, chosen
from syncd.model import ListName
from syncd.sources.source import Memory, check_kind
from syncd.sources.statements import ListKind, PollRequest, StatedFile

Mode = Literal["full", "increments"]
Complete = Literal["checksum", "rename"]

_BESIDE: Final = (".sha256", MINISIG, *SUFFIXES)
_UNFINISHED: Final = (".part", ".tmp", ".filepart", ".crdownload", ".partial")
_NUMBERED: Final = re.compile(r"(?:.*[^0-9])?(?P<number>[0-9]{1,15})\.(?P<kind>full|add|remove)\.[^/]+")
_LARGEST: Final = 64 << 30
_SMALL: Final = 1 << 20
_NOT_FOUND: Final = 404
_TRIES: Final = 3
"""How often a file is fetched that is replaced while it is fetched."""
_ASIDE: Final = "rows that cannot be read"


@dataclass(frozen=True, kw_only=True)
class Drop:
    """One configured drop: its place, the form of its files, and what must vouch for them."""

    name: str
    list: ListName
    folder: Path | None = None
    url: str | None = None
    """the address of one file, if there is no folder"""
    mode: Mode = "full"
    complete: Complete = "checksum"
    files: str = "*"
    """the pattern of the files' names"""
    profile: str | None = None
    map: str | None = None
    delimiter: str | None = None
    algorithm: str | None = None
    minisign_key: Path | None = None
    openpgp_keyring: Path | None = None
    ca: Path | None = None
    proxy: str | None = None
    media: Media = "any"
    purpose: Purpose = "live"
    deadline: float = 3600.0
    caps: Caps = DEFAULT_CAPS
    ages: SourceAges | None = None
    type: Literal["drop"] = "drop"

    @property
    def lists(self) -> tuple[ListName, ...]:
        """Its only list."""
        return (self.list,)

    @property
    def kinds(self) -> Mapping[ListName, ListKind]:
        """See `StatedSource.kinds`."""
        return {self.list: ListKind(self.media, self.purpose)}

    @property
    def shape(self) -> JsonValue:
        """See `StatedSource.shape`."""
        form = {"profile": self.profile, "map": self.map, "delimiter": self.delimiter, "algorithm": self.algorithm}
        place = {"folder": str(self.folder) if self.folder else None, "url": self.url, "files": self.files}
        return {"list": self.list, "mode": self.mode, **place, **form}

    def read_profile(self) -> Profile:
        """Return the places of the values in a file. Raises `UsageError`.

        Cases are refused: what is polled is kept as evidence, and a case contains personal data.
        """
        return replace(chosen(self.profile, self.map, self.delimiter, self.algorithm), cases=False)

    def check(self) -> None:
        """Check that the profile, the keys and the folder can be used. Raises `ConfigError`."""
        try:
            self.read_profile()
        except UsageError as error:
            raise ConfigError(f"source {self.name}: {error.message}", hint=error.hint) from error
        for path in (self.minisign_key, self.openpgp_keyring, self.ca):
            if path is not None and not path.is_file():
                raise ConfigError(f"source {self.name}: {path} is missing", hint="check the configured path")
        if self.folder is not None and not self.folder.is_dir():
            raise ConfigError(f"source {self.name}: {self.folder} is not a folder", hint="check the configured path")

    def check_trust(self, memory: Memory) -> None:
        """See `Source.check_trust`: there is no trust root, only the kind to compare."""
        check_kind(self, memory)

    @contextmanager
    def poll(self, request: PollRequest) -> Iterator["DropPoll"]:
        """Look for new files. Raises `UsageError`, `SourceError`."""
        if self.folder is not None:
            yield DropPoll(self, request, _DropFolder(self))
            return
        address, _, name = (self.url or "").rpartition("/")
        endpoint = Endpoint(f"{address}/", ca=self.ca, proxy=self.proxy)
        with open_peer(endpoint, Deadline(self.deadline), meter=request.meter) as peer:
            yield DropPoll(self, request, _FileAtUrl(self, peer, name, request.scratch))


@dataclass(frozen=True)
class _DroppedFile:
    """A complete file, and what identifies its content without reading it: the length and time of its last change."""

    path: Path
    stamp: str


@dataclass(frozen=True)
class _DropFolder:
    """A folder of this machine."""

    drop: Drop

    def complete(self, known: JsonValue) -> list[_DroppedFile]:
        """Return the complete files, oldest first. Raises `SourceError` if the folder cannot be read."""
        del known
        assert self.drop.folder is not None  # noqa: S101 - for the type checker
        try:
            found = [path for path in self.drop.folder.iterdir() if self._counts(path)]
            stats = sorted((path.stat().st_mtime_ns, path.name, path) for path in found)
        except OSError as error:
            raise SourceError(
                f"the folder of source {self.drop.name} cannot be read: {error.strerror or error}",
                hint="check that it is mounted and that this user may read it",
            ) from error
        return [_DroppedFile(path, _stamp(path)) for _, _, path in stats]

    def _counts(self, path: Path) -> bool:
        name = path.name
        if name.startswith(".") or name.endswith((*_BESIDE, *_UNFINISHED)) or not fnmatchcase(name, self.drop.files):
            return False
        return path.is_file() and (self.drop.complete == "rename" or any(beside(path, one) for one in _BESIDE))


@dataclass(frozen=True)
class _FileAtUrl:
    """One file at an https address, with the files beside it."""

    drop: Drop
    peer: Peer
    name: str
    scratch: Path

    def complete(self, known: JsonValue) -> list[_DroppedFile]:
        """Fetch the file if it is complete, unless its checksum is that of ``known``.

        If the files beside it change meanwhile, the partner has replaced it, and it is fetched again. Raises
        `SourceError`, `StoreError`.
        """
        path = self.scratch / unquote(urlsplit(self.name).path)
        beside_it = {suffix: self._small(suffix) for suffix in _BESIDE}
        if self.drop.complete == "checksum" and all(content is None for content in beside_it.values()):
            return []
        for _ in range(_TRIES):
            stated = (beside_it[".sha256"] or b"").split()[:1]
            if stated and known == f"sha256:{stated[0].decode(errors='replace').lower()}":
                return [_DroppedFile(path, str(known))]
            with storage(path, "write"), path.open("wb") as stream:
                for piece in self.peer.stream(self.name, _LARGEST, fresh=True):
                    stream.write(piece)
            now = {suffix: content and self._small(suffix) for suffix, content in beside_it.items()}
            if now == beside_it:
                break
            beside_it = now
        for suffix, content in beside_it.items():
            if content is not None:
                with storage(path, "write"):
                    path.with_name(path.name + suffix).write_bytes(content)
        return [_DroppedFile(path, f"sha256:{sha256_file(path)}")]

    def _small(self, suffix: str) -> bytes | None:
        try:
            return self.peer.get(self.name + suffix, _SMALL, fresh=True)
        except HttpStatusError as error:
            if error.status == _NOT_FOUND:
                return None
            raise


def _stamp(path: Path) -> str:
    with storage(path, "read"):
        status = path.stat()
    return f"{path.name}:{status.st_size}:{status.st_mtime_ns}"


@dataclass
class DropPoll:
    """One look at the files: see `syncd.sources.statements.FilePoll`."""

    drop: Drop
    request: PollRequest
    place: _DropFolder | _FileAtUrl
    checkpoint: JsonValue = None
    _batches: int = field(default=0, init=False)

    def files(self) -> Iterator[StatedFile]:
        """Yield the files since the checkpoint. Raises `SourceError`, `FeedError`, `ConfigError`."""
        self.checkpoint = self.request.checkpoint
        yield from self._increments() if self.drop.mode == "increments" else self._newest()

    def _newest(self) -> Iterator[StatedFile]:
        known = self.checkpoint.get("stamp") if isinstance(self.checkpoint, dict) else None
        complete = self.place.complete(known)
        if not complete:
            raise SourceError(
                f"there is no complete file for source {self.drop.name}",
                hint='a file counts once its checksum or signature lies beside it; see `complete = "rename"`',
            )
        newest = complete[-1]
        if newest.stamp != known:
            yield self._read(newest, "full")
        self.checkpoint = {"stamp": newest.stamp}

    def _increments(self) -> Iterator[StatedFile]:
        numbered = self._numbered()
        last = self.checkpoint.get("number") if isinstance(self.checkpoint, dict) else None
        if not isinstance(last, int):
            last = max((number for number, (kind, _) in numbered.items() if kind == "full"), default=1) - 1
            if numbered and numbered.get(last + 1, ("", None))[0] != "full":
                yield StatedFile(self.drop.list, WholeList({}), None)
        newer = sorted(number for number in numbered if number > last)
        if newer and newer != list(range(last + 1, newer[-1] + 1)):
            missing = next(number for number in range(last + 1, newer[-1] + 1) if number not in numbered)
            raise SourceError(
                f"number {missing} of the files for source {self.drop.name} is missing or not complete",
                hint="nothing after it was used: a hole would lose its rows; ask the partner for it",
            )
        for number in newer:
            kind, found = numbered[number]
            yield self._read(found, kind)
            last = number
        if not numbered and self.checkpoint is None:
            raise SourceError(f"there is no complete file for source {self.drop.name}", hint="wait for the first")
        self.checkpoint = {"number": last}

    def _numbered(self) -> dict[int, tuple[str, _DroppedFile]]:
        """Return the files by number, with their kinds."""
        found: dict[int, tuple[str, _DroppedFile]] = {}
        for file in self.place.complete(None):
            named = _NUMBERED.fullmatch(file.path.name)
            if named is None:
                continue
            number = int(named["number"])
            if number in found:
                raise SourceError(
                    f"two files for source {self.drop.name} have number {number}", hint="ask the partner which counts"
                )
            found[number] = (named["kind"], file)
        return found

    def _read(self, found: _DroppedFile, kind: str) -> StatedFile:
        """Read one file. It must be the same before and after. Raises `FeedError`, `SourceError`."""
        try:
            self._check_signature(found.path)
            batch = self._batch(found.path, kind)
        except UsageError as error:
            if isinstance(error, ConfigError):
                raise
            raise FeedError(f"source {self.drop.name}: {error.message}", hint=error.hint) from error
        if self.drop.folder is not None and _stamp(found.path) != found.stamp:
            raise SourceError(f"{found.path.name} changed while it was read", hint="the next sync reads it again")
        aside = {_ASIDE: batch.skipped} if batch.skipped else {}
        return StatedFile(self.drop.list, batch, found.path, aside)

    def _check_signature(self, path: Path) -> None:
        drop = self.drop
        if drop.minisign_key is not None:
            check_minisign(path, self._beside(path, (MINISIG,)), drop.minisign_key)
        if drop.openpgp_keyring is not None:
            check_openpgp(path, self._beside(path, SUFFIXES), drop.openpgp_keyring)

    def _beside(self, path: Path, suffixes: tuple[str, ...]) -> Path:
        found = [one for suffix in suffixes if (one := beside(path, suffix)) is not None]
        if not found:
            raise UsageError(
                f"{path.name} has no signature beside it ({', '.join(suffixes)})", hint="ask the partner for it"
            )
        return found[0]

    def _batch(self, path: Path, kind: str) -> Batch:
        self._batches += 1
        scratch = self.request.scratch / str(self._batches)
        with storage(scratch, "create folder"):
            scratch.mkdir(0o700)
        bad, profile = scratch / "bad-rows", self.drop.read_profile()
        if kind == "full":
            return ListFiles(full=path, skip_bad=bad, profile=profile).read(scratch)
        if kind == "add":
            return ListFiles(add=path, skip_bad=bad, profile=profile).read(scratch)
        return ListFiles(remove=path, skip_bad=bad, profile=profile).read(scratch)
