"""Polls of partners that sign nothing, whose answers are parts of the input, separated by the byte 0x1e."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from syncd.errors import SourceError
from syncd.fetch import Meter
from syncd.fetch.partner import PartnerCall
from syncd.model import MAX_DIGEST_BYTES, MAX_ENTRY_BYTES, MAX_LABEL_BYTES
from syncd.sources.statements import Page, Poll, PollRequest, Record

SECRET: Final = "correct-horse-battery"
_NOW: Final = datetime(2026, 2, 3, 10, tzinfo=UTC)
_SEPARATOR: Final = b"\x1e"
_DIGEST: Final = re.compile("[0-9a-fA-F]{32}")


class CannedPeer:
    """Answers each call with the next part of the input, until there is none."""

    server_time: datetime | None = None

    def __init__(self, content: bytes) -> None:
        self._answers = iter(content.split(_SEPARATOR))

    def ask(self, call: PartnerCall, limit: int, read: Callable[[bytes], Any]) -> Any:
        """See `syncd.fetch.partner.PartnerPeer.ask`."""
        assert len(call.target) < 20_000
        body = next(self._answers, None)
        if body is None or len(body) > limit:
            raise SourceError("no answer")
        return read(body)

    def close(self) -> None:
        """Nothing to close."""


class _Open(Protocol):
    """Opens a poll of one partner."""

    def __call__(self, peer: Any, request: PollRequest) -> Poll: ...


def read_twice(content: bytes, opened: _Open) -> None:
    """Poll from the beginning, and then from the checkpoint that was reached, until the input ends."""
    peer = CannedPeer(content)
    checkpoint = None
    for _ in range(2):
        poll = opened(peer=peer, request=PollRequest(checkpoint, _NOW, Path("/nowhere"), Meter()))
        assert poll.whole or checkpoint is not None
        for record in _records(poll):
            _check_record(record)
        _check_reasons(poll.set_aside)
        checkpoint = json.loads(json.dumps(poll.checkpoint))


def _records(poll: Poll) -> Iterator[Record]:
    for page in poll.pages():
        _check_answer(page)
        yield from page.records


def _check_answer(page: Page) -> None:
    assert SECRET.encode() not in page.answer
    assert page.total >= 0 <= page.done


def _check_record(record: Record) -> None:
    """Check what the spool refuses as a fault of the adapter."""
    assert 0 < len(record.entry.encode()) <= MAX_ENTRY_BYTES
    assert len(record.label.encode()) <= MAX_LABEL_BYTES
    assert len(set(record.fingerprints)) == len(record.fingerprints)
    for algorithm, digest in record.fingerprints:
        assert 0 < len(digest) <= MAX_DIGEST_BYTES
        assert len(digest) == (32 if algorithm.endswith("-sha256") else algorithm.known_width)


def _check_reasons(reasons: Mapping[str, int]) -> None:
    """Check that what people are shown contains no digest."""
    assert len(reasons) <= 65
    for reason in reasons:
        assert len(reason) < 100
        assert reason.isprintable()
        assert not _DIGEST.search(reason)
