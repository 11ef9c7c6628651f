"""Asking a partner for the next answer while the last one is being read: most of a first poll is waiting."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from syncd.fetch.partner import PartnerPeer

_T = TypeVar("_T")


class ReadAhead:
    """Makes calls in a thread, one after the other. Use as a context manager: no call outlives it."""

    def __init__(self, peer: PartnerPeer) -> None:
        self._peer = peer
        self._executor = ThreadPoolExecutor(1, "syncd-partner")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is not None:
            self._peer.close()  # whoever gives up does not wait for an answer
        self._executor.shutdown(cancel_futures=True)

    def start(self, call: Callable[[], _T]) -> Callable[[], _T]:
        """Start a call; the function that is returned waits for its result, or raises what it raised."""
        return self._executor.submit(call).result
