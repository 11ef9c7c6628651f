import io
import json
import os
import re
from dataclasses import fields
from pathlib import Path

import pytest

from syncd import events
from syncd.errors import StoreError
from syncd.event import Event, FaultEvent, HoldEvent, SyncEnded, SyncEvent
from syncd.events import EVENTS, CoolDown, InternalError, ListSynced, SyncFinished
from syncd.outcomes import Level, Outcome
from syncd.service.log import emitter
from world import START, Clock

DOCUMENT = (Path(__file__).parents[1] / "docs" / "events.md").read_text()


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.name())
def test_every_event_and_field_is_documented(kind: type[Event]) -> None:
    """Each event has a section, and the section a row for each field and no other."""
    found = re.search(rf"^## {kind.name()}\n(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S)
    assert found
    rows = re.findall(r"^\| `([a-z_]+)` \| .+ \|$", found[1], re.M)
    assert rows == [field.name for field in fields(kind)]


def test_the_set_is_closed() -> None:
    """Every class of the module is in the set, and the document names no other."""
    classes = {one for one in vars(events).values() if isinstance(one, type) and issubclass(one, Event)}
    classes -= {Event, FaultEvent, HoldEvent, SyncEvent, SyncEnded}
    assert classes == set(EVENTS)
    assert re.findall(r"^## ([a-z_]+)$", DOCUMENT, re.M) == [kind.name() for kind in EVENTS]


def test_no_field_could_hold_what_is_secret() -> None:
    """No event has a field for a digest, an entry or a token."""
    names = {field.name for kind in EVENTS for field in fields(kind)}
    assert not [name for name in names if re.search("digest|entry|token|hash|key|url", name)]


def test_an_event_is_one_line_of_json() -> None:
    """With time, level and name beside its fields."""
    stream = io.StringIO()
    emitter(stream, Clock())(CoolDown("5afe", "iwf", START, 2))
    assert json.loads(stream.getvalue()) == {
        "timestamp": "2026-01-01T12:00:00.000000Z",
        "level": "warning",
        "event": "cool_down",
        "sync_id": "5afe",
        "source": "iwf",
        "until": "2026-01-01T12:00:00Z",
        "failures": 2,
    }
    assert stream.getvalue().count("\n") == 1


class Terminal(io.StringIO):
    """Where a person looks on."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_an_event_is_readable_and_cannot_forge_lines() -> None:
    """Plain words instead of JSON; control characters are shown, not obeyed."""
    stream = Terminal()
    emitter(stream, Clock())(events.ConfigRejected("bad\n\x1b[2J", "do"))
    assert "config_rejected" in stream.getvalue()
    assert "bad\\x0a\\x1b[2J" in stream.getvalue()
    assert stream.getvalue().count("\n") == 1
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(stream.getvalue())


def test_lines_carry_their_priority_in_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`journalctl -p warning` finds them; a stream that does not go to the journal itself gets no prefix."""
    with (tmp_path / "journal").open("w+") as stream, (tmp_path / "file").open("w+") as other:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        for written in (stream, other):
            emit = emitter(written, Clock())
            for event in (
                CoolDown("5afe", "iwf", START, 2),
                events.DaemonReady("/s"),
                events.ConfigRejected("bad", ""),
            ):
                emit(event)
            written.seek(0)
        assert [line[:4] for line in stream] == ["<4>{", "<6>{", "<3>{"]
        assert [json.loads(line)["level"] for line in other] == ["warning", "info", "error"]


def test_readable_text_is_a_setting(tmp_path: Path) -> None:
    """Also where nobody looks on; and JSON where somebody does."""
    stream, terminal = io.StringIO(), Terminal()
    emitter(stream, Clock(), "text")(events.DaemonReady("/s"))
    emitter(terminal, Clock(), "json")(events.DaemonReady("/s"))
    assert "daemon_ready" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    with pytest.raises(json.JSONDecodeError):
        json.loads(stream.getvalue())
    assert json.loads(terminal.getvalue())["event"] == "daemon_ready"


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        (Outcome.PUBLISHED, Level.INFO),
        (Outcome.UNREACHABLE, Level.WARNING),
        (Outcome.HELD, Level.ERROR),
        (Outcome.REJECTED, Level.ERROR),
    ],
)
def test_an_outcome_that_needs_a_person_is_an_error_in_the_log(outcome: Outcome, level: Level) -> None:
    """What is tried again by itself is a warning."""
    finished = SyncFinished("5afe", "iwf", outcome, 0.1, 0, "", "")
    synced = ListSynced("5afe", "iwf", outcome, "iwf.images", 1, 1, "deltas", 0, 0, 0, 0, "", (), "", "")
    assert (finished.importance, synced.importance) == (level, level)


def test_storage_that_fails_is_told_in_words_and_a_bug_is_not() -> None:
    """Who reads the log learns that the disk is full; the words of a bug may hold what the lists hold."""
    full = StoreError("the disk is full", hint="free some")
    assert InternalError.of(full, "here") == InternalError("StoreError", "here", "the disk is full", "free some")
    assert InternalError.of(ValueError("secret"), "here") == InternalError("ValueError", "here", "", "")
