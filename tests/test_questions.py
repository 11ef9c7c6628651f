"""Questions to the daemon: its operators get the owner's answers, and nobody else gets any."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from command_line import Ran, configure, syncd
from disks import root_only
from syncd.ask import child
from syncd.ask.questions import QUESTIONS, question
from syncd.errors import AbandonedError, RefusedError, StoreError, UsageError
from syncd.service import questions as asked
from syncd.service import worker
from syncd.service.questions import MOST, Questions
from test_bad_disk import NOBODY, as_nobody
from test_daemon import Process, text
from world import Clock, World, row, rows

COMMANDS = (
    ("snapshots", "iwf.images"),
    ("diff", "iwf.images", "1", "2"),
    ("audit",),
    ("audit", "--list", "iwf.images", "--limit", "1"),
    ("audit", "verify"),
    ("holds",),
    ("verify",),
    ("lookup", f"sha256:{row(8)[1]}", "--version", "1"),
    ("lookup", f"sha256:{row(1)[1]}"),
    ("explain", f"sha256:{row(2)[1]}"),
)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A daemon on a state with two versions, whose socket belongs to a group of nobody's."""
    root_only()
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        world = World(folder, Clock(datetime.now(UTC)))
        world.publish(full=rows(0, 5))
        world.sync()
        world.publish(add=[row(8)])
        world.sync()
        configure(folder / "syncd.toml", text(world), monkeypatch)
        for command in (*COMMANDS, ("status",), ("matchers",)):  # loads them: others may not be able to read our files
            assert syncd(*command).code in {0, 10}
        with Process(folder / "syncd.toml") as daemon:
            assert syncd("sync").code == 0  # the first one publishes the list again, with the limits of its age
            os.chown(folder / "c.sock", 0, NOBODY)
            yield world
            assert daemon.stop()["unfinished"] == []
    finally:
        shutil.rmtree(folder)


def timeless(ran: Ran) -> Ran:
    """An answer without the second in which it was given."""
    return replace(ran, out=re.sub(r'"(at|age_seconds)": [^,]*', r'"\1"', ran.out))


def test_operators_get_the_answers_of_the_owner(served: World) -> None:
    """Over the socket, word for word and with the same exit code; without a second user."""
    for command in COMMANDS:
        for more in ((), ("--json",)):
            own = syncd(*command, *more)
            with as_nobody():
                assert timeless(syncd(*command, *more)) == timeless(own), command
            assert own.code in {0, 10}


def test_the_owner_asks_the_daemon_what_it_answers_at_once(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting SQL and columns would take most of the time; if the daemon cannot answer, the state is read."""
    quick = [command for command in COMMANDS if command[0] in {"snapshots", "lookup", "explain"}]
    read = [timeless(syncd(*command, "--json")) for command in quick]
    with monkeypatch.context() as around:
        around.delattr("syncd.ask.questions.answer")
        assert [timeless(syncd(*command, "--json")) for command in quick] == read

    def stuck(*_: object) -> None:
        raise StoreError("no answer")

    monkeypatch.setattr("syncd.cli.operator.send_order", stuck)
    assert [timeless(syncd(*command, "--json")) for command in quick] == read


def test_an_error_reaches_the_operator(served: World) -> None:
    """As it reaches the owner, with its hint and exit code."""
    for command in (
        ("diff", "iwf.images", "1", "9"),
        ("snapshots", "iwf.image"),
        ("lookup", f"sha256:{row(1)[1]}", "--version", "7"),
        ("lookup", "sha256:00"),
        ("explain", "sha256:00"),
        ("explain", "photodna:" + "0" * 288),
        ("explain", f"sha256:{row(1)[1]}", "--at", "2100-01-01"),
    ):
        own = syncd(*command)
        with as_nobody():
            assert syncd(*command) == own
        assert own.code == 2


def test_no_row_crosses_the_socket_that_was_not_asked_for(served: World) -> None:
    """Counts, labels, versions; digests and entry ids only in the answer to a look-up of that very digest."""
    secrets = {part for one in [*rows(0, 5), row(8)] for part in one[1:3]}
    answered = {COMMANDS[-3]: {row(8)[1]}, COMMANDS[-2]: {*row(1)[1:3]}, COMMANDS[-1]: {*row(2)[1:3]}}
    with as_nobody():
        for command in COMMANDS:
            ran = syncd(*command, "--json")
            found = {one for one in secrets if f'"{one}"' in ran.out or f":{one}" in ran.out}
            assert found == answered.get(command, set()), command


def test_an_altered_list_is_found_by_an_operator_too(served: World) -> None:
    """With exit code 4, and the file by its name."""
    segment = max(served.state.feed.path("v1/iwf.images").rglob("*.arrow"), key=lambda path: path.stat().st_size)
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.chmod(0o600)
    segment.write_bytes(content)
    with as_nobody():
        ran = syncd("verify")
    assert ran.code == 4
    assert segment.name in ran.err


def test_who_is_neither_is_told_which_group_to_join(served: World) -> None:
    """Exit code 6 and one message for every question; status and holds as well."""
    os.chown(served.base / "c.sock", 0, 0)
    for command in (*COMMANDS, ("status",), ("matchers",)):
        with as_nobody():
            ran = syncd(*command)
        assert (ran.code, ran.out) == (6, "")
        assert "only members of the group syncd-operators may ask the daemon" in ran.err
        assert "to do: " in ran.err


def test_without_a_daemon_the_owner_is_named(served: World) -> None:
    """As for every command that needs the state."""
    (served.base / "c.sock").rename(served.base / "d.sock")
    with as_nobody():
        ran = syncd("snapshots", "iwf.images")
    (served.base / "d.sock").rename(served.base / "c.sock")
    assert ran.code == 6
    assert f"error: no daemon is running, and {served.state.root} belongs to root" in ran.err


# as the daemon answers them


def hanging() -> subprocess.Popen[bytes]:
    """A process that answers nothing."""
    return worker.start((sys.executable, "-c", "import sys, time; sys.stdin.readline(); time.sleep(600)"))


@pytest.fixture
def make(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Questions]]:
    """Questions about a state, answered by processes of the test's choice."""
    monkeypatch.setattr(asked, "BEAT", 0.01)
    with world.publisher() as publisher:
        yield lambda *start: Questions(world.state, publisher.catalog, world.clock, *start)


def test_a_client_that_goes_away_ends_its_question(make: Callable[..., Questions]) -> None:
    """It is noticed by the next sign of life, and the process is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(hanging())
        return started[0]

    with closing(make(start).answers("verify", {})) as answers:
        assert next(answers) == {"beat": True}
        assert started[0].poll() is None
    assert started[0].poll() is not None


def test_only_a_few_long_questions_are_answered_at_a_time(make: Callable[..., Questions]) -> None:
    """One more is refused at once; there is room again when one has ended. Short ones are not counted."""
    made = make(hanging)
    waiting = [made.answers("verify", {}) for _ in range(MOST)]
    for one in waiting:
        next(one)
    with pytest.raises(RefusedError, match="already answers 2 long questions"):
        next(made.answers("audit_verify", {}))
    assert list(made.answers("audit", {"limit": 1}))[-1] == {"end": 0}
    waiting.pop().close()
    again = made.answers("verify", {})
    assert next(again) == {"beat": True}
    for one in (again, *waiting):
        one.close()


def test_a_daemon_that_stops_ends_the_questions(make: Callable[..., Questions]) -> None:
    """Whoever waits is told, and nothing is left running."""
    made = make(hanging)
    answers = made.answers("verify", {})
    next(answers)
    made.stop()
    with pytest.raises(AbandonedError, match="the daemon is stopping"):
        list(answers)
    with pytest.raises(AbandonedError):
        next(made.answers("verify", {}))


def test_a_process_that_dies_is_a_storage_error(make: Callable[..., Questions]) -> None:
    """With a hint at the likely cause; its place is free again."""
    made = make(lambda: worker.start(("/bin/false",)))
    for _ in range(MOST + 1):
        with pytest.raises(StoreError, match="ended with status 1 before it was done"):
            list(made.answers("verify", {}))


def test_a_process_that_cannot_be_started_is_a_storage_error(make: Callable[..., Questions]) -> None:
    """Its place is free again as well."""
    made = make(lambda: worker.start(("/nowhere",)))
    for _ in range(MOST + 1):
        with pytest.raises(StoreError, match="could not be answered"):
            list(made.answers("verify", {}))


def answered(world: World, do: str, **arguments: Any) -> list[dict[str, Any]]:
    """What the process writes."""
    line = {
        "do": do,
        "arguments": arguments,
        "state_dir": str(world.state.root),
        "now": world.clock().isoformat(),
    }
    out = io.BytesIO()
    child.run(io.BytesIO(json.dumps(line).encode() + b"\n"), out, lambda: 0.0)
    return [json.loads(one) for one in out.getvalue().splitlines()]


def test_the_process_reports_progress_and_the_exit_code(standing: World) -> None:
    """Rarely, since each report is a line on the socket."""
    parts = answered(standing, "verify")
    assert [key for part in parts for key in part] == ["progress", "document", "end"]
    assert parts[0]["progress"]["stage"] == "files"
    assert (parts[1]["document"]["proved"], parts[2]["end"]) == (True, 0)


def test_a_bug_in_the_process_is_told_by_its_kind_only(standing: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its message may hold a digest."""

    def fail(*_: object, **__: object) -> None:
        raise ValueError("0123456789abcdef")

    monkeypatch.setattr("syncd.ask.proof.prove_state", fail)
    (part,) = answered(standing, "verify")
    assert part["error"]["message"] == "internal error (ValueError)"
    assert part["end"] == 1


@pytest.mark.parametrize("name", QUESTIONS)
def test_arguments_that_a_question_does_not_have_are_refused(name: str) -> None:
    """Without repeating them."""
    with pytest.raises(UsageError, match="are not valid") as refused:
        question(name, {"secret": "0123456789abcdef"})
    assert "0123456789abcdef" not in str(refused.value) + refused.value.hint
