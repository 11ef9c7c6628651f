"""Announcements to waiting clients: the newest version of each list, and the bare fact that something changed.

A client only ever needs the newest version of a list, so nothing queues up for a slow one. Safe to share between
threads.
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
    """Newest versions, numbered. Numbers are valid within one run, which ``epoch``, a word without ``-``, names."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self._items: dict[ListName, Item] = {}
        self._number = 0
        self._lock = threading.Lock()
        self._on_published: list[Callable[[], None]] = []
        self._on_any: list[Callable[[], None]] = []

    @property
    def number(self) -> int:
        """Number of the newest item; 0 before the first one."""
        return self._number

    def announce(self, name: ListName, version: int) -> None:
        """Announce a version that is in force, unless it is known already."""
        with self._lock:
            known = self._items.get(name)
            if known is not None and known.version == version:
                return
            self._number += 1
            self._items[name] = Item(self._number, name, version)
            listeners = (*self._on_published, *self._on_any)
        _call(listeners)

    def changed(self) -> None:
        """Announce any other visible change: a sync ended, a matcher checked in."""
        with self._lock:
            listeners = tuple(self._on_any)
        _call(listeners)

    def since(self, number: int) -> tuple[Item, ...]:
        """Return the lists that changed after ``number``, in the order of their changes; after 0, all."""
        with self._lock:
            return tuple(sorted((item for item in self._items.values() if item.number > number), key=_number))

    def listen(self, callback: Callable[[], None], *, to_all: bool = False) -> Callable[[], None]:
        """Call ``callback`` after each publication, or if ``to_all`` after each change, in any thread.

        Return a function that ends this.
        """
        listeners = self._on_any if to_all else self._on_published
        with self._lock:
            listeners.append(callback)

        def end() -> None:
            with self._lock, contextlib.suppress(ValueError):
                listeners.remove(callback)

        return end

    async def changes(self) -> AsyncIterator[None]:
        """Yield after changes, once for all that came since the last time."""
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
    """Call ``what`` in the event loop of another thread, if that still runs."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(what)


def _call(listeners: tuple[Callable[[], None], ...]) -> None:
    for listener in listeners:
        listener()


def _number(item: Item) -> int:
    return item.number
