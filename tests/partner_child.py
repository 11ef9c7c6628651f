"""Real processes that sync a configured source, to be killed whenever a test likes.

A server that has imported everything forks one child for each line of JSON, since importing takes longer than a sync:
``{"base": ..., "name": ..., "now": ...}``. It answers with the child's PID, and with its status once it has ended.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from syncd.config_file import load
from syncd.limits import NO_LIMITS
from syncd.pipeline.sync import sync_source
from world import Clock, World


def _sync(base: Path, name: str, now: int) -> int:
    """Sync a source as it is configured, and return the exit code."""
    world = World(base, Clock(datetime.fromtimestamp(now, UTC)), limits=NO_LIMITS)
    with world.publisher() as publisher:
        return sync_source(publisher, load(base / "syncd.toml").source(name), world.clock).exit_code


def _serve() -> None:
    import stamina

    import syncd.sources.ncmec_page  # noqa: F401 - so that no child has to import it

    stamina.set_testing(True, attempts=1)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            code = 70
            try:
                code = _sync(Path(request["base"]), request["name"], request["now"])
            finally:
                os._exit(code)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


class Children:
    """Starts one child at a time, and waits for it."""

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        self._server = server

    def start(self, base: Path, name: str, now: int) -> int:
        """Start a child; returns its PID."""
        assert self._server.stdin
        print(json.dumps({"base": str(base), "name": name, "now": now}), file=self._server.stdin, flush=True)
        return self._read()

    def wait(self) -> int:
        """Wait for its end; returns its status, as `os.waitpid` gives it."""
        return self._read()

    def _read(self) -> int:
        assert self._server.stdout
        return int(self._server.stdout.readline())


@contextmanager
def children() -> Iterator[Children]:
    """The server, until the end of the block."""
    command: Any = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield Children(server)
        finally:
            server.communicate()


if __name__ == "__main__":
    _serve()
