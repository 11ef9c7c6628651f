"""The feed's files below ``/feed/``, for those whose token says so. Raw ASGI: polls come by the thousand.

What is polled is answered from memory. It is read again when the daemon has published, and looked at once a second.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncd.feed.offer import CHANGING, IMMUTABLE, NO_STORE, Blocks, InMemory, file_response, is_known, list_at
from syncd.service.access import Access, Kind, Visitor
from syncd.service.pulls import Pulls
from syncd.service.web.answers import Answer, header, plain

PREFIX: Final = "/feed/"

UNAUTHORISED: Final = plain(401, "unauthorised", (b"www-authenticate", b"Bearer"))
FORBIDDEN: Final = plain(403, "forbidden")
NOT_FOUND: Final = plain(404, "not found")
NOT_ALLOWED: Final = plain(405, "method not allowed", (b"allow", b"GET, HEAD"))


_SMALL: Final = 256 << 10
"""Bytes of a file that is kept in memory, at most."""
_SMALL_FILES: Final = 16 << 20
"""Bytes of all of them."""


@dataclass(frozen=True)
class _SmallFile:
    """The two answers about a small file, ready to send."""

    tag: bytes
    whole: Answer
    known: Answer


class FeedRoutes:
    """Serves ``folder``."""

    def __init__(self, folder: Path, access: Access, pulls: Pulls, look: float) -> None:
        self._folder, self._access, self._pulls, self._look = folder.resolve(), access, pulls, look
        self._files = {PREFIX + path: InMemory(self._folder, path) for path in CHANGING}
        self._held: dict[str, tuple[float, _SmallFile | None]] = {}
        self._small_files = _SmallFiles()

    def refresh(self) -> None:
        """Something was published: look at the next request. From any thread."""
        self._held = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request whose path begins with `PREFIX`."""
        visitor = self._access.admit(header(scope, b"authorization"))
        path: str = scope["path"]
        answer: Answer | None = None
        if visitor is None:
            answer = UNAUTHORISED
        elif scope["method"] not in {"GET", "HEAD"}:
            answer = NOT_ALLOWED
        elif visitor.kind is not Kind.MATCHER:
            answer = FORBIDDEN
        elif path in self._files:
            answer = self._small(path, header(scope, b"if-none-match"))
        if answer is not None:
            await answer(send)
        elif visitor is not None:
            await self._file(visitor, path.removeprefix(PREFIX), scope, receive, send)

    def _small(self, path: str, asked: bytes) -> Answer:
        now = asyncio.get_running_loop().time()
        known = self._held  # what is published while we read is read by the next: `refresh` puts another in its place
        looked, held = known.get(path, (-self._look, None))
        if now - looked >= self._look:
            held = _held(self._files[path].read(), held)
            known[path] = (now, held)
        if held is None:
            return NOT_FOUND
        same = asked == held.tag or (asked and is_known(held.tag.decode(), asked.decode("latin-1")))
        return held.known if same else held.whole

    async def _file(self, visitor: Visitor, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        name = list_at(path)
        if name is not None and not visitor.may_read(name):
            await FORBIDDEN(send)
            return
        found = self._immutable(path, scope)
        if found is None:
            await NOT_FOUND(send)
            return
        tag, respond = found
        if is_known(tag, header(scope, b"if-none-match").decode("latin-1")):
            await Answer(304, [(b"etag", tag.encode()), (b"cache-control", IMMUTABLE.encode())], b"")(send)
            return
        counted = _Counted(send)
        try:
            await respond(scope, receive, counted)  # which ends where the client has gone
        finally:
            if name is not None:
                self._pulls.note(visitor.name, path, counted.sent)

    def _immutable(self, path: str, scope: Scope) -> "_Found | None":
        whole = scope["method"] == "GET" and not header(scope, b"range")
        known = self._small_files.get(path) if whole else None
        if known is not None:
            return known
        response = file_response(self._folder, path)
        if response is None:
            return None
        found = response.headers["etag"], response
        length = int(response.headers["content-length"])
        return self._small_files.keep(path, *found, length) if whole and length <= _SMALL else found


_Found = tuple[str, ASGIApp]
"""The entity tag of a file, and what answers with it."""


class _SmallFiles:
    """Small files that never change, in memory: a thousand matchers ask for the same ones when a version is published.

    Those asked for last are kept, up to so many bytes.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[_Found, int]] = OrderedDict()
        self._size = 0

    def get(self, path: str) -> _Found | None:
        """One that is kept."""
        kept = self._kept.get(path)
        if kept is None:
            return None
        self._kept.move_to_end(path)
        return kept[0]

    def keep(self, path: str, tag: str, response: Blocks, length: int) -> _Found:
        """Read one, and keep it. Its bytes are few: reading them here takes less than handing them to a thread."""
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


class _Counted:
    """Counts the bytes of a body."""

    def __init__(self, send: Send) -> None:
        self._send, self.sent = send, 0

    async def __call__(self, message: Message) -> None:
        await self._send(message)
        self.sent += len(message.get("body", b""))


def _held(found: tuple[bytes, str] | None, before: _SmallFile | None) -> _SmallFile | None:
    if found is None:
        return None
    content, tag = found[0], found[1].encode()
    if before is not None and before.tag == tag:
        return before
    kept: list[tuple[bytes, bytes]] = [(b"etag", tag), (b"cache-control", NO_STORE.encode())]
    kind = (b"content-type", b"application/json")
    return _SmallFile(tag, Answer(200, [kind, *kept], content), Answer(304, kept, b""))
