"""Large folds in a process of their own: the same files, and nothing lost if the process dies."""

import sys

import pytest

from standing import prove_feed, sync_list
from syncd.catalog.records import head_name
from syncd.errors import StoreError
from syncd.format.manifest import Manifest
from syncd.locks import lock
from syncd.publish.compact import fold_due
from syncd.service.folding import fold_apart
from syncd.service.worker import Process, start
from world import IMAGES, World, row


def manifest_of(world: World) -> Manifest:
    """The version in force."""
    with world.publisher() as publisher:
        head = publisher.list_state("iwf", IMAGES).head
        assert head is not None
        return head


@pytest.fixture
def long_stack(standing: World) -> World:
    """A list whose stack has a base and seven deltas."""
    for number in range(40, 47):
        standing.publish(add=[row(number)])
        sync_list(standing)
    assert len(manifest_of(standing).stack) == 8
    return standing


def test_the_process_makes_the_same_files(long_stack: World) -> None:
    """They can be published as if the daemon had folded itself."""
    manifest, feed = manifest_of(long_stack), long_stack.state.feed
    apart = fold_apart(feed, manifest, everything=True, large=0)
    assert apart == fold_due(feed, manifest, everything=True)
    (folded,) = apart.folded
    assert folded.output is not None
    assert feed.segment_path(manifest.list, folded.output).exists()


def test_a_small_fold_starts_no_process(long_stack: World) -> None:
    """Starting one takes longer."""

    def never() -> Process:
        raise AssertionError

    assert fold_apart(long_stack.state.feed, manifest_of(long_stack), everything=True, begin=never)


def test_a_list_is_folded_once_at_a_time(long_stack: World) -> None:
    """While a long fold goes on, a new version does not begin the same work; the one after it does."""
    published = head_name("iwf", IMAGES)
    long_stack.publish(add=[row(50)])
    with lock(long_stack.state.folding(published), "folding elsewhere"):
        sync_list(long_stack)
    assert len(manifest_of(long_stack).stack) == 9
    long_stack.publish(add=[row(51)])
    sync_list(long_stack)
    assert len(manifest_of(long_stack).stack) < 9


@pytest.mark.parametrize("ends", ["import os; os.kill(os.getpid(), 9)", "import sys; sys.stdin.read()"])
def test_a_process_that_dies_is_a_storage_error(long_stack: World, ends: str) -> None:
    """The published version stays as it is."""
    manifest, feed = manifest_of(long_stack), long_stack.state.feed
    with pytest.raises(StoreError, match=r"the process that folded iwf\.images version 8 died"):
        fold_apart(feed, manifest, everything=True, large=0, begin=lambda: start([sys.executable, "-c", ends]))
    assert not long_stack.pull().errors
    prove_feed(long_stack)


def test_an_error_of_the_process_is_the_daemons(long_stack: World) -> None:
    """With its kind, its message and what to do."""
    manifest, feed = manifest_of(long_stack), long_stack.state.feed
    feed.segment_path(manifest.list, manifest.stack[-1]).unlink()
    with pytest.raises(StoreError, match=r"cannot (read|open)|missing") as found:
        fold_apart(feed, manifest, everything=True, large=0)
    assert "syncd.service" not in str(found.value)
