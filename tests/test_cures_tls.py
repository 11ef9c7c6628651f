"""Cures of TLS: the advice of `feed serve`, `pull` and `sync` about certificates works as written."""

import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

from certificates import Authority
from command_line import Ran, configure, settings, syncd, use_clock
from disks import root_only
from web_site import running
from world import Clock, World, row, rows

TOKEN: Final = "s3cret-token-0123456789"
QUICKLY: Final = (
    "from syncd.service.web import foreground; foreground._CHECK_EVERY = 0.05; from syncd.cli.main import run; run()"
)
"""The program, which checks its certificate files more often than usual."""


@pytest.fixture
def feed(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A partner with one list; commands go by the world's clock, certificates by the real one."""
    use_clock(world.clock, monkeypatch)
    world.publish(full=rows(0, 3))
    return world


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    """The authority that signs the partner's certificates."""
    return Authority(tmp_path, "ours")


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """The file of the partner's token."""
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(TOKEN)
    return path


class FeedServer:
    """`syncd feed serve`, as a process of its own."""

    def __init__(self, world: World, *options: object, listen: str = "127.0.0.1:0") -> None:
        command = ("feed", "serve", world.partner.root, "--listen", listen, *options)
        self.process = subprocess.Popen(
            [sys.executable, "-uc", QUICKLY, *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().partition(" at ")[2].strip()

    def reported(self, lines: int) -> list[str]:
        """The next lines on standard error; waits for them."""
        assert self.process.stderr is not None
        return [self.process.stderr.readline().rstrip() for _ in range(lines)]

    def refusal(self) -> tuple[int, str]:
        """Exit code and standard error of a server that did not start."""
        return self.process.wait(20), self.process.communicate()[1]


@contextmanager
def serving(world: World, *options: object, listen: str = "127.0.0.1:0") -> Iterator[FeedServer]:
    """Serve until the end of the block."""
    server = FeedServer(world, *options, listen=listen)
    try:
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.communicate(timeout=20)


def pull(world: World, url: str, *options: object) -> Ran:
    """A follower pulls straight from the partner."""
    return syncd("pull", url, "--root", world.root, "--dir", world.mirror, *options)


def put(new: tuple[Path, Path], at: tuple[Path, Path]) -> None:
    """Renew a certificate as programs do that renew certificates."""
    for source, target in zip(reversed(new), reversed(at), strict=True):
        shutil.copyfile(source, target.with_suffix(".next"))
        target.with_suffix(".next").replace(target)


def files(pair: tuple[Path, Path]) -> tuple[object, ...]:
    """The options that name a certificate and its key."""
    return "--tls-cert", pair[0], "--tls-key", pair[1]


# feed serve


def test_a_certificate_with_another_key_is_corrected(feed: World, ours: Authority) -> None:
    """The server does not start, says that the two do not belong together, and starts with those that do."""
    right, other = ours.certificate("right"), ours.certificate("other")
    code, err = FeedServer(feed, *files((right[0], other[1]))).refusal()
    assert code == 2
    assert f"error: the certificate {right[0]} or its key cannot be used" in err
    assert "must be PEM files that belong together" in err
    with serving(feed, *files(right)) as server:
        assert pull(feed, server.url, "--ca", ours.file).code == 0


def test_a_certificate_that_is_not_there_is_named(feed: World, ours: Authority) -> None:
    """The file and the reason; it is not called a bad certificate."""
    cert, key = ours.certificate("right")
    away = key.rename(key.with_name("away"))
    code, err = FeedServer(feed, *files((cert, key))).refusal()
    assert (code, err.splitlines()) == (
        2,
        [
            f"error: cannot read {key}: No such file or directory",
            "  to do: check the path, and that this user may read the file",
        ],
    )
    away.rename(key)
    with serving(feed, *files((cert, key))) as server:
        assert pull(feed, server.url, "--ca", ours.file).code == 0


def test_a_key_that_may_not_be_read_is_named(feed: World, ours: Authority, tmp_path: Path) -> None:
    """While the server runs as another user; the certificate in use stays, and the corrected one is used."""
    root_only()
    cert, key = ours.certificate("server")
    code = (
        "import os, sys; from pathlib import Path; from syncd.service.web.tls import TlsFiles, make_context\n"
        "from syncd.errors import ConfigError\n"
        "os.setuid(65534)\n"
        "try: make_context(TlsFiles(Path(sys.argv[1]), Path(sys.argv[2])))\n"
        "except ConfigError as error: print(error.message, error.hint, sep='\\n')\n"
    )
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder != Path("/tmp"):
            folder.chmod(0o755)
    ran = subprocess.run([sys.executable, "-c", code, cert, key], capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines() == [
        f"cannot read {key}: Permission denied",
        "check the path, and that this user may read the file",
    ], ran.stderr


def test_an_expired_certificate_is_renewed_while_it_is_served(feed: World, ours: Authority, tmp_path: Path) -> None:
    """Both sides say what is wrong; a wrong renewal changes nothing, and the right one is used at once."""
    at = tmp_path / "tls.pem", tmp_path / "tls.key"
    put(ours.certificate("old", hours=-2), at)
    at[1].chmod(0o600)
    with serving(feed, *files(at)) as server:
        error, to_do = server.reported(2)
        assert error.startswith(f"error: the certificate {at[0]}, or one in its chain, expired on 20")
        assert to_do == "  to do: replace it by a valid one; until then clients refuse to connect"
        refused = pull(feed, server.url, "--ca", ours.file)
        assert refused.code == 5
        assert "is not trusted: certificate has expired" in refused.err
        assert "if this machine's clock is right, the peer's operator must replace the certificate" in refused.err
        shutil.copyfile(ours.certificate("half")[0], at[0])
        assert server.reported(3)[1:] == [
            "  still in use: the previous certificate",
            "  to do: both must be PEM files that belong together, and the key must have no passphrase",
        ]
        put(ours.certificate("new"), at)
        said = ""
        while said != "the new certificate is in use":  # the key was replaced first: the pair may have been tried then
            (said,) = server.reported(1)
            assert said, "the server ended"
        assert pull(feed, server.url, "--ca", ours.file).code == 0


def test_a_feed_beyond_this_machine_is_served_with_what_the_error_asks_for(
    feed: World, ours: Authority, token: Path
) -> None:
    """TLS and a token."""
    code, err = FeedServer(feed, listen="0.0.0.0:0").refusal()
    assert (code, "to do: give --tls-cert, --tls-key, and --tokens or --token-file" in err) == (2, True)
    with serving(feed, *files(ours.certificate("server")), "--token-file", token, listen="0.0.0.0:0") as server:
        port = server.url.rstrip("/").rpartition(":")[2]
        url = f"https://127.0.0.1:{port}/"
        refused = pull(feed, url, "--ca", ours.file)
        assert (refused.code, "give a valid token (--token-file)" in refused.err) == (5, True)
        assert pull(feed, url, "--ca", ours.file, "--token-file", token).code == 0


# pull


def test_a_certificate_for_another_name_is_not_blamed_on_its_authority(feed: World, ours: Authority) -> None:
    """The cure is the right name; to name the authority, which the hint for another fault says, would not help."""
    with serving(feed, *files(ours.certificate("server"))) as server:
        refused = pull(feed, server.url.replace("127.0.0.1", "localhost"), "--ca", ours.file)
        assert refused.code == 5
        assert "is not trusted: Hostname mismatch" in refused.err
        assert "to do: use the host name that the certificate was made for" in refused.err
        assert "--ca" not in refused.err
        assert pull(feed, server.url, "--ca", ours.file).code == 0


def test_an_authority_of_ones_own_is_named(feed: World, ours: Authority, tmp_path: Path) -> None:
    """With `--ca`; a file that is no authority says so."""
    with serving(feed, *files(ours.certificate("server"))) as server:
        refused = pull(feed, server.url)
        assert (refused.code, "give the authority that signed it as ca (`--ca`)" in refused.err) == (5, True)
        wrong = tmp_path / "wrong.pem"
        wrong.write_text("no certificate\n")
        spoilt = pull(feed, server.url, "--ca", wrong)
        assert (spoilt.code, f"{wrong} holds no usable PEM certificate" in spoilt.err) == (2, True)
        assert pull(feed, server.url, "--ca", ours.file).code == 0


def test_a_client_certificate_that_is_demanded_is_given(feed: World, ours: Authority) -> None:
    """The error quotes the peer's reason; the pull succeeds with the options that the error names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ours.certificate("server"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ours.file)
    mine, expired = ours.certificate("mine"), ours.certificate("expired", hours=-2)
    handler = partial(Quiet, directory=str(feed.partner.root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url, trust = f"https://127.0.0.1:{server.server_address[1]}/", ("--ca", ours.file)
        refused = pull(feed, url, *trust)
        assert (refused.code, "demands a client certificate" in refused.err) == (5, True), refused.err
        assert "to do: give a certificate that the peer accepts (client_cert and client_key; " in refused.err
        old = pull(feed, url, *trust, "--client-cert", expired[0], "--client-key", expired[1])
        assert (old.code, "refused our client certificate" in old.err) == (5, True), old.err
        done = pull(feed, url, *trust, "--client-cert", mine[0], "--client-key", mine[1])
        assert done.code == 0, done
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Logs nothing."""

    def log_message(self, *_: object) -> None:
        """See the class."""


# sync


def test_a_source_gets_the_authority_that_the_error_asks_for(
    feed: World, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ca` in its table; a certificate that expires afterwards is renewed by the partner, and nothing is done here."""
    config, at = feed.base / "syncd.toml", (feed.base / "tls.pem", feed.base / "tls.key")
    put(ours.certificate("server"), at)
    with serving(feed, *files(at)) as server:
        feed.url = server.url
        configure(config, settings(feed), monkeypatch)
        refused = syncd("sync")
        assert (refused.code, "give the authority that signed it as ca" in refused.err) == (5, True)
        configure(config, settings(feed, f'ca = "{ours.file}"\n'), monkeypatch)
        assert syncd("sync").code == 0
        put(ours.certificate("old", hours=-2), at)
        while not server.reported(1)[0].startswith("  to do: replace it"):
            pass
        feed.publish(add=[row(9)])
        expired = syncd("sync")
        assert (expired.code, "still served: iwf.images version 1" in expired.err) == (5, True)
        assert "the peer's operator must replace the certificate" in expired.err
        put(ours.certificate("new"), at)
        while server.reported(1)[0] != "the new certificate is in use":
            pass
        assert syncd("sync").code == 0


def test_a_client_certificate_that_a_partner_demands(
    ours: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the cure if the certificate is missing, unsuitable or expired; a valid one is accepted."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    clock = Clock(datetime.now(UTC))
    first, second = World(tmp_path / "first", clock), World(tmp_path / "second", clock)
    first.publish(full=rows(0, 30))
    assert first.sync().exit_code == 0
    use_clock(clock, monkeypatch)
    cert, key = ours.certificate("server")
    mine = second.base / "mine.pem", second.base / "mine.key"
    (second.base / "token").touch(0o600)
    with running(first, tls_cert=cert, tls_key=key, client_ca=ours.file) as web:
        second.url, second.root = f"{web.url}/feed/", first.operator_root
        (second.base / "token").write_text(web.add("second")["Authorization"].removeprefix("Bearer "))
        given = f'ca = "{ours.file}"\ntoken_file = "{second.base}/token"\n'

        def sync(more: str) -> Ran:
            clock.forward(minutes=1)
            configure(second.base / "syncd.toml", settings(second, given + more), monkeypatch)
            return syncd("sync")

        without = sync("")
        assert (without.code, "client certificate" in without.err) == (5, True), without.err
        named = f'client_cert = "{mine[0]}"\nclient_key = "{mine[1]}"\n'
        put(ours.certificate("early", hours=-2), mine)
        mine[1].chmod(0o600)
        expired = sync(named)
        assert (expired.code, "client certificate" in expired.err) == (5, True), expired.err
        assert syncd("status", "--check").code == 2
        assert f"put a valid certificate at {mine[0]}" in syncd("status").err
        mine[0].write_text("no certificate\n")
        spoilt = sync(named)
        assert spoilt.code == 2
        assert "its key unencrypted and belonging to the certificate" in spoilt.err
        put(ours.certificate("valid"), mine)
        mine[1].chmod(0o600)
        assert sync(named).code == 0
