"""docs/nginx.conf and the cache of docs/object-store.md, tried with the real nginx."""

import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from certificates import Authority
from engines import s3
from syncd.errors import SyncdError
from syncd.fetch import Endpoint
from syncd.matcher.pull import pull
from syncd.model import ListName
from syncd.store.s3 import S3Bucket
from web_site import OPERATOR, Running, named_file, running
from world import World, row, rows

PAGE = Path(__file__).parent.parent / "docs" / "object-store.md"
EXAMPLE = Path(__file__).parent.parent / "docs" / "nginx.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not here: apt install nginx-light")


@dataclass
class Proxy:
    """nginx in front of a site."""

    web: Running
    url: str
    ca: Path

    def get(self, path: str, headers: dict[str, str]) -> httpx.Response:
        """Ask it."""
        return httpx.get(f"{self.url}{path}", headers=headers, verify=self.trust())

    def trust(self) -> ssl.SSLContext:
        """Its authority."""
        return ssl.create_default_context(cafile=self.ca)


@pytest.fixture
def proxy(standing: World, tmp_path: Path) -> Iterator[Proxy]:
    """The example, with paths and addresses of this test in place of its own."""
    ours = Authority(tmp_path, "ours")
    certificate, key = ours.certificate("proxy")
    with running(standing, behind_proxy=True) as web, _port() as port:
        replaced = {
            "user www-data;": "user root;" if os.geteuid() == 0 else "",
            "worker_processes auto;": "worker_processes 1; daemon off; error_log stderr;",
            "/run/nginx.pid": f"{tmp_path}/nginx.pid",
            "include /etc/nginx/mime.types;": _temporary(tmp_path),
            "127.0.0.1:8470": f"127.0.0.1:{web.port}",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/syncd/tls.pem": str(certificate),
            "/etc/syncd/tls.key": str(key),
            "root /var/lib/syncd;": f"root {standing.state.root};",
        }
        text = EXAMPLE.read_text()
        for old, new in replaced.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        with _nginx(tmp_path, text):
            yield Proxy(web, f"https://127.0.0.1:{port}", ours.file)


def _temporary(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "types { application/json json; }" + "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)


@contextmanager
def _port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    yield port


@contextmanager
def _nginx(folder: Path, text: str) -> Iterator[None]:
    config = folder / "nginx.conf"
    config.write_text(text)
    command = [str(NGINX), "-c", str(config), "-p", str(folder), "-e", "stderr"]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _listening(process, int(re.findall(r"listen 127.0.0.1:([0-9]+)", text)[0]))
        yield
    finally:
        process.terminate()
        process.wait(20)


def _listening(process: "subprocess.Popen[bytes]", port: int) -> None:
    for _ in range(1000):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            assert process.poll() is None
        else:
            return
    raise AssertionError("nginx never listened")


def test_a_matcher_pulls_through_nginx(proxy: Proxy, tmp_path: Path) -> None:
    """By the same URL and token; what nginx sends itself is counted too."""
    world, token = proxy.web.world, proxy.web.add("m")["Authorization"].removeprefix("Bearer ")
    endpoint = Endpoint(f"{proxy.url}/feed/", token, ca=proxy.ca)
    pulled = pull(endpoint, world.operator_root.read_bytes(), tmp_path / "own", now=world.clock(), deadline=20.0)
    assert [(one.after, one.error) for one in pulled.lists] == [(1, None)]
    sizes = {path: world.state.feed.path(path).stat().st_size for _, path, _ in proxy.web.pulls.told}
    assert sorted(sizes) == sorted(named_file(world, f"v1/iwf.images/{kind}") for kind in ("*.json", "segments/*"))
    assert {path: sent for _, path, sent in proxy.web.pulls.told} == sizes


def test_nginx_sends_only_what_a_token_may_read(proxy: Proxy) -> None:
    """Nothing without one, nothing out of scope, nothing outside the layout, and no way up."""
    mine, other = proxy.web.add("mine"), proxy.web.add("other", "iwf.videos")
    segment = f"/feed/{named_file(proxy.web.world, 'v1/iwf.images/segments/*.arrow')}"
    asked = {
        segment: (200, 403, 401),
        "/feed/metadata/timestamp.json": (200, 200, 401),
        "/feed/metadata/1.root.json": (200, 200, 401),
        "/feed/metadata/9.root.json": (404, 404, 401),
        "/feed/v1/../../catalog.sqlite3": (404, 404, 404),
        "/feed/v1/%2e%2e/.work/lock": (404, 404, 401),
        "/feed/v1/iwf.images/..%2f..%2f..%2fcatalog.sqlite3": (404, 404, 401),
        f"{segment}/": (403, 403, 401),
        "/catalog.sqlite3": (404, 404, 404),
    }
    found = {path: tuple(proxy.get(path, headers).status_code for headers in (mine, other, {})) for path in asked}
    assert found == asked
    assert proxy.get("/api/v1/auth", {**mine, "X-Original-URI": segment}).status_code == 404


def test_nginx_says_what_caches_may_keep(proxy: Proxy) -> None:
    """As we do: for ever, or never; a download goes on where it stopped, and what is held costs no body."""
    mine, world = proxy.web.add("mine"), proxy.web.world
    path = f"/feed/{named_file(world, 'v1/iwf.images/segments/*.arrow')}"
    whole = proxy.get(path, mine)
    assert whole.headers["cache-control"] == "private, immutable, max-age=31536000"
    assert whole.headers["content-type"] == "application/vnd.apache.arrow.file"
    part = proxy.get(path, {**mine, "Range": "bytes=100-"})
    assert (part.status_code, part.content) == (206, whole.content[100:])
    assert proxy.get(path, {**mine, "If-None-Match": whole.headers["etag"]}).status_code == 304
    for changing in ("/feed/metadata/timestamp.json", "/feed/metadata/9.root.json", "/feed/root.json"):
        assert proxy.get(changing, mine).headers["cache-control"] == "no-store"


def test_news_come_through_nginx_at_once(proxy: Proxy) -> None:
    """It does not keep them until there are more."""
    url = f"{proxy.url}/api/v1/events"
    with httpx.stream("GET", url, headers=proxy.web.add("m"), verify=proxy.trust(), timeout=20) as response:
        lines = response.iter_lines()
        assert 'data: {"list":"iwf.images","version":1}' in lines
        proxy.web.news.announce(ListName("iwf.images"), 2)
        assert 'data: {"list":"iwf.images","version":2}' in lines


def test_the_dashboard_is_signed_in_to_through_nginx(proxy: Proxy) -> None:
    """By a browser that sends no Fetch Metadata too; its cookies are Secure, and the log tells who it was."""
    with httpx.Client(base_url=proxy.url, verify=proxy.trust(), headers={"Origin": proxy.url}) as browser:
        form = re.findall(r'name="form" value="(\w+)"', browser.get("/login").text)[0]
        lie = {"X-Forwarded-For": "203.0.113.9"}
        wrong = browser.post("/login", data={"form": form, "token": "guess"}, headers=lie)
        assert (wrong.status_code, proxy.web.named("dashboard_refused")[0].document()) == (403, {"peer": "127.0.0.1"})
        right = browser.post("/login", data={"form": form, "token": OPERATOR}, headers=lie)
        assert right.headers.get_list("set-cookie")[0].endswith("; SameSite=strict; Secure")
        assert browser.get("/").status_code == 200


@dataclass
class Cache:
    """nginx as docs/object-store.md has it, in front of a bucket that a daemon publishes into."""

    world: World
    endpoint: Endpoint
    bucket: S3Bucket

    def get(self, path: str) -> int:
        """Ask it for a file; return the status."""
        headers = {"Authorization": f"Bearer {self.endpoint.token}"}
        trust = ssl.create_default_context(cafile=self.endpoint.ca)
        return httpx.get(f"{self.endpoint.url}{path}", headers=headers, verify=trust).status_code

    def pull(self) -> list[tuple[int | None, SyncdError | None]]:
        """A matcher pulls through it."""
        root = self.world.operator_root.read_bytes()
        pulled = pull(self.endpoint, root, self.world.copy, now=self.world.clock(), deadline=20.0)
        return [(one.after, one.error) for one in pulled.lists]


@pytest.fixture
def cache(s3_endpoint: str, tmp_path: Path) -> Iterator[Cache]:
    """The example of the page, with paths and addresses of this test in place of its own."""
    settings = s3.settings(tmp_path, s3_endpoint, prefix=f"public/{tmp_path.name}")
    world = World(tmp_path / "world", bucket=settings)
    world.publish(full=rows(0, 30))
    assert world.sync().exit_code == 0
    ours = Authority(tmp_path, "ours")
    certificate, key = ours.certificate("proxy")
    (text,) = re.findall(r"^```nginx\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    with _port() as port:
        replaced = {
            "/var/cache/nginx/feed": f"{tmp_path}/cache",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/nginx/lists.pem": str(certificate),
            "/etc/nginx/lists.key": str(key),
            "https://s3.example.org/hash-lists/production/feed/": f"{s3_endpoint}/lists/{settings.prefix}/feed/",
        }
        for old, new in replaced.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        main = "user root; " if os.geteuid() == 0 else ""
        main += f"worker_processes 1; daemon off; error_log stderr; pid {tmp_path}/nginx.pid; events {{}}\n"
        with _nginx(tmp_path, f"{main}http {{\naccess_log off;\n{_temporary(tmp_path)}\n{text}}}"):
            endpoint = Endpoint(f"https://127.0.0.1:{port}/feed/", "REPLACE-THIS-TOKEN", ca=ours.file)
            yield Cache(world, endpoint, S3Bucket(settings, "feed", public=True))


def test_a_matcher_pulls_from_a_bucket_through_nginx(cache: Cache) -> None:
    """With the token of all matchers, and each version as soon as it is published: no timestamp is kept."""
    assert cache.pull() == [(1, None)]
    for number in (30, 31):
        cache.world.clock.forward(minutes=10)
        cache.world.publish(add=[row(number)])
        assert cache.world.sync().exit_code == 0
        assert cache.pull() == [(number - 28, None)]
    wrong = replace(cache.endpoint, token="wrong-token-0123456789")
    assert replace(cache, endpoint=wrong).get("metadata/timestamp.json") == 401


def test_nginx_keeps_what_is_immutable_and_nothing_else(cache: Cache) -> None:
    """It answers for the bucket with what it has, never with an old timestamp, and forgets what was absent."""
    segment, root = named_file(cache.world, "v1/iwf.images/segments/*.arrow"), "metadata/2.root.json"
    assert [cache.get(path) for path in (segment, root, "metadata/timestamp.json")] == [200, 404, 200]
    cache.bucket.create(root, b"{}")
    cache.bucket.remove(segment)
    cache.bucket.remove("metadata/timestamp.json")
    assert [cache.get(path) for path in (segment, root, "metadata/timestamp.json")] == [200, 200, 404]
