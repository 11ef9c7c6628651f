"""Acting from the dashboard: the page of each act, the checks of its form, and the act itself.

Nothing happens by GET. A form is accepted only from a page of ours, made for this session and this act. It carries the
hash of what its page showed, a reason, and the operator's token, typed again. The token says who acts.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from syncd import events
from syncd.errors import RefusedError, SyncdError, UsageError, kind_of
from syncd.service.access import Kind, Visitor
from syncd.service.web.context import Context
from syncd.service.web.dashboard import guard
from syncd.service.web.dashboard.actions import DashboardAct, Preview, act_form, typed
from syncd.service.web.dashboard.corrections import ACTS
from syncd.service.web.dashboard.frame import again_page, message_page, page
from syncd.units import count

_NOTICES: Final = 64
"""Most notices that are kept until they are read."""
_NONCE: Final = 16
"""Characters of a notice's key that make it unique; the others prove that it is ours."""
_DONE: Final = "Done: the audit log has the details."
_VIEWER: Final = "This is a viewer's token, which may look but not act. Nothing was done."
_STALE: Final = "What this page showed has changed in the meantime. Nothing was done: this is the present state."


@dataclass(frozen=True)
class Session:
    """An open session: the secret id in its cookie, and who signed in."""

    id: str
    visitor: Visitor


@dataclass(frozen=True)
class _Asked:
    """One request for the page of an act."""

    act: DashboardAct
    subject: str
    session: Session
    preview: Preview
    path: str
    peer: str


class Notices:
    """Reports of what was done, for the page that follows. Safe to share between threads.

    If another daemon answers the request for that page, it knows from the key at least that something was done.
    """

    def __init__(self, forms: guard.Forms) -> None:
        self._forms = forms
        self._texts: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, session: str, text: str) -> str:
        """Keep a text for a session; return the key to read it with."""
        nonce = secrets.token_hex(_NONCE // 2)
        key = nonce + self._forms.proof(f"done {nonce}", session)
        with self._lock:
            self._texts[session, key] = text
            if len(self._texts) > _NOTICES:
                self._texts.popitem(last=False)
        return key

    def read(self, session: str, key: str) -> str:
        """Return a text; '' if the session has none with this key."""
        with self._lock:
            known = self._texts.get((session, key))
        if known is None and self._forms.proves(key[_NONCE:], f"done {key[:_NONCE]}", session):
            return _DONE
        return known or ""


class ActDesk:
    """Answers requests to act. ``session`` returns the open session of a request."""

    def __init__(self, context: Context, forms: guard.Forms, session: Callable[[Request], Session | None]) -> None:
        self._context, self._forms, self._session = context, forms, session
        self.notices = Notices(forms)

    def routes(self) -> list[Route]:
        """Return the routes of the acts."""
        return [
            Route(path, endpoint, methods=[method])
            for path in ("/acts/{act}", "/acts/{act}/{subject}")
            for method, endpoint in (("GET", self.show), ("POST", self.act))
        ]

    async def show(self, request: Request) -> Response:
        """Show what an act would do, and its form."""
        asked = await self._asked(request)
        return asked if isinstance(asked, Response) else self._form(asked)

    async def act(self, request: Request) -> Response:
        """Carry out an act, if its form can be accepted."""
        form = await guard.read_form(request)
        asked = await self._asked(request)
        if isinstance(asked, Response):
            return asked
        proved = form is not None and self._forms.proves(form.get("form", ""), _purpose(asked), asked.session.id)
        if form is None or not proved or not guard.from_our_page(request):
            return self._message(
                "Nothing was done", "The form was not sent from this page. Go back and try again.", 403
            )
        values, fault = typed(asked.act, form)
        admitted = self._admit(asked, form.get("token", "").strip(), values)
        if isinstance(admitted, Response):
            return admitted
        if fault:
            return self._form(asked, fault, values, 422)
        if form.get("seal", "") != asked.preview.seal:
            self._refused(asked, "stale", admitted.name)
            return self._form(asked, _STALE, values, 409)
        return await run_in_threadpool(self._carry_out, asked, values, admitted)

    async def _asked(self, request: Request) -> _Asked | Response:
        """Return what a request asks for; the answer if it cannot be shown to this visitor."""
        session, path = self._session(request), request.url.path
        if session is None:
            if guard.came_from_elsewhere(request):
                return guard.answer(again_page())
            return guard.redirect(f"/login?after={guard.inside(path)}")
        act = ACTS.get(request.path_params["act"])
        if act is None or not self._context.config().dashboard.actions:
            return self._message("There is no such page", _OFF if act else "There is no such act.", 404)
        if session.visitor.kind is not Kind.OPERATOR:
            return self._message(
                "You cannot act", "You signed in with a viewer's token, which may look but not act.", 403
            )
        subject = request.path_params.get("subject", "")
        try:
            preview = await run_in_threadpool(act.preview, self._context, subject)
        except SyncdError as error:
            status = 404 if isinstance(error, UsageError) else 409 if isinstance(error, RefusedError) else 503
            return self._message("Nothing to do here", _in_words(error), status)
        return _Asked(act, subject, session, preview, path, self._context.admission.peer(request.scope))

    def _admit(self, asked: _Asked, token: str, values: Mapping[str, str]) -> Visitor | Response:
        """Return the operator whose token was typed; the answer if it is not an operator's."""
        admission = self._context.admission
        if wait := admission.attempts.wait(asked.peer):
            fault = f"Too many wrong tokens. Try again in {count(wait, 'second')}. Nothing was done."
            return self._form(asked, fault, values, 429, Retry_After=str(wait))
        visitor = self._context.access.admit_person(token)
        if visitor is None:
            admission.refuse(asked.peer, f"/acts/{asked.act.name}")
            return self._form(asked, "This is not an operator's token. Nothing was done.", values, 403)
        if visitor.kind is not Kind.OPERATOR:
            self._refused(asked, "viewer", visitor.name)
            return self._form(asked, _VIEWER, values, 403)
        return visitor

    def _carry_out(self, asked: _Asked, values: Mapping[str, str], operator: Visitor) -> Response:
        """Give the order. Runs in a worker thread: it may wait for a publication in progress."""
        try:
            order = asked.act.order(self._context, asked.subject, values, asked.preview.seal)
            order = order.model_copy(update={"state_dir": str(self._context.folder.root)})
            answers: list[dict[str, Any]] = list(self._context.orders(order, operator.name))
            done = asked.act.done(answers[0])
        except SyncdError as error:
            self._refused(asked, kind_of(error), operator.name)
            if isinstance(error, UsageError | RefusedError):
                return self._form(asked, f"Nothing was done: {_in_words(error)}", values, 409)
            fault = f"This failed: {_in_words(error)} Look at the present state before you try again."
            return self._form(asked, fault, values, 503)
        self._context.emit(events.DashboardActed(asked.act.name, asked.subject, operator.name, asked.peer))
        key = self.notices.put(asked.session.id, done)
        return guard.redirect(f"{asked.preview.after}?done={key}")

    def _refused(self, asked: _Asked, why: str, operator: str) -> None:
        self._context.emit(events.DashboardActRefused(asked.act.name, asked.subject, operator, asked.peer, why))

    def _form(
        self,
        asked: _Asked,
        fault: str = "",
        values: Mapping[str, str] | None = None,
        status: int = 200,
        **headers: str,
    ) -> Response:
        proof = self._forms.proof(_purpose(asked), asked.session.id)
        content = act_form(asked.act, asked.preview, asked.subject, proof=proof, fault=fault, values=values or {})
        out = self._forms.proof("logout", asked.session.id)
        shown = page(
            asked.preview.title, asked.path, self._context.clock(), out, content, who=asked.session.visitor, live=False
        )
        return guard.answer(shown, status, **headers)

    def _message(self, title: str, message: str, status: int) -> Response:
        return guard.answer(message_page(title, message, self._context.clock()), status)


_OFF: Final = "Acting from the dashboard is switched off: [dashboard] actions in the configuration."


def _purpose(asked: _Asked) -> str:
    return f"act {asked.act.name} {asked.subject}"


def _in_words(error: SyncdError) -> str:
    return f"{error.message}. To do: {error.hint}." if error.hint else f"{error.message}."
