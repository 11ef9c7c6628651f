"""The files of a feed folder over HTTP, as plain ASGI: matchers poll by the thousand.

Polled files are answered from memory. The files on disk are checked at most once in ``look`` seconds.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from syncd.errors import StoreError
from syncd.feed import layout
from syncd.feed.offer import CHANGING, IMMUTABLE, NO_STORE, Blocks, InMemory, file_response, is_known, is_offered
from syncd.files import DamagedError
from syncd.service.web.answers import Answer, header, plain
from syncd.store.store import Store

UNAUTHORISED: Final = plain(401, "unauthorised", (b"www-authenticate", b"Bearer"))
NOT_FOUND: Final = plain(404, "not found")
NOT_ALLOWED: Final = plain(405, "method not allowed", (b"allow", b"GET, HEAD"))

UNAVAILABLE: Final = plain(503, "not available now", (b"retry-after", b"10"))

_SMALL: Final = 256 << 10
"""Largest immutable file that is kept in memory, in bytes."""
_SMALL_FILES: Final = 16 << 20
"""Memory for all of them, in bytes."""

_Known = tuple[str, ASGIApp]
"""The entity tag of a file, and the application that answers with it."""


@dataclass(frozen=True)
class _ChangingFile:
    """The two answers about a file that is replaced now and then, ready to send."""

    tag: bytes
    whole: Answer
    not_modified: Answer


_ROOT: Final = ".root.json"
"""A root that is not here comes with the timestamp that it belongs to: before, readers could not verify ours."""


class FeedFiles:
    """Answers for the files of ``folder``. The caller decides who may read them.

    ``store``: fetches immutable files that are not in the folder, if it is a cache.
    """

    def __init__(self, folder: Path, look: float, store: Store | None = None) -> None:
        self._folder, self._look = folder.resolve(), look
        self._store = store if store is not None and store.shared else None
        self._coming: dict[str, asyncio.Task[bool]] = {}
        self._files = {path: InMemory(self._folder, path) for path in CHANGING}
        self._changing: dict[str, tuple[float, _ChangingFile | None]] = {}
        self._small_files = _SmallFiles()

    def refresh(self) -> None:
        """Check the files on disk at the next request, because something was published. Safe from any thread."""
        self._changing = {}

    async def __call__(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a GET or HEAD of ``path``, which is relative to the folder. Returns early if the client leaves."""
        asked = header(scope, b"if-none-match")
        if path in self._files:
            await self._changing_file(path, asked)(send)
            return
        known = self._immutable(path, scope)
        if known is None and self._store is not None and is_offered(path) and not path.endswith(_ROOT):
            try:
                known = self._immutable(path, scope) if await self._fetch(self._store, path) else None
            except StoreError:
                await UNAVAILABLE(send)
                return
        if known is None:
            await NOT_FOUND(send)
            return
        tag, respond = known
        if is_known(tag, asked.decode("latin-1")):
            await Answer(304, [(b"etag", tag.encode()), (b"cache-control", IMMUTABLE.encode())], b"")(send)
            return
        await respond(scope, receive, send)

    async def _fetch(self, store: Store, path: str) -> bool:
        """Fetch a file into the folder, once for all who ask for it now. Raises `StoreError`."""
        task = self._coming.get(path)
        if task is None:
            task = self._coming[path] = asyncio.create_task(asyncio.to_thread(_is_fetched, store, path))
            task.add_done_callback(lambda _: self._coming.pop(path, None))
        return await asyncio.shield(task)

    def _changing_file(self, path: str, asked: bytes) -> Answer:
        now = asyncio.get_running_loop().time()
        changing = self._changing  # `refresh` replaces it: a file published while we read is read by the next request
        checked, file = changing.get(path, (-self._look, None))
        if now - checked >= self._look:
            before, file = file, _prepared(self._files[path].read(), file)
            changing[path] = (now, file)
            if file is not before:
                self._small_files.forget(layout.METADATA)
        if file is None:
            return NOT_FOUND
        same = asked == file.tag or (asked and is_known(file.tag.decode(), asked.decode("latin-1")))
        return file.not_modified if same else file.whole

    def _immutable(self, path: str, scope: Scope) -> _Known | None:
        whole = scope["method"] == "GET" and not header(scope, b"range")
        known = self._small_files.get(path) if whole else None
        if known is not None:
            return known
        response = file_response(self._folder, path)
        if response is None:
            return None
        tag, length = response.headers["etag"], int(response.headers["content-length"])
        return self._small_files.keep(path, tag, response, length) if whole and length <= _SMALL else (tag, response)


def _is_fetched(store: Store, path: str) -> bool:
    try:
        store.present(path)
    except DamagedError:  # it is nowhere
        return False
    return True


class _SmallFiles:
    """Small immutable files in memory: after each publication a thousand matchers ask for the same ones.

    The files used last are kept, up to `_SMALL_FILES` bytes.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[_Known, int]] = OrderedDict()
        self._size = 0

    def get(self, path: str) -> _Known | None:
        """Return a file that is kept."""
        kept = self._kept.get(path)
        if kept is None:
            return None
        self._kept.move_to_end(path)
        return kept[0]

    def forget(self, folder: str) -> None:
        """Read the files below a folder again: a feed that was rebuilt uses the numbers of its metadata again."""
        for path in [path for path in self._kept if path.startswith(folder)]:
            self._size -= self._kept.pop(path)[1]

    def keep(self, path: str, tag: str, response: Blocks, length: int) -> _Known:
        """Read a file and keep it. It is small: reading it here takes less time than a thread would."""
        headers = [(key, value) for key, value in response.raw_headers if key != b"content-length"]
        answer = Answer(200, headers, Path(response.path).read_bytes())

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            del scope, receive
            await answer(send)

        self._kept[path] = (tag, respond), length
        self._size += length
        while self._size > _SMALL_FILES:
            self._size -= self._kept.popitem(last=False)[1][1]
        return tag, respond


def _prepared(content: tuple[bytes, str] | None, before: _ChangingFile | None) -> _ChangingFile | None:
    if content is None:
        return None
    body, tag = content[0], content[1].encode()
    if before is not None and before.tag == tag:
        return before
    shared: list[tuple[bytes, bytes]] = [(b"etag", tag), (b"cache-control", NO_STORE.encode())]
    kind = (b"content-type", b"application/json")
    return _ChangingFile(tag, Answer(200, [kind, *shared], body), Answer(304, shared, b""))
