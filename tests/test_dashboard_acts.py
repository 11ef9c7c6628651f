"""Acting from the dashboard, over HTTP: what an act needs, what refuses it, and what remains of it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlencode

import httpx
import pytest

from syncd.acts import AskedForSync, Discarded, Released, RolledBack, Unpinned
from syncd.catalog.decisions import HoldRecord, HoldState
from syncd.events import DashboardActed, DashboardActRefused, HoldEnded, ListRolledBack, TokenRefused
from syncd.limits import ListLimits
from syncd.model import Digest, ListName
from syncd.operate import suppressions
from syncd.operate.rollback import rollback
from syncd.operate.suppression_order import Correction, SuppressionOrder
from syncd.service.access import PersonToken
from syncd.service.web.dashboard import actions
from syncd.service.web.dashboard.actions import DashboardAct, Input
from syncd.service.web.dashboard.corrections import ACTS
from web_site import ALICE, OPERATOR, VERA, Running, running
from world import HEAD, World, row, rows

OURS = {"Sec-Fetch-Site": "same-origin"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REASON = "IWF confirmed it by telephone"


@pytest.fixture
def held(standing: World) -> World:
    """A list of 30 entries whose emptying is held as hold 1, ten minutes ago."""
    standing.publish(remove=rows(0, 30))
    standing.sync()
    standing.clock.forward(minutes=10)
    return standing


@pytest.fixture
def run(held: World) -> Iterator[Running]:
    with running(held, actions=True) as site:
        yield site


@pytest.fixture
def browser(run: Running) -> Iterator[httpx.Client]:
    """Alice has signed in."""
    with httpx.Client(base_url=run.url, headers=OURS) as client:
        sign_in(client, ALICE)
        yield client


def sign_in(client: httpx.Client, person: PersonToken) -> None:
    answer = client.post("/login", data={"form": hidden(client.get("/login"), "form"), "token": person.token})
    assert answer.status_code == 303


def hidden(page: httpx.Response, name: str) -> str:
    """A hidden field of the last form of a page."""
    found = re.findall(rf'name="{name}" value="([0-9a-f]*)"', page.text)
    assert found, page.text
    return str(found[-1])


def act(client: httpx.Client, path: str, token: str = ALICE.token, **changes: str) -> httpx.Response:
    """Fill in the form of an act and send it."""
    page = client.get(path)
    form = {"form": hidden(page, "form"), "seal": hidden(page, "seal"), "reason": REASON, "token": token, **changes}
    return client.post(path, data={name: value for name, value in form.items() if value})


def fault(answer: httpx.Response) -> str:
    found = re.search(r'role="alert">([^<]*)<', answer.text)
    assert found, answer.text
    return found[1].replace("&#x27;", "'")


def hold(run: Running, number: int = 1) -> HoldRecord:
    found = run.publisher.catalog.hold(number)
    assert found is not None
    return found


def version(run: Running) -> int:
    return run.publisher.catalog.heads()[0].version


def test_holds_are_shown_with_counts_age_and_reasons(browser: httpx.Client) -> None:
    """On a page of their own and on the list's, with links to what ends them."""
    for path in ("/holds", "/lists/iwf.images"):
        page = browser.get(path).text
        assert "30 sha256 to remove" in page
        assert "10 minutes ago" in page
        assert "the update would leave the list without any entry" in page
        assert 'href="/acts/release/1"' in page
        assert 'href="/acts/discard/1"' in page


def test_the_page_of_an_act_says_what_it_does(browser: httpx.Client) -> None:
    """The counts, the reason, the effect; every field has a label; nothing happens by looking."""
    page = browser.get("/acts/release/1")
    assert page.status_code == 200
    for text in ("Release hold 1", "30 sha256 to remove", "removals", "Publishes these rows to every matcher at once"):
        assert text in page.text
    for field in ("reason", "token"):
        assert f'<label for="{field}">' in page.text
        assert f'id="{field}"' in page.text
    assert page.headers["cache-control"] == "no-store"


def test_a_release_goes_live_under_the_operators_name(run: Running, browser: httpx.Client) -> None:
    """In the audit log, in the log, and on the page that follows."""
    answer = act(browser, "/acts/release/1")
    assert answer.status_code == 303
    assert re.fullmatch(r"/lists/iwf\.images\?done=[0-9a-f]{80}", answer.headers["location"])
    after = browser.get(answer.headers["location"]).text
    assert "Hold 1 of iwf.images was released: 30 rows (removals). Version 2 is published." in after
    assert (version(run), hold(run).state) == (2, HoldState.RELEASED)
    entry = run.publisher.catalog.audit_entries()[0]
    assert (entry.actor, entry.act) == ("alice", Released("1", "iwf.images", "removals", 30, REASON))
    assert DashboardActed("release", "1", "alice", "127.0.0.1") in run.events
    (ended,) = run.named("hold_ended")
    assert isinstance(ended, HoldEnded)
    assert (ended.by, ended.reason) == ("alice", REASON)


def test_a_discard_keeps_the_list_and_can_be_released_after_all(run: Running, browser: httpx.Client) -> None:
    """It is shown apart, with who and why."""
    assert act(browser, "/acts/discard/1").status_code == 303
    assert (version(run), hold(run).state) == (1, HoldState.DISCARDED)
    assert isinstance(run.publisher.catalog.audit_entries()[0].act, Discarded)
    page = browser.get("/holds").text
    assert "Discarded holds" in page
    assert REASON in page
    assert 'href="/acts/release/1"' in page
    assert 'href="/acts/discard/1"' not in page
    assert act(browser, "/acts/release/1").status_code == 303
    assert hold(run).state is HoldState.RELEASED


def test_a_sync_is_started_at_once(run: Running, browser: httpx.Client) -> None:
    """The reason goes into the audit log, and the answer does not wait for the sync."""
    assert 'href="/acts/sync/iwf"' in browser.get("/sources/iwf").text
    answer = act(browser, "/acts/sync/iwf")
    assert "The sync of iwf was started." in browser.get(answer.headers["location"]).text
    entry = run.publisher.catalog.audit_entries()[0]
    assert entry.actor == "alice"
    assert isinstance(entry.act, AskedForSync)
    assert (entry.act.source, entry.act.reason) == ("iwf", REASON)
    assert browser.get("/acts/sync/none").status_code == 404


def test_the_token_that_was_typed_says_who_acts(run: Running, browser: httpx.Client) -> None:
    """Not the session: whoever sits there now is named."""
    assert act(browser, "/acts/discard/1", token=OPERATOR).status_code == 303
    assert run.publisher.catalog.audit_entries()[0].actor == "operator"


def test_a_session_alone_cannot_act(run: Running, browser: httpx.Client) -> None:
    """Without the token, with a wrong one, or with a viewer's, nothing is done, and each is told in words."""
    assert fault(act(browser, "/acts/release/1", token="")) == "This is not an operator's token. Nothing was done."
    wrong = act(browser, "/acts/release/1", token="not-the-token-of-anybody")
    assert (wrong.status_code, fault(wrong)) == (403, "This is not an operator's token. Nothing was done.")
    assert REASON in wrong.text  # need not be typed again
    assert "not-the-token" not in wrong.text
    viewer = act(browser, "/acts/release/1", token=VERA.token)
    assert (viewer.status_code, fault(viewer)) == (
        403,
        "This is a viewer's token, which may look but not act. Nothing was done.",
    )
    assert hold(run).state is HoldState.OPEN
    assert run.named("token_refused") == [TokenRefused("127.0.0.1", "/acts/release")] * 2
    assert run.named("dashboard_act_refused") == [DashboardActRefused("release", "1", "vera", "127.0.0.1", "viewer")]


def test_guessing_at_an_act_is_limited(run: Running, browser: httpx.Client) -> None:
    """The right token waits too."""
    for _ in range(10):
        act(browser, "/acts/release/1", token="guess-guess-guess")
    answer = act(browser, "/acts/release/1")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert hold(run).state is HoldState.OPEN


def test_a_reason_is_needed(run: Running, browser: httpx.Client) -> None:
    """One line of text; what is wrong is told, and nothing is done."""
    assert fault(act(browser, "/acts/release/1", reason="")) == "Reason is missing."
    assert fault(act(browser, "/acts/release/1", reason="   ")) == "Reason is missing."
    assert fault(act(browser, "/acts/release/1", reason="x" * 501)) == "Reason: at most 500 characters."
    assert fault(act(browser, "/acts/release/1", reason="a\nb")) == "Reason: one line of plain text is needed."
    assert hold(run).state is HoldState.OPEN


@pytest.mark.parametrize("name", ["reason", "token", "seal", "form", "another"])
def test_a_field_that_is_given_twice_is_refused(run: Running, browser: httpx.Client, name: str) -> None:
    """Even with the same value: no page of ours sends it, and which of the two counts would be a guess."""
    page = browser.get("/acts/release/1")
    form = {"form": hidden(page, "form"), "seal": hidden(page, "seal"), "reason": REASON, "token": ALICE.token}
    twice = [*form.items(), *[(name, form.get(name, "")) for _ in range(1 if name in form else 2)]]
    answer = browser.post("/acts/release/1", content=urlencode(twice), headers=FORM)
    assert (answer.status_code, run.publisher.catalog.holds()[0].state) == (403, HoldState.OPEN)
    assert "The form was not sent from this page" in answer.text
    assert browser.post("/acts/release/1", content=urlencode(form), headers=FORM).status_code == 303


def test_a_stale_page_does_nothing(run: Running, browser: httpx.Client) -> None:
    """The form carries the hash of the rows that were shown; with other rows it is refused, and these are shown."""
    answer = act(browser, "/acts/release/1", seal="0" * 64)
    assert answer.status_code == 409
    assert fault(answer).startswith("What this page showed has changed in the meantime. Nothing was done")
    assert (version(run), hold(run).state) == (1, HoldState.OPEN)
    assert run.named("dashboard_act_refused") == [DashboardActRefused("release", "1", "alice", "127.0.0.1", "stale")]
    assert act(browser, "/acts/release/1").status_code == 303


def test_rows_that_change_after_the_check_are_not_released(run: Running, browser: httpx.Client) -> None:
    """The hash is compared again where the hold is ended, in the same transaction."""
    page = browser.get("/acts/release/1")
    shown = ACTS["release"].preview(run.context, "1")
    other = replace(hold(run), segments=())
    assert other.sha256 != shown.seal

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actions, "open_hold", lambda *_, **__: other)
        form = {"form": hidden(page, "form"), "seal": other.sha256, "reason": REASON, "token": ALICE.token}
        answer = browser.post("/acts/release/1", data=form)
    assert answer.status_code == 409
    assert "the rows of hold 1 of iwf.images have changed since they were shown" in fault(answer)
    assert (version(run), hold(run).state) == (1, HoldState.OPEN)


def test_the_second_of_two_operators_is_told_who_was_first(run: Running, browser: httpx.Client) -> None:
    """Both look at the same hold; only one act happens."""
    page = browser.get("/acts/release/1")
    form = {"form": hidden(page, "form"), "seal": hidden(page, "seal"), "reason": REASON, "token": OPERATOR}
    assert act(browser, "/acts/discard/1").status_code == 303
    assert act(browser, "/acts/release/1").status_code == 303
    answer = browser.post("/acts/release/1", data=form)
    assert answer.status_code == 409
    assert "hold 1 of iwf.images was released already by alice" in answer.text
    assert [entry.actor for entry in run.publisher.catalog.audit_entries()[:2]] == ["alice", "alice"]


@pytest.mark.parametrize("subject", ["2", "0", "x", "1x", "9" * 30, "-1"])
def test_a_hold_that_is_not_there_is_told(browser: httpx.Client, subject: str) -> None:
    """And no bug."""
    assert browser.get(f"/acts/release/{subject}").status_code == 404
    assert browser.post(f"/acts/release/{subject}").status_code == 404


def test_another_site_cannot_act(run: Running, browser: httpx.Client) -> None:
    """Not from its own page, not with the form of another act, hold or session, and not with another kind of body."""
    page = browser.get("/acts/discard/1")
    form = {"form": hidden(page, "form"), "seal": hidden(page, "seal"), "reason": REASON, "token": ALICE.token}
    answers = [
        browser.post("/acts/discard/1", data=form, headers={"Sec-Fetch-Site": "cross-site"}),
        browser.post("/acts/discard/1", data=form, headers={"Sec-Fetch-Site": "same-site"}),
        browser.post("/acts/release/1", data=form),
        browser.post("/acts/discard/1", data={**form, "form": "0" * 64}),
        browser.post("/acts/discard/1", json=form),
        browser.post("/acts/discard/1", content=urlencode(form)),
    ]
    assert [answer.status_code for answer in answers] == [403] * 6
    assert all("Nothing was done" in answer.text for answer in answers)
    with httpx.Client(base_url=run.url, headers=OURS) as another:
        sign_in(another, ALICE)
        assert another.post("/acts/discard/1", data=form).status_code == 403
    assert hold(run).state is HoldState.OPEN


def test_get_and_a_query_change_nothing(run: Running, browser: httpx.Client) -> None:
    """Only a posted form acts."""
    page = browser.get("/acts/discard/1")
    form = {"form": hidden(page, "form"), "seal": hidden(page, "seal"), "reason": REASON, "token": ALICE.token}
    assert browser.get("/acts/discard/1", params=form).status_code == 200
    assert browser.post(f"/acts/discard/1?{urlencode(form)}").status_code == 403
    assert browser.put("/acts/discard/1", data=form).status_code == 405
    assert hold(run).state is HoldState.OPEN


def test_nobody_acts_without_signing_in(run: Running) -> None:
    """The page leads to the sign-in form and comes back."""
    with httpx.Client(base_url=run.url, headers=OURS) as client:
        for answer in (client.get("/acts/release/1"), client.post("/acts/release/1", data={"token": ALICE.token})):
            assert (answer.status_code, answer.headers["location"]) == (303, "/login?after=/acts/release/1")
        assert 'name="after" value="/acts/release/1"' in client.get("/login?after=/acts/release/1").text


def test_a_viewer_sees_everything_and_no_form(run: Running) -> None:
    """Commands instead of links; the page of an act says why."""
    with httpx.Client(base_url=run.url, headers=OURS) as client:
        sign_in(client, VERA)
        page = client.get("/holds").text
        assert "syncd release 1 --reason R" in page
        assert "/acts/" not in page
        assert "vera" in page
        assert "viewer" in page
        answer = client.get("/acts/release/1")
        assert answer.status_code == 403
        assert "a viewer&#x27;s token, which may look but not act" in answer.text
        assert client.post("/acts/release/1", data={"token": ALICE.token}).status_code == 403
    assert hold(run).state is HoldState.OPEN


def test_without_actions_there_is_no_way_to_act(held: World) -> None:
    """No link, no form, no route."""
    with running(held) as run, httpx.Client(base_url=run.url, headers=OURS) as client:
        sign_in(client, ALICE)
        for path in ("/", "/holds", "/lists/iwf.images", "/sources/iwf"):
            assert "/acts/" not in client.get(path).text
        for answer in (client.get("/acts/release/1"), client.post("/acts/release/1")):
            assert answer.status_code == 404
            assert "[dashboard] actions" in answer.text
        assert hold(run).state is HoldState.OPEN


def test_an_unknown_act_is_not_there(browser: httpx.Client) -> None:
    """As any page that is not."""
    assert browser.get("/acts/delete/1").status_code == 404
    assert browser.get("/acts/sync").status_code == 404


def test_what_was_done_is_read_by_its_own_session_only(run: Running, browser: httpx.Client) -> None:
    """The key in the address says nothing to others, and there is no text of the client in the page."""
    where = act(browser, "/acts/discard/1").headers["location"]
    with httpx.Client(base_url=run.url, headers=OURS) as another:
        sign_in(another, VERA)
        assert "stay out." not in another.get(where).text
    assert "stay out." in browser.get(where).text
    assert "anything" not in browser.get("/holds?done=anything").text


DIGEST = "d41d8cd98f00b204e9800998ecf8427e"


def test_a_typed_digest_goes_into_no_address_and_no_log(
    run: Running, browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An act with a field of its own, whose order is refused with a message that repeats it."""
    release = ACTS["release"]
    typed = DashboardAct(
        "refuse",
        "Refuse",
        preview=release.preview,
        order=lambda context, subject, values, seal: release.order(context, subject, values, seal).model_copy(
            update={"do": values["digest"]}
        ),
        done=release.done,
        inputs=(Input("digest", "Digest", "ALG:DIGEST"),),
    )
    monkeypatch.setitem(ACTS, "refuse", typed)
    assert '<label for="digest">' in browser.get("/acts/refuse/1").text
    answer = act(browser, "/acts/refuse/1", digest=DIGEST)
    assert answer.status_code == 409
    assert "the daemon does not know the order" in fault(answer)
    assert f'value="{DIGEST}"' in answer.text  # the field, as it was typed
    assert DIGEST not in str([event.document() for event in run.events])
    assert DIGEST not in str(answer.headers)
    assert DIGEST not in browser.get("/holds").text


def test_pages_show_no_digest_that_was_not_typed(run: Running, browser: httpx.Client) -> None:
    """The hash that a form carries names files, and no row of them."""
    secrets = {part for one in rows(0, 30) for part in one[1:3]}
    for path in ("/holds", "/lists/iwf.images", "/acts/release/1", "/acts/discard/1", "/acts/sync/iwf"):
        assert not secrets & set(re.findall(r"[\w-]+", browser.get(path).text))


# suppressions


@pytest.fixture
def listed(standing: World) -> Iterator[tuple[Running, httpx.Client]]:
    """A list of 30 entries, and Alice, who has signed in."""
    with running(standing, actions=True) as site, httpx.Client(base_url=site.url, headers=OURS) as client:
        sign_in(client, ALICE)
        yield site, client


def test_a_suppression_goes_live_and_is_ended_by_form(listed: tuple[Running, httpx.Client]) -> None:
    """From the list's page; the digest goes into the catalog and nowhere else."""
    run, client = listed
    digest = rows(0, 1)[0][1]
    assert 'href="/acts/suppress/iwf.images"' in client.get("/lists/iwf.images").text
    answer = act(client, "/acts/suppress/iwf.images", digest=f"sha256:{digest}")
    assert answer.status_code == 303
    assert "Suppression 1 is in force: 1 row, iwf.images version 2." in client.get(answer.headers["location"]).text
    (one,) = run.publisher.catalog.suppressions()
    assert (one.author, one.reason, one.list) == ("alice", REASON, "iwf.images")
    assert run.publisher.catalog.audit_entries()[0].actor == "alice"
    overview = client.get("/").text
    assert 'href="/acts/unsuppress/1"' in overview
    ended = act(client, "/acts/unsuppress/1")
    assert "Suppression 1 has ended: 1 row, iwf.images version 3." in client.get(ended.headers["location"]).text
    assert client.get("/acts/unsuppress/1").status_code == 409
    seen = [overview, client.get("/audit").text, str([event.document() for event in run.events])]
    assert not [text for text in seen if digest in text]


def test_a_digest_that_is_not_listed_is_suppressed_ahead_and_for_good(listed: tuple[Running, httpx.Client]) -> None:
    """As with --ahead and --forever; both boxes keep their tick when the form is refused."""
    run, client = listed
    digest = f"sha256:{'0' * 64}"
    refused = act(client, "/acts/suppress", digest=digest, ahead="yes", forever="yes", days="3")
    assert fault(refused).startswith("Nothing was done: Days and Forever exclude each other.")
    assert refused.text.count(" checked") == 2
    answer = act(client, "/acts/suppress", digest=digest, ahead="yes", forever="yes")
    assert "Suppression 1 is in force: 0 rows." in client.get(answer.headers["location"]).text
    (one,) = run.publisher.catalog.suppressions()
    assert (one.expires_at, one.list, one.author) == (None, None, "alice")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"digest": "sha256:12"}, "Nothing was done: "),
        ({"digest": "nonsense"}, "Nothing was done: a digest must have the form ALG:HEX"),
        ({"digest": ""}, "Digest is missing."),
        ({"digest": f"sha256:{'0' * 64}"}, "Nothing was done: "),
        ({"digest": f"sha256:{'0' * 64}", "days": "x"}, "Days: a whole number is needed."),
        ({"digest": f"sha256:{'0' * 64}", "days": "0"}, "Nothing was done: "),
    ],
)
def test_a_digest_that_cannot_be_suppressed_is_told(
    listed: tuple[Running, httpx.Client], fields: dict[str, str], words: str
) -> None:
    """Malformed, unlisted, or with an end that is over: nothing is done, and no message or log repeats it."""
    run, client = listed
    answer = act(client, "/acts/suppress", **fields)
    assert answer.status_code in {409, 422}
    assert fault(answer).startswith(words)
    assert run.publisher.catalog.suppressions() == ()
    assert "0" * 64 not in fault(answer)
    assert "0" * 64 not in str([event.document() for event in run.events])
    assert client.get("/acts/suppress/none").status_code == 404


@pytest.mark.parametrize("between", [" ", ",", ", ", "\n", "\r\n", ";", "\t"])
def test_nothing_is_suppressed_in_bulk(listed: tuple[Running, httpx.Client], between: str) -> None:
    """Two digests in the field are refused, and neither is suppressed, logged or repeated in a message."""
    run, client = listed
    digests = [one[1] for one in rows(0, 2)]
    records = run.publisher.catalog.audit_head().records
    answer = act(client, "/acts/suppress/iwf.images", digest=between.join(f"sha256:{digest}" for digest in digests))
    assert answer.status_code in {409, 422}
    assert re.match("Nothing was done: not a sha256 digest: |Digest: one line of plain text is needed", fault(answer))
    assert run.publisher.catalog.suppressions() == ()
    assert (version(run), run.publisher.catalog.audit_head().records) == (1, records)
    told = fault(answer) + str([event.document() for event in run.events])
    assert not [digest for digest in digests if digest in told]


def test_a_form_with_the_field_twice_suppresses_one_digest_at_most(listed: tuple[Running, httpx.Client]) -> None:
    """No browser sends such a form, and it is no way to act in bulk."""
    run, client = listed
    page = client.get("/acts/suppress/iwf.images")
    fields = {"form": hidden(page, "form"), "seal": hidden(page, "seal"), "reason": REASON, "token": ALICE.token}
    client.post("/acts/suppress/iwf.images", data={**fields, "digest": [f"sha256:{one[1]}" for one in rows(0, 2)]})
    assert len(run.publisher.catalog.suppressions()) <= 1


# rollbacks


@pytest.fixture
def moved(standing: World) -> Iterator[tuple[Running, httpx.Client]]:
    """Version 1 has 0 to 29, version 2 is without 0 and has 40; and Alice, who has signed in."""
    standing.publish(add=[row(40)], remove=rows(0, 1))
    standing.clock.forward(minutes=5)
    standing.sync()
    with running(standing, actions=True) as site, httpx.Client(base_url=site.url, headers=OURS) as client:
        sign_in(client, ALICE)
        yield site, client


def test_a_list_is_rolled_back_and_unpinned_by_form(moved: tuple[Running, httpx.Client]) -> None:
    """From the list's page; with what stays off it, and why; each in the audit log and the log."""
    run, client = moved
    page = client.get("/lists/iwf.images").text
    assert 'href="/acts/rollback/iwf.images"' in page
    assert "/acts/unpin" not in page
    asked = client.get("/acts/rollback/iwf.images").text
    assert "Version 1" in asked
    assert "version 1 only" in asked
    answer = act(client, "/acts/rollback/iwf.images", version="1")
    after = client.get(answer.headers["location"]).text
    assert (
        "iwf.images is pinned to version 1. Version 3 is published: 1 row removed. "
        "1 row of that version left out, which the partner removed since."
    ) in after
    assert 'href="/acts/unpin/iwf.images"' in after
    entry = run.publisher.catalog.audit_entries()[0]
    assert (entry.actor, entry.act) == ("alice", RolledBack(ListName("iwf.images"), 1, False, REASON))
    assert DashboardActed("rollback", "iwf.images", "alice", "127.0.0.1") in run.events
    assert ListRolledBack("iwf.images", 3, 1, False, "alice", REASON) in run.events
    assert REASON in client.get("/acts/unpin/iwf.images").text
    ended = act(client, "/acts/unpin/iwf.images")
    assert "iwf.images is no longer pinned. Version 4 is published: 1 row added." in (
        client.get(ended.headers["location"]).text
    )
    assert isinstance(run.publisher.catalog.audit_entries()[0].act, Unpinned)
    assert client.get("/acts/unpin/iwf.images").status_code == 409


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("", "Version is missing."),
        ("x", "Version: a whole number is needed."),
        ("0", "Nothing was done: version 0 of iwf.images is not kept."),
        ("2", "Nothing was done: version 2 of iwf.images is the version in force."),
        ("9" * 15, "Nothing was done: version 999999999999999 of iwf.images is not kept."),
    ],
)
def test_a_version_that_cannot_be_used_is_told(moved: tuple[Running, httpx.Client], version: str, words: str) -> None:
    """With those that can, and nothing is done."""
    run, client = moved
    answer = act(client, "/acts/rollback/iwf.images", version=version)
    assert answer.status_code in {409, 422}
    assert fault(answer).startswith(words)
    assert run.publisher.catalog.heads()[0].version == 2
    assert client.get("/acts/rollback/none").status_code == 404
    assert client.get("/acts/unpin/none").status_code == 404


def test_a_rollback_of_a_page_that_is_stale_does_nothing(moved: tuple[Running, httpx.Client]) -> None:
    """Another operator has rolled the list back in the meantime."""
    run, client = moved
    page = client.get("/acts/rollback/iwf.images")
    form = {"form": hidden(page, "form"), "seal": hidden(page, "seal"), "reason": REASON, "version": "1"}
    assert act(client, "/acts/rollback/iwf.images", token=OPERATOR, version="1").status_code == 303
    answer = client.post("/acts/rollback/iwf.images", data={**form, "token": ALICE.token})
    assert answer.status_code == 409
    assert fault(answer).startswith("What this page showed has changed in the meantime.")
    assert run.publisher.catalog.heads()[0].version == 3
    assert act(client, "/acts/rollback/iwf.images", token=VERA.token, version="1").status_code == 403


def test_a_first_version_cannot_be_rolled_back(listed: tuple[Running, httpx.Client]) -> None:
    """There is none before it; the page says so."""
    _, client = listed
    answer = client.get("/acts/rollback/iwf.images")
    assert (answer.status_code, "no older version of iwf.images is kept" in answer.text) == (409, True)


# holds of the operator's own changes


@pytest.fixture
def changed(standing: World) -> Iterator[tuple[Running, httpx.Client]]:
    """A changed known-good file waits as hold 1: it would take 20 of 30 rows off the list."""
    path = standing.base / "known-good.txt"
    path.write_text("".join(f"sha256:{one[1]}\n" for one in rows(0, 20)))
    standing.limits = ListLimits(known_good_file=path)
    assert standing.sync().exit_code == 3
    with running(standing, actions=True) as site, httpx.Client(base_url=site.url, headers=OURS) as client:
        sign_in(client, ALICE)
        yield site, client


def test_a_changed_known_good_file_is_released_by_form(changed: tuple[Running, httpx.Client]) -> None:
    """The page speaks of the file, and a form with the hash of another file does nothing."""
    run, client = changed
    page = client.get("/acts/release/1").text
    assert "Puts the changed known-good file in force" in page
    assert "to add or relabel" not in page + client.get("/holds").text, "the file's own rows are not those of the list"
    assert "The changed known-good file is not used" in client.get("/acts/discard/1").text
    assert act(client, "/acts/release/1", seal="0" * 64).status_code == 409
    assert act(client, "/acts/release/1", token=VERA.token).status_code == 403
    assert hold(run).state is HoldState.OPEN
    answer = act(client, "/acts/release/1")
    said = client.get(answer.headers["location"]).text
    assert "Hold 1 was released: the changed known-good file of iwf.images is in force, 20 rows off the lists." in said
    assert (version(run), hold(run).state, hold(run).ended_by) == (2, HoldState.RELEASED, "alice")


def test_a_changed_known_good_file_is_discarded_by_form(changed: tuple[Running, httpx.Client]) -> None:
    """The list stays as it is."""
    run, client = changed
    answer = act(client, "/acts/discard/1")
    said = client.get(answer.headers["location"]).text
    assert "the changed known-good file of iwf.images is not used, and no list has changed." in said
    assert (version(run), hold(run).state) == (1, HoldState.DISCARDED)


@pytest.mark.parametrize(
    ("do", "words"),
    [
        ("release", "Hold 1 was released: suppressions 1-15 are in force, 15 rows off the lists."),
        ("discard", "Hold 1 was discarded: suppressions 1-15 are dropped, and no list has changed."),
    ],
)
def test_suppressions_that_wait_are_decided_by_form(listed: tuple[Running, httpx.Client], do: str, words: str) -> None:
    """By another operator than their author."""
    run, client = listed
    wrong = tuple(Correction(Digest.parse(f"sha256:{one[1]}")) for one in rows(0, 15))
    order = SuppressionOrder(wrong, "case 7")
    suppressions.suppress(run.publisher, order, actor="alice", now=run.world.clock())
    own = act(client, f"/acts/{do}/1")
    if do == "release":
        assert "another operator" in fault(own)
        own = act(client, "/acts/release/1", token=OPERATOR)
    assert words in client.get(own.headers["location"]).text
    assert version(run) == (2 if do == "release" else 1)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/acts/suppress", {"digest": "sha256:" + rows(0, 1)[0][1]}),
        ("/acts/suppress/iwf.images", {"digest": "sha256:" + rows(0, 1)[0][1]}),
        ("/acts/unsuppress/1", {}),
        ("/acts/rollback/iwf.images", {"version": "1"}),
        ("/acts/unpin/iwf.images", {}),
        ("/acts/sync/iwf", {}),
        ("/acts/release/1", {}),
        ("/acts/discard/1", {}),
    ],
)
def test_every_act_needs_form_and_operator(standing: World, path: str, fields: dict[str, str]) -> None:
    """Each refuses another site, the form of another act, a missing, wrong or viewer's token; nothing is changed."""
    _prepare(standing, path)
    with running(standing, actions=True) as run, httpx.Client(base_url=run.url, headers=OURS) as client:
        sign_in(client, ALICE)
        page, other = client.get(path), client.get("/acts/sync/iwf" if path != "/acts/sync/iwf" else "/acts/suppress")
        form = {"form": hidden(page, "form"), "reason": REASON, "token": ALICE.token, **fields}
        form["seal"] = re.findall(r'name="seal" value="([^"]*)"', page.text)[-1]
        acts = [entry.act for entry in run.publisher.catalog.audit_entries()]
        at = version(run)
        answers = [
            client.post(path, data=form, headers={"Sec-Fetch-Site": "cross-site"}),
            client.post(path, data={**form, "form": hidden(other, "form")}),
            client.post(path, data={**form, "token": ""}),
            client.post(path, data={**form, "token": "wrong-token-0123456789"}),
            client.post(path, data={**form, "token": VERA.token}),
            client.post(path, data={name: value for name, value in form.items() if name != "form"}),
        ]
        assert [answer.status_code for answer in answers] == [403] * 6
        assert ([entry.act for entry in run.publisher.catalog.audit_entries()], version(run)) == (acts, at)
        assert client.post(path, data=form).status_code == 303
        newest = run.publisher.catalog.audit_entries()[0]
        assert (newest.actor, getattr(newest.act, "reason", "")) == ("alice", REASON)


def _prepare(world: World, path: str) -> None:
    """Bring about the state that an act is for."""
    now = world.clock()
    if path in ("/acts/release/1", "/acts/discard/1"):
        world.publish(remove=rows(0, 30))
    else:
        world.publish(add=[row(77)])
    world.sync()
    with world.publisher() as publisher:
        if path == "/acts/unsuppress/1":
            order = SuppressionOrder((Correction(Digest.parse(f"sha256:{row(3)[1]}")),), "case 7")
            suppressions.suppress(publisher, order, actor="bob", now=now)
        if path == "/acts/unpin/iwf.images":
            rollback(publisher, HEAD, 1, reason="bad", actor="bob", now=now)
