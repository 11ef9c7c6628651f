"""What near look-ups cost, on one thread: ``python -m benchmarks.near --workdir DIR``.

Makes lists of PDQ digests once, in DIR: of random bits with 1 M rows and ``--rows``, and two of ``FEWER`` rows that are
harder, with clusters of edits of one image and with bits that are not set half of the time. Beside syncd it measures
threatexchange's PDQIndex (faiss MultiHash) and faiss over all rows of a mapped file, in an environment of their own,
with the same queries. Half of the queries are near a listed digest. Rates are of processor time.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.lists import LIST, Partner, chunks, now, numbered, rows_of
from benchmarks.lookup import in_turn, show, single
from benchmarks.measure import Figure, warm
from demo.environments import Environment, NotBuiltError
from syncd.feed.folder import FeedFolder
from syncd.fetch import Endpoint
from syncd.format.derived import FOLDER
from syncd.format.hamming import BITS, near_rows
from syncd.format.rows import Digests, Rows
from syncd.matcher import Matcher, NearHit
from syncd.matcher.indexing import make_indexes
from syncd.matcher.near import DISTANCE
from syncd.matcher.pull import pull
from syncd.model import Algorithm

FEWER: Final = 1_000_000
PASSES: Final = 5
SINGLE: Final = 2000
BATCH: Final = 4000
BRUTE: Final = 40
RUNS: Final = 5
DELTAS: Final = 5
DELTA_ROWS: Final = 1000
_HERE: Final = Path(__file__).parent
_THEIRS: Final = Environment("benchmark-pdq", _HERE / "libraries.txt", _HERE / "threatexchange.txt")

_OPEN: Final = """
import json, sys, time
from syncd.matcher import Matcher
import numpy as np

def memory():
    lines = (line.split() for line in open("/proc/self/smaps_rollup"))
    return sum(int(line[1]) for line in lines if line[0] == "Anonymous:")

folder, queries = sys.argv[1:]
asked = np.fromfile(queries, "S32")
before, wall, busy = memory(), time.perf_counter(), time.process_time()
matcher = Matcher.open(folder)
matcher.near("pdq", asked[:1].tobytes())
wall, busy = time.perf_counter() - wall, time.process_time() - busy
for number in range(1000):
    matcher.near("pdq", asked[number : number + 1].tobytes())
matcher.near_many("pdq", asked)
print(json.dumps([wall * 1e3, busy * 1e3, (memory() - before) / 1e3]))
"""


@dataclass(frozen=True)
class World:
    """A partner's list, a pulled copy with its near index, and queries."""

    base: Path
    partner: Partner

    @classmethod
    def at(cls, base: Path, count: int, rows: Iterator[Rows] | None = None) -> "World":
        world = cls(base, Partner(FeedFolder(base / "partner"), Algorithm.PDQ))
        if not world.copy.exists():
            base.mkdir(parents=True, exist_ok=True)
            Partner.make(base, count, Algorithm.PDQ, rows)
            world.pull()
        return world

    @property
    def copy(self) -> Path:
        return self.base / "copy"

    def pull(self) -> None:
        pull(Endpoint(self.partner.feed.root.as_uri()), self.partner.root.read_bytes(), self.copy, now=now())

    def listed(self) -> Digests:
        """The digests of the base."""
        base = Matcher.open(self.copy).generation.snapshots[LIST].stacks[Algorithm.PDQ].base
        assert base is not None
        return base.digests

    def build(self) -> float:
        """Seconds of processor time to make the index; it is made again each time."""
        for path in self.copy.glob(f"{FOLDER}/*"):
            path.unlink()
        start = time.process_time()
        assert make_indexes(FeedFolder(self.copy)) == 1
        return time.process_time() - start

    def queries(self, count: int) -> Digests:
        """Random digests, and as many that are 1 to 31 bits from listed ones, in turn."""
        rng = np.random.default_rng(11)
        listed = self.listed()
        words = rng.integers(0, 1 << 64, (count, 4), np.uint64)
        some = listed[rng.integers(0, len(listed), count // 2)].tobytes()
        words[::2] = np.frombuffer(some, np.uint64).reshape(-1, 4) ^ _flips(rng, count // 2, 1, DISTANCE)
        return np.frombuffer(words.tobytes(), "S32")


def _flips(rng: np.random.Generator, count: int, fewest: int, most: int) -> np.ndarray:
    """``count`` masks of 4 words with a random number of bits set, from ``fewest`` to ``most``."""
    order = rng.random((count, BITS)).argsort(axis=1)
    sizes = rng.integers(fewest, most + 1, count)
    flipped: np.ndarray = np.packbits(order < sizes[:, None], axis=1).view(np.uint64)
    return flipped


def clustered() -> Iterator[Rows]:
    """Half of the rows are edits of 500 images, 1,000 of each, up to 40 bits from it; the others are random."""
    rng = np.random.default_rng(12)
    words = rng.integers(0, 1 << 64, (FEWER, 4), np.uint64)
    edited = FEWER // 2
    words[:edited] = np.repeat(words[:500], edited // 500, axis=0)
    for start in range(0, edited, 10_000):
        words[start : start + 10_000] ^= _flips(rng, 10_000, 0, 40)
    return _sorted(words, rng)


def skewed() -> Iterator[Rows]:
    """Each bit has a likelihood of its own, from 0.2 to 0.8, and neighbours are often alike."""
    rng = np.random.default_rng(13)
    likely = rng.uniform(0.2, 0.8, BITS)
    bits = np.empty((FEWER, BITS), bool)
    for start in range(0, FEWER, 100_000):
        some = rng.random((100_000, BITS), np.float32) < likely
        some[:, 1::2] = np.where(rng.random((100_000, BITS // 2), np.float32) < 0.3, some[:, ::2], some[:, 1::2])
        bits[start : start + 100_000] = some
    return _sorted(np.packbits(bits, axis=1).view(np.uint64), rng)


def _sorted(words: np.ndarray, rng: np.random.Generator) -> Iterator[Rows]:
    digests = np.sort(np.frombuffer(words.tobytes(), "S32"))
    yield rows_of(digests, rng, Algorithm.PDQ, numbered("e", 0, len(digests)))


def singles(matcher: Matcher, asked: list[bytes]) -> float:
    """Look-ups a second of processor time."""
    start = time.thread_time()
    for digest in asked:
        matcher.near("pdq", digest)
    return len(asked) / (time.thread_time() - start)


def batch(matcher: Matcher, asked: Digests) -> float:
    start = time.thread_time()
    matcher.near_many("pdq", asked)
    return len(asked) / (time.thread_time() - start)


def _as_bytes(digests: Digests) -> list[bytes]:
    content = digests.tobytes()
    return [content[at : at + 32] for at in range(0, len(content), 32)]


def recall(world: World, asked: Digests) -> tuple[int, int]:
    """The pairs that a comparison of all rows finds, and the answers that differ from it."""
    matcher, listed = Matcher.open(world.copy), world.listed()
    numbers, rows, distances = near_rows(listed, asked, DISTANCE)
    content = listed[rows].tobytes()
    expected = {
        (number, content[32 * at : 32 * at + 32], distance)
        for at, (number, distance) in enumerate(zip(numbers.tolist(), distances.tolist(), strict=True))
    }
    hits: list[list[NearHit]] = matcher.near_many("pdq", asked)
    found = {(number, hit.digest, hit.distance) for number, some in enumerate(hits) for hit in some}
    assert all(status.near_indexed for status in matcher.status())
    return len(expected), len(expected ^ found)


def theirs(world: World, kind: str, asked: Digests) -> dict[str, Any] | None:
    """What `benchmarks.pdq_index` prints; None if it cannot be run here."""
    listed, queries = world.base / "listed.bin", world.base / f"{kind}.bin"
    if not listed.exists():
        listed.write_bytes(world.listed().tobytes())
    queries.write_bytes(asked.tobytes())
    try:
        found: dict[str, Any] = json.loads(
            _THEIRS.run(_HERE / "pdq_index.py", kind, str(listed), str(queries), str(PASSES))
        )
    except NotBuiltError as error:
        print(f"threatexchange: {error}")
        return None
    return found


def opening(world: World) -> list[float]:
    """Milliseconds to the first answer of a new process, those of its processor, and MB of anonymous memory at last.

    Of the run that is least disturbed by others.
    """
    queries = world.base / "open.bin"
    queries.write_bytes(world.queries(BATCH).tobytes())
    runs = []
    for _ in range(RUNS):
        warm(world.copy)
        warm(world.copy, "*.near")
        command = [sys.executable, "-c", _OPEN, str(world.copy), str(queries)]
        runs.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    return list(min(runs))


def exact(world: World) -> tuple[float, float]:
    """Microseconds of an exact look-up without a near index, and with one in use; of the best pass."""
    plain, near = Matcher.open(world.copy), Matcher.open(world.copy)
    asked = _as_bytes(world.queries(BATCH))
    listed = _as_bytes(world.listed()[:: max(1, len(world.listed()) // BATCH)])
    singles(near, asked[:100])
    measures: list[Callable[[], float]] = [partial(single, matcher, "pdq", listed) for matcher in (plain, near)]
    without, with_index = in_turn(*measures)
    return min(without), min(with_index)


def deltas(world: World) -> list[float]:
    """Seconds from the start of each delta's publication until a running matcher finds its rows near."""
    matcher = Matcher.open(world.copy)
    seconds = []
    for _ in range(DELTAS):
        number = world.partner.version()
        added = world.partner.added_by(number, DELTA_ROWS).digests
        words = np.frombuffer(added.tobytes(), np.uint64).reshape(-1, 4)
        altered = words ^ _flips(np.random.default_rng(number), len(words), 31, 31)
        start = time.perf_counter()
        world.partner.publish_delta(number, DELTA_ROWS)
        world.pull()
        matcher.reload()
        first = matcher.near("pdq", altered[0].tobytes())
        seconds.append(time.perf_counter() - start)
        hits = matcher.near_many("pdq", np.frombuffer(altered.tobytes(), "S32"))
        assert first
        assert all(any(hit.distance == DISTANCE for hit in some) for some in hits)
    return seconds


def measure_list(world: World, rows: int) -> list[Figure]:
    name = f"{rows / 1e6:g} M PDQ, near"
    built = world.build()
    matcher, asked = Matcher.open(world.copy), world.queries(BATCH)
    one_by_one = _as_bytes(asked[:SINGLE])
    matcher.near_many("pdq", asked)
    one, many = in_turn(partial(singles, matcher, one_by_one), partial(batch, matcher, asked))
    first = opening(world)
    without, with_index = exact(world)
    pairs, wrong = recall(world, asked[:BRUTE] if rows > FEWER else asked[: 10 * BRUTE])
    found = sum(map(len, matcher.near_many("pdq", asked[:BRUTE])))
    return [
        *_compared(world, name, rows, max(one), asked[:SINGLE], found),
        Figure(f"{name}: in batches", max(many), "/s", 5000 if rows <= FEWER else 1200, at_least=True),
        Figure(f"{name}: differs from brute force", wrong, "", 0, note=f"of {pairs} pairs"),
        Figure(f"{name}: open to first answer", first[0], "ms", 50, note=f"{first[1]:.0f} ms of processor time"),
        Figure(f"{name}: anonymous memory", first[2], "MB", 40),
        Figure(f"{name}: build, of each 1 M rows", built / rows * 1e6, "s", 2, note="processor time"),
        Figure(f"{name}: an exact look-up", with_index, "us", 1.05 * without, note="target: without near look-ups"),
    ]


def _compared(world: World, name: str, rows: int, rate: float, asked: Digests, found: int) -> list[Figure]:
    """Single look-ups beside theirs: 6 times the PDQIndex at 1 M rows, 30 times a scan at 10 M."""
    kind, times, label = ("index", 6, "PDQIndex") if rows <= FEWER else ("flat", 30, "faiss, all rows mapped")
    other = theirs(world, kind, asked[:BRUTE] if kind == "flat" else asked)
    target = times * other["rate"] if other else None
    figures = [Figure(f"{name}: one by one", rate, "/s", target, at_least=True, note=f"target: {times} times {label}")]
    if other:
        assert kind != "flat" or other["found"] == found
        figures.append(Figure(f"{name}: {label}", other["rate"], "/s"))
        figures.append(Figure(f"{name}: {label}, anonymous memory", other["memory"] / 1e6, "MB"))
    return figures


def measure_hard(world: World, what: str) -> list[Figure]:
    world.build()
    matcher, asked = Matcher.open(world.copy), world.queries(BATCH)
    pairs, wrong = recall(world, asked[: 10 * BRUTE])
    one = in_turn(partial(singles, matcher, _as_bytes(asked[: SINGLE // 4])))[0]
    name = f"{FEWER / 1e6:g} M {what} PDQ, near"
    return [
        Figure(f"{name}: differs from brute force", wrong, "", 0, note=f"of {pairs} pairs"),
        Figure(f"{name}: one by one", max(one), "/s"),
    ]


def figures(workdir: Path, rows: int) -> list[Figure]:
    """All of them, of lists made in ``workdir``."""
    sizes = sorted({FEWER, rows})
    worlds = {size: World.at(workdir / f"pdq-{size}", size, chunks(size, algorithm=Algorithm.PDQ)) for size in sizes}
    measured = [figure for size in sizes for figure in measure_list(worlds[size], size)]
    took = deltas(worlds[rows])
    return [
        *measured,
        *measure_hard(World.at(workdir / "clustered", FEWER, clustered()), "clustered"),
        *measure_hard(World.at(workdir / "skewed", FEWER, skewed()), "skewed"),
        Figure(
            f"{rows / 1e6:g} M PDQ: a delta of 1,000 rows published to found near",
            max(took) * 1e3,
            "ms",
            1000,
            note=f"the slowest of {DELTAS}; median {statistics.median(took) * 1e3:.0f} ms",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000_000)
    options = parser.parse_args()
    show(figures(options.workdir, options.rows))


if __name__ == "__main__":
    main()
