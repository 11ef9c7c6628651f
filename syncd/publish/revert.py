"""The content of an older version of a list as a batch, to publish it again."""

from pathlib import Path
from shlex import quote

from syncd.errors import StoreError, UsageError
from syncd.feed.folder import FeedFolder
from syncd.feed.kept import complete_version
from syncd.feed.signed import load_repository
from syncd.feed.snapshot import open_stacks
from syncd.format.batch import Batch, WholeList
from syncd.format.delta import whole_state
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.format.writer import fold
from syncd.model import ListName
from syncd.publish.request import MakeBatch


def content_of(folder: FeedFolder, name: ListName, version: int) -> MakeBatch:
    """Return the function that makes a batch from a version that the feed still has.

    It raises `UsageError` if there is no such list or version, or if the version has no rows, and `StoreError` if its
    rows are not those that were signed.
    """

    def make(scratch: Path) -> Batch:
        old = complete_version(folder, name, load_repository(folder), version).manifest
        if not old.rows:
            feed = quote(str(folder.root))
            raise UsageError(
                f"{name} version {version} has no rows",
                hint=f"end the list by `syncd feed retire {feed} --list {name} --reason R`, or remove its entries by "
                f"`syncd feed publish {feed} --list {name} --remove FILE`; nothing was changed",
            )
        segments = {}
        for algorithm, stack in open_stacks(folder, name, old.stack).items():
            if algorithm not in old.end_state:
                continue
            path = scratch / f"{algorithm}.reverted"
            ref = fold(stack.segments, "base", path)
            found = Segment.open(path, ref) if ref else None
            if found is None or whole_state(Stack(algorithm, [found]))[0] != old.end_state[algorithm]:
                raise StoreError(
                    f"{name} version {version} in {folder.root} is damaged: its rows are not those that were signed",
                    hint="revert to another version, or restore the feed from a backup; nothing was changed",
                )
            segments[algorithm] = found
        return WholeList(segments)

    return make
