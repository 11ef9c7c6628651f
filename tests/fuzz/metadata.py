"""Signed metadata of each role, before its signatures are checked and after."""

from contextlib import suppress

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from syncd.errors import SyncdError
from syncd.trust.offline import delegated_roles, read_audit, read_freshness, read_publication, verify_newest
from syncd.trust.parse import parse


def one(content: bytes) -> None:
    """Parse a file as each kind, and read the fields beyond those of TUF; verify a feed of this file alone."""
    with suppress(SyncdError):
        parse(Root, content, "file")
    with suppress(SyncdError):
        parse(Snapshot, content, "file")
    with suppress(SyncdError):
        delegated_roles(parse(Targets, content, "file").signed)
    for read in (read_freshness, read_publication, read_audit):
        with suppress(SyncdError):
            read(parse(Timestamp, content, "file").signed)
    verify_newest(lambda name: None if "root" in name else content, content, 1)
