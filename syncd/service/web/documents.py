"""Parts that all routes of the API share: its errors as documents, admission, and types of fields."""

from typing import Annotated, Any, Final, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints
from starlette.exceptions import HTTPException

from syncd.errors import SyncdError
from syncd.model import LIST_NAME
from syncd.service.access import Kind, Visitor
from syncd.service.admission import Admission, TokenRefusal
from syncd.service.web.answers import TOO_MANY_TOKENS, error_body

NO_STORE: Final = {"Cache-Control": "no-store"}
BEARER: Final = HTTPBearer(auto_error=False, description="a token made by `syncd matchers add`, or an operator's token")
AUTH: Final = "/api/v1/auth"


class ApiError(Exception):
    """An answer that is an error. ``wait``: the seconds after which to try again."""

    def __init__(self, status: int, message: str, hint: str, wait: int = 0) -> None:
        super().__init__(message)
        self.status, self.message, self.hint, self.wait = status, message, hint, wait


class ErrorText(BaseModel):
    """The error, and what to do about it."""

    message: str
    hint: str


class Error(BaseModel):
    """An error."""

    error: ErrorText


ListText = Annotated[str, StringConstraints(pattern=f"^{LIST_NAME.pattern}$")]


def _whole(value: object) -> object:
    """Turn 7.0 into 7, because JSON does not distinguish them. Strings and booleans are left, and refused later."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Version = Annotated[int, Field(ge=1, le=(1 << 53) - 1, strict=True), BeforeValidator(_whole)]


class Admitting(Protocol):
    """A part of a server that admits requests."""

    @property
    def admission(self) -> Admission:
        """Admits requests to every route."""
        ...


def visitor_of(context: Admitting, request: Request, *kinds: Kind) -> Visitor:
    """Return the visitor whose token the request carries. Raises `ApiError` if it is not one of ``kinds``."""
    visitor = context.admission.admit(request.scope, request.scope["route"].path)
    if isinstance(visitor, TokenRefusal):
        if visitor.wait and request.scope["route"].path != AUTH:  # nginx takes only 401 and 403 for an answer there
            raise ApiError(429, *TOO_MANY_TOKENS, visitor.wait)
        raise ApiError(401, "no token, or an invalid one", "send the header Authorization: Bearer TOKEN")
    if visitor.kind not in kinds:
        raise ApiError(403, "this token does not give access to this endpoint", "use a token of another kind")
    return visitor


_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": Error, "description": "no token, or an invalid one"},
    403: {"model": Error, "description": "the token does not give access to this endpoint or list"},
    409: {"model": Error, "description": "a version that this feed never published"},
    413: {"model": Error, "description": "more than 64 KiB"},
    422: {"model": Error, "description": "malformed"},
    429: {"model": Error, "description": "too many wrong tokens from this address: see Retry-After"},
    503: {"model": Error, "description": "the server is full: see Retry-After"},
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors with which a route may answer, for its description."""
    return {status: _ERRORS[status] for status in statuses}


def add_error_answers(app: FastAPI) -> None:
    """Answer every error as a document that repeats nothing of what was sent."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(SyncdError, _syncd_error)
    app.add_exception_handler(Exception, _bug)


def _answer(status: int, message: str, hint: str, **headers: str) -> Response:
    return JSONResponse(error_body(message, hint), status, headers={**NO_STORE, **headers})


async def _api_error(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, ApiError)  # noqa: S101 - as registered; Starlette's type is wider
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}  # noqa: PLR2004 - RFC 9110, 15.5.2
    if error.wait:
        headers["Retry-After"] = str(error.wait)
    return _answer(error.status, error.message, error.hint, **headers)


async def _malformed(request: Request, error: Exception) -> Response:
    """Name the malformed fields, never their contents."""
    del request
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    locations = [fault["loc"] for fault in error.errors()]
    names = {str(location[1]) for location in locations if len(location) > 1 and location[1] in _FIELDS}
    return _answer(422, f"malformed: {', '.join(sorted(names)) or 'not the expected document'}", "see /openapi.json")


_FIELDS = {"instance", "lists", "x-original-uri", "checkins"}


async def _http_error(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    if error.status_code == 400:  # noqa: PLR2004 - how FastAPI refuses a body that is not JSON
        return _answer(422, "malformed: not JSON", "see /openapi.json")
    return _answer(error.status_code, str(error.detail).lower(), "see /openapi.json", **(error.headers or {}))


async def _bug(request: Request, error: Exception) -> Response:
    """Answer a bug. Starlette raises the error again, and `Boundary` reports it."""
    del request, error
    return _answer(500, "internal error", "see the server's log")


async def _syncd_error(request: Request, error: Exception) -> Response:
    """Answer a failure to read the state, without the error's message: it may name paths, which belong in the log."""
    del request, error
    return _answer(
        503, "the state cannot be read", "see the daemon's log, and run `syncd verify`", **{"Retry-After": "10"}
    )
