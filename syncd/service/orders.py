"""Orders that the daemon carries out for clients of the control socket."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from syncd import events
from syncd.ask.questions import QUESTIONS
from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.errors import RefusedError, SyncdError, UsageError
from syncd.event import Emit
from syncd.operate import matchers
from syncd.outcomes import worst_code
from syncd.pipeline.outcome import SyncOutcome
from syncd.report import lagging
from syncd.report.document import recorded_document, sync_document
from syncd.report.judged import Overview
from syncd.report.status import status_document
from syncd.service.access import Access
from syncd.service.checkins import Checkins, forget_instances
from syncd.service.control import Handle, Order
from syncd.service.list_orders import LIST_ORDERS, ListOrders
from syncd.service.questions import Questions
from syncd.service.syncs import RunningSync, Syncs
from syncd.sources.source import Source

_RUNNING: Final = "running"
_OF_THE_LEADER: Final = LIST_ORDERS | {"sync"}
"""Orders that change what is published."""
_QUERIES: Final = frozenset({"ping", "status", "matchers", "holds", "suppressions", "sync_status"})


class Orders:
    """A `syncd.service.control.Handle`.

    ``sources`` returns the configured source of that name, or all for None; ``overview`` the current overview;
    ``lists`` carries out the orders that change published lists. ``elsewhere`` returns what carries them out instead,
    and syncs, while another daemon leads; None while this one does.
    """

    def __init__(
        self,
        *,
        state_dir: str,
        syncs: Syncs,
        catalog: Catalog,
        sources: Callable[[str | None], tuple[Source, ...]],
        overview: Callable[[], Overview],
        access: Access,
        checkins: Checkins,
        clock: Callable[[], datetime],
        emit: Emit,
        lists: ListOrders,
        questions: Questions,
        elsewhere: Callable[[], Handle | None] = lambda: None,
    ) -> None:
        self._state_dir, self._syncs, self._catalog, self._sources = state_dir, syncs, catalog, sources
        self._overview, self._access, self._checkins = overview, access, checkins
        self._clock, self._emit = clock, emit
        self._lists, self._questions, self._elsewhere = lists, questions, elsewhere
        self._lock = threading.Lock()
        """Held while a matcher is added or revoked, so that `Access` and the catalog agree."""

    def __call__(self, order: Order, user: str) -> Iterator[dict[str, Any]]:
        """Carry out an order."""
        if order.state_dir != self._state_dir:
            yield {"other": self._state_dir, "end": 0}
            return
        other = self._elsewhere() if order.do in _OF_THE_LEADER else None
        if other is not None:
            yield from other(order, user)
        elif order.do == "sync":
            yield from self._sync(order, user)
        elif order.do in QUESTIONS:
            yield from self._questions.answers(order.do, order.arguments)
        elif order.do in _QUERIES:
            yield self._query(order)
        elif order.do in LIST_ORDERS:
            yield self._lists.carry_out(order, user)
        else:
            yield self._carry_out(order, user)

    def _query(self, order: Order) -> dict[str, Any]:
        """Answer an order that changes nothing."""
        match order.do:
            case "holds":
                return {"document": self._lists.holds.document(), "end": 0}
            case "suppressions":
                return {"document": self._lists.suppressions.document(ended=order.ended), "end": 0}
            case "status":
                return {"document": status_document(self._overview()).model_dump(mode="json"), "end": 0}
            case "matchers":
                overview = self._overview()
                return {"document": lagging.document(overview.matchers, overview.now), "end": 0}
            case "sync_status":
                return self._sync_status(order.sync_id)
        return {"pid": os.getpid(), "end": 0}

    def _carry_out(self, order: Order, user: str) -> dict[str, Any]:
        """Change the matchers, in the name of ``user``. Raises `SyncdError` if that fails."""
        match order.do:
            case "matchers_add":
                return self._add_matcher(order, user)
            case "matchers_revoke":
                with self._lock:
                    matchers.revoke(self._catalog, order.name, asked_by=user, now=self._clock())
                    self._access.revoke(order.name)
                self._emit(events.MatcherRevoked(order.name, user))
                return {"revoked": {"name": order.name}, "end": 0}
            case "matchers_forget":
                forgotten = forget_instances(
                    self._checkins, self._catalog, order.name, order.instances, asked_by=user, now=self._clock()
                )
                self._emit(events.InstancesForgotten(order.name, len(forgotten), user))
                return {"forgotten": {"name": order.name, "instances": forgotten}, "end": 0}
        raise UsageError(
            f"the daemon does not know the order {order.do[:20]!r}",
            hint="use the same version of syncd for the command and the daemon",
        )

    def _sync(self, order: Order, user: str) -> Iterator[dict[str, Any]]:
        sources = self._sources(order.source)
        if not sources:
            raise UsageError("no source is configured", hint="add [sources.NAME] to the configuration")
        started: list[RunningSync] = []
        refused: list[SyncOutcome] = []
        for source in sources:
            try:
                running, joined = self._syncs.start(source, user, dry_run=order.dry_run, reason=order.reason)
            except SyncdError as error:
                refused.append(SyncOutcome("", source.name, error=error))
                continue
            started.append(running)
            yield {"accepted": {"sync_id": running.sync_id, "source": running.source, "joined": joined}}
        yield from self._refused(refused, user, alone=not started)
        codes = [outcome.exit_code for outcome in refused]
        for running in started if order.wait else ():
            sync = {"sync_id": running.sync_id, "source": running.source}
            for stage in running.stages():
                yield {"progress": {**sync, "stage": stage.name, "done": stage.done, "total": stage.total}}
            outcome = running.wait()
            if outcome is None:
                raise RefusedError("the sync ended without an outcome", hint="see the daemon's log")
            codes.append(outcome.exit_code)
            yield {"sync": sync_document(outcome)}
        yield {"end": worst_code(codes)}

    def _refused(self, refused: Sequence[SyncOutcome], user: str, *, alone: bool) -> Iterator[dict[str, Any]]:
        """Report the syncs that could not be started. If none could, raise the first error to refuse the order."""
        for outcome in refused:
            if outcome.error and alone:
                raise outcome.error
            if outcome.error:
                self._emit(events.ControlRefused(user, outcome.error.message))
            yield {"sync": sync_document(outcome)}

    def _sync_status(self, sync_id: str) -> dict[str, Any]:
        running = self._syncs.find(sync_id)
        record = self._catalog.sync(sync_id)
        if running is not None and (record is None or record.finished_at is None):
            known = {"sync_id": sync_id, "source": running.source, "outcome": _RUNNING, "exit_code": 0}
            stage = running.stage
            return {"status": {**known, "stage": stage.name, "done": stage.done, "total": stage.total}, "end": 0}
        document = recorded_document(StateFolder(Path(self._state_dir)), self._catalog, sync_id)
        return {"status": document, "end": document["exit_code"]}

    def _add_matcher(self, order: Order, user: str) -> dict[str, Any]:
        """Add a matcher and return its token, to this client only.

        Once the token is stored nothing may fail, or nobody would ever see it.
        """
        token, now = matchers.new_token(), self._clock()
        with self._lock:
            added = matchers.add(
                self._catalog,
                order.name,
                order.lists,
                asked_by=user,
                now=now,
                token=token,
                operators=self._access.people(),
                mirror=order.mirror,
            )
            self._access.add(added.name, added.lists, token, mirror=added.mirror)
        self._emit(events.MatcherAdded(added.name, added.lists or (), user, added.mirror))
        return {"added": {**added.document(), "token": token}, "end": 0}
