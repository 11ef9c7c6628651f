"""The lists that suppressions change: their entries of some digests, and their next versions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from syncd.catalog.catalog import Catalog
from syncd.catalog.changes import Records
from syncd.catalog.decisions import HoldRecord, Suppression
from syncd.catalog.records import HeadRecord, own_name
from syncd.errors import UsageError
from syncd.format.rows import Digests, as_digests
from syncd.model import Algorithm, Digest, ListName
from syncd.operate.checks import published_head
from syncd.operate.suppression_order import Correction
from syncd.pipeline.heads import ListState
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.settle.result import Settled


@dataclass(frozen=True)
class Corrected:
    """The result of an act on suppressions."""

    suppressions: tuple[Suppression, ...]
    versions: Mapping[ListName, int]
    """the new version of each list that changed"""
    rows: int
    """entries that were taken off, or listed again"""
    hold: HoldRecord | None = None
    """set if a second operator has to confirm them: nothing has changed yet"""
    opened: tuple[HoldRecord, ...] = ()
    """holds of entries that would have returned, but did not pass the gate"""


@dataclass(frozen=True)
class Listed:
    """The entries of some digests that one list has, in head or origin."""

    list: ListName
    entries: Mapping[tuple[Algorithm, bytes], frozenset[str]]

    @classmethod
    def of(cls, state: ListState, digests: Mapping[Algorithm, Digests]) -> "Listed":
        """Look digests up in one list."""
        entries: dict[tuple[Algorithm, bytes], set[str]] = {}
        for algorithm, some in digests.items():
            for basis in (state.head_basis, state.basis):
                stack = basis.stacks.get(algorithm)
                if stack is None or stack.width != some.dtype.itemsize:
                    continue
                rows = stack.rows_of(some)
                for digest, entry in zip(rows.digests, rows.entries.to_pylist(), strict=True):
                    entries.setdefault((algorithm, digest.ljust(rows.width, b"\0")), set()).add(entry)
        return cls(state.name, {key: frozenset(some) for key, some in entries.items()})

    def count(self, correction: Correction) -> int:
        """Count the entries that a correction takes off this list."""
        entries = self.entries.get((correction.digest.algorithm, correction.digest.value), frozenset())
        return len(entries) if correction.entry is None else int(correction.entry in entries)


def heads_of(catalog: Catalog, name: ListName | None) -> tuple[HeadRecord, ...]:
    """Return the head of one list, or those of all lists that are not retired. Raises `UsageError`."""
    if name is not None:
        return (published_head(catalog, name),)
    return tuple(head for head in catalog.heads() if head.retired_at is None)


def list_state(publisher: Publisher, head: HeadRecord) -> ListState:
    """Read the state of a published list. Raises `StoreError`."""
    return publisher.list_state(head.source, own_name(head.list))


def digests_of(digests: Iterable[Digest]) -> dict[Algorithm, Digests]:
    """Return digests as sorted columns. Raises `UsageError` if those of an algorithm differ in length."""
    by_algorithm: dict[Algorithm, set[bytes]] = {}
    for digest in digests:
        by_algorithm.setdefault(digest.algorithm, set()).add(digest.value)
    for algorithm, some in by_algorithm.items():
        if len(set(map(len, some))) > 1:
            raise UsageError(f"the {algorithm} digests differ in length", hint="check the algorithm of each")
    return {algorithm: as_digests(some) for algorithm, some in by_algorithm.items()}


def digest_of(one: Suppression) -> Digest:
    """Return the digest of a suppression."""
    return Digest(one.algorithm, bytes.fromhex(one.digest))


def covering(suppressions: Iterable[Suppression], name: ListName) -> tuple[Suppression, ...]:
    """Return the suppressions that are for a published list."""
    return tuple(one for one in suppressions if one.covers(name))


def publish(
    publisher: Publisher, plan: str, make: Callable[[], tuple[Sequence[Settled], Records]], now: datetime
) -> tuple[dict[ListName, int], tuple[HoldRecord, ...]]:
    """Publish the next version of each list that changes; return their numbers, and the holds that were opened.

    See `Publisher.settle_lists`.
    """
    settled = publisher.settle_lists(plan, make, now)
    for one in settled:
        publisher.compact_after(one, now)
    versions = {one.version.list: one.version.version for one in settled if one.version}
    return versions, tuple(hold for one in settled for hold in one.opened)
