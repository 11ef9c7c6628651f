"""The stream that tells open pages that something changed (WHATWG HTML, 9.2). What, they ask for themselves."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from enum import Enum, auto
from typing import Final

from syncd.service.news import Announcements, wake

GAP: Final = 5.0
"""Seconds between two ticks, at least: the first is told at once, and a thousand check-ins after it are one more."""
_LOOK: Final = 0.5
"""Seconds between two looks whether the session holds, meanwhile."""


class Line(Enum):
    """How it stands with one page's stream."""

    OPEN = auto()
    ENDED = auto()
    """nobody is signed in any more"""
    CLOSED = auto()
    """the server stops; the page may come again"""


async def stream(
    news: Announcements, look: Callable[[], Line], beat: float, gap: float = GAP
) -> AsyncGenerator[bytes, None]:
    """Ticks for one page, until its session ends; a comment every ``beat`` seconds in which nothing happened."""
    loop, happened = asyncio.get_running_loop(), asyncio.Event()
    stop_listening = news.listen(lambda: wake(loop, happened.set), to_all=True)
    seen = news.number
    try:
        yield b"retry: 2000\n\n"
        while look() is Line.OPEN:
            if not await _within(happened, beat):
                yield b": beat\n\n"
                continue
            happened.clear()
            if look() is Line.OPEN:
                yield _tick(news, seen)
                seen = news.number
                await _pause(look, gap)
        if look() is Line.ENDED:
            yield b"event: ended\ndata: {}\n\n"
    finally:
        stop_listening()


async def _pause(look: Callable[[], Line], seconds: float) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while look() is Line.OPEN and (left := end - asyncio.get_running_loop().time()) > 0:
        await asyncio.sleep(min(left, _LOOK))


async def _within(happened: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await happened.wait()
    except TimeoutError:
        return False


def _tick(news: Announcements, seen: int) -> bytes:
    lists = {one.list: one.version for one in news.since(seen)}
    return f"event: tick\ndata: {json.dumps({'lists': lists})}\n\n".encode()
