"""A list as an adapter's polls make it: the adapter's side of every comparison with a fake."""

import json
import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import JsonValue

from syncd.fetch import Meter
from syncd.sources.statements import Page, PollRequest, Record, StatedSource


@dataclass
class Mirror:
    """The records after every completed poll, and the checkpoint of the last one."""

    source: StatedSource
    records: dict[tuple[str, str], Record] = field(default_factory=dict)
    checkpoint: JsonValue = None
    pages: list[Page] = field(default_factory=list)
    """of the last completed poll"""
    set_aside: dict[str, int] = field(default_factory=dict)
    """of the last completed poll"""
    whole: bool = False
    """the last completed poll stated everything"""
    received: int = 0
    """bytes"""

    def poll(self, now: datetime) -> None:
        """Poll once. If it fails, nothing of it is used."""
        meter = Meter()
        with (
            tempfile.TemporaryDirectory() as scratch,
            self.source.poll(PollRequest(self.checkpoint, now, Path(scratch), meter)) as poll,
        ):
            records = {} if poll.whole else dict(self.records)
            pages = []
            for page in poll.pages():
                pages.append(page)
                for record in page.records:
                    if record.fingerprints:
                        records[record.list, record.entry] = record
                    else:
                        records.pop((record.list, record.entry), None)
            self.records, self.pages, self.whole = records, pages, poll.whole
            self.checkpoint = json.loads(json.dumps(poll.checkpoint))
            self.set_aside = dict(poll.set_aside)
            self.received = meter.total

    @property
    def state(self) -> dict[tuple[str, str], tuple[str, frozenset[tuple[str, str]]]]:
        """The records in the form in which fakes state them."""
        return {
            key: (record.label, frozenset((str(one.algorithm), one.digest.hex()) for one in record.fingerprints))
            for key, record in self.records.items()
        }
