"""Answers of NCMEC's Hash Sharing API: XML."""

import base64
from pathlib import Path

from fuzz.partner_polls import SECRET, read_twice
from syncd.sources.ncmec import Ncmec, NcmecPoll
from syncd.sources.ncmec_page import FINGERPRINTS
from syncd.sources.partner import Redaction
from syncd.sources.selection import RecordFilter

_BASIC = base64.b64encode(f"us:{SECRET}".encode()).decode()
_SOURCE = Ncmec(
    name="ncmec",
    url="https://a.example",
    username="us",
    password_file=Path("/nowhere"),
    fingerprints=FINGERPRINTS,
    include=RecordFilter(classifications=("A1", "")),
    exclude=RecordFilter(members=("13",), votes=2),
)


def one(content: bytes) -> None:
    """Poll with all fingerprints and filters."""
    read_twice(content, lambda peer, request: NcmecPoll(_SOURCE, peer, request, Redaction(SECRET, _BASIC)))
