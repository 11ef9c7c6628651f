"""Generated pictures and their PDQ, by the public implementation of its authors (pdqhash).

For most machines it is released as source only, so it is built once, in an environment of its own below ours: its
dependencies do not touch ours. That takes a quarter of a minute, a C++ compiler and the headers of Python.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from demo.data import Known

_HERE: Final = Path(__file__).parent
_STEPS: Final = (
    ("--only-binary", ":all:", "-r", str(_HERE / "build.txt")),
    ("--no-build-isolation", "-r", str(_HERE / "pdqhash.txt")),
)


class NotBuiltError(Exception):
    """PDQ cannot be built on this machine; the text says why."""


@dataclass(frozen=True)
class Picture:
    """A picture file, its PDQ as hex, and the quality of that from 0 to 100."""

    path: Path
    pdq: str
    quality: int

    @classmethod
    def read(cls, folder: Path, described: Any) -> Self:
        """Return a picture as ``draw.py`` describes it."""
        return cls(folder / described["name"], described["pdq"], described["quality"])

    @property
    def known(self) -> Known:
        """The picture as a row of a list."""
        return Known("pdq", self.pdq, self.path)


@dataclass(frozen=True)
class Pictures:
    """Pictures to list; the first of them, altered; and one that is on no list."""

    listed: tuple[Picture, ...]
    altered: Picture
    other: Picture


def draw(folder: Path) -> Pictures:
    """Draw pictures in a new folder, and hash them. Raises `NotBuiltError`."""
    python = _environment()
    folder.mkdir()
    drawn = json.loads(_run([str(python), "-I", str(_HERE / "draw.py"), str(folder)], "could not be run"))
    altered, other = (Picture.read(folder, drawn[name]) for name in ("altered", "other"))
    return Pictures(tuple(Picture.read(folder, each) for each in drawn["listed"]), altered, other)


def missing_tools() -> list[str]:
    """Return what this machine lacks to build C++ for Python."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    tools = {"a C++ compiler (g++)": shutil.which("g++"), "the headers of Python (python3-dev)": headers.exists()}
    return [name for name, found in tools.items() if not found]


def _environment() -> Path:
    """Return the Python that has pdqhash; it is built the first time, and again if another version is wanted."""
    wanted = hashlib.sha256(b"".join((_HERE / name).read_bytes() for name in ("build.txt", "pdqhash.txt"))).hexdigest()
    home = Path(sys.prefix) / "demo-pictures"
    folder = home / wanted[:16]
    python = folder / "bin" / "python"
    if (folder / "ready").exists():
        return python
    try:
        home.mkdir(exist_ok=True)
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another demo may build it at the same time
            if not (folder / "ready").exists():
                _build(folder, python)
    except OSError as error:
        raise NotBuiltError(f"{home}: {error.strerror}") from error
    return python


def _build(folder: Path, python: Path) -> None:
    _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)], "could not be built")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    for step in _STEPS:
        try:
            _run([*install, "--require-hashes", *step], "could not be built")
        except NotBuiltError as error:
            if missing := missing_tools():
                raise NotBuiltError(f"this machine lacks {' and '.join(missing)}") from error
            raise
    (folder / "ready").touch()


def _run(command: list[str], failed: str) -> str:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ran.returncode:
        errors = [line.strip() for line in ran.stderr.splitlines() if "error" in line.lower()]
        raise NotBuiltError(f"{failed}: {errors[0][:200] if errors else f'exit code {ran.returncode}'}")
    return ran.stdout
