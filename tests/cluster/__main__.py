"""Three daemons on this machine, with a real PostgreSQL and a real S3 server: ``make run-cluster``.

They share one catalog and one bucket. A partner publishes the hashes of software installed here, one daemon leads and
publishes them, and a matcher pulls from another one. Then the leader is killed while it publishes: the matcher goes on
answering, another daemon leads, and completes what was begun. Everything is removed at the end. It takes about a
minute.
"""

import contextlib
import hashlib
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from demo.data import Known, real_hashes
from demo.partner import LIST, Partner
from engines.daemons import Cluster, DaemonProcess
from engines.shared import Engines
from syncd.cli import output
from syncd.errors import StoreError, SyncdError
from syncd.fetch import Endpoint
from syncd.matcher import Matcher
from syncd.matcher.pull import pull
from syncd.model import ListName
from syncd.service.web.partner import running_server

_HEAD: Final = ListName(f"iwf.{LIST}")
_ROWS: Final = 20_000
_ADDED: Final = 500


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
        engines = Engines(base)
        _tell("engines", "a PostgreSQL and an S3 server run on this machine")
        with contextlib.closing(engines):
            _story(base, engines)
    except SyncdError as error:
        output.show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return 0


def _story(base: Path, engines: Engines) -> None:
    known = [one for one in real_hashes() if one.algorithm == "sha256"][:_ROWS]
    partner = Partner(base)
    partner.init()
    partner.publish(full=known)
    with running_server(partner.folder) as url:
        cluster = Cluster(engines.fresh(), url, partner.folder / "root.json")
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
    leader = cluster.wait(cluster.leader, "a daemon to lead")
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
    leader = cluster.wait(cluster.leader, "a daemon to lead")
    others = [daemon for daemon in cluster.daemons if daemon is not leader]
    token = next(answer["added"]["token"] for answer in others[0].order(do="matchers_add", name="uploads"))
    copy, root = cluster.place.folder / "copy", cluster.root_file.read_bytes()
    cluster.wait(lambda: _pull(others[0], token, root, copy), f"{others[0].name} to serve the list")
    matcher = Matcher.open(copy)
    added = [Known("sha256", hashlib.sha256(f"entry {n}".encode()).hexdigest(), Path(f"n{n}")) for n in range(_ADDED)]
    partner.publish(add=added)
    with _Answers(matcher, known[0].digest) as answers:
        _kill_while_publishing(leader)
        killed = time.monotonic()
        _tell("killed", f"{leader.name}, which led, by SIGKILL")
        following = cluster.wait(lambda: cluster.leader(besides=leader), "another daemon to lead")
        _tell("leads", f"{following.name}, {time.monotonic() - killed:.1f} s later")
        synced = [answer["sync"] for answer in others[0].order(do="sync") if "sync" in answer]
        version = synced[0]["lists"][0]["version"]
        cluster.wait(lambda: _pull(others[1], token, root, copy) == version, f"{others[1].name} to serve it")
        matcher.reload()
        _tell("published", f"{_HEAD} version {version}, {time.monotonic() - killed:.1f} s after the kill")
    news = bool(matcher.lookup("sha256", bytes.fromhex(added[0].digest)))
    _tell("answers", f"{answers.asked:,} look-ups in the meantime, {answers.missed} of them wrong")
    if not news or answers.missed:
        raise StoreError("the matcher's answers were wrong", hint="a bug in syncd: please report it")
    _tell("matched", f"an entry of version {matcher.status()[0].version}, pulled from {others[1].name}")


def _kill_while_publishing(leader: DaemonProcess) -> None:
    with contextlib.suppress(SyncdError):  # the connection ends with the daemon
        for answer in leader.order(do="sync"):
            if answer.get("progress", {}).get("stage") == "publish":
                break
    leader.kill()


def _pull(daemon: DaemonProcess, token: str, root: bytes, copy: Path) -> int:
    """Pull, and return the version of the list; 0 if it is not there yet."""
    for error in pull(Endpoint(daemon.url, token=token), root, copy, now=output.utc_now()).errors:
        raise error
    return next((one.version for one in Matcher.open(copy).status()), 0) if (copy / "current.json").exists() else 0


def _tell(word: str, text: str) -> None:
    output.say(f"   {word:>12}  {text}")


if __name__ == "__main__":
    sys.exit(main())
