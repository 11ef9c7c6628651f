"""The interface of all peers, and downloads that are resumed and verified."""

import abc
import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self, TypeVar

import stamina

from syncd.errors import HttpStatusError, MismatchError, SourceError, StaleMirrorError, TruncatedError
from syncd.fetch.endpoint import Deadline
from syncd.fetch.part import Part, Progress

ATTEMPTS: Final = 3
NOT_FOUND: Final = 404
LONGEST_WAIT: Final = 5.0
"""Most seconds between two attempts. With less time left than that there is no further attempt."""

_T = TypeVar("_T")
_SEGMENT: Final = re.compile(r"(?!\.\.?$)[A-Za-z0-9._-]+")


class Meter:
    """Counts the bytes of bodies received from a peer, each once, used or not. Safe to use from several threads.

    Headers are not counted, nor are bodies that nobody reads: those of error responses.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = 0

    @property
    def total(self) -> int:
        """The bytes so far."""
        with self._lock:
            return self._total

    def add(self, count: int) -> None:
        """Count more bytes."""
        with self._lock:
            self._total += count

    def reached(self, total: int) -> None:
        """Take over the total reported by another process; a lower one arrived late and is ignored."""
        with self._lock:
            self._total = max(self._total, total)


class UnreachableError(SourceError):
    """No answer came: a failure that may pass within seconds."""


class CutShortError(TruncatedError):
    """An answer broke off: a failure that may pass within seconds."""


@dataclass(frozen=True)
class Download:
    """One file to fetch: ``length`` in bytes, ``sha256`` in hex, ``target`` a staging file."""

    path: str
    target: Path
    length: int
    sha256: str


class Peer(abc.ABC):
    """A place to fetch from, for one operation. Safe to use from several threads.

    Paths are relative, of letters, digits, ``.``, ``_``, ``-`` and ``/``.
    """

    attempts: ClassVar[int] = ATTEMPTS
    """at one file, if its failures may pass"""

    def __init__(self, deadline: Deadline, meter: Meter | None = None) -> None:
        self._deadline = deadline
        self.meter = meter or Meter()

    @abc.abstractmethod
    def stream(self, path: str, limit: int, *, fresh: bool = False) -> Iterator[bytes]:
        """Yield the bytes of ``path`` as they come, in one attempt. Errors are raised while iterating, not before.

        ``fresh``: caches in between must ask the server, and not answer by themselves (RFC 9111, 5.2.1.4).
        Raises `HttpStatusError` (404: no such file), `TruncatedError`, `DeadlineExceeded`, and `SourceError` for
        everything else, including a file of more than ``limit`` bytes.
        """

    @abc.abstractmethod
    def open_tail(
        self, path: str, start: int, length: int, *, fresh: bool = False
    ) -> contextlib.AbstractContextManager["Tail"]:
        """Open a file of ``length`` bytes from ``start``, or from 0 if the peer cannot continue.

        Raises as `stream`, and `TruncatedError` if the peer announces another length.
        """

    def close(self) -> None:  # noqa: B027 - a folder has nothing to close
        """Close all connections."""

    def end(self) -> None:
        """Leave the operation no time at all: threads that wait for an answer stop waiting."""
        self._deadline.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def get(self, path: str, limit: int, *, fresh: bool = False) -> bytes:
        """Return the bytes of ``path``. Raises as `stream`, but first retries failures that may pass."""
        return self._retried(lambda: b"".join(self.stream(path, limit, fresh=fresh)))

    def get_named(self, path: str, limit: int) -> bytes:
        """Return the bytes of a file that verified metadata names. Raises as `get`.

        The file was published before the metadata. If it is not there, a cache may remember a time before, so it is
        asked for once more, past caches. Raises `StaleMirrorError` if that does not help.
        """
        try:
            return self.get(path, limit)
        except HttpStatusError as error:
            if error.status != NOT_FOUND:
                raise
        with _stale_if_missing(path):
            return self.get(path, limit, fresh=True)

    def download(self, path: str, target: Path, length: int, sha256: str, progress: Progress | None = None) -> None:
        """Fetch ``path`` into ``target``, or the rest of it, and verify ``length`` and ``sha256``.

        Raises as `get`. `TruncatedError`: the part is kept, the next call continues it. `MismatchError`: the bytes are
        wrong, and the file is removed. `StoreError`: the disk failed. Not durable yet: see `files.install_file`.
        """
        job = Download(path, target, length, sha256)
        with Part.open(target, progress or _ignore) as part:
            self._retried(lambda: self._fill(part, job))
            if part.pieced and part.sha256 != sha256:
                # A power cut or a proxy's error page can spoil a piece: the peer is to blame only for a whole file.
                part.restart()
                self._retried(lambda: self._fill(part, job))
            if part.sha256 != sha256:
                part.discard()
                raise MismatchError(
                    f"{path} is not the file that was signed: its {length} bytes have another SHA-256",
                    hint="the file is damaged or was replaced at the peer; tell its operator",
                )

    def _fill(self, part: Part, job: Download) -> None:
        if part.size > job.length:
            part.restart()
        if part.size == job.length:
            return
        with self._open_named(job, part.size) as tail:
            if tail.start == 0:
                part.restart()
            part.pieced = part.size > 0
            for chunk in tail.chunks:
                if part.size + len(chunk) > job.length:
                    raise TruncatedError(
                        f"{job.path}: the peer sent more than the {job.length} bytes that were signed",
                        hint="a proxy may be answering in the peer's place, or the file is damaged there",
                    )
                part.append(chunk)
        if part.size < job.length:
            raise CutShortError(
                f"{job.path}: {part.size} of {job.length} bytes arrived", hint="the next sync continues there"
            )

    @contextlib.contextmanager
    def _open_named(self, job: Download, start: int) -> Iterator["Tail"]:
        """Open a file that verified metadata names, as `get_named` does."""
        with contextlib.ExitStack() as opened:
            try:
                tail = opened.enter_context(self.open_tail(job.path, start, job.length))
            except HttpStatusError as error:
                if error.status != NOT_FOUND:
                    raise
                with _stale_if_missing(job.path):
                    tail = opened.enter_context(self.open_tail(job.path, start, job.length, fresh=True))
            yield tail

    def _retried(self, work: Callable[[], _T]) -> _T:
        retry = stamina.RetryingCaller(attempts=self.attempts, timeout=None, wait_initial=0.5, wait_max=LONGEST_WAIT)
        return retry(self._try_again, work)

    def _try_again(self, error: Exception) -> bool | float:
        """Return whether to try again, or after how many seconds."""
        passing = isinstance(error, (UnreachableError, CutShortError))
        asked = None
        if isinstance(error, HttpStatusError):
            passing, asked = error.status >= 500, error.retry_after  # noqa: PLR2004 - RFC 9110, 15.6
        if not passing or self._deadline.left() <= LONGEST_WAIT:
            return False
        if asked is not None:
            return asked if asked <= LONGEST_WAIT else False
        return True


@dataclass(frozen=True)
class Tail:
    """The rest of a file: ``chunks``, from the offset ``start``."""

    start: int
    chunks: Iterator[bytes]


class _Cancelled(Exception):  # noqa: N818 - not an error: it ends a download that is no longer needed
    pass


def download_all(peer: Peer, jobs: Sequence[Download], *, parallel: int = 4, progress: Progress | None = None) -> None:
    """Download ``jobs``, each target once, ``parallel`` at a time. ``progress`` is called by one thread at a time.

    Raises the first error, as `Peer.download`, after stopping the others; their parts are kept.
    """
    stopped, lock = threading.Event(), threading.Lock()

    def report(count: int) -> None:
        if stopped.is_set():
            raise _Cancelled
        if progress is not None:
            with lock:
                progress(count)

    def run(job: Download) -> None:
        try:
            report(0)
            peer.download(job.path, job.target, job.length, job.sha256, report)
        except _Cancelled:
            return
        except BaseException:
            stopped.set()
            raise

    with ThreadPoolExecutor(parallel, "syncd-download") as pool:
        futures = [pool.submit(run, job) for job in {job.target: job for job in jobs}.values()]
        try:
            for future in as_completed(futures):
                future.result()
        except Exception:
            stopped.set()
            raise
        except BaseException:  # Ctrl-C: leaving the pool waits for its threads, and those for a peer that may be silent
            stopped.set()
            peer.end()
            raise


def checked_path(path: str) -> str:
    """Return ``path`` if it is a relative path that stays below the peer's address; raises `SourceError`."""
    if not all(_SEGMENT.fullmatch(name) for name in path.split("/")):
        raise SourceError("the peer's metadata names a path that cannot be in a feed", hint="tell its operator")
    return path


@contextlib.contextmanager
def _stale_if_missing(path: str) -> Iterator[None]:
    try:
        yield
    except HttpStatusError as error:
        if error.status == NOT_FOUND:
            raise StaleMirrorError.of(f"{path}, which verified metadata names, is not there (404)") from error
        raise


def too_large(path: str, limit: int) -> SourceError:
    """Return the error for a file larger than its limit."""
    return SourceError(
        f"{path} is larger than the {limit} bytes allowed", hint="check that the address is that of a syncd feed"
    )


def wrong_length(path: str, announced: int, length: int) -> TruncatedError:
    """Return the error for a file that does not have the signed length at the peer."""
    return TruncatedError(
        f"{path} has {announced} bytes at the peer, not {length}",
        hint="a proxy may be answering in its place, or the file is damaged",
    )


def _ignore(_: int) -> None:
    pass
