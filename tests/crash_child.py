"""Real processes that die, or stand still, at a chosen moment of a sync, a pull or a publication.

A server that has imported everything forks one child for each request, since importing takes longer than the work. It
speaks lines of JSON: ``{"do": "sync", "base": ..., "minutes": 0, "at": 7, "signal": "SIGKILL"}`` starts a child that
sends itself the signal just before its seventh change of the file system or the catalog; ``{"wait": PID}`` says how it
ended. `Children` is the other side.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import Engine, event

from syncd.catalog.folder import StateFolder
from syncd.errors import SyncdError
from syncd.operate.collect import collect
from syncd.operate.setup import init
from syncd.publish import author
from syncd.retention import RetentionLimits
from world import START, Clock, World, row

EVENTS: Final = frozenset({"os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"})


def _sync(world: World) -> SyncdError | None:
    outcome = world.sync()
    return outcome.error or next((one.error for one in outcome.lists if one.error), None)


def _pull(world: World) -> SyncdError | None:
    return next(iter(world.follow().errors), None)


def _publish(world: World) -> SyncdError | None:
    world.publish(add=[row(30)], remove=[row(5)])
    return None


def _init(world: World) -> SyncdError | None:
    init(StateFolder(world.base / "fresh"), world.base / "fresh-offline", count=3, threshold=2, now=world.clock())
    return None


def _feed_init(world: World) -> SyncdError | None:
    feed, offline = world.base / "fresh", world.base / "fresh-offline"
    author.init(feed, offline, author.keys_folder(feed), count=3, threshold=2, now=world.clock())
    return None


FEW: Final = RetentionLimits(versions=3, published_versions=2, evidence=1, syncs=2, publications=1)


def _gc(world: World) -> SyncdError | None:
    with world.publisher() as publisher:
        collect(replace(publisher, retention=lambda: FEW), actor="alice", now=world.clock())
    return None


WORK: Final[dict[str, Callable[[World], SyncdError | None]]] = {
    "sync": _sync,
    "pull": _pull,
    "publish": _publish,
    "init": _init,
    "feed init": _feed_init,
    "gc": _gc,
}


def run(what: str, world: World) -> dict[str, Any]:
    """Do it; returns the error, if any, as a user would be told it."""
    try:
        error = WORK[what](world)
    except SyncdError as raised:
        error = raised
    if error is None:
        return {"kind": "", "code": 0, "message": ""}
    return {"kind": type(error).__name__, "code": error.exit_code, "message": error.message}


class _Moments:
    """Counts the moments at which a process may die, and dies at one of them."""

    def __init__(self, at: int, number: int) -> None:
        self.count, self._at, self._number = 0, at, number
        self._owner = os.getpid()

    def watch(self) -> None:
        sys.addaudithook(self._audit)
        event.listen(Engine, "commit", lambda _: self._next())
        real = os.fsync

        def fsync(descriptor: Any) -> None:
            self._next()
            real(descriptor)

        os.fsync = fsync  # type: ignore[assignment]  # its parameter has another name; this process alone sees it

    def _audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name in EVENTS or (name == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE):
            self._next()

    def _next(self) -> None:
        self.count += 1
        if self.count == self._at:
            os.kill(os.getpid(), self._number)


def _child(request: dict[str, Any]) -> None:
    world = World(Path(request["base"]), Clock(START.replace(minute=request["minutes"])))
    moments = _Moments(request["at"], getattr(signal, request["signal"]))
    moments.watch()
    answer = run(request["do"], world)
    count = moments.count
    Path(request["answer"]).write_text(json.dumps({**answer, "count": count}))


def _serve() -> None:
    import stamina

    import syncd.verify.copy  # noqa: F401 - so that no child has to import it

    stamina.set_testing(True, attempts=1)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], os.WUNTRACED)
            print(json.dumps({"status": status}), flush=True)
            continue
        pid = os.fork()
        if not pid:
            try:
                _child(request)
            finally:
                os._exit(0)
        print(json.dumps({"pid": pid}), flush=True)


class Children:
    """Starts children, and waits for them."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.communicate()

    def _ask(self, **request: Any) -> Any:
        assert self._server.stdin
        assert self._server.stdout
        print(json.dumps(request), file=self._server.stdin, flush=True)
        return json.loads(self._server.stdout.readline())

    def start(self, what: str, base: Path, *, at: int = 0, number: str = "SIGKILL", minutes: int = 0) -> "Child":
        """Start a child; ``at`` 0: it lives to the end. ``minutes`` past the hour is its time."""
        self._started += 1
        answer = base.parent / f"answer-{self._started}"
        found = self._ask(do=what, base=str(base), at=at, signal=number, minutes=minutes, answer=str(answer))
        return Child(self, found["pid"], answer)

    def wait(self, pid: int) -> int:
        """The status of a child that ended or stands still."""
        return int(self._ask(wait=pid)["status"])


class Child:
    """One child."""

    def __init__(self, children: Children, pid: int, answer: Path) -> None:
        self._children, self.pid, self._answer = children, pid, answer

    def died(self) -> bool:
        """Wait; whether it was killed."""
        return os.WIFSIGNALED(self._children.wait(self.pid))

    def stands(self) -> bool:
        """Wait; whether it stands still."""
        return os.WIFSTOPPED(self._children.wait(self.pid))

    def go_on(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def answer(self) -> Any:
        """Wait for its end; what came of it."""
        assert self._children.wait(self.pid) == 0
        return json.loads(self._answer.read_text())


if __name__ == "__main__":
    _serve()
