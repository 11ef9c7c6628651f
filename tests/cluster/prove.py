"""``python -m cluster.prove``: tries what can happen to several daemons, in an order that a seed decides.

It ends with the first fault, or when the time is over. `make cluster` runs it for minutes.
"""

import argparse
import contextlib
import itertools
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from cluster.machine import ClusterMachine
from engines.shared import Engines
from syncd.cli import output

STEPS = 8
"""Things that happen to one fleet."""


def prove(engines: Engines, seconds: float, first: int, steps: int = STEPS) -> int:
    """Try fleets, one after the other, until the time is over; return how many."""
    end = time.monotonic() + seconds
    for number in itertools.count(1):
        machine = type("ClusterMachine", (ClusterMachine,), {"engines": engines})
        once = settings(
            max_examples=1,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(seed(first + number)(machine), settings=once)
        if time.monotonic() >= end:
            return number
    raise AssertionError


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser("python -m cluster.prove", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    output.quiet_retries()
    print(f"seed {options.seed}")
    with (
        tempfile.TemporaryDirectory(prefix="syncd-cluster-") as folder,
        contextlib.closing(Engines(Path(folder).resolve())) as engines,
    ):
        tried = prove(engines, options.seconds, options.seed, options.steps)
    print(f"{tried} fleets of three daemons, {options.steps} events each: no fault")
    return 0


if __name__ == "__main__":
    sys.exit(main())
