"""A throwaway host: a real systemd as PID 1, in namespaces of its own, over a copy-on-write view of this machine.

with boot(scratch, shared) as host:
    host.run("systemctl", "start", "syncd")

It has journal, cgroups, users and loopback of its own; what it writes is gone with it. The project is in
``/srv/project`` for `make install`, and the program in ``/opt/syncd``, as a venv would have it.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROJECT: Final = Path(__file__).parent.parent
SYSTEMD: Final = "/lib/systemd/systemd"

_UNSHARE: Final = (
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--ipc", "--uts", "--net"),
    *("/bin/sh", "-euc"),
)
_LONGEST: Final = 45.0
"""Seconds that anything in the host may take."""
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# /sys and /proc/sys are read-only, and /dev is another: what this systemd sets must not be set on the real machine.
# Mounts are shared in the end, as systemd makes them itself where it is in no container: credentials need that.
_MOUNTS: Final = """
mount --make-rprivate /
mount -t tmpfs -o size=4g tmpfs "$WORK"
mkdir "$WORK/up" "$WORK/wk" "$WORK/up2" "$WORK/wk2" "$WORK/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$WORK/up,workdir=$WORK/wk" "$WORK/root"
"""
_ROOT: Final = """
cd "$WORK/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
  touch "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/shm dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p run/host srv/project
mount --bind "$SHARED" run/host
mount --bind "$PROJECT" srv/project
mount -o remount,bind,ro srv/project

site=opt/syncd/lib/$PYTHON/site-packages
mkdir -p "$site" opt/syncd/bin opt/python
mount --bind "$PYTHON_HOME" opt/python
mount -o remount,bind,ro opt/python
mount -t overlay overlay -o "lowerdir=$SITE,upperdir=$WORK/up2,workdir=$WORK/wk2" "$site"
rm -rf "$site"/__editable__*
cp -r "$PROJECT/syncd" "$site/"
ln -sf "/opt/python/bin/$PYTHON" opt/syncd/bin/python
printf 'home = /opt/python/bin\\n' >opt/syncd/pyvenv.cfg
printf '#!/opt/syncd/bin/python\\nfrom syncd.cli.main import run\\n\\nrun()\\n' >opt/syncd/bin/syncd
chmod 755 opt/syncd/bin/syncd
find opt/syncd ! -type l ! -perm -o=r -exec chmod a+rX {} +  # the project may have been cloned with any umask
mkdir -p usr/local/bin etc/ld.so.conf.d etc/systemd/system etc/systemd/journald.conf.d
ln -sf /opt/syncd/bin/syncd usr/local/bin/syncd
echo /opt/python/lib >etc/ld.so.conf.d/syncd-test.conf

printf '[Journal]\\nStorage=volatile\\nRateLimitIntervalSec=0\\n' >etc/systemd/journald.conf.d/test.conf
for unit in timers.target systemd-udevd.service systemd-udev-trigger.service; do
  ln -sf /dev/null "etc/systemd/system/$unit"
done
mkdir old
pivot_root . old
umount -l old
rmdir old
mount --make-rshared /
ldconfig
exec env -i container=test NOTIFY_SOCKET=/run/host/notify "PATH=$CLEAN_PATH" \\
  "$SYSTEMD" --system --unit=basic.target --log-target=journal --show-status=no
"""


def lacking(work: Path) -> str:
    """Why no host can be booted here, or ``""``: what is missing, or what the kernel said."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [one for one in (SYSTEMD, "unshare", "nsenter", "pivot_root", "make") if not shutil.which(one)]
    if missing:
        return f"needs {', '.join(missing)}"
    tried = subprocess.run(
        [*_UNSHARE, _MOUNTS], env={**os.environ, "WORK": str(work)}, capture_output=True, text=True, check=False
    )
    return tried.stderr.strip() if tried.returncode else ""


@dataclass
class Host:
    """A host that runs."""

    pid: int
    """of its systemd, seen from here"""

    def command(self, *arguments: object, user: str = "root") -> list[str]:
        """The command line that does ``arguments`` in the host."""
        return [
            *("nsenter", "--target", str(self.pid), "--mount", "--pid", "--cgroup", "--ipc", "--uts", "--net", "--"),
            *(() if user == "root" else ("runuser", "-u", user, "--")),
            *map(str, arguments),
        ]

    def run(
        self, *arguments: object, user: str = "root", check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host."""
        done = subprocess.run(
            self.command(*arguments, user=user),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST,
            cwd="/",
            env={"PATH": _PATH, "HOME": "/", "LANG": "C.UTF-8"},
        )
        if check and done.returncode:
            journal = self.run("journalctl", "-b", "-n", "40", "--no-pager", "-o", "cat", check=False).stdout
            raise AssertionError(f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}\n{journal}")
        return done

    def write(self, path: str, content: str) -> None:
        """Put a file into the host, 0644."""
        self.run("/bin/sh", "-euc", 'mkdir -p "$(dirname "$1")"; cat >"$1"', "sh", path, stdin=content)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    @contextmanager
    def journal(self, unit: str) -> Iterator["Journal"]:
        """What a unit says, and what systemd says of it, from now on."""
        self.run("journalctl", "--sync")
        last = json.loads(self.run("journalctl", "--lines=1", "--output=json").stdout)["__CURSOR"]
        command = self.command("journalctl", "--unit", unit, "--follow", "--after-cursor", last, "--output=json")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as follower:
            limit = threading.Timer(_LONGEST, follower.kill)
            limit.start()
            try:
                yield Journal(follower)
            finally:
                limit.cancel()
                follower.kill()


@dataclass
class Journal:
    """The lines of a journal, as they come."""

    _follower: subprocess.Popen[str]

    def until(self, text: str) -> str:
        """Read up to a message that holds ``text``, and return it."""
        assert self._follower.stdout
        for line in self._follower.stdout:
            message = str(json.loads(line).get("MESSAGE"))
            if text in message:
                return message
        raise AssertionError(f"the journal did not tell {text!r}")

    def event(self, name: str) -> dict[str, Any]:
        """Read up to an event of the daemon."""
        event: dict[str, Any] = json.loads(self.until(f'"event": "{name}"'))
        return event


@contextmanager
def boot(scratch: Path, shared: Path) -> Iterator[Host]:
    """Boot a host, and end all of it afterwards.

    ``scratch``: an empty folder; ``shared``: the folder that is ``/run/host`` in there, which all may enter.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(shared / "notify"))
        process = subprocess.Popen(
            [*_UNSHARE, _MOUNTS + _ROOT], env=_settings(scratch, shared), start_new_session=True, stderr=subprocess.PIPE
        )
        try:
            host = _booted(process, ready)
            ready.close()  # it would go on telling, and wait for ever for whoever does not listen
            yield host
        finally:
            process.kill()
            process.communicate()


def _settings(scratch: Path, shared: Path) -> Mapping[str, str]:
    return {
        "PATH": _PATH,
        "CLEAN_PATH": _PATH,
        "WORK": str(scratch),
        "SHARED": str(shared),
        "PROJECT": str(PROJECT),
        "PYTHON": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "PYTHON_HOME": sys.base_prefix,
        "SITE": sysconfig.get_path("purelib"),
        "SYSTEMD": SYSTEMD,
    }


def _booted(process: "subprocess.Popen[bytes]", ready: socket.socket) -> Host:
    """Wait until systemd says that the boot is over, as it tells whoever starts a container (systemd(1))."""
    ready.settimeout(_LONGEST)
    try:
        while b"READY=1" not in ready.recv(4096):
            pass
    except TimeoutError:
        process.kill()
        raise AssertionError(f"no boot: {process.communicate()[1].decode()}") from None
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return Host(int(children[0]))
