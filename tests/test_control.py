import getpass
import json
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.errors import AbandonedError, RefusedError, StoreError, SyncdError, UsageError
from syncd.event import Event
from syncd.events import ControlRefused, InternalError
from syncd.service import client
from syncd.service.control import ControlSocket, Order


class Desk:
    """A socket, who asked for what, and the events."""

    def __init__(self, path: Path) -> None:
        self.orders: list[tuple[Order, str]] = []
        self.events: list[Event] = []
        self.error: Exception | None = None
        self.socket = ControlSocket(path, self.handle, self.events.append)

    def handle(self, order: Order, user: str) -> Iterator[dict[str, Any]]:
        self.orders.append((order, user))
        yield {"accepted": order.source}
        if self.error:
            raise self.error
        yield {"end": 0}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "control.sock")
    desk.socket.open()
    yield desk
    desk.socket.close()


def ask(desk: Desk, **order: object) -> list[dict[str, Any]]:
    answers = client.ask(desk.socket.path, order, 20)
    assert answers is not None
    return list(answers)


def test_an_order_is_answered_line_by_line(desk: Desk) -> None:
    """And the kernel says who asks."""
    assert ask(desk, do="sync", source="iwf") == [{"accepted": "iwf"}, {"end": 0}]
    assert desk.orders == [(Order(do="sync", source="iwf"), getpass.getuser())]


def test_the_socket_is_for_owner_and_group(desk: Desk) -> None:
    """Mode 0660, whatever the umask."""
    assert stat.S_IMODE(desk.socket.path.stat().st_mode) == 0o660


@pytest.mark.parametrize("error", [UsageError("no"), RefusedError("no"), AbandonedError("no"), StoreError("no")])
def test_an_error_reaches_who_asked_with_its_class(desk: Desk, error: SyncdError) -> None:
    """And the log, with the user's name."""
    desk.error = error
    answers = ask(desk, do="sync")
    assert answers[-1]["end"] == error.exit_code
    assert type(client.error_of(answers[-1]["error"])) is type(error)
    assert desk.events == [ControlRefused(getpass.getuser(), "no")]


def test_a_bug_in_one_order_is_told_by_its_kind_only(desk: Desk) -> None:
    """The next order is answered."""
    desk.error = ValueError("0123456789abcdef")
    assert ask(desk, do="sync")[-1]["error"]["message"] == "internal error (ValueError)"
    assert desk.events == [InternalError("ValueError", "control socket")]
    desk.error = None
    assert ask(desk, do="sync")[-1] == {"end": 0}


@pytest.mark.parametrize("line", [b"hello\n", b'{"do": 1}\n', b'{"do": "sync", "more": 1}\n', b"[" * (16 << 20)])
def test_what_is_no_order_is_refused(desk: Desk, line: bytes) -> None:
    """A usage error, however long the line."""
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as reader:
        connection.settimeout(20)
        connection.connect(str(desk.socket.path))
        connection.sendall(line)
        assert json.loads(reader.readline())["error"]["kind"] == "UsageError"


def test_the_socket_of_a_killed_daemon_is_taken_over(tmp_path: Path) -> None:
    """Nobody listens there any more."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    desk = Desk(path)
    desk.socket.open()
    assert ask(desk, do="ping")[-1] == {"end": 0}
    desk.socket.close()
    assert not path.exists()


def test_the_socket_of_a_living_daemon_is_not_taken(desk: Desk) -> None:
    """The second is refused, the first goes on."""
    with pytest.raises(RefusedError, match="another daemon listens"):
        Desk(desk.socket.path).socket.open()
    assert ask(desk, do="ping")[-1] == {"end": 0}


def test_where_nobody_listens_there_is_no_daemon(tmp_path: Path) -> None:
    """No socket, or one that was left behind: the caller works for itself."""
    assert client.ask(tmp_path / "nothing", {}) is None
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "left"))
    assert client.ask(tmp_path / "left", {}) is None


def test_a_daemon_that_ends_before_it_has_answered_is_told(tmp_path: Path) -> None:
    """It is a storage error, exit code 1: what was done is not known."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        answers = client.ask(tmp_path / "s", {"do": "ping"}, 20)
        assert answers is not None

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b'{"accepted": 1}\n')

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(StoreError, match="ended before it had answered"):
            list(answers)
        thread.join()


def test_a_refusal_is_heard_that_came_before_the_order_was_sent(tmp_path: Path) -> None:
    """A daemon of whom too many ask at once says so, and reads nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "c.sock"))
        listener.listen()
        answers = client.ask(tmp_path / "c.sock", {"do": "status"}, 20)
        connection, _ = listener.accept()
        connection.sendall(b'{"error": {}, "end": 6}\n')
        connection.close()
        assert answers is not None
        assert list(answers) == [{"error": {}, "end": 6}]


def test_who_may_not_open_the_socket_is_told_which_group(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 6, and no attempt to work without the daemon."""

    def denied(_: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", denied)
    with pytest.raises(RefusedError, match="only members of the group syncd-operators") as refused:
        client.ask(desk.socket.path, {})
    assert "create that group" in refused.value.hint  # the socket belongs to the group of this user
    monkeypatch.setattr(client, "group_name", lambda _: "syncd-operators")
    with pytest.raises(RefusedError) as refused:
        client.ask(desk.socket.path, {})
    assert refused.value.hint == f"as root: usermod -aG syncd-operators {getpass.getuser()}; then log in again"
