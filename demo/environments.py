"""Environments of their own for packages that the project does not depend on, built once below ours."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path


class NotBuiltError(Exception):
    """An environment cannot be built on this machine, or a program in it failed; the text says why."""


@dataclass(frozen=True)
class Environment:
    """A Python with other packages. ``wheels``, and ``sources`` that may have to be built: locked requirements."""

    name: str
    wheels: Path
    sources: Path

    def run(self, script: Path, *arguments: str) -> str:
        """Run a script, isolated from our packages; return what it prints. Raises `NotBuiltError`."""
        return _run([str(self.python()), "-I", str(script), *arguments], "could not be run")

    def python(self) -> Path:
        """Return its interpreter. It is built the first time, and again if the requirements change.

        Raises `NotBuiltError`.
        """
        wanted = hashlib.sha256(self.wheels.read_bytes() + self.sources.read_bytes()).hexdigest()
        home = Path(sys.prefix) / self.name
        folder = home / wanted[:16]
        python = folder / "bin" / "python"
        try:
            home.mkdir(exist_ok=True)
            with (home / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # another process may build it at the same time
                if not (folder / "ready").exists():
                    self._build(folder, python)
        except OSError as error:
            raise NotBuiltError(f"{home}: {error.strerror}") from error
        return python

    def _build(self, folder: Path, python: Path) -> None:
        _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)], "could not be built")
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
        install += ["--require-hashes", "--disable-pip-version-check"]
        _run([*install, "--only-binary", ":all:", "-r", str(self.wheels)], "could not be installed")
        try:
            _run([*install, "--no-build-isolation", "-r", str(self.sources)], "could not be built")
        except NotBuiltError as error:
            if missing := missing_tools():
                raise NotBuiltError(f"this machine lacks {' and '.join(missing)}") from error
            raise
        (folder / "ready").touch()


def missing_tools() -> list[str]:
    """Return what this machine lacks to build C++ for Python."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    tools = {"a C++ compiler (g++)": shutil.which("g++"), "the headers of Python (python3-dev)": headers.exists()}
    return [name for name, found in tools.items() if not found]


def _run(command: list[str], failed: str) -> str:
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **one_thread})
    if ran.returncode:
        errors = [line.strip() for line in ran.stderr.splitlines() if "error" in line.lower()]
        raise NotBuiltError(f"{failed}: {errors[0][:200] if errors else f'exit code {ran.returncode}'}")
    return ran.stdout
