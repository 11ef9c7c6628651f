import contextlib
import os
import socket
from pathlib import Path

import pytest

from syncd.errors import StoreError
from syncd.service.systemd import notify, watchdog_seconds


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_in_one_datagram(tmp_path: Path, abstract: bool) -> None:
    """At the address of NOTIFY_SOCKET, which may be in the abstract namespace; one state a line."""
    address = f"@syncd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + address[1:] if abstract else address)
        assert notify({"NOTIFY_SOCKET": address}, "READY=1", "STATUS=two\nlines")
        assert systemd.recv(4096) == b"READY=1\nSTATUS=two lines"


def test_without_systemd_nothing_is_told() -> None:
    """Nobody listens: that is no fault."""
    assert not notify({}, "READY=1")


def test_an_address_where_nobody_listens_is_an_error(tmp_path: Path) -> None:
    """It names what is set wrong."""
    with pytest.raises(StoreError, match="cannot notify systemd"):
        notify({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, "READY=1")


def test_work_does_not_wait_for_a_systemd_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its socket is full, the word is lost, and that is an error."""
    monkeypatch.setattr("syncd.service.systemd._SEND_WITHIN", 0.01)
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(address)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as busy, contextlib.suppress(BlockingIOError):
            busy.setblocking(False)
            while busy.sendto(b"other", address):
                pass
        with pytest.raises(StoreError, match="cannot notify systemd: timed out"):
            notify({"NOTIFY_SOCKET": address}, "WATCHDOG=1")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_fed_only_where_it_is_meant_for_us(environment: dict[str, str], seconds: float | None) -> None:
    """WATCHDOG_PID may name another process (sd_watchdog_enabled(3))."""
    assert watchdog_seconds(environment) == seconds
