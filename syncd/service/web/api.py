"""The less frequent requests, and the OpenAPI document of all routes."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Depends, FastAPI, Header, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from syncd import __version__
from syncd.errors import SyncdError
from syncd.feed.offer import is_offered, list_at
from syncd.model import LIST_NAME, ListName
from syncd.report.status import status_document
from syncd.report.status_types import StatusDocument
from syncd.service.access import PEOPLE, Kind, Visitor
from syncd.service.admission import TokenRefusal
from syncd.service.web.answers import TOO_MANY_TOKENS, error_body
from syncd.service.web.context import Context
from syncd.service.web.described import DESCRIBED
from syncd.service.web.feed import PREFIX
from syncd.service.web.health import Recent, readiness

_NO_STORE = {"Cache-Control": "no-store"}
_BEARER = HTTPBearer(auto_error=False, description="a token made by `syncd matchers add`, or an operator's token")
_MOST_LISTS = 1024
AUTH = "/api/v1/auth"


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


class Checkin(BaseModel):
    """The version of each list that one process of a matcher has loaded. Lists left out are no longer loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    instance: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$"),
        Field(description="name of this process or host of the matcher", examples=["web-3.4711"]),
    ]
    lists: Annotated[
        dict[ListText, Version],
        Field(max_length=_MOST_LISTS, examples=[{"iwf.images": 7}], json_schema_extra={"additionalProperties": False}),
    ]


def visitor_of(context: Context, request: Request, *kinds: Kind) -> Visitor:
    """Return the visitor whose token the request carries. Raises `ApiError` if it is not one of ``kinds``."""
    visitor = context.admission.admit(request.scope, request.scope["route"].path)
    if isinstance(visitor, TokenRefusal):
        if visitor.wait and request.scope["route"].path != AUTH:  # nginx takes only 401 and 403 for an answer there
            raise ApiError(429, *TOO_MANY_TOKENS, visitor.wait)
        raise ApiError(401, "no token, or an invalid one", "send the header Authorization: Bearer TOKEN")
    if visitor.kind not in kinds:
        raise ApiError(403, "this token does not give access to this endpoint", "use a token of another kind")
    return visitor


_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": Error, "description": "no token, or an invalid one"},
    403: {"model": Error, "description": "the token does not give access to this endpoint or list"},
    409: {"model": Error, "description": "a version that this feed never published"},
    413: {"model": Error, "description": "more than 64 KiB"},
    422: {"model": Error, "description": "malformed"},
    429: {"model": Error, "description": "too many wrong tokens from this address: see Retry-After"},
    503: {"model": Error, "description": "the server is full: see Retry-After"},
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _ERRORS[status] for status in statuses}


def build(context: Context, more: list[BaseRoute]) -> FastAPI:
    """Return the application for everything but the feed's files and the event stream. ``more``: further routes."""
    app = FastAPI(
        title="syncd",
        version=__version__,
        description="An operator's feed, and the API for its matchers and operators.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the redirect would use the Host header, and plain HTTP behind a proxy
    )
    _add_matcher_routes(app, context)
    _add_status_routes(app, context)
    app.router.routes.extend(more)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(SyncdError, _syncd_error)
    app.add_exception_handler(Exception, _bug)
    app.openapi = lambda: document_of(app)  # type: ignore[method-assign]  # as FastAPI's documentation recommends
    return app


def document_of(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, including the routes that FastAPI does not know."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        document["paths"].update(DESCRIBED)
        app.openapi_schema = document
    return app.openapi_schema


def _add_matcher_routes(app: FastAPI, context: Context) -> None:
    def matcher(request: Request) -> Visitor:
        return visitor_of(context, request, Kind.MATCHER)

    Matcher = Annotated[Visitor, Depends(matcher)]  # noqa: N806 - a type
    secured = [Security(_BEARER)]

    @app.post(
        "/api/v1/checkin",
        status_code=204,
        dependencies=secured,
        responses=_errors(401, 403, 409, 413, 422, 429, 503),
        tags=["matchers"],
    )
    def checkin(visitor: Matcher, body: Checkin) -> Response:
        """Report the loaded version of each list: after each change, and every 5 minutes."""
        lists = {ListName(name): version for name, version in body.lists.items()}
        if not all(visitor.may_read(name) for name in lists):
            raise ApiError(403, "a list is outside this token's scope", "leave it out, or use another token")
        if context.checkins.never_published(lists):
            raise ApiError(
                409, "a version that this feed never published", "check that the copy was pulled from this feed"
            )
        context.checkins.note(visitor.name, body.instance, lists, context.clock())
        context.news.changed()
        return Response(status_code=204, headers=_NO_STORE)

    @app.get(AUTH, status_code=204, dependencies=secured, responses=_errors(401, 403, 422, 503), tags=["matchers"])
    async def auth(
        visitor: Matcher, x_original_uri: Annotated[str, Header(description="the requested path")]
    ) -> Response:
        """Check that the token may read a file of the feed: for nginx's auth_request."""
        path = unquote(x_original_uri.partition("?")[0])
        inside = path.removeprefix(PREFIX)
        name = list_at(inside)
        if inside == path or not is_offered(inside) or (name and not visitor.may_read(name)):
            raise ApiError(403, "this token does not give access to this file", "use a token whose scope has its list")
        # Without a proxy a matcher could call this route itself, and be counted for a file that it never received.
        if name and context.behind_proxy:
            context.pulls.note(visitor.name, inside, _length(context.folder.feed.path(inside)))
        return Response(status_code=204, headers=_NO_STORE)


def _length(path: Path) -> int:
    """Return the size of a file, as an estimate of the bytes that the proxy sends."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _add_status_routes(app: FastAPI, context: Context) -> None:
    recent = Recent(context.overview, context.limits.remember)

    def person(request: Request) -> Visitor:
        return visitor_of(context, request, *PEOPLE)

    @app.get(
        "/api/v1/status",
        dependencies=[Security(_BEARER), Depends(person)],
        responses=_errors(401, 403, 429, 503),
        tags=["operators"],
    )
    def status(response: Response) -> StatusDocument:
        """Return the state of everything, as `syncd status --json` shows it."""
        response.headers.update(_NO_STORE)
        return status_document(context.overview())

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", response_class=PlainTextResponse, tags=["health"])
    async def healthz() -> Response:
        """Report that the process is alive."""
        return PlainTextResponse("ok\n", headers=_NO_STORE)

    @app.head("/readyz", include_in_schema=False)
    @app.get(
        "/readyz",
        response_class=PlainTextResponse,
        responses={503: {"description": "not proved", "content": {"text/plain": {}}}},
        tags=["health"],
    )
    def readyz(request: Request) -> Response:
        """Report if the stored files are proved and served. Only operators and viewers see names of lists."""
        visitor = context.admission.admit(request.scope, "/readyz")
        named = isinstance(visitor, Visitor) and visitor.kind in PEOPLE
        try:
            ready, text = readiness(context.health.faults, recent(), named=named)
        except SyncdError:  # its message may name paths, which belong only in the log
            ready, text = False, "not ready: the state cannot be read\n"
        return PlainTextResponse(text, 200 if ready else 503, headers=_NO_STORE)


def _answer(status: int, message: str, hint: str, **headers: str) -> Response:
    return JSONResponse(error_body(message, hint), status, headers={**_NO_STORE, **headers})


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


_FIELDS = {"instance", "lists", "x-original-uri"}


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
