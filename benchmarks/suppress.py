"""Suppressions as matchers see them: ``python -m benchmarks.suppress --workdir DIR``.

A real daemon with a list of ``--rows`` rows, and 20 matcher processes that follow it with a copy of their own. Measured
is the time from the order to suppress a digest to the changed answer of each matcher: first while nothing else happens,
then while the daemon folds the whole list, because one more suppression made that due, and last while all matchers fold
their copies, on one disk and the same cores, where each would have its own.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import lists
from benchmarks.load import MATCHERS, copies, percentile
from benchmarks.lookup import show
from benchmarks.measure import Figure
from benchmarks.site import Lines, Site, daemon, process
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.model import ListName
from syncd.publish import author

PLAIN: Final = 20
"""suppressions while nothing else happens"""
AFTER: Final = 5
"""suppressions while the matchers fold"""
MOST: Final = 200
"""suppressions that a run may need"""
FEWEST: Final = 3_000_000
"""rows of the smallest list: folding a shorter one takes no longer than a suppression"""
_DELTA_SHARE: Final = 0.14
"""a large delta, which makes a fold of the whole list due as soon as there are some more"""
_FEW: Final = 4
_SOONER: Final = 20
"""suppressions that surely make a fold due"""
_ENDED: Final = 0.2
"""seconds in which an order that folds nothing has ended, once its matchers have answered"""
_LIMIT: Final = 1.5
_LOADED: Final = 600.0
"""seconds in which all matchers load a large delta, or fold"""
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
    """Digests of the list, in hex."""
    digests = next(lists.chunks(site.world.rows)).digests
    step = len(digests) // MOST
    return [digests[index * step].ljust(32, b"\0").hex() for index in range(MOST)]


def _delta_rows(rows: int) -> int:
    return int(rows * _DELTA_SHARE)


class _Run:
    """Suppresses one digest after another, and sees when each matcher answers without it."""

    def __init__(self, site: Site, digests: Sequence[str], matchers: Sequence[Lines]) -> None:
        self._site, self._matchers, self._left = site, matchers, iter(digests)
        self._done = 0

    def once(self) -> tuple[list[float], threading.Thread]:
        """Seconds from the order to the changed answer, of each matcher; and what waits for the end of the order."""
        self._done += 1
        number, order = self._done, [{"digest": f"sha256:{next(self._left)}"}]
        begin = time.monotonic()
        ordered = threading.Thread(target=self._order, args=(order,))
        ordered.start()
        lines = [one.wait(lambda line: int(line.split()[1]) >= number, _LOADED) for one in self._matchers]
        return [float(line.split()[0]) - begin for line in lines], ordered

    def _order(self, order: list[dict[str, str]]) -> None:
        *_, last = self._site.ask(do="suppress", corrections=order, reason="benchmark")
        assert last["end"] == 0, last


def _deltas(site: Site) -> int:
    feed = FeedFolder(site.state / "feed")
    snapshot = author.open_list(feed, load_repository(feed), ListName(f"iwf.{lists.LIST}"))
    assert snapshot is not None
    return sum(segment.kind == "delta" for segment in snapshot.manifest.stack)


@dataclass(frozen=True)
class Times:
    """Seconds to the changed answer, of each matcher and each suppression."""

    plain: list[float]
    in_fold: list[float]
    """begun and answered while the daemon folded the whole list"""
    after_fold: list[float]
    """while the matchers folded their copies"""


def _in_fold(site: Site, matchers: Sequence[Lines], run: _Run) -> list[float]:
    """Seconds of each suppression that begins and is answered while the daemon folds the whole list."""
    while _deltas(site) > _FEW:  # else the large delta is folded as soon as it comes
        run.once()[1].join()
    before = time.monotonic()
    site.world.partner.publish_additions(site.world.version(), _delta_rows(site.world.rows))
    site.sync()
    for one in matchers:  # one host for all of them would measure its download
        one.wait(lambda line: float(line.split()[0]) > before, _LOADED)
    os.sync()  # one disk for all of them would measure how fast it writes their large files
    times: list[float] = []
    for _ in range(_SOONER):
        _, folding = run.once()
        folding.join(_ENDED)
        if folding.is_alive():
            break
    assert folding.is_alive(), "no suppression made a fold due, or the fold was too short to measure"
    while folding.is_alive():
        found, ordered = run.once()
        times += found if folding.is_alive() else []
        ordered.join()
    return times


def measure(site: Site, matchers: int = MATCHERS) -> Times:
    """Seconds to the changed answer of each matcher: while nothing else happens, during a fold, and after it."""
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
        run.once()[1].join()  # finds connections cold
        plain = [seconds for _ in range(PLAIN) for seconds in _paused(run)]
        in_fold = _in_fold(site, started, run)
        return Times(plain, in_fold, [seconds for _ in range(AFTER) for seconds in _paused(run)])


def _paused(run: _Run) -> list[float]:
    times, ordered = run.once()
    ordered.join()
    time.sleep(_PAUSE)
    return times


def figures(workdir: Path, rows: int) -> list[Figure]:
    """All of them. The list is made again for each run: the large delta changes most of it."""
    rows, folder = max(rows, FEWEST), workdir / "suppress"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with daemon(folder, rows, _SETTINGS) as site:
        times = measure(site)
    found = [
        Figure(
            f"suppressed to answered by {MATCHERS} matchers, p99",
            percentile(times.plain, 0.99),
            "s",
            _LIMIT,
            note=f"median {statistics.median(times.plain):.2f} s; {PLAIN} suppressions in {rows:,} rows",
        )
    ]
    for when, seconds in (("the list is folded", times.in_fold), ("each matcher folds its copy", times.after_fold)):
        if seconds:
            note = f"median {statistics.median(seconds):.2f} s; {len(seconds) // MATCHERS} suppressions"
            found.append(Figure(f"... while {when}", percentile(seconds, 0.99), "s", _LIMIT, note=note))
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
