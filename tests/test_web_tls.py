"""TLS of the HTTP side: its certificate, its clients', and new ones without a restart."""

import os
import shutil
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from certificates import Authority
from syncd.config import Serve
from syncd.errors import ConfigError, SourceError
from syncd.fetch import Endpoint
from syncd.matcher.pull import pull
from syncd.service.web.limits import Limits
from syncd.service.web.site import check, check_valid
from web_site import Running, running, to_the_end
from world import World


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "other")


@pytest.fixture
def files(ours: Authority) -> dict[str, Any]:
    """As the configuration names them."""
    cert, key = ours.certificate("server")
    return {"tls_cert": cert, "tls_key": key}


def trust(authority: Authority, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    if client:
        context.load_cert_chain(*client)
    return context


def health(web: Running, verify: ssl.SSLContext) -> int:
    return httpx.get(f"{web.url}/healthz", verify=verify).status_code


def put(new: tuple[Path, Path], files: dict[str, Any]) -> None:
    """As who renews certificates does it."""
    for source, target in zip(new, (files["tls_cert"], files["tls_key"]), strict=True):
        shutil.copyfile(source, target.with_suffix(".new"))
        target.with_suffix(".new").replace(target)


def test_its_own_certificate_is_shown(
    standing: World, ours: Authority, other: Authority, files: dict[str, Any]
) -> None:
    """https, and nothing else at that port; the look at its health goes over TLS too."""
    with running(standing, **files) as web:
        assert web.url.startswith("https://127.0.0.1:")
        assert health(web, trust(ours)) == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            health(web, trust(other))
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(web.url.replace("https", "http"))
        assert web.site.answers(5)
        assert [one.name() for one in web.events] == ["state_proved", "http_listening"]


def test_certificates_come_into_force_without_a_restart(
    standing: World, ours: Authority, other: Authority, files: dict[str, Any]
) -> None:
    """When the files have changed; a connection that is open goes on."""
    with running(standing, **files) as web, httpx.Client(verify=trust(ours)) as client:
        assert client.get(f"{web.url}/healthz").status_code == 200
        put(other.certificate("renewed"), files)
        web.site.look()
        assert health(web, trust(other)) == 200
        assert client.get(f"{web.url}/healthz").status_code == 200
        web.site.look()
        assert [one.document() for one in web.named("certificate_reloaded")] == [{}]


def test_a_file_that_is_not_a_certificate_changes_nothing(
    standing: World, ours: Authority, files: dict[str, Any]
) -> None:
    """The one before stays; it is told once, as an error, and tried again when the files change."""
    good = [path.read_bytes() for path in files.values()]
    with running(standing, **files) as web:
        files["tls_cert"].write_text("not a certificate")
        web.site.look()
        web.site.look()
        assert health(web, trust(ours)) == 200
        (told,) = web.named("certificate_rejected")
        assert (told.importance, told.document()["message"]) == (
            "error",
            f"the certificate {files['tls_cert']} or its key cannot be used",
        )
        for path, content in zip(files.values(), good, strict=True):
            path.write_bytes(content)
        web.site.look()
        assert len(web.named("certificate_reloaded")) == 1


@pytest.mark.parametrize(
    ("begins", "told", "pulled"),
    [
        (-2, "or one in its chain, expired on 20", "is not trusted: certificate has expired"),
        (2, "or one in its chain, is not valid before 20", "is not trusted: certificate is not yet valid"),
    ],
)
def test_a_certificate_that_is_not_valid_now_is_reported_on_both_sides(
    standing: World, ours: Authority, files: dict[str, Any], tmp_path: Path, begins: float, told: str, pulled: str
) -> None:
    """At the start, once, and by `run --check`; the matcher is told what is wrong, and whose clock may be. A new one
    mends it."""
    standing.clock.now = datetime.now(UTC)
    put(ours.certificate("dated", hours=begins), files)
    with pytest.raises(ConfigError, match=told):
        check_valid(Serve(listen="127.0.0.1:0", **files), standing.clock())
    with running(standing, **files) as web:
        endpoint = Endpoint(f"{web.url}/feed/", ca=ours.file)
        with pytest.raises(SourceError) as caught:
            pull(endpoint, standing.operator_root.read_bytes(), tmp_path / "own", now=standing.clock(), deadline=20.0)
        assert caught.value.message == f"the certificate of 127.0.0.1:{web.port} {pulled}"
        assert caught.value.hint.startswith("if this machine's clock is right, ")
        web.site.look()
        (event,) = web.named("certificate_not_valid")
        assert (event.importance, told in event.document()["message"]) == ("error", True)
        put(ours.certificate("renewed"), files)
        web.site.look()
        assert health(web, trust(ours)) == 200
        assert len(web.named("certificate_not_valid")) == 1


def test_a_certificate_that_expires_while_it_is_in_force_is_told(
    standing: World, ours: Authority, files: dict[str, Any]
) -> None:
    """Within a minute; one that replaces it, and expires too, once more."""
    standing.clock.now = datetime.now(UTC)
    with running(standing, **files) as web:
        web.site.look()
        assert not web.named("certificate_not_valid")
        standing.clock.forward(days=2)
        web.site.look()
        web.site.look()
        assert len(web.named("certificate_not_valid")) == 1
        put(ours.certificate("dated", hours=3), files)
        web.site.look()
        assert len(web.named("certificate_not_valid")) == 2


def test_only_clients_with_a_certificate_are_answered(
    standing: World, ours: Authority, other: Authority, files: dict[str, Any]
) -> None:
    """Of the authority that is named, and with a token as well."""
    mine, strange = ours.certificate("mine"), other.certificate("strange")
    with running(standing, client_ca=ours.file, **files) as web:
        url = f"{web.url}/feed/root.json"
        token = web.add("m")
        for client in (None, strange):
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError, httpx.ConnectError)):
                httpx.get(url, headers=token, verify=trust(ours, client))
        assert httpx.get(url, verify=trust(ours, mine)).status_code == 401
        assert httpx.get(url, headers=token, verify=trust(ours, mine)).status_code == 200
        assert web.site.answers(5)


def test_an_authority_of_clients_is_replaced_without_a_restart(
    standing: World, ours: Authority, other: Authority, files: dict[str, Any], tmp_path: Path
) -> None:
    """Who is of the old one is not admitted any more, by an old session either."""
    authority = tmp_path / "clients.pem"
    shutil.copyfile(ours.file, authority)
    before, after = trust(ours, ours.certificate("before")), trust(ours, other.certificate("after"))
    with running(standing, client_ca=authority, **files) as web:
        assert health(web, before) == 200
        shutil.copyfile(other.file, authority)
        web.site.look()
        assert health(web, after) == 200
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            health(web, before)


def test_who_never_says_hello_is_dropped(standing: World, files: dict[str, Any]) -> None:
    """A connection without TLS takes a place too, and not for long."""
    with running(standing, Limits(head_within=0.3, look=0.05), **files) as web:
        assert to_the_end(socket.create_connection(("127.0.0.1", web.port), 20)) == b""
        web.gone()


def test_a_unix_socket_is_listened_at(standing: World, tmp_path: Path) -> None:
    """One left behind is taken over; it is gone after the end."""
    path = tmp_path / "http.sock"
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        with running(standing, listen=f"unix:{path}") as web:
            assert web.url == f"unix:{path}"
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
                assert client.get("http://syncd/healthz").status_code == 200
            assert web.site.answers(5)
        assert not path.exists()


@pytest.fixture
def wrong(tmp_path: Path, files: dict[str, Any], other: Authority) -> dict[str, dict[str, Any]]:
    tmp_path.joinpath("short").write_text("abc\n")
    tmp_path.joinpath("none").write_bytes(b"\xff" * 40)
    tmp_path.joinpath("one").write_text("0123456789abcdef\n")
    tmp_path.joinpath("same").write_text("0123456789abcdef")
    lost = tmp_path / "lost"
    return {
        "the certificate": {"tls_cert": files["tls_cert"], "tls_key": other.certificate("x")[1]},
        "client_ca": {**files, "client_ca": lost},
        "serve.operator_token_file: cannot read": {"operator_token_file": lost},
        "does not hold a token of 16": {"operator_token_file": tmp_path / "short"},
        "serve.metrics_token_file": {"metrics_token_file": tmp_path / "none"},
        "holds the operator's token": {
            "operator_token_file": tmp_path / "one",
            "metrics_token_file": tmp_path / "same",
        },
    }


def test_files_that_cannot_be_used_are_errors_of_the_configuration(wrong: dict[str, dict[str, Any]]) -> None:
    """Before anything listens, each with what to do."""
    for said, settings in wrong.items():
        with pytest.raises(ConfigError) as caught:
            check(Serve(listen="127.0.0.1:0", **settings))
        assert said in caught.value.message
        assert caught.value.hint


def test_the_cure_of_a_token_that_cannot_be_read_fits_the_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, another user's, a credential outside the service, a credential that the service did not get."""

    def cure(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            check(Serve(listen="127.0.0.1:0", operator_token_file=path))
        return caught.value.hint

    assert cure(tmp_path / "lost").startswith("check the path, or make one: ")
    assert "only the service receives credentials" in cure(Path("$CREDENTIALS_DIRECTORY/token"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert "then restart the service" in cure(tmp_path / "secrets_operator.token")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("syncd.files.os.open", refuse)
    assert "may not read it: make" in cure(tmp_path / "others")


@pytest.mark.parametrize("name", ["tls_cert", "tls_key", "client_ca"])
def test_a_pipe_in_the_place_of_a_file_is_refused(files: dict[str, Any], tmp_path: Path, name: str) -> None:
    """At once: OpenSSL would wait for a writer, and with it the daemon, or its check of each minute."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match=f"cannot read {pipe}: not a regular file") as caught:
        check(Serve(listen="127.0.0.1:0", **{**files, name: pipe}))
    assert caught.value.hint == "put the file itself there: pipes, devices and sockets are not read"


def test_a_pipe_that_replaces_a_certificate_changes_nothing(
    standing: World, ours: Authority, files: dict[str, Any]
) -> None:
    """The daemon serves with the certificate before, and says why."""
    with running(standing, **files) as web:
        files["tls_cert"].unlink()
        os.mkfifo(files["tls_cert"])
        web.site.look()
        assert health(web, trust(ours)) == 200
        (rejected,) = web.named("certificate_rejected")
        assert rejected.document()["message"] == f"cannot read {files['tls_cert']}: not a regular file"
