"""The dashboard's routes: a signed-in operator or viewer sees the state of everything. `ActDesk` changes it."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from syncd import events
from syncd.errors import SyncdError
from syncd.service.access import Kind
from syncd.service.web.connection import KEY, Connection
from syncd.service.web.context import Context
from syncd.service.web.dashboard import assets, guard, live, reading
from syncd.service.web.dashboard.desk import ActDesk, Session
from syncd.service.web.dashboard.frame import again_page, login_page, message_page, page
from syncd.service.web.dashboard.html import Html, h
from syncd.service.web.dashboard.sessions import Sessions
from syncd.service.web.dashboard.shared_sessions import SharedSessions
from syncd.units import count

_STREAMS: Final = 64
"""Most open pages that are kept up to date at a time."""

Read = Callable[[reading.Reading, bool], reading.Shown | None]
"""Reads the data of a page. True: its visitor may act from it."""


class Dashboard:
    """Answers requests for pages, and keeps the sessions."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reading = reading.Reading(context)
        self._shared = self._share(context) if context.daemon else None
        self._sessions = self._shared or Sessions(context.clock, context.access.is_in_force)
        self._forms = guard.Forms(context.catalog.form_key()) if context.daemon else guard.Forms()
        self._desk = ActDesk(context, self._forms, self._open_session)
        self._streams = 0
        self._closed = False
        context.access.on_change(context.news.changed)  # streams then check that their sessions are still valid

    def routes(self) -> list[BaseRoute]:
        """Return all routes for people."""
        return [_recalling(route, self._recall) if self._shared else route for route in self._routes()]

    def _routes(self) -> list[Route]:
        return [
            Route("/", self.overview),
            Route("/lists/{name}", self.list_of_name),
            Route("/sources/{name}", self.source),
            Route("/holds", self.holds),
            Route("/matchers", self.matchers),
            Route("/audit", self.audit),
            Route("/events", self.logged_events),
            *self._desk.routes(),
            Route("/login", self.login),
            Route("/login", self.sign_in, methods=["POST"]),
            Route("/logout", self.sign_out, methods=["POST"]),
            Route("/dashboard/events", self.events),
            Route(f"{assets.PREFIX}/{{edition}}/{{name}}", self.asset),
        ]

    def exchange(self) -> None:
        """Exchange sessions with the other daemons, if there are any. Raises `StoreError`."""
        if self._shared:
            self._shared.look()

    def close(self) -> None:
        """End every stream, because the server stops."""
        self._closed = True
        self._context.news.changed()

    async def overview(self, request: Request) -> Response:
        """Show the overview."""
        return await self._page(request, lambda read, acting: reading.overview(read, acting=acting))

    async def list_of_name(self, request: Request) -> Response:
        """Show one list."""
        name = request.path_params["name"]
        return await self._page(request, lambda read, acting: reading.one_list(read, name, acting=acting))

    async def source(self, request: Request) -> Response:
        """Show one source."""
        name = request.path_params["name"]
        return await self._page(request, lambda read, acting: reading.one_source(read, name, acting=acting))

    async def matchers(self, request: Request) -> Response:
        """Show the permitted matchers and the versions that they have loaded."""
        return await self._page(request, lambda read, _: reading.matchers(read))

    async def holds(self, request: Request) -> Response:
        """Show all holds that are open or discarded."""
        return await self._page(request, lambda read, acting: reading.all_holds(read, acting=acting))

    async def audit(self, request: Request) -> Response:
        """Show the newest records of the audit log that meet every filter of the query."""
        typed = {name: text for name, text in request.query_params.items() if text}
        return await self._page(request, lambda read, _: reading.audit(read, typed))

    async def logged_events(self, request: Request) -> Response:
        """Show the newest events of the daemon."""
        return await self._page(request, lambda read, _: reading.logged_events(read))

    async def login(self, request: Request) -> Response:
        """Show the sign-in form."""
        after = guard.inside(request.query_params.get("after", "/"))
        if self._session(request):
            return guard.redirect(after)
        return self._ask(request, after)

    async def sign_in(self, request: Request) -> Response:
        """Check the token, and open a session."""
        form = await guard.read_form(request)
        cookies = self._cookies()
        before = request.cookies.get(cookies.form, "")
        if form is None or not guard.from_our_page(request):
            return self._ask(request, "/", "The form was not sent from this page. Sign in here.", 403)
        after = guard.inside(form.get("after", "/"))
        if not self._forms.proves(form.get("form", ""), "login", before):
            return self._ask(
                request, after, "This page was open for too long, or the browser blocks cookies. Try again.", 403
            )
        admission = self._context.admission
        peer = admission.peer(request.scope)
        wait = admission.attempts.wait(peer)
        if wait:
            fault = f"Too many wrong tokens. Try again in {count(wait, 'second')}."
            return self._ask(request, after, fault, 429, Retry_After=str(wait))
        visitor = self._context.access.admit_person(form.get("token", "").strip())
        if visitor is None:
            admission.attempts.failed(peer)
            self._context.emit(events.DashboardRefused(peer))
            return self._ask(request, after, "This is not the operator token.", 403)
        self._context.emit(events.DashboardSignedIn(visitor.name, peer))
        response = guard.redirect(after)
        session = await run_in_threadpool(self._sessions.open, visitor)  # it may wait for the catalog
        cookies.put(response, cookies.session, session)
        cookies.drop(response, cookies.form)
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session, if one of our pages asks for it."""
        session, form = self._session(request), await guard.read_form(request)
        proved = form is not None and self._forms.proves(form.get("form", ""), "logout", session)
        if session and not (proved and guard.from_our_page(request)):
            return guard.answer(
                self._message("Not signed out", "The request was not sent from this page. You are still signed in."),
                403,
            )
        if session:
            await run_in_threadpool(self._sessions.close, session)  # it may wait for the catalog
        self._context.news.changed()  # closes the streams of its other pages at once
        response = guard.redirect("/login")
        self._cookies().drop(response, self._cookies().session)
        return response

    async def events(self, request: Request) -> Response:
        """Stream changes to an open page."""
        session = self._session(request)
        if not session:
            return Response(status_code=401, headers=guard.HEADERS)
        if self._streams >= _STREAMS:
            return Response(status_code=503, headers={**guard.HEADERS, "Retry-After": "30"})
        connection: Connection | None = request.scope.get(KEY)
        if connection is not None:
            connection.as_stream()
        self._streams += 1  # before the first `await`, so that no other request is counted in between
        headers = {**guard.HEADERS, "X-Accel-Buffering": "no"}
        return _LiveStream(self._ticks(session), self._ended, headers)

    async def asset(self, request: Request) -> Response:
        """Return the style sheet, script or icon. Anybody may read them: they reveal nothing."""
        name, edition = request.path_params["name"], request.path_params["edition"]
        if name not in assets.KINDS or edition != assets.edition(name):
            return Response(status_code=404, headers=guard.HEADERS)
        headers = {**guard.HEADERS, "Cache-Control": assets.IMMUTABLE}
        return Response(assets.content(name), headers=headers, media_type=assets.KINDS[name])

    async def _page(self, request: Request, read: Read) -> Response:
        session = self._open_session(request)
        path = request.url.path
        if session is None:
            if guard.came_from_elsewhere(request):
                return guard.answer(again_page())
            return guard.redirect(f"/login?after={guard.inside(path)}" if guard.inside(path) != "/" else "/login")
        try:
            shown = await run_in_threadpool(read, self._reading, self._acting(session))
        except SyncdError as error:
            return guard.answer(
                self._message("This page cannot be shown now", f"{error.message}. To do: {error.hint}."), 503
            )
        if shown is None:
            return guard.answer(self._message("There is no such page", "There is no list or source of that name."), 404)
        proof = self._forms.proof("logout", session.id)
        done = self._desk.notices.read(session.id, request.query_params.get("done", ""))
        notice = h("p", done, class_="done", role="status") if done else None
        now = self._context.clock()
        return guard.answer(page(shown.title, path, now, proof, notice, shown.content, who=session.visitor))

    def _acting(self, session: Session) -> bool:
        """Return True if pages show links to acts."""
        return self._context.config().dashboard.actions and session.visitor.kind is Kind.OPERATOR

    async def _ticks(self, session: str) -> AsyncIterator[bytes]:
        ticks = live.stream(self._context.news, lambda: self._look(session), self._context.limits.beat)
        async with aclosing(ticks):
            async for tick in ticks:
                yield tick

    @staticmethod
    def _share(context: Context) -> SharedSessions:
        return SharedSessions(context.catalog, context.access.signing_in, context.clock, context.access.is_in_force)

    async def _recall(self, request: Request) -> None:
        """Look in the catalog for a session that is not known here."""
        session = request.cookies.get(self._cookies().session, "")
        if self._shared and not self._shared.is_known(session):
            await run_in_threadpool(self._shared.recall, session)

    def _ended(self) -> None:
        self._streams -= 1

    def _look(self, session: str) -> live.Line:
        if self._closed:
            return live.Line.CLOSED
        return live.Line.OPEN if self._sessions.is_open(session) else live.Line.ENDED

    def _ask(self, request: Request, after: str, fault: str = "", status: int = 200, **headers: str) -> Response:
        cookies = self._cookies()
        cookie = request.cookies.get(cookies.form) or secrets.token_urlsafe(32)
        proof = self._forms.proof("login", cookie)
        response = guard.answer(login_page(proof, after, fault, self._context.clock()), status, **headers)
        cookies.put(response, cookies.form, cookie)
        return response

    def _session(self, request: Request) -> str:
        """Return the id of the valid session that a request belongs to; '' if there is no such session."""
        session = self._open_session(request)
        return session.id if session else ""

    def _open_session(self, request: Request) -> Session | None:
        session = request.cookies.get(self._cookies().session, "")
        visitor = self._sessions.visitor(session)
        return Session(session, visitor) if visitor else None

    def _cookies(self) -> guard.Cookies:
        serve = self._context.config().serve
        return guard.Cookies(self._context.behind_proxy or (serve is not None and serve.tls_cert is not None))

    def _message(self, title: str, message: str) -> Html:
        return message_page(title, message, self._context.clock())


def _recalling(route: Route, recall: Callable[[Request], Awaitable[None]]) -> Route:
    """Return a route that first makes sure that the session of a request is known here."""

    async def answer(request: Request) -> Response:
        await recall(request)
        found: Response = await route.endpoint(request)
        return found

    return Route(route.path, answer, methods=list(route.methods or ()))


class _LiveStream(StreamingResponse):
    """Calls ``ended`` at its end, even if the client disconnects before anything was sent."""

    def __init__(self, ticks: AsyncIterator[bytes], ended: Callable[[], None], headers: Mapping[str, str]) -> None:
        super().__init__(ticks, headers=headers, media_type="text/event-stream")
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()
