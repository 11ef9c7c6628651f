"""Event streams as bytes (WHATWG HTML, 9.2.6)."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import SourceError
from syncd.fetch.event_stream import EventParser, ServerSentEvent

PROTOCOL = (
    b'retry: 2000\n\nid: 7f-1\nevent: published\ndata: {"list":"iwf.images","version":7}\n\n: beat\n\n'
    b'id: 7f-2\nevent: published\ndata: {"list":"iwf.images","version":8}\n\n'
)
PUBLISHED = [
    ServerSentEvent("published", '{"list":"iwf.images","version":7}', "7f-1"),
    ServerSentEvent("published", '{"list":"iwf.images","version":8}', "7f-2"),
]


def parse(*chunks: bytes) -> list[ServerSentEvent]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def test_a_stream_as_the_protocol_gives_it() -> None:
    """Events, the time to wait before connecting again, the last id, and comments that count as signs of life."""
    parser = EventParser()
    assert list(parser.feed(PROTOCOL)) == PUBLISHED
    assert (parser.retry, parser.last_id, parser.lines) == (2.0, "7f-2", 12)


@pytest.mark.parametrize(
    ("content", "events"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [ServerSentEvent("message", "YHOO\n+2\n10", "")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            [
                ServerSentEvent("message", "first event", "1"),
                ServerSentEvent("message", "second event", ""),
                ServerSentEvent("message", " third event", ""),
            ],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [ServerSentEvent("message", "", ""), ServerSentEvent("message", "\n", "")]),
        (
            b"data:test\n\ndata: test\n\n",
            [ServerSentEvent("message", "test", ""), ServerSentEvent("message", "test", "")],
        ),
    ],
    ids=["three lines", "comment and ids", "empty data, and one that is not complete", "one space is removed"],
)
def test_the_examples_of_the_standard(content: bytes, events: list[ServerSentEvent]) -> None:
    """What HTML 9.2.6 says of its examples, to the letter."""
    assert parse(content) == events


@pytest.mark.parametrize(
    ("content", "events"),
    [
        (b"\xef\xbb\xbfdata: a\n\n", [ServerSentEvent("message", "a", "")]),
        (b"data: a\n\xef\xbb\xbfdata: b\n\n", [ServerSentEvent("message", "a", "")]),
        (
            b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n",
            [ServerSentEvent("message", "a", "1"), ServerSentEvent("message", "b", "1")],
        ),
        (b"event: x\n\ndata: a\n\n", [ServerSentEvent("message", "a", "")]),
        (b"data: \xff\n\n", [ServerSentEvent("message", "\ufffd", "")]),
        (b"retry: soon\nwhat: ever\nDATA: a\n\n", []),
        (b"id: 9\n\ndata: a\n\n", [ServerSentEvent("message", "a", "9")]),
    ],
    ids=["BOM", "BOM inside", "NUL in an id", "a kind alone", "not UTF-8", "unknown fields", "an id alone"],
)
def test_the_corners(content: bytes, events: list[ServerSentEvent]) -> None:
    """A BOM counts at the start only; an id with NUL is ignored; what has no data is no event, but may move the id."""
    assert parse(content) == events


@given(st.lists(st.integers(0, len(PROTOCOL)), max_size=12), st.sampled_from([b"\n", b"\r", b"\r\n"]))
def test_chunks_and_line_ends_make_no_difference(cuts: list[int], end: bytes) -> None:
    """However the network cuts a stream, and however its lines end, the events are the same."""
    content = PROTOCOL.replace(b"\n", end)
    places = [0, *sorted(cuts), len(content)]
    chunks = [content[start:stop] for start, stop in pairwise(places)]
    assert parse(*chunks) == PUBLISHED


@given(st.lists(st.sampled_from([b"data", b":", b" ", b"a", b"\r", b"\n", b"id: 1", b"event: e", b"\0"]), max_size=30))
def test_one_byte_at_a_time_is_the_same(parts: list[bytes]) -> None:
    """Of anything at all, a byte at a time gives what the whole gives."""
    content = b"".join(parts)
    assert parse(*(content[at : at + 1] for at in range(len(content)))) == parse(content)


@given(st.binary(max_size=2000))
def test_garbage_is_no_fault(content: bytes) -> None:
    """Bytes that are no event stream give events or nothing, never an exception."""
    parse(content)


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([b"x" * 1000] * 17, "the event stream has a line of more than 16384 bytes"),
        ([b"x" * 17000 + b"\n"], "the event stream has a line of more than 16384 bytes"),
        ([b"data: " + b"x" * 16000 + b"\n"] * 5, "the event stream has an event of more than 65536 bytes"),
    ],
    ids=["a line without end", "a long line", "an event without end"],
)
def test_what_has_no_end_is_cut_off(chunks: list[bytes], message: str) -> None:
    """Memory is bounded, whatever comes."""
    with pytest.raises(SourceError, match=message):
        parse(*chunks)
