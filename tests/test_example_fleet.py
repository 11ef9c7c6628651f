"""``examples/several-daemons`` under a real systemd: real servers, nginx in front, and the leader stopped."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engines.postgres import programs
from systemd_host import Host, boot, lacking
from test_systemd import install
from world import Clock, World, row, rows

EXAMPLE = "/srv/project/examples/several-daemons"
SITE = f"/opt/syncd/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
ROUNDS = 60
"""Looks for a leader, each of which takes a second or so."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A partner with one list; its folder is ``/run/host`` in the host."""
    tmp_path.chmod(0o755)
    world = World(tmp_path, Clock(datetime.now(UTC)))
    world.publish(full=rows(0, 30))
    let_read(world)
    return world


def let_read(world: World) -> None:
    """Let the daemons of the host read the partner's folder, as a web server would."""
    subprocess.run(["chmod", "-R", "a+rX", world.partner.root], check=True)


@pytest.fixture
def host(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A Debian host with syncd and its users."""
    scratch, weed = tmp_path_factory.mktemp("scratch"), Path(sys.executable).with_name("weed")
    reason = lacking(scratch) or ("" if shutil.which("nginx", path="/usr/sbin") else "needs nginx")
    folder = programs()
    if reason or folder is None or "site-packages" not in folder.parts or not weed.exists():
        pytest.skip(f"no systemd can be booted here with all servers: {reason}")
    shutil.copy(weed, world.base / "weed")
    with boot(scratch, world.base) as host:
        install(host)
        pgbin = Path(SITE, *folder.parts[folder.parts.index("site-packages") + 1 :])
        arguments = ("env", f"PGBIN={pgbin}", "WEED=/run/host/weed", f"{EXAMPLE}/set-up")
        command = host.command(*arguments, "file:///run/host/partner", "/run/host/partner/root.json")
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        ran = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
        journal = host.run("journalctl", "-b", "-n", "60", "--no-pager", "-o", "short", check=False).stdout
        assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}\n{journal}"
        yield host


def leader(host: Host, asked: int) -> int | None:
    """The number of the daemon that leads, as another one says."""
    status = host.run("syncd", "status", "--json", "--config", f"/etc/syncd/{asked}.toml", check=False).stdout
    known = (json.loads(status)["fleet"] or {}).get("daemons", ()) if status else ()
    leads = {one["pid"] for one in known if one["role"] == "leader"}
    return next((n for n in (1, 2, 3) if int(host.show(f"syncd@{n}", "MainPID")) in leads - {0}), None)


def pull_into(copy: str) -> tuple[str, ...]:
    """A pull through nginx, as a command."""
    what = "syncd", "pull", "http://127.0.0.1:8480/feed/", "--root", "/etc/syncd/root.json"
    return *what, "--dir", copy, "--token-file", "/root/web.token"


def held(host: Host, copy: str) -> dict[str, int]:
    """Return the versions of a copy; none if there is no copy yet."""
    current = host.run("cat", f"{copy}/current.json", check=False).stdout
    return {name: one["version"] for name, one in json.loads(current)["lists"].items()} if current else {}


def pull(host: Host) -> dict[str, int]:
    """A matcher pulls through nginx; return its versions."""
    host.run(*pull_into("/root/copy"))
    return held(host, "/root/copy")


def test_the_leader_is_stopped_and_matchers_go_on(host: Host, world: World) -> None:
    """Set up by one script: a sync at any daemon, a pull through nginx, and both again without the first leader."""
    config = "/etc/syncd/2.toml"
    host.run("syncd", "matchers", "add", "web", "--token-file", "/root/web.token", "--config", config)
    host.run("syncd", "sync", "--config", config)
    assert pull(host) == {"iwf.images": 1}
    host.run("systemd-run", "--unit=watching", *pull_into("/root/watched"), "--watch", "--interval", "1h")
    first = next(n for n in (leader(host, 2) for _ in range(ROUNDS)) if n)
    host.run("systemctl", "stop", f"syncd@{first}")
    left = first % 3 + 1
    second = next(n for n in (leader(host, left) for _ in range(ROUNDS)) if n and n != first)
    assert second != first
    world.clock.now = datetime.now(UTC)
    world.publish(add=[row(30)])
    let_read(world)
    host.run("syncd", "sync", "--config", f"/etc/syncd/{left}.toml")
    assert pull(host) == {"iwf.images": 2}
    found = host.run("syncd", "lookup", "/root/copy", f"sha256:{row(30)[1]}").stdout
    assert "iwf.images" in found
    assert any(held(host, "/root/watched") == {"iwf.images": 2} for _ in range(ROUNDS))  # told by an event
    host.run("systemctl", "start", f"syncd@{first}")
    assert pull(host) == {"iwf.images": 2}
