"""The effect of deltas on stacks: counts, labels and end states. A worker counts them, the publishing process again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from syncd.format.delta import drop_empty, end_state_after
from syncd.format.manifest import EndState, SegmentRef
from syncd.format.segment import Segment
from syncd.format.stack import Resolved, Stack, Totals
from syncd.model import Algorithm, Counts
from syncd.pipeline.values import Basis


def nonzero(counts: Mapping[Algorithm, Counts]) -> dict[Algorithm, Counts]:
    """Leave out algorithms without a counted row."""
    return {algorithm: count for algorithm, count in counts.items() if count.rows}


def whole_labels(totals: Mapping[Algorithm, Totals]) -> dict[Algorithm, dict[str, Counts]]:
    """Return the labels of a first version as counts of added rows."""
    return {
        algorithm: {label: Counts(added=count) for label, count in total.by_label.items()}
        for algorithm, total in totals.items()
    }


@dataclass(frozen=True)
class Counting:
    """A running count of segments that are put on top of stacks. Works on copies of its arguments."""

    refs: tuple[SegmentRef, ...]
    stacks: dict[Algorithm, Stack]
    end_state: dict[Algorithm, EndState]
    counts: dict[Algorithm, Counts] = field(default_factory=dict)
    labels: dict[Algorithm, dict[str, Counts]] = field(default_factory=dict)
    growth: dict[Algorithm, dict[str, int]] = field(default_factory=dict)
    """by label: entries by which it grew"""
    resolved: dict[Algorithm, Resolved] = field(default_factory=dict)
    """the first stack's rows for the keys of an algorithm's only segment; kept because searching is most of the work"""

    @classmethod
    def over(cls, basis: Basis) -> "Counting":
        """Start a count from ``basis``."""
        return cls(basis.refs, dict(basis.stacks), dict(basis.end_state))

    def apply(self, segments: Iterable[Segment]) -> dict[Algorithm, Counts]:
        """Count the rows of ``segments`` against the stacks, put the segments on top, and return the counts."""
        counted: dict[Algorithm, Counts] = {}
        for segment in segments:
            algorithm = segment.algorithm
            stack = self.stacks.get(algorithm) or Stack(algorithm, [])
            rows = segment.rows()
            resolved = stack.resolve(rows)
            effect = stack.effect(rows, resolved)
            if algorithm in self.counts:
                self.resolved.pop(algorithm, None)
            else:
                self.resolved[algorithm] = resolved
            counted[algorithm] = counted.get(algorithm, Counts()) + effect.counts
            self.counts[algorithm] = self.counts.get(algorithm, Counts()) + effect.counts
            labels, growth = self.labels.setdefault(algorithm, {}), self.growth.setdefault(algorithm, {})
            for label, count in effect.by_label.items():
                labels[label] = labels.get(label, Counts()) + count
            for label, grown in effect.growth.items():
                growth[label] = growth.get(label, 0) + grown
            self.end_state[algorithm] = end_state_after(self.end_state.get(algorithm), effect)
            self.stacks[algorithm] = Stack(algorithm, [*stack.segments, segment])
        return counted

    @property
    def states(self) -> dict[Algorithm, EndState]:
        """The end state in the form that manifests state."""
        return drop_empty(self.end_state)
