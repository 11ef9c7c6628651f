"""The outcomes of the lists of one source: what its sync did, beside what is published now."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from syncd.catalog.decisions import HoldRecord, HoldState
from syncd.catalog.records import head_name
from syncd.errors import SyncdError
from syncd.format.manifest import Manifest
from syncd.model import ListName
from syncd.outcomes import HoldReason, Outcome
from syncd.pipeline.outcome import ListOutcome
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.values import Over, Staged


@dataclass(frozen=True)
class ListOutcomes:
    """Makes the outcomes of one source's lists. Lists are given by the source's own names."""

    publisher: Publisher
    source: str

    def explain(self, error: SyncdError, name: ListName | None = None) -> None:
        """Fill in an error's ``serving`` with the versions that are still served."""
        try:
            served = self.publisher.served(self.source)
        except SyncdError:
            error.serving = f"{self.publisher.folder.feed.root} as it was published last"
            return
        if name is not None:
            published = head_name(self.source, name)
            served = {published: served[published]} if published in served else {}
        versions = ", ".join(f"{published} version {version}" for published, version in sorted(served.items()))
        error.serving = versions or "nothing of this source yet"

    def failed(self, name: ListName, error: SyncdError) -> ListOutcome:
        """Return the outcome of a list with a fault."""
        self.explain(error, name)
        version, rows = self._served(name)
        return ListOutcome(head_name(self.source, name), error.outcome, version, rows=rows, error=error)

    def nothing_new(self, name: ListName, serial: int, holds: Sequence[HoldRecord]) -> ListOutcome:
        """Return the outcome of a list without a new version. ``holds``: those that are open, and stay so."""
        reasons = tuple(dict.fromkeys(reason for hold in holds for reason in hold.reasons))
        version, rows = self._served(name)
        return ListOutcome(
            list=head_name(self.source, name),
            outcome=Outcome.HELD if reasons else Outcome.UP_TO_DATE,
            version=version,
            serial=serial,
            plan="up_to_date",
            rows=rows,
            reasons=reasons,
            holds=tuple(holds),
        )

    def judged(
        self,
        name: ListName,
        staged: Staged,
        outcome: Outcome,
        reasons: tuple[HoldReason, ...] = (),
        published: Manifest | None = None,
        *,
        held: bool,
    ) -> ListOutcome:
        """Return the outcome of a judged update. ``published``: the version that it became.

        ``held``: true if the list was held before. If its files were lost, the counts of the update say nothing.
        """
        candidate = staged.candidate
        comparable = candidate.over is not Over.NOTHING or not held
        version, rows = (published.version, published.rows) if published else self._served(name)
        return ListOutcome(
            list=head_name(self.source, name),
            outcome=outcome,
            version=version,
            serial=candidate.ref.version,
            plan=candidate.plan,
            counts=candidate.counts if comparable else {},
            labels=candidate.labels if comparable else {},
            rows=candidate.rows if outcome is Outcome.STAGED else rows,
            reasons=reasons,
            holds=self.publisher.list_state(self.source, name).open_holds if reasons else (),
        )

    def with_known_good(self, outcome: ListOutcome, *, brought_up: bool) -> ListOutcome:
        """Add to an outcome that a changed known-good file changed the list (``brought_up``), or that it is held."""
        holds = self.publisher.catalog.holds(outcome.list)
        waiting = tuple(hold for hold in holds if hold.is_of_known_good_file and hold.state is HoldState.OPEN)
        if waiting:
            reasons = dict.fromkeys((*outcome.reasons, *(reason for hold in waiting for reason in hold.reasons)))
            return replace(outcome, outcome=Outcome.HELD, reasons=tuple(reasons), holds=(*outcome.holds, *waiting))
        if outcome.outcome is Outcome.UP_TO_DATE and brought_up:
            return replace(outcome, outcome=Outcome.PUBLISHED)
        return outcome

    def _served(self, name: ListName) -> tuple[int | None, int]:
        """Return the version that is served now, and its number of entries."""
        published = head_name(self.source, name)
        head = self.publisher.catalog.head(published)
        return (head.version, self.publisher.catalog.head_rows(published)[published]) if head else (None, 0)
