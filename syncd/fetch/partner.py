"""The HTTP interface of a partner that signs nothing: calls with parameters, whose answers are data.

An address may contain a secret, because some partners want a token in the query. So each call has a name for messages;
its address is never in one, nor in a log: calls bypass `httpx.Client`, which logs every address.
"""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import ClassVar, Final, TypeVar
from urllib.parse import urlencode

import httpx

from syncd import __version__
from syncd.errors import HttpStatusError, SourceError
from syncd.fetch.endpoint import Deadline, Endpoint
from syncd.fetch.http import OK, HttpPeer
from syncd.fetch.http_errors import PEER_TROUBLE, is_html, page_instead
from syncd.fetch.peer import LONGEST_WAIT, CutShortError, Meter, UnreachableError

LONGEST_PATIENCE: Final = 120.0
"""Most seconds to wait within a poll because the partner asks for it. If it asks for more, a later sync goes on."""

_PASSING: Final = frozenset({429, 500, 502, 503, 504})
_INACTIVITY: Final = 60.0
_HINTS: Final = {
    400: "the partner does not accept the call: check url and lists of the source (docs/partners)",
    401: "the partner does not accept the credentials: check user name, keys and files of the source",
    403: "the credentials are known but do not permit this call: ask the partner to grant it",
    404: "check the url of the source: it is the address before the partner's version and calls (docs/partners)",
    429: "the partner asks for fewer requests: lengthen the interval of the source",
}
_REDIRECTED: Final = "calls are never redirected: if the partner moved, set the new url of the source"

_T = TypeVar("_T")


@dataclass(frozen=True)
class PartnerCall:
    """One request. Without ``form`` it is a GET, which is repeated if it fails for a reason that may pass."""

    name: str
    """for messages"""
    target: str = field(repr=False)
    """path and query below the partner's address, sent as they are"""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    """the fields of a form to POST, once"""

    @classmethod
    def of(
        cls, name: str, path: str, query: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> "PartnerCall":
        """Return a GET with a query."""
        return cls(name, f"{path}?{urlencode(query)}", headers or {})


class PartnerPeer(HttpPeer):
    """One poll's connections to a partner. ``headers`` go with every call."""

    attempts: ClassVar[int] = 5

    def __init__(
        self, endpoint: Endpoint, deadline: Deadline, *, headers: Mapping[str, str] | None = None, meter: Meter
    ) -> None:
        super().__init__(endpoint, deadline, connections=2, inactivity=_INACTIVITY, meter=meter)
        self._headers = {
            "User-Agent": f"syncd/{__version__}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            **(headers or {}),
        }
        self.server_time: datetime | None = None
        """the partner's clock at the last answer; None if it states no time"""
        self._closed = False

    def ask(self, call: PartnerCall, limit: int, read: Callable[[bytes], _T]) -> _T:
        """Return ``read`` of the body, which has at most ``limit`` bytes.

        Connection errors, the statuses 429, 500, 502, 503 and 504, and a `CutShortError` of ``read`` are tried again,
        after the wait that the partner asks for. Raises `SourceError`, and what ``read`` raises.
        """
        if call.form is not None:
            return read(self._body(call, limit))
        return self._retried(lambda: read(self._body(call, limit)))

    def close(self) -> None:
        """Close all connections, from any thread. A call that is under way fails, and is not tried again."""
        self._closed = True
        super().close()

    def _try_again(self, error: Exception) -> bool | float:
        if self._closed:
            return False
        asked = None
        passing = isinstance(error, (UnreachableError, CutShortError))
        if isinstance(error, HttpStatusError):
            passing, asked = error.status in _PASSING, error.retry_after
        if not passing or self._deadline.left() <= LONGEST_WAIT + (asked or 0.0):
            return False
        if asked is not None:
            return asked + random.random() if asked <= LONGEST_PATIENCE else False  # noqa: S311 - spreads hosts
        return True

    def _body(self, call: PartnerCall, limit: int) -> bytes:
        with self._response(call) as response:
            self._require(response, call.name, OK)
            if is_html(response):
                raise page_instead(response, call.name)
            content = bytearray()
            for chunk in self._chunks(response, call.name):
                content += chunk
                if len(content) > limit:
                    raise SourceError(f"{call.name}: the answer is larger than {limit} bytes", hint=PEER_TROUBLE)
        return bytes(content)

    @contextlib.contextmanager
    def _response(self, call: PartnerCall) -> Iterator[httpx.Response]:
        headers = {**self._headers, **call.headers}
        content = None
        if call.form is not None:
            content = urlencode(call.form).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        with self._own_errors(call.name, UnreachableError):
            # The endpoint's address ends with /, so a target cannot become part of the host.
            url = httpx.URL(self._endpoint.url + call.target.removeprefix("/"))
            method = "GET" if content is None else "POST"
            extensions = {"timeout": self._timeout()}
            request = httpx.Request(method, url, headers=headers, content=content, extensions=extensions)
            response = self._stores.send(self._endpoint, request)
        self.server_time = _date(response)
        with contextlib.closing(response):
            yield response

    def _require(self, response: httpx.Response, path: str, status: int) -> None:
        try:
            super()._require(response, path, status)
        except HttpStatusError as error:
            hint = error.hint if error.page else _HINTS.get(error.status, PEER_TROUBLE)
            raise HttpStatusError(
                error.message, error.status, retry_after=error.retry_after, page=error.page, hint=hint
            ) from None
        except SourceError as error:
            if response.has_redirect_location:
                raise SourceError(error.message, hint=_REDIRECTED) from None
            raise


def _date(response: httpx.Response) -> datetime | None:
    """Return the time of an answer (RFC 9110, 6.6.1)."""
    try:
        stated = parsedate_to_datetime(response.headers.get("date", ""))
    except (ValueError, OverflowError):
        return None
    return stated if stated.tzinfo else stated.replace(tzinfo=UTC)
