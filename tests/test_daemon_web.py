"""The HTTP side of `syncd run`, as a real process."""

import json
import signal
import socket
import ssl
import time
from pathlib import Path
from typing import Self

import httpx
import pytest

from certificates import Authority
from command_line import syncd
from test_daemon import Process, text, today
from web_site import bearer
from world import World, row

__all__ = ["today"]  # a fixture

OPERATOR = "0123456789abcdef-operator"


class Serving(Process):
    """A daemon that listens before it says that it is ready."""

    url = ""

    def __enter__(self) -> Self:
        self.url = self.until("http_listening")["address"]
        return super().__enter__()


def serve(world: World, *lines: str, listen: str = "127.0.0.1:0", **environment: str) -> Serving:
    """A daemon with an HTTP side."""
    configure(world, *lines, listen=listen)
    return Serving(world.base / "syncd.toml", **environment)


def configure(world: World, *lines: str, listen: str = "127.0.0.1:0", operator: str = OPERATOR) -> None:
    (world.base / "operator").touch(0o600)
    (world.base / "operator").write_text(operator + "\n")
    more = ["[serve]", f'listen = "{listen}"', f'operator_token_file = "{world.base}/operator"', *lines, ""]
    (world.base / "syncd.toml").write_text(text(world, more="\n".join(more)))


def token(name: str) -> dict[str, str]:
    """Let a matcher in by command, as an operator does."""
    return bearer(syncd("matchers", "add", name, "--json").json["matcher"]["token"])


def test_a_matcher_is_told_of_a_sync_and_says_what_it_loaded(today: World) -> None:
    """The whole way: a token by command, news of syncs, a check-in, and all of it in the catalog at the end."""
    with serve(today) as running:
        mine, status = token("web-1"), f"{running.url}/api/v1/status"
        with httpx.stream("GET", f"{running.url}/api/v1/events", headers=mine, timeout=60) as response:
            lines = response.iter_lines()
            assert syncd("sync").code == 0
            assert 'data: {"list":"iwf.images","version":1}' in lines
            today.publish(add=[row(9)])
            assert syncd("sync").code == 0
            assert 'data: {"list":"iwf.images","version":2}' in lines
        loaded = {"instance": "web-1.7", "lists": {"iwf.images": 2}}
        assert httpx.post(f"{running.url}/api/v1/checkin", json=loaded, headers=mine).status_code == 204
        assert httpx.get(status, headers=bearer(OPERATOR)).json()["lists"][0]["version"] == 2
        other = token("web-2")
        assert syncd("matchers", "revoke", "web-2").code == 0
        assert httpx.post(f"{running.url}/api/v1/checkin", json=loaded, headers=other).status_code == 401
        running.stop()
    with today.publisher() as publisher:
        loaded_now = [(one.matcher, one.instance, one.version) for one in publisher.catalog.loaded()]
    assert loaded_now == [("web-1", "web-1.7", 2)]


def test_a_stop_ends_streams_and_takes_no_longer(today: World) -> None:
    """A reader that stays, one that takes nothing, and one that says nothing do not keep the daemon."""
    with serve(today) as running:
        mine = token("web-1")
        url = httpx.URL(running.url)
        silent = socket.create_connection((url.host, url.port or 0))
        with httpx.stream("GET", f"{running.url}/api/v1/events", headers=mine, timeout=60) as response:
            assert response.status_code == 200
            began = time.monotonic()
            running.stop()
            assert time.monotonic() - began < 10
            assert list(response.iter_lines()) == ["retry: 2000", ""]
        silent.close()


def test_a_reload_takes_new_tokens_and_certificates(today: World, tmp_path: Path) -> None:
    """Files are read again; what needs a restart is refused, and nothing of it comes into force."""
    ours = Authority(tmp_path, "ours")
    cert, key = ours.certificate("server")
    tls = (f'tls_cert = "{cert}"', f'tls_key = "{key}"')
    with serve(today, *tls) as running:
        ours.certificate("server")
        configure(today, *tls, operator="another-operator-token")
        running.send(signal.SIGHUP)
        running.until("certificate_reloaded")
        assert running.until("config_reloaded")["changed"] == []
        with httpx.Client(verify=ssl.create_default_context(cafile=ours.file)) as client:
            status = f"{running.url}/api/v1/status"
            asked = [client.get(status, headers=bearer(one)) for one in (OPERATOR, "another-operator-token")]
        assert [one.status_code for one in asked] == [401, 200]
        (shown,) = asked[1].json()["certificates"]
        assert (shown["use"], shown["state"]) == ("server", "within 7 days")
        for lines, listen, said in (
            ((), "127.0.0.1:0", "serve.tls_cert cannot be added or removed while the daemon runs"),
            (tls, "127.0.0.1:1", "serve.listen cannot change while the daemon runs"),
            ((f'tls_cert = "{key}"',), "127.0.0.1:0", f"the certificate {key} or its key cannot be used"),
            ((*tls, "max_streams = 9"), "127.0.0.1:0", "serve.max_streams cannot change while the daemon runs"),
        ):
            configure(today, *lines, listen=listen)
            running.send(signal.SIGHUP)
            assert running.until("config_rejected")["message"] == said
        (today.base / "syncd.toml").write_text(text(today))
        running.send(signal.SIGHUP)
        assert running.until("config_rejected")["message"] == "[serve] cannot be added or removed while the daemon runs"
        assert running.process.poll() is None


def test_the_watchdog_hears_nothing_where_the_server_hangs(today: World) -> None:
    """Life is shown only while the HTTP side answers at its own address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(60)
        systemd.bind(str(today.base / "n"))
        path = today.base / "h.sock"
        surroundings = {"NOTIFY_SOCKET": str(today.base / "n"), "WATCHDOG_USEC": "300000"}
        with serve(today, listen=f"unix:{path}", **surroundings):
            while b"WATCHDOG=1" not in systemd.recv(4096):
                pass
            path.unlink()  # as good as a loop that hangs, to who asks at the address
            with socket.socket(socket.AF_UNIX) as hanging:
                hanging.bind(str(path))
                hanging.listen(64)
                systemd.settimeout(1.5)
                with pytest.raises(TimeoutError):
                    _drain(systemd)


def _drain(systemd: socket.socket) -> None:
    for _ in range(20):
        systemd.recv(4096)


def test_a_daemon_runs_on_what_is_damaged(today: World) -> None:
    """It says so, as an error, before it is ready, and serves what is there."""
    assert syncd("sync").code == 0
    timestamp = today.state.feed.path("metadata/timestamp.json")
    document = json.loads(timestamp.read_bytes())
    document["signed"]["expires"] = "2999-01-01T00:00:00Z"
    timestamp.write_text(json.dumps(document))
    configure(today)
    process = Serving(today.base / "syncd.toml")
    assert process.until("state_not_proved")["level"] == "error"
    with process as running:
        assert httpx.get(f"{running.url}/readyz").status_code == 503
        assert httpx.get(f"{running.url}/healthz").status_code == 200
        served = httpx.get(f"{running.url}/feed/metadata/timestamp.json", headers=token("m"))
        assert served.content == timestamp.read_bytes()
        assert syncd("sync").code == 1


def test_a_key_that_cannot_be_used_ends_the_start(today: World) -> None:
    """A daemon that can publish nothing would look alive: the key is named, with what to do."""
    key = today.state.keys / "timestamp.pem"
    key.unlink()
    key.mkdir()
    ran = syncd("run")
    assert ran.code != 0
    assert f"{today.state.keys / 'timestamp.pem'}" in ran.err
    assert "to do:" in ran.err


def test_an_address_in_use_ends_the_start(today: World) -> None:
    """With the address and what to do, and no socket left behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        configure(today, listen=f"127.0.0.1:{port}")
        ran = syncd("run")
    assert (ran.code, ran.err.splitlines()[-2:]) == (
        1,
        [
            f"error: cannot listen on 127.0.0.1 port {port}: Address already in use",
            "  to do: stop the other process that uses this port, or choose another port with serve.listen",
        ],
    )
    assert not (today.base / "c.sock").exists()


def test_a_check_names_the_address_and_refuses_an_open_one(today: World) -> None:
    """Beyond this machine without TLS tokens could be read; a proxy that does TLS may be told of."""
    configure(today, listen="[::1]:8470")
    assert "http            http://[::1]:8470\n" in syncd("run", "--check").out
    configure(today, listen="192.0.2.1:8470")
    refused = syncd("run", "--check")
    assert refused.code == 2
    assert "serve.listen: 192.0.2.1 can be reached from other machines without TLS" in refused.err
    configure(today, "behind_proxy = true", listen="192.0.2.1:8470")
    assert syncd("run", "--check").code == 0
    configure(today, f'tls_cert = "{today.base}/lost"')
    assert syncd("run", "--check").code == 2
    expired, key = Authority(today.base, "ours").certificate("expired", hours=-2)
    configure(today, f'tls_cert = "{expired}"', f'tls_key = "{key}"')
    refused = syncd("run", "--check")
    assert (refused.code, f"the certificate {expired}, or one in its chain, expired on 20" in refused.err) == (2, True)
