"""The less frequent requests, and the OpenAPI document of all routes."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Depends, FastAPI, Header, Request, Response, Security
from fastapi.responses import PlainTextResponse
from starlette.routing import BaseRoute

from syncd import __version__
from syncd.errors import SyncdError
from syncd.feed.offer import is_offered, list_at
from syncd.report.status import status_document
from syncd.report.status_types import StatusDocument
from syncd.service.access import PEOPLE, READERS, Visitor
from syncd.service.web.context import Context
from syncd.service.web.described import DESCRIBED
from syncd.service.web.documents import AUTH, BEARER, NO_STORE, ApiError, add_error_answers, errors, visitor_of
from syncd.service.web.feed import PREFIX
from syncd.service.web.health import Recent, readiness
from syncd.service.web.readers import add_reader_routes


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
    add_reader_routes(app, context)
    _add_proxy_routes(app, context)
    _add_status_routes(app, context)
    app.router.routes.extend(more)
    add_error_answers(app)
    app.openapi = lambda: document_of(app)  # type: ignore[method-assign]  # as FastAPI's documentation recommends
    return app


def document_of(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, including the routes that FastAPI does not know."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        document["paths"].update(DESCRIBED)
        app.openapi_schema = document
    return app.openapi_schema


def _add_proxy_routes(app: FastAPI, context: Context) -> None:
    def reader(request: Request) -> Visitor:
        return visitor_of(context, request, *READERS)

    Reader = Annotated[Visitor, Depends(reader)]  # noqa: N806 - a type

    @app.get(
        AUTH, status_code=204, dependencies=[Security(BEARER)], responses=errors(401, 403, 422, 503), tags=["matchers"]
    )
    async def auth(
        visitor: Reader, x_original_uri: Annotated[str, Header(description="the requested path")]
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
        return Response(status_code=204, headers=NO_STORE)


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
        dependencies=[Security(BEARER), Depends(person)],
        responses=errors(401, 403, 429, 503),
        tags=["operators"],
    )
    def status(response: Response) -> StatusDocument:
        """Return the state of everything, as `syncd status --json` shows it."""
        response.headers.update(NO_STORE)
        return status_document(context.overview())

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", response_class=PlainTextResponse, tags=["health"])
    async def healthz() -> Response:
        """Report that the process is alive."""
        return PlainTextResponse("ok\n", headers=NO_STORE)

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
        return PlainTextResponse(text, 200 if ready else 503, headers=NO_STORE)
