"""Answers of StopNCII's hash exchange: JSON."""

from pathlib import Path

from fuzz.partner_polls import SECRET, read_twice
from syncd.sources.partner import Redaction
from syncd.sources.selection import RecordFilter
from syncd.sources.stopncii import StopNcii, StopNciiPoll

_SOURCE = StopNcii(
    name="stopncii",
    url="https://a.example",
    function_key_file=Path("/nowhere"),
    subscription_key_file=Path("/nowhere"),
    exclude=RecordFilter(statuses=("received",), votes=2),
)


def one(content: bytes) -> None:
    """Poll with filters."""
    read_twice(content, lambda peer, request: StopNciiPoll(_SOURCE, peer, request, Redaction(SECRET)))
