"""``python -m fuzz TARGET``, in the folder ``tests``: try inputs, led by the code that they reach.

Ends with 0 when the time is over, and with another code at the first fault; ``--keep`` is the folder for its input.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

from fuzz.scratch import VARIABLE, in_memory
from fuzz.targets import TARGETS, folders

with atheris.instrument_imports(include=["syncd"], enable_loader_override=False):
    import syncd.errors  # noqa: F401 - instrumented, as is everything that a target imports
    from fuzz.targets import load


def main() -> int:
    """Fuzz a target, in a process whose files are removed afterwards: libFuzzer ends it without Python's own end."""
    parser = argparse.ArgumentParser("python -m fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the order in which inputs are made; 0 draws one")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()), help="the folder for faults")
    parser.add_argument("--grow", action="store_true", help="add inputs that reach new code to the corpus")
    given = parser.parse_args()
    if VARIABLE in os.environ:
        _fuzz(given)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=in_memory()) as folder:
        environment = {**os.environ, VARIABLE: folder}
        return subprocess.run([sys.executable, "-m", "fuzz", *sys.argv[1:]], env=environment, check=False).returncode


def _fuzz(given: argparse.Namespace) -> None:
    """Give the process to libFuzzer, which ends it."""
    with atheris.instrument_imports(include=["syncd"], enable_loader_override=False):
        one = load(given.target)
    corpus = folders(given.target)
    if not given.grow:
        grown = Path(os.environ[VARIABLE]) / "corpus"
        shutil.copytree(corpus[0], grown)
        corpus = [grown, *corpus[1:]]
    options = [f"-max_total_time={given.seconds}", f"-artifact_prefix={given.keep}/", "-timeout=20"]
    options += [f"-seed={given.seed}", "-rss_limit_mb=4096", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *map(str, corpus), *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    raise SystemExit(main())
