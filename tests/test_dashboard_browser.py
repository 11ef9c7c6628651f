"""The dashboard in a real Chromium, against a real server. Screenshots go to ``ci-output/``."""

import re
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from dashboard_site import VIDEOS, check_in, make_trouble, publish_past, serving, sync_now
from syncd.acts import Discarded, Released, RolledBack, Unpinned
from web_site import ALICE, OPERATOR, VERA, Running
from world import World, row, rows

CHROMIUM = shutil.which("chromium")
SHOTS = Path(__file__).parent.parent / "ci-output"
QUIET = (
    "--no-sandbox",  # tests may run as root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
RUNBOOK = "https://wiki.example.org/syncd/operations"
WIDTHS = {"wide": 1280, "phone": 375}
PAGES = {
    "overview": "/",
    "list": "/lists/iwf.images",
    "source": "/sources/hotline",
    "matchers": "/matchers",
    "events": "/events",
    "audit": "/audit",
}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An operator's morning."""
    world = World(tmp_path_factory.mktemp("dashboard"))
    publish_past(world)
    make_trouble(world)
    with serving(world, runbook=RUNBOOK) as running:
        check_in(running)
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser, with an empty profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


class Visit:
    """A window, and all that it complained of or asked for."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context, self.url = context, url
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", self._ask)

    def _ask(self, request: Request) -> None:
        self.asked.append(request.url)

    def open(self, path: str) -> Page:
        """Go to a page of ours."""
        self.page.goto(f"{self.url}{path}")
        return self.page

    def sign_in(self, path: str = "/", token: str = OPERATOR) -> Page:
        """By the keyboard alone: the field has the focus."""
        page = self.open(path)
        expect(page.get_by_label("Operator token")).to_be_focused()
        page.keyboard.type(token)
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        return page

    def check(self) -> None:
        """Nothing was complained of, no policy was broken, and nobody else was asked for anything."""
        refused = re.compile("status of 40[13]")  # Chromium's own words for a token that was wrong
        assert [one for one in self.said if not refused.search(one)] == []
        assert [one for one in self.asked if not one.startswith(f"{self.url}/")] == []


@pytest.fixture
def visit(run: Running, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A window of nobody who is signed in."""
    context = chromium.new_context(**getattr(request, "param", {}), viewport={"width": 1280, "height": 900})
    found = Visit(context, run.url)
    yield found
    found.check()
    context.close()


def is_live(page: Page) -> None:
    """The stream is open."""
    expect(page.locator("#live")).to_have_text("Live", timeout=15_000)


def test_signing_in_by_keyboard_leads_to_everything(visit: Visit) -> None:
    """What needs a person stands first; then the lists, each with its state in words."""
    page = visit.sign_in()
    expect(page.get_by_role("heading", level=1)).to_have_text("2 problems to fix now")
    expect(page.locator(".task.act").first).to_contain_text("Matcher scanner")
    expect(page.locator(".task.act").last).to_contain_text("Matcher uploads")
    expect(page.locator(".task.watch").first).to_contain_text("cannot be reached")
    row = page.get_by_role("row", name=re.compile("^iwf.images"))
    expect(row).to_contain_text("current")
    expect(row).to_contain_text("3 minutes ago")
    is_live(page)


def test_each_problem_leads_to_its_section_of_the_runbook(visit: Visit) -> None:
    """A link that the keyboard reaches, to the configured page; it says nothing to that page of where it came from."""
    page = visit.sign_in()
    expect(page.locator(".task")).to_have_count(4)
    links = page.locator(".task").get_by_role("link", name=re.compile("^Syncd"))
    assert [link.get_attribute("href") for link in links.all()] == [
        f"{RUNBOOK}#syncdmatchersilent",
        f"{RUNBOOK}#syncdmatcherbehind",
        f"{RUNBOOK}#syncdunreachable",
        f"{RUNBOOK}#syncdunreachable",
    ]
    visit.context.route(f"{RUNBOOK}*", lambda route: route.fulfill(body="the runbook"))
    links.first.focus()
    with page.expect_request(f"{RUNBOOK}*") as asked:
        page.keyboard.press("Enter")
    assert "referer" not in asked.value.headers
    expect(page.locator("body")).to_have_text("the runbook")
    assert page.url == f"{RUNBOOK}#syncdmatchersilent"
    visit.asked[:] = [asked for asked in visit.asked if not asked.startswith(RUNBOOK)]


def test_a_wrong_token_is_told_where_it_was_typed(visit: Visit) -> None:
    """In words that a screen reader is given at once, with the focus in the field again."""
    page = visit.open("/")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This is not the operator token.")
    expect(page.get_by_label("Operator token")).to_be_focused()
    expect(page.get_by_label("Operator token")).to_have_accessible_description(re.compile("^This is not"))
    page.screenshot(path=SHOTS / "dashboard-login.png")


def test_a_sync_appears_without_loading_the_page_again(run: Running, visit: Visit) -> None:
    """The version rises while one looks on; what was open stays open, and the focus where it was."""
    page = visit.sign_in("/lists/iwf.images")
    is_live(page)
    page.evaluate("window.same = true")
    page.get_by_text("Show the numbers as a table").click()
    before = page.locator("#versions tbody tr").count()
    run.world.publish(add=rows(5000, 5040))
    sync_now(run)
    expect(page.locator("#versions tbody tr")).to_have_count(before + 1)
    expect(page.locator("#said")).to_have_text(re.compile(r"^iwf\.images: version \d+$"))
    expect(page.locator("#rows-numbers tbody tr")).to_have_count(before + 1)
    expect(page.locator("#rows-numbers")).to_have_attribute("open", "")
    assert page.evaluate("window.same")


def test_an_update_leaves_the_focus_where_it_was(run: Running, visit: Visit) -> None:
    """The part of the page that changed is another one, and the reader is still at the same link."""
    page = visit.sign_in()
    is_live(page)
    link = page.locator("#lists").get_by_role("link", name="iwf.videos")
    link.focus()
    run.world.publish(add=rows(6000, 6001), name=VIDEOS)
    version = page.get_by_role("row", name=re.compile("^iwf.videos")).get_by_role("cell").nth(1)
    before = int(version.inner_text())
    sync_now(run)
    expect(version).to_have_text(str(before + 1))
    expect(link).to_be_focused()


@pytest.mark.parametrize(
    ("visit", "moves", "number"),
    [({"reduced_motion": "no-preference"}, True, 7000), ({"reduced_motion": "reduce"}, False, 7001)],
    indirect=["visit"],
)
def test_an_update_moves_for_who_does_not_mind(run: Running, visit: Visit, moves: bool, number: int) -> None:
    """It fades in, the only thing that ever moves, but for who asked the system for less motion."""
    page = visit.sign_in()
    is_live(page)
    page.evaluate("void (Element.prototype.animate = () => { window.moved = true; })")
    version = page.get_by_role("row", name=re.compile("^iwf.images")).get_by_role("cell").nth(1)
    before = int(version.inner_text())
    run.world.publish(add=rows(number, number + 1))
    sync_now(run)
    expect(version).to_have_text(str(before + 1))
    assert page.evaluate("window.moved === true") is moves


def test_a_lost_stream_is_said_and_found_again(visit: Visit) -> None:
    """What is shown may be old meanwhile."""
    visit.context.route("**/dashboard/events", lambda route: route.abort())
    page = visit.sign_in()
    expect(page.get_by_role("status")).to_have_text("Reconnecting")
    visit.context.unroute("**/dashboard/events")
    is_live(page)
    visit.said.clear()  # of what was kept away


def test_an_update_that_fails_is_said(run: Running, visit: Visit) -> None:
    """Until one comes through again: what is shown is not called live."""
    page = visit.sign_in("/matchers")
    is_live(page)
    visit.context.route("**/matchers", lambda route: route.fulfill(status=503))
    run.news.changed()
    expect(page.get_by_role("status")).to_have_text("Not updated")
    visit.context.unroute("**/matchers")
    run.news.changed()
    expect(page.get_by_role("status")).to_have_text("Live", timeout=15_000)
    visit.said.clear()  # of what failed


def test_times_are_said_in_the_same_words_by_server_and_script(visit: Visit) -> None:
    """So nothing moves when the script takes over."""
    visit.context.route("**/*.js", lambda route: route.abort())
    page = visit.sign_in()
    told = ticking(page)
    visit.said.clear()  # of the script that was kept away
    visit.context.unroute("**/*.js")
    page.reload()
    is_live(page)
    assert ticking(page) == told
    assert len(told) > 10


def ticking(page: Page) -> list[str]:
    """Times that go on counting; not those that change while one looks."""
    return [one for one in page.locator("time[data-tick]").all_text_contents() if "second" not in one]


def test_signing_out_ends_every_window(visit: Visit) -> None:
    """The other one is told by its stream, and shows the form."""
    page = visit.sign_in()
    is_live(page)
    other = visit.context.new_page()
    other.goto(f"{visit.url}/matchers")
    is_live(other)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Operator token")).to_be_visible()
    expect(other.get_by_label("Operator token")).to_be_visible()


def test_everything_has_a_name(visit: Visit) -> None:
    """Landmarks, tables and the plot, as assistive technology is given them."""
    page = visit.sign_in("/lists/iwf.images")
    for role, name in (("banner", ""), ("navigation", "Pages"), ("main", ""), ("contentinfo", "")):
        expect(page.get_by_role(role, name=name or None)).to_have_count(1)  # type: ignore[arg-type]  # a few of them
    expect(page.get_by_role("img")).to_have_accessible_name(re.compile(r"^[\d,]+ rows now, "))
    expect(page.get_by_role("table", name="Recent versions")).to_be_visible()
    columns = page.get_by_role("table", name="Recent versions").get_by_role("columnheader").all_text_contents()
    assert columns == ["Version", "Published (UTC)", "Rows", "Added", "Removed", "Relabelled", "Plan"]
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


@pytest.mark.parametrize("visit", [{"java_script_enabled": False}], indirect=True)
def test_it_works_without_a_script(visit: Visit) -> None:
    """Everything but the updates, and it says how to get those."""
    page = visit.sign_in("/sources/hotline")
    expect(page.locator("#live")).to_have_text("Not live: reload")
    expect(page.get_by_role("table", name="Recent syncs")).to_contain_text("cannot be reached")
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("table", name="Lists")).to_contain_text("iwf.videos")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Operator token")).to_be_visible()


def test_no_window_is_too_narrow(visit: Visit) -> None:
    """Down to 320 pixels (WCAG 2.2, 1.4.10) nothing is cut off, and no name is broken letter by letter."""
    page = visit.sign_in()
    for path in reversed(PAGES.values()):
        visit.open(path)
        for pixels in (2000, 1160, 1140, 800, 600, 320):
            page.set_viewport_size({"width": pixels, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (path, pixels)
            for name in page.locator("tbody th a").all() if path == "/" else ():
                box = name.bounding_box()
                assert box is not None
                assert box["height"] < 30, pixels


def told_roles(page: Page) -> set[str]:
    """Every role in the tree that Chromium itself gives to assistive technology."""
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")
    return {one["role"]["value"] for one in tree["nodes"] if not one["ignored"]}


def test_every_page_fits_a_telephone_and_a_desk(visit: Visit) -> None:
    """No page is wider than its window, and tables stay tables where they are laid out as blocks."""
    page = visit.sign_in()
    for (width, pixels), (name, path) in product(WIDTHS.items(), PAGES.items()):
        page.set_viewport_size({"width": pixels, "height": 900})
        visit.open(path)
        is_live(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert {"table", "row", "columnheader", "rowheader", "cell"} <= told_roles(page)
        page.screenshot(path=SHOTS / f"dashboard-{name}-{width}-light.png", full_page=True)
        page.emulate_media(color_scheme="dark")
        page.screenshot(path=SHOTS / f"dashboard-{name}-{width}-dark.png", full_page=True)
        page.emulate_media(color_scheme="light")


def test_paper_is_white_and_shows_all_that_can_be_shown(visit: Visit) -> None:
    """Dark ink, whatever the screen's scheme; what is folded up, and nothing to press."""
    page = visit.sign_in("/lists/iwf.images")
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.locator("body")).to_have_css("color", "rgb(27, 30, 34)")
    expect(page.locator("body")).to_have_css("background-color", "rgba(0, 0, 0, 0)")
    expect(page.locator("details table").first).to_be_visible()
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()


# acting


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Running]:
    """A list whose emptying is held, of several algorithms, on a dashboard that may act."""
    world = World(tmp_path / "desk")
    world.publish(full=[*rows(0, 1200), *(row(number, algorithm="md5") for number in range(340))])
    world.sync()
    world.publish(remove=[*rows(0, 1200), *(row(number, algorithm="md5") for number in range(340))])
    world.clock.forward(hours=3)
    world.sync()
    world.clock.forward(minutes=40)
    with serving(world, actions=True) as running:
        yield running


@pytest.fixture
def desk_visit(desk: Running, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A window on it."""
    context = chromium.new_context(**getattr(request, "param", {}), viewport={"width": 1280, "height": 900})
    found = Visit(context, desk.url)
    yield found
    found.check()
    context.close()


@pytest.mark.parametrize(
    "desk_visit", [{}, {"java_script_enabled": False}], indirect=True, ids=["with a script", "without"]
)
def test_a_hold_is_released_by_keyboard(desk: Running, desk_visit: Visit) -> None:
    """From the table over the form to the page that says what was done, with and without JavaScript."""
    page = desk_visit.sign_in("/holds", ALICE.token)
    shown = page.get_by_role("row", name=re.compile("^1"))
    expect(shown).to_contain_text("340 md5 to remove, 1,200 sha256 to remove")
    expect(shown).to_contain_text("40 minutes ago")
    page.get_by_role("link", name="Release hold 1").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Release hold 1")
    page.get_by_label("Reason").fill("IWF confirmed it by telephone")
    expect(page.get_by_label("Reason")).to_have_accessible_description(re.compile("^The audit log keeps it"))
    page.get_by_label("Your token, again").fill(ALICE.token)
    page.keyboard.press("Enter")
    expect(page.locator(".done")).to_contain_text("Hold 1 of iwf.images was released: 1,540 rows (removals).")
    expect(page.get_by_role("heading", level=1)).to_have_text("iwf.images")
    entry = desk.publisher.catalog.audit_entries()[0]
    assert (entry.actor, type(entry.act)) == ("alice", Released)
    assert not [url for url in desk_visit.asked if ALICE.token in url]


def test_a_refused_act_keeps_the_reason_and_says_why(desk: Running, desk_visit: Visit) -> None:
    """Beside the form, for a screen reader too; the second attempt needs the token only."""
    page = desk_visit.sign_in("/acts/discard/1", ALICE.token)
    page.get_by_label("Reason").fill("somebody else signed it")
    page.get_by_label("Your token, again").fill(VERA.token)
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_role("alert")).to_have_text(
        "This is a viewer's token, which may look but not act. Nothing was done."
    )
    expect(page.get_by_label("Reason")).to_have_value("somebody else signed it")
    expect(page.get_by_label("Your token, again")).to_have_value("")
    page.screenshot(path=SHOTS / "dashboard-act-refused.png")
    page.get_by_label("Your token, again").fill(ALICE.token)
    page.get_by_role("button", name="Discard").click()
    expect(page.locator(".done")).to_contain_text("1,540 rows (removals) stay out.")
    assert type(desk.publisher.catalog.audit_entries()[0].act) is Discarded
    page.goto(f"{desk_visit.url}/holds")
    expect(page.get_by_role("table", name="Discarded holds")).to_contain_text("somebody else signed it")


def test_what_is_typed_survives_news(desk: Running, desk_visit: Visit) -> None:
    """A form is never replaced under the hands of whoever fills it in: its page asks for nothing by itself."""
    page = desk_visit.sign_in("/acts/release/1", ALICE.token)
    page.get_by_label("Reason").fill("half a sen")
    asked = list(desk_visit.asked)
    with page.context.expect_page() as opened:
        page.evaluate("open('/lists/iwf.images')")
    is_live(opened.value)
    desk.world.publish(add=rows(2000, 2003))
    sync_now(desk)
    expect(opened.value.locator("#said")).to_have_text(re.compile("iwf.images: version 2"))
    expect(page.get_by_label("Reason")).to_have_value("half a sen")
    assert desk_visit.asked == asked
    assert "/dashboard/events" not in "".join(asked)


def test_the_pages_of_acts_fit_every_window(desk_visit: Visit) -> None:
    """From 320 pixels to a desk, in light and dark; who is signed in stands at the top."""
    page = desk_visit.sign_in("/", ALICE.token)
    expect(page.get_by_role("banner")).to_contain_text("alice")
    for name, path in (("holds", "/holds"), ("act", "/acts/release/1"), ("act-source", "/sources/iwf")):
        desk_visit.open(path)
        for pixels in (1280, 600, 375, 320):
            page.set_viewport_size({"width": pixels, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (path, pixels)
            for scheme in ("light", "dark") if pixels in {1280, 375} else ():
                page.emulate_media(color_scheme=scheme)
                width = "wide" if pixels == 1280 else "phone"
                page.screenshot(path=SHOTS / f"dashboard-{name}-{width}-{scheme}.png", full_page=True)


@pytest.mark.parametrize(
    "desk_visit", [{}, {"java_script_enabled": False}], indirect=True, ids=["with a script", "without"]
)
def test_a_list_is_rolled_back_and_unpinned_by_keyboard(desk: Running, desk_visit: Visit) -> None:
    """From the list over the forms and back, with the state in words; with and without JavaScript."""
    again = [*rows(0, 1200), *(row(number, algorithm="md5") for number in range(340))]
    desk.world.publish(add=[*again, *rows(3000, 3010)])  # nothing waits any more
    sync_now(desk)
    page = desk_visit.sign_in("/lists/iwf.images", ALICE.token)
    page.get_by_role("link", name="Roll back").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Roll iwf.images back")
    for pixels in (1280, 320):
        page.set_viewport_size({"width": pixels, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), pixels
        page.screenshot(path=SHOTS / f"dashboard-rollback-{pixels}.png", full_page=True)
    page.get_by_label("Version").fill("1")
    page.get_by_label("Reason").fill("IWF signed a wrong list")
    page.get_by_label("Your token, again").fill(ALICE.token)
    page.keyboard.press("Enter")
    expect(page.locator(".done")).to_contain_text("iwf.images is pinned to version 1. Version 3 is published:")
    expect(page.locator("#standing")).to_contain_text("IWF signed a wrong list")
    assert type(desk.publisher.catalog.audit_entries()[0].act) is RolledBack
    page.get_by_role("link", name="Unpin").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Unpin iwf.images")
    page.get_by_label("Reason").fill("IWF corrected it")
    page.get_by_label("Your token, again").fill(ALICE.token)
    page.get_by_role("button", name="Unpin").click()
    expect(page.locator(".done")).to_contain_text("iwf.images is no longer pinned.")
    assert type(desk.publisher.catalog.audit_entries()[0].act) is Unpinned
    assert not [url for url in desk_visit.asked if ALICE.token in url]


def test_a_digest_is_suppressed_ahead_and_forever_by_keyboard(desk: Running, desk_visit: Visit) -> None:
    """The boxes have labels and explanations, and the digest stays out of every address."""
    page = desk_visit.sign_in("/acts/suppress", ALICE.token)
    digest = "0" * 64
    page.get_by_label("Digest").fill(f"sha256:{digest}")
    for name, explained in (("Forever", "It never expires"), ("Ahead", "The digest is not listed now")):
        expect(page.get_by_label(name)).to_have_accessible_description(re.compile(f"^{explained}"))
        page.get_by_label(name).press("Space")
        expect(page.get_by_label(name)).to_be_checked()
    page.screenshot(path=SHOTS / "dashboard-suppress.png", full_page=True)
    page.get_by_label("Reason").fill("a holiday photo")
    page.get_by_label("Your token, again").fill(ALICE.token)
    page.keyboard.press("Enter")
    expect(page.locator(".done")).to_contain_text("Suppression 1 is in force: 0 rows.")
    expect(page.get_by_role("table", name="1 suppression in force")).to_contain_text("never")
    (one,) = desk.publisher.catalog.suppressions()
    assert (one.expires_at, one.author) == (None, "alice")
    assert not [url for url in desk_visit.asked if digest in url]
