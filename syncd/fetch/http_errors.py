"""Errors for the answers of an HTTP peer that are not the file."""

import re
import socket
import ssl
from collections.abc import Collection
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpcore
import httpx

from syncd.errors import HttpStatusError, SourceError, WebPageError
from syncd.fetch.endpoint import Endpoint
from syncd.fetch.peer import NOT_FOUND, UnreachableError

_HINTS: Final = {
    401: "give a valid token (--token-file) or client certificate, and check whether they have expired",
    403: "the peer knows us but does not permit this: ask its operator to grant the list",
    404: "check the url (the feed of a syncd daemon ends in /feed/) and the list names, then try again",
    416: "the file at the peer is shorter than was signed; tell its operator",
    429: "the peer asks for fewer requests: lengthen the interval",
    511: "log in to this network first, or have this machine admitted to it",
}
_PAGE_HINTS: Final = {
    403: "a firewall in front of the peer may refuse this machine, or the peer does not permit this: ask its operator "
    "to admit the address of this machine, to grant the list, and to answer 404 for files that are not there",
}
_CLOCK: Final = "if this machine's clock is right, the peer's operator must replace the certificate"
_OTHER_NAME: Final = (
    "use the host name that the certificate was made for, or ask the peer's operator for a certificate with this name; "
    "a captive portal, which wants a log-in first, shows a certificate of its own"
)
_VERDICTS: Final = {9: _CLOCK, 10: _CLOCK, 62: _OTHER_NAME, 64: _OTHER_NAME}
"""Hints by OpenSSL's verdict on a certificate: not valid yet, expired, for another name, for another address
(openssl-verification-options(1), Diagnostics)."""
PEER_TROUBLE: Final = "the fault is at the peer; the next sync tries again"
TLS_TROUBLE: Final = (
    f"{PEER_TROUBLE}; if the peer demands a client certificate, check that yours is given (client_cert, "
    "--client-cert), accepted by the peer, and valid"
)
_PROXY_NEEDED: Final = (
    "If this machine reaches the network only through a proxy, name it: `proxy` of the source, or --proxy of "
    "`syncd pull`. Variables such as HTTPS_PROXY are not used"
)
_PROXY_HINTS: Final = {
    407: "let the proxy admit this machine by its address: syncd sends no user name or password to a proxy",
    502: "the proxy cannot reach or resolve that host: check the url, and ask the proxy's operator",
    503: "the proxy cannot reach or resolve that host: check the url, and ask the proxy's operator",
    504: "the proxy cannot reach that host in time: ask the proxy's operator",
}
_NO_NAME: Final = (socket.gaierror, UnicodeError)


def refusal(response: httpx.Response, path: str, now: datetime, permitted: Collection[str] = ()) -> SourceError:
    """Return the error for a status that is not the wanted one. ``now`` is for dates in ``Retry-After``.

    ``permitted``: the hosts to which files may be redirected.
    """
    host, status = host_of(response), response.status_code
    if response.has_redirect_location:
        return _redirect(response, path, permitted)
    pause = _retry_after(response, now)
    later = "" if pause is None else f" and asks to wait {pause:.0f} s"
    page = is_html(response) and status != NOT_FOUND
    hint = _PAGE_HINTS.get(status) if page else None
    return HttpStatusError(
        f"{host} answered {status} to {path}{' with a web page' if page else ''}{later}",
        status,
        retry_after=pause,
        page=page,
        hint=hint or _HINTS.get(status, PEER_TROUBLE),
    )


def page_instead(response: httpx.Response, path: str) -> WebPageError:
    """Return the error for a web page that came with the status of data."""
    return WebPageError(f"{host_of(response)} answered {path} with a web page instead of data")


def is_html(response: httpx.Response) -> bool:
    """Return True if the answer is declared as a web page. Data may be declared so by mistake."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in {"text/html", "application/xhtml+xml"}


def is_page(response: httpx.Response, start: bytes) -> bool:
    """Return True if a body that begins with ``start``, without white space, is a web page.

    Metadata is JSON, and a segment begins with ARROW1.
    """
    if start.startswith(b"<"):
        return True
    return is_html(response) and not start.startswith(b"{") and not b"ARROW1".startswith(start[:6])


def _retry_after(response: httpx.Response, now: datetime) -> float | None:
    """Return the seconds to wait (RFC 9110, 10.2.3: a number, or a date); None if absent or malformed."""
    value = response.headers.get("retry-after", "").strip()
    if re.fullmatch("[0-9]{1,9}", value):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())


def host_of(response: httpx.Response) -> str:
    """Return host and port of the server that answered, without the rest of the address, which may hold secrets."""
    return response.url.netloc.decode("ascii")


def target_of(response: httpx.Response) -> httpx.URL | None:
    """Return the address that a redirect points to; None if it is not valid, or the answer is not a redirect."""
    if not response.has_redirect_location:
        return None
    try:
        target = response.url.join(response.headers["location"])
        _ = target.host  # decodes Punycode, which may fail
    except (httpx.InvalidURL, ValueError):
        return None
    return target


def _redirect(response: httpx.Response, path: str, permitted: Collection[str]) -> SourceError:
    """Return the error for a redirect. Of its target only the host is named: the rest may hold secrets."""
    target = target_of(response)
    name = "no valid address" if target is None else target.netloc.decode("ascii") or "nowhere"
    if target is not None and name in permitted:
        return SourceError(
            f"{host_of(response)} redirects {path} to {name}, but not with https:// or too often",
            hint="ask the peer's operator to redirect to https:// at once",
        )
    return SourceError(
        f"{host_of(response)} redirects {path} to {name}; redirects are not followed",
        hint="if the peer moved, set its new url; if it keeps its files at that host, permit it: `redirects` of the "
        "source, or --redirect; a captive portal, which wants a log-in first, redirects too",
    )


def by_way_of(endpoint: Endpoint) -> str:
    """Return the words for the proxy that is in between; "" without one."""
    return f" (by way of the proxy {endpoint.proxy_host})" if endpoint.proxy else ""


def refused_by_proxy(endpoint: Endpoint, error: httpcore.ProxyError) -> SourceError:
    """Return the error for a proxy that opens no tunnel; of its answer only the status is quoted."""
    status = re.match("[0-9]{3}", str(error))
    number = int(status[0]) if status else 0
    kind = UnreachableError if number >= 500 else SourceError  # noqa: PLR2004 - RFC 9110, 15.6
    return kind(
        f"the proxy {endpoint.proxy_host} does not connect to {endpoint.host}: it answered {number or 'no status'}",
        hint=_PROXY_HINTS.get(number, f"ask the proxy's operator to permit CONNECT to {endpoint.host}"),
    )


def no_connection(endpoint: Endpoint, error: Exception) -> SourceError:
    """Return the error for a connection that could not be made."""
    cause = _system_error(error)
    host = endpoint.host
    if isinstance(cause, ssl.SSLCertVerificationError):
        return SourceError(
            f"the certificate of {host}{by_way_of(endpoint)} is not trusted: {cause.verify_message}",
            hint=_VERDICTS.get(
                cause.verify_code,
                "give the authority that signed it as ca (`--ca`); a captive portal, which wants a log-in first, shows "
                "a certificate of its own",
            ),
        )
    if isinstance(cause, ssl.SSLError):
        return SourceError(
            f"TLS with {host}{by_way_of(endpoint)} failed: {cause.reason or 'no common protocol'}",
            hint="use http:// if it does not speak https; otherwise check that it accepts our client certificate",
        )
    if endpoint.proxy:
        return _no_proxy(endpoint, cause)
    if isinstance(cause, _NO_NAME):
        return UnreachableError(
            f"the host name {host} cannot be resolved", hint=f"check the url and this machine's DNS. {_PROXY_NEEDED}"
        )
    reason = getattr(cause, "strerror", None) or "no connection"
    return UnreachableError(
        f"{host} cannot be reached: {reason}",
        hint="check that the server is running, that the url is right, and that no firewall blocks the connection",
    )


def refused_certificate(endpoint: Endpoint, error: Exception) -> SourceError | None:
    """Return the error for a peer that broke the connection because of our client certificate; None for other causes.

    With TLS 1.3 the peer reports it after the handshake, by an alert (RFC 8446, 6.2).
    """
    cause = _system_error(error)
    reason = (isinstance(cause, ssl.SSLError) and cause.reason) or ""
    if "ALERT" not in reason or not any(word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE")):
        return None
    given = "refused our client certificate" if endpoint.client_cert else "demands a client certificate"
    return SourceError(
        f"{endpoint.host}{by_way_of(endpoint)} {given} (TLS: {reason.lower().replace('_', ' ')})",
        hint="give a certificate that the peer accepts (client_cert and client_key; --client-cert and --client-key), "
        "and check that it has not expired",
    )


def _no_proxy(endpoint: Endpoint, cause: BaseException) -> SourceError:
    """Return the error for a proxy without a connection. It resolves the peer's name, this machine only its own."""
    if isinstance(cause, _NO_NAME):
        return UnreachableError(
            f"the host name of the proxy {endpoint.proxy_host} cannot be resolved",
            hint=f"check the address of the proxy and this machine's DNS; {endpoint.host} was not asked",
        )
    reason = getattr(cause, "strerror", None) or "no connection"
    return UnreachableError(
        f"the proxy {endpoint.proxy_host} cannot be reached: {reason}",
        hint=f"check that the proxy is running and that its address is right; {endpoint.host} was not asked",
    )


def _system_error(error: BaseException) -> BaseException:
    """Return the operating system's error behind ``error``, also by context: httpcore's pool raises ``from None``."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (OSError, UnicodeError)):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error
