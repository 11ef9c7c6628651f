"""Suppressions as matchers see them: ``python -m benchmarks.suppress --workdir DIR``.

A real daemon with a list of ``--rows`` rows, and 20 matcher processes that follow it with a copy of their own. Measured
is the time from the order to suppress a digest to the changed answer of each matcher: first while nothing else happens,
then while the daemon folds the whole list, whose deltas have grown to an eighth of it.
"""

import argparse
import contextlib
import itertools
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import lists
from benchmarks.load import MATCHERS, copies, percentile
from benchmarks.lookup import show
from benchmarks.measure import Figure
from benchmarks.site import Lines, Site, daemon, process

PLAIN: Final = 20
"""suppressions while nothing else happens"""
MOST: Final = 200
"""suppressions that a run may need"""
FEWEST: Final = 200_000
"""rows of the smallest list"""
_DELTA_SHARE: Final = 0.14
"""a large delta, which makes a fold due as soon as there are some more"""
_SMALL_DELTAS: Final = 8
_SMALL: Final = 100
_LIMIT: Final = 1.5
_LOADED: Final = 600.0
"""seconds in which all matchers load the large delta"""
_PAUSE: Final = 0.5
"""seconds between two suppressions: operators are people"""
_SETTINGS: Final = (
    "[sources.iwf.gate]\nmax_added_percent = 1000.0\nmax_added_week_percent = 1000.0\nmax_removed_percent = 100.0\n"
    "max_removed_week_percent = 100.0\n[corrections]\nsecond_operator = false\n"
)

_MATCHER: Final = """
import sys, time
from syncd.matcher import Feed, Matcher

folder, url, token, digests = sys.argv[1:]
digests = [bytes.fromhex(line) for line in open(digests)]

with Matcher.open(folder) as matcher:
    def tell(status):
        gone = sum(not matcher.lookup("sha256", digest) for digest in digests)
        print(time.monotonic(), gone, flush=True)

    matcher.watch(feed=Feed(url, token_file=token, instance="bench"), on_change=tell)
    tell(matcher.status())
    sys.stdin.read()
"""


def _digests(site: Site) -> list[str]:
    """Digests of the list, in hex, that no delta removes."""
    rows, number = site.world.rows, site.world.version()
    step = rows // (_delta_rows(rows) // 10)
    kept = range((number + 2 * _SMALL_DELTAS) % step, min(rows, 1 << 20), step)
    digests = next(lists.chunks(rows)).digests
    return [digests[index].ljust(32, b"\0").hex() for index in itertools.islice(kept, MOST)]


def _delta_rows(rows: int) -> int:
    return int(rows * _DELTA_SHARE)


class _Run:
    """Suppresses one digest after another, and sees when each matcher answers without it."""

    def __init__(self, site: Site, digests: Sequence[str], matchers: Sequence[Lines]) -> None:
        self._site, self._matchers, self._left = site, matchers, iter(digests)
        self._done = 0

    def once(self) -> list[float]:
        """Seconds from the order to the changed answer, of each matcher."""
        self._done += 1
        number, order = self._done, [{"digest": f"sha256:{next(self._left)}"}]
        begin = time.monotonic()
        *_, last = self._site.ask(do="suppress", corrections=order, reason="benchmark")
        assert last["end"] == 0, last
        lines = [one.wait(lambda line: int(line.split()[1]) >= number) for one in self._matchers]
        return [float(line.split()[0]) - begin for line in lines]


@contextlib.contextmanager
def _folding(site: Site, matchers: Sequence[Lines]) -> Iterator[threading.Event]:
    """Have the daemon fold the whole list, and begin once all matchers have loaded the version before the fold.

    The event is set once the fold is published. The matchers load the large delta first: one host for all of them would
    measure its download.
    """
    partner, before = site.world.partner, time.monotonic()
    partner.publish_delta(site.world.version(), _delta_rows(site.world.rows))
    site.sync()
    for one in matchers:
        one.wait(lambda line: float(line.split()[0]) > before, _LOADED)
    for _ in range(_SMALL_DELTAS):
        partner.publish_delta(site.world.version(), _SMALL)
    begun, over = threading.Event(), threading.Event()
    answers: list[dict[str, Any]] = []

    def listen() -> None:
        try:
            for answer in site.answers(do="sync"):
                answers.append(answer)
                if answer.get("progress", {}).get("stage") == "compact":
                    begun.set()
        finally:
            over.set()
            begun.set()

    listener, asked = threading.Thread(target=listen), time.monotonic()
    listener.start()
    begun.wait()
    try:
        for one in matchers:
            one.wait(lambda line: float(line.split()[0]) > asked, _LOADED)
        yield over
    finally:
        listener.join()
    assert answers[-1]["end"] == 0, answers


def measure(site: Site, matchers: int = MATCHERS) -> tuple[list[float], list[float]]:
    """Seconds to the changed answer of each matcher: while nothing else happens, and during a fold."""
    assert site.sync() == 1
    digests = _digests(site)
    given = site.base / "digests"
    given.write_text("\n".join(digests))
    with contextlib.ExitStack() as stack:
        arguments = (site.feed, str(site.token), str(given))
        started = [
            stack.enter_context(process(sys.executable, "-c", _MATCHER, str(copy), *arguments))
            for copy in copies(site, matchers)
        ]
        for one in started:
            one.wait(lambda line: line.split()[1] == "0")
        run = _Run(site, digests, started)
        run.once()  # finds connections cold
        plain = [seconds for _ in range(PLAIN) for seconds in _paused(run)]
        folded: list[float] = []
        with _folding(site, started) as over:
            while not over.is_set():
                folded += _paused(run)
    return plain, folded


def _paused(run: _Run) -> list[float]:
    times = run.once()
    time.sleep(_PAUSE)
    return times


def figures(workdir: Path, rows: int) -> list[Figure]:
    """Both. The list is made again for each run: the large delta changes most of it."""
    rows, folder = max(rows, FEWEST), workdir / "suppress"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with daemon(folder, rows, _SETTINGS) as site:
        plain, folded = measure(site)
    found = [
        Figure(
            f"suppressed to answered by {MATCHERS} matchers, p99",
            percentile(plain, 0.99),
            "s",
            _LIMIT,
            note=f"median {statistics.median(plain):.2f} s; {PLAIN} suppressions in {rows:,} rows",
        )
    ]
    if folded:
        note = f"median {statistics.median(folded):.2f} s; {len(folded) // MATCHERS} suppressions"
        found.append(Figure("... while the list is folded", percentile(folded, 0.99), "s", _LIMIT, note=note))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=10_000_000)
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    show(figures(options.workdir, options.rows))


if __name__ == "__main__":
    main()
