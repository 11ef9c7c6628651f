import http.client
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from certificates import Authority
from command_line import Ran, syncd, use_clock
from syncd import events
from syncd.cli.output import utc_now
from syncd.errors import StoreError, UsageError
from syncd.event import Event
from syncd.listen import Address
from syncd.service.web import files, foreground
from syncd.service.web.foreground import check_exposure
from syncd.service.web.limits import Limits
from syncd.service.web.members import Members
from syncd.service.web.partner import in_words, running_server, serve
from web_site import to_the_end
from world import World, rows

SHA = "ab" * 32
SEGMENT = f"v1/images/segments/{SHA}.arrow"
MANIFEST = f"v1/images/{SHA}.manifest.json"
EVIDENCE = f"v1/images/evidence/{SHA}.json"
LATER = f"v1/images/bloom-2/{SHA}.bin"
INDEX = f"v1/images/{SHA}.index.json"
"""Of kinds that a later syncd may publish."""
IMMUTABLE = [SEGMENT, MANIFEST, EVIDENCE, LATER, INDEX, "metadata/1.root.json", "metadata/12.list-images.json"]
TOKEN = "s3cret-token"


def make_folder(base: Path) -> Path:
    feed = base / "feed"
    for path in [*IMMUTABLE, "metadata/timestamp.json", "root.json", ".work/journal.json", "metadata/.tmp-1", "notes"]:
        (feed / path).parent.mkdir(parents=True, exist_ok=True)
        (feed / path).write_bytes(f"content of {path}".encode())
    (base / "secret.json").write_text("secret")
    return feed


def serve_here(
    folder: Path,
    address: Address,
    token: str | None = None,
    *,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    announce: Callable[[str], None] = print,
    emit: Callable[[Event], None] = lambda _: None,
) -> None:
    members = Members(token)
    serve(
        folder,
        address,
        members=members,
        tls_cert=tls_cert,
        tls_key=tls_key,
        announce=announce,
        warn=print,
        emit=emit,
        clock=utc_now,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For tests that change nothing in it."""
    return make_folder(tmp_path_factory.mktemp("read-only"))


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with running_server(folder) as address:
        yield address


def raw(url: str, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Ask for exactly this path: httpx would clean it first."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    connection.putrequest(method, path, skip_host=False)
    connection.endheaders()
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


@pytest.mark.parametrize("path", IMMUTABLE)
def test_files_named_by_content_or_number_may_be_kept_for_ever(url: str, path: str) -> None:
    """Segments, manifests, evidence and numbered metadata are immutable to caches, and private."""
    answer = httpx.get(url + path)
    assert (answer.status_code, answer.text) == (200, f"content of {path}")
    assert answer.headers["cache-control"] == "private, immutable, max-age=31536000"
    assert answer.headers["server"] == "syncd"


@pytest.mark.parametrize("path", ["metadata/timestamp.json", "root.json"])
def test_what_changes_is_never_stored(url: str, path: str) -> None:
    """A cache that kept the timestamp would freeze every matcher behind it."""
    answer = httpx.get(url + path)
    assert (answer.status_code, answer.text) == (200, f"content of {path}")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "notes",
        ".work/journal.json",
        "metadata/.tmp-1",
        "metadata/",
        "metadata",
        "metadata/2.root.json",
        "metadata/root.json",
        f"v1/images/segments/{SHA[:-1]}.arrow",
        f"v1/Images/segments/{SHA}.arrow",
        f"v1/images/Bloom/{SHA}.bin",
        f"v1/images/a/b/{SHA}.bin",
        f"v1/images/../{SHA}.bin",
        f"v1/images/{'a' * 33}/{SHA}.bin",
        f"v1/images/{SHA}.bin",
        f"v1/images/{SHA}.index.html",
        f"v1/{SHA}.index.json",
        f"{SEGMENT}/",
        f"{SEGMENT}%00",
        f"{SEGMENT}%0a",
        "metadata//timestamp.json",
        "../secret.json",
        "metadata/../../secret.json",
        "%2e%2e/secret.json",
        "metadata/%2e%2e/%2e%2e/secret.json",
        "v1/../../secret.json",
        "/etc/passwd",
    ],
)
def test_nothing_outside_the_layout_is_served(url: str, path: str) -> None:
    """Dot files, folders, unknown names and ways up are all the same 404."""
    assert raw(url, f"/{path}") == (404, b"not found\n")


@pytest.mark.parametrize("path", ["metadata/2.root.json", "notes", "a%0ab"])
def test_a_404_is_never_stored(url: str, path: str) -> None:
    """The next root is asked for before it exists: a cached 404 would hide a key rotation."""
    answer = httpx.get(url + path)
    assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    """A symbolic link serves what lies in the feed, and nothing else."""
    folder = make_folder(tmp_path)
    outside, inside = f"v1/images/segments/{'cd' * 32}.arrow", f"v1/images/segments/{'ef' * 32}.arrow"
    (folder / outside).symlink_to("../../../../secret.json")
    (folder / inside).symlink_to(f"{SHA}.arrow")
    (folder / "root.json").unlink()
    (folder / "root.json").symlink_to("../secret.json")
    with running_server(folder) as url:
        codes = [httpx.get(url + path).status_code for path in (outside, inside, "root.json")]
    assert codes == [404, 200, 404]


def test_a_replaced_timestamp_is_served_at_once(tmp_path: Path) -> None:
    """It is answered from memory, and read again when the file was replaced."""
    folder = make_folder(tmp_path)
    with running_server(folder) as url:
        before = httpx.get(f"{url}metadata/timestamp.json")
        fresh = folder / "metadata/.tmp-2"
        fresh.write_text("a newer one")
        fresh.replace(folder / "metadata/timestamp.json")
        after = httpx.get(f"{url}metadata/timestamp.json", headers={"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.text) == (200, "a newer one")


@pytest.mark.parametrize("path", [SEGMENT, "metadata/timestamp.json"])
def test_a_client_that_holds_the_file_is_told_so(url: str, path: str) -> None:
    """A conditional request costs no body."""
    tag = httpx.get(url + path).headers["etag"]
    for asked in (tag, f'"other", W/{tag}', "*"):
        answer = httpx.get(url + path, headers={"If-None-Match": asked})
        assert (answer.status_code, answer.content) == (304, b"")
    assert httpx.get(url + path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_download_continues_where_it_stopped(url: str) -> None:
    """One range is served; several are answered by the whole file (RFC 9110, 14.2)."""
    part = httpx.get(url + SEGMENT, headers={"Range": "bytes=8-"})
    assert (part.status_code, part.text) == (206, f"of {SEGMENT}")
    assert part.headers["content-range"] == f"bytes 8-{len(SEGMENT) + 10}/{len(SEGMENT) + 11}"
    assert httpx.get(url + SEGMENT, headers={"Range": "bytes=900-"}).status_code == 416
    several = httpx.get(url + SEGMENT, headers={"Range": "bytes=0-1,3-4"})
    assert (several.status_code, several.text) == (200, f"content of {SEGMENT}")


def test_head_tells_the_length_and_writing_is_refused(url: str) -> None:
    """Nothing but reading is offered."""
    head = httpx.head(url + SEGMENT)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(SEGMENT) + 11), b"")
    assert [httpx.request(method, url + SEGMENT).status_code for method in ("POST", "PUT", "DELETE")] == [405] * 3


@pytest.fixture
def closed_url(folder: Path) -> Iterator[str]:
    with running_server(folder, TOKEN) as address:
        yield address


@pytest.mark.parametrize(
    "header", [None, "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN[:-1]}", "Bearer \xe9"]
)
def test_without_the_token_nothing_is_told(closed_url: str, header: str | None) -> None:
    """Not even whether a file exists."""
    headers = {} if header is None else {b"Authorization": header.encode("latin-1")}
    answers = [httpx.get(closed_url + path, headers=headers) for path in ("root.json", "nothing", SEGMENT)]
    assert [(one.status_code, one.text) for one in answers] == [(401, "unauthorised\n")] * 3
    assert [one.headers["www-authenticate"] for one in answers] == ["Bearer"] * 3


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_token_everything_is_as_without_one(closed_url: str, scheme: str) -> None:
    """The scheme's case does not matter (RFC 9110, 11.1)."""
    assert httpx.get(f"{closed_url}root.json", headers={"Authorization": f"{scheme} {TOKEN}"}).status_code == 200


def test_requests_leave_no_trace_in_the_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Paths name lists and headers hold tokens: neither is logged."""
    caplog.set_level(logging.DEBUG)
    with running_server(folder, TOKEN) as url:
        httpx.get(url + SEGMENT, headers={"Authorization": f"Bearer {TOKEN}"})
        httpx.get(url + "nothing")
    mine = [record for record in caplog.records if record.name.startswith(("uvicorn", "starlette", "syncd"))]
    assert mine == []


@pytest.mark.parametrize(
    ("host", "tls", "token", "allowed"),
    [
        ("127.0.0.1", False, False, True),
        ("::1", False, False, True),
        ("localhost", False, False, True),
        ("0.0.0.0", False, False, False),
        ("0.0.0.0", True, False, False),
        ("0.0.0.0", False, True, False),
        ("::", True, True, True),
        ("192.0.2.7", False, True, False),
        ("localhost.example", False, False, False),
    ],
)
def test_a_feed_leaves_the_machine_only_encrypted_and_to_those_let_in(
    host: str, tls: bool, token: bool, allowed: bool
) -> None:
    """Beyond loopback it takes both TLS and a token."""
    if allowed:
        check_exposure(host, tls=tls, token=token)
        return
    with pytest.raises(UsageError, match="without TLS and a token anybody could read the feed"):
        check_exposure(host, tls=tls, token=token)


def test_an_address_in_use_is_told_plainly(folder: Path, url: str) -> None:
    """With the address, and what to look for."""
    port = urlsplit(url).port
    assert port is not None
    with pytest.raises(StoreError) as caught:
        serve_here(folder, Address("127.0.0.1", port))
    assert caught.value.message == f"cannot listen on 127.0.0.1 port {port}: Address already in use"
    assert caught.value.hint == "stop the other process that uses this port, or choose another port with --listen"


def test_an_address_of_another_machine_is_refused(folder: Path, tmp_path: Path) -> None:
    """The hint says which kind of address to choose, and with which option."""
    cert, key = Authority(tmp_path, "ours").certificate("server")
    address = Address("192.0.2.1", 8470)
    with pytest.raises(StoreError, match=r"cannot listen on 192\.0\.2\.1 port 8470: ") as caught:
        serve_here(folder, address, TOKEN, tls_cert=cert, tls_key=key)
    assert caught.value.hint == "choose an address of this machine with --listen"


def test_a_certificate_that_is_none_is_told_plainly(folder: Path) -> None:
    """Before anything listens."""
    with pytest.raises(UsageError) as caught:
        serve_here(folder, Address("127.0.0.1"), tls_cert=folder / "notes", tls_key=folder / "notes")
    assert caught.value.message == f"the certificate {folder}/notes or its key cannot be used"


def test_a_pipe_in_the_place_of_a_certificate_is_refused(folder: Path, tmp_path: Path) -> None:
    """Before anything listens, and without waiting for a writer."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match=f"cannot read {pipe}: not a regular file"):
        serve_here(folder, Address("127.0.0.1"), tls_cert=pipe, tls_key=pipe)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_serving_with_success(world_feed: Path, number: int) -> None:
    """As systemd and Ctrl-C send them; what is being sent is finished first."""
    process = subprocess.Popen(
        [sys.executable, "-m", "syncd.cli", "feed", "serve", str(world_feed), "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    url = line.split(" at ")[1].strip()
    assert httpx.get(f"{url}root.json").status_code == 200
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.fixture
def world_feed(tmp_path: Path) -> Path:
    from datetime import UTC, datetime

    from syncd.publish import author

    author.init(tmp_path / "f", tmp_path / "off", tmp_path / "on", count=1, threshold=1, now=datetime.now(UTC))
    return tmp_path / "f"


QUICK = Limits(connections=1, spare=1, head_within=0.3, take_within=0.3, look=0.05)


def connect(url: str, request: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), 20)
    connection.sendall(request)
    return connection


def test_one_connection_too_many_is_refused(folder: Path) -> None:
    """With 503 and when to come back, as by the daemon; the client that was there first is still served."""
    shown: list[Event] = []
    patient = replace(QUICK, head_within=20.0)
    with (
        running_server(folder, limits=patient, emit=shown.append) as url,
        httpx.Client() as first,
        httpx.Client() as second,
    ):
        assert first.get(f"{url}root.json").status_code == 200
        full = second.get(f"{url}root.json")
        assert (full.status_code, full.headers["retry-after"], full.headers["connection"]) == (503, "5", "close")
        assert first.get(f"{url}root.json").status_code == 200
    assert shown[1:] == [events.ConnectionsFull(1)]


def test_far_too_many_connections_are_closed_at_once(folder: Path) -> None:
    """Before a request, or TLS, costs anything."""
    with running_server(folder, limits=replace(QUICK, head_within=20.0)) as url:
        held = [connect(url, b"GET /root.json HTTP/1.1\r\nHost:") for _ in range(2)]
        assert to_the_end(connect(url, b"")) == b""
        for connection in held:
            connection.close()


@pytest.mark.parametrize("sent", [b"", b"GET /root.json HTTP/1.1\r\nHost:"])
def test_a_client_that_sends_half_a_head_is_dropped(folder: Path, sent: bytes) -> None:
    """Its connection is free for others again."""
    with running_server(folder, limits=QUICK) as url:
        assert to_the_end(connect(url, sent)) == b""
        assert httpx.get(f"{url}root.json").status_code == 200


def test_a_client_that_takes_nothing_is_dropped(tmp_path: Path) -> None:
    """The rest of the file is not kept in memory for it."""
    feed = make_folder(tmp_path)
    with (feed / SEGMENT).open("wb") as large:
        os.truncate(large.fileno(), 64 << 20)
    with running_server(feed, limits=QUICK) as url:
        connection = connect(url, f"GET /{SEGMENT} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        threading.Event().wait(1.0)
        assert len(to_the_end(connection)) < 64 << 20


def test_a_bug_is_reported_without_its_words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may quote what a list holds: the client is told of an internal error, the operator of its kind."""

    def fails(*_: object) -> None:
        raise KeyError("a digest")

    shown: list[Event] = []
    with running_server(folder, emit=shown.append) as url:
        monkeypatch.setattr(files, "file_response", fails)
        answer = httpx.get(url + SEGMENT)
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, "internal error")
    assert shown[1:] == [events.InternalError("KeyError", "http request")]


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (
            events.ConnectionsFull(4096),
            ["warning: all 4096 connections are in use: new clients are refused until some close"],
        ),
        (events.CertificateReloaded(), ["the new certificate is in use"]),
        (
            events.CertificateRejected("it is broken", "mend it"),
            ["error: it is broken", "  still in use: the previous certificate", "  to do: mend it"],
        ),
        (events.CertificateNotValid("it expired", "renew it"), ["error: it expired", "  to do: renew it"]),
        (
            events.InternalError("KeyError", "http request"),
            [
                "error: internal error (KeyError) in the http request",
                "  to do: this is a bug in syncd: please report it",
            ],
        ),
        (events.HttpListening("http://127.0.0.1:1"), []),
    ],
)
def test_the_operator_is_shown_what_needs_a_person(event: Event, lines: list[str]) -> None:
    """On standard error; nothing about requests, which name lists."""
    assert list(in_words(event)) == lines


def test_a_feed_is_pulled_over_tls_with_its_authority_and_its_token(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --ca the certificate is refused, and the cure that the error names works: `syncd pull --ca FILE`."""
    use_clock(world.clock, monkeypatch)
    world.publish(full=rows(0, 3))
    monkeypatch.setattr(foreground, "_CHECK_EVERY", 0.05)
    authority, token = Authority(tmp_path, "ours"), tmp_path / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    cert, key = authority.certificate("server")
    ran: list[Ran] = []

    def pull(url: str) -> None:
        asked = ("pull", url, "--root", world.root, "--dir", tmp_path / "copy", "--token-file", token)
        ran.extend((syncd(*asked), syncd(*asked, "--ca", authority.file)))
        os.kill(os.getpid(), signal.SIGTERM)

    serve_here(world.partner.root, Address("127.0.0.1"), TOKEN, tls_cert=cert, tls_key=key, announce=pull)
    refused, pulled = ran
    assert refused.code == 5
    assert "is not trusted" in refused.err
    assert "give the authority that signed it as ca (`--ca`)" in refused.err
    assert (pulled.code, pulled.out) == (0, "images version 1, new here\n")


def test_a_renewed_certificate_is_used_without_a_restart(
    world_feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the daemon, a few seconds after the files have changed."""
    monkeypatch.setattr(foreground, "_CHECK_EVERY", 0.05)
    before, after = Authority(tmp_path, "before"), Authority(tmp_path, "after")
    cert, key = before.certificate("server")
    seen: list[Event] = []
    asked = threading.Event()

    def renew(url: str) -> None:
        def visit() -> None:
            with httpx.Client(verify=ssl.create_default_context(cafile=before.file)) as client:
                assert client.get(f"{url}root.json").status_code == 200
            for new, old in zip(after.certificate("renewed"), (cert, key), strict=True):
                new.replace(old)
            while events.CertificateReloaded() not in seen:
                asked.wait(0.02)
            with httpx.Client(verify=ssl.create_default_context(cafile=after.file)) as client:
                answers.append(client.get(f"{url}root.json").status_code)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=visit, daemon=True).start()

    answers: list[int] = []
    serve_here(world_feed, Address("127.0.0.1"), tls_cert=cert, tls_key=key, announce=renew, emit=seen.append)
    assert answers == [200]
