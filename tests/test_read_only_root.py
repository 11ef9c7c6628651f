"""In a container: as its first process (PID 1), on a read-only root, with one folder that can be written."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from world import Clock, World, row, rows

PROJECT: Final = Path(__file__).parent.parent
UNSHARE: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
ROOT: Final = """
mount --make-rprivate /
mount --bind / "$WORK/root"
cd "$WORK/root"
mount -o remount,bind,ro "$WORK/root"
cd "$WORK/root"
for folder in "$PROJECT" "$PREFIX" "$BASE_PREFIX"; do
  mount --bind "$folder" "$WORK/root$folder"
  mount -o remount,bind,ro "$WORK/root$folder"
done
mount -t tmpfs -o ro tmpfs tmp
mount --bind "$WORK/writable" mnt
mount -t proc proc proc
mount --bind /dev dev
mount -o remount,bind,ro dev
exec env -i "PATH=$PATH" SYNCD_CONFIG=/mnt/syncd.toml PYTHONDONTWRITEBYTECODE=1 chroot . "$PREFIX/bin/python" "$@"
"""
"""Only ``/mnt`` can be written: not even a temporary folder."""
SYNCD: Final = ("-m", "syncd.cli")
CONFIG: Final = """
state_dir = "/mnt/operator"
control_socket = "/mnt/control.sock"
[sources.iwf]
url = "file:///mnt/partner"
root = "/mnt/partner/root.json"
interval = "1d"
"""


@dataclass
class Container:
    """A root of its own; ``/mnt`` is `writable`."""

    work: Path

    @property
    def writable(self) -> Path:
        """The one folder that can be written, from outside."""
        return self.work / "writable"

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs Python as the first process."""
        return [*UNSHARE, "/bin/sh", "-euc", ROOT, "sh", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Settings of that command line."""
        places = {"PROJECT": str(PROJECT), "PREFIX": sys.prefix, "BASE_PREFIX": sys.base_prefix}
        return {"PATH": os.environ["PATH"], "WORK": str(self.work), **places}

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run Python to its end."""
        return subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, check=False, timeout=100
        )

    def enter(self, pid: int, *arguments: str) -> str:
        """Run syncd beside its first process ``pid``, as `docker exec` would; return what it prints."""
        inside = ("nsenter", "--target", str(pid), "--mount", "--pid", "--root", "--wd=/")
        command = [*inside, "env", "SYNCD_CONFIG=/mnt/syncd.toml", f"{sys.prefix}/bin/python", *SYNCD, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout

    @contextmanager
    def running(self, *arguments: str) -> Iterator["FirstProcess"]:
        """Run syncd, and end it afterwards."""
        command = self.command(*SYNCD, *arguments)
        with subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                yield FirstProcess(process)
            finally:
                process.kill()


@dataclass
class FirstProcess:
    """A syncd that is PID 1 in its container."""

    _unshare: "subprocess.Popen[str]"

    @property
    def pid(self) -> int:
        """Its process id, seen from here."""
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children").read_text().split()
        return int(children[0])

    def until(self, text: str) -> str:
        """Read its output up to a line with ``text``."""
        assert self._unshare.stdout
        lines = []
        for line in self._unshare.stdout:
            lines.append(line)
            if text in line:
                return line
        raise AssertionError("".join(lines))

    def end(self) -> tuple[int, str]:
        """Stop it as a container is stopped; return its exit code and the rest of its output."""
        os.kill(self.pid, signal.SIGTERM)
        out, _ = self._unshare.communicate(timeout=60)
        return self._unshare.returncode, out

    def zombies(self) -> list[str]:
        """Its children that ended and were not collected."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        states = {child: Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2][0] for child in children}
        return [child for child, state in states.items() if state == "Z"]


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Container:
    """A container with a partner's feed of thirty rows."""
    found = Container(tmp_path_factory.mktemp("container"))
    (found.work / "root").mkdir()
    world = World(found.writable, Clock(datetime.now(UTC)))
    tried = found.run("-c", "pass")
    if tried.returncode:
        pytest.skip(f"no container can be made here: {tried.stderr.strip()}")
    world.publish(full=rows(0, 30))
    (found.writable / "syncd.toml").write_text(CONFIG)
    return found


def test_nothing_else_can_be_written(container: Container) -> None:
    """The container is what this module says: read-only, and Python is the first process."""
    probe = """
import os, tempfile
assert os.getpid() == 1
for folder in ("/", "/tmp", "/var/tmp", "/run", "/dev/shm", "/var/lib", "/root", "/home", os.environ.get("HOME", "/")):
    assert not os.path.isdir(folder) or os.statvfs(folder).f_flag & os.ST_RDONLY, folder
open("/mnt/probe", "w").close()
"""
    assert container.run("-c", probe).stderr == ""


def test_the_daemon_runs_as_the_first_process(container: Container) -> None:
    """It syncs, collects its workers, answers commands, and ends in order when the container is stopped."""
    made = container.run(*SYNCD, "init", "--offline-keys", "/mnt/offline")
    assert made.returncode == 0, made.stderr
    with container.running("run") as daemon:
        daemon.until('"event": "daemon_ready"')
        assert "published" in container.enter(daemon.pid, "sync")
        assert "up to date" in container.enter(daemon.pid, "sync")
        assert "no daemon is running" not in container.enter(daemon.pid, "status")
        assert daemon.zombies() == []
        code, rest = daemon.end()
    assert (code, '"event": "daemon_stopped"' in rest) == (0, True)
    verified = container.run(*SYNCD, "verify")
    assert verified.returncode == 0, verified.stderr


@pytest.mark.parametrize(
    ("arguments", "ready"),
    [
        (
            ("pull", "file:///mnt/partner", "--root", "/mnt/partner/root.json", "--dir", "/mnt/copy", "--watch"),
            "new here",
        ),
        (("feed", "serve", "/mnt/partner", "--listen", "127.0.0.1:0"), "serving"),
    ],
    ids=["pull", "feed serve"],
)
def test_agents_run_as_the_first_process(container: Container, arguments: tuple[str, ...], ready: str) -> None:
    """The agent of a matcher's host, and the server of a partner; each ends when the container is stopped."""
    with container.running(*arguments) as agent:
        agent.until(ready)
        assert agent.end()[0] == 0


def test_a_copy_is_answered_from_a_read_only_root(container: Container) -> None:
    """A matcher needs to write nothing at all."""
    world = World(container.writable, Clock(datetime.now(UTC)))
    world.follow()
    place = "/mnt/" + str(world.mirror.relative_to(container.writable))
    found = container.run(*SYNCD, "lookup", place, f"sha256:{row(7)[1]}", "--json")
    assert (found.returncode, found.stderr) == (0, "")
