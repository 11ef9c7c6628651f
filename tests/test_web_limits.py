"""What clients cannot do to the HTTP side: each with real sockets, and limits that are short."""

import os
import resource
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from syncd.errors import ConfigError
from syncd.listen import Address
from syncd.model import ListName
from syncd.service.web.limits import Limits
from syncd.service.web.server import allow_files
from syncd.service.web.site import alive
from web_site import Running, raw, running, stream, to_the_end
from world import World

IMAGES = ListName("iwf.images")
LARGE = f"v1/iwf.images/segments/{'ab' * 32}.arrow"
QUICK = Limits(head_within=0.3, idle=1.0, take_within=0.3, stream_take_within=0.3, look=0.05, finish_within=5.0)


@pytest.fixture
def web(standing: World) -> Iterator[Running]:
    """With a file too large for any buffer between us."""
    with standing.state.feed.path(LARGE).open("wb") as large:
        os.truncate(large.fileno(), 64 << 20)
    with running(standing, QUICK) as site:
        yield site


def request(headers: dict[str, str], path: str, *more: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers.items()), *more]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost:", b"\r\n"])
def test_who_sends_no_whole_request_is_dropped(web: Running, sent: bytes) -> None:
    """Nothing at all, or half a head: the place is free again."""
    assert to_the_end(raw(web, sent)) == b""


def test_who_drips_a_head_is_dropped(web: Running) -> None:
    """A byte now and then does not buy time."""
    connection = raw(web, b"GET / HTTP/1.1\r\nX: ")
    dripping = threading.Event()

    def drip() -> None:
        try:
            while not dripping.wait(0.02):
                connection.send(b"x")
        except OSError:
            pass

    thread = threading.Thread(target=drip)
    thread.start()
    assert to_the_end(connection) == b""
    dripping.set()
    thread.join()


def test_who_drips_a_second_head_is_dropped(web: Running) -> None:
    """On a connection that was good before."""
    connection = raw(web, request({}, "/healthz"))
    assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    connection.sendall(b"GET /healthz HT")
    assert to_the_end(connection) == b""


def test_an_idle_connection_is_let_go(web: Running) -> None:
    """After a while without a request."""
    assert to_the_end(raw(web, request({}, "/healthz"))).startswith(b"HTTP/1.1 200")


def test_a_head_without_end_is_cut(standing: World) -> None:
    """It is not kept in memory until it ends, or its time is over."""
    with running(standing) as web:
        connection = raw(web, b"GET / HTTP/1.1\r\nX: ")
        with connection, pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(b"x" * (32 << 20))


@pytest.mark.parametrize(("length", "answer"), [(32_000, b"HTTP/1.1 200 OK"), (40_000, b"")])
@pytest.mark.parametrize("long", ["/healthz?{}", "/healthz HTTP/1.1\r\nX: {}"])
def test_a_head_too_long_is_not_answered(web: Running, long: str, length: int, answer: bytes) -> None:
    """In one piece too, and for the length of its address or of a header; one that just fits is."""
    asked = request({}, long.format("x" * length), "Connection: close")
    assert to_the_end(raw(web, asked)).partition(b"\r\n")[0] == answer


def test_a_body_counts_for_no_head(web: Running) -> None:
    """What comes in one piece with the next request, and is none of it."""
    headers = {**web.add("m"), "Content-Length": "60000"}
    first = request(headers, "/api/v1/checkin").replace(b"GET", b"POST") + b"x" * 60_000
    connection = raw(web, first + b"GET /healthz HTTP/1.1\r\nConnection: close\r\n")
    connection.sendall(b"Host: x\r\n\r\n")
    assert to_the_end(connection).count(b"HTTP/1.1 ") == 2


def test_who_asks_far_ahead_of_the_answers_is_dropped(web: Running) -> None:
    """A few requests may wait for their turn; thousands in one packet would cost many times their bytes."""
    few = request({}, "/healthz") * 16 + request({}, "/healthz", "Connection: close")
    assert to_the_end(raw(web, few)).count(b"HTTP/1.1 200 ") == 17
    connection = raw(web, request({}, "/api/v1/nothing") * 2000)
    assert to_the_end(connection).count(b"HTTP/1.1 404 ") < 50


def test_who_goes_while_a_request_waits_behind_a_stream_is_no_bug(standing: World) -> None:
    """The stream ends with the connection, and nobody is told of an internal error."""
    with running(standing, replace(QUICK, beat=0.1)) as web:
        with raw(web, request(web.add("m"), "/api/v1/events")) as connection:
            _until(connection, b'"version":1}')
            connection.sendall(b"POST /api/v1/checkin HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
            connection.settimeout(0.2)
            with pytest.raises((TimeoutError, ConnectionError)):  # it is not read on, once it waits
                connection.sendall(b"x" * (64 << 20))
        web.gone()
    assert [one.name() for one in web.events] == ["state_proved", "http_listening"]


def test_a_body_too_long_is_refused_before_it_is_read(web: Running) -> None:
    """By its stated length, or where that is not stated when it has become too long."""
    mine = web.add("m")
    for body in (b"x" * 70_000, iter([b"x" * 60_000] * 2)):
        answer = httpx.post(f"{web.url}/api/v1/checkin", headers=mine, content=body)
        assert (answer.status_code, answer.json()["error"]["message"]) == (413, "more than 65536 bytes")


def test_a_body_that_does_not_come_is_not_waited_for(web: Running) -> None:
    """The head alone promises nothing."""
    connection = raw(web, b"POST /api/v1/checkin HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
    assert to_the_end(connection).startswith(b"HTTP/1.1 408 ")


def test_who_takes_nothing_of_a_file_is_dropped(web: Running) -> None:
    """What it did not take is forgotten, and the place free."""
    connection = raw(web, request(web.add("m"), f"/feed/{LARGE}"))
    assert 0 < web.pulled() < 64 << 20
    connection.settimeout(20)
    assert len(to_the_end(connection)) < 64 << 20


def test_who_takes_a_file_slowly_is_not_dropped(web: Running) -> None:
    """A byte more within the time is enough."""
    connection = raw(web, request(web.add("m"), f"/feed/{LARGE}", "Connection: close"))
    found, pause = 0, threading.Event()
    while more := connection.recv(1 << 20):
        found += len(more)
        if found < 8 << 20:
            pause.wait(0.02)
    connection.close()
    assert found > 64 << 20


def test_a_file_is_not_read_on_for_who_has_gone(web: Running) -> None:
    """Reading a large list for nobody would keep others waiting."""
    connection = raw(web, request(web.add("m"), f"/feed/{LARGE}"))
    connection.recv(1000)
    connection.close()
    assert web.pulled() < 32 << 20


def test_a_stop_lets_a_download_finish(web: Running) -> None:
    """Of who takes it; who takes nothing is not waited for longer than was said."""
    asked = request(web.add("m"), f"/feed/{LARGE}")
    taking, stuck = raw(web, asked), raw(web, asked)
    assert taking.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert stuck.recv(1000).startswith(b"HTTP/1.1 200 ")
    with stuck:
        web.site.tell_to_stop()
        assert len(to_the_end(taking)) > (64 << 20) - 1000
        assert web.stop(QUICK.finish_within + 2)


def test_who_takes_nothing_of_a_stream_is_dropped(web: Running) -> None:
    """Others on the same list are told in time, and what it did not take is forgotten."""
    mine = web.add("m")
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    stuck.connect(("127.0.0.1", web.port))
    stuck.sendall(request(mine, "/api/v1/events"))
    with stream(web, mine) as reader:
        reader.event()
        version = 1
        while web.site.app.streams.count == 2:
            version += 1
            web.news.announce(IMAGES, version)
            assert f'"version":{version}}}' in reader.event()["data"]
            assert version < 200_000
    stuck.close()


def test_one_connection_too_many_is_told_so(standing: World) -> None:
    """503 and when to come back; those that were there go on, and so does the look at its health."""
    with running(standing, Limits(connections=2)) as web:
        mine = web.add("m")
        with httpx.Client(headers=mine) as first, httpx.Client(headers=mine) as second, httpx.Client() as third:
            url = f"{web.url}/feed/metadata/timestamp.json"
            assert [first.get(url).status_code, second.get(url).status_code] == [200, 200]
            full = third.get(url)
            assert (full.status_code, full.headers["retry-after"], full.headers["connection"]) == (503, "5", "close")
            assert first.get(url).status_code == 200
            assert web.site.answers(5)
        assert [one.document() for one in web.named("connections_full")] == [{"max_connections": 2}]


def test_far_too_many_connections_are_closed_at_once(standing: World) -> None:
    """Before TLS or a request costs anything; that it is closed is a sign of life as well."""
    with running(standing, Limits(connections=2, spare=1)) as web:
        held = [raw(web, request({}, "/healthz")) for _ in range(3)]
        for one in held:
            assert one.recv(20).startswith(b"HTTP/1.1 200 ")
        assert to_the_end(socket.create_connection(("127.0.0.1", web.port))) == b""
        assert web.site.answers(5)
        for one in held:
            one.close()
        assert len(web.named("connections_full")) == 1


def test_a_server_that_hangs_shows_no_life() -> None:
    """It is connected to by the kernel, and never answers; nor does one that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address("127.0.0.1", silent.getsockname()[1])
        assert not alive(address, tls=False, seconds=0.1)
        assert not alive(address, tls=True, seconds=0.1)
    assert not alive(address, tls=False, seconds=0.1)
    assert not alive(Address(path=Path("/nowhere/http.sock")), tls=False, seconds=0.1)


def test_what_is_no_http_is_told_so(web: Running) -> None:
    """And closed, without a word in the log."""
    assert to_the_end(raw(web, b"\x16\x03\x01 what\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert [one.name() for one in web.events] == ["state_proved", "http_listening"]


def test_a_thousand_idle_streams_cost_little(standing: World) -> None:
    """Memory of this process, which holds both ends, stays bounded; a publication reaches all of them."""
    count = 1000
    with running(standing) as web:
        asked = request(web.add("m"), "/api/v1/events")
        before = _resident()
        held = [raw(web, asked) for _ in range(count)]
        for one in held:
            _until(one, b'"version":1}')
        assert web.site.app.streams.count == count
        web.news.announce(IMAGES, 2)
        for one in held:
            _until(one, b'"version":2}')
        assert _resident() - before < 64 << 20
        for one in held:
            one.close()


def _until(connection: socket.socket, mark: bytes) -> None:
    found = b""
    while mark not in found:
        found += connection.recv(1 << 16)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(("soft", "hard", "put"), [(1024, 524_288, [(4416, 524_288)]), (8192, 8192, []), (-1, -1, [])])
def test_as_many_files_may_be_open_as_are_needed(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, put: list[tuple[int, int]]
) -> None:
    """Connections are files: the soft limit, 1024 as a rule, is raised where it does not do."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: found.append(limits))
    allow_files(4416)
    assert found == put


def test_a_system_that_allows_too_few_files_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, and not when it is full."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    with pytest.raises(ConfigError) as caught:
        allow_files(4416)
    assert caught.value.message == "serve.max_connections: 4416 open files are needed, and the system allows 4096"
