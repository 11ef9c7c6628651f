"""The feed's files below ``/feed/``, for those whose token says so. Raw ASGI: polls come by the thousand.

What is polled is answered from memory. It is read again when the daemon has published, and looked at once a second.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from syncd.feed.offer import CHANGING, NO_STORE, InMemory, file_response, is_known, list_at
from syncd.service.access import Access, Kind, Visitor
from syncd.service.pulls import Pulls
from syncd.service.web.answers import Answer, header, plain

PREFIX: Final = "/feed/"

UNAUTHORISED: Final = plain(401, "unauthorised", (b"www-authenticate", b"Bearer"))
FORBIDDEN: Final = plain(403, "forbidden")
NOT_FOUND: Final = plain(404, "not found")
NOT_ALLOWED: Final = plain(405, "method not allowed", (b"allow", b"GET, HEAD"))


@dataclass(frozen=True)
class _Held:
    """The two answers about a small file, ready to send."""

    tag: bytes
    whole: Answer
    known: Answer


class Feed:
    """Serves ``folder``."""

    def __init__(self, folder: Path, access: Access, pulls: Pulls, look: float) -> None:
        self._folder, self._access, self._pulls, self._look = folder.resolve(), access, pulls, look
        self._files = {PREFIX + path: InMemory(self._folder, path) for path in CHANGING}
        self._held: dict[str, tuple[float, _Held | None]] = {}

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
        response = file_response(self._folder, path)
        if response is None:
            await NOT_FOUND(send)
            return
        asked = header(scope, b"if-none-match").decode("latin-1")
        if is_known(response.headers["etag"], asked):
            kept = [(key, value) for key, value in response.raw_headers if key in {b"etag", b"cache-control"}]
            await Answer(304, kept, b"")(send)
            return
        counted = _Counted(send)
        try:
            await response(scope, receive, counted)  # which ends where the client has gone
        finally:
            if name is not None:
                self._pulls.note(visitor.name, path, counted.sent)


class _Counted:
    """Counts the bytes of a body."""

    def __init__(self, send: Send) -> None:
        self._send, self.sent = send, 0

    async def __call__(self, message: Message) -> None:
        await self._send(message)
        self.sent += len(message.get("body", b""))


def _held(found: tuple[bytes, str] | None, before: _Held | None) -> _Held | None:
    if found is None:
        return None
    content, tag = found[0], found[1].encode()
    if before is not None and before.tag == tag:
        return before
    kept: list[tuple[bytes, bytes]] = [(b"etag", tag), (b"cache-control", NO_STORE.encode())]
    kind = (b"content-type", b"application/json")
    return _Held(tag, Answer(200, [kind, *kept], content), Answer(304, kept, b""))
