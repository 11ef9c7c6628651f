"""Answers made once and sent often, and what is read from a request, without more ado than ASGI needs."""

import json
from typing import Final

from starlette.types import Message, Scope, Send

Headers = list[tuple[bytes, bytes]]

_NO_STORE: Final = (b"cache-control", b"no-store")


class Answer:
    """A whole answer. A 204 or 304 has no body."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        length: Headers = [] if status in {204, 304} else [(b"content-length", str(len(body)).encode())]
        self.status = status
        self._start: Message = {"type": "http.response.start", "status": status, "headers": [*headers, *length]}
        self._body: Message = {"type": "http.response.body", "body": body}

    async def __call__(self, send: Send) -> None:
        """Send it."""
        await send(self._start)
        await send(self._body)


def plain(status: int, text: str, *headers: tuple[bytes, bytes]) -> Answer:
    """A line of text, never stored."""
    kind = (b"content-type", b"text/plain; charset=utf-8")
    return Answer(status, [kind, _NO_STORE, *headers], f"{text}\n".encode())


def document(status: int, message: str, hint: str, *headers: tuple[bytes, bytes]) -> Answer:
    """An error of the API."""
    body = json.dumps(error_body(message, hint)).encode()
    return Answer(status, [(b"content-type", b"application/json"), _NO_STORE, *headers], body)


def error_body(message: str, hint: str) -> dict[str, dict[str, str]]:
    """An error of the API, as JSON has it."""
    return {"error": {"message": message, "hint": hint}}


def header(scope: Scope, name: bytes) -> bytes:
    """The first value of a header, by its name in lower case; b"" where it is not given."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""
