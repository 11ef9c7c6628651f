"""What a partner's first publication costs, from CSV; and the end-state checksum."""

import shutil
from pathlib import Path
from typing import Final

from benchmarks import lists, measure
from benchmarks.lists import LIST, now
from benchmarks.measure import Run
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.format.checksum import checksum
from syncd.listfile import ListFiles
from syncd.publish import author
from syncd.trust import keys

_CHECKSUM_ROWS: Final = 1 << 20


def csv(base: Path, rows: int) -> Run:
    """Publish a CSV of ``rows`` rows, in the page cache as after its export, in a process of its own."""
    path = base / f"{rows}.csv"
    if not path.exists():
        base.mkdir(parents=True, exist_ok=True)
        lists.write_csv(path, lists.unsorted(rows))
    feed = FeedFolder(base / "feed")
    online, offline = author.keys_folder(feed.root), base / "offline"
    for folder in (feed.root, online, offline):
        shutil.rmtree(folder, ignore_errors=True)
    author.init(feed.root, offline, online, count=1, threshold=1, now=now())
    measure.warm(base, path.name)
    run = measure.in_process(publish_csv, feed, path)
    assert load_repository(feed).targets()
    return run


def publish_csv(feed: FeedFolder, path: Path) -> None:
    """What `syncd feed publish FEED --full` does."""
    signers = keys.load_signers(author.keys_folder(feed.root), keys.ONLINE_ROLES)
    author.publish_batch(feed, LIST, ListFiles(full=path).read, signers, now())


def checksum_rate(rounds: int = 15) -> float:
    """Rows a second, on one processor, of entry ids of 13 characters."""
    rows = next(lists.chunks(_CHECKSUM_ROWS))
    timings = [measure.timed(lambda: checksum(rows)) for _ in range(rounds)]
    return len(rows) / measure.median(timings).cpu
