"""Three daemons on this machine, with a real PostgreSQL and a real S3 server: ``make run-cluster``.

They share one catalog and one bucket. A partner publishes the hashes of software installed here, one daemon leads and
publishes them, and a matcher pulls from another one. Then the leader is killed while it publishes: the matcher goes on
answering, another daemon leads, and completes what was begun. Everything is removed at the end. It takes about a
minute.
"""

import contextlib
import hashlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from demo.data import Known, real_hashes
from demo.engines import Bucket, postgres, s3
from demo.partner import LIST, Partner
from syncd.cli import output
from syncd.errors import StoreError, SyncdError
from syncd.fetch import Endpoint
from syncd.matcher import Matcher
from syncd.matcher.pull import pull
from syncd.model import ListName
from syncd.service.client import ask
from syncd.service.web.partner import running_server

_T = TypeVar("_T")

_HEAD: Final = ListName(f"partner.{LIST}")
_ROWS: Final = 20_000
_PATIENCE: Final = 90.0
_ADDED: Final = 500


@dataclass
class DaemonProcess:
    """One daemon: a process with a folder, a socket and a port of its own."""

    folder: Path
    port: int
    catalog: str
    endpoint: str
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "log"

    @property
    def name(self) -> str:
        """Its name in the story."""
        return self.folder.name

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.folder / "syncd.toml"

    @property
    def socket(self) -> Path:
        """Its control socket."""
        return self.folder / "control.sock"

    @property
    def url(self) -> str:
        """Where matchers find it."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it; it is not ready yet."""
        command = [sys.executable, "-m", "syncd.cli", "run", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def order(self, **order: Any) -> Iterator[dict[str, Any]]:
        """Give it an order, and yield its answers. Raises `StoreError` if it does not run."""
        answers = ask(self.socket, {**order, "state_dir": str(self.folder / "state")})
        if answers is None:
            raise StoreError(f"{self.name} does not run", hint=f"see {self.log}")
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


class Cluster:
    """Three daemons on one catalog and one bucket."""

    def __init__(self, base: Path, catalog: str, bucket: Bucket, source: str, root: Path) -> None:
        self.base, self.bucket, self.source, self.root = base, bucket, source, root
        self.daemons = [
            DaemonProcess(base / f"daemon-{number}", port, catalog, bucket.endpoint)
            for number, port in enumerate(free_ports(3), 1)
        ]

    def set_up(self) -> None:
        """Write the configurations, set the catalog up with the first daemon, and give its keys to the others."""
        for daemon in self.daemons:
            daemon.folder.mkdir(parents=True)
            daemon.config.write_text(self._config(daemon))
        first = self.daemons[0]
        init = ["init", "--offline-keys", str(self.base / "offline"), "--config", str(first.config)]
        subprocess.run([sys.executable, "-m", "syncd.cli", *init], check=True, stdout=subprocess.DEVNULL)
        for daemon in self.daemons[1:]:
            (daemon.folder / "state").mkdir(mode=0o700)
            shutil.copytree(first.folder / "state/keys", daemon.folder / "state/keys")

    def _config(self, daemon: DaemonProcess) -> str:
        return f"""
state_dir = "{daemon.folder}/state"
control_socket = "{daemon.socket}"
catalog = "{daemon.catalog}"

[store]
type = "s3"
bucket = "{self.bucket.name}"
prefix = "{self.bucket.prefix}"
endpoint = "{daemon.endpoint}"
access_key_file = "{self.bucket.access_key}"
secret_key_file = "{self.bucket.secret_key}"

[sources.partner]
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
            wait_for(daemon.status, f"{daemon.name} to answer")

    def leader(self) -> DaemonProcess | None:
        """Return the daemon that leads; None if none does."""
        for daemon in self.daemons:
            status = daemon.status()
            mine = [one for one in (status or {}).get("daemons", ()) if one["pid"] == getattr(daemon.process, "pid", 0)]
            if any(one["leads"] for one in mine):
                return daemon
        return None

    def wait_for_leader(self) -> DaemonProcess:
        """Wait until a daemon leads."""
        return wait_for(self.leader, "a daemon to lead")

    def stop(self) -> None:
        """Stop every daemon that still runs."""
        for daemon in self.daemons:
            if daemon.process and daemon.process.poll() is None:
                daemon.process.send_signal(signal.SIGTERM)
        for daemon in self.daemons:
            if daemon.process:
                try:
                    daemon.process.wait(15)
                except subprocess.TimeoutExpired:
                    daemon.kill()


def wait_for(found: Callable[[], _T | None], what: str) -> _T:
    """Call ``found`` until it returns something, and return that. Raises `StoreError` after a minute and a half."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.1)
    raise StoreError(f"waited in vain for {what}", hint="see the logs of the daemons")


def free_ports(number: int) -> list[int]:
    """Return ports of this machine that nobody uses yet."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


class _Answers:
    """A matcher that is asked all the time, in a thread, while the daemons come and go."""

    def __init__(self, matcher: Matcher, digest: str) -> None:
        self._matcher, self._digest = matcher, bytes.fromhex(digest)
        self.asked = self.missed = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_Answers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self.asked += 1
            self.missed += not self._matcher.lookup("sha256", self._digest)


def main() -> int:
    """Run the demo, and return its exit code."""
    output.quiet_retries()
    base = Path(tempfile.mkdtemp(prefix="syncd-cluster-")).resolve()
    try:
        with postgres(base / "postgres") as catalog, s3(base / "s3") as bucket:
            _tell("PostgreSQL", f"runs, S3 too, in {base}")
            _story(base, catalog, bucket)
    except SyncdError as error:
        output.show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return 0


def _story(base: Path, catalog: str, bucket: Bucket) -> None:
    known = [one for one in real_hashes() if one.algorithm == "sha256"][:_ROWS]
    partner = Partner(base)
    partner.init()
    partner.publish(full=known)
    with running_server(partner.folder) as url:
        cluster = Cluster(base, catalog, bucket, url, partner.folder / "root.json")
        cluster.set_up()
        try:
            _lead_and_follow(cluster)
            _kill_the_leader(cluster, partner, known)
        finally:
            cluster.stop()


def _lead_and_follow(cluster: Cluster) -> None:
    output.say("", "1. Three daemons start, and one of them leads")
    begun = time.monotonic()
    cluster.start()
    leader = cluster.wait_for_leader()
    _tell("leads", f"{leader.name}, {time.monotonic() - begun:.1f} s after the start of all three")
    other = next(daemon for daemon in cluster.daemons if daemon is not leader)
    begun = time.monotonic()
    answers = list(other.order(do="sync"))
    synced = next(answer["sync"] for answer in answers if "sync" in answer)["lists"][0]
    _tell(
        "ordered",
        f"a sync at {other.name}, which passed it on: {synced['rows']:,} rows published as version "
        f"{synced['version']}, {time.monotonic() - begun:.1f} s",
    )


def _kill_the_leader(cluster: Cluster, partner: Partner, known: list[Known]) -> None:
    output.say("", "2. The leader is killed while it publishes")
    leader = cluster.wait_for_leader()
    others = [daemon for daemon in cluster.daemons if daemon is not leader]
    token = next(answer["added"]["token"] for answer in others[0].order(do="matchers_add", name="uploads"))
    copy, root = cluster.base / "copy", (cluster.daemons[0].folder / "state/feed/root.json").read_bytes()
    _pull(others[0], token, root, copy)
    matcher = Matcher.open(copy)
    added = [Known("sha256", hashlib.sha256(f"entry {n}".encode()).hexdigest(), Path(f"n{n}")) for n in range(_ADDED)]
    partner.publish(add=added)
    with _Answers(matcher, known[0].digest) as answers:
        _kill_while_publishing(leader)
        killed = time.monotonic()
        _tell("killed", f"{leader.name}, which led, by SIGKILL")
        following = cluster.wait_for_leader()
        _tell("leads", f"{following.name}, {time.monotonic() - killed:.1f} s later")
        for answer in others[0].order(do="sync"):
            if "sync" in answer and answer["sync"]["lists"]:
                version = answer["sync"]["lists"][0]["version"]
        _pull(others[1], token, root, copy)
        matcher.reload()
        _tell("published", f"{_HEAD} version {version}, {time.monotonic() - killed:.1f} s after the kill")
    news = bool(matcher.lookup("sha256", bytes.fromhex(added[0].digest)))
    _tell("answers", f"{answers.asked:,} look-ups in the meantime, {answers.missed} of them wrong")
    if not news or answers.missed:
        raise StoreError("the matcher's answers were wrong", hint="a bug in syncd: please report it")
    _tell("matched", f"an entry of version {matcher.status()[0].version}, pulled from {others[1].name}")


def _kill_while_publishing(leader: DaemonProcess) -> None:
    with contextlib.suppress(StoreError):  # the connection ends with the daemon
        for answer in leader.order(do="sync"):
            if answer.get("progress", {}).get("stage") == "publish":
                break
    leader.kill()


def _pull(daemon: DaemonProcess, token: str, root: bytes, copy: Path) -> None:
    for error in pull(Endpoint(daemon.url, token=token), root, copy, now=output.utc_now()).errors:
        raise error


def _tell(word: str, text: str) -> None:
    output.say(f"   {word:>12}  {text}")


if __name__ == "__main__":
    sys.exit(main())
