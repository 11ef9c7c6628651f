"""The stream that notifies open pages of changes (WHATWG HTML, 9.2). The pages then reload their content."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from enum import Enum, auto
from typing import Final

from syncd.service.news import Announcements, wake

GAP: Final = 5.0
"""Fewest seconds between two ticks: the first is sent at once; a thousand check-ins after it make one more."""
_LOOK: Final = 0.5
"""Seconds between two checks of the session during that gap."""


class Line(Enum):
    """The state of one page's stream."""

    OPEN = auto()
    ENDED = auto()
    """the session has ended"""
    CLOSED = auto()
    """the server stops; the page may reconnect"""


async def stream(
    news: Announcements, look: Callable[[], Line], beat: float, gap: float = GAP
) -> AsyncGenerator[bytes, None]:
    """Yield ticks for one page until its session ends, and a comment after ``beat`` seconds without one."""
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
                lists = {item.list: item.version for item in news.since(seen)}
                yield f"event: tick\ndata: {json.dumps({'lists': lists})}\n\n".encode()
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
