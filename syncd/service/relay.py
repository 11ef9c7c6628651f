"""Orders between daemons: one given to any of them reaches the leader through the catalog, and its answers return."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from syncd import events
from syncd.catalog.catalog import Catalog
from syncd.catalog.fleet_records import PlacedOrder
from syncd.errors import RefusedError, StoreError, SyncdError, error_document, not_leading
from syncd.event import Emit
from syncd.service.client import error_of
from syncd.service.control import Handle, Order, parse_order

TAKEN_WITHIN: Final = 40.0
"""Seconds that an order waits for a leader: longer than it takes another daemon to lead after a crash."""
_EVERY: Final = 0.2
"""Seconds between two looks for answers."""


class OrderBook:
    """The leader's side: takes the orders that wait, carries out each in its own thread, and stores the answers."""

    def __init__(self, catalog: Catalog, state_dir: str, carry_out: Handle, emit: Emit) -> None:
        self._catalog, self._state_dir, self._carry_out, self._emit = catalog, state_dir, carry_out, emit

    def look(self, epoch: int) -> None:
        """Take the orders that wait. Raises `NotLeadingError`, `StoreError`."""
        for placed in self._catalog.take_orders(epoch):
            threading.Thread(target=self._run, args=(placed,), name=f"syncd-order-{placed.id}", daemon=True).start()

    def end_abandoned(self, epoch: int) -> None:
        """Answer the orders that an earlier leader took and did not finish. Raises `StoreError`."""
        error = RefusedError(
            "the leader stopped while it carried out this order, so it may or may not have been done",
            hint="look with `syncd audit` whether it was done, and run the command again if not",
        )
        for number in self._catalog.abandoned_orders(epoch):
            self._catalog.answer_order(number, [_refusal(error)], ended=True)

    def _run(self, placed: PlacedOrder) -> None:
        try:
            for answer in self._answers(placed):
                self._catalog.answer_order(placed.id, [json.dumps(answer)], ended="end" in answer)
        except StoreError as error:  # whoever asked finds out that no answer came
            self._emit(events.ControlRefused(placed.user, error.message))

    def _answers(self, placed: PlacedOrder) -> Iterator[dict[str, Any]]:
        try:
            order = parse_order(placed.body.encode()).model_copy(update={"state_dir": self._state_dir})
            yield from self._carry_out(order, placed.user)
        except SyncdError as error:
            self._emit(events.ControlRefused(placed.user, error.message))
            yield json.loads(_refusal(error))
        except Exception as error:  # noqa: BLE001 - a bug in one order must not leave whoever asked waiting
            self._emit(events.InternalError.of(error, "an order of another daemon"))
            yield json.loads(_refusal(SyncdError(f"internal error ({type(error).__name__})", hint="see its log")))


class Relay:
    """The other side, a `syncd.service.control.Handle`: leaves an order for the leader, and yields its answers."""

    def __init__(
        self,
        catalog: Catalog,
        daemon: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._catalog, self._daemon, self._clock, self._sleep = catalog, daemon, clock, sleep

    def __call__(self, order: Order, user: str) -> Iterator[dict[str, Any]]:
        """Leave an order, and yield the answers. Raises `NotLeadingError` if nobody takes it, or the leader's error."""
        number = self._catalog.place_order(self._daemon, user, order.model_dump_json(exclude_defaults=True))
        end, after = self._clock() + TAKEN_WITHIN, 0
        while True:
            for position, content in self._catalog.order_answers(number, after):
                after = position
                answer = json.loads(content)
                if "error" in answer:
                    raise error_of(answer["error"])
                yield answer
                if "end" in answer:
                    return
            if self._clock() >= end and self._catalog.order_epoch(number) == 0 and self._catalog.drop_order(number):
                raise not_leading("")
            self._sleep(_EVERY)


def _refusal(error: SyncdError) -> str:
    return json.dumps({"error": error_document(error), "end": error.exit_code})
