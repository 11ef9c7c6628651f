"""A peer that is a folder: ``file://``, for feeds on a share or a USB stick."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from syncd.errors import HttpStatusError, SourceError
from syncd.fetch.endpoint import Deadline
from syncd.fetch.part import BLOCK
from syncd.fetch.peer import Meter, Peer, Tail, checked_path, too_large, wrong_length


class FilePeer(Peer):
    """A folder. For a missing file it raises the same `HttpStatusError` (404) as a server would."""

    def __init__(self, folder: Path, deadline: Deadline, meter: Meter | None = None) -> None:
        super().__init__(deadline, meter)
        with _reading(str(folder)):
            self._folder = folder.resolve()
            if not self._folder.is_dir():
                raise SourceError(f"there is no folder {folder}", hint="mount it, or correct the address")

    def stream(self, path: str, limit: int, *, fresh: bool = False) -> Iterator[bytes]:  # noqa: ARG002 - no caches
        """See `Peer.stream`."""
        with self._opened(path) as (descriptor, size):
            if size > limit:
                raise too_large(path, limit)
            yield from self._blocks(descriptor, path, size)

    @contextlib.contextmanager
    def open_tail(self, path: str, start: int, length: int, *, fresh: bool = False) -> Iterator[Tail]:  # noqa: ARG002
        """See `Peer.open_tail`."""
        with self._opened(path) as (descriptor, size):
            if size != length:
                raise wrong_length(path, size, length)
            os.lseek(descriptor, start, os.SEEK_SET)
            yield Tail(start, self._blocks(descriptor, path, length - start))

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[tuple[int, int]]:
        self._deadline.left()
        with _reading(path):
            file = (self._folder / checked_path(path)).resolve()
            if not file.is_relative_to(self._folder):
                raise SourceError(f"{path} is a link out of the folder", hint="the feed's files must lie in the folder")
            # Non-blocking: opening a named pipe would wait forever, before we see that it is one.
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SourceError(
                    f"{path} is not a file", hint="check that the address names the folder of a syncd feed"
                )
            yield descriptor, status.st_size
        finally:
            os.close(descriptor)

    def _blocks(self, descriptor: int, path: str, count: int) -> Iterator[bytes]:
        """Yield at most ``count`` bytes: the file may grow while it is read."""
        while count:
            self._deadline.left()
            with _reading(path):
                block = os.read(descriptor, min(BLOCK, count))
            if not block:
                return
            count -= len(block)
            self.meter.add(len(block))
            yield block


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise HttpStatusError(
            f"the folder has no {name}", 404, hint="check the url and the list names, and that the copy is complete"
        ) from None
    except PermissionError as error:
        raise SourceError(
            f"no permission to read {name}", hint="let the user that runs syncd read the folder"
        ) from error
    except (OSError, RuntimeError) as error:  # Path.resolve reports a loop of links as RuntimeError before 3.13
        reason = getattr(error, "strerror", None) or "a loop of links"
        raise SourceError(f"cannot read {name}: {reason}", hint="check the share or the stick") from error
