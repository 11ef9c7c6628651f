"""Orders that change the published lists, or remove old files of them.

The daemon carries them out, or the command itself if no daemon runs.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from syncd import events
from syncd.config import Config
from syncd.event import Emit
from syncd.model import list_name
from syncd.operate.clock import SignatureWatch, accept_clock
from syncd.operate.collect import cleanup_document, collect
from syncd.operate.retire import retire
from syncd.operate.rollback import Rollback, rollback, unpin
from syncd.pipeline.publisher import Publisher
from syncd.service.control import Order, parse_order
from syncd.service.holds import Holds
from syncd.service.list_events import emit_ended, emit_opened
from syncd.service.suppressions import Suppressions
from syncd.units import stamp

LIST_ORDERS: Final = frozenset(
    {"release", "discard", "suppress", "unsuppress", "extend", "retire", "rollback", "unpin", "gc", "clock"}
)


class ListOrders:
    """Carries out the orders in `LIST_ORDERS`.

    ``changed`` is called after each change, to update views. ``config`` returns the configuration in force.
    """

    def __init__(
        self,
        publisher: Publisher,
        clock: Callable[[], datetime],
        emit: Emit,
        changed: Callable[[], None],
        config: Callable[[], Config],
    ) -> None:
        def second_operator() -> bool:
            return config().corrections.second_operator

        self._publisher, self._clock, self._emit, self._changed = publisher, clock, emit, changed
        self._config = config
        self.holds = Holds(publisher, clock, emit, changed, second_operator)
        self.suppressions = Suppressions(publisher, clock, emit, changed, second_operator)

    def carry_out(self, order: Order, user: str) -> dict[str, Any]:
        """Carry out an order in the name of ``user`` and return the answer. Raises `SyncdError`.

        ``clock`` in the answer: the warning if it was signed by a clock that is behind; None if it was not.
        """
        if order.do == "clock":
            return {"clock": self._accept_clock(order, user), "end": 0}
        watch = SignatureWatch(self._publisher, self._clock())
        answer = self._carry_out(order, user)
        behind = watch.signed_behind()
        return {**answer, "clock": behind.document() if behind else None}

    def _carry_out(self, order: Order, user: str) -> dict[str, Any]:
        match order.do:
            case "release" | "discard":
                release = order.do == "release"
                ended = self.holds.end(order.hold, release=release, user=user, reason=order.reason, sha256=order.sha256)
                return {"ended": ended, "end": 0}
            case "retire":
                return {"retired": self._retire(order, user), "end": 0}
            case "rollback" | "unpin":
                move = self._roll_back if order.do == "rollback" else self._unpin
                return {"pinned": move(order, user), "end": 0}
            case "gc":
                return {"collected": self._collect(user, dry_run=order.dry_run), "end": 0}
        return self.suppressions.answer(order, user)

    def _retire(self, order: Order, user: str) -> dict[str, Any]:
        name, sources = list_name(order.name), self._config().all_sources()
        done = retire(self._publisher, name, sources, actor=user, reason=order.reason, now=self._clock())
        self._emit(events.ListRetired(done.list, done.source, done.version, user, order.reason))
        emit_ended(self._emit, done.ended)
        self._changed()
        return done.document()

    def _accept_clock(self, order: Order, user: str) -> dict[str, Any]:
        now = self._clock()
        done = accept_clock(self._publisher, order.time or now, reason=order.reason, actor=user, now=now)
        self._emit(events.ClockAccepted(stamp(done.time), done.sources, user, done.reason))
        self._changed()
        return done.document()

    def _collect(self, user: str, *, dry_run: bool) -> dict[str, Any]:
        done = collect(self._publisher, actor=user, now=self._clock(), dry_run=dry_run)
        if not dry_run:
            self._emit(events.OldFilesRemoved(done.files.files, done.files.bytes, done.record_count, user))
        return cleanup_document(done, dry_run=dry_run)

    def _roll_back(self, order: Order, user: str) -> dict[str, Any]:
        name = list_name(order.name)
        done = rollback(
            self._publisher,
            name,
            order.version,
            reason=order.reason,
            actor=user,
            now=self._clock(),
            exact=order.exact,
            accepted=order.accepted,
        )
        self._emit(events.ListRolledBack(name, done.version or 0, order.version, order.exact, user, order.reason))
        return self._moved(done)

    def _unpin(self, order: Order, user: str) -> dict[str, Any]:
        name = list_name(order.name)
        done = unpin(self._publisher, name, reason=order.reason, actor=user, now=self._clock())
        self._emit(events.ListUnpinned(name, done.version or 0, user, order.reason))
        return self._moved(done)

    def _moved(self, done: Rollback) -> dict[str, Any]:
        """Report the holds that a rollback, or its end, opened and ended, and return its result."""
        emit_opened(self._emit, done.opened)
        emit_ended(self._emit, done.ended)
        self._changed()
        return done.document()


def carry_out_here(
    publisher: Publisher, config: Config, order: Mapping[str, Any], user: str, clock: Callable[[], datetime]
) -> dict[str, Any]:
    """Carry out an order of `LIST_ORDERS` without a daemon, on a state whose lock the caller holds.

    ``order``: as it would be sent to a daemon. Raises as `ListOrders.carry_out`.
    """
    orders = ListOrders(publisher, clock, emit=lambda _event: None, changed=lambda: None, config=lambda: config)
    return orders.carry_out(parse_order(json.dumps(order).encode()), user)
