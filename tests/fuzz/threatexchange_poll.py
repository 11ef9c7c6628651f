"""Answers of ThreatExchange: JSON, in which the token stands."""

from pathlib import Path

from fuzz.partner_polls import SECRET, read_twice
from syncd.sources.selection import RecordFilter
from syncd.sources.threatexchange import ThreatExchange, ThreatExchangePoll

_SOURCE = ThreatExchange(
    name="threatexchange",
    url="https://a.example",
    group="77",
    token_file=Path("/nowhere"),
    include=RecordFilter(votes=1),
    exclude=RecordFilter(members=("13",), statuses=("UNKNOWN",), classifications=("other",), votes=3),
)


def one(content: bytes) -> None:
    """Poll with filters."""
    read_twice(content, lambda peer, request: ThreatExchangePoll(_SOURCE, peer, request, f"123456789|{SECRET}"))
