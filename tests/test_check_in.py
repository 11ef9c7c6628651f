"""Telling the operator which versions are loaded."""

import queue
import re
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from event_peer import serve
from syncd.errors import HttpStatusError, UsageError
from syncd.fetch import Deadline, Endpoint
from syncd.fetch.api import check_in
from syncd.matcher.check_in import CheckIn, checked_instance, host_instance, process_instance
from syncd.model import ListName
from world import IMAGES

NOWHERE = Endpoint("http://127.0.0.1:1/api/v1/")


@pytest.mark.parametrize(
    ("host", "instance"),
    [("web-3", "web-3"), ("web 3.örg", "web-3.-rg"), ("_x", "x"), ("--", "host"), ("", "host"), ("h" * 99, "h" * 64)],
)
def test_a_host_is_named_as_the_protocol_allows(host: str, instance: str) -> None:
    """Whatever the host is called."""
    assert host_instance(host) == instance
    assert checked_instance(host_instance())


def test_processes_of_a_host_have_names_of_their_own() -> None:
    """The process id is added, and never cut off."""
    assert process_instance("web-3", 4711) == "web-3.4711"
    assert process_instance("h" * 64, 4711) == "h" * 59 + ".4711"


@pytest.mark.parametrize("name", ["", ".x", "a b", "ä", "a" * 65, "a\n"])
def test_what_cannot_name_an_instance_is_told(name: str) -> None:
    """Before anything is sent."""
    with pytest.raises(UsageError, match="is not a valid instance name"):
        checked_instance(name)


def test_it_is_sent_as_the_protocol_says(tmp_path: Path) -> None:
    """One POST, with the token; what the server refuses is an error."""
    with serve(tmp_path) as peer:
        api = Endpoint(peer.url, "t").api
        assert api is not None
        check_in(api, "web-3.4711", {IMAGES: 7}, Deadline(20))
        sent = {"instance": "web-3.4711", "lists": {"images": 7}, "token": "Bearer t"}
        assert peer.check_ins.get() == sent
        peer.check_in_status = 403
        with pytest.raises(HttpStatusError, match="answered 403 to checkin"):
            check_in(api, "web-3.4711", {IMAGES: 7}, Deadline(20))


class Sent:
    """Takes what is sent; fails where it is told to."""

    def __init__(self) -> None:
        self.sent: queue.Queue[dict[ListName, int]] = queue.Queue()
        self.failing = False
        self.go = threading.Event()
        self.go.set()

    def __call__(self, _: Endpoint, instance: str, lists: Mapping[ListName, int], __: Deadline) -> None:
        assert instance == "web-3"
        self.sent.put(dict(lists))
        self.go.wait(20)
        if self.failing:
            raise HttpStatusError("answered 503", 503)


def test_each_change_is_told_once() -> None:
    """What is loaded already is not told again at each look; the newest is what counts."""
    sent = Sent()
    told = CheckIn(NOWHERE, "web-3", send=sent)
    told.report({IMAGES: 7})
    assert sent.sent.get(timeout=20) == {IMAGES: 7}
    sent.go.clear()
    told.report({IMAGES: 8})
    assert sent.sent.get(timeout=20) == {IMAGES: 8}
    told.report({IMAGES: 9})
    told.report({IMAGES: 10})
    told.report({IMAGES: 10})
    sent.go.set()
    assert sent.sent.get(timeout=20) == {IMAGES: 10}
    told.close()
    assert sent.sent.get(timeout=20) == {}
    assert sent.sent.empty()


def test_the_same_is_told_every_five_minutes() -> None:
    """Give or take a fifth; one that failed is told to nobody, and repeated after seconds, then less and less often."""
    sent = Sent()
    waits: queue.Queue[float] = queue.Queue()
    go: queue.Queue[bool] = queue.Queue()

    def wait(_: threading.Event, seconds: float) -> bool:
        waits.put(seconds)
        return go.get()

    told = CheckIn(NOWHERE, "web-3", send=sent, wait=wait, rng=lambda: 1.0)
    waits.get(timeout=20)
    told.report({IMAGES: 7})
    fails = [False, *[True] * 9, False]
    for failing, pause in zip(
        fails, [360.0, 6.0, 12.0, 24.0, 48.0, 96.0, 192.0, 360.0, 360.0, 360.0, 360.0], strict=True
    ):
        sent.failing = failing
        go.put(False)
        assert waits.get(timeout=20) == pause
        assert sent.sent.get(timeout=20) == {IMAGES: 7}
    go.put(True)
    told.close()


def test_closing_waits_for_no_server(tmp_path: Path) -> None:
    """One that does not answer a check-in keeps nobody from stopping."""
    with serve(tmp_path) as peer:
        peer.check_in_status = 0
        api = Endpoint(peer.url).api
        assert api is not None
        told = CheckIn(api, "web-3")
        told.report({IMAGES: 7})
        assert peer.check_ins.get(timeout=20)["lists"] == {"images": 7}
        told.close()
        for one in threading.enumerate():
            if one.name == "syncd-check-in":
                one.join(20)  # it ends by itself; `close` waits for it a second at most
                assert not one.is_alive()


def test_instances_are_those_of_the_protocol() -> None:
    """The pattern is the one that a daemon checks."""
    assert all(
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", one) for one in ("a", "web-3.4711", host_instance("Ü"))
    )


def test_an_instance_that_ends_checks_out() -> None:
    """Once, with no list: the operator waits for it no longer. A server that refuses this keeps nobody from ending."""
    sent = Sent()
    told = CheckIn(NOWHERE, "web-3", send=sent)
    told.report({IMAGES: 7})
    assert sent.sent.get(timeout=20) == {IMAGES: 7}
    sent.failing = True
    told.close()
    assert sent.sent.get(timeout=20) == {}
    told.close()
    assert sent.sent.empty()


def test_an_instance_that_never_checked_in_does_not_check_out() -> None:
    """The operator does not know it."""
    sent = Sent()
    CheckIn(NOWHERE, "web-3", send=sent).close()
    assert sent.sent.empty()
