"""Foreign bytes of any kind end in a `SyncdError`: inputs that are found by the code that they reach."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.targets import TARGETS, inputs, load

SECONDS = os.environ.get("SYNCD_FUZZ_SECONDS", "5")
SEED = os.environ.get("SYNCD_FUZZ_SEED", "1")


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_of_the_corpus(target: str) -> None:
    """Inputs that once found a fault no longer do."""
    one = load(target)
    found = list(inputs(target))
    assert found
    for path in found:
        one(path.read_bytes())


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this platform")
@pytest.mark.timeout(int(SECONDS) + 100)
@pytest.mark.parametrize("target", TARGETS)
def test_inputs_that_reach_further(target: str, tmp_path: Path) -> None:
    """Nothing but a `SyncdError` comes out of a parser, whatever goes in."""
    ran = subprocess.run(
        [sys.executable, "-m", "fuzz", target, "--seconds", SECONDS, "--seed", SEED, "--keep", str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [(path.name, path.read_bytes()) for path in tmp_path.iterdir()]
    assert (ran.returncode, found) == (0, []), ran.stderr[-4000:]
