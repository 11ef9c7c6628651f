"""Answers of Tech Against Terrorism's hash list, the log-in's first: JSON."""

from pathlib import Path

from fuzz.partner_polls import SECRET, read_twice
from syncd.sources.selection import RecordFilter
from syncd.sources.tcap import Tcap, TcapPoll

_SOURCE = Tcap(
    name="tcap",
    url="https://a.example",
    username="us",
    password_file=Path("/nowhere"),
    exclude=RecordFilter(classifications=("other",)),
)


def one(content: bytes) -> None:
    """Log in and poll, with a filter."""
    read_twice(content, lambda peer, request: TcapPoll(_SOURCE, peer, request, SECRET))
