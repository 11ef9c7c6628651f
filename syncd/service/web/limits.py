"""Limits of the HTTP server, for the daemon and for a partner's feed alike."""

from dataclasses import dataclass
from typing import Final

MAX_BODY: Final = 64 << 10
"""Largest request body, in bytes."""


@dataclass(frozen=True)
class Limits:
    """Limits on connections, and on the time that clients may take. Times are in seconds."""

    connections: int = 4096
    """a connection beyond this is answered with 503"""
    spare: int = 64
    """beyond this many more, a new connection is closed without an answer"""
    streams: int = 2000
    """of events, open at the same time; one token may use half of them, rounded up"""
    head_within: float = 10.0
    """for the head and body of a request to arrive"""
    idle: float = 75.0
    """until the next request on a connection that is kept open"""
    take_within: float = 30.0
    """a client that takes no byte of an answer for this long is dropped"""
    stream_take_within: float = 10.0
    """the same for a stream of events"""
    beat: float = 15.0
    """between two heartbeats on a stream"""
    look: float = 1.0
    """between two checks of the connections, and of files that change"""
    remember: float = 1.0
    """for which an answer of `/readyz` is kept"""
    finish_within: float = 6.0
    """for answers in progress when the server stops"""

    @property
    def streams_of_token(self) -> int:
        """Most event streams that one token may have open: half, so that it cannot lock out the others."""
        return (self.streams + 1) // 2
