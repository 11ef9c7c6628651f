"""Daemons as processes, each with a folder, a socket and a port of its own, on one catalog and one bucket."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from engines.ports import free_ports
from engines.shared import Place
from syncd.errors import SyncdError
from syncd.service.client import ask

_T = TypeVar("_T")

COMMAND = (sys.executable, "-m", "syncd.cli")
PATIENCE = 90.0


@dataclass
class DaemonProcess:
    """One daemon."""

    folder: Path
    port: int
    catalog: str
    endpoint: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.folder.name

    @property
    def log(self) -> Path:
        """Its events."""
        return self.folder / "log"

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.folder / "syncd.toml"

    @property
    def state(self) -> Path:
        """Its state folder."""
        return self.folder / "state"

    @property
    def url(self) -> str:
        """Where matchers find it."""
        return f"http://127.0.0.1:{self.port}/feed/"

    def start(self) -> None:
        """Start it; it is not ready yet."""
        command = [*COMMAND, "run", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def order(self, **order: Any) -> Iterator[dict[str, Any]]:
        """Give it an order, and yield its answers. Raises `SyncdError` if it does not run."""
        answers = ask(self.folder / "control.sock", {**order, "state_dir": str(self.state)})
        if answers is None:
            raise SyncdError(f"{self.name} does not run", hint=f"see {self.log}")
        yield from answers

    def status(self) -> dict[str, Any] | None:
        """Return its status; None if it does not answer."""
        try:
            return next((answer["document"] for answer in self.order(do="status") if "document" in answer), None)
        except (SyncdError, OSError):
            return None

    def kill(self) -> None:
        """Kill it at once, as a power cut would."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """Stop it in order."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


class Cluster:
    """Several daemons that follow one partner."""

    def __init__(self, place: Place, source: str, root: Path, daemons: int = 3) -> None:
        self.place, self.source, self.root = place, source, root
        self.daemons = [
            DaemonProcess(place.folder / f"daemon-{number}", port, place.catalog, place.bucket.endpoint)
            for number, port in enumerate(free_ports(daemons), 1)
        ]

    @property
    def root_file(self) -> Path:
        """The root that matchers get."""
        return self.place.folder / "root.json"

    def set_up(self) -> None:
        """Write the configurations, set the catalog up with the first daemon, and give its keys to the others."""
        for daemon in self.daemons:
            daemon.folder.mkdir(parents=True)
            daemon.config.write_text(self._config(daemon))
        first = self.daemons[0]
        init = ["init", "--offline-keys", str(self.place.folder / "offline"), "--config", str(first.config)]
        subprocess.run([*COMMAND, *init], check=True, capture_output=True)
        shutil.copy(first.state / "feed/root.json", self.root_file)
        for daemon in self.daemons[1:]:
            daemon.state.mkdir(mode=0o700)
            shutil.copytree(first.state / "keys", daemon.state / "keys")

    def _config(self, daemon: DaemonProcess) -> str:
        bucket = self.place.bucket
        return f"""
state_dir = "{daemon.state}"
control_socket = "{daemon.folder}/control.sock"
catalog = "{daemon.catalog}"

[store]
type = "s3"
bucket = "{bucket.bucket}"
prefix = "{bucket.prefix}"
endpoint = "{daemon.endpoint}"
access_key_file = "{bucket.access_key_file}"
secret_key_file = "{bucket.secret_key_file}"

[sources.iwf]
type = "feed"
url = "{self.source}"
root = "{self.root}"
interval = "1d"

[serve]
listen = "127.0.0.1:{daemon.port}"
"""

    def start(self) -> None:
        """Start every daemon, and wait until each answers."""
        for daemon in self.daemons:
            daemon.start()
        for daemon in self.daemons:
            self.wait(daemon.status, f"{daemon.name} to answer")

    def leader(self, besides: DaemonProcess | None = None) -> DaemonProcess | None:
        """Return the daemon that leads, as the others see it; None if none does, or only ``besides``."""
        for asked in self.daemons:
            status = asked.status() if asked is not besides else None
            known = ((status or {}).get("fleet") or {}).get("daemons", ())
            leads = {one["pid"] for one in known if one["role"] == "leader"}
            for daemon in self.daemons:
                if daemon is not besides and daemon.process and daemon.process.pid in leads:
                    return daemon
        return None

    def wait(self, found: Callable[[], _T | None], what: str, seconds: float = PATIENCE) -> _T:
        """Call ``found`` until it returns something. Raises `AssertionError`, with the logs, if that takes too long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if result := found():
                return result
            time.sleep(0.1)
        logs = "\n".join(f"{one.name}: {_tail(one.log)}" for one in self.daemons)
        raise AssertionError(f"waited {seconds:.0f} s for {what}\n{logs}")

    def stop(self) -> None:
        """Stop every daemon that still runs."""
        for daemon in self.daemons:
            daemon.stop()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-15:]) if log.exists() else ""
