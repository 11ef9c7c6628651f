"""Signing in, headers, forms, the stream: the dashboard over HTTP."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from urllib.parse import urlencode

import httpx
import pytest
from starlette.types import Message

from dashboard_site import HOSTILE, check_in, serving, sync_now
from syncd.acts import RevokedMatcher
from syncd.outcomes import Outcome
from syncd.report import overview
from syncd.report.judged import Overview
from syncd.service.web.dashboard import routes
from syncd.service.web.dashboard.assets import address
from syncd.service.web.dashboard.reading import Reading
from web_site import OPERATOR, Running
from world import START, World, rows

OURS = {"Sec-Fetch-Site": "same-origin"}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@pytest.fixture
def run(standing: World) -> Iterator[Running]:
    """A dashboard with one list, and a sync that failed in a partner's words."""
    with serving(standing) as running:
        catalog = running.publisher.catalog
        catalog.begin_sync("bad", "iwf", standing.clock())
        catalog.finish_sync("bad", Outcome.REJECTED, reasons=("TrustError",), message=HOSTILE, now=standing.clock())
        yield running


@pytest.fixture
def browser(run: Running) -> Iterator[httpx.Client]:
    """Nobody is signed in."""
    with httpx.Client(base_url=run.url, headers=OURS) as client:
        yield client


def proof(page: httpx.Response) -> str:
    """What the form of a page carries."""
    found = re.search(r'name="form" value="([0-9a-f]{64})"', page.text)
    assert found, page.text
    return found[1]


def sign_in(browser: httpx.Client, token: str = OPERATOR, after: str = "/", **headers: str) -> httpx.Response:
    """As the form does it."""
    form = {"form": proof(browser.get("/login")), "after": after, "token": token}
    return browser.post("/login", data=form, headers={name.replace("_", "-"): one for name, one in headers.items()})


def test_nobody_sees_anything_without_signing_in(browser: httpx.Client) -> None:
    """Every page leads to the form, and comes back afterwards."""
    answer = browser.get("/lists/iwf.images")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?after=/lists/iwf.images")
    assert browser.get("/nowhere").status_code == 404
    assert browser.get("/").headers["location"] == "/login"
    assert browser.get("/dashboard/events").status_code == 401
    assert 'name="after" value="/lists/iwf.images"' in browser.get("/login?after=/lists/iwf.images").text
    assert 'name="after" value="/"' in browser.get("/login?after=https://evil.example/").text


def test_signing_in_gives_a_cookie_that_only_we_are_sent(run: Running, browser: httpx.Client) -> None:
    """HttpOnly, SameSite=Strict, twelve hours; the log says from where, and holds no token."""
    answer = sign_in(browser, after="/matchers")
    assert (answer.status_code, answer.headers["location"]) == (303, "/matchers")
    session, form = answer.headers.get_list("set-cookie")
    assert re.fullmatch(r"syncd=[\w-]{43}; HttpOnly; Max-Age=43200; Path=/; SameSite=strict", session)
    assert form.startswith('syncd-form=""')
    assert browser.get("/matchers").status_code == 200
    assert browser.get("/login").headers["location"] == "/"
    signed_in = [one.document() for one in run.named("dashboard_signed_in")]
    assert signed_in == [{"operator": "operator", "peer": "127.0.0.1"}]


def test_behind_tls_the_cookie_is_bound_to_the_host(standing: World) -> None:
    """The prefix `__Host-`, and Secure."""
    with serving(standing, behind_proxy=True) as run, httpx.Client(base_url=run.url, headers=OURS) as browser:
        page = browser.get("/login")
        (cookie,) = page.headers.get_list("set-cookie")
        assert re.fullmatch(
            r"__Host-syncd-form=[\w-]{43}; HttpOnly; Max-Age=43200; Path=/; SameSite=strict; Secure", cookie
        )
        form = {"form": proof(page), "token": OPERATOR}
        answer = browser.post("/login", data=form, headers={"Cookie": cookie.partition(";")[0]})
        session = answer.headers.get_list("set-cookie")[0]
        assert session.startswith("__Host-syncd=")
        assert session.endswith("; Path=/; SameSite=strict; Secure")


@pytest.mark.parametrize(
    "path", ["/", "/lists/iwf.images", "/sources/iwf", "/matchers", "/events", "/audit", "/lists/none", "/login"]
)
def test_every_page_has_every_header(browser: httpx.Client, path: str) -> None:
    """And is not stored."""
    if path != "/login":
        sign_in(browser)
    headers = browser.get(path).headers
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "geolocation=()" in headers["permissions-policy"]


def test_files_are_kept_by_their_content(browser: httpx.Client) -> None:
    """Under a name that changes with it; under no other name is there anything."""
    answer = browser.get(address("dashboard.css"))
    assert answer.headers["cache-control"] == "public, immutable, max-age=31536000"
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert browser.get("/dashboard/assets/0000000000000000/dashboard.css").status_code == 404
    assert browser.get(address("dashboard.css").replace("dashboard.css", "__init__.py")).status_code == 404


def test_pages_hold_no_digest_no_entry_and_no_token(run: Running, browser: httpx.Client) -> None:
    """Lists, versions and numbers only; and a partner's words are words."""
    sign_in(browser)
    check_in(run)
    secrets = [part for one in rows(0, 30) for part in one[1:3]]
    for path in ("/", "/lists/iwf.images", "/sources/iwf", "/matchers", "/events", "/audit"):
        shown = browser.get(path).text
        words = set(re.findall(r"[\w-]+", re.sub(r'name="form" value="\w+"', "", shown)))
        assert not words & {*secrets, OPERATOR}
        assert not [one for one in words if re.fullmatch("[0-9a-f]{32,}", one)]
        assert "<script>alert" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in browser.get("/sources/iwf").text


def test_the_audit_log_has_a_page(run: Running, browser: httpx.Client) -> None:
    """Who did what, the newest first; only for those who are signed in."""
    assert browser.get("/audit").status_code == 303
    sign_in(browser)
    run.publisher.catalog.append("alice", RevokedMatcher("<web>"), START)
    shown = browser.get("/audit").text
    assert 'aria-current="page">Audit log' in shown
    assert shown.index("revoked matcher &lt;web&gt;") < shown.index("published iwf.images version 1")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"old", "web", "mail", "published"}),
        ("since=&actor=&act=&list=", {"old", "web", "mail", "published"}),
        ("since=150m", {"web", "mail", "published"}),
        ("since=2026-01-01T10:00&until=90m", {"web"}),
        ("actor=alice", {"old", "mail"}),
        ("actor=alice&since=24h", {"mail"}),
        ("act=revoked_matcher", {"old", "web", "mail"}),
        ("list=iwf.images", {"published"}),
        ("list=iwf.images&act=revoked_matcher", set()),
    ],
)
def test_the_audit_log_is_filtered_as_by_the_command(
    run: Running, browser: httpx.Client, query: str, found: set[str]
) -> None:
    """A record meets all the filters that are given; the form keeps them."""
    sign_in(browser)
    for actor, name, hours in (("alice", "old", 50), ("bob", "web", 2), ("alice", "mail", 1)):
        run.publisher.catalog.append(actor, RevokedMatcher(name), START - timedelta(hours=hours))
    shown = browser.get(f"/audit?{query}").text
    records = shown.partition('data-live="audit"')[2]
    words = {name: f"revoked matcher {name}" for name in ("old", "web", "mail")}
    words["published"] = "published iwf.images version 1"
    assert {name for name, text in words.items() if text in records} == found
    assert ("No such record." in records) == (not found)
    kept = [pair.partition("=")[2] for pair in query.split("&") if not pair.endswith("=")]
    assert [value for value in kept if f'value="{value}"' not in shown] == []


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("since=yesterday", "Since is neither a time nor a duration: for example 2026-11-01"),
        ("since=1h&until=2h", "Since is after Until: exchange the two times."),
        ("act=release", "there is no act of that name: did you mean released?"),
        ("list=%3Cscript%3E", "is not a list name"),
    ],
)
def test_a_wrong_filter_of_the_audit_log_is_explained(browser: httpx.Client, query: str, fault: str) -> None:
    """In place of the records."""
    sign_in(browser)
    shown = browser.get(f"/audit?{query}")
    assert (shown.status_code, fault in shown.text, "published iwf.images" in shown.text) == (200, True, False)


def test_a_wrong_token_is_told_and_logged(run: Running, browser: httpx.Client) -> None:
    """And lets nobody in."""
    answer = sign_in(browser, "matcher-token", after="/matchers")
    assert answer.status_code == 403
    assert "This is not the operator token." in answer.text
    assert 'name="after" value="/matchers"' in answer.text
    assert "matcher-token" not in answer.text
    assert browser.get("/").status_code == 303
    assert [one.name() for one in run.events if "dashboard" in one.name()] == ["dashboard_refused"]


def test_guessing_is_answered_with_patience(run: Running, browser: httpx.Client) -> None:
    """After ten wrong tokens a minute from one address none is looked at from there, the right one included."""
    page = browser.get("/login")
    form = {"form": proof(page), "token": "guess"}
    assert [browser.post("/login", data=form).status_code for _ in range(10)] == [403] * 10
    answer = browser.post("/login", data={**form, "token": OPERATOR})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    run.world.clock.forward(minutes=1)
    assert browser.post("/login", data={**form, "token": OPERATOR}).status_code == 303


@pytest.mark.parametrize(
    ("behind_proxy", "told", "peer", "status"),
    [
        (True, "203.0.113.9, 192.0.2.7", "192.0.2.7", 303),
        (True, "192.0.2.7, unknown", "127.0.0.1", 303),
        (False, "192.0.2.7", "127.0.0.1", 429),
    ],
)
def test_who_guesses_is_known_by_what_the_proxy_says(
    standing: World, behind_proxy: bool, told: str, peer: str, status: int
) -> None:
    """The last address, which the proxy added; without a proxy, the client's own: anybody can send a header."""
    with serving(standing, behind_proxy=behind_proxy) as run, httpx.Client(base_url=run.url, headers=OURS) as browser:
        page = browser.get("/login")
        cookie = {"Cookie": page.headers["set-cookie"].partition(";")[0]}
        form = {"form": proof(page), "token": "guess"}
        for _ in range(10):
            browser.post("/login", data=form, headers={**cookie, "X-Forwarded-For": told})
        assert {one.document()["peer"] for one in run.named("dashboard_refused")} == {peer}
        form["token"] = OPERATOR
        answer = browser.post("/login", data=form, headers={**cookie, "X-Forwarded-For": "198.51.100.1"})
        assert answer.status_code == status


def test_another_site_cannot_sign_anybody_in(browser: httpx.Client) -> None:
    """Not by a form of its own, not with a proof of its own browser's, not with a body of another kind."""
    assert sign_in(browser, Sec_Fetch_Site="cross-site").status_code == 403
    good = proof(browser.get("/login"))
    browser.cookies.clear()
    assert browser.post("/login", data={"form": good, "token": OPERATOR}).status_code == 403
    browser.get("/login")
    assert browser.post("/login", data={"token": OPERATOR}).status_code == 403
    fresh = proof(browser.get("/login"))
    form = {"form": fresh, "token": OPERATOR}
    other_kinds = (
        browser.post("/login", json=form),
        browser.post("/login", content=urlencode(form)),
        browser.post("/login", data={**form, "more": "x" * 9000}),
    )
    assert [one.status_code for one in other_kinds] == [403] * 3
    assert all("The form was not sent from this page." in one.text for one in other_kinds)
    assert browser.get("/").status_code == 303


def test_another_site_cannot_sign_anybody_out(browser: httpx.Client) -> None:
    """It needs the proof of a page of ours, sent from a page of ours."""
    sign_in(browser)
    form = {"form": proof(browser.get("/"))}
    assert browser.post("/logout", data=form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert browser.post("/logout", data={"form": "0" * 64}).status_code == 403
    assert browser.get("/").status_code == 200
    answer = browser.post("/logout", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert browser.get("/").status_code == 303
    assert browser.post("/logout").headers["location"] == "/login"


def test_a_session_of_another_server_is_none(browser: httpx.Client) -> None:
    """A made-up id lets nobody in."""
    browser.cookies.set("syncd", "A" * 43)
    assert browser.get("/").status_code == 303


def test_a_session_ends_when_the_operator_token_changes(run: Running, browser: httpx.Client) -> None:
    """Whoever had the old one is out."""
    sign_in(browser)
    run.access.set_tokens("another-operator-token", None)
    assert browser.get("/").status_code == 303


def test_a_link_from_a_chat_is_followed_when_signed_in(browser: httpx.Client) -> None:
    """The browser keeps a strict cookie back from it: our page asks once more, by itself."""
    sign_in(browser)
    session = browser.cookies.get("syncd")
    assert session
    browser.cookies.clear()
    elsewhere = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    answer = browser.get("/lists/iwf.images", headers=elsewhere)
    assert (answer.status_code, '<meta http-equiv="refresh" content="0">' in answer.text) == (200, True)
    assert "iwf" not in answer.text
    browser.cookies.set("syncd", session)
    assert "iwf.images" in browser.get("/lists/iwf.images").text


def test_what_is_not_there_is_told(browser: httpx.Client) -> None:
    """With a way back."""
    sign_in(browser)
    for path in ("/lists/none", "/sources/none"):
        answer = browser.get(path)
        assert answer.status_code == 404
        assert "There is no such page" in answer.text


def test_a_storage_that_fails_is_told(run: Running, browser: httpx.Client) -> None:
    """What is wrong and what to do, not a traceback."""
    sign_in(browser)
    run.world.state.feed.path("metadata/timestamp.json").write_text("{")
    answer = browser.get("/")
    assert answer.status_code == 503
    assert "This page cannot be shown now" in answer.text
    assert answer.headers["content-security-policy"] == POLICY


def test_the_stream_tells_and_ends(run: Running, browser: httpx.Client) -> None:
    """A tick when a sync ended, and the end when somebody signs out."""
    sign_in(browser)
    form = {"form": proof(browser.get("/"))}
    with httpx.stream("GET", f"{run.url}/dashboard/events", cookies=dict(browser.cookies)) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["content-security-policy"] == POLICY
        lines = answer.iter_lines()
        assert next(lines) == "retry: 2000"
        run.world.publish(add=rows(100, 103))
        sync_now(run)
        assert next(one for one in lines if one.startswith("event")) == "event: tick"
        assert browser.post("/logout", data=form).status_code == 303
        assert "event: ended" in list(lines)


def test_signing_out_ends_a_quiet_stream_at_once(run: Running, browser: httpx.Client) -> None:
    """It does not wait for the next beat."""
    sign_in(browser)
    form = {"form": proof(browser.get("/"))}
    with httpx.stream("GET", f"{run.url}/dashboard/events", cookies=dict(browser.cookies)) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "retry: 2000"
        assert browser.post("/logout", data=form).status_code == 303
        assert [one for one in lines if one] == ["event: ended", "data: {}"]


def test_streams_end_with_the_server(run: Running, browser: httpx.Client) -> None:
    """At once: nobody waits for a beat."""
    sign_in(browser)
    read: list[str] = []
    begun = threading.Event()

    def listen() -> None:
        with httpx.stream("GET", f"{run.url}/dashboard/events", cookies=dict(browser.cookies)) as answer:
            for line in answer.iter_lines():
                read.append(line)
                begun.set()

    reader = threading.Thread(target=listen)
    reader.start()
    assert begun.wait(10)
    assert run.site.stop(5)
    reader.join(5)
    assert not reader.is_alive()
    assert "event: ended" not in read


def test_no_more_streams_are_open_than_may_be(
    run: Running, browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ask before the first is answered; who has gone, answered or not, makes room."""
    monkeypatch.setattr(routes, "_STREAMS", 1)
    sign_in(browser)
    cookie = f"syncd={browser.cookies['syncd']}".encode()
    path, method = "/dashboard/events", "GET"
    scope = {"type": "http", "path": path, "method": method, "query_string": b"", "headers": [(b"cookie", cookie)]}

    async def statuses() -> list[int]:
        all_answered, told = asyncio.Event(), list[int]()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                told.append(message["status"])
                if len(told) == 3:
                    all_answered.set()
                await all_answered.wait()

        async def ask() -> None:
            request = [{"type": "http.request", "body": b""}]

            async def receive() -> Message:
                if not request:
                    await all_answered.wait()
                return request.pop() if request else {"type": "http.disconnect"}

            await run.site.app(dict(scope), receive, send)

        async with asyncio.timeout(20):
            await asyncio.gather(ask(), ask(), ask())
        return sorted(told)

    assert [asyncio.run(statuses()) for _ in range(2)] == [[200, 503, 503]] * 2


def in_thread(work: Callable[[], None]) -> threading.Thread:
    """Do something meanwhile."""
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_who_asks_at_the_same_time_shares_one_look(run: Running) -> None:
    """Of those who ask while a look is under way, all are given the next one: never what was seen before they asked."""
    looks: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def look() -> Overview:
        looks.append(len(looks))
        begun.set()
        assert go_on.wait(10)
        return overview.read(run.world.state, run.publisher.catalog, {}, START + timedelta(days=len(looks)))

    reading = Reading(replace(run.context, overview=look))
    seen: list[datetime] = []

    def ask() -> None:
        seen.append(reading.data().overview.now)

    first = in_thread(ask)
    assert begun.wait(10)
    others = [in_thread(ask) for _ in range(5)]
    while reading.asking < 6:
        threading.Event().wait(0.001)
    go_on.set()
    for one in (first, *others):
        one.join(10)
    assert sorted(seen) == [START + timedelta(days=1)] + [START + timedelta(days=2)] * 5
