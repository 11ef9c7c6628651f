"""The daemon's part in a fleet: several daemons that share a catalog and a place for the published files."""

import os
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from syncd import __version__
from syncd.catalog.fleet_records import DaemonRecord
from syncd.errors import RefusedError, SyncdError
from syncd.event import Emit
from syncd.feed.locked import with_lock
from syncd.feed.shared import catch_up
from syncd.files import PRIVATE_FILE, install_bytes, read_bytes
from syncd.model import ListName
from syncd.pipeline.publisher import Publisher
from syncd.report.fleet import Answering
from syncd.service.control import Handle
from syncd.service.following import Following
from syncd.service.leader_work import LeaderWork
from syncd.service.leading import Leading, Work
from syncd.service.relay import OrderBook, Relay
from syncd.service.signers import LiveSigners

_MAX_ID: Final = 256
_CATCH_UP_WITHIN: Final = 10.0


class Fleet:
    """Leads or follows, and passes orders on."""

    def __init__(
        self,
        publisher: Publisher,
        keys: LiveSigners,
        work: LeaderWork,
        *,
        emit: Emit,
        announce: Callable[[ListName, int], None],
        acted: Callable[[], None],
    ) -> None:
        """``announce`` is called with versions, and ``acted`` after acts, of other daemons."""
        self._catalog, self._folder, self._work, self._emit = publisher.catalog, publisher.folder, work, emit
        catalog = publisher.catalog
        daemon = DaemonRecord(secrets.token_hex(8), socket.gethostname(), os.getpid(), __version__, datetime.now(UTC))
        leading = Work(self._take_over, work.end, keys.load, keys.ids, lambda: self._following.serves)
        self._keys = keys
        self._leading = Leading(catalog, daemon, self._folder.store_place, leading, emit)
        self._following = Following(
            catalog,
            emit,
            leads=lambda: self.epoch() is not None,
            catch_up=self._catch_up,
            announce=announce,
            acted=acted,
            orders=self._take_orders,
        )
        self._relay = Relay(catalog, daemon.id)
        self.daemon: Final = daemon.id
        self._orders: OrderBook | None = None
        catalog.epoch = self._leading.epoch

    def epoch(self) -> int | None:
        """Return the epoch in which this daemon leads; None if it does not."""
        return self._leading.epoch()

    def answering(self) -> Answering:
        """Return what this daemon knows of itself."""
        return Answering(self.daemon, self.epoch() or 0, self._following.serves)

    def elsewhere(self) -> Handle | None:
        """Return what passes orders to the leader; None if this daemon leads."""
        return self._relay if self.epoch() is None else None

    def carry_out(self, orders: Handle) -> None:
        """Set what carries out the orders of other daemons, while this one leads."""
        self._orders = OrderBook(self._catalog, str(self._folder.root), orders, self._emit)

    def start(self) -> None:
        """Begin to lead or to follow. Raises `StoreError`."""
        self._replace_last_run()
        self._following.start()
        self._leading.start()

    def stop(self) -> None:
        """Leave the fleet. Call once all work has ended."""
        self._following.stop()
        self._leading.stop()

    def _replace_last_run(self) -> None:
        """Forget the daemon that ran here before, in case it was killed. We hold the state's lock, so it is gone."""
        path = self._folder.root / "daemon-id"
        if path.exists():
            self._catalog.forget_daemon(read_bytes(path, _MAX_ID).decode("ascii", "replace").strip())
        install_bytes(path, self.daemon.encode(), PRIVATE_FILE, durable=False)

    def _catch_up(self) -> None:
        """Bring here what another daemon published into the bucket. Raises `StoreError`."""
        feed = self._folder.feed
        if self._folder.bucket is not None:
            # With the lock: else it could undo a publication of this machine's copy.
            with_lock(feed, "catching up", lambda _: catch_up(feed), _CATCH_UP_WITHIN)

    def _take_over(self, epoch: int) -> None:
        with suppress(SyncdError):  # a leader without the bucket publishes once that comes back
            self._catch_up()  # the newest metadata says which keys are in force
        self._work.begin(epoch)
        lacking = self._keys.load()
        if lacking:
            raise RefusedError(lacking, hint="until then another daemon has to lead")
        if self._orders:
            self._orders.end_abandoned(epoch)

    def _take_orders(self) -> None:
        epoch = self.epoch()
        if epoch is not None and self._orders:
            self._orders.look(epoch)
