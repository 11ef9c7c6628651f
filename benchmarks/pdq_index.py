"""What threatexchange's PDQIndex, and faiss over a mapped column, need for near look-ups.

Runs in an environment of its own (`benchmarks.near`), on one thread. Arguments: the kind, "index" or "flat"; a file of
digests of 32 bytes; a file of queries; and how often to ask them. Prints JSON: look-ups a second of processor time in
the best pass, matches found, seconds of processor time to build, and bytes of anonymous memory that the list takes.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from threatexchange.signal_type.pdq.pdq_index import PDQIndex

DISTANCE = 31


def anonymous() -> int:
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines())
    return sum(int(line[1]) << 10 for line in lines if line[0] == "Anonymous:")


def digests_of(path: str) -> np.ndarray:
    return np.fromfile(path, np.uint8).reshape(-1, 32)


class Index:
    """A PDQIndex, asked as its users ask it."""

    def __init__(self, path: str) -> None:
        listed = digests_of(path).tobytes().hex()
        self._index = PDQIndex([(listed[at : at + 64], at // 64) for at in range(0, len(listed), 64)])

    def near(self, query: bytes) -> int:
        return len(self._index.query(query.hex()))


class Flat:
    """All rows of a mapped faiss index."""

    def __init__(self, path: str) -> None:
        file = f"{path}.faiss"
        if not Path(file).exists():
            flat = faiss.IndexBinaryFlat(256)
            flat.add(digests_of(path))
            faiss.write_index_binary(flat, file)
            del flat
        self._index = faiss.read_index_binary(file, faiss.IO_FLAG_MMAP_IFC)

    def near(self, query: bytes) -> int:
        _, distances, _ = self._index.range_search(np.frombuffer(query, np.uint8).reshape(1, 32), DISTANCE + 1)
        return len(distances)


def main(kind: str, listed: str, asked: str, passes: int) -> dict[str, Any]:
    faiss.omp_set_num_threads(1)
    before, start = anonymous(), time.process_time()
    index = {"index": Index, "flat": Flat}[kind](listed)
    built, memory = time.process_time() - start, anonymous() - before
    queries = [query.tobytes() for query in digests_of(asked)]
    best, found = float("inf"), 0
    for _ in range(passes):
        start = time.process_time()
        found = sum(index.near(query) for query in queries)
        best = min(best, time.process_time() - start)
    return {"rate": len(queries) / best, "found": found, "build": built, "memory": memory}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))))
