"""The frame around every page, and the pages without a session."""

from datetime import datetime
from typing import Final

from syncd import __version__
from syncd.service.access import Visitor
from syncd.service.web.dashboard.assets import address
from syncd.service.web.dashboard.html import Child, Html, h, join
from syncd.units import stamp

_PAGES: Final = (
    ("/", "Overview"),
    ("/holds", "Holds"),
    ("/matchers", "Matchers"),
    ("/events", "Events"),
    ("/audit", "Audit log"),
)


def page(
    title: str,
    path: str,
    now: datetime,
    form: str,
    *content: Child,
    who: Visitor | None = None,
    live: bool = True,
) -> Html:
    """Return a page for ``who`` is signed in. ``form``: the proof that the sign-out form carries.

    ``live``: the script keeps it up to date; it leaves alone a page on which somebody may be typing.
    """
    bar = h(
        "header",
        h("a", _icon(), "syncd", href="/", class_="brand"),
        h(
            "nav",
            (h("a", name, href=where, aria_current="page" if where == path else None) for where, name in _PAGES),
            aria_label="Pages",
        ),
        h("p", h("span", "Not live: ", h("a", "reload", href=path)), id="live", role="status") if live else None,
        h("p", who.name, h("small", str(who.kind)) if who.name != who.kind else None, id="who") if who else None,
        h("form", _hidden("form", form), h("button", "Sign out", type="submit"), method="post", action="/logout"),
        class_="bar",
    )
    shown = h("time", f"{now:%Y-%m-%d %H:%M:%S} UTC", datetime=stamp(now))
    foot = h("footer", h("span", "As of ", shown), h("span", f"syncd {__version__}"), id="as-of", data_live="as-of")
    said = h("p", id="said", class_="unseen", aria_live="polite")
    return _whole(title, now, bar, h("main", *content, id="main", tabindex="-1"), foot, said)


def login_page(form: str, after: str, fault: str, now: datetime) -> Html:
    """Return the sign-in page. ``fault``: why the last attempt failed; '' if this is the first."""
    told = h("p", fault, id="fault", class_="fault", role="alert") if fault else None
    token = h(
        "input",
        id="token",
        name="token",
        type="password",
        required=True,
        autofocus=True,
        autocomplete="current-password",
        spellcheck="false",
        aria_describedby="fault where" if fault else "where",
        aria_invalid="true" if fault else None,
    )
    asked = h(
        "form",
        h("h1", _icon(), "syncd", class_="brand"),
        told,
        h("input", type="text", name="user", value="operator", autocomplete="username", hidden=True),
        h("label", "Operator token", for_="token"),
        token,
        h(
            "p",
            "It is in the file that ",
            h("code", "token_file"),
            " in ",
            h("code", "[operators.NAME]"),
            " names, or ",
            h("code", "serve.operator_token_file"),
            ".",
            id="where",
            class_="faint",
        ),
        _hidden("form", form),
        _hidden("after", after),
        h("button", "Sign in", type="submit"),
        method="post",
        action="/login",
        class_="login",
    )
    return _whole("Sign in", now, h("main", asked, id="main"))


def message_page(title: str, message: str, now: datetime) -> Html:
    """Return a page with one message, and a link to the overview."""
    return _whole(
        title,
        now,
        h(
            "main",
            h("h1", title),
            h("p", message),
            h("p", h("a", "Go to the overview", href="/")),
            id="main",
            class_="told",
        ),
    )


def again_page() -> Html:
    """Return a page that reloads itself, so that the browser sends our cookies. See `guard.came_from_elsewhere`."""
    return h("html", h("head", h("meta", http_equiv="refresh", content="0"), h("title", "syncd")), h("body"), lang="en")


def heading(title: str, beside: Child = None) -> Html:
    """Return the heading of a page."""
    return h("div", h("h1", title), beside, class_="title")


def _whole(title: str, now: datetime, *content: Child) -> Html:
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("title", f"{title} · syncd" if title != "syncd" else title),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("link", rel="icon", href=address("icon.svg"), type="image/svg+xml"),
        h("link", rel="stylesheet", href=address("dashboard.css")),
        h("script", src=address("dashboard.js"), defer=True),
    )
    skip = h("a", "Skip to the content", href="#main", class_="skip")
    return h("html", head, h("body", skip, join(*content)), lang="en", data_now=stamp(now))


def _icon() -> Html:
    return h("img", src=address("icon.svg"), alt="", width=20, height=20)


def _hidden(name: str, value: str) -> Html:
    return h("input", type="hidden", name=name, value=value)
