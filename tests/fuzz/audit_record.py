"""Records of the audit log: a line with the act's name, then its fields; and the check of a chain of such rows."""

import json
from contextlib import suppress

from syncd.acts import act_named
from syncd.catalog.chain import RawRecord, check


def one(content: bytes) -> None:
    """Read an act back, and check a chain with this record."""
    name, _, fields = content.decode(errors="replace").partition("\n")
    with suppress(ValueError, RecursionError):  # what `act_named` documents, and what its callers expect of JSON
        act_named(name, json.loads(fields)).words  # noqa: B018 - every act can be put in words
    check([RawRecord(1, "2026-01-01T12:00:00Z", "alice", name, fields, "0" * 64)])
