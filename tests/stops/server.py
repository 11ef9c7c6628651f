"""Runs commands of syncd in processes that are stopped at a chosen call. Started with the library preloaded.

Importing the program takes longer than most commands, so this process imports it once and forks one for each request.
It reads requests and writes answers as lines of JSON; `stops.processes` is the other side.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from quicker import share_statements

COLLECT_AFTER = 50_000
"""As the console script does."""
MOST_SECONDS = 120
"""A process that runs longer than this hangs: it is ended by SIGALRM."""


def import_all() -> None:
    """Import every module of the program, so that no command has to."""
    import syncd

    for module in pkgutil.walk_packages(syncd.__path__, "syncd."):
        if "migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    _freeze()


def import_also(record: Path) -> None:
    """Import the modules that a command imported while it ran, so that the next one need not."""
    if not record.exists():
        return
    for name in record.read_text().split():
        with contextlib.suppress(ImportError):  # a part of an extension module, say
            importlib.import_module(name)
    _freeze()


def _freeze() -> None:
    """Let no garbage collection of a child touch, and so copy, the memory that it shares with this process."""
    gc.collect()
    gc.freeze()


def run(request: dict[str, Any], library: ctypes.CDLL) -> None:
    """Become the process of a request: run its commands one after another, until one is stopped."""
    os.setsid()  # a process group of its own, which the library stops as one
    signal.alarm(MOST_SECONDS)
    imported = set(sys.modules)
    if request["seed"]:
        make_repeatable(request["seed"], library)
    if point := request["point"]:
        record = os.open(request["trace"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if request["trace"] else -1
        answers = os.open(request["answers"], os.O_RDONLY) if request["answers"] else -1
        library.stops_arm(request["folder"].encode(), point["how"], point["at"], record, answers)
    run_all(request, library)
    if more := sys.modules.keys() - imported:
        Path(f"{request['output']}/modules").write_text(" ".join(sorted(more)))


def run_all(request: dict[str, Any], library: ctypes.CDLL) -> None:
    """Run the commands of a request in this process."""
    os.chdir(request["folder"])
    os.environ["SYNCD_CONFIG"] = f"{request['folder']}/syncd.toml"
    for number, command in enumerate(request["commands"]):
        library.stops_set_clock(int(request["clock"] + number + command["hours_ahead"] * 3600))
        code = run_one(command, f"{request['output']}/{number}")
        Path(f"{request['output']}/{number}.code").write_text(str(code))


def make_repeatable(seed: int, library: ctypes.CDLL) -> None:
    """Let every run draw the same random names, salts and keys, so that equal states have equal bytes."""
    library.stops_seed(ctypes.c_uint64(seed))
    random.seed(seed)
    # OpenSSL has a generator of its own, which cannot be set.
    Ed25519PrivateKey.generate = lambda: Ed25519PrivateKey.from_private_bytes(os.urandom(32))  # type: ignore[method-assign]


def run_one(command: dict[str, Any], output: str) -> int:
    """Run one command, with its standard streams in files, and return its exit code."""
    from syncd.cli.main import main

    Path(f"{output}.in").write_text(command["stdin"])
    for number, kind, mode in ((0, "in", "r"), (1, "out", "w"), (2, "err", "w")):
        with Path(f"{output}.{kind}").open(mode) as stream:
            os.dup2(stream.fileno(), number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww"))
    try:
        return main(command["arguments"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def serve() -> None:
    """Answer requests until standard input ends."""
    requests, answers = (os.fdopen(os.dup(number), mode) for number, mode in ((0, "r"), (1, "w")))
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "1"  # as the console script does
    os.environ["COLUMNS"] = "200"
    import_all()
    share_statements()
    gc.set_threshold(COLLECT_AFTER)
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    for line in requests:
        request = json.loads(line)
        print(json.dumps({"signal": answer(request, library)}), file=answers, flush=True)


def answer(request: dict[str, Any], library: ctypes.CDLL) -> int:
    """Carry out a request; return the signal that stopped its process, or 0."""
    if request["here"]:
        run_all(request, library)
        library.stops_set_clock(0)
        assert threading.active_count() == 1, "a process with threads cannot be forked"
        _freeze()
        return 0
    pid = os.fork()
    if not pid:
        try:
            run(request, library)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    import_also(Path(request["output"]) / "modules")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


if __name__ == "__main__":
    serve()
