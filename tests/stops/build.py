"""Builds the library that stops a process."""

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "interpose.c"


def missing() -> str:
    """Return the name of the tool that this machine lacks to build it, or ""."""
    if shutil.which("gcc") is None:
        return "there is no gcc"
    ran = subprocess.run(
        ["gcc", "-x", "c", "-fsyntax-only", "-"],
        input="#include <stdio.h>",
        text=True,
        capture_output=True,
        check=False,
    )
    return "" if ran.returncode == 0 else "the headers of the C library are missing"


def build(folder: Path) -> Path:
    """Build the library in ``folder``, and return its path."""
    library = folder / "interpose.so"
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library
