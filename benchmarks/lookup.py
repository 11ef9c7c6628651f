"""What look-ups cost: ``python -m benchmarks.lookup --workdir DIR``.

Makes its lists once, in DIR: ``--rows`` SHA-256 rows with five deltas of 1,000 over them, and 1 M MD5 rows. Beside
syncd it measures threatexchange's own index, the one in use in the field, if its package is installed for the Python
named by ``--threatexchange``; it is no dependency of syncd. Both are asked the same keys in the same run.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.lists import LIST, Partner, now
from benchmarks.measure import Figure, forget, warm
from syncd.feed.folder import FeedFolder
from syncd.fetch import Endpoint
from syncd.format.delta import difference
from syncd.format.rows import Digests, Rows
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.format.writer import write_segment
from syncd.listfile import ListFiles
from syncd.matcher import Matcher
from syncd.matcher.pull import pull
from syncd.model import Algorithm
from syncd.publish import author
from syncd.trust import keys

DELTAS: Final = 5
DELTA_ROWS: Final = 1000
MD5_ROWS: Final = 1_000_000
SINGLE: Final = 20_000
BATCH: Final = 2_000_000
RUNS: Final = 5
PASSES: Final = 20
"""over the same keys, of which the best counts: who else uses the machine slows memory by a third for seconds"""

_OPEN: Final = """
import json, sys, time
import syncd.matcher.load as load
from syncd.matcher import Matcher

def memory():
    lines = (line.split() for line in open("/proc/self/smaps_rollup"))
    return sum(int(line[1]) for line in lines if line[0] == "Anonymous:")

signatures = [0.0]
verify = load.verify_offline
def timed(*arguments):
    start = time.perf_counter()
    try:
        return verify(*arguments)
    finally:
        signatures[0] += time.perf_counter() - start
load.verify_offline = timed

folder, algorithm, digest = sys.argv[1:]
before, start = memory(), time.perf_counter()
Matcher.open(folder).lookup(algorithm, digest)
seconds = time.perf_counter() - start
print(json.dumps([seconds - signatures[0], signatures[0], memory() - before]))
"""

_THREATEXCHANGE: Final = """
import json, sys, time, tempfile, pathlib, pickle
try:
    from threatexchange.signal_type.md5 import VideoMD5Signal
except ImportError:
    print("null")
    raise SystemExit
index, keys, passes = sys.argv[1:]
if not pathlib.Path(index).exists():
    rows = [line.rstrip("\\n").split(",") for line in open(keys + ".rows")]
    with open(index, "wb") as out:
        VideoMD5Signal.get_index_cls().build([(digest, entry) for digest, entry in rows]).serialize(out)

def memory():
    lines = (line.split() for line in open("/proc/self/smaps_rollup"))
    return sum(int(line[1]) for line in lines if line[0] == "Anonymous:")

before, start = memory(), time.perf_counter()
with open(index, "rb") as stream:
    loaded = VideoMD5Signal.get_index_cls().deserialize(stream)
result = {"load": time.perf_counter() - start, "memory": memory() - before}
for kind, digests in json.load(open(keys)).items():
    result[kind] = float("inf")
    for _ in range(int(passes)):
        times = []
        for digest in digests:
            start = time.perf_counter_ns()
            loaded.query(digest)
            times.append(time.perf_counter_ns() - start)
        result[kind] = min(result[kind], sorted(times)[len(times) // 2] / 1e3)
print(json.dumps(result))
"""


def pulled_copy(base: Path, rows: int) -> Path:
    """A copy of a list of ``rows`` SHA-256 rows with deltas over it."""
    copy = base / "copy"
    if not copy.exists():
        base.mkdir(parents=True, exist_ok=True)
        partner = Partner.make(base, rows)
        for number in range(DELTAS):
            partner.publish_delta(number, DELTA_ROWS)
        pull(Endpoint(partner.feed.root.as_uri()), partner.root.read_bytes(), copy, now=now())
    return copy


def md5_copy(base: Path) -> Path:
    """A copy of a list of MD5 rows; the same rows as text beside it."""
    copy = base / "copy"
    if copy.exists():
        return copy
    base.mkdir(parents=True, exist_ok=True)
    digests = np.random.default_rng(5).bytes(16 * MD5_ROWS).hex()
    lines = [f"{digests[32 * number : 32 * number + 32]},e{number:012}" for number in range(MD5_ROWS)]
    base.joinpath("keys.json.rows").write_text("\n".join(lines) + "\n")
    base.joinpath("full.csv").write_text("algorithm,digest,entry,label\n" + "".join(f"md5,{one},A\n" for one in lines))
    feed = FeedFolder(base / "partner")
    online = author.keys_folder(feed.root)
    root = author.init(feed.root, base / "offline", online, count=1, threshold=1, now=now())
    signers = keys.load_signers(online, keys.ONLINE_ROLES)
    author.publish_batch(feed, LIST, ListFiles(full=base / "full.csv").read, signers, now())
    pull(Endpoint(feed.root.as_uri()), root.read_bytes(), copy, now=now())
    return copy


def opening(copy: Path, algorithm: Algorithm, *, cold: bool) -> list[float]:
    """Median seconds to the first answer of a new process without signatures, those of signatures, and kB."""
    runs = []
    for _ in range(RUNS):
        forget(copy) if cold else warm(copy)
        command = [sys.executable, "-c", _OPEN, str(copy), algorithm, "7f" * algorithm.width]
        runs.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    return [statistics.median(column) for column in zip(*runs, strict=True)]


def keys_of(stack: Stack, count: int) -> tuple[list[bytes], list[bytes]]:
    """Digests that are in the base, and random ones."""
    assert stack.base is not None
    rng = np.random.default_rng(1)
    width = stack.algorithm.width
    index = rng.integers(0, len(stack.base), count)
    held = stack.base.digests[index].tobytes()
    missing = rng.bytes(count * width)
    return cut(held, width), cut(missing, width)


def cut(content: bytes, width: int) -> list[bytes]:
    return [content[at : at + width] for at in range(0, len(content), width)]


def single(matcher: Matcher, algorithm: str, asked: Sequence[bytes]) -> float:
    """Median microseconds of one look-up."""
    times = []
    for digest in asked:
        start = time.perf_counter_ns()
        matcher.lookup(algorithm, digest)
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1e3


def batch(matcher: Matcher, algorithm: str, asked: Digests) -> float:
    """Million look-ups a second of one thread, of its own processor time."""
    start = time.thread_time()
    matcher.lookup_many(algorithm, asked)
    return len(asked) / (time.thread_time() - start) / 1e6


def in_turn(*measures: Callable[[], float]) -> list[list[float]]:
    """The results of all passes of each: in turn, so that a machine that is slow for seconds is so for all of them."""
    passes = [[measure() for measure in measures] for _ in range(PASSES)]
    return [list(column) for column in zip(*passes, strict=True)]


def singles(
    matcher: Matcher, algorithm: str, held: Sequence[bytes], missing: Sequence[bytes]
) -> list[Callable[[], float]]:
    """What measures hits, and misses; every page is touched before."""
    both: list[Callable[[], float]] = [partial(single, matcher, algorithm, asked) for asked in (held, missing)]
    for measure in both:
        measure()
    return both


def stack_of(matcher: Matcher, algorithm: Algorithm) -> Stack:
    return matcher.generation.snapshots[LIST].stacks[algorithm]


def measure_list(copy: Path, algorithm: Algorithm, rows: str) -> list[Figure]:
    warm_open, cold_open = opening(copy, algorithm, cold=False), opening(copy, algorithm, cold=True)
    warm(copy)
    matcher = Matcher.open(copy)
    held, missing = keys_of(stack_of(matcher, algorithm), SINGLE)
    base = stack_of(matcher, algorithm).segments[0].digests
    hits = base[np.random.default_rng(3).integers(0, len(base), BATCH)]
    misses = np.frombuffer(np.random.default_rng(4).bytes(BATCH * algorithm.width), base.dtype)
    hit, miss, hits_rate, misses_rate = in_turn(
        *singles(matcher, str(algorithm), held, missing),
        partial(batch, matcher, algorithm, hits),
        partial(batch, matcher, algorithm, misses),
    )
    return [
        Figure(f"{rows}: open to first answer, warm", warm_open[0] * 1e3, "ms", 10, note="signatures apart"),
        Figure(f"{rows}: open to first answer, cold", cold_open[0] * 1e3, "ms", 40, note="signatures apart"),
        Figure(f"{rows}: signatures, in both", warm_open[1] * 1e3, "ms"),
        Figure(f"{rows}: private memory of it", warm_open[2] / 1e3, "MB", 8),
        Figure(f"{rows}: one look-up, hit", min(hit), "us", 3.5),
        Figure(f"{rows}: one look-up, miss", min(miss), "us", 3.5),
        Figure(f"{rows}: batch, hits", max(hits_rate), "M/s", 7, at_least=True),
        Figure(f"{rows}: batch, misses", max(misses_rate), "M/s", 7, at_least=True),
    ]


def measure_difference(copy: Path, base: Path, rows: str) -> Figure:
    """The whole list against the list as it would come whole, one row in 10,000 left out."""
    old = stack_of(Matcher.open(copy), Algorithm.SHA256)
    rng = np.random.default_rng(6)

    def thinned() -> Any:
        for part in old.effective():
            yield part.take(rng.random(len(part)) > 1e-4)

    path = base / "full.arrow"
    path.unlink(missing_ok=True)
    ref = write_segment(path, Algorithm.SHA256, "base", thinned())
    assert ref is not None
    warm(base)
    start = time.perf_counter()
    found: Rows = difference(old, Stack(Algorithm.SHA256, [Segment.open(path, ref)]))
    seconds = time.perf_counter() - start
    assert found.removed.all()
    return Figure(f"{rows}: difference with a full list", seconds, "s", 4, note=f"{len(found)} rows differ")


def measure_threatexchange(copy: Path, base: Path, python: str) -> list[Figure]:
    """Single look-ups and loading, of 1 M MD5, with both."""
    matcher = Matcher.open(copy)
    held, missing = keys_of(stack_of(matcher, Algorithm.MD5), SINGLE)
    asked = base / "keys.json"
    asked.write_text(json.dumps({"hit": [one.hex() for one in held], "miss": [one.hex() for one in missing]}))
    command = [python, "-c", _THREATEXCHANGE, str(base / "index"), str(asked), str(PASSES)]
    subprocess.run(command, check=True, capture_output=True)  # makes its index
    theirs = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    if theirs is None:
        print("threatexchange: not installed; see --threatexchange")
        return []
    ours = opening(copy, Algorithm.MD5, cold=False)
    hit, miss = in_turn(*singles(matcher, "md5", held, missing))
    pairs = [
        ("load in a new process", (ours[0] + ours[1]) * 1e3, theirs["load"] * 1e3, "ms"),
        ("private memory", ours[2] / 1e3, theirs["memory"] / 1e3, "MB"),
        ("one look-up, hit", min(hit), theirs["hit"], "us"),
        ("one look-up, miss", min(miss), theirs["miss"], "us"),
    ]
    return [Figure(f"1 M MD5: {what}", mine, unit, other, note="target: theirs") for what, mine, other, unit in pairs]


def show(figures: Sequence[Figure]) -> None:
    print(f"{'':48} {'measured':>10} {'target':>9}  {'ratio':>6}")
    for one in figures:
        against = f"{one.target:9.2f}  {one.ratio:6.2f}" if one.target and one.ratio else ""
        print(f"{one.what:48} {one.measured:10.2f} {against:17} {one.unit:4} {one.note}")


def figures(workdir: Path, rows: int, threatexchange: str = sys.executable) -> list[Figure]:
    """All of them, of lists made in ``workdir``."""
    name = f"{rows / 1e6:g} M SHA-256"
    copy = pulled_copy(workdir / f"sha256-{rows}", rows)
    md5 = md5_copy(workdir / "md5")
    return [
        *measure_list(copy, Algorithm.SHA256, name),
        measure_difference(copy, copy.parent, name),
        *measure_threatexchange(md5, md5.parent, threatexchange),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--threatexchange", metavar="PYTHON", default=sys.executable)
    options = parser.parse_args()
    show(figures(options.workdir, options.rows, options.threatexchange))


if __name__ == "__main__":
    main()
