"""Event streams, in two chunks."""

from syncd.fetch.event_stream import EventParser


def one(content: bytes) -> None:
    """Parse a stream."""
    parser, half = EventParser(), len(content) // 2
    for chunk in (content[:half], content[half:]):
        list(parser.feed(chunk))
