"""A network that can be cut: a forwarder on loopback, which refuses or silently swallows what it is told to."""

import contextlib
import socket
import threading
from enum import Enum


class Line(Enum):
    """The state of a connection between two parties."""

    WHOLE = "whole"
    REFUSED = "refused"
    """new connections are refused, and open ones reset"""
    SILENT = "silent"
    """nothing passes and nobody is told"""


class Forwarder:
    """Listens on a port of its own, and passes everything on to another port of this machine."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._passing = threading.Event()
        self._passing.set()
        self.line = Line.WHOLE
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, line: Line) -> None:
        """Cut or mend the line. Connections that were open when it was refused stay dead."""
        self.line = line
        if line is Line.SILENT:
            self._passing.clear()
            return
        if line is Line.REFUSED:
            self._reset()
        self._passing.set()

    def close(self) -> None:
        """Stop listening, and end every connection."""
        self._passing.set()
        self._listener.close()
        self._reset()

    def _reset(self) -> None:
        with self._lock:
            held, self._open = self._open, set()
        for one in held:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.line is Line.REFUSED:
                    client.close()
                else:
                    threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._target)) as peer:
            with self._lock:
                self._open |= {client, peer}
            back = threading.Thread(target=self._copy, args=(peer, client), daemon=True)
            back.start()
            self._copy(client, peer)
            back.join()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while received := source.recv(65536):
                self._passing.wait()
                target.sendall(received)
            target.shutdown(socket.SHUT_WR)
