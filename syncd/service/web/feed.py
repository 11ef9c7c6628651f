"""The feed below ``/feed/``, for matchers whose token gives access to it."""

from collections.abc import Callable
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from syncd.feed.folder import FeedFolder
from syncd.feed.offer import list_at
from syncd.service.access import READERS, Visitor
from syncd.service.admission import Admission, TokenRefusal
from syncd.service.web.answers import TOO_MANY_TOKENS, Answer, plain
from syncd.service.web.files import NOT_ALLOWED, UNAUTHORISED, FeedFiles

PREFIX: Final = "/feed/"

OnPull = Callable[[str, str, int], None]
"""Called with the name of a matcher or mirror, the path of a list's file below `PREFIX`, and the bytes that it got."""

FORBIDDEN: Final = plain(403, "forbidden")


class FeedRoutes:
    """Admits matchers and mirrors to the files of ``feed``, and passes on what they pull."""

    def __init__(self, feed: FeedFolder, admission: Admission, on_pull: OnPull, look: float) -> None:
        self._admission, self._on_pull = admission, on_pull
        self._files = FeedFiles(feed.root, look, feed.store)

    def refresh(self) -> None:
        """Check the files on disk at the next request, because something was published. Safe from any thread."""
        self._files.refresh()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request whose path begins with `PREFIX`."""
        visitor = self._admission.admit(scope, PREFIX)
        if isinstance(visitor, TokenRefusal):
            await (_too_many(visitor.wait) if visitor.wait else UNAUTHORISED)(send)
        elif scope["method"] not in {"GET", "HEAD"}:
            await NOT_ALLOWED(send)
        elif visitor.kind not in READERS:
            await FORBIDDEN(send)
        else:
            await self._file(visitor, scope["path"].removeprefix(PREFIX), scope, receive, send)

    async def _file(self, visitor: Visitor, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        name = list_at(path)
        if name is None:
            await self._files(path, scope, receive, send)
        elif not visitor.may_read(name):
            await FORBIDDEN(send)
        else:
            counted = _Counted(send)
            try:
                await self._files(path, scope, receive, counted)
            finally:
                if counted.is_file:
                    self._on_pull(visitor.name, path, counted.sent)


def _too_many(wait: int) -> Answer:
    return plain(429, TOO_MANY_TOKENS[0], (b"retry-after", str(wait).encode()))


class _Counted:
    """Counts the bytes of a file, or of a range of it, that were sent."""

    def __init__(self, send: Send) -> None:
        self._send, self.sent = send, 0
        self.is_file = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.is_file = message["status"] in {200, 206}
        await self._send(message)
        if self.is_file:
            self.sent += len(message.get("body", b""))
