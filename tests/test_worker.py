import contextlib
import errno
import hashlib
import os
import re
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bad_peer import answer, serve
from runbook import what_to_do
from syncd import errors
from syncd.catalog.records import OriginRecord, Position
from syncd.errors import (
    AbandonedError,
    DeadlineExceeded,
    HttpStatusError,
    RefusedError,
    StoreError,
    SyncdError,
)
from syncd.event import Event
from syncd.events import InternalError, ListSynced
from syncd.fetch import Meter
from syncd.format import manifest as manifests
from syncd.format.manifest import SegmentRef
from syncd.outcomes import Outcome
from syncd.pipeline import wire
from syncd.pipeline.held import held_of
from syncd.pipeline.outcome import SyncOutcome
from syncd.pipeline.preparation import LocalList, Prepare, Prepared, Preparing, Progress, Request, VerifiedSource
from syncd.pipeline.prepare import prepare
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.sync import sync_source
from syncd.pipeline.values import Over, Staged, Stated
from syncd.service.syncs import Syncs
from syncd.service.worker import Process, SpareWorker, Worker, start
from world import HEAD, IMAGES, START, World, row, rows

CURE = "; `syncd release 1 --reason R` publishes it, `syncd discard 1 --reason R` drops it"


def sync(
    world: World, by: Prepare, told: Callable[[str, int, int], None] | None = None, **changes: object
) -> SyncOutcome:
    """The operator syncs, prepared by a process."""
    with world.publisher() as publisher:
        return sync_source(publisher, world.source(**changes), world.clock, told, prepared_by=by)


def whole(publisher: Publisher, origin: OriginRecord) -> LocalList:
    """What is held of a list of which nothing was lost."""
    return held_of(publisher.list_state(origin.source, origin.list), Over.ORIGIN)


def request(world: World) -> Request:
    """What a worker is asked for."""
    with world.publisher() as publisher:
        held = {one.list: whole(publisher, one) for one in publisher.catalog.origins()}
        memory = publisher.catalog.source("iwf").memory
    return Request(world.source(), world.state.source("iwf").root, memory, held, world.clock())


@pytest.fixture
def spare() -> Iterator[SpareWorker]:
    """Ended with the test."""
    made = SpareWorker()
    yield made
    made.close()


def test_a_worker_that_cannot_be_started_is_a_storage_failure(world: World) -> None:
    """The sync says why and what to check, and the list stays served; it does not call it a bug."""
    world.publish(full=rows(0, 3))

    def no_memory() -> Process:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    outcome = sync(world, Worker(start=no_memory))
    assert isinstance(outcome.error, StoreError)
    assert outcome.error.message == "the worker process could not be started: [Errno 12] Cannot allocate memory"
    assert "TasksMax=" in outcome.error.hint


def _never(stop: threading.Event) -> None:
    stop.wait(30)


def stuck(tmp_path: Path) -> Worker:
    """A worker that is stuck in a loop of C that no Python signal handler ever interrupts, and ignores SIGTERM."""
    code = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "import hashlib; hashlib.pbkdf2_hmac('sha512', b'x', b'y', 1 << 30)"
    )
    return Worker(start=partial(start, (sys.executable, "-c", code)), grace=0.3)


def test_a_worker_process_prepares_what_this_process_would(world: World) -> None:
    """The same versions, counts and bytes are published from what it hands over: first whole, then by deltas."""
    stages: dict[str, tuple[int, int]] = {}
    world.publish(full=rows(0, 30))
    first = sync(world, Worker(), lambda stage, done, total: stages.update({stage: (done, total)}))
    assert (first.outcome, first.lists[0].plan, first.lists[0].rows) == (Outcome.PUBLISHED, "full:first", 30)
    assert list(stages) == ["verify", "fetch", "check", "stage", "publish", "compact"]
    assert stages["check"] == stages["stage"] == (30, 30)
    assert stages["fetch"] == (length := sum(ref.length for ref in _segments(world)), length)
    world.publish(add=[row(99)], remove=[row(5)])
    world.clock.forward(minutes=1)
    second = sync(world, Worker())
    assert (second.lists[0].version, second.lists[0].plan) == (2, "deltas")
    world.pull()
    assert (len(world.hits(99)), len(world.hits(5))) == (1, 0)
    world.clock.forward(minutes=1)
    assert sync(world, Worker()).outcome is Outcome.UP_TO_DATE


def _segments(world: World) -> tuple[SegmentRef, ...]:
    with world.publisher() as publisher:
        return publisher.list_state("iwf", IMAGES).stack


def test_a_list_fetched_again_is_told_by_its_rows(world: World) -> None:
    """All that is checked, deltas included, and the base that is counted."""
    world.publish(full=rows(0, 30))
    world.sync()
    for segment in (*world.state.source("iwf").root.glob("v1/*/segments/*"), *_published(world)):
        segment.unlink()
    world.publish(add=[row(99)])
    world.clock.forward(minutes=1)
    told: dict[str, tuple[int, int]] = {}
    outcome = sync(world, Worker(), lambda stage, done, total: told.update({stage: (done, total)}))
    assert (outcome.lists[0].plan, told["check"], told["stage"]) == ("full:local_loss", (31, 31), (30, 30))


def _published(world: World) -> list[Path]:
    return list(world.state.feed.root.glob("v1/*/segments/*"))


def test_what_crosses_between_the_processes_is_the_same_on_both_sides(world: World) -> None:
    """A request and every answer are equal to what was sent."""
    world.publish(full=rows(0, 30))
    world.sync()
    world.publish(add=[row(99)])
    asked = request(world)
    assert wire.decode_request(wire.encode_request(asked)) == asked
    results = [step for step in prepare(asked, lambda *_: None, Meter()) if isinstance(step, Prepared)]
    decoded = wire.decode(wire.encode(wire.answer_of(results[0]))).result
    assert decoded
    assert wire.prepared(decoded) == results[0]


def test_a_worker_that_lies_about_what_was_signed_is_not_believed(world: World) -> None:
    """The manifest must be the bytes that were signed, of the list that was asked for, and the line must be one."""
    world.publish(full=rows(0, 3))
    step = next(one for one in prepare(request(world), lambda *_: None, Meter()) if isinstance(one, Prepared))
    assert isinstance(step.result, Staged)
    told = wire.answer_of(step).result
    assert told
    other = replace(step.result, candidate=replace(step.result.candidate, sha256="0" * 64))
    for lie in (told.model_copy(update={"name": "../x"}), told.model_copy(update={"staged": other})):
        with pytest.raises(StoreError, match="gave an invalid answer"):
            wire.prepared(lie)
    with pytest.raises(StoreError, match="gave an invalid answer"):
        wire.decode(b'{"result":{"name":1}}')


def test_what_a_partner_states_crosses_too(world: World) -> None:
    """Without a signature, the candidate must be the manifest that its hash names, and the hash of the answers one."""
    world.publish(full=rows(0, 3))
    step = next(one for one in prepare(request(world), lambda *_: None, Meter()) if isinstance(one, Prepared))
    assert isinstance(step.result, Staged)
    candidate = step.result.candidate
    own = hashlib.sha256(manifests.encode(candidate.manifest)).hexdigest()
    position = Position({"from": "2026-01-01T00:00:00Z", "page": [1]}, "b" * 64, 3)
    stated = Staged(replace(candidate, sha256=own), Stated("a" * 64, position, START))
    told = wire.decode(wire.encode(wire.answer_of(Prepared(IMAGES, stated)))).result
    assert told
    assert wire.prepared(told).result == stated
    assert (stated.content, stated.evidence, stated.evidence_ref) == (manifests.encode(candidate.manifest), None, None)
    other = replace(stated, candidate=replace(candidate, sha256="0" * 64))
    with pytest.raises(StoreError, match="gave an invalid answer"):
        wire.prepared(told.model_copy(update={"staged": other}))
    for lie in (b'"answers":"../x"', b'"answers":7', b'"kind":"signed"'):
        field, _, value = lie.partition(b":")
        line = re.sub(field + b':"[a-z]+"', field + b":" + value, wire.encode(wire.WorkerMessage(result=told)))
        with pytest.raises(StoreError, match="gave an invalid answer"):
            wire.decode(line)


@pytest.mark.parametrize("lie", ['"type":"other"', '"type":7', '"url":7'])
def test_a_worker_takes_no_source_that_it_does_not_know(world: World, lie: str) -> None:
    """The source travels with its type, and is checked as it is read."""
    line = wire.encode_request(request(world)).decode()
    assert '"type":"feed"' in line
    key = lie.partition(":")[0]
    with pytest.raises(ValueError, match="validation error"):
        wire.decode_request(re.sub(f'{key}:"[^"]*"', lie, line, count=1).encode())


def test_a_worker_cannot_move_the_trust(world: World) -> None:
    """What it wants remembered of a source must be of the root that is configured, or nothing is taken of it."""
    world.publish(full=rows(0, 3))
    world.sync()

    def lying(asked: Request, progress: Progress, meter: Meter) -> Preparing:
        for step in prepare(asked, progress, meter):
            yield VerifiedSource({**step.memory, "root_sha256": "0" * 64}) if isinstance(step, VerifiedSource) else step

    before = memory(world)
    outcome = sync(world, lying)
    assert isinstance(outcome.error, RefusedError)
    assert outcome.error.message == "the trust root configured for source iwf has changed"
    assert memory(world) == before != {}


def memory(world: World) -> Mapping[str, object]:
    """What the source remembers."""
    with world.publisher() as publisher:
        return publisher.catalog.source("iwf").memory


def test_a_worker_cannot_name_code_to_run() -> None:
    """An error is one of syncd's own classes, or the plain one."""
    for kind in ("Path", "worst_code", "KeyboardInterrupt", "nothing"):
        assert type(wire.error_of(wire.ErrorMessage(kind=kind, message="m"))) is SyncdError


@pytest.mark.parametrize(
    "kind",
    [
        *errors.SegmentFault,
        *(
            name
            for name, one in vars(errors).items()
            if isinstance(one, type) and issubclass(one, SyncdError) and one is not errors.SegmentError
        ),
    ],
)
def test_every_error_crosses_with_its_class_and_words(kind: str) -> None:
    """So that the exit code and the advice are those of the fault."""
    error = wire.error_of(wire.ErrorMessage(kind=kind, message="what", hint="do", serving="list 1"))
    assert (errors.kind_of(error), error.message, error.hint, error.serving) == (kind, "what", "do", "list 1")


def test_what_a_partner_asks_for_crosses_too() -> None:
    """Status and Retry-After, which the schedule heeds."""
    crossed = wire.error_of(wire.fault_of(HttpStatusError("busy", 429, retry_after=120.0)))
    assert isinstance(crossed, HttpStatusError)
    assert (crossed.status, crossed.retry_after) == (429, 120.0)


def test_errors_of_a_worker_are_told_as_those_of_this_process(world: World) -> None:
    """A refused segment is rejected, with its class, its words and what is still served."""
    world.publish(full=rows(0, 30))
    with serve(world.partner.root) as peer:
        peer.fault("*.arrow", answer(200, b"x"))
        outcome = sync(world, Worker(), url=peer.url)
    error = outcome.lists[0].error
    assert error is not None
    assert error.serving == "nothing of this source yet"
    peer_fault = sync(world, Worker(), url="file:///nowhere/at/all").error
    assert peer_fault is not None
    assert peer_fault.message == "there is no folder /nowhere/at/all"


def test_a_worker_that_hangs_in_a_loop_is_killed_at_its_deadline(world: World, tmp_path: Path) -> None:
    """However it is stuck: the sync ends as a deadline, and what is served stays."""
    killed: list[int] = []
    worker = stuck(tmp_path)
    worker.on_killed = lambda pid, _seconds: killed.append(pid)
    outcome = sync(world, worker, deadline=0.2)
    assert isinstance(outcome.error, DeadlineExceeded)
    assert outcome.outcome is Outcome.UNREACHABLE
    with pytest.raises(ProcessLookupError):
        os.kill(killed[0], 0)


def test_a_slow_worker_finishes_once_the_deadline_is_raised(world: World) -> None:
    """As the runbook says of `SyncdWorkerKilled`: nothing else is changed, and the list is published."""
    assert "if syncs are slow, raise `deadline`" in what_to_do("SyncdWorkerKilled")
    world.publish(full=rows(0, 30))
    killed: list[int] = []
    code = (
        "import hashlib, runpy, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "hashlib.pbkdf2_hmac('sha512', b'x', b'y', 3 << 20)\n"
        "runpy.run_module('syncd.service.child', run_name='__main__')"
    )
    worker = Worker(
        lambda pid, _seconds: killed.append(pid), start=partial(start, (sys.executable, "-P", "-c", code)), grace=0.3
    )
    assert isinstance(sync(world, worker, deadline=0.2).error, DeadlineExceeded)
    assert len(killed) == 1
    assert sync(world, worker, deadline=120.0).exit_code == 0
    assert len(killed) == 1
    assert not world.pull().errors
    assert world.hits(1)


def test_a_partner_that_never_answers_ends_by_the_deadline(world: World) -> None:
    """The worker says so itself; it need not be killed."""
    killed: list[int] = []
    stop = threading.Event()
    with serve(world.partner.root) as peer:
        peer.fault("*", lambda _send, _body: _never(stop))
        try:
            outcome = sync(world, Worker(lambda pid, _: killed.append(pid)), url=peer.url, deadline=0.5)
        finally:
            stop.set()
    assert isinstance(outcome.error, DeadlineExceeded)
    assert killed == []


def test_an_abandoned_worker_ends_at_once(world: World, tmp_path: Path) -> None:
    """Whoever listens is told that the daemon stops, and the sync is recorded as interrupted."""
    worker = stuck(tmp_path)
    worker.grace = 60.0
    outcomes: list[SyncOutcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(sync(world, worker)))
    thread.start()
    while worker._process is None:
        thread.join(0.01)
    worker.abandon()
    thread.join()
    assert isinstance(outcomes[0].error, AbandonedError)
    assert outcomes[0].outcome is Outcome.INTERRUPTED


def test_a_worker_abandoned_before_it_began_does_not_begin(world: World) -> None:
    """A stop that comes early is a stop."""
    worker = Worker()
    worker.abandon()
    assert isinstance(sync(world, worker).error, AbandonedError)


def test_a_worker_that_dies_is_told(world: World) -> None:
    """With the signal: where the kernel ran out of memory, that is how it looks."""
    killed = Worker(
        start=partial(start, (sys.executable, "-c", f"import os; os.kill(os.getpid(), {signal.SIGKILL:d})"))
    )
    error = sync(world, killed).error
    assert isinstance(error, StoreError)
    assert error.message == "source iwf: the worker process ended by signal 9 before it was done"


def test_a_worker_gets_neither_credentials_nor_open_files(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment holds a few harmless variables, and of descriptors only the three standard ones."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/syncd.service")
    code = (
        "import json, os, sys; sys.stdin.readline(); print(json.dumps({'fault': {'kind': 'SyncdError', 'message': "
        "f\"{'CREDENTIALS_DIRECTORY' in os.environ} {sorted(os.listdir('/proc/self/fd'))[:3]} \" "
        "f\"{len(os.listdir('/proc/self/fd'))} {os.getcwd()}\"}}))"
    )
    error = sync(world, Worker(start=partial(start, (sys.executable, "-c", code)))).error
    assert error is not None
    assert error.message == "False ['0', '1', '2'] 4 /"


def test_a_worker_leaves_no_core() -> None:
    """It would contain digests and credentials; also where no service manager forbids it."""
    code = (
        "import resource, sys; from syncd.children import become_child; out = become_child(); "
        "out.write(str(resource.getrlimit(resource.RLIMIT_CORE)).encode()); out.flush()"
    )
    with start((sys.executable, "-c", code)) as process:
        assert process.communicate()[0] == b"(0, 0)"


def test_a_worker_is_heard_also_where_a_thousand_streams_are_open(world: World) -> None:
    """Descriptors beyond 1,023, which not every way of waiting takes."""
    world.publish(full=rows(0, 3))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2000, before[1]), before[1]))
    with contextlib.ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        for _ in range(1030):
            opened.callback(os.close, os.open("/dev/null", os.O_RDONLY))
        assert sync(world, Worker()).outcome is Outcome.PUBLISHED


def test_a_list_that_fails_in_the_worker_does_not_stop_the_others(world: World) -> None:
    """Each list has its own result."""
    world.publish(full=rows(0, 3))
    outcome = sync(world, Worker(), lists=(IMAGES, "nothing"))
    assert [(one.list, one.outcome) for one in outcome.lists] == [
        (HEAD, Outcome.PUBLISHED),
        ("iwf.nothing", Outcome.REJECTED),
    ]


def test_a_partner_that_cannot_be_reached_is_no_fault_of_ours(world: World) -> None:
    """The worker's error keeps its kind on the way: outcome, exit code and patience are those of the partner."""
    with serve(world.partner.root) as peer:
        gone = peer.url
    outcome = sync(world, Worker(), url=gone)
    assert (outcome.outcome, outcome.exit_code) == (Outcome.UNREACHABLE, 5)
    assert "cannot be reached" in (outcome.error.message if outcome.error else "")


def test_a_worker_is_told_nothing_of_credentials(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are the daemon's alone: not even where they lie is in a worker's environment."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/syncd.service")
    show = "import json, os, sys; print(json.dumps({'fault': {'kind': 'StoreError', 'message': ' '.join(os.environ)}}))"
    with pytest.raises(StoreError) as told:
        list(Worker(start=partial(start, (sys.executable, "-c", show)))(request(world), lambda *_: None, Meter()))
    assert "CREDENTIALS" not in told.value.message
    assert "PATH" in told.value.message


def test_a_worker_started_ahead_of_need_takes_the_next_sync(world: World, spare: SpareWorker) -> None:
    """Whichever thread asked for it, and however long ago that one ended."""
    world.publish(full=rows(0, 3))
    asking = threading.Thread(target=spare.refill)
    asking.start()
    asking.join()
    spare.refill()  # one is enough
    waiting = spare.take()
    assert waiting.poll() is None
    assert sync(world, Worker(start=lambda: waiting)).outcome is Outcome.PUBLISHED
    another = spare.take()
    assert another.pid != waiting.pid
    assert sync(world, Worker(start=lambda: another)).outcome is Outcome.UP_TO_DATE


def test_a_worker_killed_while_it_waited_is_replaced(world: World, spare: SpareWorker) -> None:
    """The next sync must not hear of it."""
    world.publish(full=rows(0, 3))
    spare.refill()
    process = spare._spare.result() if spare._spare else None
    assert process
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert sync(world, Worker(start=spare.take)).outcome is Outcome.PUBLISHED


def test_a_worker_that_could_not_be_started_ahead_of_need_is_started_when_it_is(world: World) -> None:
    """No memory then is no reason to fail now."""
    starts = [OSError(12, "no memory"), None]

    def started() -> Process:
        if fault := starts.pop(0):
            raise fault
        return start()

    world.publish(full=rows(0, 3))
    spare = SpareWorker(started)
    spare.refill()
    assert sync(world, Worker(start=spare.take)).outcome is Outcome.PUBLISHED


def test_no_worker_waits_for_a_daemon_that_stops() -> None:
    """It is ended with it, and none is started any more."""
    spare = SpareWorker()
    spare.refill()
    process = spare._spare.result() if spare._spare else None
    spare.close()
    spare.refill()
    assert process
    assert process.returncode == -signal.SIGKILL
    assert spare._spare is None


def test_what_came_is_counted_in_the_daemon_too(world: World) -> None:
    """Also where it was refused, where the source broke off, and where the worker died on the way."""
    world.publish(full=rows(0, 30))
    with serve(world.partner.root) as peer:
        (segment,) = world.partner.root.glob("v1/*/segments/*")
        peer.fault("*.arrow", answer(200, b"x" * segment.stat().st_size))
        sync(world, prepare, url=peer.url)  # from here on metadata is held
        here, there = sync(world, prepare, url=peer.url), sync(world, Worker(), url=peer.url)
        assert (there.outcome, there.bytes) == (Outcome.REJECTED, here.bytes)
        peer.fault("*timestamp.json", answer(200, b"{}"))
        refused = sync(world, Worker(), url=peer.url)
    assert (refused.outcome, refused.bytes) == (Outcome.REJECTED, 2)
    told = {"progress": {"stage": "fetch", "done": 0, "total": 0}, "received": 7}
    code = f"import json; print(json.dumps({told}))"
    died = sync(world, Worker(start=partial(start, (sys.executable, "-c", code))))
    assert (died.outcome, died.bytes) == (Outcome.FAILED, 7)
    with world.publisher() as publisher:
        assert [one.bytes for one in publisher.catalog.recent_syncs("iwf", 4)] == [7, 2, there.bytes, here.bytes]


def test_a_held_update_is_told_in_an_event(world: World) -> None:
    """In words, with what to do, and the version and rows that are served."""
    world.publish(full=rows(0, 3))
    world.sync()
    world.publish(remove=rows(0, 3))
    world.clock.forward(minutes=1)
    told: list[Event] = []
    with world.publisher() as publisher:
        syncs = Syncs(publisher, world.clock, told.append, lambda _: None)
        syncs.start(world.source())[0].wait(30)
        syncs.stop(5, 5)
    (listed,) = [one for one in told if isinstance(one, ListSynced)]
    assert (listed.outcome, listed.version, listed.rows, listed.removed, listed.reasons) == (
        "held",
        1,
        3,
        3,
        ("emptied",),
    )
    assert listed.message == "the update would leave the list without any entry"
    assert listed.to_do == "ask the partner whether this was intended" + CURE


@pytest.mark.parametrize("step", ["syncd.pipeline.gate.judge", "syncd.pipeline.sync.held_of"])
def test_a_bug_in_a_sync_is_an_event_with_its_place_and_no_value(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """In one list or before all of them; the text of the exception may hold a digest, and is told to nobody."""
    world.publish(full=rows(0, 3))
    assert world.sync().exit_code == 0
    world.publish(add=[row(7)])

    def breaks(*_: object) -> None:
        raise KeyError(row(7)[1])

    monkeypatch.setattr(step, breaks)
    monkeypatch.setattr("syncd.service.syncs.Worker", lambda *_, **__: prepare)
    told: list[Event] = []
    with world.publisher() as publisher:
        syncs = Syncs(publisher, world.clock, told.append, lambda _: None)
        syncs.start(world.source())[0].wait(30)
        syncs.stop(5, 5)
    (bug,) = [one for one in told if isinstance(one, InternalError)]
    assert (bug.kind, bug.where, bug.message) == ("KeyError", "sync of iwf", "")
    assert re.fullmatch(r"syncd/pipeline/[a-z_/]+\.py:[0-9]+", bug.place)
    assert row(7)[1] not in str(told)


def test_a_bug_in_a_worker_keeps_its_class_and_place() -> None:
    """They cross to the daemon, which logs them; the text of the exception does not."""
    try:
        wire.decode(b"\xff")
    except Exception as fault:  # noqa: BLE001 - whatever it is
        known = errors.as_known(ValueError("secret").with_traceback(fault.__traceback__))
    back = wire.error_of(wire.fault_of(known))
    assert isinstance(back, errors.UnexpectedError)
    assert (back.bug, back.message) == ("ValueError", "internal error (ValueError)")
    assert re.fullmatch(r"syncd/[a-z_/]+\.py:[0-9]+", back.place)
    assert f"please report it as met at {back.place}" in back.hint
    assert "secret" not in str(back.__dict__)
