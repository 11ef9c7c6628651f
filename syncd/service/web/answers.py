"""Answers that are prepared once and sent often, as plain ASGI; reading a header."""

import json
from typing import Final

from starlette.types import Message, Scope, Send

Headers = list[tuple[bytes, bytes]]

TOO_MANY_TOKENS: Final = "too many wrong tokens from this address", "check the token, and try again later"
"""Message and hint of the answer 429."""
_NO_STORE: Final = (b"cache-control", b"no-store")


class Answer:
    """A complete answer. A 204 or 304 has no body."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        length: Headers = [] if status in {204, 304} else [(b"content-length", str(len(body)).encode())]
        self.status = status
        self._start: Message = {"type": "http.response.start", "status": status, "headers": [*headers, *length]}
        self._body: Message = {"type": "http.response.body", "body": body}

    async def __call__(self, send: Send) -> None:
        """Send the answer."""
        await send(self._start)
        await send(self._body)


def plain(status: int, text: str, *headers: tuple[bytes, bytes]) -> Answer:
    """Return an answer of one line of text, which caches must not store."""
    kind = (b"content-type", b"text/plain; charset=utf-8")
    return Answer(status, [kind, _NO_STORE, *headers], f"{text}\n".encode())


def document(status: int, message: str, hint: str, *headers: tuple[bytes, bytes]) -> Answer:
    """Return an API error."""
    body = json.dumps(error_body(message, hint)).encode()
    return Answer(status, [(b"content-type", b"application/json"), _NO_STORE, *headers], body)


def too_many_tokens(wait: int) -> Answer:
    """Return the answer to a client that sent too many wrong tokens and must wait for ``wait`` seconds."""
    return document(429, *TOO_MANY_TOKENS, (b"retry-after", str(wait).encode()))


def error_body(message: str, hint: str) -> dict[str, dict[str, str]]:
    """Return the JSON of an API error."""
    return {"error": {"message": message, "hint": hint}}


def header(scope: Scope, name: bytes) -> bytes:
    """Return the first value of the header with this lower-case name; b"" if the request has none."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""
