"""Questions about published versions."""

from syncd.ask.question import Answers, AskedState, Question
from syncd.errors import UsageError, nearest
from syncd.model import list_name
from syncd.report import history


class SnapshotsQuestion(Question):
    """The newest ``limit`` versions of a list."""

    list: str
    limit: int

    def answers(self, state: AskedState) -> Answers:
        """See `Question`."""
        name = list_name(self.list)
        versions = state.catalog.versions(name, self.limit)
        if not versions:
            known = [head.list for head in state.catalog.heads()]
            raise UsageError(f"there is no list {name}", hint=nearest(name, known, "list"))
        yield {"document": {"list": name, "snapshots": [history.version_document(version) for version in versions]}}
        return 0


class DiffQuestion(Question):
    """The difference between two versions of a list, in counts."""

    list: str
    old: int
    new: int

    def answers(self, state: AskedState) -> Answers:
        """See `Question`."""
        found = history.diff(state.catalog, state.folder.feed, list_name(self.list), self.old, self.new)
        yield {"document": found.document()}
        return 0
