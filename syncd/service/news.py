"""What is new, for those who wait for it: the newest version of each list, and that something happened at all.

Only the newest version of a list is ever owed, so nothing queues up for a slow reader. Safe to share between threads.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from syncd.model import ListName


@dataclass(frozen=True)
class Item:
    """A list's newest version. ``number`` rises with every publication of any list."""

    number: int
    list: ListName
    version: int


class Announcements:
    """``epoch`` tells this run from those before, whose numbers mean nothing: a word without ``-``."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self._items: dict[ListName, Item] = {}
        self._number = 0
        self._turn = threading.Lock()
        self._on_published: list[Callable[[], None]] = []
        self._on_any: list[Callable[[], None]] = []

    @property
    def number(self) -> int:
        """Of the newest item; 0: there is none."""
        return self._number

    def tell(self, name: ListName, version: int) -> None:
        """A version is in force: whoever asks is given it from now on."""
        with self._turn:
            known = self._items.get(name)
            if known is not None and known.version == version:
                return
            self._number += 1
            self._items[name] = Item(self._number, name, version)
            listeners = (*self._on_published, *self._on_any)
        _call(listeners)

    def changed(self) -> None:
        """Something else that people look at: a sync ended, a matcher checked in."""
        with self._turn:
            listeners = tuple(self._on_any)
        _call(listeners)

    def since(self, number: int) -> tuple[Item, ...]:
        """The lists that changed after ``number``, in the order in which they did; 0: all."""
        with self._turn:
            return tuple(sorted((one for one in self._items.values() if one.number > number), key=_number))

    def listen(self, callback: Callable[[], None], *, to_all: bool = False) -> Callable[[], None]:
        """Call back after each publication, or ``to_all`` that happens, in whatever thread; returns what ends it."""
        listeners = self._on_any if to_all else self._on_published
        with self._turn:
            listeners.append(callback)

        def end() -> None:
            with self._turn, contextlib.suppress(ValueError):
                listeners.remove(callback)

        return end

    async def changes(self) -> AsyncIterator[None]:
        """Yield after anything happened, once for however much."""
        loop, happened = asyncio.get_running_loop(), asyncio.Event()
        end = self.listen(lambda: wake(loop, happened.set), to_all=True)
        try:
            while True:
                await happened.wait()
                happened.clear()
                yield
        finally:
            end()


def wake(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    """Call ``what`` in a loop of another thread, where that still runs."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(what)


def _call(listeners: tuple[Callable[[], None], ...]) -> None:
    for one in listeners:
        one()


def _number(item: Item) -> int:
    return item.number
