"""Random lives of a partner's records, and polls that are disturbed at any request."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

from partners.model import Model
from partners.polls import Mirror
from partners.server import FakePartner, Fault, broken_body, cut_body, no_answer, status
from syncd.errors import SourceError

Act = tuple[str, int]

NUMBERS = st.integers(0, 11)
ACTS = st.tuples(st.sampled_from(["put", "put", "delete"]), NUMBERS)
FAULTS: dict[str, Fault] = {
    "429": status(429, Retry_After="0"),
    "503": status(503),
    "cut": cut_body,
    "broken": broken_body,
    "none": no_answer,
}


@dataclass(frozen=True)
class Step:
    """Some acts, some time, and a poll."""

    acts: tuple[Act, ...]
    seconds: int
    during: dict[int, Act]
    """acts while the poll is under way, before the request of this number"""
    faults: dict[int, str]
    """faults that pass, by number of the request"""
    stops_at: int | None
    """the request from which nothing is answered any more: the poll is cut off"""


STEPS = st.builds(
    Step,
    acts=st.lists(ACTS, max_size=8).map(tuple),
    seconds=st.integers(1, 40) | st.just(1000),
    during=st.dictionaries(st.integers(0, 8), ACTS, max_size=3),
    faults=st.dictionaries(st.integers(0, 8), st.sampled_from(sorted(FAULTS)), max_size=2),
    stops_at=st.none() | st.integers(0, 8),
)
SCRIPTS = st.lists(STEPS, min_size=1, max_size=6)


def fill(model: Model, number: int, each: int = 2) -> None:
    """Add records, one after the other."""
    for one in range(number):
        model.put(one)
        model.tick(each)
    model.tick(10)


def act(model: Model, what: Act) -> None:
    """Do one thing to a model."""
    kind, number = what
    model.put(number) if kind == "put" else model.delete(number)


def play(fake: FakePartner, mirror: Mirror, script: list[Step]) -> Iterator[Step]:
    """Play a script; yield each step whose poll was completed with nothing happening meanwhile."""
    for step in script:
        for one in step.acts:
            fake.model.tick(1)  # no two changes have one position
            act(fake.model, one)
        fake.model.tick(step.seconds)
        first = len(fake.asked)
        fake.before = {first + number: _later(fake, one) for number, one in step.during.items()}
        fake.faults = {first + number: FAULTS[name] for number, name in step.faults.items()}
        fake.stops_at = None if step.stops_at is None else first + step.stops_at
        try:
            mirror.poll(fake.model.time)
        except SourceError:
            pass
        else:
            if len(fake.before) == len(step.during):
                yield step
        fake.before, fake.faults, fake.stops_at = {}, {}, None


def _later(fake: FakePartner, what: Act) -> Callable[[], None]:
    def happen() -> None:
        fake.model.tick(1)
        act(fake.model, what)

    return happen
