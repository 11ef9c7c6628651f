"""Runs commands of syncd in processes that are stopped at a chosen call. Started with the library preloaded.

Importing the program takes longer than most commands, so this process imports it once and forks one for each request.
It reads requests and writes answers as lines of JSON; `stops.processes` is the other side.
"""

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from syncd.cli import output

MOST_SECONDS = 120
"""A process that runs longer than this hangs: it is ended by SIGALRM."""


def import_all() -> None:
    """Import every module of the program, so that no command has to."""
    import syncd

    for module in pkgutil.walk_packages(syncd.__path__, "syncd."):
        if "migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()


def run(request: dict[str, Any], library: ctypes.CDLL) -> None:
    """Become the process of a request: run its commands one after another, until one is stopped."""
    os.setsid()  # a process group of its own, which the library stops as one
    signal.alarm(MOST_SECONDS)
    os.chdir(request["folder"])
    os.environ["SYNCD_CONFIG"] = f"{request['folder']}/syncd.toml"
    if point := request["point"]:
        record = os.open(point["trace"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if point["trace"] else -1
        library.stops_arm(request["folder"].encode(), point["how"], point["at"], record)
    for number, command in enumerate(request["commands"]):
        code = run_one(command, f"{request['output']}/{number}")
        Path(f"{request['output']}/{number}.code").write_text(str(code))


def run_one(command: dict[str, Any], output: str) -> int:
    """Run one command, with its standard streams in files, and return its exit code."""
    from syncd.cli.main import main

    Path(f"{output}.in").write_text(command["stdin"])
    for number, kind, mode in ((0, "in", "r"), (1, "out", "w"), (2, "err", "w")):
        with Path(f"{output}.{kind}").open(mode) as stream:
            os.dup2(stream.fileno(), number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww"))
    _set_clock(command["hours_ahead"])
    try:
        return main(command["arguments"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _set_clock(hours_ahead: float) -> None:
    """Let every command take the time from a clock that is ahead."""
    now = output.utc_now if not hours_ahead else lambda: output.utc_now() + timedelta(hours=hours_ahead)
    for name, module in list(sys.modules.items()):
        if name.startswith("syncd.cli.") and name != output.__name__ and hasattr(module, "utc_now"):
            module.utc_now = now  # type: ignore[attr-defined]  # as tests of commands do


def serve() -> None:
    """Answer requests until standard input ends."""
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "1"  # as the console script does
    os.environ["COLUMNS"] = "200"
    import_all()
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            try:
                run(request, library)
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}), flush=True)


if __name__ == "__main__":
    serve()
