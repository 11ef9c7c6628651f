"""Preparing a source that signs nothing: read it to the end, and stage what its lists have now over what they had.

The poll starts from the checkpoint of the list that is furthest behind. Without a usable one it starts from the
beginning, and what the partner then states replaces the lists: rows that it does not state are removed.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pydantic import JsonValue, TypeAdapter, ValidationError

from syncd.catalog.records import Position
from syncd.errors import RESTORE_CATALOG, StoreError, SyncdError, as_known
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.fetch import Meter
from syncd.files import link_file, make_folder, storage
from syncd.format.batch import Batch, WholeList
from syncd.format.canonical import canonical
from syncd.model import ListName
from syncd.pipeline.answers import AnswerBundle, pieces_of
from syncd.pipeline.names import check_head_name, check_room
from syncd.pipeline.preparation import LocalList, Prepared, Preparing, Progress, Request, VerifiedSource
from syncd.pipeline.spool import ListSpool
from syncd.pipeline.stage_stated import ListBasis, StatedStage
from syncd.pipeline.values import FullReason, Over, Stated, Unchanged
from syncd.sources.source import Memory
from syncd.sources.statements import FilePoll, Poll, PollRequest, Record, StatedSource


@dataclass(frozen=True)
class StatedMemory:
    """The memory of a source that signs nothing."""

    type: str
    empty: Mapping[ListName, Position] = field(default_factory=dict)
    """how far lists were read that had no entry yet, so that nothing of them was ever published"""

    @classmethod
    def of(cls, memory: Memory, kind: str) -> "StatedMemory":
        """Parse a source's memory. Raises `StoreError`."""
        try:
            return _MEMORY.validate_python(memory) if memory else cls(kind)
        except ValidationError:
            raise StoreError("the state of a source in the catalog cannot be read", hint=RESTORE_CATALOG) from None

    def as_json(self) -> Memory:
        """Return it as JSON."""
        return _MEMORY.dump_python(self, mode="json")  # type: ignore[no-any-return]  # a dataclass makes an object


_MEMORY: Final = TypeAdapter(StatedMemory)


def shape_of(source: StatedSource) -> str:
    """Return the hash of all of a source's configuration that decides which rows its lists have."""
    kinds = {name: [kind.media, kind.purpose] for name, kind in source.kinds.items()}
    return hashlib.sha256(canonical({"type": source.type, "kinds": kinds, "shape": source.shape})).hexdigest()


def prepare_stated(source: StatedSource, request: Request, progress: Progress, meter: Meter) -> Preparing:
    """Prepare a source that signs nothing; see `syncd.pipeline.preparation.Prepare`."""
    folder = FeedFolder(request.folder)
    memory = StatedMemory.of(request.memory, source.type)
    names, refused = _names(source, request)
    starts = {name: _start_of(name, request.of(name), folder, memory) for name in names}
    plan = _plan(starts, shape_of(source))
    with folder.discard_scratch_if_full(), _scratch(folder) as scratch, ExitStack() as spools:
        asked = PollRequest(plan.checkpoint, request.now, make_folder(scratch / "poll", _PRIVATE), meter)
        read = _Reader(names, scratch, spools, progress).read(source, asked, plan.reason)
        position = Position(read.checkpoint, plan.shape, plan.poll)
        empty = [
            name for name, start in starts.items() if not start.stack and start.ref is None and read.is_empty(name)
        ]
        yield VerifiedSource(StatedMemory(source.type, dict.fromkeys(empty, position)).as_json(), read.set_aside)
        for name, error in refused.items():
            yield Prepared(name, error)
        stated = Stated(read.answers, position, request.now)
        for name in names:
            if name in empty:
                continue
            stage = StatedStage(folder, name, scratch, progress, source.kinds[name])
            try:
                staged = stage.stage(replace(starts[name], plan=read.plan), read.batches[name], stated)
                if not isinstance(staged, Unchanged):
                    _keep(folder, name, read)
            except Exception as fault:  # noqa: BLE001 - a fault in one list must not stop the others
                yield Prepared(name, as_known(fault))
            else:
                yield Prepared(name, staged)


def _names(source: StatedSource, request: Request) -> tuple[list[ListName], dict[ListName, SyncdError]]:
    """Return the lists to prepare, and those whose names cannot be used."""
    names, refused = [], {}
    followed = {(source.name, held) for held in request.held}
    for name in sorted(source.kinds):
        try:
            check_head_name(source.name, name)
            check_room(source.name, name, followed)
        except SyncdError as error:
            refused[name] = error
            continue
        followed.add((source.name, name))
        names.append(name)
    return names, refused


def _start_of(name: ListName, held: LocalList, folder: FeedFolder, memory: StatedMemory) -> ListBasis:
    """Return the state from which a list goes on: the origin, or the whole list that waits to become it."""
    if held.over is not Over.NOTHING:
        position = held.position if held.complete else None
        return ListBasis(held.ref, held.over, held.stack, held.end_state, position)
    waiting = held.waiting
    if waiting is not None and not folder.missing(name, waiting.stack):
        return ListBasis(held.ref, Over.NOTHING, waiting.stack, waiting.end_state, waiting.position)
    return ListBasis(held.ref, Over.NOTHING, position=memory.empty.get(name) if held.ref is None else None)


@dataclass(frozen=True)
class _Plan:
    checkpoint: JsonValue
    shape: str
    poll: int
    """number of this poll"""
    reason: FullReason | None
    """why it starts from the beginning; None if it goes on from ``checkpoint``"""


def _plan(starts: Mapping[ListName, ListBasis], shape: str) -> _Plan:
    """Plan a poll of all lists together. In any doubt it starts from the beginning."""
    known = [start.position for start in starts.values() if start.position is not None]
    poll = 1 + max((position.poll for position in known), default=0)
    reason: FullReason | None = None
    if any(position.shape != shape for position in known):
        reason = FullReason.RESHAPED
    elif any(start.position is None and start.ref is not None for start in starts.values()):
        reason = FullReason.LOCAL_LOSS
    elif len(known) < len(starts):
        reason = FullReason.FIRST
    last = min(known, key=lambda position: position.poll, default=None)
    return _Plan(None if reason or last is None else last.checkpoint, shape, poll, reason)


@dataclass(frozen=True)
class _Read:
    """A poll that was read to its end."""

    batches: Mapping[ListName, Sequence[Batch]]
    plan: str
    checkpoint: JsonValue
    bundle: Path
    answers: str
    set_aside: Mapping[str, int]

    def is_empty(self, name: ListName) -> bool:
        """Return True if the poll states no entry of a list."""
        added = [batch.segments if isinstance(batch, WholeList) else batch.add for batch in self.batches[name]]
        return not any(added)


@dataclass(frozen=True)
class _Reader:
    """Reads one poll into batches."""

    names: Sequence[ListName]
    scratch: Path
    spools: ExitStack
    """closes the spools once all lists are staged"""
    progress: Progress

    def read(self, source: StatedSource, asked: PollRequest, reason: FullReason | None) -> _Read:
        """Read a poll to its end. ``reason``: why it starts from the beginning, if we ask for that."""
        self.progress("fetch", 0, 0)
        bundle = self.scratch / "answers"
        with source.poll(asked) as poll, AnswerBundle(bundle) as answers:
            if isinstance(poll, FilePoll):
                batches, whole, aside = self._files(poll, answers)
            else:
                whole, aside = poll.whole or asked.checkpoint is None, poll.set_aside
                batches = self._pages(poll, answers, whole=whole)
            sha256, checkpoint = answers.close(), poll.checkpoint
        return _Read(
            batches=batches,
            plan=f"full:{reason or FullReason.RESTATED}" if whole else "deltas",
            checkpoint=checkpoint,
            bundle=bundle,
            answers=sha256,
            set_aside=dict(aside),
        )

    def _pages(self, poll: Poll, answers: AnswerBundle, *, whole: bool) -> dict[ListName, Sequence[Batch]]:
        lists = {name: self._spool(name, whole=whole) for name in self.names}
        for page in poll.pages():
            answers.add(len(page.answer), (page.answer,))
            _add(lists, page.records)
            self.progress("fetch", page.done, page.total)
        self.progress("sort", 0, 0)
        return {name: (spool.batch(),) for name, spool in lists.items()}

    def _files(
        self, poll: FilePoll, answers: AnswerBundle
    ) -> tuple[dict[ListName, Sequence[Batch]], bool, Mapping[str, int]]:
        """Return the batches of files, True if they begin with a whole list, and what was set aside."""
        found: dict[ListName, list[Batch]] = {name: [] for name in self.names}
        aside: Counter[str] = Counter()
        for file in poll.files():
            if file.path is not None:
                with storage(file.path, "read"):
                    length = file.path.stat().st_size
                answers.add(length, pieces_of(file.path))
            aside.update(file.set_aside)
            if file.list in found:
                found[file.list].append(file.batch)
        whole = any(isinstance(batch, WholeList) for batches in found.values() for batch in batches)
        return {name: tuple(batches) for name, batches in found.items()}, whole, aside

    def _spool(self, name: ListName, *, whole: bool) -> ListSpool:
        return self.spools.enter_context(ListSpool(self.scratch, name, whole=whole))


def _add(lists: Mapping[ListName, ListSpool], records: Iterable[Record]) -> None:
    of_lists: dict[ListName, list[Record]] = {}
    for record in records:
        of_lists.setdefault(record.list, []).append(record)
    for name, some in of_lists.items():
        if name in lists:
            lists[name].add(some)


def _keep(folder: FeedFolder, name: ListName, read: _Read) -> None:
    """Keep the raw answers as evidence of what they changed in a list."""
    link_file(read.bundle, folder.path(layout.answers_path(name, read.answers)))


_PRIVATE: Final = 0o700


@contextmanager
def _scratch(folder: FeedFolder) -> Iterator[Path]:
    try:
        yield folder.make_staging()
    finally:
        folder.remove_staging()
