"""Protection of the pages: headers, cookies, and proof that a form came from one of our pages."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from syncd.model import LIST_NAME
from syncd.service.web.dashboard.html import Html, document
from syncd.service.web.dashboard.sessions import LASTS

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
    " img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
"""Headers of every answer. Only static files replace the last one."""

MAX_FORM: Final = 8192
"""Largest form, in bytes."""

_OURS: Final = re.compile(
    rf"/(?:lists/{LIST_NAME.pattern}|sources/{LIST_NAME.pattern}|holds|matchers|audit|acts/[a-z]+(?:/{LIST_NAME.pattern})?)?"
)


def answer(page: Html, status: int = 200, **headers: str) -> Response:
    """Return a page with all required headers."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(document(page), status, {**HEADERS, **more}, "text/html; charset=utf-8")


def redirect(where: str) -> Response:
    """Return a redirect, to be followed with GET."""
    return Response(status_code=303, headers={**HEADERS, "Location": where})


def inside(path: str) -> str:
    """Return ``path`` if it is one of our pages, else the overview's: where to go after signing in."""
    return path if _OURS.fullmatch(path) else "/"


@dataclass(frozen=True)
class Cookies:
    """Names and attributes of our cookies. ``secure``: browsers reach us over TLS.

    Without TLS, on loopback, browsers reject cookies that are ``Secure`` or have the prefix (RFC 6265bis, 4.1.3).
    """

    secure: bool

    @property
    def session(self) -> str:
        """The name of the cookie that holds the session's id."""
        return "__Host-syncd" if self.secure else "syncd"

    @property
    def form(self) -> str:
        """The name of the cookie that belongs to the sign-in form."""
        return f"{self.session}-form"

    def put(self, response: Response, name: str, value: str) -> None:
        """Set a cookie for as long as a session lasts; browsers send it only with requests from our own pages."""
        seconds = int(LASTS.total_seconds())
        response.set_cookie(name, value, seconds, path="/", secure=self.secure, httponly=True, samesite="strict")

    def drop(self, response: Response, name: str) -> None:
        """Delete a cookie."""
        response.delete_cookie(name, path="/", secure=self.secure, httponly=True, samesite="strict")


@dataclass(frozen=True)
class Forms:
    """Proof that a form was made for the browser that sends it: a keyed hash of the browser's cookie."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def proof(self, purpose: str, cookie: str) -> str:
        """Return the proof that a form of this purpose carries."""
        return hmac.new(self.key, f"{purpose}\0{cookie}".encode(), hashlib.sha256).hexdigest()

    def proves(self, given: str, purpose: str, cookie: str) -> bool:
        """Return True if ``given`` is the proof for this purpose and cookie."""
        return bool(cookie) and hmac.compare_digest(given.encode(), self.proof(purpose, cookie).encode())


def from_our_page(request: Request) -> bool:
    """Return True if the browser says that one of our pages sent this (W3C Fetch Metadata, 2.3; RFC 6454, 7).

    With our referrer policy browsers send ``Origin: null``, even to ourselves (WHATWG Fetch, 3.2). So Sec-Fetch-Site
    decides if it is present; every current browser sends it over TLS and to loopback.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc == request.headers.get("host")


def came_from_elsewhere(request: Request) -> bool:
    """Return True if a link on another site or in a chat led here: then the browser withholds our strict cookies.

    It sends them if our own page repeats the request.
    """
    elsewhere = request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}
    return elsewhere and request.headers.get("sec-fetch-mode") == "navigate"


async def read_form(request: Request) -> dict[str, str] | None:
    """Return the fields of a form; None if the body is not a form, is too long, or gives a field twice.

    No page of ours has two fields of one name, and a form must not mean something else than what a person sees in it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM:
            return None
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=16)
    except ValueError:
        return None
    form = dict(fields)
    return form if len(form) == len(fields) else None
